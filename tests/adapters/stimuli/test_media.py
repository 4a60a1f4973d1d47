import hashlib

import numpy as np
import pytest
import xarray as xr

from brainalign.adapters.stimuli.media import content_hashes, hash_file, read_content
from brainalign.core.errors import FormatError

PIL = pytest.importorskip("PIL.Image")


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.fromarray(values, mode).save(path)
    return path


def colours(seed, shape=(4, 5, 3)):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def table(variable, **attrs):
    (name, (dims, values)), = variable.items()  # fmt: skip
    return xr.Dataset(
        {name: (dims, values)}, coords={"stimulus_id": ("presentation", np.arange(len(values)).astype(str))}, attrs=attrs
    )


def images(folder, names):
    return table({"path": ("presentation", np.array(names, dtype=np.dtypes.StringDType()))}, kind="image", root=str(folder))


def test_images_of_one_size_are_one_array(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", colours(i))
    stimuli = images(tmp_path, ["0.png", "1.png", "2.png", "0.png"])
    content = read_content(stimuli, slice(1, 4))
    assert content.dtype == np.uint8
    np.testing.assert_array_equal(content, np.stack([colours(1), colours(2), colours(0)]))
    np.testing.assert_array_equal(read_content(stimuli, np.array([3, 1])), np.stack([colours(0), colours(1)]))


def test_images_of_several_sizes_are_a_list(tmp_path):
    save(tmp_path / "a.png", colours(0))
    save(tmp_path / "b.png", colours(1, (2, 2, 3)))
    content = read_content(images(tmp_path, ["a.png", "b.png"]), slice(None))
    assert [image.shape for image in content] == [(4, 5, 3), (2, 2, 3)]


def test_only_the_wanted_rows_are_read(tmp_path):
    save(tmp_path / "a.png", colours(0))
    stimuli = images(tmp_path, ["a.png", "missing.png"])
    assert read_content(stimuli, slice(0, 1)).shape == (1, 4, 5, 3)
    with pytest.raises(FormatError, match=r"there is no image '.*missing.png'. Expected it below the attr `root`"):
        read_content(stimuli, slice(0, 2))


def test_texts_and_arrays_come_as_they_are():
    words = table({"text": ("presentation", np.array(["a", "b", "c"], dtype=np.dtypes.StringDType()))}, kind="word")
    assert read_content(words, slice(1, 3)) == ["b", "c"]
    assert all(type(word) is str for word in read_content(words, np.array([0])))
    sounds = table({"values": (("presentation", "sample"), np.arange(6.0).reshape(3, 2))}, kind="audio")
    assert read_content(sounds, np.array([2, 0])).tolist() == [[4.0, 5.0], [0.0, 1.0]]


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "/etc/passwd"])
def test_paths_that_leave_the_root_are_refused(tmp_path, path):
    save(tmp_path / "secret.png", colours(0))
    (tmp_path / "root").mkdir()
    with pytest.raises(FormatError, match="leads out of"):
        read_content(images(tmp_path / "root", [path]), slice(None))


def test_parts_of_files_must_be_of_a_known_kind(tmp_path):
    save(tmp_path / "a.png", colours(0))
    stimuli = images(tmp_path, ["a.png", "a.png"]).assign_coords(path_part=("presentation", ["frame:0", "row:x/0"]))
    for rows in (slice(None), slice(1, 2)):
        with pytest.raises(FormatError, match=r"a\.png"):
            read_content(stimuli, rows)
    np.testing.assert_array_equal(read_content(stimuli, slice(0, 1))[0], colours(0))
    with pytest.raises(FormatError, match=r"path_part 'disc:1'. Expected parts of one kind, member, pts, frame, row"):
        read_content(stimuli[{"presentation": [0]}].assign_coords(path_part=("presentation", ["disc:1"])), slice(None))


def test_hashes_of_files_and_of_what_is_missing(tmp_path):
    save(tmp_path / "a.png", colours(0))
    assert content_hashes(images(tmp_path, ["a.png", "a.png"])) == [hash_file(tmp_path / "a.png")] * 2
    with pytest.raises(FormatError, match=r"b\.png' cannot be read.*attr `root`"):
        content_hashes(images(tmp_path, ["b.png"]))
    with pytest.raises(FormatError, match="leads out of"):
        content_hashes(images(tmp_path, ["../b.png"]))


def test_a_table_of_sounds_says_at_which_rate_they_are_read(tmp_path):
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a.wav", 8000, np.full(80, 16384, dtype=np.int16))
    sounds = images(tmp_path, ["a.wav"]).assign_attrs(kind="audio", sampling_rate_hz=16000)
    assert read_content(sounds, slice(None)).shape == (1, 160)
    assert read_content(sounds.assign_attrs(sampling_rate_hz=8000), slice(None)).tolist() == [[0.5] * 80]


def test_hash_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()

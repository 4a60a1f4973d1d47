import hashlib

import numpy as np
import pytest
import xarray as xr

from brainalign.adapters.stimuli.media import decode_image, hash_file, list_images, read_content, resolve
from brainalign.core.errors import CapabilityError, FormatError

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


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    grey, clear = colours(0, (3, 3)), colours(1, (3, 3, 4))
    np.testing.assert_array_equal(decode_image(save(tmp_path / "g.png", grey)), np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(save(tmp_path / "c.png", clear)), clear[:, :, :3])


def test_only_the_wanted_rows_are_read(tmp_path):
    save(tmp_path / "a.png", colours(0))
    assert read_content(images(tmp_path, ["a.png", "missing.png"]), slice(0, 1)).shape == (1, 4, 5, 3)


def test_texts_and_arrays_come_as_they_are():
    words = table({"text": ("presentation", np.array(["a", "b", "c"], dtype=np.dtypes.StringDType()))}, kind="word")
    assert read_content(words, slice(1, 3)) == ["b", "c"]
    assert all(type(word) is str for word in read_content(words, np.array([0])))
    sounds = table({"values": (("presentation", "sample"), np.arange(6.0).reshape(3, 2))}, kind="audio")
    assert read_content(sounds, np.array([2, 0])).tolist() == [[4.0, 5.0], [0.0, 1.0]]


def test_files_that_are_no_images_are_refused(tmp_path):
    stimuli = images(tmp_path, ["a.wav"]).assign_attrs(kind="audio")
    with pytest.raises(CapabilityError, match=r"kind 'audio' are files \('a\.wav'\)"):
        read_content(stimuli, slice(None))


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "/etc/passwd"])
def test_paths_that_leave_the_root_are_refused(tmp_path, path):
    save(tmp_path / "secret.png", colours(0))
    (tmp_path / "root").mkdir()
    with pytest.raises(FormatError, match="leads out of"):
        read_content(images(tmp_path / "root", [path]), slice(None))


def test_links_that_leave_the_root_are_refused(tmp_path):
    save(tmp_path / "secret.png", colours(0))
    root = tmp_path / "root"
    root.mkdir()
    (root / "innocent.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(FormatError, match=r"'innocent\.png' leads out of"):
        resolve(root, "innocent.png")
    assert resolve(tmp_path, "root/innocent.png") == (tmp_path / "secret.png").resolve()


def test_damaged_images_are_named(tmp_path):
    whole = save(tmp_path / "whole.png", colours(0, (60, 60, 3))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.png", "text.png"):
        with pytest.raises(FormatError, match=rf"{name}' could not be decoded"):
            decode_image(tmp_path / name)
    with pytest.raises(FormatError, match="there is no image"):
        decode_image(tmp_path / "nothing.png")


def test_images_of_more_than_8_bits_are_refused(tmp_path):
    with pytest.raises(FormatError, match="pixels of mode 'I;16'"):
        decode_image(save(tmp_path / "deep.png", np.full((3, 3), 4000, dtype=np.uint16)))


def test_a_folder_lists_its_images_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.png"):
        save(tmp_path / name, colours(0))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]
    (tmp_path / "none").mkdir()
    with pytest.raises(FormatError, match="holds no image; it holds no file"):
        list_images(tmp_path / "none")
    with pytest.raises(FormatError, match="there is no folder"):
        list_images(tmp_path / "nowhere")


def test_hash_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()

import io
import json
import tarfile

import h5py
import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.adapters.stimuli.media import hash_file, read_content
from brainalign.features.cachekey import stimulus_hash

PIL = pytest.importorskip("PIL.Image")


def png(value, size=4):
    stream = io.BytesIO()
    PIL.fromarray(np.full((size, size, 3), value, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path):
    """Return a folder of two shards of three images each, with classes, captions and records."""
    for shard in range(2):
        members = {}
        for i in range(3 * shard, 3 * shard + 3):
            members |= {f"{i:04d}.png": png(i), f"{i:04d}.cls": str(i % 2).encode(), f"{i:04d}.txt": b"number %d" % i}
            members[f"{i:04d}.json"] = json.dumps({"width": i, "artist": "me" if i else None, "run": "3", "tags": ["a"]}).encode()
        write(tmp_path / f"shard-{shard}.tar", members)
    return tmp_path


def test_samples_of_several_shards(shards):
    x = ba.stimuli.from_tars(shards)
    assert x.stimulus_id.values.tolist() == [f"{i:04d}" for i in range(6)]
    assert x.condition.values.tolist() == ["0", "1", "0", "1", "0", "1"]
    assert x.txt.values[5] == "number 5"
    assert x.width.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert x.artist.values.tolist() == ["", *["me"] * 5]
    assert x.json_run.values[0] == "3"
    assert x.tags.values[0] == '["a"]'
    assert x.path.values[3] == "shard-1.tar"
    assert x.path_part.values[3] == "member:0003.png"
    assert read_content(x, np.array([4, 0, 4]))[:, 0, 0, 0].tolist() == [4, 0, 4]


def test_an_image_has_one_hash_in_a_tar_and_in_a_folder(shards, tmp_path):
    (tmp_path / "0002.png").write_bytes(png(2))
    hashed = ba.stimuli.hashed(ba.stimuli.from_tars(shards))
    assert hashed.sha256.values[2] == hash_file(tmp_path / "0002.png") == ba.stimuli.from_images(tmp_path).sha256.values[0]


def test_a_network_sees_the_same_in_a_tar_and_in_a_folder(shards, tmp_path):
    for i in range(6):
        (tmp_path / f"{i:04d}.png").write_bytes(png(i))
    network = ba.TorchResponder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)), layers="*", system="net")
    packed, plain = (
        ba.record(network, x, batch_size=4, store=tmp_path / "s.zarr", name=name, progress=False)
        for x, name in ((ba.stimuli.from_tars(shards), "packed"), (ba.stimuli.from_images(tmp_path), "plain"))
    )
    np.testing.assert_array_equal(packed.values, plain.values)


def test_texts_alone_are_the_stimuli(tmp_path):
    x = ba.stimuli.from_tars(write(tmp_path / "a.tar", {"x/1.txt": b"\xef\xbb\xbfone\n", "x/2.txt": "zwölf".encode()}))
    assert x.attrs["kind"] == "text"
    assert x.text.values.tolist() == ["one", "zwölf"]
    assert x.stimulus_id.values.tolist() == ["x/1", "x/2"]


def test_what_the_stimulus_is_must_be_clear(tmp_path):
    mixed = write(tmp_path / "a.tar", {"1.png": png(0), "1.jpg": png(0), "2.png": png(1), "2.seg.png": png(0)})
    with pytest.raises(ba.errors.FormatError, match=r"members 'jpg', 'png', 'seg\.png'. Expected images of one suffix"):
        ba.stimuli.from_tars(mixed)
    assert ba.stimuli.from_tars(mixed, content="png").sizes["presentation"] == 2
    with pytest.raises(ba.errors.FormatError, match=r"1 of 2 samples have no 'jpg', first '2', which has \['png', 'seg\.png'\]"):
        ba.stimuli.from_tars(mixed, content=".jpg")
    with pytest.raises(ba.errors.ParameterError, match=r"must be one of 'jpg', 'png'. Got 'gif'"):
        ba.stimuli.from_tars(mixed, content="gif")


def test_damaged_labels_are_named(tmp_path):
    with pytest.raises(ba.errors.FormatError, match=r"a\.tar:1\.json' could not be read as JSON"):
        ba.stimuli.from_tars(write(tmp_path / "a.tar", {"1.png": png(0), "1.json": b"{"}))
    with pytest.raises(ba.errors.FormatError, match=r"a\.tar:1\.json' holds a list"):
        ba.stimuli.from_tars(write(tmp_path / "a.tar", {"1.png": png(0), "1.json": b"[1]"}))
    with pytest.raises(ba.errors.FormatError, match=r"a\.tar:1\.cls' could not be read as UTF-8"):
        ba.stimuli.from_tars(write(tmp_path / "a.tar", {"1.png": png(0), "1.cls": b"\xff"}))


def test_a_recording_is_known_by_what_its_members_hold(shards):
    x = ba.stimuli.from_tars(shards)
    base = stimulus_hash(x)
    assert stimulus_hash(ba.stimuli.from_tars(shards)) == base
    assert stimulus_hash(x.isel(presentation=[1, 0, 2, 3, 4, 5])) != base
    members = {f"{i:04d}.png": png(i if i < 5 else 99) for i in range(3, 6)}
    write(shards / "shard-1.tar", members)
    assert stimulus_hash(x) != base


# stacks


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stimuli.hdf5"
    values = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 50, 60, 3), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=values, chunks=(1, 50, 60, 3))
        file["matlab"] = values.transpose(0, 3, 2, 1)
    return path


def test_images_of_a_stack_are_named_by_an_explicit_base(stack):
    x = ba.stimuli.from_stack(stack, key="imgBrick", prefix="nsd-", index_base=0)
    assert x.stimulus_id.values[[0, 39]].tolist() == ["nsd-00", "nsd-39"]
    one = ba.stimuli.from_stack(stack, key="imgBrick", prefix="nsd-", index_base=1)
    assert one.stimulus_id.values[[0, 39]].tolist() == ["nsd-01", "nsd-40"]
    assert read_content(x, np.array([39, 3])).shape == (2, 50, 60, 3)
    assert read_content(x, np.array([39, 3]))[:, 0, 0, 0].tolist() == [39, 3]
    with pytest.raises(ba.errors.ParameterError, match="'index_base' parameter of from_stack"):
        ba.stimuli.from_stack(stack, key="imgBrick", prefix="nsd-", index_base=2)


def test_axes_of_matlab_are_put_right(stack):
    ours = ba.stimuli.from_stack(stack, key="imgBrick", prefix="i", index_base=0)
    theirs = ba.stimuli.from_stack(stack, key="matlab", prefix="i", index_base=0, dims=("channel", "x", "y"))
    np.testing.assert_array_equal(read_content(theirs, slice(0, 5)), read_content(ours, slice(0, 5)))


def test_a_row_has_the_hash_of_the_array(stack):
    x = ba.stimuli.hashed(ba.stimuli.from_stack(stack, key="imgBrick", prefix="i", index_base=0).isel(presentation=[7]))
    with h5py.File(stack) as file:
        same = ba.stimuli.table(file["imgBrick"][7:8], stimulus_id=["i07"], kind="image")
    assert x.sha256.values.tolist() == same.sha256.values.tolist()


def test_opening_and_recording_touch_only_what_they_need(tmp_path, bytes_read):
    path = tmp_path / "big.hdf5"
    noise = np.random.default_rng(0).integers(0, 255, (300, 100, 100, 3), dtype=np.uint8)  # 9 MB, 30 kB an image
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=noise, chunks=(1, 100, 100, 3))

    def read_only():
        return ba.stimuli.from_stack(path, key="imgBrick", prefix="i", index_base=0)

    x = read_only()
    assert bytes_read(read_only) < 100_000
    read_content(x, slice(0, 1))
    assert bytes_read(read_content, x, slice(100, 104)) < 4 * 30_000 + 100_000
    few = x.isel(presentation=[3, 200, 299])
    network = ba.TorchResponder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(30_000, 2)), layers="*", system="net")
    assert bytes_read(ba.record, network, few, store=tmp_path / "s.zarr", progress=False) < 1_500_000

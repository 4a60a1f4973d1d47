"""Stimuli of every kind, named by a relative path: recorded from another working folder, kept in a study, found beside a recording."""

import io
import tarfile
import wave

import h5py
import numpy as np
import pytest
import torch

import brainalign as ba

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 5, 5, 3), dtype=np.uint8)


def images(folder):
    image = pytest.importorskip("PIL.Image")
    (folder / "größe").mkdir()
    for i, pixels in enumerate(IMAGES):
        image.fromarray(pixels).save(folder / f"größe/{i}.png")
    return ba.stimuli.from_images("größe")


def tar(folder):
    image = pytest.importorskip("PIL.Image")
    with tarfile.open(folder / "a.tar", "w") as opened:
        for i, pixels in enumerate(IMAGES):
            image.fromarray(pixels).save(stream := io.BytesIO(), "PNG")
            member = tarfile.TarInfo(f"größe/{i}.png")
            member.size = stream.tell()
            stream.seek(0)
            opened.addfile(member, stream)
    return ba.stimuli.from_tars("a.tar")


def stack(folder):
    with h5py.File(folder / "s.hdf5", "w") as opened:
        opened["imgBrick"] = IMAGES
    return ba.stimuli.from_stack("s.hdf5", key="imgBrick", dims=("y", "x", "channel"), prefix="nsd-", index_base=0)


def film(folder):
    image = pytest.importorskip("PIL.Image")
    first, *rest = (image.fromarray(pixels) for pixels in IMAGES)
    first.save(folder / "f.png", save_all=True, append_images=rest, duration=100)
    return ba.stimuli.from_film("f.png")


def sounds(folder):
    (folder / "sounds").mkdir()
    for i in range(3):
        with wave.open(str(folder / f"sounds/{i}.wav"), "wb") as opened:
            opened.setnchannels(1), opened.setsampwidth(2), opened.setframerate(1000)
            opened.writeframes(IMAGES[i].ravel().astype("<i2").tobytes())
    return ba.stimuli.from_sounds("sounds")


@pytest.mark.parametrize("make", [images, tar, stack, film, sounds], ids=lambda make: make.__name__)
def test_a_relative_path_holds_in_every_verb(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    x = make(tmp_path)
    monkeypatch.chdir("/")
    network = ba.TorchResponder(torch.nn.Sequential(torch.nn.Flatten()), layers="*", system="net")
    recorded = ba.record(network, x, store=tmp_path / "study.zarr", progress=False)
    pixels = IMAGES.reshape(3, -1) if make is sounds else IMAGES.transpose(0, 3, 1, 2).reshape(3, -1)
    correlated = np.corrcoef(recorded.values.ravel(), pixels.ravel())[0, 1]
    assert correlated == pytest.approx(1)  # up to how values are scaled
    ba.save(x, tmp_path / "study.zarr", name="shown")
    stored = ba.open_study(tmp_path / "study.zarr")["stimuli/shown"].to_dataset()
    assert stored.identical(x)
    found = ba.stimuli.of(ba.open_responses(tmp_path / "study.zarr").isel(presentation=[2, 0]))
    assert found.stimulus_id.values.tolist() == x.stimulus_id.values[[2, 0]].tolist()
    assert (ba.stimuli.hashed(found).sha256.values == ba.stimuli.hashed(x).sha256.values[[2, 0]]).all()

import io

import numpy as np
import pytest

from brainalign.adapters.stimuli.images import decode_image
from brainalign.core.errors import FormatError

PIL = pytest.importorskip("PIL.Image")


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.fromarray(values, mode).save(path)
    return path


def colours(seed, shape=(4, 5, 3)):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    grey, clear = colours(0, (3, 3)), colours(1, (3, 3, 4))
    np.testing.assert_array_equal(decode_image(save(tmp_path / "g.png", grey)), np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(save(tmp_path / "c.png", clear)), clear[:, :, :3])


def test_damaged_images_are_named(tmp_path):
    whole = save(tmp_path / "whole.png", colours(0, (60, 60, 3))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.png", "text.png"):
        with pytest.raises(FormatError, match=rf"{name}' could not be read as an image"):
            decode_image(tmp_path / name)
    with pytest.raises(FormatError, match="there is no image"):
        decode_image(tmp_path / "nothing.png")


def test_images_of_more_than_8_bits_are_refused(tmp_path):
    with pytest.raises(FormatError, match="pixels of mode 'I;16'"):
        decode_image(save(tmp_path / "deep.png", np.full((3, 3), 4000, dtype=np.uint16)))


def test_an_image_that_promises_too_many_pixels_is_refused(tmp_path):
    path = save(tmp_path / "a.bmp", colours(0))
    whole = path.read_bytes()
    path.write_bytes(whole[:18] + (9000).to_bytes(4, "little") * 2 + whole[26:])
    with pytest.raises(FormatError, match=r"a\.bmp' states 9000 x 9000 pixels. Expected at most 67108864"):
        decode_image(path)


def test_an_image_in_memory_is_named_by_its_archive(tmp_path):
    whole = save(tmp_path / "a.png", colours(0)).read_bytes()
    np.testing.assert_array_equal(decode_image(io.BytesIO(whole), name="x.tar:a.png"), colours(0))
    with pytest.raises(FormatError, match=r"'x\.tar:a\.png' could not be read"):
        decode_image(io.BytesIO(whole[:40]), name="x.tar:a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp"])
def test_damage(tmp_path, survives_damage, name):
    file = save(tmp_path / name, colours(0, (20, 20, 3)))
    assert survives_damage(file, lambda: decode_image(file), header=64)

import h5py
import numpy as np
import pytest

from brainalign.adapters.stimuli.stacks import describe_stack, raw_rows, read_rows
from brainalign.core.errors import FormatError, ParameterError

IMAGES = np.random.default_rng(0).integers(0, 255, (6, 20, 30, 3), dtype=np.uint8)


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file["imgBrick"] = IMAGES
        file["matlab"] = IMAGES.transpose(0, 3, 2, 1)
        file["grey"] = IMAGES[..., 0]
        file["group/alpha"] = np.concatenate([IMAGES, IMAGES[..., :1]], axis=3)
        file["float"] = IMAGES.astype("f4")
        file["four"] = IMAGES[:, :4, :4]
    return path


def test_what_a_stack_holds(stack):
    assert describe_stack(stack, "imgBrick") == (6, ("y", "x", "channel"))
    assert describe_stack(stack, "matlab", ("channel", "x", "y")) == (6, ("channel", "x", "y"))
    assert describe_stack(stack, "grey", ["x", "y"]) == (6, ("x", "y"))


@pytest.mark.parametrize(
    ("key", "dims"),
    [("matlab", None), ("matlab", ("y", "x", "channel")), ("grey", None), ("four", None), ("imgBrick", ("y", "x")),
     ("imgBrick", ("y", "x", "z"))],
)  # fmt: skip
def test_axes_that_cannot_be_told_or_do_not_fit_are_asked_for(stack, key, dims):
    with pytest.raises(ParameterError, match=rf"images of shape .* at '{key}', and dims=.*MATLAB \('channel', 'x', 'y'\)"):
        describe_stack(stack, key, dims)


def test_what_is_no_stack_is_named(stack, tmp_path):
    with pytest.raises(FormatError, match=r"holds nothing at 'img'.*'float', 'four'"):
        describe_stack(stack, "img")
    with pytest.raises(FormatError, match="holds a group at 'group'"):
        describe_stack(stack, "group")
    with pytest.raises(FormatError, match=r"shape \(6, 20, 30, 3\) and dtype float32 at 'float'. Expected images of uint8"):
        describe_stack(stack, "float")
    (tmp_path / "x.hdf5").write_text("no HDF5")
    with pytest.raises(FormatError, match=r"x\.hdf5' could not be read as HDF5"):
        describe_stack(tmp_path / "x.hdf5", "img")


def test_rows_in_red_green_and_blue(stack):
    for key, dims in (("imgBrick", None), ("matlab", ("channel", "x", "y")), ("group/alpha", ("y", "x", "channel"))):
        np.testing.assert_array_equal(np.stack(read_rows(stack, [f"{key}/5", f"{key}/0"], dims)), IMAGES[[5, 0]])
    np.testing.assert_array_equal(read_rows(stack, ["grey/2"], ("y", "x"))[0], np.repeat(IMAGES[2][..., :1], 3, axis=2))
    np.testing.assert_array_equal(next(raw_rows(stack, ["matlab/1"])), IMAGES[1].transpose(2, 1, 0))


@pytest.mark.parametrize("row", ["imgBrick/6", "imgBrick/-1", "imgBrick", "other/0", "group/0", "/0"])
def test_rows_that_are_not_there(stack, row):
    with pytest.raises(FormatError, match=f"has no image '{row}'"):
        read_rows(stack, [row], None)


def test_damage(stack, survives_damage):
    def read():
        describe_stack(stack, "imgBrick")
        read_rows(stack, ["imgBrick/5", "imgBrick/0"], None)

    assert survives_damage(stack, read)

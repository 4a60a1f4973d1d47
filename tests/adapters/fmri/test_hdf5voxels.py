import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.adapters.fmri.hdf5voxels import array_shape, boxes, lazy_trials
from brainalign.core.errors import FormatError

GRID, LENGTHS = (4, 5, 6), (7, 3)
VALUES = [np.random.default_rng(n).normal(size=(*GRID, n)).astype(np.float32) for n in LENGTHS]
LAYOUTS = {
    "voxel by voxel": {"reverse": True, "chunks": (3, 1, 1, 1)},
    "MATLAB, packed": {"reverse": True, "chunks": (2, 3, 2, 4), "compression": "gzip"},
    "python": {"reverse": False},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voxels")
    for layout, options in LAYOUTS.items():
        for n, values in zip(LENGTHS, VALUES, strict=True):
            how = {name: value for name, value in options.items() if name != "reverse"}
            with h5py.File(folder / f"{layout}-{n}.h5", "w") as file:
                file.create_dataset("betas", data=values.T if options["reverse"] else values, **how)
    return folder


def opened(folder, layout, keep):
    files = [folder / f"{layout}-{n}.h5" for n in LENGTHS]
    return lazy_trials(
        files, LENGTHS, "betas", np.argwhere(keep), np.flatnonzero(keep), reverse=LAYOUTS[layout]["reverse"], what="betas"
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_voxels_and_trials_are_those_of_the_array(folder, layout, share):
    keep = np.random.default_rng(0).random(GRID) < share
    keep[1, 2, 3] = True
    expected = np.concatenate([values[keep].T for values in VALUES])
    x = opened(folder, layout, keep)
    for rows, columns in ((slice(None), slice(None)), (slice(5, 9), slice(0, 1)), (8, slice(None)), ([1, 9], [0, -1])):
        np.testing.assert_array_equal(x[rows][..., columns].compute(), expected[rows][..., columns])


@settings(max_examples=50)
@given(places=st.sets(st.tuples(*(st.integers(0, 5) for _ in range(3))), min_size=1), alone=st.booleans())
def test_boxes_hold_each_place_once(places, alone):
    places = np.array(sorted(places))
    found = list(boxes(places, alone=alone))
    assert np.concatenate([np.arange(len(places))[part] for part, _ in found]).tolist() == list(range(len(places)))
    for part, box in found:
        for place in places[part]:
            assert all(span.start <= at < span.stop for at, span in zip(place, box, strict=True))
    if alone:
        assert sum(np.prod([span.stop - span.start for span in box]) for _, box in found) == len(places)


def test_scale_is_applied_before_the_values_are_rounded_to_float32(tmp_path):
    stored = np.arange(-5, 5, dtype=np.int16).reshape(5, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["betas"] = stored
    x = lazy_trials([tmp_path / "a.h5"], [2], "betas", np.arange(5)[:, None], np.arange(5), scale=300.0, what="betas")
    np.testing.assert_array_equal(x.compute(), (stored.T / 300.0).astype(np.float32))


def test_what_is_not_finite_is_named_by_file_trial_and_neuroid(tmp_path):
    for name, bad in (("a", False), ("b", True)):
        values = np.zeros((3, 4), np.float32)
        values[1, 2] = np.nan if bad else 0
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["betas"] = values
    args = ([tmp_path / "a.h5", tmp_path / "b.h5"], [4, 4], "betas", np.arange(3)[:, None], np.array([10, 11, 12]))
    with pytest.raises(FormatError, match=r"b\.h5' holds 1 values .* row 2 of 'neuroid 11'"):
        lazy_trials(*args, what="betas")[5:].compute()
    assert np.isnan(lazy_trials(*args, allow_nan=True, what="betas").compute()).sum() == 1


def test_impossible_headers_are_refused_before_anything_is_allocated(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("large", shape=(2**40, 10), dtype="f4", chunks=(1024, 10))
        file.create_dataset("trials", shape=(3, 2**30), dtype="f4", chunks=(3, 1024))
        file.create_dataset("sparse", shape=(10, 10), dtype="f4", chunks=(1, 10))
        file["line"] = np.zeros(3)
    for key in ("large", "trials"):
        with pytest.raises(FormatError, match="its header is damaged"):
            array_shape(tmp_path / "a.h5", key, sparse=True)
    with pytest.raises(FormatError, match=r"holds 0 bytes at '/sparse'; its header promises 400"):
        array_shape(tmp_path / "a.h5", "sparse")
    assert array_shape(tmp_path / "a.h5", "sparse", sparse=True) == (10, 10)
    for key in ("line", "nothing"):
        with pytest.raises(FormatError, match="no array of betas"):
            array_shape(tmp_path / "a.h5", key)

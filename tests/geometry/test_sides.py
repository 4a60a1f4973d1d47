import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.geometry.sides import positions_of, side_of, times_of


def responses(values, ids=None, **coords):
    values = np.asarray(values)
    ids = [f"s{i}" for i in range(len(values))] if ids is None else ids
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="ann", system="net", **coords)


def test_groups_are_cut_at_every_time():
    values = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    timed = responses(values, region=["b", "a", "b"], time=[0.0, 0.1], time_reference="stimulus onset")
    still = responses(values[..., 0], layer=["x", "y", "x"])
    first, second = side_of(timed, "region", "source"), side_of(still, None, "target")
    assert (list(first.groups), first.dim, second.dim) == (["b", "a"], "source_region", None)
    for time, (a, b) in enumerate(times_of(first, second)):
        np.testing.assert_array_equal(a[0], values[:, [0, 2], time])
        np.testing.assert_array_equal(a[1], values[:, [1], time])
        np.testing.assert_array_equal(b[0], values[..., 0])
    assert time == 1


def test_single_presentations_are_kept_apart_with_holes():
    x = responses([[0.0, 5.0], [1.0, 6.0], [2.0, 7.0], [3.0, 8.0], [4.0, 9.0]], ids=["a", "b", "a", "a", "b"])
    side = side_of(ba.average_repeats(x), None, "source", trials_of=x)
    np.testing.assert_array_equal(side.at(0)[0][..., 0], [[0.0, 2.0, 3.0], [1.0, 4.0, np.nan]])
    with pytest.raises(SchemaError, match=r"source has 1 of 2 stimuli with fewer than 2 presentations without NaN, first 'b'"):
        side_of(ba.average_repeats(x[:4]), None, "source", trials_of=x[:4])
    holes = x.copy().assign_attrs(allow_nan=True)
    holes[0, 1] = np.nan
    side = side_of(ba.average_repeats(holes), None, "source", trials_of=holes)
    np.testing.assert_array_equal(side.at(0)[0][..., 0], [[2.0, 3.0], [1.0, 4.0]])
    holes[1, 0] = np.nan  # of the two presentations of b only one is whole: no variance can be told
    with pytest.raises(SchemaError, match=r"1 of 2 stimuli with fewer than 2 presentations without NaN, first 'b'"):
        side_of(ba.average_repeats(holes), None, "source", trials_of=holes)


def test_neuroids_with_nan_are_left_out_and_named():
    values = np.random.default_rng(0).normal(size=(4, 3))
    x = responses(values, layer=["x", "x", "y"]).assign_attrs(allow_nan=True)
    x[1, 2] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match=r"1 of 3 neuroids of source '' have NaN .* 2\."):
        assert side_of(x, None, "source").at(0)[0].shape == (4, 2)
    with pytest.raises(SchemaError, match="target 'y' has 1 neuroids, all of them with NaN"):
        side_of(x, "layer", "target")


def test_an_unknown_coordinate_is_named():
    with pytest.raises(ParameterError, match=r"by='laier' for source.* Did you mean 'layer'"):
        positions_of(responses(np.eye(3), layer=["x", "x", "y"]), "laier", "source")

"""Joining the results of systems whose labels differ."""

import json

import numpy as np
import pytest
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.scores.joined import join_results


def result(names, folds=("0", "1"), **labels):
    out = xr.Dataset(
        {
            "score": ("neuroid", np.arange(len(names), dtype=float)),
            "score_by_fold": (("fold", "neuroid"), np.zeros((len(folds), len(names)))),
        }
    )
    out = out.assign_coords(neuroid_id=("neuroid", names), fold=list(folds), **{k: ("neuroid", v) for k, v in labels.items()})
    return out.assign_attrs(report=json.dumps({"leaks": []}))


def test_labels_that_one_system_lacks_are_filled_and_numbers_stay_numbers():
    out = join_results({"a": result(["v1"], x_mm=[1.0]), "b": result([7, 8], region=["V1", "V2"])}, "target", "neuroid")
    assert out.neuroid_id.values.tolist() == ["v1", "7", "8"]
    assert out.region.values.tolist() == ["", "V1", "V2"]
    np.testing.assert_array_equal(out.x_mm, [1.0, np.nan, np.nan])
    assert set(json.loads(out.attrs["report"])["each"]) == {"a", "b"}


def test_folds_of_other_names_are_numbered():
    out = join_results({"a": result(["v1"]), "b": result(["v2"], folds=("x", "y"))}, "target", "neuroid")
    assert out.fold.values.tolist() == [0, 1]


def test_nothing_is_refused():
    with pytest.raises(ParameterError, match="empty dict as its source"):
        join_results({}, "source", "source")

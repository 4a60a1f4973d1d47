import numpy as np
import pytest
import xarray as xr

LAYERS, REGIONS = ["conv1", "conv2", "fc"], ["V1", "IT"]


@pytest.fixture
def grid():
    """A result as ``compare`` writes it."""
    values = np.array([[0.5, 0.1], [0.3, 0.2], [-0.01, 0.4]])
    return xr.Dataset(
        {
            "score": (("source_layer", "target_region"), values),
            "ceiling": ("target_region", [0.8, 0.5]),
            "score_normalized": (("source_layer", "target_region"), values / [0.8, 0.5]),
            "score_neuroid": (("source_layer", "neuroid"), np.repeat(values, 2, axis=1)),
            "n_neuroids": ("target_region", [2, 4]),
        },
        coords={"source_layer": LAYERS, "target_region": REGIONS, "region": ("neuroid", ["V1", "V1", "IT", "IT"])},
        attrs={
            "metric": "pearson",
            "aggregate": "median",
            "report": '{"repeats": "average", "leaks": ["source: PCA was fitted on all"], "join": {"dropped_source": {"count": 3}},'
            ' "folds": {"forced": true}}',
        },
    )


@pytest.fixture
def scores():
    """A result as ``evaluate`` writes it, with one neuroid left out."""
    score = np.array([np.nan, 0.2, 0.4, 0.5, 0.6, 0.7])
    ceiling = np.array([np.nan, 0.4, 0.5, 1.0, 0.5, 0.9])
    return xr.Dataset(
        {
            "score": ("neuroid", score),
            "ceiling": ("neuroid", ceiling),
            "score_normalized": ("neuroid", score / ceiling),
            "score_by_fold": (("fold", "neuroid"), np.tile(score, (2, 1))),
            "n_undefined_folds": ("neuroid", [2, 0, 0, 0, 1, 0]),
        },
        coords={
            "neuroid_id": ("neuroid", np.asarray(list("abcdef"), dtype=np.dtypes.StringDType())),
            "region": ("neuroid", np.asarray(["V1"] * 3 + ["IT"] * 3, dtype=np.dtypes.StringDType())),
            "status": ("neuroid", ["constant", "ok", "ok", "ok", "ok", "ok"]),
        },
        attrs={"metric": "pearson"},
    )


@pytest.fixture
def timed():
    """Scores over time that peak at 0.1 s in V1 and 0.2 s in IT."""
    time = np.arange(0, 0.4, 0.05)
    course = np.stack([np.exp(-(((time - latency) / 0.05) ** 2)) for latency in (0.1, 0.2)])
    return xr.Dataset(
        {"score": (("neuroid", "time"), np.repeat(course, 2, axis=0) * [[0.4], [0.5], [0.6], [0.8]])},
        coords={"region": ("neuroid", ["V1", "V1", "IT", "IT"]), "time": time, "neuroid_id": ("neuroid", [0, 1, 2, 3])},
        attrs={"metric": "pearson"},
    )


@pytest.fixture
def rdms():
    values = np.random.default_rng(0).random((2, 6, 6))
    values = values + values.transpose(0, 2, 1)
    values[:, range(6), range(6)] = 0
    ids = [f"s{i}" for i in range(6)]
    return xr.DataArray(
        values,
        dims=("layer", "stimulus", "stimulus_2"),
        coords={"layer": LAYERS[:2], "stimulus": ids, "stimulus_2": ids, "condition": ("stimulus", list("bababa"))},
        attrs={"metric": "euclidean", "units": "a.u."},
    )


@pytest.fixture
def attributions():
    values = np.random.default_rng(0).standard_normal((3, 2, 1, 4, 5))
    return xr.DataArray(
        values,
        dims=("presentation", "neuroid", "channel", "y", "x"),
        coords={
            "stimulus_id": ("presentation", list("abc")),
            "neuroid_id": ("neuroid", ["unit", "voxel"]),
            "completeness_error": (("presentation", "neuroid"), np.zeros((3, 2))),
        },
        attrs={"method": "integrated-gradients", "completeness_error": 0.02},
        name="attribution",
    )

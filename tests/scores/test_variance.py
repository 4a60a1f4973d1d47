import json

import numpy as np
import pytest
import xarray as xr
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import ParameterError

N = 1500


def recorded(values, modality="ann", **coords):
    labels = {"system": "net", "layer": "l1"} if modality == "ann" else {"system": "s1", "region": "V1"}
    ids = coords.pop("stimulus_id", [f"s{i}" for i in range(len(values))])
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality=modality, **labels, **coords)


@pytest.fixture(scope="module")
def parts():
    """Three independent signals of three features, and noise."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, N, 3)), rng.normal(size=(N, 4))


def mixed(signals, noise, weights):
    """Targets in which each signal has a share of the variance, and noise the rest."""
    rest = 1 - sum(weights)
    return sum(w**0.5 * s @ np.ones((3, 4)) / 3**0.5 for w, s in zip(weights, signals, strict=True)) + rest**0.5 * noise


def test_orthogonal_spaces_share_nothing(parts):
    signals, _ = parts
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(2, 3, 40))
    weights *= np.sqrt(np.array([0.3, 0.2])[:, None, None] / (weights**2).sum(axis=1, keepdims=True))
    noise = 0.5**0.5 * rng.normal(size=(N, 40))
    brain = recorded(signals[0] @ weights[0] + signals[1] @ weights[1] + noise, "fmri")
    out = ba.partition_variance(ba.bands(a=recorded(signals[0]), b=recorded(signals[1])), brain, cv=5, random_state=0)
    assert out.unique.dims == out["product"].dims == ("band", "neuroid")
    np.testing.assert_allclose(out.unique.sel(band="a").mean(), 0.3, atol=0.03)
    np.testing.assert_allclose(out.unique.sel(band="b").mean(), 0.2, atol=0.03)
    np.testing.assert_allclose(out.shared.mean(), 0, atol=0.01)
    np.testing.assert_allclose(out["product"].mean("neuroid"), out.unique.mean("neuroid"), atol=0.01)
    assert out.region.values.tolist() == ["V1"] * 40
    assert ba.core.provenance(out).steps[-1]["verb"] == "partition_variance"
    assert not ba.core.provenance(out).altered


def test_identical_spaces_have_nothing_of_their_own(parts):
    signals, noise = parts
    brain = recorded(mixed(signals[:1], noise, (0.5,)), "fmri")
    out = ba.partition_variance(ba.bands(a=recorded(signals[0]), b=recorded(signals[0])), brain, cv=5, random_state=0)
    np.testing.assert_allclose(out.unique, 0, atol=0.005)
    np.testing.assert_allclose(out.shared, out.score, atol=0.01)


def test_all_parts_add_up_and_planted_overlaps_are_found(parts):
    """Three spaces that hold pairs of the signals: every part is common to two of them."""
    signals, noise = parts
    brain = recorded(mixed(signals, noise, (0.3, 0.2, 0.1)), "fmri")
    pairs = {"a": (0, 1), "b": (0, 2), "c": (1, 2)}
    source = ba.bands(**{name: recorded(np.hstack([signals[i], signals[j]])) for name, (i, j) in pairs.items()})
    out = ba.partition_variance(source, brain, cv=5, random_state=0)
    assert out.subset.values.tolist() == ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]
    for subset, planted in {"a": 0, "b": 0, "c": 0, "a+b": 0.3, "a+c": 0.2, "b+c": 0.1, "a+b+c": 0}.items():
        np.testing.assert_allclose(out.commonality.sel(subset=subset).mean(), planted, atol=0.03)
    np.testing.assert_allclose(out.commonality.sum("subset"), out.score, atol=1e-12)
    np.testing.assert_allclose(out["product"].sum("band"), out.score, atol=1e-6)
    np.testing.assert_allclose(out.unique.sum("band") + out.shared, out.score, atol=1e-12)


def test_suppression_is_shown_and_not_clipped(parts):
    """b predicts nothing by itself and cancels the noise in a."""
    signals, noise = parts
    nuisance = signals[1]
    brain = recorded(signals[0] @ np.ones((3, 4)) + 0.1 * noise, "fmri")
    source = ba.bands(a=recorded(signals[0] + nuisance), b=recorded(nuisance))
    out = ba.partition_variance(source, brain, cv=5, random_state=0)
    assert (out.shared < -0.3).all()
    assert (out.unique.sel(band="b") > 0.3).all()


def test_subsets_are_scored_as_evaluate_scores_them(parts):
    signals, noise = parts
    brain = recorded(mixed(signals[:2], noise, (0.3, 0.2)), "fmri")
    source, folds = ba.bands(a=recorded(signals[0]), b=recorded(signals[1])), ba.split(brain, n_splits=3, random_state=7)
    out = ba.partition_variance(source, brain, cv=folds, random_state=0)
    options = {"metric": "r2", "cv": folds, "random_state": 0, "controls": "none"}
    joint = ba.evaluate(source, brain, model=ba.BandedRidge(), **options)
    alone = ba.evaluate(source[:, source.band == "b"], brain, model=ba.BandedRidge(), **options)
    np.testing.assert_allclose(out.score, joint.score, atol=1e-9)
    np.testing.assert_allclose(out.r2.sel(subset="b"), alone.score, atol=1e-9)
    assert json.loads(out.attrs["report"])["folds"] == json.loads(joint.attrs["report"])["folds"]


def test_feature_steps_are_the_same_for_every_subset_and_any_mapping_will_do(parts):
    signals, noise = parts
    brain = recorded(mixed(signals[:2], noise, (0.3, 0.2)), "fmri")
    source = ba.bands(a=recorded(signals[0]), b=recorded(np.hstack([signals[1], signals[2]])))
    out = ba.partition_variance(source, brain, model=ba.chain(StandardScaler(), ba.Reduce(3), ba.Ridge()), cv=3, random_state=0)
    assert "product" not in out
    banded = ba.partition_variance(
        source, brain, model=ba.chain(ba.Reduce(3, bands=["b"]), ba.BandedRidge()), cv=3, random_state=0
    )
    assert (banded.unique.mean("neuroid") > 0.08).all()
    labelled = source.assign_coords(group=("neuroid", list("xyxyxyxyx")))
    with pytest.raises(ParameterError, match="by='group', which the steps of the model do not keep"):
        ba.partition_variance(labelled, brain, by="group", model=ba.chain(PCA(3), ba.Ridge()), cv=3)


def test_regions_partition_the_variance_of_a_network_over_time(parts):
    """Spaces may be regions, and the target a network, with time, repeats and a neuroid that cannot be scored."""
    signals, noise = parts
    ids = np.repeat([f"s{i}" for i in range(300)], 2)
    regions = np.repeat(["V1", "IT"], 3)
    brain = recorded(np.hstack(signals[:2])[:600] * 1.0, "fmri", stimulus_id=ids)
    brain = brain.assign_coords(region=("neuroid", regions))
    at = np.stack([signals[0][:600] @ np.ones((3, 2)), signals[1][:600] @ np.ones((3, 2))], axis=2)
    values = at + noise[:600, :2, None]
    values[:, 1] = 4.0
    network = recorded(values, time=[0.0, 0.1], stimulus_id=ids)
    out = ba.partition_variance(brain, network, by="region", cv=3, random_state=0)
    assert out.unique.dims == out["product"].dims == ("band", "neuroid", "time")
    assert out.status.values.tolist() == ["ok", "constant"]
    assert np.isnan(out.unique[:, 1]).all()
    first = out.unique[:, 0].values
    assert first[0, 0] > 0.5 > abs(first[1, 0])
    assert first[1, 1] > 0.5 > abs(first[0, 1])
    np.testing.assert_allclose(out["product"].sum("band")[0], out.score[0], atol=1e-6)


@pytest.mark.parametrize(
    ("by", "n_bands", "message"),
    [("region", 2, "by='region', which is no neuroid coordinate of the source .'layer', "), ("layer", 2, "1 values of 'layer' .'l1'"),
     ("band", 9, "9 values of 'band'.*Expected 2 to 8")],
)  # fmt: skip
def test_spaces_that_cannot_be_told_apart_are_refused(by, n_bands, message):
    x = recorded(np.eye(10))
    with pytest.raises(ParameterError, match=message):
        ba.partition_variance(ba.bands(**{f"b{i}": x for i in range(n_bands)}), x, by=by)


def test_one_seed_gives_one_result(parts):
    signals, noise = parts
    brain = recorded(mixed(signals[:2], noise, (0.3, 0.2))[:200], "fmri")
    source = ba.bands(a=recorded(signals[0][:200]), b=recorded(signals[1][:200]))
    first, again = (ba.partition_variance(source, brain, cv=4, random_state=3) for _ in range(2))
    xr.testing.assert_equal(first, again)

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, SchemaError
from brainalign.geometry.rdm_pairs import join_rdms
from brainalign.geometry.rdm_plan import make_plan

IDS = [f"s{i}" for i in range(6)]
NOTHING = {"n_bootstraps": 0, "over": "stimulus", "between": None, "level": 0.95, "ceiling": None, "n_permutations": 0,
           "null": "exchange", "within": None, "clusters": None, "progress": None, "random_state": 0}  # fmt: skip


def rdms(seed=0, **sizes):
    x = np.random.default_rng(seed).normal(size=(*sizes.values(), 6, 9))
    values = np.square(x[..., :, None, :] - x[..., None, :, :]).sum(axis=-1)
    return xr.DataArray(values, dims=(*sizes, "stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})


def plan(source, target, metric="cosine", **asked):
    sides = {"source": source, "target": target}
    sizes = {f"{name}_{dim}": n for name, x in sides.items() for dim, n in x.sizes.items() if not dim.startswith("stimulus")}
    return make_plan(NOTHING | asked, sizes, join_rdms(sides, "inner"), sides, metric)


def test_what_is_asked_for_is_resolved():
    source, target = rdms(layer=2), rdms(1, subject=4, time=3)
    assert plan(source, target) is None
    both = plan(source, target, over=("stimulus", "subject"), n_bootstraps=10)
    assert (both.unit, both.averaged, both.has_ceiling) == ("target_subject", True, True)
    bound = plan(target, source, ceiling="subject")
    assert (bound.unit, bound.averaged, bound.has_ceiling) == ("source_subject", False, True)
    assert bound.params == {"over": ["stimulus"], "ceiling": "source_subject"}
    named = plan(rdms(subject=2), target, over="target_subject", n_permutations=10)
    assert (named.unit, named.averaged, named.has_ceiling) == ("target_subject", True, False)
    assert plan(source, target, over="target_subject", ceiling="subject").unit == "target_subject"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"over": ("subject", "time"), "n_bootstraps": 9}, "must be 'stimulus', a leading dim, or both"),
        ({"over": "subject"}, "over='subject' and no draws. Expected n_bootstraps=1000"),
        ({"over": "person", "n_bootstraps": 9}, r"got 'person' .* sizes .*'target_subject': 4"),
        ({"over": "layer", "n_bootstraps": 9}, "Expected a leading dim of two or more"),
        ({"over": "subject", "ceiling": "time", "n_bootstraps": 9}, "Expected one dim in both"),
        ({"over": None}, r"must be 'stimulus', a leading dim, or both, .*Got \(None,\) instead"),
        ({"between": "source_layer"}, "between='source_layer' and n_bootstraps=0. Expected n_bootstraps=1000"),
        ({"between": "layer", "n_bootstraps": 9}, r"between='layer'; the score has the sizes"),
        ({"within": "category", "n_permutations": 9}, "within='category'; stimuli have no other coordinates"),
        ({"clusters": "size", "n_permutations": 9}, "'clusters' parameter of compare_rdms must be one of None, 'mass', 'tfce'"),
        ({"null": "sign", "n_permutations": 9}, "null='sign' with over=.*Expected the dim whose scores change sign"),
        ({"n_bootstraps": 1}, r"'n_bootstraps' parameter of compare_rdms must be an int in the range \[2, inf\)"),
        ({"n_permutations": -1}, r"'n_permutations' parameter of compare_rdms must be an int in the range \[0, inf\)"),
        (
            {"between": "target_subject", "over": "subject", "n_bootstraps": 9},
            r"has the sizes {'source_layer': 1, 'target_time': 3}",
        ),
        ({"clusters": "mass", "over": "time", "n_permutations": 9}, "Expected one time, or two"),
        ({"null": "sign", "over": "subject", "n_permutations": 9, "metric": "riemannian"}, "no distance is below 0"),
    ],
)
def test_options_that_cannot_be_are_named(asked, message):
    with pytest.raises(ParameterError, match=message):
        plan(rdms(layer=1), rdms(1, subject=4, time=3), **asked)


def test_groups_of_one_stimulus_exchange_nothing():
    with pytest.raises(ParameterError, match="within='place', of which each stimulus has a value of its own"):
        plan(rdms().assign_coords(place=("stimulus", np.arange(6))), rdms(1), within="place", n_permutations=9)


def test_what_both_sides_have_must_be_said_of_one():
    with pytest.raises(ParameterError, match="one side, 'source_subject' or 'target_subject'"):
        plan(rdms(subject=2), rdms(1, subject=4), over="subject", n_bootstraps=9)


def test_clusters_need_one_time_or_two():
    with pytest.raises(ParameterError, match=r"clusters='mass'; the score has the sizes.*Expected one time, or two"):
        plan(rdms(layer=2), rdms(1, subject=4), clusters="mass", n_permutations=9)


def test_missing_pairs_are_named():
    target = rdms(1, subject=2)
    target[1, 2, 4] = target[1, 4, 2] = np.nan
    with pytest.raises(SchemaError, match="target lacks 1 of 15 pairs in some matrix, first 's2' with 's4'"):
        plan(rdms(), target, n_bootstraps=9)


def test_what_a_measure_cannot_do_is_said_with_what_it_can():
    with pytest.raises(CapabilityError, match=r"metric='bures'\. Expected another metric, or over='subject'"):
        plan(rdms(), rdms(1), n_bootstraps=9, metric="bures")
    for asked in ({"over": "subject", "n_permutations": 9}, {"ceiling": "subject"}):
        with pytest.raises(CapabilityError, match=r"'subject' of the source .* metric='riemannian', whose sides are not alike"):
            plan(rdms(1, subject=2), rdms(), metric="riemannian", **asked)
    held = {"controlling": rdms(2), "metric": "cosine"}
    with pytest.raises(CapabilityError, match="null='exchange' with RDMs that are held constant"):
        ba.compare_rdms(rdms(), rdms(1), n_permutations=9, **held)
    with pytest.raises(CapabilityError, match="metric='whitened-cosine' and RDMs that are held constant"):
        ba.compare_rdms(rdms(), rdms(1), n_bootstraps=9, **held | {"metric": "whitened-cosine"})

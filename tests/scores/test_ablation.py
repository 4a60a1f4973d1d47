"""Planted networks are found by what their loss costs, refitted or silenced, in a brain and in a network of layers."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.scores import ablate

N, SEVEN = 120, [f"net-{k}" for k in range(7)]
RNG = np.random.default_rng(0)
IDS = [f"s{i}" for i in range(N)]
LOW, HIGH = RNG.normal(size=(N, 4)), RNG.normal(size=(N, 4))


def responses(values, **coords):
    return ba.responses(values, stimulus_id=IDS, neuroid_id=range(values.shape[1]), modality="behaviour", system="x", **coords)


def planted(where=((1, LOW), (4, HIGH)), width=8, noise=1.0, name="region"):
    """Seven networks of noise, two of which carry a latent each."""
    values = noise * RNG.normal(size=(N, 7 * width))
    for k, latent in where:
        values[:, k * width : (k + 1) * width] += latent @ RNG.normal(size=(4, width))
    return responses(values, **{name: np.repeat(SEVEN, width)})


@pytest.fixture(scope="module")
def latents():
    return ba.bands(low=responses(LOW), high=responses(HIGH))


ASK = {"model": ba.Ridge(alphas=[10.0]), "cv": 4, "random_state": 0}


@pytest.mark.parametrize(("name", "method", "n_draws"), [("region", "refit", 4), ("layer", "silence", 0)])
def test_the_two_networks_that_carry_it_come_first_each_with_its_latent(latents, name, method, n_draws):
    out = ablate(planted(name=name), latents, by=name, method=method, n_draws=n_draws, **ASK)
    assert out.effect.dims == (name, "neuroid")
    whole = out.effect.mean("neuroid").values
    assert set(np.argsort(-whole)[:2]) == {1, 4}
    by_latent = out.effect.groupby("band").mean()
    for k, mine, other in ((1, "low", "high"), (4, "high", "low")):
        assert by_latent.sel(band=mine)[k] > 0.3
        assert abs(by_latent.sel(band=other)[k]) < 0.1
        assert out.score_alone.groupby("band").mean().sel(band=mine)[k] > 0.6
    if n_draws:
        assert (out.p_value.groupby("band").mean().sel(band="low") == 0.2).values.tolist() == [k == 1 for k in range(7)]
        assert out.p_value.mean("neuroid")[[0, 2, 3, 5, 6]].min() > 0.3
    assert out.attrs["causal_scope"] == "virtual"
    assert (out.n_neuroids == 8).all()


def test_the_whole_is_what_the_verb_says_and_the_parts_are_its_columns(latents):
    brain = planted()[:, 8:32]
    out = ablate(brain, latents, **ASK)
    ask = ASK | {"controls": "none"}
    np.testing.assert_array_equal(out.score, ba.evaluate(brain, latents, **ask).score)
    np.testing.assert_array_equal(out.score_alone[1], ba.evaluate(brain[:, brain.region == "net-2"], latents, **ask).score)
    np.testing.assert_array_equal(out.score_without[1], ba.evaluate(brain[:, brain.region != "net-2"], latents, **ask).score)
    np.testing.assert_allclose(ablate(brain, latents, method="silence", **ASK).score, out.score, atol=1e-6)


def test_networks_that_say_the_same_make_up_for_each_other_only_when_refitted():
    brain, target = planted(where=((0, LOW), (2, LOW)), noise=0.3)[:, :24], responses(LOW)
    refit, silence = (ablate(brain, target, method=method, **ASK).effect.mean("neuroid") for method in ("refit", "silence"))
    assert refit[[0, 2]].max() < 0.05 < silence[[0, 2]].min()


def test_identification_is_ablated_too_and_ranks_point_the_same_way(latents):
    out = ablate(planted(), latents, verb="identify", metric="pearson", **ASK)
    assert out.effect.dims == ("region", "measure")
    for measure in ("two-way", "median-rank", "top-1"):
        found = out.effect.sel(measure=measure)
        assert (found[[1, 4]] > 0).all()
        assert set(np.argsort(-found.values)[:2]) == {1, 4}


def test_a_target_with_regions_of_its_own_keeps_them():
    brain = planted()[:, :16]
    out = ablate(brain, brain, **ASK)
    assert out.effect.dims == ("region", "neuroid")
    assert out.region.values.tolist() == SEVEN[:2]
    assert out.target_region.values.tolist() == brain.region.values.tolist()


def test_what_cannot_be_ablated_is_refused(latents):
    brain = planted()
    with pytest.raises(ba.errors.ParameterError, match="by='regoin', which is no neuroid coordinate"):
        ablate(brain, latents, by="regoin")
    with pytest.raises(ba.errors.ParameterError, match="single group net-0"):
        ablate(brain[:, :8], latents)
    with pytest.raises(ba.errors.ParameterError, match="ablate got an unknown option 'centred'"):
        ablate(brain, latents, centred=True)
    timed = [x.assign_coords(onset_s=("presentation", 10.0 * np.arange(N))) for x in (brain, latents)]
    with pytest.raises(ba.errors.CapabilityError, match="mixes presentations"):
        ablate(*timed, method="silence", model=ba.chain(ba.Delay([0.0]), ba.Ridge()))
    with pytest.raises(ba.errors.ParameterError, match="method"):
        ablate(brain, latents, method="lesion")


def test_random_sets_are_drawn_by_name(latents):
    brain, ask = planted()[:, 8:24], ASK | {"cv": 2, "n_draws": 1}
    out, again = (ablate(x, latents[:, :2], **ask) for x in (brain, brain[:, ::-1]))
    np.testing.assert_allclose(again.effect_random.sel(region=out.region.values), out.effect_random, atol=1e-6)


def test_it_says_what_was_asked(latents):
    step = ba.core.provenance(ablate(planted()[:, :16], latents, **ASK)).steps[-1]
    assert (step["verb"], step["seed"], step["params"]["method"], step["params"]["cv"]) == ("ablate", 0, "refit", 4)

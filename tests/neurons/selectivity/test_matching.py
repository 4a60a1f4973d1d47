"""match: permuted copies, rotated ones, shared neuroids over seeds, noise, and blocks."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.engine.universal import random_rotation


def recorded(values, system="a", **coords):
    ids = {"stimulus_id": [f"s{i}" for i in range(len(values))]} | coords
    return ba.responses(values, neuroid_id=[f"{system}{i}" for i in range(values.shape[1])], modality="ann", system=system, **ids)


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(size=(2000, 50))


def test_a_permuted_copy_is_matched_and_a_rotated_one_is_not(values):
    order = np.random.default_rng(1).permutation(50)
    out = ba.match(recorded(values), recorded(values[:, order], "b"), n_permutations=19, one_to_one=True, random_state=0)
    assert out.score.values == pytest.approx(1.0, abs=1e-6)
    assert out.match.values.tolist() == out.partner.values.tolist() == [f"b{i}" for i in np.argsort(order)]
    assert out.baseline.mean().item() == pytest.approx(0.32, abs=0.02)
    assert out.universal.all()
    assert (out.p_value_max == 0.05).all()
    turned = ba.match(
        recorded(values), recorded(values @ random_rotation(50, np.random.default_rng(2)), "b"), n_rotations=19, random_state=0
    )
    assert abs(turned.excess.mean().item()) < 0.03
    assert not turned.universal.any()
    assert 0.3 < turned.p_value_rotation.mean().item() < 0.7


def test_few_shared_neuroids_over_five_seeds_are_found():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1500, 6))
    seeds = [
        np.hstack([shared + 0.3 * rng.normal(size=shared.shape), rng.normal(size=(1500, 194))])[:, rng.permutation(200)]
        for _ in range(4)
    ]
    source = np.hstack([shared, rng.normal(size=(1500, 194))])
    out = ba.match(recorded(source), {f"seed{i}": recorded(x, f"seed{i}") for i, x in enumerate(seeds)}, random_state=0)
    assert out.score.dims == ("target", "neuroid")
    assert np.flatnonzero(out.universal).tolist() == list(range(6))
    assert (out.excess_min <= out.excess_mean).all()


def test_a_neuroid_that_one_target_lacks_is_not_shared_by_all(values):
    out = ba.match(recorded(values), {"b": recorded(values, "b"), "c": recorded(values[:, 10:], "c")}, random_state=0)
    assert (out.excess_min[:10] < 0.1).all()
    assert (out.excess_min[10:] > 0.5).all()


def test_opposites_count_on_demand(values):
    x, y = recorded(values[:, :5]), recorded(-values[:, :5], "b")
    signed, absolute = (ba.match(x, y, absolute=a, n_rotations=0, random_state=0).score.values for a in (False, True))
    assert (signed < 0.2).all()
    assert absolute == pytest.approx(-1.0, abs=1e-6)


def test_blocks_of_rows_and_neuroids_give_what_memory_gives(values):
    x, y = recorded(values), recorded(values[:, :20] + np.random.default_rng(1).normal(size=(2000, 20)), "b")
    whole = ba.match(x, y, n_permutations=9, random_state=0)
    lazy = ba.match(
        x.chunk({"presentation": 300}),
        y.chunk({"presentation": 700, "neuroid": 9}),
        n_permutations=9,
        random_state=0,
        max_memory=20_000,
    )
    for name in ("score", "baseline", "p_value", "p_value_max"):
        np.testing.assert_allclose(whole[name], lazy[name], atol=1e-12)


def test_noise_is_taken_into_account_where_there_are_repeats():
    rng = np.random.default_rng(0)
    signal = np.repeat(rng.normal(size=(150, 8)), 4, axis=0)
    ids = np.repeat([f"s{i}" for i in range(150)], 4)
    x, y = (
        recorded(signal + noise * rng.normal(size=signal.shape), name, stimulus_id=ids)
        for name, noise in (("a", 1.5), ("b", 0.8))
    )
    out = ba.match(x, y, ceiling="repeat", random_state=0)
    reliability = [1 / (1 + noise**2 / 4) for noise in (1.5, 0.8)]
    assert out.ceiling.mean().item() == pytest.approx(np.sqrt(np.prod(reliability)), abs=0.03)
    assert out.score_normalized.mean().item() == pytest.approx(1.0, abs=0.04)
    with pytest.raises(SchemaError, match="no stimulus is repeated on either side"):
        ba.match(ba.average_repeats(x), ba.average_repeats(y), ceiling="repeat")


def test_times_are_further_rows(values):
    deep = values[:1200].reshape(400, 3, 50).transpose(0, 2, 1)
    x, y = (recorded(v, name, time=[0.0, 0.1, 0.2]) for v, name in ((deep, "a"), (deep[:, ::-1], "b")))
    out = ba.match(x, y, n_permutations=9, random_state=0)
    assert out.score.values == pytest.approx(1.0, abs=1e-6)
    assert (out.p_value == 0.1).all()
    with pytest.raises(ParameterError, match="`time` on one side only"):
        ba.match(x, recorded(values[:400], "b"))


def test_rotations_of_each_direction_by_itself_are_much_the_same(values):
    x = recorded(values[:, :30])
    haar, gaussian = (ba.match(x, x, rotation=r, random_state=0).baseline.mean().item() for r in ("haar", "gaussian"))
    assert haar == pytest.approx(gaussian, abs=0.05)


def test_degenerate_neuroids_match_none():
    values = np.random.default_rng(0).normal(size=(40, 4))
    values[:, 1] = 0.1
    x, y = recorded(values), recorded(values[:, ::-1], "b")
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 4 neuroids of the source are constant or NaN, and match none: 'a1'"):
        out = ba.match(x, y, n_permutations=9, one_to_one=True, random_state=0)
    assert out.match.values.tolist() == ["b3", "", "b1", "b0"]
    assert out.partner.values.tolist() == ["b3", "", "b1", "b0"]
    assert out.status.values[1] == "undefined"
    assert np.isnan(out.p_value[1])
    assert np.isfinite(out.baseline.values[[0, 2, 3]]).all()


def test_bad_input_is_named(values):
    x = recorded(values)
    with pytest.raises(ParameterError, match="'max_memory' parameter of match is 1,000 bytes"):
        ba.match(x, x, max_memory=1000)
    with pytest.raises(ParameterError, match="empty dict of targets"):
        ba.match(x, {})
    with pytest.raises(SchemaError, match="a target whose 50 neuroids are all constant or NaN"):
        ba.match(x, x.copy(data=np.ones_like(x.values)))
    with pytest.raises(SchemaError, match="2 shared stimuli"):
        ba.match(x[:2], x)
    both = recorded(values[:20], stimulus_id=[*range(10)] * 2, subject=np.repeat(["s1", "s2"], 10))
    with pytest.raises(SchemaError, match="match got stimuli that several subjects saw, 's1', 's2'"):
        ba.match(x, both)

"""coverage: what was counted scores 1, counts add up, and what lies elsewhere scores low."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import AlignmentError


def recorded(values, **options):
    return ba.responses(
        values,
        stimulus_id=[f"s{i}" for i in range(len(values))],
        neuroid_id=range(values.shape[1]),
        modality="ann",
        system="net",
        **options,
    )


@pytest.fixture
def x():
    return recorded(np.random.default_rng(0).normal(size=(80, 6)))


def test_what_was_counted_scores_one_and_a_constant_neuroid_covers_one_bin(x):
    x = x.copy(data=np.where(np.arange(6) == 2, 5.0, x.values).astype("float32"))
    out = ba.neurons.coverage(x, new=x, n_bins=20)
    assert out.score.values == pytest.approx(1.0)
    assert out.coverage[2].item() == pytest.approx(1 / 20)
    assert (out["count"].sum("bin") == 80).all()


@pytest.mark.parametrize("transform", ["normal", "sigmoid"])
def test_parts_add_up(x, transform):
    first = ba.neurons.coverage(x[:30], transform=transform)
    both = ba.neurons.coverage(x[30:], onto=first)
    assert (both["count"].sum("bin") == 80).all()
    if transform == "sigmoid":
        whole = ba.neurons.coverage(x, transform=transform)
        np.testing.assert_array_equal(both["count"], whole["count"])
        np.testing.assert_array_equal(both.coverage, whole.coverage)


def test_other_distributions_score_low(x):
    usual = recorded(np.random.default_rng(1).normal(size=(50, 6)))
    for odd in (usual + 3, usual * 4):
        low, high = (
            ba.neurons.coverage(x, new=y, n_bins=20, least=2).score.values for y in (odd.assign_attrs(usual.attrs), usual)
        )
        assert np.mean(low[:, None] < high) + 0.5 * np.mean(low[:, None] == high) > 0.85


def test_times_are_presentations(x):
    deep = recorded(np.stack([x.values, x.values + 1], axis=2), time=[0.0, 0.1])
    out = ba.neurons.coverage(deep, new=deep[:5])
    assert out.score.dims == ("presentation", "time")
    assert (out["count"].sum("bin") == 160).all()


def test_nan_neuroids_are_left_out_and_named(x):
    x = x.assign_attrs(allow_nan=True).copy(deep=True)
    x.values[0, 3] = np.nan
    out = ba.neurons.coverage(x, new=x[1:])
    assert out.status.values[3] == "nan"
    assert np.isnan(out.coverage[3])
    assert out.score.values == pytest.approx(1.0)


def test_other_neuroids_are_refused(x):
    with pytest.raises(AlignmentError, match="new= with other neuroids"):
        ba.neurons.coverage(x, new=x[:, ::-1])
    with pytest.raises(AlignmentError, match="onto= with other neuroids"):
        ba.neurons.coverage(x[:, :3], onto=ba.neurons.coverage(x))

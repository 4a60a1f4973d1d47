"""tuning: von Mises cells, noise, orientations, and what has no index."""

import numpy as np
import pytest
from scipy.special import iv

import brainalign as ba
from brainalign.core.errors import ParameterError

DEGREES = np.tile(np.arange(0, 360, 22.5), 10)


def recorded(values, degrees=DEGREES, **options):
    return ba.responses(
        values,
        stimulus_id=[f"{d:g}" for d in degrees],
        neuroid_id=range(values.shape[1]),
        modality="spikes",
        system="m",
        presentation={"deg": degrees},
        **options,
    )


def cells(noise=0.2, seed=0):
    """One tuned to an orientation (60 degrees), one to a direction (200), one untuned, one that is driven by nothing."""
    angle = np.deg2rad(DEGREES)[:, None]
    rate = np.hstack(
        [
            np.exp(2 * (np.cos(2 * (angle - np.pi / 3)) - 1)),
            np.exp(2 * (np.cos(angle - np.deg2rad(200)) - 1)),
            np.ones_like(angle),
            -np.ones_like(angle),
        ]
    )
    return rate + noise * np.random.default_rng(seed).normal(size=rate.shape)


def test_tuned_cells_are_described():
    out = ba.neurons.tuning(recorded(cells()), "deg", n_permutations=199, n_bootstraps=100, random_state=0)
    assert out.score.dims == ("tuning", "neuroid")
    orientation, direction = out.sel(tuning="orientation"), out.sel(tuning="direction")
    assert orientation.score[0].item() == pytest.approx(iv(1, 2) / iv(0, 2), abs=0.05)
    assert direction.score[1].item() == pytest.approx(iv(1, 2) / iv(0, 2), abs=0.05)
    assert orientation.preferred_deg[0].item() == pytest.approx(60, abs=4)
    assert direction.preferred_deg[1].item() == pytest.approx(200, abs=6)
    assert (out.p_value_max.values <= 0.05).tolist() == [[True, True, False, False], [False, True, False, False]]
    assert out.fit_preferred_deg[0].item() % 180 == pytest.approx(60, abs=5)
    wanted = np.rad2deg(np.arccos(1 + np.log((1 + np.exp(-4)) / 2) / 2))
    assert out.half_width_deg[1].item() == pytest.approx(wanted, abs=8)
    assert (orientation.ci_low[0] < orientation.score[0] < orientation.ci_high[0]).item()
    assert out.status.values.tolist() == ["ok", "ok", "ok", "silent"]
    assert np.isnan(out.score.values[:, 3]).all()
    assert (out.chance.values[:, 2] < 0.1).all()


@pytest.mark.parametrize("kappa", [1.0, 2.0, 4.0])
def test_index_without_noise_is_that_of_the_curve(kappa):
    x = recorded(np.exp(kappa * (np.cos(2 * np.deg2rad(DEGREES[:, None] - 30)) - 1)))
    assert ba.neurons.tuning(x, "deg").score[0, 0].item() == pytest.approx(iv(1, kappa) / iv(0, kappa), abs=0.02)


def test_orientations_have_no_direction():
    half = DEGREES % 180
    out = ba.neurons.tuning(recorded(cells()[:, :1], half), "deg", period=180)
    assert out.tuning.values.tolist() == ["orientation"]
    assert out.fit_preferred_deg.item() == pytest.approx(60, abs=4)
    assert "fit_opposite" not in out


def test_time_and_lazy_blocks():
    values = np.stack([np.random.default_rng(1).normal(size=cells().shape), cells()], axis=2)
    x = recorded(values, time=[0.0, 0.1])
    out = ba.neurons.tuning(x, "deg", n_permutations=19, random_state=0)
    lazy = ba.neurons.tuning(x.chunk({"neuroid": 1}), "deg", n_permutations=19, random_state=0)
    assert out.response.dims == ("angle", "neuroid", "time")
    assert out.response.shape == (16, 4, 2)
    for name in ("score", "p_value_max", "half_width_deg"):
        np.testing.assert_allclose(out[name], lazy[name])
    late = ba.neurons.tuning(x[:, :, 1].drop_vars("time"), "deg")
    np.testing.assert_allclose(out.score[..., 1], late.score)


def test_mean_and_error_are_those_of_the_trials():
    values = cells()
    out = ba.neurons.tuning(recorded(values), "deg")
    some = values[DEGREES == 45.0].astype("float32")
    np.testing.assert_allclose(out.response.sel(angle=45.0), some.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(out.response_sem.sel(angle=45.0), some.std(axis=0, ddof=1) / np.sqrt(10), rtol=1e-4)


def test_bad_angles_are_named():
    x = recorded(cells())
    with pytest.raises(ParameterError, match=r"tuning got 15 angles in 'deg'.*evenly spaced over 360 degrees"):
        ba.neurons.tuning(x[DEGREES != 90.0], "deg")
    with pytest.raises(ParameterError, match="Expected numbers, in degrees"):
        ba.neurons.tuning(x, "stimulus_id")
    with pytest.raises(ParameterError, match="'period' parameter of tuning"):
        ba.neurons.tuning(x, "deg", period=90)
    with pytest.raises(ParameterError, match=r"tuning got 4 angles.*Expected 5 or more"):
        ba.neurons.tuning(x[DEGREES % 90 == 0], "deg")
    with pytest.raises(ParameterError, match="n_bootstraps=9 with a single presentation"):
        ba.neurons.tuning(x[:16], "deg", n_bootstraps=9)

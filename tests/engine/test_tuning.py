"""Angles: closed forms of von Mises units, planted curves, and widths."""

import numpy as np
import pytest
from scipy.special import iv

from brainalign.engine.tuning import Curves, circular_index, fit_curves, harmonic

ANGLES = np.deg2rad(np.arange(0, 360, 22.5))


@pytest.mark.parametrize("kappa", [0.5, 1.0, 2.0, 4.0])
def test_index_of_a_von_mises_unit_is_a_ratio_of_bessel_functions(kappa):
    orientation, direction = (np.exp(kappa * np.cos(k * (ANGLES - 0.7)))[:, None] for k in (2, 1))
    wanted = iv(1, kappa) / iv(0, kappa)
    assert circular_index(orientation, ANGLES, 2) == pytest.approx(wanted, abs=2e-3)
    assert circular_index(direction, ANGLES, 1) == pytest.approx(wanted, abs=2e-3)
    assert circular_index(orientation, ANGLES, 1) == pytest.approx(0, abs=1e-12)


def test_negative_responses_count_as_none_and_silence_has_no_index():
    assert circular_index(
        np.array([[3.0, -1.0], [-9.0, -1.0], [-2.0, 0.0], [-1.0, -1.0]]), ANGLES[::4], 1
    ).tolist() == pytest.approx([1.0, np.nan], nan_ok=True)


def test_phase_of_a_harmonic():
    assert np.angle(harmonic(np.cos(2 * (ANGLES - 0.4)), ANGLES, 2)) == pytest.approx(0.8)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    n = 200
    height = rng.uniform(1, 3, n)
    return Curves(
        rng.uniform(0, 2 * np.pi, n),
        rng.uniform(0.5, 8, n),
        np.ones(n),
        rng.uniform(-1, 1, n),
        height,
        height * rng.uniform(0, 0.9, n),
    )


def test_curves_are_recovered(planted):
    found = fit_curves(planted.at(ANGLES), ANGLES)
    assert np.abs(np.angle(np.exp(1j * (found.preferred - planted.preferred)))).max() < 1e-3
    for name in ("kappa", "base", "height", "opposite"):
        np.testing.assert_allclose(getattr(found, name), getattr(planted, name), atol=0.02)
    assert found.r2.min() > 0.9999


def test_the_fit_is_the_least_of_squares(planted):
    """No worse than what a general optimiser finds from the truth, in noise."""
    from scipy.optimize import least_squares

    noisy = planted.at(ANGLES)[:, :8] + 0.5 * np.random.default_rng(1).normal(size=(len(ANGLES), 8))
    found = fit_curves(noisy, ANGLES)
    ours = np.square(found.at(ANGLES) - noisy).sum(axis=0)
    for k in range(8):

        def rest(p, k=k):
            return Curves(p[:1], np.exp(p[1]), p[1], p[2], p[3] + p[4], p[4]).at(ANGLES)[:, 0] - noisy[:, k]

        start = [planted.preferred[k], np.log(planted.kappa[k]), planted.base[k], 1.0, 0.5]
        bounds = ([-np.inf, np.log(0.2), -np.inf, 0, 0], [np.inf, np.log((16 / np.pi) ** 2), np.inf, np.inf, np.inf])
        assert ours[k] <= np.square(least_squares(rest, start, bounds=bounds).fun).sum() * (1 + 1e-3)


def test_half_width_is_where_the_curve_has_half_its_height():
    curves = Curves(np.zeros(3), np.array([0.5, 2.0, 20.0]), np.ones(3), np.zeros(3), np.ones(3), np.zeros(3))
    low, high = curves.at([np.pi])[0], curves.at([0.0])[0]
    for k, width in enumerate(curves.half_width):
        assert curves.at([width])[0, k] == pytest.approx((low[k] + high[k]) / 2)


def test_no_lobe_is_narrower_than_its_samples_tell():
    """A response to one direction alone, and to two neighbours alike: no peak of any height is put between them."""
    y = np.zeros((16, 2))
    y[4, 0] = y[[4, 5], 1] = 1.0
    found = fit_curves(y, ANGLES)
    assert (1 / np.sqrt(found.kappa) >= np.deg2rad(22.5) / 2 - 1e-9).all()
    assert found.at(np.linspace(0, 2 * np.pi, 200)).max() == pytest.approx(np.exp(0.5), abs=0.02)


def test_orientations_have_one_lobe():
    angles = np.deg2rad(np.arange(0, 180, 22.5))
    y = 1 + 2 * np.exp(3 * (np.cos(2 * angles - 1.0) - 1))
    found = fit_curves(y[:, None], 2 * angles, lobes=1)
    assert (found.preferred.item(), found.kappa.item(), found.opposite.item()) == pytest.approx((1.0, 3.0, 0.0), abs=0.01)


def test_a_flat_curve_has_no_fit():
    assert np.isnan(fit_curves(np.ones((16, 1)), ANGLES).kappa).all()

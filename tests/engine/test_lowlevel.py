"""Low-level features against closed forms: areas, gratings, tones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.engine.lowlevel import band_envelopes, gabor_energy, resized, shares

SIDE, CYCLES, ORIENTATIONS = 64, (4, 8), 8


def grating(cycles, angle_deg, phase=0.0, contrast=1.0):
    """Stripes of so many cycles across a square image; 0 degrees are vertical stripes, angles turn counter-clockwise."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    a = np.deg2rad(angle_deg)
    return contrast * np.cos(2 * np.pi * cycles * (np.cos(a) * x - np.sin(a) * y) + phase)


def channels(images):
    """Mean energy over places, (image, scale, orientation)."""
    energy = gabor_energy(np.asarray(images), CYCLES, ORIENTATIONS)
    parts = np.split(energy, [ORIENTATIONS * CYCLES[0] ** 2], axis=1)
    return np.stack([part.reshape(len(part), ORIENTATIONS, -1).mean(axis=2) for part in parts], axis=1)


@given(st.integers(1, 40), st.integers(1, 40))
def test_shares_keep_every_mean(n_from, n_to):
    weights = shares(n_from, n_to)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.sum(axis=0), n_to / n_from)


def test_resizing_averages_blocks_and_keeps_channels():
    images = np.random.default_rng(0).random((3, 8, 12, 3))
    small = resized(images, 4, 3)
    np.testing.assert_allclose(small, images.reshape(3, 4, 2, 3, 4, 3).mean(axis=(2, 4)))
    np.testing.assert_allclose(resized(small, 8, 12), np.repeat(np.repeat(small, 2, axis=1), 4, axis=2))


@pytest.mark.parametrize("scale", [0, 1])
@pytest.mark.parametrize("orientation", range(0, ORIENTATIONS, 2))  # the odd ones have no whole number of cycles
def test_a_grating_excites_its_own_channel_most(scale, orientation):
    angle = 180 * orientation / ORIENTATIONS
    energy = channels([grating(CYCLES[scale], angle)])[0]
    assert np.unravel_index(energy.argmax(), energy.shape) == (scale, orientation)
    if orientation % 4 == 0:
        assert energy.max() == pytest.approx(1.0, abs=1e-3)
    assert energy[1 - scale, orientation] < 0.6


@pytest.mark.parametrize("phase", [0.4, np.pi / 2, 2.0, np.pi])
def test_energy_knows_no_phase(phase):
    one, other = (gabor_energy(grating(8, 0, p)[None], CYCLES, ORIENTATIONS) for p in (0.0, phase))
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_energy_is_linear_in_contrast_and_blind_to_brightness():
    full, faint, bright = channels([grating(8, 90), grating(8, 90, contrast=0.25), 3 + grating(8, 90)])
    np.testing.assert_allclose(faint, full / 4, atol=1e-12)
    np.testing.assert_allclose(bright, full, atol=1e-12)
    np.testing.assert_allclose(channels(np.full((1, SIDE, SIDE), 0.7)), 0, atol=1e-12)


def test_energy_is_found_where_the_stripes_are():
    left = np.where(np.arange(SIDE) < SIDE // 2, grating(8, 0), 0.0)
    by_place = gabor_energy(left[None], (8,), 1).reshape(8, 8).mean(axis=0)
    assert by_place[1:3].min() > 0.9  # the edges blur into their neighbours
    assert by_place[5:7].max() < 0.1


def test_a_tone_is_loud_in_its_band_and_as_loud_as_it_is():
    rate, edges = 8000, np.array([100.0, 400.0, 1000.0, 3000.0])
    seconds = np.arange(2 * rate) / rate
    loudness = 1 + 0.5 * np.sin(2 * np.pi * 2 * seconds)
    sound = loudness * np.sin(2 * np.pi * 700 * seconds)
    starts = np.arange(0, 2 * rate, rate // 20)
    found = band_envelopes(sound, rate, edges, starts)
    truth = np.add.reduceat(loudness, starts) / (rate // 20)
    np.testing.assert_allclose(found[:, 1], truth, atol=1e-3)
    assert found[:, [0, 2]].max() < 0.02


def test_pieces_of_unequal_length_are_means_of_their_samples():
    sound = np.random.default_rng(0).normal(size=1001)
    whole = band_envelopes(sound, 1000, np.array([10.0, 400.0]), np.arange(1001))
    parts = band_envelopes(sound, 1000, np.array([10.0, 400.0]), np.array([0, 3, 500]))
    np.testing.assert_allclose(parts[:, 0], [whole[:3].mean(), whole[3:500].mean(), whole[500:].mean()])

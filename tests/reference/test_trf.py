"""Temporal response functions against MNE's receptive fields, segment by segment."""

import numpy as np
import pytest

import brainalign as ba

mne = pytest.importorskip("mne")
from mne.decoding import ReceptiveField, TimeDelayingRidge  # noqa: E402

RATE, N, SEGMENTS = 50.0, 120, 5


@pytest.fixture(scope="module")
def sides():
    """Segments (segment, sample, channel) of a stimulus and of a recording, and their rows with labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SEGMENTS, N, 3))
    y = np.stack([np.convolve(x[s, :, 0], [0, 1, 0.5])[:N] for s in range(SEGMENTS)])[..., None] + rng.normal(
        size=(SEGMENTS, N, 2)
    )
    return x, y, *(_rows(side) for side in (x, y))


def _rows(segments):
    values = segments.reshape(SEGMENTS * N, -1)
    run, onset = np.repeat([f"r{k}" for k in range(SEGMENTS)], N), np.tile(np.arange(N) / RATE, SEGMENTS)
    rows = ba.responses(values, stimulus_id=[f"{r}/{t:.2f}" for r, t in zip(run, onset, strict=True)], neuroid_id=range(values.shape[1]),
                        run=run, onset_s=onset, modality="eeg", system="s")  # fmt: skip
    return rows.copy(data=values)


def field(alpha, tmin, tmax, intercept=False, penalty="ridge"):
    ridge = TimeDelayingRidge(tmin, tmax, RATE, alpha=alpha, reg_type=(penalty, "ridge"), fit_intercept=intercept)
    return ReceptiveField(tmin, tmax, RATE, estimator=ridge, fit_intercept=intercept)


@pytest.mark.parametrize("window", [(0.0, 0.2), (-0.1, 0.1), (-0.2, -0.04), (0.04, 0.2)])
@pytest.mark.parametrize("penalty", ["ridge", "laplacian"])
def test_weights_and_predictions_are_those_of_mne(sides, window, penalty):
    x, y, source, target = sides
    theirs = field(3.0, *window, penalty=penalty).fit(x.transpose(1, 0, 2), y.transpose(1, 0, 2))
    ours = ba.TRF(*window, alphas=3.0, penalty=penalty, fit_intercept=False, dtype="float64").fit(source, target)
    np.testing.assert_allclose(ours.coef_.values, theirs.coef_.transpose(2, 1, 0), atol=1e-10)
    expected = theirs.predict(x.transpose(1, 0, 2)).transpose(1, 0, 2).reshape(SEGMENTS * N, -1)
    np.testing.assert_allclose(ours.predict(source).values, expected, atol=1e-10)


def test_means_come_off_as_in_mne_but_for_the_ends_of_runs(sides):
    """MNE leaves the lagged copies with the small means that the ends of a run give them."""
    x, y, source, target = sides
    theirs = field(3.0, 0.0, 0.1, intercept=True).fit(x.transpose(1, 0, 2) + 4, y.transpose(1, 0, 2))
    ours = ba.TRF(0.0, 0.1, alphas=3.0, dtype="float64").fit(source + 4, target)
    np.testing.assert_allclose(ours.coef_.values, theirs.coef_.transpose(2, 1, 0), atol=1e-4)


def test_leaving_each_segment_out_at_every_alpha(sides):
    x, y, source, target = sides
    alphas = [0.1, 10.0, 1000.0]
    error = np.zeros((3, 2))
    for left in range(SEGMENTS):
        kept = np.delete(np.arange(SEGMENTS), left)
        for k, alpha in enumerate(alphas):
            model = field(alpha, 0.0, 0.2).fit(x[kept].transpose(1, 0, 2), y[kept].transpose(1, 0, 2))
            error[k] += ((y[left] - model.predict(x[left][:, None])[:, 0]) ** 2).sum(axis=0)
    score = 1 - error / sum(((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in y)
    ours = ba.TRF(0.0, 0.2, alphas=alphas, cv=SEGMENTS, groups="run", fit_intercept=False, dtype="float64").fit(source, target)
    np.testing.assert_array_equal(ours.alpha_, np.array(alphas)[score.argmax(axis=0)])
    np.testing.assert_allclose(ours.cv_score_, score.max(axis=0), atol=1e-10)

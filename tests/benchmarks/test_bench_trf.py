"""Temporal response functions with 10 alphas, one segment left out at a time, against MNE's loop: CPU time, memory, the same scores."""

import tracemalloc
from statistics import median
from time import process_time

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.bench

RATE, SEGMENTS, ALPHAS = 100.0, 10, np.logspace(-1, 6, 10)
#: Bands of a spectrogram to EEG channels, and back to the envelope: (source, target) channels, window, samples a segment.
CASES = {"forward": ((16, 64), (0.0, 0.4), 1500), "backward": ((32, 1), (-0.25, 0.0), 1500)}


def sides(case):
    (p, t), (tmin, tmax), n = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SEGMENTS, n, p))
    lag = round((tmin + tmax) / 2 * RATE)
    y = np.roll(x, lag, axis=1) @ rng.normal(size=(p, t)) + 10 * rng.normal(size=(SEGMENTS, n, t))
    return x, y


def rows(segments):
    values = segments.reshape(-1, segments.shape[2])
    run, onset = np.repeat(np.arange(SEGMENTS), segments.shape[1]), np.tile(np.arange(segments.shape[1]) / RATE, SEGMENTS)
    made = ba.responses(values, stimulus_id=[f"s{i}" for i in range(len(values))], neuroid_id=range(values.shape[1]), run=run.astype(str),
                        onset_s=onset, modality="eeg", system="s")  # fmt: skip
    return made.copy(data=values)


def loop_of_mne(x, y, window, leaving):
    """Return Σ(y−ŷ)² over some held-out segments, (alpha, target)."""
    from mne.decoding import ReceptiveField, TimeDelayingRidge

    x, y, error = x.transpose(1, 0, 2), y.transpose(1, 0, 2), 0
    for left in leaving:
        kept = np.delete(np.arange(SEGMENTS), left)
        fits = [
            ReceptiveField(
                *window, RATE, estimator=TimeDelayingRidge(*window, RATE, alpha=a, fit_intercept=False), fit_intercept=False
            )
            for a in ALPHAS
        ]
        predicted = [fit.fit(x[:, kept], y[:, kept]).predict(x[:, [left]])[:, 0] for fit in fits]
        error = error + np.square(y[:, left] - np.stack(predicted)).sum(axis=1)
    return error


def cpu_seconds(function, into):
    start = process_time()
    result = function()
    into.append(process_time() - start)
    return result


@pytest.mark.parametrize("case", CASES)
def test_trf_of_10_alphas_leaving_each_segment_out(benchmark, case):
    mne = pytest.importorskip("mne")
    mne.set_log_level("error")
    x, y = sides(case)
    window, source, target = CASES[case][1], rows(x), rows(y)
    ours, theirs, fitted, errors = [], [], [], []
    model = ba.TRF(*window, alphas=ALPHAS, cv=SEGMENTS, groups="run", fit_intercept=False, dtype="float64")
    loop_of_mne(x[:, :100], y[:, :100], window, [0])  # what is measured is no compilation
    halves = iter((range(5), range(5, SEGMENTS)))  # a round of ours after each half of theirs

    def peer():
        errors.append(cpu_seconds(lambda: loop_of_mne(x, y, window, next(halves)), theirs))

    benchmark.pedantic(lambda: fitted.append(cpu_seconds(lambda: model.fit(source, target), ours)), setup=peer, rounds=2)
    tracemalloc.start()
    model.fit(source, target)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    total = sum(np.square(part - part.mean(axis=0)).sum(axis=0) for part in y)
    scores = 1 - sum(errors) / total
    k = len(model.lags_s_) * x.shape[2]
    benchmark.extra_info |= {
        "target": "25 times fewer CPU seconds than MNE",
        "ratio, interleaved, CPU time": round(sum(theirs) / median(ours), 1),
        "CPU seconds of MNE": round(sum(theirs), 1),
        "peak MB": round(peak, 1),
        "MB of the lagged design": round(k * x.shape[0] * x.shape[1] * 8 / 2**20, 1),
        "MB of its Gram matrix": round(k * k * 8 / 2**20, 1),
    }
    np.testing.assert_array_equal(model.alpha_, ALPHAS[scores.argmax(axis=0)])
    np.testing.assert_allclose(model.cv_score_, scores.max(axis=0), atol=1e-10)

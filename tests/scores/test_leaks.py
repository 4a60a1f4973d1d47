"""Every row of the table of mistakes is a test: the mistake raises, scores at its null, or is named in the report.

:data:`ROWS` says which test holds each row. Of parts that are not built yet:

- augmentation that breaks retinotopy: no readout that is trained on augmented images exists, and none of ours augments.
"""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import SGDRegressor

import brainalign as ba
from brainalign.core.provenance import write_step
from brainalign.reports.diagnoses import diagnose

TESTS = Path(__file__).parents[1]
#: The mistake, and the test that shows it.
ROWS = {
    "shuffled K-fold on autocorrelated data": "scores/test_mistakes.py::test_shuffled_folds_of_a_recording_in_time_are_refused",
    "repeats of one image in train and test": "scores/test_mistakes.py::test_repeats_of_a_stimulus_stay_on_one_side",
    "best layer picked on the test set": "scores/test_leaks.py::test_best_layer_picked_on_the_test_set",
    "feature selection outside CV": "scores/test_mistakes.py::test_selection_scaling_and_reduction_live_in_the_fold",
    "selecting voxels by the score then averaging it": "scores/test_leaks.py::test_selecting_voxels_by_the_score_then_averaging_it",
    "concatenating fold predictions": "scores/test_mistakes.py::test_predictions_of_different_folds_are_not_concatenated",
    "fixed alpha across layers": "scores/test_mistakes.py::test_width_does_not_rank_layers",
    "alpha at the boundary": "reports/test_diagnoses.py::test_alphas_at_the_edge_of_their_grid_are_counted",
    "delays across runs": "scores/test_mistakes.py::test_delays_do_not_cross_runs",
    "Lanczos as an average": "scores/test_mistakes.py::test_a_lanczos_sum_carries_the_word_rate_and_a_mean_does_not",
    "ddof mismatch in r": "scores/test_mistakes.py::test_a_perfect_prediction_has_r_1",
    "alpha against alpha squared": "models/test_ridge.py::test_equal_to_sklearn_at_one_alpha",
    "r / ceiling unit mix": "scores/test_mistakes.py::test_r_and_r2_are_divided_by_their_own_ceiling",
    "uneven halves with Spearman-Brown": "scores/test_mistakes.py::test_three_repeats_are_not_split_one_against_two",
    "mean of per-voxel ratios": "scores/test_mistakes.py::test_normalised_scores_are_ratios_of_means",
    "max over animal pairs as ceiling": "scores/test_consistency.py::test_the_mean_over_pairs_or_together_and_never_the_best",
    "p = 0 from finite permutations": "engine/test_resample.py::test_p_is_counted_and_never_zero",
    "unblocked null": "scores/test_inference.py::test_exchanging_rows_in_time_is_refused",
    "misaligned presentations": "scores/test_mistakes.py::test_sides_in_another_order_are_joined_by_name",
    "untrained net forgotten": "scores/test_leaks.py::test_untrained_net_forgotten",
    "test set used to tune betas": "scores/test_leaks.py::test_test_set_used_to_tune_betas",
    "test set used to stop training": "scores/test_leaks.py::test_test_set_used_to_stop_training",
    "massive-activation units drive RDMs": "scores/test_leaks.py::test_massive_activation_units_drive_rdms",
    "chunk size changes results": "scores/test_mistakes.py::test_chunks_change_no_number",
    "unseeded defaults": "scores/test_mistakes.py::test_every_drawn_seed_is_kept_and_gives_the_result_again",
    "one content under two names on both sides": "scores/test_leaks.py::test_one_content_under_two_names_on_both_sides",
}
FIXED = ba.Ridge(alphas=[10.0], dtype="float64")


def recording(values, *, system="sub-01", modality="fmri", **labels):
    ids = labels.pop("stimulus_id", [f"s{i:04d}" for i in range(len(values))])
    return ba.responses(
        np.asarray(values, np.float32),
        stimulus_id=ids,
        neuroid_id=np.arange(values.shape[1]),
        modality=modality,
        system=system,
        **labels,
    )


def network(values, **labels):
    return recording(values, system="net", modality="ann", **labels)


def score(x, y, **options):
    """Evaluate alone: controls are looked at where they matter."""
    return ba.evaluate(x, y, **{"model": FIXED, "controls": "none", "random_state": 0, **options})


def mean(result):
    return float(result.score.mean())


@pytest.mark.parametrize("mistake", ROWS)
def test_every_row_of_the_table_has_its_test(mistake):
    file, _, name = ROWS[mistake].partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# Selection ----------------------------------------------------------------------------------------------------------


def test_best_layer_picked_on_the_test_set():
    """24 layers of noise, 50 tested presentations: the best of them looks like a finding, and is gone on other presentations."""
    rng = np.random.default_rng(0)
    y = recording(rng.normal(size=(150, 60)), region="V1")
    x = network(rng.normal(size=(150, 24 * 8)), layer=np.repeat([f"layer{i}" for i in range(24)], 8))
    layers = [x[:, x.layer.values == f"layer{i}"] for i in range(24)]
    folds = ba.split(y, n_splits=3, random_state=0)
    by_fold = np.stack([score(layer, y, cv=folds).score_by_fold for layer in layers])
    first, second = by_fold[:, 0], by_fold[:, 1]
    best = first.argmax(axis=0)
    assert first[best, np.arange(60)].mean() > 0.22
    assert second[best, np.arange(60)].mean() > 0.08  # another fold of the same split helps little: it trained on the first
    inner = np.stack([score(layer[:100], y[:100]).score for layer in layers])
    outer = np.stack([score(layer, y, cv=ba.split(y, test=y.stimulus_id.values[100:])).score for layer in layers])
    best = inner.argmax(axis=0)
    assert inner[best, np.arange(60)].mean() > 0.15
    assert abs(outer[best, np.arange(60)].mean()) < 0.05
    grid = ba.compare(x, y, by=("layer", "region"), cv=folds, controls="none")
    assert grid.sizes["source_layer"] == 24  # all of them are in the result
    assert grid.attrs["choice"] == "held out"
    assert abs(float(grid.score_of_chosen[0])) < 0.05
    fixed = ba.compare(x[:, :24], y, by=("layer", "region"), model=FIXED, cv=folds, controls="none")
    assert any("best layer of each target is not held out" in note for note in diagnose(fixed))


def test_selecting_voxels_by_the_score_then_averaging_it():
    """Picked by their score, voxels of noise have one; picked by their reliability, they have none."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(60, 400)) * (np.arange(400) % 2)  # half of them answer to the stimuli, none to the network
    trials = np.repeat(truth, 4, axis=0) + rng.normal(size=(240, 400))
    y = recording(trials, stimulus_id=np.repeat([f"s{i:04d}" for i in range(60)], 4), region="V1")
    out = score(network(rng.normal(size=(60, 10))), y, ceiling="repeat")
    scores = out.score.values
    assert scores[scores > 0.1].mean() > 0.15
    assert abs(mean(out)) < 0.03
    [kept] = ba.reports.summary(out, floor=0.3).to_dict("records")
    assert 150 < kept["n_reliable"] < 260
    assert abs(kept["normalized"]) < 0.05


def test_one_content_under_two_names_on_both_sides():
    rng = np.random.default_rng(2)
    values, noise = np.repeat(rng.normal(size=(40, 60)), 2, axis=0), np.repeat(rng.normal(size=(40, 20)), 2, axis=0)
    x, y = network(values), recording(noise + 0.3 * rng.normal(size=(80, 20)))
    y = y.assign_coords(content=("presentation", np.repeat([f"image{i}" for i in range(40)], 2)))
    wrong, right = score(x, y), score(x, y, cv=ba.split(y, by="content", n_splits=5, random_state=0))
    assert mean(wrong) > 0.5
    assert abs(mean(right)) < 0.12
    known = [json.loads(out.attrs["report"])["source_facts"]["n_known"] for out in (wrong, right)]
    assert known[0] > 50
    assert known[1] == 0
    said = f"{known[0]} tested presentations have exactly the source responses of a training presentation"
    assert any(said in note for note in diagnose(wrong))


def test_untrained_net_forgotten():
    """A network that never learned predicts what a trained one drives: only beside it does a score say anything of learning."""
    import torch

    rng, n = np.random.default_rng(9), 150
    smooth = np.abs(
        np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, 16, 16))) / (1 + np.hypot(*np.meshgrid(*[np.fft.fftfreq(16) * 16] * 2))))
    )
    images = ba.stimuli.table(
        smooth[:, None].astype(np.float32), stimulus_id=[f"s{i:04d}" for i in range(n)], kind="array", dims=("channel", "y", "x")
    )
    torch.manual_seed(0)
    parts = [torch.nn.Conv2d(1, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU()]
    responder = ba.TorchResponder(torch.nn.Sequential(*parts), layers="3", system="net")
    trained = ba.record(responder, images, progress=False)
    signal = trained.values @ rng.normal(size=(trained.sizes["neuroid"], 20))
    signal = signal / signal.std(axis=0)
    y = recording(signal + rng.normal(size=signal.shape))
    found = ba.controls(images, responder=responder, random_state=0, progress=False)
    untrained = [mean(score(found[f"untrained-{i}"], y, model=None)) for i in range(3)]
    assert min(untrained) > 0.1
    assert np.ptp(untrained) > 0  # three seeds, three scores
    out = ba.evaluate(trained, y, controls=found, random_state=0)
    np.testing.assert_allclose(out.score_control.sel(control="untrained").mean(), np.mean(untrained), atol=1e-5)
    assert float(out.score_minus_best_control.mean()) < mean(out) - 0.1
    assert any("No untrained network was given" in note for note in diagnose(score(trained, y, controls=["shuffled"])))


# What was decided on what -------------------------------------------------------------------------------------------


def test_test_set_used_to_tune_betas():
    """GLMsingle tunes on repeats of all presentations, and says nothing of it in its files; the result does."""
    rng = np.random.default_rng(3)
    y = write_step(recording(rng.normal(size=(30, 4))), "open:glmsingle")
    out = score(network(rng.normal(size=(30, 12))), y)
    (entry,) = (d for d in json.loads(out.attrs["report"])["decisions"] if "betas" in d["decision"])
    assert entry["decision"].endswith("of the target")
    assert entry["data"] == "repeats of all presentations"
    assert entry["held_out"] is False


def test_test_set_used_to_stop_training():
    """An estimator that stops early gets training rows only, and the result says on which of them it stopped."""
    rng = np.random.default_rng(4)
    x, y = network(rng.normal(size=(60, 12))), recording(rng.normal(size=(60, 1)))
    seen = []

    class Watched(SGDRegressor):
        def fit(self, X, Y):
            seen.append(len(X))
            return super().fit(np.asarray(X), np.asarray(Y).ravel())

    stopper = Watched(early_stopping=True, validation_fraction=0.25, random_state=0)
    out = score(x, y, model=stopper, cv=3)
    assert seen == [40, 40, 40]
    assert json.loads(out.attrs["report"])["decisions"][0]["data"] == "a share of 0.25 of the training presentations"


# Geometry -----------------------------------------------------------------------------------------------------------


def upper(matrix):
    return np.asarray(matrix)[np.triu_indices(len(matrix), 1)]


def test_massive_activation_units_drive_rdms():
    rng = np.random.default_rng(5)
    clean = network(rng.normal(size=(50, 30)))
    values = clean.values.copy()
    values[:, 7] *= 300
    x = network(values)
    loud, alone, quiet = (upper(ba.rdm(r, metric="euclidean")) for r in (x, x[:, [7]], clean))
    assert np.corrcoef(loud, alone)[0, 1] > 0.99
    assert abs(np.corrcoef(loud, quiet)[0, 1]) < 0.3
    assert any("1 feature is over 100 times as large" in note for note in diagnose(x))
    scaled = upper(ba.rdm(ba.ZScore().transform(x), metric="euclidean"))
    assert np.corrcoef(scaled, quiet)[0, 1] > 0.95


def test_the_larger_of_two_features_is_what_a_geometry_is_like():
    """Two features that are read out equally well, one with ten times the variance: a geometry follows that one alone."""
    rng = np.random.default_rng(6)
    large, small = rng.normal(size=(2, 120, 1))
    carriers = np.linalg.qr(rng.normal(size=(20, 20)))[0][:2]  # orthogonal, over all neuroids
    x = network(np.sqrt(10) * large @ carriers[:1] + small @ carriers[1:] + 1e-3 * rng.normal(size=(120, 20)))
    for feature in (large, small):
        assert mean(score(x, recording(np.tile(feature, 2)), model=ba.Ridge(alphas=[1e-6], dtype="float64"))) > 0.99
    alike = [np.corrcoef(upper(ba.rdm(x, metric="euclidean")), upper(np.abs(f - f.T)))[0, 1] for f in (large, small)]
    assert alike[0] > 0.9
    assert alike[1] < 0.3
    assert any(note.startswith("One direction holds 9") for note in diagnose(x))
    components = ba.Reduce(2, random_state=0).fit_transform(x)
    white = upper(ba.rdm(components / components.std("presentation"), metric="euclidean"))
    fair = [np.corrcoef(white, upper(np.abs(f - f.T)))[0, 1] for f in (large, small)]
    assert abs(fair[0] - fair[1]) < 0.05


# Published shapes ---------------------------------------------------------------------------------------------------


def autoregressive(rng, n_rows, width, phi):
    noise = rng.normal(size=(n_rows + 300, width))
    return lfilter([1.0], [1.0, -phi], noise, axis=0)[300:] * np.sqrt(1 - phi**2)


def test_neighbours_in_time_beat_a_language_model_where_folds_are_shuffled():
    """An account of nothing but when a volume was recorded: best of all under shuffled folds, nothing under contiguous ones."""
    rng = np.random.default_rng(7)
    n, v = 400, 30
    time = {"onset_s": 2.0 * np.arange(n), "run": "1"}
    language = autoregressive(rng, n, 20, 0.7)
    signal = language @ rng.normal(size=(20, v)) / np.sqrt(20)
    y = recording(0.5 * signal + autoregressive(rng, n, v, 0.9), **time)
    lm = network(language, **time)
    place = np.exp(-0.5 * ((np.arange(n)[:, None] - np.arange(n)) / 2.0) ** 2)
    when = network(place, **time)
    shuffled = ba.split(y, n_splits=5, shuffle=True, random_state=0, force=True)
    scores = {
        name: [mean(score(x, y, model=None, cv=folds)) for folds in (shuffled, None)] for name, x in (("lm", lm), ("when", when))
    }
    assert scores["when"][0] > scores["lm"][0] + 0.1
    assert abs(scores["when"][1]) < 0.1
    assert scores["lm"][1] > 0.25


def test_constant_features_score_as_a_language_model_where_delays_are_padded():
    rng = np.random.default_rng(8)
    n, n_runs, v = 100, 6, 40
    rows = n * n_runs
    time = {"onset_s": np.tile(2.0 * np.arange(n), n_runs), "run": np.repeat([str(r) for r in range(n_runs)], n)}
    language = rng.normal(size=(rows, 10))
    onset = np.tile(1.2 * np.exp(-np.arange(n) / 2), n_runs)[:, None]  # a scanner takes a moment to settle
    y = recording(onset + 0.1 * language @ rng.normal(size=(10, v)) + rng.normal(size=(rows, v)), **time)
    delays, folds = ba.Delay([2, 4, 6, 8]), ba.split(y)
    by_hand = {}
    for name, values in (("lm", language), ("constant", np.ones((rows, 3)))):
        padded = delays.fit_transform(network(values, **time)).values
        padded = np.column_stack([values, padded]) if name == "lm" else padded
        parts = [SklearnRidge(10.0).fit(padded[f.train], y.values[f.train]).predict(padded[f.test]) for f in folds.on(y)]
        truth = [y.values[f.test] for f in folds.on(y)]
        by_hand[name] = np.mean(
            [np.corrcoef(p[:, i], t[:, i])[0, 1] for p, t in zip(parts, truth, strict=True) for i in range(v)]
        )
    assert by_hand["constant"] > 0.5 * by_hand["lm"] > 0.03
    ours = score(network(np.ones((rows, 3)), **time), y, model=ba.chain(delays, FIXED), cv=folds)
    assert ours.score.isnull().all()

"""Decoding over time: planted windows and codes found, noise left alone, one call for brains and networks, and what is refused."""

import json

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import CapabilityError, LeakWarning, ParameterError, SplitError

N, C, T = 60, 10, 12
KIND = np.repeat(["face", "house"], N // 2)
SIGN = np.where(KIND == "house", 1.0, -1.0)
RIDGE = ba.Classifier("ridge")


def epochs(values, condition=KIND, ids=None, modality="meg", **labels):
    ids = [f"s{i:03d}" for i in range(len(values))] if ids is None else ids
    return ba.responses(
        values,
        stimulus_id=ids,
        neuroid_id=range(values.shape[1]),
        time=np.arange(values.shape[2]) / 100,
        modality=modality,
        system="x",
        condition=condition,
        **labels,
    )


def noise(seed=0, n=N):
    return np.random.default_rng(seed).normal(size=(n, C, T))


def windowed(strength=1.0, seed=0):
    x = noise(seed)
    x[:, 2, 5:9] += strength * SIGN[:, None]
    return x


@pytest.mark.parametrize(("model", "n"), [("lda", 39), ("ridge", 99)])
def test_a_planted_window_is_found_and_nothing_before_it(model, n):
    out = ba.decode_time(
        epochs(windowed()), "condition", model=ba.Classifier(model), n_permutations=n, clusters="mass", random_state=0
    )
    planted = np.isin(np.arange(T), range(5, 9))
    assert (out.p_value_max.values[planted] == 1 / (n + 1)).all()
    assert (out.p_value_max.values[~planted] > 0.03).all()
    assert (out.p_value_cluster.values[planted] == 1 / (n + 1)).all()
    assert out.score.values[planted].min() > 0.75
    assert (out.attrs["metric"], float(out.chance), int(out.n_presentations)) == ("auc", 0.5, N)
    assert out.score.attrs["units"] == "area under the ROC curve"


def test_a_sustained_code_gives_a_square_and_a_rotating_one_a_diagonal():
    codes = np.random.default_rng(1).normal(size=(C, T))
    for code, least, most in ((np.repeat(codes[:, :1], T, axis=1), 0.95, 1.0), (codes, 0.0, 0.8)):
        out = ba.decode_time(epochs(noise() + SIGN[:, None, None] * code), "condition", generalize=True, random_state=0)
        assert out.score.dims == ("train_time", "test_time")
        off = out.score.values[~np.eye(T, dtype=bool)]
        assert np.diagonal(out.score).min() > 0.95
        assert off.min() >= least
        assert np.abs(off - 0.5).mean() + 0.5 <= most


@pytest.mark.slow
def test_noise_passes_as_often_as_it_should():
    """200 data sets without an effect: any time, or any cluster, in about 5% of them (binomial band, 99.9%)."""
    passed, labels = np.zeros(3), np.tile(["a", "b"], 12)
    folds = ba.split(epochs(noise(n=24), labels), n_splits=3, stratify="condition", random_state=0)
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=(24, 6, 10)).cumsum(axis=2)[..., 2:]  # neighbours in time are alike
        ask = {"model": RIDGE, "cv": folds, "n_permutations": 39, "clusters": "mass", "random_state": seed}
        out = ba.decode_time(epochs(x, labels), "condition", **ask)
        passed += [out.p_value_max.min() <= 0.05, out.p_value_cluster.min() <= 0.05, out.p_value[3] <= 0.05]
    assert (passed <= 22).all()
    assert passed[0] >= 2


def test_clusters_without_a_threshold():
    out = ba.decode_time(epochs(windowed()), "condition", model=RIDGE, n_permutations=49, clusters="tfce", random_state=0)
    assert (out.p_value_cluster.values[5:9] == 0.02).all()
    assert (out.p_value_cluster.values[:4] > 0.05).all()


def test_more_classes_than_two():
    three = np.resize(["a", "b", "c"], N)
    x = noise()
    x[..., 6:] += 2 * np.random.default_rng(1).normal(size=(3, C))[np.arange(N) % 3][:, :, None]
    out = ba.decode_time(epochs(x, three), "condition", n_permutations=19, patterns=True, random_state=0)
    assert (out.attrs["metric"], float(out.chance)) == ("balanced-accuracy", pytest.approx(1 / 3))
    assert out.score.values[6:].min() > 0.9
    assert out.score.values[:6].max() < 0.6
    assert out.pattern.dims == ("class", "neuroid", "time")
    assert out["class"].values.tolist() == ["a", "b", "c"]


def test_patterns_lie_where_the_signal_is():
    out = ba.decode_time(epochs(windowed(2.0)), "condition", patterns=True, random_state=0)
    assert out["class"].values.tolist() == ["house"]
    inside = out.pattern.values[0, :, 6]
    assert inside[2] == inside.max() > 3 * np.abs(np.delete(inside, 2)).max()


def test_an_embedding_is_decoded_output_by_output():
    truth = np.random.default_rng(2).normal(size=(N, 4))
    truth[:, 3] = 1.0
    target = ba.responses(
        truth[::-1], stimulus_id=[f"s{i:03d}" for i in range(N)][::-1], neuroid_id=list("abcd"), modality="behaviour", system="e"
    )
    x = noise()
    x[:, :3, 7:] += 3 * truth[:, :3, None]
    for model in (ba.Ridge(cv=3, standardize="train"), ba.Ridge(alphas=[1.0], standardize="train")):
        out = ba.decode_time(epochs(x), target, model=model, n_permutations=19, random_state=0)
        assert out.attrs["metric"] == "pearson"
        assert out.output.values.tolist() == list("abcd")
        assert np.isnan(out.score_by_output[3]).all()
        assert out.status.values.tolist() == ["ok", "ok", "ok", "constant"]
        np.testing.assert_allclose(out.score, out.score_by_output[:3].mean("output"))
        assert out.score.values[7:].min() > 0.8
        assert (out.p_value_max.values < 0.06).tolist() == [False] * 7 + [True] * 5


def test_repeats_of_a_stimulus_move_together():
    """Eight stimuli, ten trials each, every stimulus with a field of its own: trials exchanged one by one would call that a class."""
    ids = np.repeat([f"s{i}" for i in range(8)], 10)
    passed = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = 3 * np.repeat(rng.normal(size=(8, C, 1)), 10, axis=0) + rng.normal(size=(80, C, 3))
        out = ba.decode_time(
            epochs(x, np.repeat(["a", "b"], 40), ids), "condition", model=RIDGE, cv=2, n_permutations=39, random_state=seed
        )
        passed.append(float(out.p_value_max.min()) <= 0.05)
    assert np.mean(passed) < 0.35


def test_which_of_two_stimuli_it_was_is_told_in_runs_that_were_left_out():
    """A stimulus is then on both sides, which must be asked for, and single trials change places."""
    x = epochs(windowed(), ids=KIND, run=np.tile(["1", "2", "3"], N // 3))
    folds = ba.split(x, by="run", force=True)
    out = ba.decode_time(x, "condition", cv=folds, model=RIDGE, n_permutations=49, random_state=0)
    assert (out.p_value_max.values < 0.05).tolist() == [5 <= t < 9 for t in range(T)]
    assert '"forced": true' in out.attrs["report"]


def test_across_conditions_and_not_by_heart():
    """The same stimuli seen and imagined: their class goes over from one to the other, and their field alone does not."""
    ids = np.tile([f"s{i:02d}" for i in range(N // 2)], 2)
    kind = np.tile(np.repeat(["face", "house"], N // 4), 2)
    run = np.repeat(["seen", "imagined"], N // 2)
    own = np.tile(np.random.default_rng(3).normal(size=(N // 2, C, 1)), (2, 1, 1))
    ask = dict(cv=3, train_on={"run": "seen"}, test_on={"run": ["imagined"]}, random_state=0)
    by_heart = ba.decode_time(epochs(noise() / 4 + 2 * own, kind, ids, run=run), "condition", **ask)
    assert int(by_heart.n_presentations) == N // 2
    assert by_heart.score.mean() < 0.75
    x = noise()
    x[:, 0] += 2 * (kind == "face")[:, None]
    assert ba.decode_time(epochs(x, kind, ids, run=run), "condition", **ask).score.mean() > 0.8
    with pytest.raises(ParameterError, match=r"run='sene', which no presentation has.*Did you mean 'seen'"):
        ba.decode_time(epochs(x, kind, ids, run=run), "condition", train_on={"run": "sene"})
    with pytest.raises(ParameterError, match="train_on and test_on got 'rn'"):
        ba.decode_time(epochs(x, kind, ids, run=run), "condition", train_on={"rn": "seen"})


def test_the_same_numbers_are_decoded_alike_from_a_brain_and_a_network():
    x = windowed()
    brain, network = (
        ba.decode_time(epochs(x, modality=modality), "condition", model=RIDGE, n_permutations=9, random_state=0)
        for modality in ("eeg", "ann")
    )
    np.testing.assert_array_equal(brain.score, network.score)
    np.testing.assert_array_equal(brain.p_value, network.p_value)
    both = ba.decode_time({"eeg": epochs(x), "rnn": epochs(x, modality="ann")}, "condition", model=RIDGE, random_state=0)
    assert both.score.dims == ("source", "time")
    np.testing.assert_array_equal(both.score[1], brain.score)
    assert ba.core.provenance(both).steps[-1]["verb"] == "decode_time"


def test_nothing_to_see_is_chance_and_no_failure():
    """The state of a recurrent network before its first input is zero in every trial."""
    x = windowed()
    x[..., 0] = 0.0
    for model in ("lda", "ridge"):
        out = ba.decode_time(
            epochs(x), "condition", model=ba.Classifier(model), n_permutations=9, clusters="mass", random_state=0
        )
        assert (float(out.score[0]), float(out.p_value[0]), float(out.p_value_cluster[0])) == (0.5, 1.0, 1.0)


def test_units_and_precision_change_nothing():
    wide = ba.decode_time(epochs(windowed()), "condition", random_state=0).score
    tesla = ba.decode_time(epochs(windowed() * 1e-13), "condition", random_state=0).score
    narrow = ba.decode_time(epochs(windowed() * 1e-13), "condition", dtype="float32", random_state=0).score
    np.testing.assert_allclose(tesla, wide, atol=0.005)  # the recording is kept in float32
    np.testing.assert_allclose(narrow, tesla, atol=0.005)


def test_presentations_in_time_are_shifted():
    x = epochs(
        windowed(), np.tile(["a", "b", "b", "a", "a"], N // 5), onset_s=np.arange(N) * 2.0, run=np.repeat(["1", "2"], N // 2)
    )
    out = ba.decode_time(x, "condition", model=RIDGE, n_permutations=19, random_state=0)
    assert out.attrs["null"] == "shift"
    with pytest.raises(SplitError, match="Expected null='shift'"):
        ba.decode_time(x, "condition", model=RIDGE, n_permutations=19, null="exchange")


def test_the_result_says_what_was_asked():
    step = ba.core.provenance(
        ba.decode_time(epochs(windowed()), "condition", random_state=3, test_on={"condition": ["face", "house"]})
    ).steps[-1]
    assert (step["verb"], step["seed"], step["params"]["target"], step["params"]["metric"]) == (
        "decode_time",
        3,
        "condition",
        "auc",
    )


def test_what_cannot_be_decoded_is_refused_with_the_reason():
    x, numbers = epochs(windowed()), ba.responses(noise()[:, :, 0], stimulus_id=[f"s{i:03d}" for i in range(N)], neuroid_id=range(C),
                                                  modality="behaviour", system="e")  # fmt: skip
    with pytest.raises(ParameterError, match=r"without time, decode with `ba.evaluate"):
        ba.decode_time(numbers, "condition")
    with pytest.raises(ParameterError, match="the same label in all presentations"):
        ba.decode_time(epochs(windowed(), np.repeat("a", N)), "condition")
    with pytest.raises(SplitError, match="occurs in 3 stimulus_id groups, fewer than the 5 folds"):
        ba.decode_time(epochs(windowed(), np.where(np.arange(N) < 3, "a", "b")), "condition")
    with pytest.raises(SplitError, match=r"is a single stimulus.*force=True"):
        ba.decode_time(epochs(windowed(), ids=KIND), "condition")
    with pytest.raises(SplitError, match="both sides"):
        ba.decode_time(
            epochs(windowed(), ids=np.tile(["a", "b"], N // 2), run=np.repeat(["1", "2", "3"], 20)), "condition", groups="run"
        )
    with pytest.raises(SplitError, match="training rows of fold 'b' have no 'face'"):
        ba.decode_time(epochs(windowed(), session=np.where(KIND == "house", "a", "b")), "condition", groups="session")
    with pytest.raises(SplitError, match="tests one class"):
        ba.decode_time(x, "condition", cv=ba.split(x, by="stimulus_id", n_splits=N))
    with pytest.raises(SplitError, match="tests one presentation"):
        ba.decode_time(x, numbers, cv=N)
    with pytest.raises(
        ParameterError, match="'metric' parameter of decode_time must be one of 'balanced-accuracy', 'accuracy' for 3 classes"
    ):
        ba.decode_time(epochs(windowed(), np.resize(["a", "b", "c"], N)), "condition", metric="auc")
    with pytest.raises(ParameterError, match="which predicts numbers"):
        ba.decode_time(x, "condition", model=ba.Ridge())
    with pytest.raises(ParameterError, match="which predicts labels"):
        ba.decode_time(x, numbers, model=ba.Classifier())
    with pytest.raises(ParameterError, match="Expected permutations"):
        ba.decode_time(x, "condition", clusters="mass")
    with pytest.raises(CapabilityError, match="patterns=True for"):
        ba.decode_time(x, "condition", model=ba.Classifier("logistic"), patterns=True)
    with pytest.raises(ParameterError, match="'n_bootstraps' parameter of decode_time must be an int"):
        ba.decode_time(x, "condition", n_bootstraps=-1)
    few = x[[0, 1, 2, 3, 30, 31, 32, 33]]  # two trials of each class to learn from: they mirror each other
    with pytest.raises(
        CapabilityError, match=r"covariance without an inverse.*use a penalty \(`ba.Classifier\('ridge', C=0.01\)`\)"
    ):
        ba.decode_time(few, "condition", cv=2)
    with pytest.raises(SplitError, match=r"3 values of stimulus_id for 5 folds\. Expected at least one for each"):
        ba.decode_time(x[:3], numbers[:3], cv=5)
    with pytest.raises(ParameterError, match="a target in time"):
        ba.decode_time(x, x)
    broken = x.copy(data=np.where(np.arange(C)[:, None] == 4, np.nan, x.values)).assign_attrs(allow_nan=True)
    with pytest.raises(ParameterError, match="NaN or infinity in 1 of 10 neuroids: 4"):
        ba.decode_time(broken, "condition")


def people(seed, n_people=12, n=30, strength=1.0):
    """Decode several people whose classes differ from 80 to 120 ms."""
    times, labels, found = np.arange(-5, 20) / 100, np.tile(["a", "b"], n // 2), {}
    inside = (times > 0.075) & (times < 0.125)
    for person in range(n_people):
        x = np.random.default_rng([seed, person]).normal(size=(n, 5, 25))
        x[:, :2] += strength * (labels == "b")[:, None, None] * inside
        recorded = epochs(x, labels)
        found[f"sub-{person:02d}"] = recorded.assign_coords(time=times)
    folds = ba.split(recorded, n_splits=5, stratify="condition", random_state=0)
    return ba.decode_time(found, "condition", model=RIDGE, cv=folds, random_state=seed), inside


def test_people_together_and_when_it_begins():
    out, inside = people(0)
    tested = ba.permutation_test(out, over="source", clusters="mass", n_permutations=499, random_state=0)
    assert tested.attrs["assumes"].endswith("as likely above chance as below")
    assert tested.p_value_cluster.dims == ("time",)
    assert (tested.p_value_cluster.values[inside] < 0.01).all()
    assert (tested.p_value_cluster.values[:11] > 0.05).all()
    when = ba.bootstrap(out, over="source", onset=0.5, random_state=0)
    assert float(when.onset_low) <= 0.08 <= float(when.onset_high) < 0.13
    assert 0.07 < float(when.peak) < 0.13
    assert when.onset.dims == ()
    against = ba.permutation_test(out, over="source", against=0.5, n_permutations=499, random_state=0)
    np.testing.assert_array_equal(against.p_value, tested.p_value)


@pytest.mark.parametrize("metric", ["auc", "pearson"])
@pytest.mark.parametrize("generalize", [False, True])
def test_stimuli_drawn_anew_move_scores_and_onsets(metric, generalize):
    target = "condition" if metric == "auc" else ba.responses(SIGN[:, None] + np.zeros(2), neuroid_id=["a", "b"], modality="behaviour", system="e",
                                                              stimulus_id=[f"s{i:03d}" for i in range(N)])  # fmt: skip
    model = RIDGE if metric == "auc" else ba.Ridge(alphas=[1.0], standardize="train")
    out = ba.decode_time(epochs(windowed()), target, model=model, generalize=generalize, n_bootstraps=50, random_state=0)
    assert out.score_bootstrap.dims == ("bootstrap", *out.score.dims)
    assert int(out.n_units) == N
    inside = out.isel({dim: slice(5, 9) for dim in out.score.dims})
    assert (inside.ci_low < inside.score).all()
    assert (inside.score < inside.ci_high).all()
    np.testing.assert_allclose(out.score_bootstrap.mean("bootstrap"), out.score, atol=0.1)
    if generalize:
        with pytest.raises(ParameterError, match="Expected a score over `time`"):
            ba.bootstrap(out, over="stimulus", onset=0.5)
    else:
        when = ba.bootstrap(out, over="stimulus", onset=0.5)
        assert float(when.onset_low) <= 0.05 <= float(when.onset_high) < 0.09


def covered(seeds, over):
    """Return how often the interval of the onset holds 80 ms: in all of 200 data sets of each kind."""
    hits = []
    for seed in seeds:
        if over == "source":
            out = people(seed)[0]
        else:
            n, times, labels = 60, np.arange(-5, 20) / 100, np.tile(["a", "b"], 30)
            x = np.random.default_rng(seed).normal(size=(n, 5, 25))
            x[:, :2] += 1.2 * (labels == "b")[:, None, None] * ((times > 0.075) & (times < 0.125))
            out = ba.decode_time(
                epochs(x, labels).assign_coords(time=times), "condition", model=RIDGE, n_bootstraps=200, random_state=seed
            )
        when = ba.bootstrap(out, over=over, onset=0.5, n_bootstraps=400, random_state=seed)
        hits.append(float(when.onset_low) <= 0.08 + 1e-9 and float(when.onset_high) >= 0.08 - 1e-9)
    return np.mean(hits)


@pytest.mark.slow
@pytest.mark.parametrize(("over", "n"), [("source", 5), ("stimulus", 20)])
def test_the_onset_at_80_ms_is_covered(over, n):
    assert covered(range(n), over) >= 0.95


@pytest.mark.slow
def test_an_effect_at_80_to_120_ms_is_covered():
    """By a cluster, in 95% of 40 data sets or more."""
    n, labels, times = 60, np.tile(["a", "b"], 30), np.arange(20) / 100
    inside, covered = (times > 0.075) & (times < 0.125), np.zeros(2)
    folds = ba.split(epochs(noise(n=n), labels), n_splits=5, stratify="condition", random_state=0)
    for seed in range(40):
        x = np.random.default_rng(seed).normal(size=(n, 8, 20))
        x[:, :3] += 1.2 * (labels == "b")[:, None, None] * inside
        ask = {"model": RIDGE, "cv": folds, "n_permutations": 99, "clusters": "mass", "random_state": seed}
        out = ba.decode_time(epochs(x, labels), "condition", **ask)
        covered += [(out.p_value_cluster.values[inside] <= 0.05).all(), (out.p_value_max.values[inside] <= 0.05).all()]
    assert covered[0] >= 38
    assert covered[1] <= covered[0]


def test_what_was_fitted_on_test_rows_by_hand_is_named():
    """Planted: channels scaled, or reduced, by statistics of all trials before any fold."""
    x = epochs(windowed())
    scaled = json.loads(ba.decode_time(ba.ZScore().fit_transform(x), "condition", random_state=0).attrs["report"])["decisions"]
    assert [d["by"] for d in scaled if not d["held_out"]] == ["ZScore"]
    rows = ba.responses(windowed().mean(axis=2), stimulus_id=x.stimulus_id, neuroid_id=range(C), modality="meg", system="x")
    target = ba.Reduce(2, random_state=0).fit_transform(rows)
    with pytest.warns(LeakWarning, match="target: Reduce was fitted on all presentations, test ones included"):
        ba.decode_time(x, target, model=ba.Ridge(alphas=[1.0], standardize="train"), random_state=0)

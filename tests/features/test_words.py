import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.protocols import PresentationStep
from brainalign.core.provenance import provenance
from brainalign.core.tables import presentation_table


def rows(values, prefix, **labels):
    values = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
    return ba.responses(
        values,
        stimulus_id=[f"{prefix}{i}" for i in range(len(values))],
        neuroid_id=range(values.shape[1]),
        modality="ann",
        system="net",
        presentation=labels,
    )


def words(onset, values=None, run="a", **more):
    onset = np.asarray(onset, dtype=float)
    values = np.arange(1, len(onset) + 1) if values is None else values
    return rows(values, "w", onset_s=onset, run=np.broadcast_to(run, len(onset)).astype(str), **more)


def volumes(n, tr=2.0, run="a", **more):
    return rows(np.zeros(n), "v", onset_s=np.arange(n) * tr, run=np.broadcast_to(run, n).astype(str), **more)


@pytest.mark.parametrize(("how", "wanted"), [("sum", [3, 7, 0, 5]), ("mean", [1.5, 3.5, 0, 5]), ("last", [2, 4, 0, 5])])
def test_by_hand_with_half_open_windows(how, wanted):
    x = words([0.0, 1.999, 2.0, 3.0, 6.5])
    out = ba.WordsToVolumes(how).transform(x, presentations=volumes(4))
    assert out.values.ravel().tolist() == wanted
    assert out.stimulus_id.values.tolist() == ["v0", "v1", "v2", "v3"]


def test_order_of_rows_does_not_matter():
    x, bold = words([0.5, 2.5, 2.7, 5.0]), volumes(3)
    out = ba.WordsToVolumes("last").transform(x[[2, 0, 3, 1]], presentations=bold[[2, 0, 1]])
    assert out.values.ravel().tolist() == [4, 1, 3]


def test_words_stay_in_their_run():
    x = words([0.5, 0.5, 0.5], run=["a", "b", "b"])
    bold = rows(np.zeros(3), "v", onset_s=[0.0, 0.0, 0.0], duration_s=[2.0] * 3, run=["b", "a", "c"])
    assert ba.WordsToVolumes().transform(x, presentations=bold).values.ravel().tolist() == [5, 1, 0]


def test_duration_shorter_than_the_interval_leaves_words_outside_and_counts_them():
    x, bold = words([0.5, 1.7, 2.5, 90.0]), volumes(3, duration_s=[1.5] * 3)
    out = ba.WordsToVolumes("sum").transform(x, presentations=bold)
    assert out.values.ravel().tolist() == [1, 3, 0]
    assert provenance(out).steps[-1]["params"] == {
        "how": "sum", "normalize": None, "window": 3, "cutoff_hz": None, "causal": False,
        "n_events": 4, "n_events_outside": 2, "first_outside_onset_s": 1.7, "n_volumes": 3, "n_volumes_empty": 1,
    }  # fmt: skip


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 59), st.sampled_from("ab")), min_size=1, max_size=40),
    st.sampled_from([0.1, 0.3, 2.0, 4 / 3]),
)
def test_sum_conserves_the_total(events, tr):
    n = int(np.ceil(6.0 / tr)) + 1
    onset = np.array([time for time, _ in events]) * 0.1
    values = np.random.default_rng(0).normal(size=(len(events), 2))
    x = words(onset, values, run=[run for _, run in events])
    bold = rows(np.zeros(2 * n), "v", onset_s=np.tile(np.arange(n) * tr, 2), run=np.repeat(["a", "b"], n))
    out = ba.WordsToVolumes("sum").transform(x, presentations=bold)
    np.testing.assert_allclose(out.values.sum(0), x.values.sum(0), atol=1e-4)
    np.testing.assert_allclose(out.values[out.run.values == "a"].sum(0), x.values[x.run.values == "a"].sum(0), atol=1e-4)


def lanczos_by_definition(newtime, oldtime, cutoff, window):
    """Public definition, written as a plain double loop."""
    out = np.zeros((len(newtime), len(oldtime)))
    for i, new in enumerate(newtime):
        for j, old in enumerate(oldtime):
            t = (new - old) * cutoff
            if abs(t) <= window:
                out[i, j] = 1.0 if t == 0 else window * np.sin(np.pi * t) * np.sin(np.pi * t / window) / (np.pi**2 * t**2)
    return out


def story(n_volumes=200, tr=2.0, rate=3.0):
    """Bursty words: three a second on average."""
    rng = np.random.default_rng(0)
    burst = rng.gamma(0.6, 1 / 0.6, int(n_volumes * tr)).clip(0.05)
    onset = np.concatenate([t + np.sort(rng.uniform(0, 1, rng.poisson(rate * b))) for t, b in enumerate(burst)])
    return words(onset, rng.normal(size=(len(onset), 3)) + 1), volumes(n_volumes, tr)


def test_lanczos_sum_is_the_public_filter():
    x, bold = story(60)
    (matrix,) = ba.WordsToVolumes("lanczos", normalize="sum").mixing(presentation_table(x), presentation_table(bold))
    wanted = lanczos_by_definition(bold.onset_s.values + 1.0, x.onset_s.values, 0.5, 3)
    np.testing.assert_allclose(matrix.toarray(), wanted, atol=1e-6)


def test_lanczos_uses_the_middle_of_a_word():
    x, bold = words([1.0, 3.0], duration_s=[1.0, 0.4]), volumes(5)
    (matrix,) = ba.WordsToVolumes("lanczos", normalize="sum", cutoff_hz=0.25, window=2).mixing(
        presentation_table(x), presentation_table(bold)
    )
    wanted = lanczos_by_definition(bold.onset_s.values + 1.0, np.array([1.5, 3.2]), 0.25, 2)
    np.testing.assert_allclose(matrix.toarray(), wanted, atol=1e-6)


def test_lanczos_sum_follows_the_word_rate_and_the_mean_does_not():
    x, bold = story()
    tables = presentation_table(x), presentation_table(bold)
    rate = np.asarray(ba.WordsToVolumes("sum").mixing(*tables)[0].sum(axis=1)).ravel()
    summed = np.asarray(ba.WordsToVolumes("lanczos", normalize="sum").mixing(*tables)[0].sum(axis=1)).ravel()
    assert np.corrcoef(rate, summed)[0, 1] > 0.85
    mean = ba.WordsToVolumes("lanczos", normalize="mean").mixing(*tables)[0]
    total = np.asarray(mean.sum(axis=1)).ravel()
    np.testing.assert_allclose(total[total != 0], 1, atol=1e-5)
    assert (total != 0)[rate > 0].mean() > 0.9
    assert abs(mean.data).max() < 4


def test_causal_lanczos_sees_no_word_after_the_volume():
    x, bold = story(60)
    (matrix,) = ba.WordsToVolumes("lanczos", normalize="sum", causal=True).mixing(presentation_table(x), presentation_table(bold))
    volume, word = matrix.nonzero()
    assert (x.onset_s.values[word] < bold.onset_s.values[volume] + 2.0).all()
    full = lanczos_by_definition(bold.onset_s.values + 1.0, x.onset_s.values, 0.5, 3)
    seen = x.onset_s.values[None] < bold.onset_s.values[:, None] + 2.0
    np.testing.assert_allclose(matrix.toarray(), full * seen, atol=1e-6)


def test_lanczos_needs_a_normalisation_and_says_why():
    with pytest.raises(ParameterError, match=r"must be 'sum' or 'mean' for how='lanczos'. Got None .* 0.94 with the word rate"):
        ba.WordsToVolumes("lanczos").transform(words([0.5]), presentations=volumes(3))


@pytest.mark.parametrize("options", [{"normalize": "sum"}, {"cutoff_hz": 0.5}, {"causal": True}])
def test_lanczos_options_are_refused_elsewhere(options):
    with pytest.raises(ParameterError, match="is for how='lanczos' only"):
        ba.WordsToVolumes("mean", **options).transform(words([0.5]), presentations=volumes(3))


def test_bad_input():
    x, bold = words([0.5, 1.0]), volumes(3)
    with pytest.raises(ParameterError, match="Did you mean 'mean'"):
        ba.WordsToVolumes("maen").transform(x, presentations=bold)
    with pytest.raises(
        AlignmentError, match=r"none of 2 words begins in any volume .*words from 500 to 1000 s, volumes from 0 to 4 s"
    ):
        ba.WordsToVolumes().transform(words([500.0, 1000.0]), presentations=bold)
    with pytest.raises(AlignmentError, match="share no run"):
        ba.WordsToVolumes().transform(words([0.5], run="z"), presentations=bold)
    with pytest.raises(SchemaError, match="the words have no `onset_s`"):
        ba.WordsToVolumes().transform(x.drop_vars("onset_s"), presentations=bold)
    irregular = rows(np.zeros(4), "v", onset_s=[0.0, 2.0, 2.7, 9.0], run=["a"] * 4)
    with pytest.raises(ParameterError, match="not regularly sampled"):
        ba.WordsToVolumes().transform(x, presentations=irregular)
    with pytest.raises(ParameterError, match=r"cutoff_hz=0\.25"):
        ba.WordsToVolumes("lanczos", normalize="mean").transform(x, presentations=volumes(3, tr=4.0))


def test_protocol_reach_and_clone():
    step = clone(ba.WordsToVolumes("lanczos", normalize="mean", cutoff_hz=0.5, causal=True))
    assert isinstance(step, PresentationStep)
    assert step.retimes
    assert step.reach_s == (6.0, 0.0)
    assert ba.WordsToVolumes("lanczos", normalize="sum").reach_s == (9.0, 9.0)
    assert ba.WordsToVolumes().reach_s == (0.0, 0.0)


def group_mean(folder):
    """Mean cleaned responses of the people of the story study, without the one whose file is empty."""
    cleaned = []
    for path in sorted(folder.glob("10mm/s*-timecourses.txt")):
        name = path.name.split("-")[0]
        if name != "s33":
            motion = pd.DataFrame(np.loadtxt(next(folder.glob(f"{name}-rp_*.txt")))).add_prefix("motion_")
            motion["onset_s"] = (np.arange(len(motion)) - 10) * 2.0
            x = rows(np.loadtxt(path), "v", onset_s=np.arange(362) * 2.0)
            cleaned.append(ba.Clean(motion, drift_order=2, n_cosines=12, standardize="zscore").fit_transform(x).values)
    return np.mean(cleaned, axis=0)


@pytest.mark.real
def test_word_rate_of_a_story_predicts_the_published_share(shared_data):
    """Word rate, delayed by 2 to 8 s, predicts the group's mean responses as in the README."""
    folder = shared_data("alice-fmri-roi")
    grid = next(folder.glob("*.TextGrid")).read_text(errors="replace")
    found = re.findall(r'xmin = ([\d.]+)\s+xmax = [\d.]+\s+text = "(.*?)"', grid)
    onset = (
        np.array([float(start) for start, word in found if word not in ("sp", "")]) - 20
    )  # the scan starts 20 s before the file
    assert len(onset) == 2127
    rate = ba.WordsToVolumes("sum").transform(words(onset, np.ones(len(onset))), presentations=volumes(362))
    late, y = ba.Delay([2, 4, 6, 8]).fit_transform(rate).values, group_mean(folder)
    predicted = np.zeros_like(y)
    for test in np.array_split(np.arange(362), 6):
        train = np.setdiff1d(np.arange(362), np.arange(test[0] - 5, test[-1] + 6))
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13))).fit(late[train], y[train])
        predicted[test] = model.predict(late[test])
    r = [np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, y.T, strict=True)]
    np.testing.assert_allclose(r, [0.224, 0.125, 0.286, 0.290, 0.234, 0.145], atol=0.01)

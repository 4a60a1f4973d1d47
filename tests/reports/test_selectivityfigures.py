import numpy as np
import pytest

import brainalign as ba
from brainalign.reports import selectivityfigures


@pytest.fixture(scope="module")
def selective():
    rng = np.random.default_rng(0)
    label = np.repeat(["face", "house", "tool"], 20)
    values = rng.normal(size=(60, 30)) + 2.0 * (label == "face")[:, None] * (np.arange(30) < 6)
    x = ba.responses(
        np.stack([rng.normal(size=values.shape), values], axis=2), stimulus_id=[f"s{i}" for i in range(60)], neuroid_id=range(30),
        modality="ann", system="net", condition=label, time=[0.0, 0.1],
    )  # fmt: skip
    return ba.selectivity(x, "condition", n_permutations=99, random_state=0)


@pytest.fixture(scope="module")
def tuned():
    degrees = np.tile(np.arange(0, 360, 45), 8)
    angle = np.deg2rad(degrees)[:, None]
    values = np.random.default_rng(0).normal(size=(64, 10)) + 5 * (np.arange(10) == 4) * np.exp(np.cos(angle - 1) - 1)
    x = ba.responses(
        values,
        stimulus_id=degrees,
        neuroid_id=[f"c{i}" for i in range(10)],
        modality="spikes",
        system="m",
        units="spikes/s",
        presentation={"deg": degrees},
    )
    return ba.neurons.tuning(x, "deg", n_permutations=99, random_state=0)


@pytest.mark.parametrize("times", [True, False])
def test_the_map_is_sorted_by_what_neuroids_prefer(selective, times):
    result = selective if times else selective.isel(time=1)
    peak = result.score.max("time").values if times else result.score.values
    left, right = selectivityfigures.selectivity_map(result, title="Layer").axes[:2]
    image = np.asarray(left.images[0].get_array())
    best = image.argmax(axis=1)
    assert (np.diff(best) >= 0).all()
    assert sorted(image.max(axis=1)) == sorted(peak.max(axis=1))
    assert [text.get_text() for text in right.get_yticklabels()] == ["tool", "house", "face"]
    assert right.get_xlabel() == "auroc"


def test_tuning_curves_show_the_most_certain_or_those_asked_for(tuned):
    figure = selectivityfigures.tuning_curves(tuned)
    assert figure.axes[0].get_title().startswith("c4")
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 8
    one = selectivityfigures.tuning_curves(tuned, neuroid=["c4"]).axes[0]
    curve = max(one.lines, key=lambda line: len(line.get_xdata()))
    assert curve.get_xdata()[np.argmax(curve.get_ydata())] == pytest.approx(np.rad2deg(1), abs=15)
    half = tuned.copy().assign_attrs(tuned.attrs, period_deg=180)
    assert selectivityfigures.tuning_curves(half, neuroid=["c4"]).axes[0].get_xticks().tolist() == [0, 90, 180]


def test_results_of_both_kinds_go_into_a_report(selective, tuned, tmp_path):
    text = ba.reports.report({"Faces": selective, "Cells": tuned}, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "filled where p ≤ .05, corrected" in text
    assert "fitted curves of the most certain" in text


def test_other_results_are_refused(selective, tuned):
    with pytest.raises(ba.errors.ParameterError, match="without a score \\(neuroid, category\\)"):
        selectivityfigures.selectivity_map(tuned)
    with pytest.raises(ba.errors.ParameterError, match="without responses \\(angle, neuroid\\)"):
        selectivityfigures.tuning_curves(selective)
    with pytest.raises(ba.errors.ParameterError, match="'c11' is unknown"):
        selectivityfigures.tuning_curves(tuned, neuroid=["c11"])

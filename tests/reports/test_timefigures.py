"""Figures over time: what is drawn, and that it says what it is."""

import base64

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.reports import figures


def test_time_course_marks_the_peak_of_each_group(timed, grid):
    axes = figures.time_course(timed).axes[0]
    peaks = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert peaks == pytest.approx([0.1, 0.2])
    panels = grid[["score"]].expand_dims(time=[0.0, 0.1]).transpose(..., "time")
    assert [axes.get_title() for axes in figures.time_course(panels).axes] == ["V1", "IT"]
    with pytest.raises(ba.errors.ParameterError, match="time"):
        figures.time_course(grid)


def test_time_course_of_rdms_has_intervals_and_says_where_it_is_more_than_chance():
    score = np.array([[0.0, 0.3, 0.4, 0.0], [0.0, 0.0, 0.2, 0.1]])
    dims = ("source_layer", "target_time")
    p = np.where(score > 0.15, 0.01, 0.5)
    named = {"score": score, "ci_low": score - 0.1, "ci_high": score + 0.1, "p_value_max": np.ones_like(p), "p_value_cluster": p}
    result = xr.Dataset(
        {name: (dims, values) for name, values in named.items()},
        coords={"source_layer": ["a", "b"], "target_time": [0.0, 0.1, 0.2, 0.3]},
        attrs={"metric": "spearman"},
    )
    axes = figures.time_course(result).axes[0]
    marks = [line for line in axes.lines if line.get_label().startswith("_p")]
    assert [np.isfinite(line.get_ydata()).tolist() for line in marks] == (score > 0.15).tolist()
    assert all(np.nanmax(line.get_ydata()) < 0 for line in marks)
    assert len(axes.collections) == 2
    with pytest.raises(ba.errors.ParameterError, match="Expected one `time` dim"):
        figures.time_course(result.expand_dims(source_time=[0.0, 0.1]))


def test_time_course_marks_the_smallest_distance_and_refuses_more_dims_than_it_draws():
    scores = xr.DataArray([[3.0, 1.0, 2.0]], dims=("source_layer", "target_time"), coords={"target_time": [0.0, 0.1, 0.2]})
    for direction, peak in (("higher is more alike", 0.0), ("lower is more alike", 0.1)):
        lines = figures.time_course(scores.to_dataset(name="score").assign_attrs(direction=direction)).axes[0].lines
        assert next(line.get_xdata().tolist() for line in lines if line.get_marker() == "o") == [peak]
    many = scores.expand_dims(target_subject=2, target_region=3)
    with pytest.raises(ba.errors.ParameterError, match="Expected no more than two beside the time"):
        figures.time_course(many)


def decoded(**variables):
    times = np.arange(4) / 10
    score = ("time", [0.5, 0.6, 0.9, 0.7], {"units": "area under the ROC curve"})
    return xr.Dataset({"score": score, **variables}, coords={"time": times}, attrs={"metric": "auc"})


def test_time_course_has_its_chance_and_says_what_its_marks_are():
    bounds = {"ci_low": ("time", [0.4] * 4), "ci_high": ("time", [0.8] * 4), "p_value_cluster": ("time", [1.0, 1.0, 0.01, 0.01])}
    figure = figures.time_course(decoded(chance=0.5, **bounds))
    axes = figure.axes[0]
    assert axes.get_ylim()[0] > 0.4 - 0.1
    assert any(np.allclose(line.get_ydata(), 0.5) and len(line.get_ydata()) == 2 for line in axes.lines)
    assert axes.get_ylabel() == "area under the ROC curve"
    note = figure.get_supxlabel()
    for mark in ("chance (0.5)", "dot: peak", "95% interval", "clusters with p ≤ .05"):
        assert mark in note
    assert figures.time_course(decoded()).get_supxlabel() == "dot: peak"
    people = xr.concat([decoded(chance=0.5)] * 3, xr.Variable("source", list("abc")))
    assert "chance (0.5)" in figures.time_course(people).get_supxlabel()
    assert people.chance.dims == ("source",)
    bounded = figures.time_course(decoded(p_value_bound_max=("time", [1.0, 1.0, 0.01, 0.01]))).get_supxlabel()
    assert "line at the foot: p ≤ .05, corrected" in bounded


def test_generalization_is_centred_on_chance_and_surrounds_what_is_found():
    times = np.arange(5) / 10
    score = 0.5 + 0.3 * np.eye(5)
    result = xr.Dataset(
        {"score": (("train_time", "test_time"), score), "chance": 0.25, "p_value_max": (("train_time", "test_time"), 1.0 - np.eye(5))},
        coords={"train_time": times, "test_time": times}, attrs={"metric": "balanced-accuracy"},
    )  # fmt: skip
    figure = figures.generalization(result, title="one code")
    axes, bar = figure.axes
    mesh = axes.collections[0]
    assert np.isclose(np.mean(mesh.get_clim()), 0.25)
    assert np.allclose(mesh.get_array().reshape(5, 5), score)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time tested (s)", "time learned (s)")
    assert "chance, 0.25" in bar.get_ylabel()
    with pytest.raises(ba.errors.ParameterError, match="generalize=True"):
        figures.generalization(decoded())


def test_generalization_draws_two_sides_over_their_times_and_says_what_the_contour_is(tmp_path):
    dims, p = ("source_time", "target_time"), np.ones((3, 4))
    p[0, 1:3] = 0.01
    result = xr.Dataset(
        {"score": (dims, np.arange(12.0).reshape(3, 4) / 12), "p_value_cluster": (dims, p)},
        coords={"source_time": [0.0, 0.1, 0.2], "target_time": [0.0, 0.1, 0.2, 0.3]},
        attrs={"metric": "spearman"},
    )
    figure = figures.generalization(result.transpose("target_time", ...))
    axes, bar = figure.axes
    assert axes.collections[0].get_array().shape == (3, 4)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time of the target (s)", "time of the source (s)")
    assert bar.get_ylabel() == "Spearman ρ (white: 0)"
    assert figure.get_supxlabel() == "contour: clusters with p ≤ .05, corrected"
    assert "<svg" in figure_text(ba.reports.report(result, tmp_path / "page.html"))


def figure_text(page):
    """Return the first figure of a page."""
    return base64.b64decode(page.read_text(encoding="utf-8").split("svg+xml;base64,")[1].split('"')[0]).decode()

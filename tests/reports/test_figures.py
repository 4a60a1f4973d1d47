import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.reports import figures


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_heatmap_writes_values_and_frames_the_best_source(grid):
    figure = figures.heatmap(grid, title="Layers")
    axes = figure.axes[0]
    assert texts(figure) == ["0.50", "0.10", "0.30", "0.20", "-0.01", "0.40"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv1", "conv2", "fc"]
    frames = [(round(p.get_x() + 0.47), round(p.get_y() + 0.47)) for p in axes.patches]
    assert frames == [(0, 0), (1, 2)]
    assert figure.axes[1].get_ylabel() == "median Pearson r"
    assert axes.get_xlabel() == "region (target)"


def test_heatmap_leaves_empty_cells_empty_and_takes_the_peak_over_time(grid):
    figure = figures.heatmap(grid.where(grid.source_layer != "fc"))
    assert texts(figure)[-2:] == ["–", "–"]
    timed = grid[["score"]].expand_dims(time=[0.0, 0.1]).transpose(..., "time") * [0.5, 1.0]
    assert texts(figures.heatmap(timed))[0] == "0.50"


def test_heatmap_of_distances_frames_the_smallest(grid):
    distances = grid.assign(score=-grid.score).assign_attrs(direction="lower is more alike")
    axes = figures.heatmap(distances).axes[0]
    assert [(round(p.get_x() + 0.47), round(p.get_y() + 0.47)) for p in axes.patches] == [(0, 0), (1, 2)]


def test_heatmap_refuses_what_is_no_grid(grid, scores):
    with pytest.raises(ba.errors.ParameterError, match="Did you mean 'score'"):
        figures.heatmap(grid, variable="scor")
    with pytest.raises(ba.errors.ParameterError, match="groups × groups"):
        figures.heatmap(scores)


def test_score_against_ceiling_shows_every_neuroid_that_has_both(scores):
    axes = figures.score_vs_ceiling(scores).axes[0]
    points = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
    assert sorted(map(tuple, points.tolist())) == sorted(zip([0.4, 0.5, 1.0, 0.5, 0.9], [0.2, 0.4, 0.5, 0.6, 0.7], strict=True))
    with pytest.raises(ba.errors.ParameterError, match="ceiling"):
        figures.score_vs_ceiling(scores.drop_vars("ceiling"))


def test_score_against_ceiling_over_time_takes_each_neuroid_at_its_best_time(timed):
    with_ceiling = timed.assign(ceiling=timed.score * 1.1)
    axes = figures.score_vs_ceiling(with_ceiling).axes[0]
    points = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
    assert sorted(points[:, 1].round(6)) == [0.4, 0.5, 0.6, 0.8]


def test_distribution_draws_one_column_per_group(scores):
    axes = figures.distribution(scores).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["V1", "IT"]
    assert sum(len(c.get_offsets()) for c in axes.collections if c.get_offsets().size) >= 5


def test_attribution_draws_images_or_bars(attributions):
    figure = figures.attribution(attributions, presentations=(0, 2, 9))
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert len(images) == 4
    np.testing.assert_allclose(images[1], attributions.values[2, 0, 0])
    words = attributions.sum(("channel", "y")).rename(x="part")
    assert not any(axes.images for axes in figures.attribution(words).axes)


def test_attribution_is_drawn_below_its_image(attributions):
    images = np.random.default_rng(1).random((3, 1, 4, 5)).astype("float32")
    stimuli = ba.stimuli.table(images[::-1], stimulus_id=list("cba"), kind="array", dims=("channel", "y", "x"))
    figure = figures.attribution(attributions, stimuli=stimuli)
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), images[1, 0])
    texts = ba.stimuli.table(["one", "two", "three"], stimulus_id=list("abc"), kind="text")
    assert len(figures.attribution(attributions, stimuli=texts).axes) == len(figure.axes) - 3


def test_attribution_names_what_is_not_there(attributions):
    ids = xr.Dataset({"values": (("presentation", "y", "x"), np.zeros((1, 4, 5)))}, {"stimulus_id": ("presentation", ["none"])})
    with pytest.raises(ba.errors.ParameterError, match="attribution got stimuli without '"):
        figures.attribution(attributions, stimuli=ids)
    with pytest.raises(ba.errors.ParameterError, match=r"presentations=\(7,\) of 3"):
        figures.attribution(attributions, presentations=(7,))
    numbers = ("presentation", [1, 2, 3])
    table = xr.Dataset({"values": (("presentation", "y", "x"), np.zeros((3, 4, 5)))}, {"stimulus_id": numbers})
    assert figures.attribution(attributions.assign_coords(stimulus_id=numbers), stimuli=table).axes[0].images


def test_neuroids_are_grouped_by_a_coordinate_that_there_is(scores, timed, grid):
    for draw, result in ((figures.distribution, scores), (figures.score_vs_ceiling, scores), (figures.time_course, timed)):
        with pytest.raises(ba.errors.ParameterError, match=rf"{draw.__name__} got by='regio'.*Did you mean 'region'"):
            draw(result, by="regio")
    with pytest.raises(ba.errors.ParameterError, match="distribution got a result without a score per neuroid"):
        figures.distribution(grid)


def test_no_figure_is_kept_by_pyplot(grid):
    import matplotlib.pyplot as plt

    figures.heatmap(grid)
    assert plt.get_fignums() == []

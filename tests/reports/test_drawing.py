import numpy as np
import xarray as xr

from brainalign.reports.drawing import PALETTE, colour_cycle, colour_scale, in_words, labels_of, unit_of


def test_scale_is_sequential_from_zero_unless_scores_are_clearly_negative():
    assert colour_scale(np.array([[0.1, 0.8], [np.nan, -0.01]]))["vmin"] == 0
    diverging = colour_scale(np.array([0.2, -0.8]))
    assert diverging["vmin"] == -diverging["vmax"] == -0.8
    assert colour_scale(np.array([np.nan]))["vmax"] == 1


def test_more_lines_than_the_palette_get_ordered_colours():
    assert colour_cycle(3)[:3] == list(PALETTE[:3])
    assert len(set(colour_cycle(12))) == 12


def test_names_in_words():
    assert in_words("source_layer") == "layer (source)"
    assert in_words("stimulus_2") == "stimulus 2"
    x = xr.DataArray(np.zeros((2, 2)), dims=("a", "b"), coords={"a": ["u", "v"]}, attrs={"units": "R²"})
    assert labels_of(x, "a") == ["u", "v"]
    assert labels_of(x, "b") == ["0", "1"]
    assert unit_of(x, "score") == "R²"
    assert unit_of(x, "score_normalized") == "score / ceiling"


def test_a_score_says_its_units_and_a_measure_of_geometry_its_name():
    score = xr.DataArray([0.0], dims="neuroid", attrs={"units": "bits per spike"})
    result = xr.Dataset({"score": score}, attrs={"metric": "bits-per-spike", "units": "of something else", "aggregate": "median"})
    assert unit_of(result, "score") == "bits per spike"
    assert unit_of(result.mean("neuroid"), "score") == "median bits per spike"
    for metric, words in (("spearman", "Spearman ρ"), ("cka", "cka"), (None, "score")):
        assert unit_of(xr.Dataset({"score": 0.0}, attrs={"metric": metric} if metric else {}), "score") == words

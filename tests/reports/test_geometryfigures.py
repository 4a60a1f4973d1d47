import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.reports import geometryfigures


def test_rdm_panel_sorts_by_condition_or_by_the_order_given(rdms):
    image = geometryfigures.rdm_panel(rdms).axes[0].images[0].get_array()
    rows = [1, 3, 5, 0, 2, 4]
    np.testing.assert_allclose(image, rdms.values[0][np.ix_(rows, rows)])
    image = geometryfigures.rdm_panel(rdms, order=["s2", "s0"]).axes[0].images[0].get_array()
    np.testing.assert_allclose(image, rdms.values[0][np.ix_([2, 0], [2, 0])])
    with pytest.raises(ba.errors.ParameterError, match="'s9'"):
        geometryfigures.rdm_panel(rdms, order=["s9"])
    with pytest.raises(ba.errors.ParameterError, match="stimulus_2"):
        geometryfigures.rdm_panel(rdms[0, 0])


@pytest.fixture(scope="module")
def compared():
    """Three models of two regions in six people."""
    study = ba.simulate(n_stimuli=24, snr=2.0, random_state=0)
    people = [ba.rdm(ba.simulate(study.network, n_neuroids=20, snr=2.0, random_state=i).fmri, by="region") for i in range(6)]
    ids = people[0].stimulus.values
    people = xr.concat([p.sel(stimulus=ids, stimulus_2=ids) for p in people], xr.Variable("subject", list("abcdef")))
    ask = {"metric": "rho-a", "n_bootstraps": 60, "n_permutations": 60, "between": "source_layer", "random_state": 0}
    return ba.compare_rdms(ba.rdm(study.network, by="layer"), people, over=("subject", "stimulus"), **ask)


def test_comparison_shows_intervals_ceilings_chance_and_who_beats_whom(compared):
    figure = geometryfigures.comparison(compared, title="Models")
    bottoms = figure.axes[len(figure.axes) // 2 :]
    tops = figure.axes[: len(figure.axes) // 2]
    assert [axes.get_title() for axes in tops] == compared.target_region.values.tolist()
    for j, (top, axes) in enumerate(zip(tops, bottoms, strict=True)):
        heights = [patch.get_height() for patch in axes.patches if patch.get_width() == pytest.approx(0.72)]
        np.testing.assert_allclose(heights, compared.score[:, j])
        band = next(patch for patch in axes.patches if patch.get_width() != pytest.approx(0.72)).get_extents()
        low, high = axes.transData.inverted().transform(band.get_points())[:, 1]
        np.testing.assert_allclose([low, high], [compared.ceiling_low.values.ravel()[j], compared.ceiling_high.values.ravel()[j]])
        dots = next(line.get_xdata() for line in axes.lines if line.get_marker() == "o")
        np.testing.assert_array_equal(dots, np.flatnonzero(compared.p_value_max[:, j] <= 0.05))
        beaten = sum(len(line.get_xdata()) for line in top.lines if line.get_marker() == "o")
        assert beaten == int((compared.difference_p_value_max.transpose("pair", "target_region")[:, j] <= 0.05).sum())


def test_comparison_says_what_its_marks_are(compared):
    note = geometryfigures.comparison(compared).get_supxlabel()
    for mark in ("95% interval", "p ≤ .05, corrected", "band: noise ceiling", "grid: row better than column"):
        assert mark in note
    assert "line: 90% interval" in geometryfigures.comparison(compared.assign_attrs(level=0.9)).get_supxlabel()


def test_the_caption_of_a_single_matrix_is_not_cut(rdms):
    one = rdms[0].assign_attrs(metric="crossnobis", units="squared response units per neuroid")
    figure = geometryfigures.rdm_panel(one)
    figure.draw_without_rendering()
    (caption,) = [text for text in figure.texts if "crossnobis" in text.get_text()]
    seen = caption.get_window_extent()
    assert seen.x0 >= 0
    assert seen.x1 <= figure.bbox.width
    assert seen.y0 >= 0


def test_few_stimuli_are_named(rdms):
    few = rdms.isel(stimulus=slice(6), stimulus_2=slice(6))
    names = [text.get_text() for text in geometryfigures.rdm_panel(few).axes[0].get_yticklabels()]
    assert sorted(names) == sorted(str(name) for name in few.stimulus.values)
    long = {dim: [f"{name}, of a long name" for name in few[dim].values] for dim in ("stimulus", "stimulus_2")}
    assert not geometryfigures.rdm_panel(few.assign_coords(long)).axes[0].get_yticklabels()


def test_comparison_of_distances_counts_the_lower_as_the_better(compared):
    for direction, wins in (("higher is more alike", (0, 1)), ("lower is more alike", (1, 0))):
        result = xr.Dataset(
            {
                "score": ("source_model", [0.9, 0.1]),
                "difference": ("pair", [0.8]),
                "difference_p_value_max": ("pair", [0.01]),
            },
            coords={"source_model": ["a", "b"], "first": ("pair", ["a"]), "second": ("pair", ["b"])},
            attrs={"metric": "riemannian", "direction": direction},
        )
        top = geometryfigures.comparison(result).axes[0]
        rows = [
            (-line.get_ydata()[0], line.get_xdata()[0])
            for line in top.lines
            if line.get_marker() == "o" and len(line.get_xdata())
        ]
        assert rows == [wins]


def test_models_of_one_label_are_told_apart_and_pairs_of_targets_are_no_wins(compared):
    same = compared.assign_coords(source_layer=["a"] * compared.sizes["source_layer"])
    same = same.assign_coords(
        first=same["first"].copy(data=["a"] * same.sizes["pair"]), second=("pair", ["a"] * same.sizes["pair"])
    )
    rows, named = (
        [line.get_xdata().tolist() for line in geometryfigures.comparison(x).axes[0].lines if line.get_marker() == "o"]
        for x in (same, compared)
    )
    assert rows == named
    assert any(rows)
    of_targets = xr.Dataset(
        {
            "score": (("source_model", "target_region"), [[0.9, 0.1]]),
            "difference": (("pair", "source_model"), [[0.8]]),
            "difference_p_value_max": (("pair", "source_model"), [[0.01]]),
        },
        coords={"first": ("pair", ["V1"]), "second": ("pair", ["IT"])},
    )
    assert not geometryfigures.comparison(of_targets).axes[0].lines


def test_panels_of_two_leading_dims_say_which_they_are(rdms):
    twice = rdms.expand_dims(region=["V1", "IT"])
    titles = [axes.get_title() for axes in geometryfigures.rdm_panel(twice).axes[:4]]
    assert titles == [f"{region} · {layer}" for region in ("V1", "IT") for layer in rdms.layer.values]


def test_colours_are_those_of_a_coordinate_that_there_is(rdms):
    with pytest.raises(
        ba.errors.ParameterError, match=r"by='condition_'\. Expected a coordinate of `stimulus`: stimulus, condition"
    ):
        geometryfigures.stimulus_map(rdms, by="condition_")


def test_comparison_refuses_scores_of_neuroids(scores):
    with pytest.raises(ba.errors.ParameterError, match="models × targets"):
        geometryfigures.comparison(scores)


def test_stimuli_are_drawn_at_their_distances_with_one_panel_a_group(rdms):
    figure = geometryfigures.stimulus_map(rdms)
    places = ba.geometry.trajectories(rdms, along="layer")
    for i, axes in enumerate(figure.axes):
        points = np.concatenate([np.c_[line.get_xdata(), line.get_ydata()] for line in axes.lines])
        np.testing.assert_allclose(
            points, places.values[[0, 2, 4, 1, 3, 5]][:, :, i][[0, 1, 2, 3, 4, 5]]
        )  # by condition: b, then a
        assert axes.get_title().startswith(str(rdms.layer.values[i]))
    assert len(geometryfigures.stimulus_map(rdms[0]).axes) == 1


def test_of_many_times_eight_are_shown(rdms):
    many = xr.concat([rdms[0].drop_vars("layer")] * 30, xr.Variable("time", np.linspace(0, 0.29, 30)))
    titles = [axes.get_title() for axes in geometryfigures.stimulus_map(many, along="time").axes]
    assert len(titles) == 8
    assert titles[0].startswith("0.0")
    assert titles[-1].startswith("0.29")
    with pytest.raises(ba.errors.ParameterError, match="select along the others"):
        geometryfigures.stimulus_map(many.expand_dims("layer"))


def test_of_many_times_eight_rdms_are_drawn_and_named_shortly(rdms):
    times = np.arange(40) / 3 - 0.2
    many = xr.concat([rdms[0]] * len(times), xr.Variable("time", times))
    figure = geometryfigures.rdm_panel(many)
    panels = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels][::7] == ["-0.2", "12.8"]
    assert len(panels) == 8
    assert "8 of 40 times" in figure.get_supxlabel()

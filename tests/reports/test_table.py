import numpy as np
import pandas as pd
import pytest
import xarray as xr

import brainalign as ba
from brainalign.engine.correlate import pearson_columns
from brainalign.reports.table import kind_of, summary, tidy


def test_kinds_are_told_by_dims(grid, scores, timed, rdms, attributions):
    study = ba.simulate(n_stimuli=10, n_neuroids=2, modalities=("fmri",), random_state=0)
    found = [
        kind_of(x) for x in (grid, scores, timed, rdms, attributions, study.brain, scores.ceiling, grid.score, pd.DataFrame())
    ]
    assert found == ["grid", "scores", "scores", "rdm", "attribution", "responses", "values", "grid", "table"]
    with pytest.raises(ba.errors.ParameterError, match="got a int"):
        kind_of(3)


def test_results_of_neuroids_without_scores_are_tables_of_their_first_variable():
    net = ba.simulate(n_stimuli=10, random_state=0).network
    sizes, tops = ba.neurons.massive(net), ba.exemplars(net, k=3, random_state=0)
    assert kind_of(sizes) == kind_of(tops) == "neuroids"
    assert len(tidy(sizes)) == net.sizes["neuroid"]
    rows = tidy(tops)
    assert len(rows) == 3 * net.sizes["neuroid"]
    assert {"rank", "stimulus_id", "response", "layer"} <= set(rows)
    assert len(tidy(ba.neurons.coverage(net))) == net.sizes["neuroid"]
    with pytest.raises(ba.errors.ParameterError, match=r"without `score`.*`result.size_ratio`"):
        summary(sizes)
    assert summary(sizes.size_ratio)["n"].sum() == net.sizes["neuroid"]


def test_tidy_grid_has_a_row_per_cell_with_what_belongs_to_it(grid):
    rows = tidy(grid)
    assert len(rows) == 6
    cell = rows[(rows["source_layer"] == "fc") & (rows["target_region"] == "IT")].iloc[0]
    assert (cell["score"], cell["ceiling"], cell["n_neuroids"]) == (0.4, 0.5, 4)
    assert "score_neuroid" not in rows


def test_tidy_scores_keep_labels_and_time(scores, timed):
    rows = tidy(scores)
    assert rows["neuroid_id"].tolist() == list("abcdef")
    assert rows["score"].isna().tolist() == [True] + [False] * 5
    assert "score_by_fold" not in rows
    over_time = tidy(timed)
    assert len(over_time) == 32
    at = over_time[(over_time["neuroid_id"] == 3) & np.isclose(over_time["time"], 0.2)]
    assert at["score"].item() == pytest.approx(0.8)


def test_tidy_rdm_has_each_pair_once(rdms):
    rows = tidy(rdms)
    assert len(rows) == 2 * 15
    row = rows[(rows["layer"] == "conv2") & (rows["stimulus"] == "s1") & (rows["stimulus_2"] == "s4")]
    assert row["dissimilarity"].item() == rdms.values[1, 1, 4]


def test_summary_counts_what_is_left_out(scores):
    rows = summary(scores).set_index("region")
    assert rows.loc["V1", ["n", "n_left_out", "median"]].tolist() == [2, 1, pytest.approx(0.3)]
    assert rows.loc["V1", "normalized"] == pytest.approx(0.3 / 0.45)  # ratio of means
    assert summary(scores.ceiling).set_index("region").loc["IT", "median"] == 0.9
    assert len(summary(scores.drop_vars("region"))) == 1
    with pytest.raises(ba.errors.ParameterError, match="by='area'"):
        summary(scores, by="area")


def test_summary_selects_by_reliability_and_keeps_the_raw_score():
    """Of a perfect model: what is at noise level is not to be normalised."""
    rng, dim = np.random.default_rng(1), np.arange(400) < 200
    signal = rng.normal(size=(300, 400)) * np.where(dim, 0.1, 1.0)  # a region that hardly responds, and one that does
    labels = {"stimulus_id": np.repeat(np.arange(300), 3), "neuroid_id": range(400), "region": np.where(dim, "dim", "bright")}
    x = ba.responses(np.repeat(signal, 3, axis=0) + rng.normal(size=(900, 400)), modality="fmri", system="p", **labels)
    ceiling = ba.noise_ceiling(x, method="variance")
    r = pearson_columns(signal, ba.average_repeats(x).values)
    scored = xr.Dataset({"score": ("neuroid", r), "ceiling": ceiling}, coords=ceiling.coords, attrs={"metric": "pearson"})
    free, strict = (summary(scored, floor=floor).set_index("region") for floor in (0.0, 0.3))
    assert free.loc["bright", "normalized"] == pytest.approx(1.0, abs=0.01)
    assert abs(free.loc["dim", "normalized"] - 1.0) > 0.1
    assert strict["n_reliable"].to_dict() == {"dim": 0, "bright": 200}
    assert np.isnan(strict.loc["dim", "normalized"])
    np.testing.assert_allclose(strict["median"], [np.median(r[:200]), np.median(r[200:])])
    in_r2 = scored.assign(score=scored.score**2, ceiling=scored.ceiling**2).assign_attrs(metric="r2")
    assert summary(in_r2, floor=0.3)["n_reliable"].tolist() == [0, 200]
    two = xr.concat(
        [scored, scored.assign(score=scored.score / 2)],
        xr.Variable("source", ["whole", "half"]),
        coords="minimal",
        compat="override",
    )
    by_source = summary(two, floor=0.3).set_index(["region", "source"])["normalized"]
    assert by_source["bright", "half"] == pytest.approx(by_source["bright", "whole"] / 2)
    with pytest.raises(ba.errors.ParameterError, match="'floor' parameter of summary"):
        summary(scored, floor=2)


def test_summary_counts_what_is_significant(scores):
    p = np.linspace(0.01, 0.2, scores.sizes["neuroid"])
    rows = summary(scores.assign(p_value_fdr=("neuroid", p)))
    assert rows["n_significant"].sum() == (p <= 0.05).sum() > 0
    assert "n_significant" not in summary(scores)


def test_summary_over_time_has_a_row_per_group_and_time(timed):
    rows = summary(timed)
    assert len(rows) == 16
    best = rows.loc[rows.groupby("region", sort=False)["median"].idxmax()]
    assert best["time"].tolist() == pytest.approx([0.1, 0.2])


def test_empty_group_of_scores_is_nan_not_an_error():
    result = xr.Dataset({"score": ("neuroid", [np.nan, np.nan])}, coords={"region": ("neuroid", ["V1", "V1"])})
    rows = summary(result)
    assert rows["n"].item() == 0
    assert np.isnan(rows["median"].item())

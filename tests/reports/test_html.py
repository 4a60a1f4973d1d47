import json
import re

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError
from brainalign.core.provenance import write_step
from brainalign.reports.html import report


@pytest.fixture
def page(tmp_path):
    def write(results, **options):
        return report(results, tmp_path / "deep" / "report.html", **options).read_text(encoding="utf-8")

    return write


def test_everything_is_in_one_file_and_nothing_comes_from_outside(page, grid, scores, timed, rdms, attributions):
    study = ba.simulate(n_stimuli=10, n_neuroids=2, modalities=("fmri",), random_state=0)
    html = page(
        [grid, scores, timed, rdms, attributions, study.brain, scores.ceiling, pd.DataFrame({"a": [1.5]}), "Two.\n\nParagraphs."]
    )
    assert html.count("<section") == html.count("</section>") == 9
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert len(re.findall(r'src="data:image/svg\+xml;base64,', html)) == 9
    assert "layer → region" in html
    assert "<p>Two.</p>" in html


def test_scores_ceilings_drops_warnings_and_provenance_are_told(page, grid, scores):
    made = write_step(grid, "compare", params={"by": ("layer", "region")}, seed=17)
    html = page({"Forward": made, "Encoding": scores})
    assert "Leak: source: PCA was fitted on all" in html
    assert "dropped source: count" in html
    assert "compare(by=[&#x27;layer&#x27;, &#x27;region&#x27;])  [seed 17]" in html
    assert "values as written" in html
    assert '<td>V1</td><td class="number">2</td><td class="number">1</td>' in html  # n and n left out
    assert "0.450" in html  # mean ceiling of V1


def test_user_text_is_escaped(page, scores):
    evil = '<img src=x onerror="alert(1)">'
    named = scores.assign_coords(region=("neuroid", [evil] * 6)).assign_attrs(metric=evil)
    html = page({evil: named, "table": pd.DataFrame({evil: [evil]}), "text": evil}, title=evil, description=evil)
    assert "<img src=x" not in html
    assert 'onerror="' not in html


def test_lineage_of_both_sides_is_nested(page):
    study = ba.simulate(n_stimuli=12, n_neuroids=2, modalities=("fmri",), random_state=5)
    result = write_step(
        study.brain.mean("presentation").to_dataset(name="score"),
        "evaluate",
        inputs={"source": study.network, "target": study.brain},
    )
    html = page(result)
    assert "source:\n    " in html
    assert html.count("simulate(") >= 2
    assert "[seed 5]" in html


def test_long_tables_are_cut_and_say_so(page):
    html = page(pd.DataFrame({"value": np.arange(100), "name": ["x"] * 100}))
    assert "first 60 of 100 rows" in html


def test_a_failed_report_leaves_the_old_one_and_no_debris(tmp_path, grid):
    path = tmp_path / "report.html"
    path.write_text("old")
    for bad in ([grid, 3], [], {}):
        with pytest.raises(ba.errors.ParameterError):
            report(bad, path)
    assert path.read_text() == "old"
    report(grid, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_it_is_reached_through_the_package(tmp_path, grid):
    assert ba.reports.report(grid, tmp_path / "r.html").is_absolute()
    assert len(ba.reports.tidy(grid)) == 6
    assert ba.reports.figures.heatmap(grid).axes


def test_a_place_that_cannot_be_written_is_named(tmp_path, grid):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file" / "r.html"):
        with pytest.raises(ParameterError, match=r"'path' parameter of report must be a file that can be written\. Got"):
            report(grid, path)
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_controls_stand_beside_the_score(scores, page):
    values = np.array([[np.nan, 0.1, 0.5, 0.1, 0.1, 0.1], np.full(6, np.nan)])
    text = page(scores.assign(score_control=(("control", "neuroid"), values)).assign_coords(control=["shuffled", "constant"]))
    for row in (("score", "0.500", 0), ("shuffled", "0.100", 1), ("constant", "–", 0)):
        assert '<td>{}</td><td class="number">{}</td><td class="number">{}</td>'.format(*row) in text


def test_decisions_are_listed_once(scores, page):
    entry = {"decision": "alphas", "by": "Ridge", "data": "inner folds", "held_out": True}
    text = page(scores.assign_attrs(report=json.dumps({"decisions": [entry], "repeats": "keep"})))
    assert text.count("inner folds") == 1
    assert "Which data touched which decision" in text


def test_results_of_neuroids_have_a_panel_or_a_table(page):
    """Sizes, exemplars, captions with what was joined for them, and the overlap of two sets of neuroids."""
    net = ba.simulate(n_stimuli=20, random_state=0).network[:, :12]
    text = page(ba.neurons.massive(net))
    assert "size ratio, a dot per neuroid" in text
    assert text.count("<tr>") == 1 + net.sizes["neuroid"]
    assert "the stimuli with the highest responses" in page(ba.exemplars(net, k=2, random_state=0))
    labels = ba.caption(net, net[5:, :3], n_permutations=0, random_state=0)
    text = page(labels)
    assert "5 presentations of the target were dropped" in text
    assert all(f"<td>{label}</td>" in text for label in labels.label.values.tolist())
    some = net[0].drop_attrs() > 0
    assert "metric jaccard" in page(ba.neurons.overlap(some, some))

import pytest

import brainalign as ba
from brainalign.cli import demo as module
from brainalign.cli.demo import REGIONS, demo
from brainalign.cli.main import main


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    lines = []
    return demo(tmp_path_factory.mktemp("demo"), random_state=0, say=lines.append), lines


@pytest.mark.slow
def test_what_was_planted_is_recovered(outcome):
    found, lines = outcome
    truth = found.truth.set_index(["what", "how"])
    for region, layer in REGIONS.items():
        assert truth.loc[(f"layer of {region}", "fMRI, best layer"), "recovered"] == layer
        assert truth.loc[(f"layer of {region}", "spikes, best layer at the peak"), "recovered"] == layer
    by_what = found.truth[found.truth["what"].str.startswith(("peak", "ceiling", "pixels"))]
    assert (by_what["agrees"] == "yes").all(), by_what.to_string()
    assert found.truth.to_string(index=False) in "\n".join(lines)
    assert str(found.report) in lines[-1]


@pytest.mark.slow
def test_report_and_study_hold_it_all(outcome):
    found, _ = outcome
    html = found.report.read_text(encoding="utf-8")
    assert "<script" not in html
    for heading in (
        "Layers → regions (fMRI)",
        "Regions → layers (fMRI)",
        "Noise ceilings",
        "Geometry of the layers",
        "What drives a unit",
    ):
        assert heading in html
    study = ba.open_study(found.store)
    assert {"digits-net", "fmri", "bold", "meg", "spikes"} <= set(study["responses"])
    forward = study["results/forward"].to_dataset()
    assert forward.score.shape == (4, 3)
    assert float(forward.score.max()) < 1


@pytest.mark.slow
def test_scores_stay_below_their_ceiling_on_average_and_backward_is_its_own_result(outcome):
    study = ba.open_study(outcome[0].store)
    voxels = study["results/voxels"].to_dataset()
    assert float(voxels.score.mean()) < float(voxels.ceiling.mean())
    assert study["results/backward"].to_dataset().score.dims == ("source_region", "target_layer")


def test_the_command_hands_over_the_folder(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "demo", seen.append)
    assert main(["demo", "--output", "there"]) == 0
    assert main(["demo"]) == 0
    assert seen == ["there", "demo-output"]

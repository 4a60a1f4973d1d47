import json

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.spikes.alf import adapter, open_alf
from brainalign.core.errors import FormatError, ParameterError

EDGES = [0.0, 0.5, 1.0]


def save(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        np.save(folder / f"{name}.npy", np.asarray(array))


def ibl(tmp_path, probes=("probe00", "probe01"), sorter="pykilosort"):
    """Write a session of the International Brain Laboratory: folders of probes and sorters, trials with a namespace."""
    alf = tmp_path / "cortexlab" / "Subjects" / "KS023" / "2019-12-10" / "001" / "alf"
    for number, probe in enumerate(probes):
        save(
            alf / probe / sorter,
            {
                "spikes.times": [0.1, 0.2, 1.6, 2.1 + number, 4.0], "spikes.clusters": [0, 1, 1, 0, 1], "clusters.channels": [1, 0],
                "clusters.depths": [100.0, 200.0], "channels.brainLocationIds_ccf_2017": [385, 170], "channels.rawInd": [0, 1],
                "channels.mlapdv": np.zeros((2, 3)),
            },
        )  # fmt: skip
    contrasts = {"contrastLeft": [0.25, np.nan, np.nan, 0.0], "contrastRight": [np.nan, 1.0, 1.0, np.nan]}
    trials = {
        **contrasts,
        "stimOn_times": [0.0, 1.0, 2.0, 3.0],
        "choice": [1, -1, 1, 1],
        "intervals": [[i, i + 1.0] for i in range(4)],
    }
    save(alf, {f"_ibl_trials.{name}": array for name, array in trials.items()})
    return alf.parent


def steinmetz(tmp_path):
    """Write a session of Steinmetz et al. (2019): all files side by side, columns of one value, channels from 1."""
    folder = tmp_path / "Cori_2016-12-14"
    column = lambda *items: np.array(items)[:, None]  # noqa: E731
    save(
        folder,
        {
            "spikes.times": column(0.1, 0.2, 1.3, 2.4), "spikes.clusters": column(0, 1, 1, 0).astype(np.uint32),
            "clusters.peakChannel": column(3.0, 1.0), "clusters._phy_annotation": column(2, 1), "clusters.probes": column(0, 1),
            "clusters.templateWaveforms": np.zeros((2, 82, 50)), "channels.site": column(0, 1, 0),
            "trials.visualStim_contrastLeft": column(0.5, 0.0, 1.0), "trials.visualStim_contrastRight": column(0.25, 0.0, 0.0),
            "trials.visualStim_times": column(0.0, 1.0, 2.0), "trials.intervals": [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]],
        },
    )  # fmt: skip
    rows = ["ccf_ap\tccf_dv\tccf_lr\tallen_ontology", "1\t2\t3\tACA", "1\t2\t3\tMOs", "1\t2\t3\troot"]
    (folder / "channels.brainLocation.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_session_of_the_international_brain_laboratory(tmp_path):
    session = ibl(tmp_path)
    assert adapter.matches(session) == "a folder with alf/probe00/pykilosort/spikes.times.npy: ALF"
    x = ba.open_responses(session, system="KS023", edges_s=EDGES, events="trials")
    assert x.stimulus_id.values.tolist() == ["left-0.25", "right-1", "right-1", "blank"]
    assert x.repetition.values.tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(x.contrastLeft, [0.25, np.nan, np.nan, 0.0])
    assert x.neuroid_id.values.tolist() == ["probe00/0", "probe00/1", "probe01/0", "probe01/1"]
    assert x.probe.values.tolist() == ["probe00", "probe00", "probe01", "probe01"]
    assert x.region.values.tolist() == ["170", "385"] * 2
    assert x.channel.values.tolist() == ["1", "0"] * 2
    assert x.n_spikes.values.tolist() == [2, 3, 2, 3]
    assert x.values[2, :, 0].tolist() == [1, 0, 0, 0]
    assert x.values[3, 2].tolist() == [1, 0]
    assert set(x.subject.values) == {"KS023"}
    assert set(x.session.values) == {"2019-12-10/001"}
    assert x.choice.values.tolist() == [1, -1, 1, 1]
    params = ba.core.provenance(x).steps[1]["params"]
    assert params["onset_column"] == "stimOn_times"
    assert params["n_blank"] == 1
    assert params["channel_index_base"] == 0
    assert params["source"][0] == "probe00/channels.brainLocationIds_ccf_2017.npy"
    ba.validate(x, deep=True)
    one = open_alf(session / "alf", system="m", edges_s=EDGES, events="trials", probes=["probe01"], blanks="drop")
    assert (one.sizes["neuroid"], one.sizes["presentation"]) == (2, 3)
    same = open_alf(session / "alf" / "probe01", system="m", edges_s=[0, 5])
    assert same.values.tolist() == [[2, 3]]
    assert set(same.neuroid_id.values) == {"pykilosort/0", "pykilosort/1"}


def test_a_session_of_steinmetz(tmp_path):
    folder = steinmetz(tmp_path)
    x = ba.open_responses(folder, system="Cori", edges_s=EDGES, events="trials")
    assert x.stimulus_id.values.tolist() == ["left-0.5_right-0.25", "blank", "left-1"]
    assert x.neuroid_id.values.tolist() == ["0", "1"]
    assert x.region.values.tolist() == ["root", "ACA"]  # peak channels 3 and 1 of three: they count from 1
    assert x.channel.values.tolist() == ["2", "0"]
    assert x.values.sum(2).tolist() == [[1, 1], [0, 1], [1, 0]]
    assert x.phy_annotation.values.tolist() == [2, 1]
    good = open_alf(folder, system="Cori", edges_s=EDGES, events="trials", quality={"phy_annotation": ">=2"})
    assert good.neuroid_id.values.tolist() == ["0"]
    assert json.loads(good.attrs["quality_cuts"]) == [{"column": "phy_annotation", "rule": ">=2", "n_left": 1}]


def test_a_probe_may_have_no_good_unit(tmp_path):
    session = ibl(tmp_path)
    for probe, labels in (("probe00", [0.0, 0.33]), ("probe01", [1.0, 0.33])):
        np.save(session / "alf" / probe / "pykilosort" / "clusters.label.npy", labels)
    x = open_alf(session, system="m", edges_s=EDGES, events="trials", quality={"label": 1})
    assert x.neuroid_id.values.tolist() == ["probe01/0"]
    assert json.loads(x.attrs["quality_cuts"])[0]["n_left"] == 1
    with pytest.raises(ParameterError, match=r"none of 4 units of '001': label >1 \(0 left\)"):
        open_alf(session, system="m", edges_s=EDGES, quality={"label": ">1"})


def test_counts_are_conserved(tmp_path):
    x = open_alf(ibl(tmp_path), system="m", edges_s=np.linspace(0, 5, 11))
    assert x.sum("presentation").values.tolist() == x.n_spikes.values.tolist()
    assert x.stimulus_id.values[0] == "run-1/b00000"


def test_stimuli_may_be_named_by_other_attributes(tmp_path):
    x = open_alf(
        ibl(tmp_path), system="m", edges_s=EDGES, events="trials", stimulus_column="choice", stimulus_format="choice{:+d}"
    )
    assert x.stimulus_id.values.tolist() == ["choice+1", "choice-1", "choice+1", "choice+1"]
    events = pd.DataFrame({"stimulus_id": ["a"], "onset_s": [1.5]})
    assert open_alf(ibl(tmp_path), system="m", edges_s=EDGES, events=events).shape == (1, 4, 2)


def test_trials_without_onset(tmp_path):
    session = ibl(tmp_path)
    np.save(session / "alf" / "_ibl_trials.stimOn_times.npy", [0.0, np.nan, 2.0, 3.0])
    with pytest.raises(FormatError, match=r"trials of '001' has no 'stimOn_times' in rows 1"):
        open_alf(session, system="m", edges_s=EDGES, events="trials")
    x = open_alf(session, system="m", edges_s=EDGES, events="trials", missing_onsets="drop")
    assert x.sizes["presentation"] == 3
    assert ba.core.provenance(x).steps[1]["params"]["n_without_onset"] == 1


def test_a_revision_is_chosen_and_recorded(tmp_path):
    session = ibl(tmp_path, probes=("probe00",))
    newer = session / "alf" / "probe00" / "pykilosort" / "#2024-05-06#"
    save(newer, {"spikes.times": [0.1, 0.2, 0.3, 0.4, 0.45], "spikes.clusters": [0, 0, 0, 0, 0]})
    x = open_alf(session, system="m", edges_s=[0, 0.5])
    assert x.values.tolist() == [[5, 0]]
    assert ba.core.provenance(x).steps[1]["params"]["revisions"] == {
        "spikes.times": "2024-05-06",
        "spikes.clusters": "2024-05-06",
    }


def test_what_must_be_said(tmp_path):
    session = ibl(tmp_path, probes=("probe00",))
    save(session / "alf" / "probe00", {"spikes.times": [1.0], "spikes.clusters": [0]})
    for options, error, says in (
        ({}, ParameterError, r"2 sortings of 'probe00' with sorter=None: it has .*'alf/probe00/pykilosort'"),
        ({"probes": ["probe07"]}, ParameterError, r"probes=\['probe07'\]. .* has 'probe00'"),
        ({"index_base": 2}, ParameterError, "'index_base'"),
        ({"sorter": "pykilosort", "events": "movies"}, ParameterError, "'events'"),
        ({"sorter": "pykilosort", "events": "trials", "onset_column": "goCue_times"}, FormatError, "no column 'goCue_times'"),
        ({"sorter": "pykilosort", "edges_s": [60, 61]}, ParameterError, "0.1 and 4 s"),
        ({"sorter": "pykilosort", "edges_s": [0, 6], "recorded_s": (0, 5)}, ParameterError, "the recording spans 0 and 5 s"),
    ):
        with pytest.raises(error, match=says):
            open_alf(session, **{"system": "m", "edges_s": EDGES, **options})
    assert open_alf(session, system="m", edges_s=EDGES, sorter="pykilosort").shape == (2, 2)
    for name in ("contrastLeft", "contrastRight"):
        (session / "alf" / f"_ibl_trials.{name}.npy").unlink()
    with pytest.raises(ParameterError, match=r"needs `stimulus_column=`.*'choice'"):
        open_alf(session, system="m", edges_s=EDGES, sorter="pykilosort", events="trials")


@pytest.mark.parametrize("contrast", [-0.25, 25.0])
def test_contrasts_in_another_unit(tmp_path, contrast):
    session = ibl(tmp_path)
    np.save(session / "alf" / "_ibl_trials.contrastLeft.npy", [contrast, np.nan, np.nan, 0.0])
    with pytest.raises(FormatError, match=r"has the contrasts \[.*\] in row 0. Expected 0 to 1"):
        open_alf(session, system="m", edges_s=EDGES, events="trials")


def test_what_is_no_session(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert not adapter.matches(tmp_path)
    assert not adapter.matches(tmp_path / "notes.txt")
    with pytest.raises(FormatError, match=r"has no spikes.times. It has no file that ALF names"):
        open_alf(tmp_path, system="m", edges_s=EDGES)
    with pytest.raises(FormatError, match="no folder"):
        open_alf(tmp_path / "gone", system="m", edges_s=EDGES)
    save(tmp_path, {"spikes.times": [0.1], "spikes.clusters": [0]})
    with pytest.raises(FormatError, match="spikes and no file of clusters"):
        open_alf(tmp_path, system="m", edges_s=EDGES)
    save(tmp_path, {"clusters.depths": [10.0]})
    with pytest.raises(FormatError, match="0 folders with trials"):
        open_alf(tmp_path, system="m", edges_s=EDGES, events="trials")


def test_damage_gives_a_typed_error(tmp_path, survives_damage):
    folder = steinmetz(tmp_path)
    for name in ("spikes.times.npy", "clusters.peakChannel.npy", "channels.brainLocation.tsv", "trials.visualStim_times.npy"):
        assert survives_damage(
            folder / name, lambda: open_alf(folder, system="m", edges_s=EDGES, events="trials"), header=130, examples=15
        )

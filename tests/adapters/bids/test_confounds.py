import json

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy

import brainalign as ba
from brainalign.adapters.bids.confounds import non_steady_state, read_confounds
from brainalign.adapters.bids.entities import parse
from brainalign.core.errors import FormatError, ParameterError

MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


@pytest.fixture
def prepared(tree):
    for run in "12":
        tree.bold(f"sub-01_task-a_run-{run}_space-A_desc-preproc_bold.nii.gz", seed=int(run))
        tree.confounds(f"sub-01_task-a_run-{run}")
    return tree


def without(*names):
    def edit(rows):
        keep = [i for i, name in enumerate(rows[0]) if name not in names]
        return [[row[i] for i in keep] for row in rows]

    return edit


@pytest.mark.parametrize("dialect", ["timeseries", "regressors"])
@pytest.mark.parametrize("strategy", ["simple", "compcor", ("motion", "high_pass", "global_signal")])
def test_values_are_those_of_nilearn(tree, dialect, strategy):
    image = "sub-01_task-a_space-A_desc-preproc_bold.nii.gz"
    tree.bold(image)
    tree.confounds("sub-01_task-a", dialect=dialect)
    x = read_confounds(tree.root, strategy=strategy)
    load = load_confounds_strategy if isinstance(strategy, str) else load_confounds
    expected, sample = load(str(tree.path(image)), strategy, demean=False)
    assert sorted(x.neuroid_id.values) == sorted(expected.columns)
    np.testing.assert_allclose(x.values, expected[list(x.neuroid_id.values)].to_numpy(), rtol=1e-6)
    assert np.flatnonzero(x.kept).tolist() == list(range(30) if sample is None else sample)


def test_rows_are_those_of_the_volumes(prepared):
    prepared.json("task-a_bold.json", RepetitionTime=2, StartTime=1.0)
    x = read_confounds(prepared.root, strategy=["motion"], motion="basic")
    bold = ba.open_responses(prepared.root)
    assert x.neuroid_id.values.tolist() == MOTION
    for name in ("stimulus_id", "run", "subject", "onset_s"):
        assert x[name].values.tolist() == bold[name].values.tolist()
    np.testing.assert_array_equal(~x.kept, bold.non_steady_state)
    assert len(read_confounds(prepared.root, strategy=["motion"], run="2")) == 30


def test_clean_takes_them_unchanged(prepared):
    """What is made of confounds alone is nothing afterwards; the rest stays."""
    table = read_confounds(prepared.root, strategy=["motion"], motion="basic")
    for run in "12":
        of_run = table.values[table.run == run]
        values = np.zeros((1, 1, 2, 30), np.float32)
        values[0, 0, 0] = of_run[:, 0] * 50 + of_run[:, 4]
        values[0, 0, 1] = np.random.default_rng(0).normal(size=30)
        prepared.bold(f"sub-01_task-a_run-{run}_space-A_desc-preproc_bold.nii.gz", values=values)
    bold = ba.open_responses(prepared.root)
    cleaned = ba.Clean(confounds=table).transform(bold)
    assert np.abs(cleaned.values[:, 0]).max() < 1e-4 * np.abs(bold.values[:, 0]).max()
    assert cleaned.values[:, 1].std() > 0.5
    simple = ba.open_responses(prepared.root, format="confounds", strategy="simple")
    assert ba.Clean(confounds=simple).transform(bold).shape == bold.shape
    assert "confounds" in ba.core.provenance(cleaned).steps[-1]["inputs"]


def test_the_first_row_of_derivatives_is_repeated_and_recorded(prepared):
    x = read_confounds(prepared.root, strategy=["motion"], motion="derivatives", run="1")
    derivative = x.values[:, list(x.neuroid_id.values).index("trans_x_derivative1")]
    assert derivative[0] == derivative[1]
    filled = json.loads(x.attrs["report"])["first_row_repeated"]
    assert sorted(*filled.values()) == sorted(f"{name}_derivative1" for name in MOTION)
    step = ba.core.provenance(x).steps[-1]
    assert (step["verb"], step["params"]["motion"], step["params"]["tr_s"]) == ("open:confounds", "derivatives", 2.0)


def test_components_that_a_run_lacks_are_zero_there_and_named(prepared):
    prepared.confounds("sub-01_task-a_run-2", edit=without("cosine00"))
    x = read_confounds(prepared.root, strategy=["motion", "high_pass"], motion="basic")
    absent = json.loads(x.attrs["report"])["zero_where_absent"]
    assert absent == {"cosine00": ["sub-01_task-a_run-2_desc-confounds_timeseries.tsv"]}
    column = x[:, list(x.neuroid_id.values).index("cosine00")]
    assert not column[x.run == "2"].any()
    assert column[x.run == "1"].any()
    assert np.isfinite(ba.Clean(confounds=x).transform(ba.open_responses(prepared.root))).all()


def test_other_columns_must_be_in_all_runs(prepared):
    prepared.confounds("sub-01_task-a_run-2", edit=without("csf"))
    with pytest.raises(FormatError, match=r"run-2_desc-confounds_timeseries.tsv' does not give the strategy \['wm_csf'\].*csf"):
        read_confounds(prepared.root, strategy=["wm_csf"])


def test_compcor_needs_its_cosines(prepared):
    with pytest.raises(ParameterError, match=r"strategy=\['motion', 'compcor'\]. Expected 'high_pass' beside 'compcor'"):
        read_confounds(prepared.root, strategy=["motion", "compcor"])
    x = read_confounds(prepared.root, strategy="compcor", n_compcor=2)
    names = list(x.neuroid_id.values)
    assert sum(name.startswith("a_comp_cor") for name in names) == 2
    assert any(name.startswith("cosine") for name in names)


def test_scrubbed_volumes_are_marked(prepared):
    x = read_confounds(prepared.root, strategy=["scrub", "motion"], motion="basic", fd_threshold=100.0, std_dvars_threshold=1e6)
    assert int((~x.kept).sum()) == 6  # those before the steady state
    with pytest.raises(ParameterError, match=r"leaves 0 of 30 volumes"):
        read_confounds(prepared.root, strategy="scrubbing")


def test_wrong_options_are_named(prepared):
    for options, said in (
        ({"strategy": "simpel"}, "one of 'simple'"),
        ({"motoin": "full"}, "unknown option 'motoin'. Did you mean 'motion'"),
        ({"n_compcor": 3}, "nilearn warns: .*not needed"),
    ):
        with pytest.raises(ParameterError, match=said):
            read_confounds(prepared.root, **options)
    with pytest.raises(FormatError, match="does not give the strategy 'simple', motion='some'"):
        read_confounds(prepared.root, motion="some")


def test_tables_and_runs_must_fit(prepared):
    file = prepared.path("sub-01_task-a_run-2_desc-confounds_timeseries.tsv")
    whole = file.read_text().splitlines()
    file.write_text("\n".join(whole[:-1]) + "\n")
    with pytest.raises(FormatError, match=r"has 29 rows and 'sub-01_task-a_run-2.*bold.nii.gz' 30 volumes"):
        read_confounds(prepared.root)
    cells = whole[5].split("\t")
    cells[whole[0].split("\t").index("rot_x")] = "n/a"
    file.write_text("\n".join([*whole[:5], "\t".join(cells), *whole[6:]]) + "\n")
    with pytest.raises(FormatError, match="no value in row 4 of 'rot_x'"):
        read_confounds(prepared.root, strategy=["motion"])
    file.write_text("\n".join(whole)[:-300])
    with pytest.raises(FormatError, match=r"run-2_desc-confounds_timeseries.tsv' has \d+ cells in row 30"):
        read_confounds(prepared.root)


def test_without_images_the_tr_must_be_said(tree):
    tree.confounds("sub-01_task-a")
    with pytest.raises(FormatError, match=r"does not state its TR: .* no recording beside it"):
        read_confounds(tree.root)
    x = read_confounds(tree.root, tr_s=1.5, first_onset_s=6.0)
    np.testing.assert_allclose(x.onset_s[:3], [6, 7.5, 9])
    with pytest.raises(FormatError, match=r"no confounds of task-b\. It has 'task-a'"):
        read_confounds(tree.root, task="b")
    tree.bold("sub-02_task-a_bold.nii.gz")
    with pytest.raises(FormatError, match="no confounds of desc-confounds"):
        read_confounds(tree.root, subject="02")


def test_non_steady_volumes(prepared):
    file = parse(prepared.path("sub-01_task-a_run-1_space-A_desc-preproc_bold.nii.gz"))
    table = pd.read_csv(prepared.path("sub-01_task-a_run-1_desc-confounds_timeseries.tsv"), sep="\t")
    expected = table.filter(like="non_steady_state").any(axis=1)
    assert expected.any()
    np.testing.assert_array_equal(non_steady_state(file, 30), expected)
    prepared.confounds("sub-01_task-a_run-1", dialect="regressors")
    with pytest.raises(FormatError, match="are confounds of one run"):
        non_steady_state(file, 30)


def test_runs_come_in_the_order_of_the_recording(tree):
    for run in ("1", "2", "10"):
        tree.bold(f"sub-01_task-a_run-{run}_desc-preproc_bold.nii.gz")
        tree.confounds(f"sub-01_task-a_run-{run}")
    x = read_confounds(tree.root, strategy=["motion"])
    assert list(dict.fromkeys(x.run.values)) == ["1", "2", "10"]
    assert x.stimulus_id.values.tolist() == ba.open_responses(tree.root).stimulus_id.values.tolist()
    tree.confounds("sub-01_task-a_run-2", dialect="regressors")
    with pytest.raises(FormatError, match=r"are one run\. Expected one file"):
        read_confounds(tree.root, strategy=["motion"])


def test_sessions_are_told_apart(tree):
    for session in "ab":
        tree.bold(f"sub-01_ses-{session}_task-a_desc-preproc_bold.nii.gz")
        tree.confounds(f"sub-01_ses-{session}_task-a")
    x = read_confounds(tree.root, strategy=["motion"])
    bold = ba.open_responses(tree.root)
    assert x.stimulus_id.values.tolist() == bold.stimulus_id.values.tolist()
    assert ba.Clean(confounds=x).transform(bold).shape == bold.shape
    one = read_confounds(tree.root, strategy=["motion"], session="ses-b")
    np.testing.assert_array_equal(one.values, x.values[x.session.values == "b"])


@pytest.mark.parametrize("suffix", [".tsv", ".json"])
def test_damage_gives_confounds_or_a_typed_error(tree, survives_damage, suffix):
    file = tree.confounds("sub-01_task-a").with_suffix(suffix)
    assert survives_damage(file, lambda: read_confounds(tree.root, strategy="compcor", tr_s=2.0), examples=20)

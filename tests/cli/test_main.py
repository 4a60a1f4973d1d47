import subprocess
import sys

import numpy as np
import pytest

import brainalign as ba
from brainalign.cli.main import main


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("cli") / "study.zarr")
    study = ba.simulate(n_stimuli=40, n_neuroids=4, n_repeats=2, modalities=("fmri",), random_state=0)
    for recording in (study.network, study.brain):
        ba.save(recording, path)
    return path


def write(folder, text):
    file = folder / "spec.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def pair(store, more=""):
    return f'source = {{path = "{store}", name = "random-network"}}\ntarget = {{path = "{store}", name = "sub-01"}}\n{more}'


def test_evaluate_compare_and_report_end_to_end(store, tmp_path, capsys):
    model = 'model = [{step = "Reduce", n_components = 8}, {step = "Ridge", cv = 3}]'
    common = f'{model}\ncv = 3\nceiling = "repeat"\nrandom_state = 0\nstore = "{store}"\n'
    assert main(["evaluate", write(tmp_path, pair(store, common + 'name = "encoding"'))]) == 0
    assert "results/encoding" in capsys.readouterr().out
    assert main(["compare", write(tmp_path, pair(store, common + 'by = ["layer", "region"]'))]) == 0
    printed = capsys.readouterr().out
    assert "layer1" in printed
    assert "results/compare" in printed
    saved = ba.open_study(store)["results/encoding"].to_dataset()
    direct = ba.open_study(store)["results/compare"].to_dataset()
    assert saved.score.sizes["neuroid"] == 12
    assert direct.score.shape == (4, 3)
    page = tmp_path / "page.html"
    results = f'results = [{{path = "{store}", name = "encoding"}}, {{path = "{store}", name = "compare"}}]\npath = "{page}"'
    assert main(["report", write(tmp_path, results)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "layer4" in page.read_text(encoding="utf-8")


def test_rsa_end_to_end(store, tmp_path, capsys):
    sides = "".join(
        f'{side} = {{path = "{store}", name = "{name}", rdm = {{by = "{by}"}}}}\n'
        for side, name, by in (("source", "random-network", "layer"), ("target", "sub-01", "region"))
    )
    spec = write(tmp_path, sides + f'metric = "rho-a"\nn_permutations = 9\nrandom_state = 0\nstore = "{store}"')
    assert main(["rsa", spec]) == 0
    printed = capsys.readouterr().out
    assert "p_value_max" in printed
    assert "results/compare_rdms" in printed
    assert ba.open_study(store)["results/compare_rdms"].to_dataset().score.shape == (4, 3)
    assert main(["rsa", spec]) == 1
    assert "already holds results/compare_rdms" in capsys.readouterr().err


def test_decode_end_to_end(store, tmp_path, capsys):
    rng, kind = np.random.default_rng(0), np.repeat(["face", "house"], 15)
    x = ba.responses(rng.normal(size=(30, 4, 3)) + 2 * (kind == "face")[:, None, None], stimulus_id=[f"s{i}" for i in range(30)],
                     neuroid_id=range(4), time=[0.0, 0.1, 0.2], modality="meg", system="meg", condition=kind)  # fmt: skip
    ba.save(x, store)
    sides = f'source = {{path = "{store}", name = "meg"}}\ntarget = {{coordinate = "condition"}}\n'
    text = (
        sides
        + 'cv = {n_splits = 3, stratify = "condition", random_state = 0}\nclusters = "mass"\nn_permutations = 9\nrandom_state = 0\n'
    )
    spec = write(tmp_path, text + f'store = "{store}"')
    assert main(["decode", spec]) == 0
    printed = capsys.readouterr().out
    assert "p_value_cluster" in printed
    assert "results/decode_time" in printed
    found = ba.open_study(store)["results/decode_time"].to_dataset()
    assert found.score.dims == ("time",)
    assert main(["decode", spec]) == 1
    assert "already holds results/decode_time" in capsys.readouterr().err
    assert main(["decode", write(tmp_path, text), "--dry-run"]) == 0
    variables = {}
    exec(capsys.readouterr().out, variables)
    np.testing.assert_array_equal(variables["result"].score, found.score)


def test_dry_run_prints_python_that_runs_and_gives_the_same(store, tmp_path, capsys):
    spec = write(tmp_path, pair(store, 'model = {step = "Ridge", alphas = [10.0]}\ncv = 3\nrandom_state = 0'))
    assert main(["evaluate", spec, "--dry-run"]) == 0
    script = capsys.readouterr().out
    variables = {}
    exec(script, variables)
    expected = ba.evaluate(variables["source"], variables["target"], model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0)
    assert variables["result"].score.equals(expected.score)


def test_errors_are_one_line_and_a_status(tmp_path, capsys):
    spec = write(tmp_path, pair("none.zarr", "ceilling = 1"))
    assert main(["evaluate", spec]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ParameterError: ")
    assert captured.err.count("\n") == 1
    assert "'ceiling'" in captured.err
    with pytest.raises(ba.errors.ParameterError):
        main(["evaluate", spec, "--debug"])
    assert main(["evaluate", write(tmp_path, pair("none.zarr"))]) == 1
    assert "none.zarr does not exist" in capsys.readouterr().err


def test_a_taken_name_is_refused_before_the_work(store, tmp_path, capsys):
    result = ba.open_responses(store, name="sub-01").mean("presentation").to_dataset(name="score")
    ba.save(result, store, name="taken", overwrite=True)
    assert main(["evaluate", write(tmp_path, pair(store, f'store = "{store}"\nname = "taken"\ncv = 1000'))]) == 1
    assert "already holds results/taken" in capsys.readouterr().err


def test_with_resume_tiles_are_kept_and_a_finished_result_is_opened_again(store, tmp_path, capsys, monkeypatch):
    scores = tmp_path / "scores.zarr"
    more = f'cv = 3\nmodel = {{step = "Ridge", cv = 3}}\ncontrols = "none"\nstore = "{scores}"\nresume = true'
    assert main(["evaluate", write(tmp_path, pair(store, more))]) == 0
    first = capsys.readouterr().out
    assert "results/evaluate" in first
    monkeypatch.setattr("brainalign.scores.evaluate.score_in_tiles", None)
    assert main(["evaluate", write(tmp_path, pair(store, more))]) == 0
    assert capsys.readouterr().out == first
    found = ba.open_study(scores)["results/evaluate"].to_dataset()
    assert found.score.sizes["neuroid"] == 12


def test_of_a_long_table_the_ends_are_printed(tmp_path, capsys):
    path, times = str(tmp_path / "timed.zarr"), np.arange(20) / 10
    for name in ("meg", "eeg"):
        values = np.random.default_rng(0).normal(size=(4, 5, 20))
        x = ba.responses(values, stimulus_id=list("abcd"), neuroid_id=range(5), time=times, modality=name, system=name)
        ba.save(x, path)
    sides = "".join(f'{side} = {{path = "{path}", name = "{n}"}}\n' for side, n in (("source", "meg"), ("target", "eeg")))
    assert main(["rsa", write(tmp_path, sides)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 210
    assert "400 rows, of which the first and the last are shown" in lines[-1]


def test_an_interruption_is_one_line_and_a_status(tmp_path, capsys, monkeypatch):
    def interrupt(lines):
        raise KeyboardInterrupt

    monkeypatch.setattr("brainalign.cli.program.run", interrupt)
    assert main(["evaluate", write(tmp_path, 'source = "net.zarr"\ntarget = "brain.zarr"')]) == 130
    assert capsys.readouterr().err.startswith("interrupted: with `resume = true`")


def test_help_of_a_command_names_its_keys_and_where_they_are_explained(capsys):
    with pytest.raises(SystemExit):
        main(["rsa", "--help"])
    shown = capsys.readouterr().out
    assert "must have: source, target" in shown
    assert "help(ba.compare_rdms)" in shown


def test_help_and_version_are_light():
    code = "import sys; from brainalign.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
    for command in ("record", "evaluate", "compare", "rsa", "decode", "report", "demo"):
        assert command in run.stdout
    with pytest.raises(SystemExit) as stopped:
        main(["frobnicate"])
    assert stopped.value.code == 2

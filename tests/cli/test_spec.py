import inspect
import re
import tomllib
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import brainalign as ba
from brainalign.cli.program import as_python, run
from brainalign.cli.spec import FUNCTION, MAPPINGS, STEPS, program, read_spec, with_edges
from brainalign.core.errors import ParameterError

PAIR = {"source": "net.zarr", "target": "brain.zarr"}
LM = {"call": "TransformersResponder", "model_name_or_path": "lm"}


def test_every_public_step_and_mapping_can_be_named():
    estimators = {
        name for name in ba.__all__ if inspect.isclass(getattr(ba, name)) and issubclass(getattr(ba, name), BaseEstimator)
    }
    assert estimators == {*STEPS, *MAPPINGS}


def test_keys_become_keyword_arguments():
    spec = PAIR | {"by": ["layer", "region"], "cv": {"by": "run", "n_splits": 4}, "ceiling": "repeat", "random_state": 1}
    assert as_python(program("compare", spec)).splitlines()[2:] == [
        "source = ba.open_responses('net.zarr')",
        "target = ba.open_responses('brain.zarr')",
        "result = ba.compare(source, target, by=('layer', 'region'), cv=ba.split(target, by='run', n_splits=4), ceiling='repeat', "
        "random_state=1)",
    ]


def test_sources_with_options_decoding_and_saving():
    spec = {
        "source": {"path": "s.zarr", "name": "sub-01"},
        "target": {"coordinate": "condition"},
        "store": "s.zarr",
        "name": "acc",
    }
    assert as_python(program("evaluate", spec)).splitlines()[2:] == [
        "source = ba.open_responses('s.zarr', name='sub-01')",
        "target = 'condition'",
        "result = ba.evaluate(source, target)",
        "ba.save(result, 's.zarr', name='acc')",
    ]


def test_bins_are_said_by_their_width():
    side = {"path": "m.nwb", "edges_s": "0:0.2:0.1"}
    lines = as_python(
        program("evaluate", {"source": side, "target": "s.zarr", "model": {"step": "BinTime", "edges_s": "0:1:0.5"}})
    )
    assert "source = ba.open_responses('m.nwb', edges_s=[0.0, 0.1, 0.2])" in lines
    assert "ba.BinTime(edges_s=[0.0, 0.5, 1.0])" in lines
    for wrong in ("0:0.5", "0:0.5:0.3", "0.5:0:0.1", "0:1:0", "a:b:c"):
        with pytest.raises(ParameterError, match=rf"edges_s is '{wrong}'\. Expected start:stop:width"):
            with_edges({"edges_s": wrong})


def test_with_resume_the_store_goes_to_the_function():
    lines = as_python(program("compare", PAIR | {"by": ["layer", "region"], "store": "s.zarr", "resume": True})).splitlines()
    assert lines[-1] == "result = ba.compare(source, target, by=('layer', 'region'), store='s.zarr', resume=True)"


def test_sides_of_rsa_are_made_or_opened():
    spec = {
        "source": {"path": "s.zarr", "name": "net", "rdm": {"by": "layer", "metric": "euclidean"}},
        "target": {"rdms": "it.mat", "stimulus_id": "ids.txt"},
        "over": ["subject", "stimulus"],
        "store": "s.zarr",
    }
    assert as_python(program("rsa", spec)).splitlines()[2:] == [
        "source = ba.rdm(ba.open_responses('s.zarr', name='net'), by='layer', metric='euclidean')",
        "target = ba.open_rdms('it.mat', stimulus_id='ids.txt')",
        "result = ba.compare_rdms(source, target, over=('subject', 'stimulus'))",
        "ba.save(result, 's.zarr')",
    ]
    assert as_python(program("rsa", PAIR)).splitlines()[2].startswith("source = ba.rdm(ba.open_responses('")


def test_decoding_splits_the_rows_that_have_the_labels():
    spec = {
        "source": "meg.zarr",
        "target": {"coordinate": "category"},
        "cv": {"n_splits": 4, "stratify": "category"},
        "train_on": {"condition": "seen"},
        "generalize": True,
        "store": "s.zarr",
    }
    assert as_python(program("decode", spec)).splitlines()[2:] == [
        "source = ba.open_responses('meg.zarr')",
        "target = 'category'",
        "result = ba.decode_time(source, target, cv=ba.split(source, n_splits=4, stratify='category'), train_on={'condition': 'seen'}, "
        "generalize=True)",
        "ba.save(result, 's.zarr')",
    ]
    labels = {"source": "a.zarr", "target": {"coordinate": "category"}, "cv": {"by": "run"}}
    assert "cv=ba.split(source, by='run')" in as_python(program("evaluate", labels))
    assert "cv=ba.split(target, n_splits=3)" in as_python(program("decode", PAIR | {"cv": {"n_splits": 3}}))


def test_model_is_built_from_public_names_only():
    lines = program("evaluate", PAIR | {"model": [{"step": "Delay", "delays_s": [2, 4]}, "Ridge"]})
    assert "model=ba.chain(ba.Delay(delays_s=[2, 4]), ba.Ridge())" in as_python(lines)
    assert "model=ba.Ridge(cv=3)" in as_python(program("evaluate", PAIR | {"model": {"step": "Ridge", "cv": 3}}))
    model = run([lines[2].__class__(lines[2].value.kwargs["model"], "model")])["model"]
    assert [type(step) for step in model.steps] == [ba.Delay, ba.Ridge]
    for evil in ("__import__('os').system('x')", "os.system", "save"):
        with pytest.raises(ba.errors.UnknownNameError, match="Known: AttentionReadout"):
            program("evaluate", PAIR | {"model": [evil]})


def test_record_and_report():
    spec = {
        "responder": {"call": "TransformersResponder", "model_name_or_path": "m", "layers": "h.*"},
        "stimuli": {"path": "study.zarr", "name": "words"},
        "store": "study.zarr",
        "batch_size": 8,
    }
    assert as_python(program("record", spec)).splitlines()[2:] == [
        "responder = ba.TransformersResponder(model_name_or_path='m', layers='h.*')",
        "stimuli = ba.open_study('study.zarr')['stimuli/words'].to_dataset()",
        "result = ba.record(responder, stimuli, store='study.zarr', batch_size=8)",
    ]
    spec = {
        "results": [{"path": "s.zarr", "name": "fwd", "heading": "Forward"}, {"path": "s.zarr", "name": "back"}],
        "path": "r.html",
    }
    assert as_python(program("report", spec | {"title": "T"})).splitlines()[2:] == [
        "page = ba.reports.report({'Forward': ba.open_study('s.zarr')['results/fwd'].to_dataset(), "
        "'back': ba.open_study('s.zarr')['results/back'].to_dataset()}, path='r.html', title='T')"
    ]


@pytest.mark.parametrize("command", FUNCTION)
def test_an_unknown_key_names_the_closest_one(command):
    typo = {
        "record": "batch_sise",
        "evaluate": "ceilling",
        "compare": "agregate",
        "rsa": "metrik",
        "decode": "clsuters",
        "report": "titel",
    }[command]
    meant = {
        "record": "batch_size",
        "evaluate": "ceiling",
        "compare": "aggregate",
        "rsa": "metric",
        "decode": "clusters",
        "report": "title",
    }[command]
    with pytest.raises(ba.errors.ParameterError, match=f"'{typo}'. Did you mean '{meant}'"):
        program(command, PAIR | {typo: 1} if command in ("evaluate", "compare", "rsa", "decode") else {typo: 1})


@pytest.mark.parametrize(
    ("command", "spec", "message"),
    [
        ("evaluate", {"source": "x"}, "needs 'target'"),
        ("compare", PAIR, "needs 'by'"),
        (
            "evaluate",
            PAIR | {"model": {"step": "Ridge", "alpha": 1.0}},
            "Ridge got an unknown key 'alpha'. Did you mean 'alphas'",
        ),
        ("evaluate", PAIR | {"model": "Rigde"}, "Did you mean 'Ridge'"),
        ("evaluate", PAIR | {"model": 3}, "holds 3"),
        ("evaluate", PAIR | {"cv": {"bye": "run"}}, "cv got an unknown key 'bye'. Did you mean 'by'"),
        ("evaluate", PAIR | {"source": 3}, "source is 3"),
        ("evaluate", PAIR | {"source": {"coordinate": "condition"}}, "source is"),
        ("evaluate", PAIR | {"name": "x"}, "without `store`"),
        ("evaluate", PAIR | {"resume": True}, "got `resume` without `store`. Expected a line `store ="),
        ("compare", PAIR | {"by": ["a", "b"], "store": "s", "resume": True, "name": "x"}, "`resume` with `name` or `overwrite`"),
        ("record", {"responder": "BertResponder", "stimuli": {}, "store": "s"}, "Known: TransformersResponder"),
        ("record", {"responder": LM, "stimuli": "s.zarr", "store": "s"}, "stimuli is 's.zarr'"),
        ("record", {"responder": LM, "stimuli": {"call": "from_nowhere"}, "store": "s"}, "from_nowhere"),
        ("record", {"responder": "TransformersResponder", "stimuli": {}, "store": "s"}, "needs 'model_name_or_path'"),
        (
            "evaluate",
            PAIR | {"model": ["Delay", "Ridge"]},
            "Delay needs 'delays_s'. Expected a table {step = \"Delay\", delays_s = ...}",
        ),
        ("evaluate", PAIR | {"store": 3}, "store = 3. Expected a path in quotes"),
        ("rsa", PAIR | {"source": {"path": "s", "rdm": 3}}, "source has rdm = 3. Expected the arguments of `ba.rdm`"),
        ("rsa", PAIR | {"source": {"path": "s", "rdm": {"mettric": "cosine"}}}, "source: rdm got an unknown key 'mettric'"),
        ("rsa", PAIR | {"source": {"rdm": {}}}, "source is {}"),
        ("report", {"results": ["s.zarr"], "path": "r"}, "results holds 's.zarr'"),
        ("report", {"results": [{"path": "s", "name": "a"}, {"path": "t", "name": "a"}], "path": "r"}, "heading 'a' twice"),
    ],
)
def test_mistakes_are_named(command, spec, message):
    with pytest.raises((ba.errors.ParameterError, ba.errors.UnknownNameError)) as caught:
        program(command, spec)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ba.errors.FormatError, match="does not exist"):
        read_spec(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("cv = 5\nsource = net.zarr\n")
    with pytest.raises(ba.errors.FormatError, match="line 2"):
        read_spec(tmp_path / "bad.toml")


def test_the_examples_of_the_documentation_are_valid():
    page = (Path(__file__).parents[2] / "docs" / "command_line.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n# (\w+)\.toml\n(.*?)```", page, flags=re.DOTALL)
    assert [command for command, _ in blocks] == ["record", "evaluate", "rsa", "decode", "report"]
    for command, text in blocks:
        assert program(command, tomllib.loads(text))

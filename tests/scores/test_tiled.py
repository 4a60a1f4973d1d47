"""Scoring in tiles: the same numbers as in one piece, each chunk of the target read once, and nothing lost by a kill."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LinearRegression

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, StoreError
from brainalign.engine.solvers import ridge_source
from brainalign.models import ridge
from brainalign.scores import tiled

FIXED = ba.Ridge(alphas=[1.0, 100.0], cv=3, dtype="float64")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiled, "TILE_BYTES", 1)
    monkeypatch.setattr(tiled, "_LEAST_COLUMNS", 7)


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=60, n_neuroids=8, n_repeats=2, modalities=("fmri",), random_state=0)


class Counted:
    """An array that counts how often each part of it is read."""

    def __init__(self, values):
        self.values, self.read = values, Counter()
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key):
        part = self.values[key]
        self.read[str(key)] += part.size > 0  # dask looks at an empty one for its type
        return part


def counted(x, chunks):
    counts = Counted(x.values)
    return x.copy(data=da.from_array(counts, chunks=chunks, name=f"counted-{id(counts)}", asarray=False)), counts


def assert_same(out, expected, atol=1e-6):
    assert set(out.variables) == set(expected.variables)
    for name, variable in expected.variables.items():
        assert out[name].dims == variable.dims, name
        if variable.dtype.kind == "f":
            np.testing.assert_allclose(out[name].values, variable.values, atol=atol, err_msg=name)
        else:
            assert out[name].values.tolist() == variable.values.tolist(), name


def assert_read_once(counts, n_chunks):
    """Each chunk is read once; and the first neuroid, by which the target is known again."""
    naming = [key for key in counts.read if ", slice(0, 1, " in key]
    rest = [n for key, n in counts.read.items() if n and key not in naming]
    assert rest == [1] * n_chunks
    assert {counts.read[key] for key in naming} == {1}


def broken(x):
    """One neuroid that is NaN, and a whole tile that is constant."""
    x = x.copy(deep=True)
    x[:, 1], x[:, 7:14] = np.nan, 3.0
    x.attrs["allow_nan"] = True
    return x


DRAWS = {"n_permutations": 6, "n_bootstraps": 5, "n_refits": 2}
ARGUMENTS = {"model": FIXED, "cv": 3, "ceiling": "repeat", "random_state": 4, **DRAWS}


@pytest.mark.filterwarnings("ignore::brainalign.core.errors.DegenerateNeuroidWarning")
def test_evaluate_equals_what_is_scored_in_one_piece(study, tmp_path):
    target = broken(study.fmri)
    expected = ba.evaluate(study.network, target, **ARGUMENTS)
    lazy, counts = counted(target, (50, 7))
    out = ba.evaluate(study.network, lazy, **ARGUMENTS, store=tmp_path / "scores.zarr")
    assert_same(out, expected)
    assert out.attrs["null"] == "exchange"
    assert json.loads(out.report)["folds"] == json.loads(expected.report)["folds"]
    ours, theirs = (ba.core.provenance(x).steps[-1] for x in (out, expected))
    assert ours["params"] == theirs["params"]
    assert ours["seed"] == theirs["seed"] == 4
    assert_read_once(counts, n_chunks=3 * 4)


def test_a_network_is_scored_in_tiles_from_a_brain_by_the_same_call(study, tmp_path):
    units = study.network[:, ::9]  # of every layer
    expected = ba.evaluate(study.fmri, units, **ARGUMENTS)
    lazy, _ = counted(units, (20, 7))
    assert_same(ba.evaluate(study.fmri, lazy, **ARGUMENTS, store=tmp_path / "scores.zarr"), expected)


def test_compare_equals_what_is_scored_in_one_piece(study, tmp_path):
    own = {"words": study.network[:, :3].drop_vars("layer")}
    arguments = {**ARGUMENTS, "by": ("layer", "region"), "controls": own}
    expected = ba.compare(study.network, study.fmri, **arguments)
    lazy, counts = counted(study.fmri, (50, 6))
    out = ba.compare(study.network, lazy, **arguments, store=tmp_path / "scores.zarr")
    assert_same(out, expected)
    assert out.attrs["choice"] == "held out"
    assert_read_once(counts, n_chunks=3 * 4)
    stored = ba.open_study(tmp_path / "scores.zarr")["results/compare"].to_dataset()
    assert_same(stored, out, atol=0)


def test_each_source_is_decomposed_once_for_all_tiles_and_permutations(study, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(ridge, "ridge_source", lambda *a, **k: made.append(1) or ridge_source(*a, **k))
    monkeypatch.setattr("brainalign.scores.inference._VALUES", 1)  # permutations do not stand side by side
    some = {"model": FIXED, "cv": 3, "controls": "none", "n_permutations": 4, "random_state": 0}
    ba.compare(study.network, study.fmri, by=("layer", "region"), **some, store=tmp_path / "scores.zarr")
    assert len(tiled.tiles_of({"": study.fmri})) > 2
    assert len(made) == 4 * 3  # layers and folds
    made.clear()
    ba.evaluate(study.network, study.fmri, **some)
    assert len(made) == 3


def test_people_and_shuffled_stimuli_share_what_is_made_of_the_source(study, monkeypatch):
    people = {"one": study.fmri[:, ::2], "two": study.fmri[:, :10].assign_coords(system=("neuroid", ["two"] * 10))}
    some = {"model": FIXED, "cv": 2, "controls": ["shuffled"], "random_state": 0}
    each = [ba.evaluate(study.network, x, **some) for x in people.values()]
    made = []
    monkeypatch.setattr(ridge, "ridge_source", lambda *a, **k: made.append(1) or ridge_source(*a, **k))
    both = ba.evaluate(study.network, people, **some)
    assert len(made) == 2  # one a fold
    for name in ("score", "score_by_fold", "score_control"):
        np.testing.assert_array_equal(both[name], np.concatenate([one[name].values for one in each], axis=-1))


def test_systems_on_both_sides_and_time_in_the_target(study, tmp_path):
    brains = {"one": study.fmri[:, ::2], "two": study.fmri[:, :10].assign_coords(system=("neuroid", ["two"] * 10))}
    layers = {name: study.network[:, study.network.layer.values == name] for name in ("layer1", "layer2")}
    some = {"model": FIXED, "cv": 2, "random_state": 0, "n_permutations": 3, "controls": "none"}
    assert_same(ba.evaluate(layers, brains, **some, store=tmp_path / "a"), ba.evaluate(layers, brains, **some))
    values = np.stack([study.fmri.values, study.fmri.values[:, ::-1]], axis=2)
    timed = ba.responses(
        values, stimulus_id=study.fmri.stimulus_id.values, neuroid_id=np.arange(values.shape[1]), time=[0.1, 0.2], modality="meg",
        system="sub-01", time_reference="stimulus onset",
    )  # fmt: skip
    assert len(tiled.tiles_of({"": timed})) == 8  # seven targets are three neuroids
    assert_same(ba.evaluate(study.network, timed, **some, store=tmp_path / "b"), ba.evaluate(study.network, timed, **some))


def test_runs_are_shifted_alike_in_all_tiles(tmp_path):
    rng = np.random.default_rng(0)
    labels = {"stimulus_id": np.arange(240), "onset_s": np.tile(np.arange(60) * 2.0, 4), "run": np.repeat(list("abcd"), 60)}
    source, target = (
        ba.responses(
            rng.normal(size=(240, n)), neuroid_id=np.arange(n), modality="fmri", system=s, time_reference="run onset", **labels
        )
        for n, s in ((4, "a"), (15, "b"))
    )
    some = {"model": FIXED, "n_permutations": 10, "n_bootstraps": 5, "random_state": 0, "cv": ba.split(target, by="run")}
    out = ba.evaluate(source, target, **some, store=tmp_path / "scores.zarr")
    assert_same(out, ba.evaluate(source, target, **some))
    assert out.attrs["null"] == "shift"


def test_a_label_to_decode_is_one_tile(study, tmp_path):
    labelled = study.network.assign_coords(side=("presentation", np.arange(study.network.sizes["presentation"]) % 2))
    expected = ba.evaluate(labelled, "side", cv=3, random_state=0)
    assert_same(ba.evaluate(labelled, "side", cv=3, random_state=0, store=tmp_path / "scores.zarr"), expected)


def test_a_finished_result_is_opened_again(study, tmp_path, monkeypatch):
    store = tmp_path / "scores.zarr"
    first = ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, store=store)
    monkeypatch.setattr(tiled, "score_in_tiles", None)
    monkeypatch.setattr("brainalign.scores.evaluate.score_in_tiles", None)
    assert_same(ba.evaluate(study.network, study.fmri, model=FIXED, cv=3, store=store), first, atol=0)  # of the same seed, too


def test_what_was_asked_otherwise_is_refused_by_name(study, tmp_path):
    store, some = tmp_path / "scores.zarr", {"model": FIXED, "cv": 3, "random_state": 0}
    ba.evaluate(study.network, study.fmri, **some, store=store)
    with pytest.raises(StoreError, match=r"another `cv`, `random_state` \(0 there, 1 here\)\. Expected"):
        ba.evaluate(study.network, study.fmri, **{**some, "random_state": 1}, store=store)
    with pytest.raises(StoreError, match=r"another `target`\. Expected the same arguments"):
        ba.evaluate(study.network, study.fmri * 2, **some, store=store)
    with pytest.raises(StoreError, match=r"another `source`\. Expected"):
        ba.evaluate(study.network[:, ::-1], study.fmri, **some, store=store)
    with pytest.raises(StoreError, match=r"another `model`\. Expected"):
        ba.evaluate(study.network, study.fmri, **{**some, "model": ba.Ridge(alphas=[3.0])}, store=store)
    with pytest.raises(StoreError, match=r"another `n_bootstraps` \(0 there, 5 here\)"):
        ba.evaluate(study.network, study.fmri, **some, n_bootstraps=5, store=store)
    with pytest.raises(StoreError, match="another `controls`"):
        ba.evaluate(study.network, study.fmri, **some, controls="none", store=store)
    with pytest.raises(StoreError, match="pass `resume=True` to go on with them, or another `store=`"):
        ba.evaluate(study.network, study.fmri, **some, store=store, resume=False)
    whole = tmp_path / "whole.zarr"
    ba.save(ba.evaluate(study.network, study.fmri, **some), whole)
    with pytest.raises(StoreError, match=r"results named 'evaluate' that were saved whole\. Expected a free place"):
        ba.evaluate(study.network, study.fmri, **some, store=whole)


def test_lazy_values_that_were_altered_are_another_target(study, tmp_path):
    ba.save(study.fmri, tmp_path / "brain.zarr")
    lazy, some = (
        ba.open_responses(tmp_path / "brain.zarr")[:, :9],
        {"model": FIXED, "cv": 2, "random_state": 0, "controls": "none"},
    )
    ba.evaluate(study.network, lazy, **some, store=tmp_path / "scores.zarr")
    assert ba.evaluate(study.network, lazy, **some, store=tmp_path / "scores.zarr").score.size == lazy.shape[1]
    with pytest.raises(StoreError, match="another `target`"):
        ba.evaluate(study.network, lazy * 2, **some, store=tmp_path / "scores.zarr")


@pytest.mark.parametrize(
    "model",
    [ba.PLS(2), ba.BandedRidge(), LinearRegression(), ba.chain(SelectFromModel(LinearRegression()), ba.Ridge())],
    ids=["pls", "banded", "unknown", "selection"],
)
def test_models_that_see_all_targets_together_are_refused(study, tmp_path, model):
    with pytest.raises(
        CapabilityError, match=r"tiles would change the result\. Expected a mapping that fits each target by itself"
    ):
        ba.evaluate(study.network, study.fmri, model=model, cv=3, store=tmp_path / "scores.zarr")
    assert not (tmp_path / "scores.zarr").exists()


def test_one_tile_is_fine_for_any_model(study, tmp_path, monkeypatch):
    monkeypatch.setattr(tiled, "TILE_BYTES", 2**26)
    some = {"model": ba.PLS(2), "cv": 3, "controls": "none", "random_state": 0}
    out = ba.evaluate(study.network, study.fmri, **some, store=tmp_path / "scores.zarr")
    assert_same(out, ba.evaluate(study.network, study.fmri, **some))


MAPS = np.random.default_rng(0).normal(size=(60, 3, 4, 4))


@pytest.mark.parametrize(
    ("model", "X"),
    [
        (ba.Ridge(dtype="float64"), MAPS.reshape(60, -1)),
        (ba.KernelRidge(dtype="float64"), MAPS.reshape(60, -1)),
        (ba.SpatialReadout(dtype="float64", cv=2), MAPS),
        (ba.SpatialReadout("factorised", dtype="float64", cv=2), MAPS),
    ],
    ids=["ridge", "kernel", "fwrf", "factorised"],
)
def test_mappings_that_say_so_fit_each_target_by_itself(model, X):
    rng = np.random.default_rng(1)
    Y = MAPS[:, :2, 1, 2] @ rng.normal(size=(2, 6)) + rng.normal(size=(60, 6))
    assert model.separate_targets
    whole = model.fit(X[:40], Y[:40]).predict(X[40:])
    halves = [model.fit(X[:40], Y[:40, half]).predict(X[40:]) for half in (slice(0, 2), slice(2, 6))]
    np.testing.assert_allclose(np.hstack(halves), whole, atol=1e-9)


def test_tiles_follow_chunks_and_cut_only_what_is_too_wide():
    x = xr.DataArray(da.zeros((10, 40), chunks=(5, (3, 3, 20, 4, 10)), dtype=np.float32), dims=("presentation", "neuroid"))
    spans = [(s.start, s.stop) for _, s in tiled.tiles_of({"": x})]
    assert spans == [(0, 6), (6, 13), (13, 20), (20, 26), (26, 30), (30, 37), (37, 40)]
    assert [s for _, s in tiled.tiles_of({"": x.isel(neuroid=slice(0, 7)).compute()})] == [slice(0, 7)]


def test_a_failure_before_the_first_tile_leaves_no_store(study, tmp_path):
    with pytest.raises(ParameterError, match="must be one of"):
        ba.evaluate(study.network, study.fmri, join="outer", store=tmp_path / "scores.zarr")
    assert not (tmp_path / "scores.zarr").exists()


KILLED = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import brainalign as ba
from brainalign.scores import tiled

tiled.TILE_BYTES, tiled._LEAST_COLUMNS = 1, 7
folder, rng = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
study = ba.simulate(n_stimuli=40, n_neuroids=5, n_repeats=2, modalities=("fmri",), random_state=0)
ba.save(study.fmri, folder / "brain.zarr", progress=False)
target = ba.open_responses(folder / "brain.zarr")

def parts_there():
    return len(list((folder / "killed" / "results" / ".partial-compare" / ".parts").glob("0*")))

def attempt(store, kill_at=None, wait=0.0):
    pid = os.fork()
    if pid == 0:
        ba.compare(study.network, target, by=("layer", "region"), model=ba.Ridge(cv=2), cv=2, ceiling="repeat", n_permutations=2,
                   n_bootstraps=2, random_state=0, controls=["shuffled"], store=store)
        os._exit(0)
    if kill_at is not None:
        while parts_there() < kill_at and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.01)
        time.sleep(wait)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

started = time.perf_counter()
assert attempt(folder / "whole") == 0
took = time.perf_counter() - started
killed, kept = 0, []
for kill_at in (1, 4, 7):  # of 12; each goes on where the last one was killed
    code = attempt(folder / "killed", kill_at, rng.uniform(0, took / 12))
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    killed += 1
    kept.append(parts_there())
assert kept == sorted(kept) and kept[-1] > 0, kept
print(killed, attempt(folder / "killed"))
"""


def files_of(folder):
    """Bytes of every file, but for when it was made: provenance, with its times, stands in the metadata of the group."""
    found = {}
    for file in sorted(Path(folder).rglob("*")):
        if file.is_file():
            text = file.read_bytes()
            if file.name == "zarr.json" and b'"provenance"' in text:
                content = json.loads(text)
                steps = json.loads(content["attributes"].pop("provenance"))["steps"]
                text = json.dumps(
                    [content, [(step["verb"], step["params"], step["seed"], step["inputs"]) for step in steps]]
                ).encode()
            found[str(file.relative_to(folder))] = text
    return found


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_never_interrupted(tmp_path):
    arguments = [sys.executable, "-c", KILLED, str(tmp_path), "3"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    killed, code = done.stdout.split()
    assert int(killed) >= 2
    assert code == "0"
    whole, resumed = files_of(tmp_path / "whole"), files_of(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if whole[name] != resumed[name]] == []

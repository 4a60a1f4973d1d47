import hashlib
import logging
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, SchemaError, StoreError
from brainalign.features.record import record

STRING = np.dtypes.StringDType()


class Net:
    """A two-layer network as a Responder; counts its passes and can be told to fail."""

    modality, deterministic = "ann", True

    def __init__(self, width=5, seed=0, system="net", fail_at=None):
        torch.manual_seed(seed)
        self.layers = torch.nn.ModuleDict({"hidden/0": torch.nn.Linear(4, width), "out": torch.nn.Linear(width, 3)})
        self.system, self.n_passes, self.fail_at = system, 0, fail_at

    def fingerprint(self):
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.layers.parameters())).hexdigest()

    def presentations(self, stimuli):
        return pd.DataFrame({"stimulus_id": stimuli.stimulus_id.values.astype(object), "condition": "seen"})

    def neuroids(self, stimuli):
        widths = {name: layer.out_features for name, layer in self.layers.items()}
        return {
            "hidden/0": {"neuroid_id": np.arange(widths["hidden/0"]), "channel_x": np.arange(widths["hidden/0"])},
            "out": {"neuroid_id": np.arange(3), "unit": np.array(["x", "y", "z"])},
        }

    def blocks(self, stimuli, batch_size):
        n = stimuli.sizes["presentation"]
        return [slice(a, min(a + batch_size, n)) for a in range(0, n, batch_size)]

    def respond(self, stimuli, rows):
        if self.n_passes == self.fail_at:
            raise KeyboardInterrupt
        self.n_passes += 1
        with torch.inference_mode():
            hidden = self.layers["hidden/0"](torch.from_numpy(stimuli["values"].values[rows])).relu()
            return {"hidden/0": hidden.numpy(), "out": self.layers["out"](hidden).numpy()}


def images(n=50, seed=0):
    values = np.random.default_rng(seed).normal(size=(n, 4)).astype("f4")
    ids = np.array([f"i{i}" for i in range(n)], dtype=STRING)
    return xr.Dataset({"values": (("presentation", "pixel"), values)}, {"stimulus_id": ("presentation", ids)}, {"kind": "array"})


def expected(net, stimuli):
    with torch.inference_mode():
        hidden = net.layers["hidden/0"](torch.from_numpy(stimuli["values"].values)).relu()
        return torch.cat([hidden, net.layers["out"](hidden)], 1).numpy()


def test_all_layers_in_one_pass_with_their_labels():
    net, stimuli = Net(), images()
    x = record(net, stimuli, batch_size=16, progress=False)
    assert net.n_passes == 4
    np.testing.assert_allclose(x, expected(net, stimuli), rtol=1e-5, atol=1e-6)
    assert x.dtype == np.float32
    assert isinstance(x.data, np.ndarray)
    assert list(x.layer.values) == ["hidden/0"] * 5 + ["out"] * 3
    assert list(x.unit.values) == [""] * 5 + ["x", "y", "z"]
    np.testing.assert_array_equal(x.channel_x, [0, 1, 2, 3, 4, np.nan, np.nan, np.nan])
    assert set(x.system.values) == {"net"}
    assert set(x.condition.values) == {"seen"}
    assert (x.attrs["modality"], x.attrs["deterministic"]) == ("ann", True)
    provenance = ba.core.provenance(x)
    assert provenance.altered is False
    assert provenance.steps[-1]["verb"] == "record"
    assert provenance.steps[-1]["params"] == {"system": "net", "responder": net.fingerprint(), "batch_size": 16, "name": "net"}
    ba.validate(x, deep=True)


def test_with_a_store_it_is_lazy_and_equal(tmp_path):
    x = record(Net(), images(), progress=False)
    y = record(Net(), images(), store=tmp_path / "s", name="mine", progress=False)
    assert y.chunks == ((50,), (5, 3))
    xr.testing.assert_equal(y.compute(), x)
    assert list(ba.open_study(tmp_path / "s")["responses"]) == ["mine"]


def test_a_finished_recording_is_opened_without_running(tmp_path):
    first = record(Net(), images(), store=tmp_path / "s", progress=False)
    net = Net()
    xr.testing.assert_identical(record(net, images(), store=tmp_path / "s", progress=False), first)
    assert net.n_passes == 0
    record(net, images(), store=tmp_path / "s", progress=False, resume=False)
    assert net.n_passes == 2


@pytest.mark.parametrize(
    ("change", "part"),
    [({"net": Net(seed=1)}, "responder"), ({"stimuli": images(seed=1)}, "stimuli"), ({"batch_size": 7}, "batches")],
)
def test_a_mismatch_records_anew_and_says_so(tmp_path, caplog, change, part):
    record(Net(), images(), store=tmp_path / "s", progress=False)
    net, stimuli = change.get("net", Net()), change.get("stimuli", images())
    with caplog.at_level(logging.WARNING, "brainalign"):
        x = record(net, stimuli, store=tmp_path / "s", batch_size=change.get("batch_size", 32), progress=False)
    assert f"recording 'net' anew: the stored one was made with other {part}" in caplog.text
    np.testing.assert_allclose(x, expected(net, stimuli), rtol=1e-5, atol=1e-6)
    xr.testing.assert_identical(ba.open_responses(tmp_path / "s"), x)


def test_other_versions_record_anew(tmp_path, caplog, monkeypatch):
    record(Net(), images(), store=tmp_path / "s", progress=False)
    monkeypatch.setattr("brainalign.features.cachekey.versions", lambda packages: dict.fromkeys(packages, "99"))
    net = Net()
    record(net, images(), store=tmp_path / "s", progress=False)
    assert net.n_passes == 2
    assert "made with other versions" in caplog.text


def test_an_interrupted_recording_continues(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        record(Net(fail_at=3), images(), store=tmp_path / "s", batch_size=8, progress=False)
    with pytest.raises(StoreError, match="holds 0 responses"):
        ba.open_responses(tmp_path / "s")
    net = Net()
    x = record(net, images(), store=tmp_path / "s", batch_size=8, progress=False)
    assert net.n_passes == 7 - 3
    np.testing.assert_array_equal(x, record(Net(), images(), batch_size=8, progress=False))


def test_two_writers_of_one_recording(tmp_path):
    class Nested(Net):
        def respond(self, stimuli, rows):
            with pytest.raises(StoreError, match=rf"being written by process {os.getpid()}"):
                record(Net(), images(), store=tmp_path / "s", progress=False)
            record(Net(), images(), store=tmp_path / "s", name="another", progress=False)
            return super().respond(stimuli, rows)

    record(Nested(), images(), store=tmp_path / "s", progress=False)
    assert sorted(ba.open_study(tmp_path / "s")["responses"]) == ["another", "net"]


def test_a_response_that_is_not_finite_is_named(tmp_path):
    stimuli = images()
    stimuli["values"][37, 2] = np.nan
    net = Net()
    for store in (None, tmp_path / "s"):
        with pytest.raises(SchemaError, match=r"layer 'hidden/0' gives 5 values like nan for stimulus 'i37'.*Expected finite"):
            record(net, stimuli, store=store, progress=False)
    assert not (tmp_path / "s" / "responses" / "net").exists()  # nothing to be seen
    stimuli["values"][0, 2] = np.nan
    with pytest.raises(SchemaError, match="stimulus 'i0'"):
        record(net, stimuli, store=tmp_path / "t", progress=False)
    assert not (tmp_path / "t").exists()  # where nothing was done, nothing is written
    stimuli["values"][0, 2] = 0.0
    net.allow_nan = True
    x = record(net, stimuli, progress=False)
    assert x.attrs["allow_nan"] is True
    assert not np.isfinite(x[37]).all()


@pytest.mark.parametrize("resume", [True, False])
def test_measured_responses_are_never_replaced(tmp_path, resume):
    measured = ba.responses([[1.0], [2.0]], stimulus_id=["a", "b"], neuroid_id=[0], modality="fmri", system="net")
    ba.save(measured, tmp_path / "s")
    with pytest.raises(StoreError, match=r"named 'net' that `ba.record` did not make"):
        record(Net(), images(), store=tmp_path / "s", resume=resume, progress=False)
    assert ba.open_responses(tmp_path / "s").identical(measured)


def test_bad_input_is_named():
    with pytest.raises(CapabilityError, match=r"Linear is no Responder.*TorchResponder"):
        record(torch.nn.Linear(2, 2), images())
    with pytest.raises(ParameterError, match="'batch_size' parameter of record"):
        record(Net(), images(), batch_size=0)
    with pytest.raises(SchemaError, match="has no rows"):
        record(Net(), images(0))

    class Gap(Net):
        def blocks(self, stimuli, batch_size):
            return super().blocks(stimuli, batch_size)[1:]

    with pytest.raises(SchemaError, match="cover each row once"):
        record(Gap(), images())

    class Ragged(Net):
        def respond(self, stimuli, rows):
            found = super().respond(stimuli, rows)
            return {**found, "out": found["out"][:, : 3 - (rows.start > 0)]}

    with pytest.raises(SchemaError, match=r"shapes .* from stimulus 'i32' on. Expected 18 rows and 8 neuroids"):
        record(Ragged(), images(), progress=False)


def test_progress_bar_is_seen_where_asked_for(capsys):
    record(Net(), images(), progress=True)
    assert "50/50" in capsys.readouterr().err
    record(Net(), images(), progress=False)
    record(Net(), images())  # no terminal
    assert capsys.readouterr().err == ""


def test_a_readout_keeps_the_region_of_its_neuroids():
    class Brain(Net):
        modality, system = "fmri", "net"

        def neuroids(self, stimuli):
            return {
                "readout": {
                    "neuroid_id": np.arange(3),
                    "region": np.array(["V1", "V2", "V1"]),
                    "system": np.array(["sub-01"] * 3),
                }
            }

        def respond(self, stimuli, rows):
            return {"readout": super().respond(stimuli, rows)["out"]}

    x = record(Brain(), images(), progress=False)
    assert list(x.region.values) == ["V1", "V2", "V1"]
    assert "layer" not in x.coords
    assert set(x.system.values) == {"sub-01"}


def test_the_torch_responder_of_the_package(tmp_path):
    net, stimuli = Net(), images()
    network = torch.nn.Sequential(net.layers["hidden/0"], torch.nn.ReLU(), net.layers["out"])
    responder = ba.TorchResponder(network, layers=["1", "2"], system="tiny")
    x = record(responder, stimuli, store=tmp_path / "s", batch_size=16, progress=False)
    np.testing.assert_allclose(x, expected(net, stimuli), rtol=1e-5, atol=1e-6)
    assert list(dict.fromkeys(x.layer.values)) == ["1", "2"]


class Wide:
    """Many neuroids and no network; what its blocks need is all that memory should hold."""

    system, modality, deterministic, width = "wide", "ann", True, 4000

    def fingerprint(self):
        return "wide"

    def presentations(self, stimuli):
        return pd.DataFrame({"stimulus_id": stimuli.stimulus_id.values.astype(object)})

    def neuroids(self, stimuli):
        return {"a": {"neuroid_id": np.arange(self.width)}}

    def blocks(self, stimuli, batch_size):
        return Net.blocks(self, stimuli, batch_size)

    def respond(self, stimuli, rows):
        seeds = range(rows.start, rows.stop)
        return {"a": np.stack([np.random.default_rng(seed).standard_normal(self.width, dtype="f4") for seed in seeds])}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_stimuli(tmp_path):
    peaks = []
    for n in (1024, 1024, 4096):  # the first call loads modules
        tracemalloc.start()
        record(Wide(), images(n), store=tmp_path / f"{len(peaks)}", progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    # MB; the values grew by 48 MB, and one more chunk of 4 MB may be on its way to the disk, with its compressed copy
    assert peaks[2] < peaks[1] + 9


def test_import_of_the_package_loads_no_torch():
    code = "import sys, brainalign; print([m for m in ('torch', 'xarray', 'zarr', 'matplotlib', 'mne', 'nilearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = "import sys, brainalign.features.record; print([m for m in ('torch', 'matplotlib', 'mne', 'nilearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Forks a child per attempt, so that imports are paid once; the parent never touches zarr, whose threads would not survive a fork.
KILLED = """
import os, signal, sys, time
from pathlib import Path
import numpy as np, pandas as pd, xarray as xr
from brainalign.adapters.store import streaming
from brainalign.features.record import record

streaming._CHECKPOINT_S = 0.0  # a line of the journal after each block, by which the moments are aimed
N, SIZE = 2600, 20

class Slow:
    system, modality, deterministic = "net", "ann", True
    def fingerprint(self): return "w"
    def presentations(self, stimuli): return pd.DataFrame({"stimulus_id": stimuli.stimulus_id.values.astype(object)})
    def neuroids(self, stimuli): return {"a": {"neuroid_id": np.arange(1500)}, "b/c": {"neuroid_id": np.arange(70)}}
    def blocks(self, stimuli, size): return [slice(a, min(a + size, N)) for a in range(0, N, size)]
    def respond(self, stimuli, rows):
        rng = np.random.default_rng(rows.start)
        n = rows.stop - rows.start
        return {"a": rng.standard_normal((n, 1500), dtype="f4"), "b/c": rng.standard_normal((n, 70), dtype="f4")}

ids = np.array([f"s{i}" for i in range(N)], dtype=np.dtypes.StringDType())
stimuli = xr.Dataset({"values": ("presentation", np.arange(N))}, {"stimulus_id": ("presentation", ids)}, {"kind": "array"})

def attempt(store, kill_at=None, delay=0.0):
    journal = Path(store) / "responses" / ".partial-net" / ".journal"
    pid = os.fork()
    if pid == 0:
        record(Slow(), stimuli, store=store, batch_size=SIZE, progress=False)
        os._exit(0)
    if kill_at is not None:
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            lines = journal.read_text().count(chr(10)) if journal.exists() else 0
            if lines >= kill_at:
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.0005)
        else:
            return "finished"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

rng = np.random.default_rng(int(sys.argv[2]))
store = Path(sys.argv[1])
assert attempt(store / "whole") == 0
n_blocks = -(-N // SIZE)
# spread over the run, from the making of the store to its last block; three aim at the blocks that complete chunks
moments = sorted([0, 0, n_blocks + 1, *rng.integers(1, n_blocks, 14).tolist(), 52, 103, 130])
outcomes = [attempt(store / "killed", moment, float(rng.uniform(0, 0.03))) for moment in moments]
print(outcomes.count(-signal.SIGKILL), attempt(store / "killed"))
"""


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_as_if_never_interrupted(tmp_path):
    arguments = [sys.executable, "-c", KILLED, str(tmp_path), "7"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    n_killed, last = map(int, done.stdout.split())
    assert (n_killed, last) == (20, 0)
    whole, killed = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("whole", "killed")
    )
    header = "responses/net/zarr.json"  # its provenance holds the time
    assert killed.pop(header) != b""
    whole.pop(header)
    assert sum("/c/" in name for name in whole) >= 3 * 3
    # a writer killed after the last rename leaves its lock or journal, which readers ignore and the next writer removes
    hidden = {name for name in killed if name.rpartition("/")[2] in (".lock-net", ".journal")}
    assert {name: content for name, content in killed.items() if name not in hidden} == whole
    assert ba.open_responses(tmp_path / "killed").attrs["modality"] == "ann"

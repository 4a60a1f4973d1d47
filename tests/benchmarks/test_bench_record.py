"""``record`` of a six-layer transformer into a store, against the bare forward loop: time, and peak memory."""

import subprocess
import sys
from statistics import median
from time import perf_counter, process_time

import numpy as np
import pytest
import xarray as xr

import brainalign as ba

pytestmark = pytest.mark.bench

N_TEXTS, BATCH, ROUNDS = 1024, 32, 5

SETUP = """
import sys, numpy as np, torch, transformers
import brainalign as ba, xarray as xr

def sentences(n, low=12, high=25):
    words = "the cat sat on a mat while seven old sailors told stories about rain and distant green islands".split()
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words, size)) for size in rng.integers(low, high, n)]

def table(texts):
    string = np.dtypes.StringDType()
    ids = np.array([f"t{i}" for i in range(len(texts))], dtype=string)
    content = {"text": ("presentation", np.array(texts, dtype=string))}
    return xr.Dataset(content, {"stimulus_id": ("presentation", ids)}, {"kind": "text"})

def bare_loop(model, tokenizer, texts, batch):
    with torch.inference_mode():
        for start in range(0, len(texts), batch):
            tokens = tokenizer(texts[start : start + batch], padding=True, return_tensors="pt")
            yield tokens["attention_mask"], model(**tokens, output_hidden_states=True).hidden_states
"""


@pytest.fixture(scope="module")
def parts(minilm):
    names: dict = {}
    exec(SETUP, names)
    model = names["transformers"].AutoModel.from_pretrained(minilm).eval()
    tokenizer = names["transformers"].AutoTokenizer.from_pretrained(minilm)
    responder = ba.TransformersResponder(minilm, layers="h.*", pool="mean")
    return names, model, tokenizer, responder


def test_record_six_layers_into_a_store(benchmark, parts, tmp_path):
    names, model, tokenizer, responder = parts
    texts = names["sentences"](N_TEXTS)
    stimuli = names["table"](texts)
    ours, bare, results = [], [], []

    def forward():
        start = perf_counter(), process_time()
        for _ in names["bare_loop"](model, tokenizer, texts, BATCH):
            pass
        bare.append((perf_counter() - start[0], process_time() - start[1]))

    def record():
        start = perf_counter(), process_time()
        store = tmp_path / f"{len(ours)}.zarr"
        results.append(ba.record(responder, stimuli, store=store, batch_size=BATCH, progress=False))
        ours.append((perf_counter() - start[0], process_time() - start[1]))

    benchmark.pedantic(record, setup=forward, rounds=ROUNDS, warmup_rounds=1)
    pooled = []
    for mask, states in names["bare_loop"](model, tokenizer, texts, BATCH):
        weights = (mask / mask.sum(1, keepdim=True))[..., None]
        pooled.append(np.concatenate([(state * weights).sum(1).numpy() for state in states], axis=1))
    np.testing.assert_allclose(results[-1], np.concatenate(pooled), atol=1e-5)
    xr.testing.assert_equal(results[-1].compute(), results[0].compute())
    benchmark.extra_info["target"] = "within 10% of the bare forward loop"
    for column, clock in enumerate(("wall", "CPU")):
        ratio = median(row[column] for row in ours[1:]) / median(row[column] for row in bare[1:])
        benchmark.extra_info[f"ratio to tokenizer + forward, interleaved, {clock} time"] = round(ratio, 3)
    benchmark.extra_info["stimuli"] = N_TEXTS


MEMORY = (
    SETUP
    + """
from pathlib import Path

def status(field):  # of this process alone; getrusage would count what it was forked from
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

folder, what, n, store = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
texts = sentences(n, 2, 5)  # short ones: what is to grow, or not, are the responses
responder = ba.TransformersResponder(folder, layers="h.*", pool="mean")
# one batch of either first, so that what is measured is not the loading of modules
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
list(bare_loop(responder.model, tokenizer, texts[:32], 32))
ba.record(responder, table(texts[:32]), store=store + "-first", progress=False)
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
before = status("VmRSS")
if what == "bare":
    for _ in bare_loop(responder.model, tokenizer, texts, 32):
        pass
else:
    ba.record(responder, table(texts), store=store, progress=False)
print(status("VmHWM") - before)
"""
)


def test_memory_of_record(benchmark, minilm, tmp_path):
    def peak(what, n):
        arguments = [sys.executable, "-c", MEMORY, str(minilm), what, str(n), str(tmp_path / f"{what}{n}")]
        return float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()[-1])

    peaks = {f"{what}, {n} texts": peak(what, n) for what in ("bare", "record") for n in (512, 4096)}
    benchmark.extra_info["target"] = "no growth with the number of stimuli"
    benchmark.extra_info |= {f"peak extra MB, {name}": round(value) for name, value in peaks.items()}
    benchmark.pedantic(peak, args=("record", 64), rounds=1)
    assert peaks["record, 4096 texts"] < peaks["record, 512 texts"] + 40  # the values of 4,096 texts are 42 MB

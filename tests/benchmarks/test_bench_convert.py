"""Saving lazy responses into a study, against a plain chunked copy of the same bytes into an equal zarr array: time, and peak memory."""

import os
import shutil
import subprocess
import sys
from statistics import median
from time import perf_counter, process_time

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.bench

N_ROWS, N_NEUROIDS, ROUNDS, MAX_MEMORY = 8192, 32768, 8, 2**30

SETUP = """
import sys, h5py, numpy as np
from pathlib import Path
import brainalign as ba
from brainalign.adapters.hdf5 import open_hdf5
from brainalign.adapters.lazy import open_npy
from brainalign.adapters.store.zarrays import create_array, response_chunks

def write(file, n_rows, n_neuroids):
    rng = np.random.default_rng(0)
    if file.suffix == ".npy":  # a row after the other, as volumes of NIfTI lie
        out = np.lib.format.open_memmap(file, "w+", np.float32, (n_rows, n_neuroids))
        for start in range(0, n_rows, 512):
            out[start : start + 512] = rng.standard_normal((512, n_neuroids), dtype=np.float32)
        return
    with h5py.File(file, "w") as opened:  # all rows of a few columns in a chunk, as NSD is stored
        out = opened.create_dataset("x", (n_rows, n_neuroids), "f4", chunks=(n_rows, 16))
        for start in range(0, n_neuroids, 1024):
            out[:, start : start + 1024] = rng.standard_normal((n_rows, 1024), dtype=np.float32)

def lazy(file):
    data = open_npy(file) if file.suffix == ".npy" else open_hdf5(file, "x")
    n_rows, n_neuroids = data.shape
    return ba.responses(data, stimulus_id=np.arange(n_rows), neuroid_id=np.arange(n_neuroids), modality="fmri", system="sub-01")

def plain_copy(file, folder):
    if file.suffix == ".npy":
        source = np.load(file, mmap_mode="r")
        chunks = response_chunks(source.shape)
        out = create_array(folder, source.shape, source.dtype, dims=("presentation", "neuroid"), chunks=chunks)
        for start in range(0, source.shape[0], chunks[0]):
            out[start : start + chunks[0]] = source[start : start + chunks[0]]
        return out
    with h5py.File(file) as opened:
        source = opened["x"]
        chunks = response_chunks(source.shape)
        out = create_array(folder, source.shape, source.dtype, dims=("presentation", "neuroid"), chunks=chunks)
        for start in range(0, source.shape[1], chunks[1]):
            out[:, start : start + chunks[1]] = source[:, start : start + chunks[1]]
    return out

def save(file, folder, max_memory):
    ba.save(lazy(file), folder, max_memory=max_memory, progress=False)
"""


@pytest.fixture(scope="module")
def names():
    found: dict = {}
    exec(SETUP, found)
    return found


@pytest.fixture(scope="module", params=["npy, by presentation", "HDF5, by neuroid"])
def file(request, names, tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / ("x.npy" if request.param.startswith("npy") else "x.h5")
    names["write"](path, N_ROWS, N_NEUROIDS)
    return path


def test_save_a_gigabyte(benchmark, names, file, tmp_path):
    ours, plain, copies = [], [], []

    def timed(function, into, *args):
        shutil.rmtree(args[1], ignore_errors=True)
        os.sync()
        start = perf_counter(), process_time()
        result = function(*args)
        into.append((perf_counter() - start[0], process_time() - start[1]))
        return result

    def copy():  # before ours, after it, and so on: whichever writes second pays for what the other left to the system
        if len(ours) % 2 == 0:
            copies.append(timed(names["plain_copy"], plain, file, tmp_path / "plain"))

    benchmark.pedantic(
        lambda: timed(names["save"], ours, file, tmp_path / "ours", MAX_MEMORY),
        setup=copy,
        teardown=copy,
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    stored = ba.open_responses(tmp_path / "ours").data
    for start in range(0, N_ROWS, 1024):
        np.testing.assert_array_equal(stored[start : start + 1024].compute(), copies[-1][start : start + 1024])
    benchmark.extra_info["target"] = "at least 0.7 of the speed of a plain copy"
    benchmark.extra_info["MB"] = N_ROWS * N_NEUROIDS * 4 >> 20
    for column, clock in enumerate(("wall", "CPU")):
        speed = median(row[column] for row in plain[1:]) / median(row[column] for row in ours[1:])
        benchmark.extra_info[f"speed relative to a plain copy, interleaved, {clock} time"] = round(speed, 3)


MEMORY = (
    SETUP
    + """
def status(field):  # of this process alone; getrusage would count what it was forked from
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

file, folder, max_memory = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
small = lazy(file).isel(presentation=slice(0, 2048), neuroid=slice(0, 2048))
ba.save(small, folder / "first", max_memory=2**26, progress=False)  # what is measured is not the loading of modules
Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
before = status("VmRSS")
save(file, folder / "s", max_memory)
print(status("VmHWM") - before)
"""
)


@pytest.mark.parametrize("megabytes", [128, 512])
def test_memory_of_saving_a_gigabyte(benchmark, file, tmp_path, megabytes):
    def peak():
        arguments = [sys.executable, "-c", MEMORY, str(file), str(tmp_path), str(megabytes << 20)]
        found.append(float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()[-1]))

    found: list[float] = []
    benchmark.pedantic(peak, rounds=1)
    benchmark.extra_info["target"] = f"at most max_memory, {megabytes} MB"
    benchmark.extra_info["peak extra MB"] = round(found[0])
    assert found[0] <= megabytes

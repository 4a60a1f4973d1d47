"""What is opened of spikes, calcium, networks and plain arrays can travel: from another folder, to another process, into a study and back."""

import os
import re
from pathlib import Path

import dask
import h5py
import numpy as np
import pytest
from scipy.io import savemat

import brainalign as ba
from brainalign.dataset.open import find_format

RNG = np.random.default_rng(0)
EDGES = [0.0, 0.5, 1.0]


def save(folder, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name.replace('__', '.')}.npy", np.asarray(array))
    return folder


def hdf5(file, **arrays):
    with h5py.File(file, "w") as opened:
        for name, values in arrays.items():
            array = np.asarray(values)
            opened[name] = array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array
    return file


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def alf(folder):
    folder = folder / "KS023/2019-12-10/001/alf"
    for number in (0, 1):  # the same cluster ids on both probes
        spikes = {"spikes__times": [0.1, 0.2, 1.6, 2.1 + number, 4.0], "spikes__clusters": [0, 1, 1, 0, 1]}
        save(folder / f"probe0{number}", **spikes, clusters__channels=[1, 0], channels__acronym=["VISp", "größe"])
    save(
        folder, trials__stimOn_times=[0.0, 1.0, 2.0], trials__contrastLeft=[0.25, np.nan, 0], trials__contrastRight=[np.nan, 1, 0]
    )
    return folder.parent, {"system": "m", "edges_s": EDGES, "events": "trials"}


def steinmetz(folder):
    times = {"spikes__times": [[0.1], [0.2], [1.3]], "spikes__clusters": np.array([[0], [1], [1]], np.uint32)}
    save(folder, **times, clusters___phy_annotation=[[2], [3]])
    return folder, {"system": "m", "edges_s": EDGES}


def nwb(folder, **options):
    file = folder / "ä.nwb"
    with h5py.File(file, "w") as opened:
        opened.attrs["nwb_version"] = "2.7.0"
        tables = {
            "units": {
                "spike_times": [0.1, 0.6, 1.2, 2.3],
                "spike_times_index": np.array([1, 4], np.uint8),
                "quality": [1.0, 0.5],
            },
            "intervals/trials": {
                "start_time": [0.0, 1.0],
                "stop_time": [0.5, 1.5],
                "stimulus_name": [b"gr\xc3\xb6\xc3\x9fe", b"b"],
            },
            "processing/ophys/p": {"x": [1, 2]},
        }
        for name, columns in tables.items():
            table = opened.create_group(name)
            table.attrs["colnames"] = [key for key in columns if not key.endswith("_index")]
            table["id"] = [7, 9]
            for key, values in columns.items():
                table[key] = values
        series = opened.create_group("processing/ophys/DfOverF/dff")
        series.attrs["neurodata_type"] = "RoiResponseSeries"
        series["data"], series["rois"], series["timestamps"] = noise(30, 2), [1, 0], np.arange(30) / 10
        series["rois"].attrs["table"] = opened["processing/ophys/p"].ref
    return file, {"system": "m", **options}


def nwb_units(folder):
    return nwb(folder, edges_s=EDGES, events="trials", stimulus_column="stimulus_name")


def nwb_bins(folder):
    return nwb(folder, edges_s=EDGES)


def nwb_traces(folder):
    return nwb(folder, series="dff")


def nwb_means(folder):
    return nwb(folder, series="dff", edges_s=EDGES, events="trials", stimulus_column="stimulus_name")


def spikes(folder):
    (folder / "spikes.csv").write_text("unit,spike_time\nä,0.1\nb,0.2\nä,0.7\n")
    return folder / "spikes.csv", {
        "system": "m", "time_unit": "s", "edges_s": EDGES, "unit_column": "unit", "time_column": "spike_time",
    }  # fmt: skip


def suite2p(folder):
    for plane in ("plane0", "plane1"):
        save(folder / plane, F=50 + noise(3, 20), Fneu=noise(3, 20), iscell=[[1, 0.9], [0, 0.2], [1, 0.8]])
    return folder, {"system": "m", "sampling_rate_hz": 10.0, "neuropil": 0.7, "cells_only": True, "baseline": "percentile"}


def brainscore(folder):
    x = ba.responses(
        noise(4, 3, 2), stimulus_id=["größe", "b", "größe", "c"], neuroid_id=["n1", "n2", "n3"], modality="spikes", system="m", region="IT",
        time=[0.05, 0.15], neuroid={"nc_testset": [40.0, np.nan, 50.0]}, presentation={"is_new": [True, False, True, False]},
    )  # fmt: skip
    ba.save(x, folder / "assy.nc", format="brainscore")
    return folder / "assy.nc", {}


def net2brain(folder):
    for name in ("ä", "b"):
        np.savez(folder / f"{name}.npz", conv=noise(1, 2, 3, 3), fc=noise(1, 4))
    return folder, {"system": "net"}


def thingsvision(folder):
    save(folder, features=noise(2, 3))
    (folder / "file_names.txt").write_text("ä.png\nb.png\n")
    return folder, {"system": "net", "layer": "fc"}


IDS = {"stimulus_id": ["größe", "b"], "neuroid_id": ["n1", "n2", "n3"]}
WHOSE = {"modality": "ann", "system": "net"}


def npy(folder):
    np.save(folder / "x.npy", np.asfortranarray(noise(2, 3)))
    return folder / "x.npy", {**IDS, **WHOSE}


def npz(folder):
    np.savez(folder / "x.npz", values=RNG.integers(0, 9, (2, 3)), stimulus_id=IDS["stimulus_id"], neuroid_id=IDS["neuroid_id"])
    return folder / "x.npz", WHOSE


def h5(folder):
    return hdf5(folder / "x.h5", values=noise(2, 3), **IDS), WHOSE


def csv(folder):
    (folder / "x.csv").write_text("stimulus_id,run,n1,n2\ngröße,1,0.5,1\nb,2,1.5,2\n", encoding="utf-8-sig")
    return folder / "x.csv", WHOSE


def matlab(folder):
    savemat(folder / "x.mat", {"betas": noise(2, 3), "ids": np.array(["größe", "b"], dtype=object)})
    return folder / "x.mat", {
        "values": "betas", "dims": ("presentation", "neuroid"), "stimulus_id": "ids", "neuroid_id": IDS["neuroid_id"], **WHOSE,
    }  # fmt: skip


def store(folder):
    x = ba.responses(noise(2, 3), **IDS, **WHOSE, layer=["a", "b", "a"])
    ba.save(x, folder / "study.zarr", progress=False)
    return folder / "study.zarr", {}


INDEX = Path(__file__).parents[2] / "docs" / "formats" / "index.md"

#: What is made, and whether its values stay in the file.
LAZY = {
    store: True, nwb_units: True, nwb_bins: True, nwb_traces: True, nwb_means: True, alf: False, steinmetz: False, spikes: False,
    suite2p: True, brainscore: True, net2brain: True, thingsvision: True, npy: True, npz: True, h5: True, csv: False, matlab: False,
}  # fmt: skip


@pytest.fixture(scope="module", params=LAZY, ids=lambda make: make.__name__)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__) / "Größe 大"
    folder.mkdir()
    return folder, *request.param(folder), LAZY[request.param]


def test_values_stay_in_the_file_where_the_format_is_lazy(made):
    _, source, options, lazy = made
    assert (ba.open_responses(source, **options).chunks is not None) == lazy
    said = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]+) \| \[", INDEX.read_text(encoding="utf-8"), re.M))
    assert said[find_format(source)[0]] in ("all but csv", "7.3 over 16 MB", "yes" if lazy else "no")


def test_a_relative_path_holds_after_the_folder_was_left(made, monkeypatch, tmp_path):
    folder, source, options, _ = made
    monkeypatch.chdir(folder.parent)
    x = ba.open_responses(os.path.relpath(source), **options)
    monkeypatch.chdir(tmp_path)
    whole = ba.open_responses(str(source), **options)
    np.testing.assert_array_equal(x.values, whole.values)
    assert x.coords.to_dataset().identical(whole.coords.to_dataset())


def test_another_process_reads_the_same(made, worker):
    _, source, options, _ = made
    x = ba.open_responses(source, **options)
    np.testing.assert_array_equal(dask.compute(x.data, scheduler="processes", pool=worker)[0], x.values)


def test_index_base_and_scale_are_recorded(made):
    _, source, options, _ = made
    steps = ba.core.provenance(ba.open_responses(source, **options)).steps
    opened = [step["params"] for step in steps if step["verb"].startswith("open:")]
    assert all({"index_base", "scale", "source"} <= params.keys() for params in opened)  # a study keeps what it was given
    assert not opened or steps[-1]["params"]["because"]


def test_links_to_content_elsewhere_are_followed(made, tmp_path, link_tree):
    """DataLad keeps content under names of its own."""
    folder, source, options, _ = made
    link_tree(folder, tmp_path)
    x, y = (ba.open_responses(item, **options) for item in (source, tmp_path / source.relative_to(folder.parent)))
    np.testing.assert_array_equal(y.values, x.values)
    assert y.coords.to_dataset().identical(x.coords.to_dataset())


def test_a_study_gives_back_what_was_opened(made, tmp_path):
    _, source, options, _ = made
    x = ba.open_responses(source, **options)
    ba.save(x, tmp_path / "study.zarr", name="x", progress=False)
    back = ba.open_responses(tmp_path / "study.zarr", name="x")
    assert back.identical(x)
    assert ba.core.provenance(back).steps == ba.core.provenance(x).steps


def test_an_assembly_gives_back_what_was_opened(made, tmp_path):
    _, source, options, _ = made
    x = ba.open_responses(source, **options)
    ba.save(x, tmp_path / "assy.nc", format="brainscore")
    back = ba.open_responses(tmp_path / "assy.nc")
    np.testing.assert_array_equal(back.values, x.values)
    assert back.dtype == x.dtype
    for name, coord in x.coords.items():
        assert back[name].dims == coord.dims, name
        np.testing.assert_array_equal(back[name].values, coord.values, err_msg=str(name))


def test_opening_and_reading_write_nothing(made):
    folder, source, options, _ = made
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    ba.open_responses(source, **options).compute()
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before

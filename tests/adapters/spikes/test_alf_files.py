import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from brainalign.adapters.spikes.alf_files import collections, columns, parse, require, values
from brainalign.core.errors import FormatError, OptionalDependencyError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("spikes.times.npy", ("spikes", "times", "")),
        ("_ibl_trials.stimOn_times.npy", ("trials", "stimOn_times", "")),
        ("_ibl_trials.intervals_bpod.npy", ("trials", "intervals", "bpod")),
        ("spikes.times_ephysClock.raw.npy", ("spikes", "times", "ephysClock")),
        ("clusters._phy_annotation.npy", ("clusters", "phy_annotation", "")),
        ("trials.visualStim_contrastLeft.npy", ("trials", "visualStim_contrastLeft", "")),
        ("channels.brainLocationIds_ccf_2017.npy", ("channels", "brainLocationIds_ccf_2017", "")),
        ("clusters.metrics.2622b17c-9408-4910-99cb-abf16d9225b9.pqt", ("clusters", "metrics", "")),
        ("channels.brainLocation.tsv", ("channels", "brainLocation", "")),
        ("spike_times.npy", None),
        ("spikes.npy", None),
        ("readme.times.md", None),
    ],
)
def test_names(name, expected):
    found = parse(Path("alf") / name)
    assert (None if found is None else (found.object, found.attribute, found.timescale)) == expected


def save(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in files.items():
        np.save(folder / f"{name.replace('__', '.')}.npy", array)


def test_the_newest_revision_holds_file_by_file(tmp_path):
    save(tmp_path / "probe00", spikes__times=[1.0], spikes__clusters=[0])
    save(tmp_path / "probe00" / "#2024-05-06#", spikes__times=[3.0])
    save(tmp_path / "probe00" / "#2023-11-30#", spikes__times=[2.0], spikes__amps=[9.0])
    known = collections(tmp_path)[tmp_path / "probe00"]
    assert {".".join(key): item.revision for key, item in known.items()} == {
        "spikes.clusters": "", "spikes.times": "2024-05-06", "spikes.amps": "2023-11-30"
    }  # fmt: skip
    assert values(known["spikes", "times"]).tolist() == [3.0]


def test_another_clock_is_not_that_of_the_session(tmp_path):
    save(tmp_path, spikes__times_ephysClock=[1.0])
    assert collections(tmp_path) == {}


def test_two_files_of_one_name(tmp_path):
    save(tmp_path, **{"spikes__times": [1.0], "spikes__times__2622b17c-9408-4910-99cb-abf16d9225b9": [1.0]})
    with pytest.raises(FormatError, match=r"'spikes.times.2622.*' and 'spikes.times.npy', two files of spikes.times"):
        collections(tmp_path)


def test_columns_of_an_object(tmp_path):
    save(tmp_path, trials__choice=[[1], [-1]], trials__intervals=[[0.0, 1.0], [1.0, 2.0]], trials__movie=np.zeros((2, 3, 3)))
    (tmp_path / "trials.names.tsv").write_text("name\tnumber\na\t1\nb\tn/a\n")
    known = collections(tmp_path)[tmp_path]
    found = columns(known, "trials")
    assert found["choice"].tolist() == [1, -1]
    assert found["intervals_1"].tolist() == [1.0, 2.0]
    assert found["name"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(found["number"], [1.0, np.nan])
    assert "movie" not in found
    assert "choice" not in columns(known, "trials", skip=("choice",))
    with pytest.raises(FormatError, match=r"no trials.chioce. It has .*Did you mean 'trials.choice'"):
        require(known, "trials", "chioce", tmp_path)
    save(tmp_path, trials__choice=[1, -1, 1])
    with pytest.raises(FormatError, match=r"has 2 rows and 'trials.choice.npy' 3. Expected one row a trial"):
        columns(collections(tmp_path)[tmp_path], "trials")


def test_pickled_arrays_and_damaged_files(tmp_path):
    np.save(tmp_path / "trials.a.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "trials.b.npy").write_bytes(b"\x93NUMPY and no more")
    known = collections(tmp_path)[tmp_path]
    with pytest.raises(FormatError, match="pickled"):
        values(known["trials", "a"])
    with pytest.raises(FormatError, match=r"trials.b.npy"):
        values(known["trials", "b"])
    np.save(tmp_path / "trials.c.npy", np.array(["VISp", "LGd"]))
    assert values(collections(tmp_path)[tmp_path]["trials", "c"]).tolist() == ["VISp", "LGd"]


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "_ibl_trials.table.pqt").write_bytes(b"PAR1")
    dataset = collections(tmp_path)[tmp_path]["trials", "table"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OptionalDependencyError, match=r"'_ibl_trials.table.pqt' needs pyarrow.*pip install pyarrow"):
        values(dataset)
    table = pd.DataFrame({"contrastLeft": [0.5, np.nan], "stimOn_times": [1.0, 2.0]})
    package, parquet = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    parquet.read_table = lambda file: SimpleNamespace(to_pandas=lambda: table)
    package.parquet = parquet
    monkeypatch.setitem(sys.modules, "pyarrow", package)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)
    assert columns(collections(tmp_path)[tmp_path], "trials")["stimOn_times"].tolist() == [1.0, 2.0]

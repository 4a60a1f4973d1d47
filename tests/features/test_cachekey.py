import dask.array as da
import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import FormatError
from brainalign.features.cachekey import recording_key, stimulus_hash

STRING = np.dtypes.StringDType()


def table(kind, ids=("a", "b"), attrs=None, onset_s=(0.0, 1.0), **content):
    coords = {"stimulus_id": ("presentation", np.array(ids, dtype=STRING)), "onset_s": ("presentation", list(onset_s))}
    return xr.Dataset(content, coords=coords, attrs={"kind": kind, **(attrs or {})})


def texts(*values, **options):
    return table("text", text=("presentation", np.array(values, dtype=STRING)), **options)


def test_every_part_of_the_content_counts():
    base = stimulus_hash(texts("one", "two"))
    assert stimulus_hash(texts("one", "two")) == base
    others = [
        texts("one", "twp"), texts("two", "one"), texts("on", "etwo"), texts("one", "two", ids=("a", "c")),
        texts("one", "two", onset_s=(0.0, 1.1)), texts("one", "two", attrs={"sampling_rate_hz": 3.0}),
    ]  # fmt: skip
    hashes = {base, *map(stimulus_hash, others)}
    assert len(hashes) == 1 + len(others)
    assert stimulus_hash(texts("one", "two", attrs={"root": "/x", "provenance": "{}"})) == base


def test_arrays_by_value_whether_lazy_or_not():
    values = np.random.default_rng(0).normal(size=(2, 3, 2_000_000)).astype("f4")
    dims = ("presentation", "channel", "time")
    base = stimulus_hash(table("array", values=(dims, values)))
    assert stimulus_hash(table("array", values=(dims, da.from_array(values, chunks=(1, 1, -1))))) == base
    values[1, 2, -1] += 1
    assert stimulus_hash(table("array", values=(dims, values))) != base


def test_files_by_bytes_not_by_place(tmp_path):
    for root in ("one", "two"):
        (tmp_path / root).mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / root / name).write_text(name)
    stimuli = table(
        "image", path=("presentation", np.array(["a.png", "b.png"], dtype=STRING)), attrs={"root": str(tmp_path / "one")}
    )
    moved = stimuli.assign_attrs(root=str(tmp_path / "two"))
    assert stimulus_hash(stimuli) == stimulus_hash(moved)
    (tmp_path / "two" / "b.png").write_text("other")
    assert stimulus_hash(stimuli) != stimulus_hash(moved)
    (tmp_path / "two" / "b.png").unlink()
    with pytest.raises(FormatError, match=r"b.png' cannot be read.*attr `root`"):
        stimulus_hash(moved)


def test_key_names_the_part_that_differs():
    x = ba.responses(np.eye(2), stimulus_id=["a", "b"], neuroid_id=[0, 1], modality="ann", system="net", layer="l")
    base = recording_key("r", texts("one", "two"), [slice(0, 2)], x)

    def differing(other):
        return [part for part in base if base[part] != other[part]]

    assert differing(recording_key("r", texts("one", "two"), [slice(0, 2)], x * 2)) == []
    assert differing(recording_key("s", texts("one", "two"), [slice(0, 2)], x)) == ["responder"]
    assert differing(recording_key("r", texts("one", "xyz"), [slice(0, 2)], x)) == ["stimuli"]
    assert differing(recording_key("r", texts("one", "two"), [slice(0, 1), slice(1, 2)], x)) == ["batches"]
    assert differing(recording_key("r", texts("one", "two"), [slice(0, 2)], x.assign_coords(layer=("neuroid", ["l", "m"])))) == [
        "labels"
    ]
    assert {"brainalign", "torch"} <= set(base["versions"])

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.adapters.store.zgroups import decode_attrs, encode_attrs, quote, read_group, read_json, write_group
from brainalign.core.errors import SchemaError, StoreError

NAMES = [
    "",
    ".",
    "..",
    "../../etc",
    "a/b",
    "encoder.layer.0/output",
    "_labels",
    "__zarr",
    "zarr.json",
    "%",
    "%2E",
    "é ü",
    "x" * 500,
    "/abs",
]


def test_names_stay_apart_and_inside_the_folder(tmp_path):
    quoted = [quote(name) for name in NAMES]
    assert len(set(quoted)) == len(NAMES)
    for name in quoted:
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert name[0] not in "._"
        assert name != "zarr.json"
        assert len(name.encode()) < 200


@given(st.lists(st.text(max_size=30), unique=True, max_size=8))
@settings(max_examples=30)
def test_quoting_never_merges_two_names(names):
    assert len({quote(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, float("inf"), float("-inf"), "text", [1, "a", [2.0]], (1, (2, "b")), {"a": {"b": (1,)}}, [],
        np.float32(1.5), np.int16(-3), np.bool_(True), np.arange(6, dtype=np.int8).reshape(2, 3), np.array([1.0, np.nan]),
        np.array(["a", "bc"]), np.array(["a", "bc"], dtype=np.dtypes.StringDType()), np.zeros((0, 2)),
    ],
)  # fmt: skip
def test_attributes_come_back_with_type_and_dtype(value):
    attrs = json.loads(json.dumps(encode_attrs({"x": value}, reserved="brainalign"), allow_nan=False))
    back = decode_attrs(attrs)["x"]
    assert type(back) is type(value)
    if isinstance(value, (np.ndarray, np.generic)):
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
    else:
        assert back == value


def test_nan_attribute():
    assert np.isnan(decode_attrs(encode_attrs({"x": float("nan")}, reserved="-"))["x"])


@pytest.mark.parametrize("attrs", [{"x": object()}, {1: "a"}, {"brainalign": 1}, {"x": {1: 2}}, {"x": b"raw"}])
def test_attributes_that_cannot_be_stored_are_named(attrs):
    with pytest.raises(SchemaError, match=r"cannot store the attribute.*Expected"):
        encode_attrs(attrs, reserved="brainalign")


def test_group_round_trip_and_damage(tmp_path):
    write_group(tmp_path / "g", {"kind": "x"}, {"units": "V", "n": np.int8(2)})
    header, attrs = read_group(tmp_path / "g")
    assert header == {"kind": "x"}
    assert attrs == {"units": "V", "n": 2}
    meta = tmp_path / "g" / "zarr.json"
    meta.write_text(meta.read_text()[:-9])
    with pytest.raises(StoreError, match=r"zarr.json cannot be read.*copy it again"):
        read_group(tmp_path / "g")
    meta.write_text("{}")
    with pytest.raises(StoreError, match="other origin"):
        read_group(tmp_path / "g")
    meta.unlink()
    with pytest.raises(StoreError, match="is missing"):
        read_json(meta)

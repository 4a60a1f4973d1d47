import hashlib

import numpy as np
import pytest

from brainalign.core.errors import FormatError, ParameterError, SchemaError
from brainalign.dataset.stimulus_table import build, hashed, known_coords, paths_of


def make(content, kind, ids=None, coords=None, **options):
    options = {"dims": None, "root": None} | options
    dims, root = options.pop("dims"), options.pop("root")
    return build(content, list("abcdefgh")[: len(content)] if ids is None else ids, kind, dims, root, coords or {}, **options)


def test_texts_are_hashed_by_their_bytes():
    table = make(["the", "café"], "word")
    assert table.text.values.tolist() == ["the", "café"]
    assert table.sha256.values.tolist() == [hashlib.sha256(text.encode()).hexdigest() for text in ("the", "café")]


def test_arrays_are_hashed_by_value_shape_and_type():
    values = np.arange(12.0).reshape(3, 2, 2)
    hashes = make(values, "array").sha256.values.tolist()
    assert len(set(hashes)) == 3
    assert make(values[::-1], "array").sha256.values.tolist() == hashes[::-1]
    assert make(np.asfortranarray(values), "array").sha256.values.tolist() == hashes
    assert set(make(values.astype("float32"), "array").sha256.values).isdisjoint(hashes)
    assert set(make(values.reshape(3, 4), "array").sha256.values).isdisjoint(hashes)


def test_files_are_hashed_by_their_bytes_and_lie_below_their_folder(tmp_path):
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    table = make([tmp_path / "sub" / "b.png", tmp_path / "a.png"], "image")
    assert table.path.values.tolist() == ["sub/b.png", "a.png"]
    assert table.attrs["root"] == str(tmp_path)
    assert table.sha256.values[1] == hashlib.sha256(b"a.png").hexdigest()
    again = make(["a.png"], "image", root=tmp_path)
    assert again.path.values.tolist() == ["a.png"]


def test_missing_files_are_an_error_unless_they_may_be(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"1 of 2 stimulus files are not in .*, first 'b\.png'"):
        make(["a.png", "b.png"], "image", root=tmp_path)
    table = make(["a.png", "b.png"], "image", root=tmp_path, must_exist=False)
    assert (table.sha256.values == "").tolist() == [False, True]


@pytest.mark.parametrize("path", ["../b.png", "/b.png", "x/../../b.png"])
def test_files_outside_the_root_are_refused(tmp_path, path):
    with pytest.raises(FormatError, match="leads out of"):
        make([path], "image", root=tmp_path, must_exist=False)


@pytest.mark.parametrize(
    ("shape", "kind", "dims"),
    [
        ((2, 5), "array", ("feature",)),
        ((2, 3, 8, 9), "image", ("channel", "y", "x")),
        ((2, 8, 9, 3), "image", ("y", "x", "channel")),
        ((2, 3, 8, 3), "image", ("dim_1", "dim_2", "dim_3")),
        ((2, 8, 9), "image", ("y", "x")),
        ((2, 100), "audio", ("sample",)),
        ((2, 4, 5), "array", ("dim_1", "dim_2")),
    ],
)
def test_dims_of_one_stimulus(shape, kind, dims):
    assert make(np.zeros(shape), kind)["values"].dims == ("presentation", *dims)


def test_dims_can_be_named():
    assert make(np.zeros((2, 3, 4)), "audio", dims=("channel", "sample"))["values"].dims == ("presentation", "channel", "sample")
    with pytest.raises(ParameterError, match="Expected 2 names"):
        make(np.zeros((2, 3, 4)), "audio", dims=("sample",))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (["a", "b"], "array"), (np.zeros((2, 3)), "word"), (np.zeros(2), "array"), ([1, "a"], "text"), ([None, "a"], "word"),
        (["a", 2.0], "image"),
    ],
)  # fmt: skip
def test_content_of_another_kind_is_refused(content, kind):
    with pytest.raises(ParameterError, match=rf"for kind='{kind}'. Expected"):
        make(content, kind)


def test_arrays_of_different_shapes_are_refused():
    with pytest.raises(ParameterError, match="2 arrays of different shapes"):
        make([np.zeros((2, 2)), np.zeros((3, 2))], "image")


def test_content_must_be_a_sequence_with_something_in_it():
    with pytest.raises(ParameterError, match="'abc' as content"):
        make("abc", "word")
    with pytest.raises(ParameterError, match=r"shape \(0,\)"):
        make([], "word")
    with pytest.raises(ParameterError, match=r"'kind' parameter.*Did you mean 'image'"):
        make(["a"], "imag")


def test_ids_and_columns_are_checked():
    assert make(["x", "y"], "word", ids=[1, 2]).stimulus_id.values.tolist() == ["1", "2"]
    assert make(["x", "y"], "word", coords={"run": "1"}).run.values.tolist() == ["1", "1"]
    with pytest.raises(ParameterError, match=r"`stimulus_id` of shape \(1,\). Expected 2 values"):
        make(["x", "y"], "word", ids=["a"])
    with pytest.raises(ParameterError, match=r"`onset_s` of shape \(3,\)"):
        make(["x", "y"], "word", coords={"onset_s": [0.0, 1.0, 2.0]})
    with pytest.raises(SchemaError, match="two different contents: 'a'"):
        make(["x", "y"], "word", ids=["a", "a"])
    with pytest.raises(ParameterError, match="the column 'text'"):
        make(["x"], "word", coords={"text": ["y"]})
    with pytest.raises(ParameterError, match="the column 'feature'"):
        make(np.zeros((2, 3)), "array", coords={"feature": [1, 2]})


def test_known_coords():
    assert known_coords({"run": "1", "onset_s": None}) == {"run": "1"}
    with pytest.raises(ParameterError, match=r"'onset'.*Did you mean 'onset_s'"):
        known_coords({"onset": [1.0]})
    with pytest.raises(ParameterError, match="unknown coordinate 'region'"):
        known_coords({"region": ["V1"]})


def test_parts_of_files_are_not_read(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x")
    table = make([tmp_path / "a.tar"] * 2, "image", parts=["member:1.png", "member:2.png"])
    assert table.path_part.values.tolist() == ["member:1.png", "member:2.png"]
    assert table.sha256.values.tolist() == ["", ""]
    with pytest.raises(SchemaError, match="two different contents: 'a'"):
        make([tmp_path / "a.tar"] * 2, "image", ids=["a", "a"], parts=["member:1.png", "member:2.png"])
    with pytest.raises(ParameterError, match="the column 'path_part'"):
        make([tmp_path / "a.tar"], "image", coords={"path_part": ["x"]})


def test_hashed_reads_files_and_leaves_texts_as_they_are(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    files = make(["a.png"], "image", root=tmp_path)
    assert hashed(files.assign_coords(sha256=("presentation", [""]))).sha256.values.tolist() == files.sha256.values.tolist()
    texts = make(["x"], "word")
    assert hashed(texts) is texts


def test_a_file_name_that_is_no_text_is_named():
    with pytest.raises(FormatError, match=r"'bad\\udc80\.png' has a name that is no UTF-8"):
        make(["bad\udc80.png"], "image", must_exist=False)


def test_one_path_or_several(tmp_path):
    assert paths_of(str(tmp_path), owner="f") == paths_of([tmp_path], owner="f") == [tmp_path]
    assert paths_of(iter([tmp_path]), owner="f") == [tmp_path]
    for given in (3, [], [3], None):
        with pytest.raises(ParameterError, match=r"f got .* Expected a path, or a sequence of at least one"):
            paths_of(given, owner="f")

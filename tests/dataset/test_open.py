import ast
import logging
import re
import sys

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import FormatError, ParameterError, SchemaError, StoreError, UnknownNameError
from brainalign.core.registry import Registry
from brainalign.dataset import open as opening

STRING = np.dtypes.StringDType()


@pytest.fixture
def x():
    return ba.responses(
        np.random.default_rng(0).normal(size=(4, 3)), stimulus_id=list("abab"), neuroid_id=["u", "v", "w"], modality="fmri", system="sub-01",
        region=["V1", "V2", "V1"], onset_s=[0.0, 2.0, 4.0, 6.0], run="1",
    )  # fmt: skip


def table(**content):
    return xr.Dataset(
        {name: value for name, value in content.items() if name != "kind"},
        coords={"stimulus_id": ("presentation", np.array(["a", "b"], dtype=STRING)), "onset_s": ("presentation", [0.5, np.nan])},
        attrs={"kind": content["kind"], "root": "/somewhere/else"},
    )


TABLES = {
    "text": table(kind="word", text=("presentation", np.array(["hello", ""], dtype=STRING))),
    "path": table(kind="image", path=("presentation", np.array(["a.png", "b/c.png"], dtype=STRING))),
    "values": table(kind="array", values=(("presentation", "channel", "y"), np.arange(12, dtype=np.uint8).reshape(2, 2, 3))),
}


@pytest.mark.parametrize("content", TABLES)
def test_stimuli_of_each_content_come_back_identical(tmp_path, content):
    stimuli = TABLES[content]
    ba.save(stimuli, tmp_path / "s")
    node = ba.open_study(tmp_path / "s")[f"stimuli/{stimuli.attrs['kind']}"]
    xr.testing.assert_identical(node.to_dataset().compute(), stimuli)
    assert node[content].dtype == stimuli[content].dtype


def test_a_whole_study_opens_as_a_tree_of_lazy_nodes(tmp_path, x):
    result = xr.Dataset(
        {"score": (("neuroid",), np.float32([0.5, np.nan, 0.1]))}, coords=x.region.coords, attrs={"asked": "ridge"}
    )
    rdm = xr.DataArray(np.eye(2), dims=("stimulus", "stimulus_2"), name="rdm", attrs={"metric": "euclidean"})
    ba.save(x, tmp_path / "s")
    ba.save(x, tmp_path / "s", name="group/a")
    ba.save(TABLES["text"], tmp_path / "s", name="story")
    ba.save(result, tmp_path / "s", name="ridge")
    ba.save(rdm, tmp_path / "s", name="it")
    tree = ba.open_study(tmp_path / "s")
    assert isinstance(tree, xr.DataTree)
    assert {node.path for node in tree.leaves} == {
        "/stimuli/story", "/responses/sub-01", "/responses/group%2Fa", "/results/ridge", "/results/it",
    }  # fmt: skip
    assert tree["responses/sub-01"].responses.chunks is not None
    assert tree["results/ridge"].score.chunks is not None
    xr.testing.assert_identical(tree["responses/sub-01"].responses.compute(), x)
    xr.testing.assert_identical(tree["results/ridge"].to_dataset().compute(), result)
    xr.testing.assert_identical(tree["results/it"].rdm.compute(), rdm)


def test_default_name_of_a_result_is_its_verb(tmp_path, x):
    from brainalign.core.provenance import write_step

    result = xr.Dataset({"score": ("neuroid", [1.0])})
    with pytest.raises(ParameterError, match=r"'name' parameter of save must be given for a result without provenance"):
        ba.save(result, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    ba.save(write_step(result, "evaluate"), tmp_path / "s")
    assert list(ba.open_study(tmp_path / "s")["results"]) == ["evaluate"]


def test_save_refuses_what_is_not_valid_and_writes_nothing(tmp_path, x):
    with pytest.raises(ParameterError, match="responses of 2 systems"):
        ba.save(x.assign_coords(system=("neuroid", ["a", "b", "b"])), tmp_path / "s")
    with pytest.raises(SchemaError, match="voxel"):
        ba.save(x.rename(neuroid="voxel"), tmp_path / "s")
    with pytest.raises(SchemaError, match="cannot store the attribute 'odd'"):
        ba.save(x.assign_attrs(odd=object()), tmp_path / "s")
    with pytest.raises(SchemaError, match="Expected exactly one of"):
        ba.save(TABLES["text"].assign(path=TABLES["path"].path), tmp_path / "s")
    with pytest.raises(ParameterError, match="Got list instead"):
        ba.save([1, 2], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_open_responses_from_a_store_is_lossless(tmp_path, x):
    ba.save(x, tmp_path / "s")
    back = ba.open_responses(tmp_path / "s")
    xr.testing.assert_identical(back.compute(), x)
    assert ba.core.provenance(back.compute()).altered is False
    xr.testing.assert_identical(ba.open_responses(str(tmp_path / "s"), format="store", name="sub-01").compute(), x)
    with pytest.raises(StoreError, match="Did you mean 'sub-01'"):
        ba.open_responses(tmp_path / "s", name="sub-02")


class Toy:
    """A format whose files start with its magic word."""

    def __init__(self, magic, x):
        self.magic, self.x = magic, x

    def matches(self, path):
        found = path.is_file() and path.read_text().startswith(self.magic)
        return found if self.magic == "cat" else f"it starts with {self.magic}" if found else ""

    def open(self, path, *, gain=1.0):
        return self.x * gain


@pytest.fixture
def formats(monkeypatch, x):
    toys = type(sys)("toys")
    toys.cat, toys.caterpillar = Toy("cat", x), Toy("caterpillar", x)
    monkeypatch.setitem(sys.modules, "toys", toys)
    targets = {"cat": "toys:cat", "caterpillar": "toys:caterpillar", "fragile": "a_package_that_is_not_there:adapter"}
    monkeypatch.setattr(opening, "FORMATS", Registry("brainalign.test_formats", targets))


def test_the_content_decides_and_provenance_names_the_format(tmp_path, x, formats):
    (tmp_path / "a").write_text("cat")
    back = ba.open_responses(tmp_path / "a", gain=2.0)
    np.testing.assert_array_equal(back, x * 2)
    steps = ba.core.provenance(back).steps
    assert [step["verb"] for step in steps] == ["responses", "open_responses"]
    because = "its adapter recognises the content"
    assert steps[-1]["params"] == {"path": str(tmp_path / "a"), "format": "cat", "because": because, "gain": 2.0}
    assert ba.core.provenance(back).altered is False


def test_none_or_two_that_fit(tmp_path, formats):
    (tmp_path / "a").write_text("caterpillar")
    with pytest.raises(
        FormatError, match=r"fits 2 formats: 'cat', since .*; 'caterpillar', since it starts with c.*choose with `format=`"
    ):
        ba.open_responses(tmp_path / "a")
    assert ba.open_responses(tmp_path / "a", format="cat").shape == (4, 3)
    (tmp_path / "a").write_text("dog")
    with pytest.raises(FormatError, match=r"none of the formats 'cat', 'caterpillar', 'fragile'.*Not asked: fragile \(No module"):
        ba.open_responses(tmp_path / "a")
    with pytest.raises(FormatError, match="does not exist"):
        ba.open_responses(tmp_path / "b")
    with pytest.raises(UnknownNameError, match="Did you mean 'cat'"):
        ba.open_responses(tmp_path / "a", format="cta")


def test_what_fits_nothing_is_told_what_is_often_meant(tmp_path):
    (tmp_path / "mine.csv").write_text("image,v1\na,1\nb,2\n")
    with pytest.raises(FormatError, match=r"opens with `format='arrays', stimulus_column=\.\.\.`"):
        ba.open_responses(tmp_path / "mine.csv", modality="fmri", system="s")
    assert ba.open_responses(
        tmp_path / "mine.csv", format="arrays", stimulus_column="image", modality="fmri", system="s"
    ).stimulus_id.values.tolist() == ["a", "b"]
    with pytest.raises(FormatError, match="give the files"):
        ba.open_responses(tmp_path)


def test_the_docstring_lists_every_format():
    listed = re.search(r"format : str, optional\n(.*?)or one that", opening.open_responses.__doc__, flags=re.DOTALL).group(1)
    assert re.findall(r'``"([\w-]+)"``', listed) == Registry("no.plugins", opening.FORMATS._builtin).names()


def test_the_choice_is_logged_and_recorded_with_its_reason(tmp_path, x, caplog):
    np.save(tmp_path / "x.npy", x.values)
    with caplog.at_level(logging.INFO, logger="brainalign"):
        options = {"modality": "fmri", "system": "sub-01", "stimulus_id": list("abab"), "neuroid_id": ["u", "v", "w"]}
        opened = ba.open_responses(tmp_path / "x.npy", **options)
        ba.open_responses(tmp_path / "x.npy", format="arrays", **options)
    first, second = [record.getMessage() for record in caplog.records]
    assert first == f"{tmp_path / 'x.npy'} is opened as 'arrays': it starts as files of numpy do"
    assert second.endswith("`format=` says so")
    assert ba.core.provenance(opened).steps[-1]["params"]["because"] == "it starts as files of numpy do"


def test_what_is_missing_is_named_with_a_call_that_works(tmp_path):
    file = tmp_path / "regions.csv"
    file.write_text("a,b\n1,2\n3,4\n")
    wanted = r"opened as 'timecourses': it is a text table.*needs `tr_s=`, `system=`, got run\. Expected a call like `ba\."
    with pytest.raises(ParameterError, match=wanted) as caught:
        ba.open_responses(file, run="1")
    call = ast.parse(re.search(r"`(ba\.open_responses\(.*?\))`", str(caught.value)).group(1), mode="eval").body
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    assert options == {"run": "1", "tr_s": 2.0, "system": "sub-01"}
    assert ba.open_responses(ast.literal_eval(call.args[0]), **options).shape == (2, 2)
    with pytest.raises(
        ParameterError, match=r"and 1 more is opened as .*a call like `ba\.open_responses\(files, run='1', tr_s=2\.0"
    ):
        ba.open_responses([file, file], format="timecourses", run="1")
    with pytest.raises(ParameterError, match=r"unknown option 'sytem'\. Did you mean 'system'"):
        ba.open_responses(file, tr_s=2.0, sytem="sub-01")


listed_folders = None


def _count_listings(event, args):
    if listed_folders is not None and event in ("os.listdir", "os.scandir"):
        listed_folders.append(args)


sys.addaudithook(_count_listings)


def test_looking_at_a_large_folder_is_bounded(tmp_path):
    """No format walks a whole tree in order to say that it is not its own."""
    global listed_folders
    for number in range(400):
        (tmp_path / f"d{number // 20}" / f"e{number % 20}" / "f").mkdir(parents=True)
        (tmp_path / f"d{number // 20}" / f"e{number % 20}" / "f" / "notes.bin").touch()
    listed = {}
    for name in opening.FORMATS.names():
        listed_folders = []
        found = opening.FORMATS.get(name).matches(tmp_path)
        listed[name], listed_folders = len(listed_folders), None
        assert not found, f"{name} claims a folder of nothing it knows: {found}"
    assert {name: n for name, n in listed.items() if n > 100} == {}


def test_options_of_a_format_are_checked(tmp_path, x):
    ba.save(x, tmp_path / "s.zarr")
    with pytest.raises(ParameterError, match=r"unknown option 'nam'\. Did you mean 'name'\?"):
        ba.open_responses(tmp_path / "s.zarr", nam="sub-01")
    with pytest.raises(ParameterError, match=r"open_rdms got an unknown option 'kkey'"):
        ba.open_rdms(tmp_path / "none.npz", kkey="it")


def test_a_place_that_cannot_be_written_is_named(tmp_path, x):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"'.*file/s\.zarr' cannot be written \(.*choose another path"):
        ba.save(x, tmp_path / "file" / "s.zarr")
    assert (tmp_path / "file").read_text() == "mine"
    for verb in (lambda: ba.save(x, 3), lambda: ba.open_study(None)):
        with pytest.raises(ParameterError, match=r"path of a study must be a str or a Path\. Got"):
            verb()


def test_an_impossible_name_leaves_no_study(tmp_path, x):
    with pytest.raises(ParameterError, match=r"must be a str\. Got 3"):
        ba.save(x, tmp_path / "s.zarr", name=3)
    assert not (tmp_path / "s.zarr").exists()

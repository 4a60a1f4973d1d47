"""The manifests say of every data set what it is, under which licence, and which bytes it consists of."""

import hashlib
import re
import tomllib
from pathlib import Path, PurePosixPath

import pytest

FOLDER = Path(__file__).parents[2] / "data_manifests"
MANIFESTS = sorted(FOLDER.glob("*.toml"))
TEXT = ("name", "title", "version", "licence", "citation", "modality", "adapter")
OPENERS = ("stimuli", "rdms", "none")  # what opens a data set that is no recording


def load(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_there_are_manifests():
    assert len(MANIFESTS) >= 12


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_has_what_a_reader_needs(path):
    manifest = load(path)
    assert manifest["name"] == path.stem
    assert [key for key in TEXT if not (isinstance(manifest.get(key), str) and manifest[key].strip())] == []
    assert set(manifest) == {*TEXT, "access", "gotchas", "source", "expected", "files"}
    assert manifest["access"] in ("open", "register")
    assert re.fullmatch(r"[0-9a-f]{40}", manifest["version"]), "the version is the source's commit"
    assert re.fullmatch(r"https://\S+", manifest["source"]["repository"])
    assert manifest["expected"]
    assert all(isinstance(gotcha, str) and gotcha.endswith(".") for gotcha in manifest["gotchas"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_files_are_named_relative_to_the_data_set_and_pinned(path):
    files = load(path)["files"]
    names = [file["path"] for file in files]
    assert len(set(names)) == len(names) > 0
    for file in files:
        name = PurePosixPath(file["path"])
        assert not name.is_absolute(), name
        assert ".." not in name.parts, name
        assert file["bytes"] > 0
        assert re.fullmatch(r"[0-9a-f]{64}", file["sha256"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_adapter_is_one_that_there_is(path):
    from brainalign.core.schema import MODALITIES
    from brainalign.dataset.open import FORMATS

    manifest = load(path)
    assert manifest["adapter"] in (*FORMATS.names(), *OPENERS)
    assert manifest["modality"] in (*MODALITIES, "none")


@pytest.mark.real
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_files_are_the_ones_that_were_published(path, shared_data):
    folder = shared_data(path.stem)
    found = {
        file["path"]: ((folder / file["path"]).stat().st_size, hashlib.sha256((folder / file["path"]).read_bytes()).hexdigest())
        for file in load(path)["files"]
    }
    assert found == {file["path"]: (file["bytes"], file["sha256"]) for file in load(path)["files"]}


@pytest.mark.real
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_no_file_is_left_out(path, shared_data):
    folder = shared_data(path.stem)
    present = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} - {"README.md"}
    assert present == {file["path"] for file in load(path)["files"]}

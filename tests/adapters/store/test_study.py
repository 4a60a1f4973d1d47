import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brainalign.adapters.store.study import (
    JOURNAL,
    check_study,
    claim,
    find_item,
    is_study,
    item_folder,
    items,
    partial_folder,
    prepare_study,
    publish,
    withdraw_study,
)
from brainalign.adapters.store.zgroups import write_group
from brainalign.core.errors import ParameterError, StoreError


def write_item(final: Path, label: str, content: str = "new") -> None:
    with claim(final) as folder:
        write_group(folder, {"kind": "results", "label": label}, {"content": content})
        publish(final)


def test_prepare_is_idempotent_and_withdraw_removes_only_what_is_empty(tmp_path):
    root = prepare_study(tmp_path / "deep" / "s.zarr")
    assert prepare_study(root) == check_study(root) == root
    assert is_study(root)
    write_item(item_folder(root, "results", "a"), "a")
    withdraw_study(root)
    assert items(root, "results") == {"a": root / "results" / "a"}
    withdraw_study(prepare_study(tmp_path / "t.zarr"))
    assert not (tmp_path / "t.zarr").exists()


def test_places_that_are_no_study(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="does not exist"):
        check_study(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"has no zarr.json.*look at the path"):
        check_study(tmp_path / "other")
    with pytest.raises(StoreError, match=r"other files \('thesis.tex'\)"):
        prepare_study(tmp_path / "other")
    with pytest.raises(StoreError, match="is a file"):
        prepare_study(tmp_path / "file")
    assert not is_study(tmp_path / "other")
    assert not is_study(3)
    assert os.listdir(tmp_path / "other") == ["thesis.tex"]
    root = prepare_study(tmp_path / "s")
    with pytest.raises(StoreError, match="'results' part of a study"):
        check_study(root / "results")


def test_newer_study_is_refused(tmp_path):
    root = prepare_study(tmp_path / "s")
    write_group(root, {"kind": "study", "study_version": 2}, {})
    with pytest.raises(StoreError, match=r"study_version 2. Expected 1 or lower.*upgrade"):
        check_study(root)


def test_names_are_strings(tmp_path):
    with pytest.raises(ParameterError, match="Got 3 instead"):
        item_folder(tmp_path, "results", 3)


def test_find_item_names_what_there_is(tmp_path):
    root = prepare_study(tmp_path / "s")
    with pytest.raises(StoreError, match="holds 0 results"):
        find_item(root, "results", None)
    write_item(item_folder(root, "results", "ridge"), "ridge")
    assert find_item(root, "results", None) == find_item(root, "results", "ridge")
    with pytest.raises(StoreError, match=r"no results named 'rigde'. Known: 'ridge'. Did you mean 'ridge'"):
        find_item(root, "results", "rigde")


def test_a_second_writer_is_told_who_the_first_is(tmp_path):
    final = item_folder(prepare_study(tmp_path / "s"), "results", "a")
    with (
        claim(final),
        pytest.raises(StoreError, match=rf"being written by process {os.getpid()} on .*wait for it"),
        claim(final),
    ):
        pytest.fail("two writers of one item")
    with claim(final), claim(final.with_name("b")):
        pass
    assert [entry.name for entry in final.parent.iterdir()] == ["zarr.json"]


def test_lock_of_a_killed_process_is_taken_over(tmp_path):
    final = item_folder(prepare_study(tmp_path / "s"), "results", "a")
    code = (
        "import time, sys, pathlib\nfrom brainalign.adapters.store.study import claim\n"
        "with claim(pathlib.Path(sys.argv[1])) as folder:\n    folder.mkdir(); (folder / 'half').write_text('x')\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(final)]) as process:
        while not (partial_folder(final) / "half").exists():
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(StoreError, match=f"process {process.pid} "), claim(final):
            pass
        # a living writer's unfinished item is left alone by writers of other items
        write_item(final.with_name("b"), "b")
        assert (partial_folder(final) / "half").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(items(tmp_path / "s", "results")) == ["b"]
    write_item(final.with_name("c"), "c")
    assert not partial_folder(final).exists()
    write_item(final, "a")
    assert sorted(items(tmp_path / "s", "results")) == ["a", "b", "c"]


def test_leftovers_are_cleaned_but_recordings_that_can_continue_are_kept(tmp_path):
    root = prepare_study(tmp_path / "s")
    dead, paused = (partial_folder(item_folder(root, "results", name)) for name in ("dead", "paused"))
    for folder in (dead, paused):
        write_group(folder, {"kind": "results", "label": "x"}, {})
    (paused / JOURNAL).write_text("{}\n")
    half, mine = (root / "results" / f".partial-{pid}-zarr.json" for pid in (2**22 + 1, os.getpid()))
    half.touch()
    mine.touch()
    assert items(root, "results") == {}
    write_item(item_folder(root, "results", "a"), "a")
    assert (dead.exists(), paused.exists()) == (False, True)
    assert (half.exists(), mine.exists()) == (False, True)


def test_replacement_killed_between_its_renames_keeps_the_old_item(tmp_path):
    root = prepare_study(tmp_path / "s")
    final = item_folder(root, "results", "a")
    write_item(final, "a", "old")
    final.rename(final.with_name(".replaced-a"))
    assert items(root, "results") == {}
    with claim(final):
        assert list(items(root, "results")) == ["a"]
    write_item(final, "a", "new")
    assert sorted(entry.name for entry in final.parent.iterdir()) == ["a", "zarr.json"]

import pytest

from brainalign.adapters.stimuli.folders import SUFFIXES, list_files, resolve
from brainalign.core.errors import FormatError


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def list_images(folder, **options):
    return [path.relative_to(folder).as_posix() for path in list_files(folder, SUFFIXES["image"], what="image", **options)]


def test_a_folder_lists_its_images_by_name(tmp_path):
    fill(tmp_path, "b.png", "a.JPG", "sub/c.png", "sub/deep/d.png", ".git/e.png", "sub/.f.png", "notes.txt")
    assert list_images(tmp_path) == ["a.JPG", "b.png"]
    assert list_images(tmp_path, nested=True) == ["a.JPG", "b.png", "sub/c.png", "sub/deep/d.png"]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    fill(tmp_path, "faces/a.png")
    with pytest.raises(FormatError, match=r"holds no image; it holds no file.*subfolders 'faces': pass nested=True"):
        list_images(tmp_path)
    with pytest.raises(FormatError, match="there is no folder"):
        list_images(tmp_path / "nowhere")


def test_links_that_leave_the_root_are_refused(tmp_path):
    fill(tmp_path, "secret.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "innocent.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(FormatError, match=r"'innocent\.png' leads out of"):
        resolve(root, "innocent.png")
    assert resolve(tmp_path, "root/innocent.png") == (tmp_path / "secret.png").resolve()

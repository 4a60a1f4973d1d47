"""Where stimulus files lie: what a suffix stands for, the files of a folder, and no path that leads out of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brainalign.core.errors import FormatError
from brainalign.core.parameters import preview

#: What a path is the path of, by its suffix.
SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aif", ".aiff"),
}


def resolve(root: str | Path, path: str | Path) -> Path:
    """Return where a stimulus file lies; it must lie inside ``root``.

    Parameters
    ----------
    root : str or Path
        Folder of the stimuli.
    path : str or Path
        Relative to it. Links are followed before it is judged.

    Returns
    -------
    Path

    Raises
    ------
    FormatError
        The path leads out of the folder.
    """
    inside = Path(root).resolve()
    found = (inside / path).resolve()
    if not found.is_relative_to(inside):
        raise FormatError(
            f"the stimulus path {str(path)!r} leads out of {str(inside)!r}. Expected a file inside that folder: set the attr `root` to the "
            "folder that holds all stimuli."
        )
    return found


def list_files(folder: str | Path, suffixes: Sequence[str], *, what: str, nested: bool = False) -> list[Path]:
    """Return the files of a folder that have one of some suffixes, by name; other files and hidden ones are left aside.

    Parameters
    ----------
    folder : str or Path
    suffixes : sequence of str
        In lower case, with their dot.
    what : str
        What they are, for the message ("image").
    nested : bool
        Look in its subfolders too; linked folders are not entered.

    Returns
    -------
    list of Path

    Raises
    ------
    FormatError
        No such folder, or none in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FormatError(f"there is no folder {str(root)!r}. Expected a folder of {what}s: check the path.")
    inside = [(path, path.relative_to(root)) for path in (root.rglob("*") if nested else root.iterdir())]
    names = sorted(below.as_posix() for path, below in inside if path.is_file() and not any(p[0] == "." for p in below.parts))
    found = [root / name for name in names if Path(name).suffix.lower() in suffixes]
    if not found:
        folders = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
        deeper = f" It has the subfolders {preview(folders)}: pass nested=True to look there." if folders and not nested else ""
        raise FormatError(
            f"{str(root)!r} holds no {what}; it holds {preview(names) or 'no file'}. Expected files such as {', '.join(suffixes[:3])}: "
            f"pass the folder that holds them, or a list of paths.{deeper}"
        )
    return found

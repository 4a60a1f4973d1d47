"""The folder of a study: which items it holds, who may write one, and how a finished one becomes visible.

``stimuli/<name>``, ``responses/<system>`` and ``results/<name>``. An item is written under a hidden name beside its place
and put there by one rename, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from brainalign.adapters.store.zgroups import META, discard, quote, read_group, read_json, write_group, writing
from brainalign.core.errors import ParameterError, StoreError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import SCHEMA_VERSION

STUDY_VERSION = 1
SECTIONS = ("stimuli", "responses", "results")
#: In an unfinished item: what has been done so far, by which a killed recording continues.
JOURNAL = ".journal"


def is_study(path: Any) -> bool:
    """Return True where ``path`` is a folder that brainalign wrote, or a zarr folder too damaged to tell.

    Parameters
    ----------
    path : object

    Returns
    -------
    bool
    """
    if not isinstance(path, (str, os.PathLike)) or not (Path(path) / META).is_file():
        return False
    try:
        return '"brainalign"' in json.dumps(read_json(Path(path) / META).get("attributes", {}))
    except StoreError:
        return True


def check_study(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a study, or say why it is none.

    Parameters
    ----------
    path : path

    Returns
    -------
    Path

    Raises
    ------
    StoreError
        There is nothing, something else, or a study of a newer version.
    """
    root = _as_path(path)
    if not (root / META).is_file():
        found = "is a file" if root.is_file() else f"has no {META}" if root.exists() else "does not exist"
        raise StoreError(f"{root} {found}. Expected a study written by `ba.save` or `ba.record(store=...)`: look at the path.")
    header, _ = read_group(root)
    if header.get("kind") != "study":
        raise StoreError(
            f"{root} is the {header.get('kind')!r} part of a study. Expected the study itself: pass the folder that holds "
            f"{', '.join(SECTIONS)}."
        )
    check_version(root, header)
    return root


def check_version(folder: Path, header: dict[str, Any]) -> None:
    """Refuse what a newer brainalign wrote.

    Parameters
    ----------
    folder : Path
    header : dict

    Raises
    ------
    StoreError
        Its versions are higher than ours, or not numbers.
    """
    for key, known in (("study_version", STUDY_VERSION), ("schema_version", SCHEMA_VERSION)):
        version = header.get(key, known)
        if not isinstance(version, int) or version > known:
            raise StoreError(
                f"{folder / META} has {key} {version!r}. Expected {known} or lower: it was written by a newer brainalign, upgrade "
                "with `pip install -U brainalign`."
            )


def prepare_study(path: str | os.PathLike[str]) -> Path:
    """Return the folder of a study, made where there is none.

    Parameters
    ----------
    path : path
        A study, or a place that is free.

    Returns
    -------
    Path

    Raises
    ------
    StoreError
        Something else is there, or the place cannot be written.
    """
    root = _as_path(path)
    with writing(root):
        return _prepare(root)


def _as_path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ParameterError(f"The path of a study must be a str or a Path. Got {path!r} instead.")
    return Path(path)


def _prepare(root: Path) -> Path:
    if root.is_file():
        raise StoreError(f"{root} is a file. Expected a folder of a study, or a free place: choose another path.")
    if not (root / META).exists():
        other = [entry.name for entry in root.iterdir() if not _is_ours(entry.name)] if root.exists() else []
        if other:
            raise StoreError(
                f"{root} holds other files ({preview(sorted(other))}) and no study. Expected a study or a free place: choose another path."
            )
        # the sections first, so that whoever finds the study's own metadata finds all of it
        for section in SECTIONS:
            write_group(root / section, {"kind": section}, {})
        write_group(root, {"kind": "study", "study_version": STUDY_VERSION}, {})
    return check_study(root)


def withdraw_study(root: Path) -> None:
    """Remove a study that holds nothing, so that a failed first write leaves no trace.

    Parameters
    ----------
    root : Path
    """
    if any(entry.name != META for section in SECTIONS for entry in (root / section).iterdir()):
        return  # another process has begun to write here
    discard(root)


def items(root: Path, section: str) -> dict[str, Path]:
    """Return the finished items of one section, by name.

    Parameters
    ----------
    root : Path
    section : {"stimuli", "responses", "results"}

    Returns
    -------
    dict of str to Path

    Raises
    ------
    StoreError
        An item has no readable metadata.
    """
    folder = root / section
    if not folder.is_dir():
        return {}
    found = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return {read_group(entry)[0]["label"]: entry for entry in found}


def find_item(root: Path, section: str, name: str | None) -> Path:
    """Return the folder of one item; without a name, of the only one.

    Parameters
    ----------
    root : Path
    section : {"stimuli", "responses", "results"}
    name : str or None

    Returns
    -------
    Path

    Raises
    ------
    StoreError
        There is no such item, or several to choose from.
    """
    known = items(root, section)
    if name is not None and name in known:
        return known[name]
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name is None:
        raise StoreError(f"{root} holds {len(known)} {section} ({preview(known, 8)}). Expected one: choose with `name=`.")
    raise StoreError(
        f"{root} holds no {section} named {name!r}. Known: {', '.join(map(repr, known)) or 'none'}.{did_you_mean(name, known)}"
    )


def item_folder(root: Path, section: str, name: str) -> Path:
    """Return where an item of this name stands, or would stand.

    Parameters
    ----------
    root : Path
    section, name : str

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        The name is not a string.
    """
    if not isinstance(name, str):
        raise ParameterError(f"The 'name' parameter of what goes into a study must be a str. Got {name!r} instead.")
    return root / section / quote(name)


def partial_folder(final: Path) -> Path:
    """Return the hidden place beside ``final`` where it is written.

    Parameters
    ----------
    final : Path

    Returns
    -------
    Path
    """
    return final.with_name(f".partial-{final.name}")


@contextmanager
def claim(final: Path) -> Iterator[Path]:
    """Be the only writer of an item; the folder to write it in is given.

    What killed writers left behind is removed first, except recordings that can be continued.

    Parameters
    ----------
    final : Path
        Where the item will stand.

    Yields
    ------
    Path
        The hidden folder. It may hold an unfinished recording of the same name.

    Raises
    ------
    StoreError
        Another process is writing this item.
    """
    lock = _lock(final)
    if lock is None:
        raise StoreError(
            f"{final} is being written by {_owner(_lock_path(final))}. Expected one writer at a time: wait for it to finish, or choose "
            "another `name=`."
        )
    try:
        _recover(final)
        (final / JOURNAL).unlink(missing_ok=True)
        _clean(final.parent)
        yield partial_folder(final)
    finally:
        _unlock(final, lock)


def publish(final: Path) -> None:
    """Make a finished item visible by one rename; what stood there before is removed.

    Parameters
    ----------
    final : Path
    """
    replaced = _replaced(final)
    if final.exists():
        final.rename(replaced)
    partial_folder(final).rename(final)
    discard(replaced)


def _replaced(final: Path) -> Path:
    return final.with_name(f".replaced-{final.name}")


def _recover(final: Path) -> None:
    """Undo a replacement that was killed between its two renames."""
    if _replaced(final).exists() and not final.exists():
        _replaced(final).rename(final)
    discard(_replaced(final))


def _clean(section: Path) -> None:
    for leftover in section.glob(".partial-*"):
        if leftover.is_file():
            if not _is_alive(leftover.name.split("-")[1]):
                leftover.unlink(missing_ok=True)
        elif not (leftover / JOURNAL).exists():
            final = section / leftover.name.removeprefix(".partial-")
            lock = _lock(final)
            if lock is not None:
                discard(leftover)
                _unlock(final, lock)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_ours(name: str) -> bool:
    return name in SECTIONS or name.startswith(".partial-")


def _lock_path(final: Path) -> Path:
    return final.with_name(f".lock-{final.name}")


def _lock(final: Path) -> TextIO | None:
    """Take the lock of an item, or return None where a living process has it.

    The system drops the lock of a process that dies, however it dies; the pid in the file is for the message.
    """
    import fcntl

    path = _lock_path(final)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = path.open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise
        try:
            if os.stat(path).st_ino == os.fstat(handle.fileno()).st_ino:
                break
        except FileNotFoundError:
            pass
        handle.close()  # its last owner removed the file between our opening and locking it
    handle.seek(0)
    handle.truncate()
    handle.write(f"{os.getpid()} {socket.gethostname()}")
    handle.flush()
    return handle


def _unlock(final: Path, handle: TextIO) -> None:
    _lock_path(final).unlink(missing_ok=True)
    handle.close()


def _owner(path: Path) -> str:
    try:
        pid, _, host = path.read_text().partition(" ")
    except OSError:
        pid, host = "", ""
    return f"process {pid} on {host} (lock file {path.name})" if pid else f"another process (lock file {path.name})"

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from brainalign.core.errors import ParameterError


def write_whole(path: Path, content: bytes, *, owner: str) -> Path:
    """Write beside a file and rename, so that a reader never sees half of it.

    Parameters
    ----------
    path : Path
        A file of that name is replaced; missing folders are made.
    content : bytes
    owner : str
        The function that was called, for the message.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    ParameterError
        It cannot be written there.
    """
    path = path.expanduser().absolute()
    try:
        return _replace(path, content)
    except OSError as error:
        raise ParameterError(
            f"The 'path' parameter of {owner} must be a file that can be written. Got {str(path)!r} instead ({error})."
        ) from error


def _replace(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path

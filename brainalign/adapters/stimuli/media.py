"""The content of stimuli: texts, arrays, and image files decoded only when they are wanted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, FormatError, require
from brainalign.core.parameters import preview
from brainalign.core.tables import content_of

#: What a path is the path of, by its suffix.
SUFFIXES = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".ppm", ".pgm"),
    "audio": (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aif", ".aiff"),
}


def read_content(stimuli: xr.Dataset, rows: slice | np.ndarray) -> Any:
    """Return the content of some rows of a stimulus table.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
    rows : slice or ndarray of int
        Which presentations.

    Returns
    -------
    list of str, or ndarray, or list of ndarray
        Texts; rows of ``values`` as they are; or decoded images, (row, y, x, 3) uint8 where they are of one size, else a
        list of (y, x, 3).

    Raises
    ------
    FormatError
        An image is missing, damaged, or outside the attr ``root``.
    CapabilityError
        Files of another kind than images.
    """
    name = content_of(stimuli)
    chosen = stimuli[name].isel(presentation=rows)
    if name == "values":
        return np.asarray(chosen.values)
    items = [str(item) for item in chosen.values]
    if name == "text":
        return items
    if stimuli.attrs.get("kind") != "image":
        raise CapabilityError(
            f"stimuli of kind {stimuli.attrs.get('kind')!r} are files ({preview(items, 1)}). Only images are decoded: load them yourself and "
            "pass arrays, `ba.stimuli.table(arrays, kind=...)`."
        )
    root = stimuli.attrs.get("root", ".")
    decoded: dict[str, np.ndarray] = {}
    for item in items:  # an image that is presented twice is decoded once
        if item not in decoded:
            decoded[item] = decode_image(resolve(root, item))
    images = [decoded[item] for item in items]
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


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


def decode_image(file: str | Path) -> np.ndarray:
    """Decode an image to red, green and blue.

    Parameters
    ----------
    file : str or Path

    Returns
    -------
    ndarray of uint8, (y, x, 3)
        Grey becomes three equal channels; transparency is dropped; the pixels are in the order of the file (an EXIF
        rotation is not applied).

    Raises
    ------
    FormatError
        Missing, damaged, or with more than 8 bits a channel.
    """
    require("PIL", extra="viz", purpose="decoding images")
    from PIL import Image

    file = Path(file)
    if not file.is_file():
        raise FormatError(
            f"there is no image {str(file)!r}. Expected it below the attr `root` of the stimuli: set it to their folder."
        )
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise FormatError(
                    f"{str(file)!r} has pixels of mode {image.mode!r}. Expected 8 bits a channel: convert it, or pass its values as an array."
                )
            return np.asarray(image.convert("RGB"))
    except FormatError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(
            f"{str(file)!r} could not be decoded as an image ({' '.join(str(error).split())[:200]}). Expected a whole image: it may be "
            "truncated; copy it again."
        ) from error


def list_images(folder: str | Path) -> list[Path]:
    """Return the image files of a folder, by name; other files and hidden ones are left aside.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    list of Path

    Raises
    ------
    FormatError
        No such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FormatError(f"there is no folder {str(root)!r}. Expected a folder of images: check the path.")
    names = sorted(path.name for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    found = [root / name for name in names if Path(name).suffix.lower() in SUFFIXES["image"]]
    if not found:
        raise FormatError(
            f"{str(root)!r} holds no image; it holds {preview(names) or 'no file'}. Expected files such as {', '.join(SUFFIXES['image'][:3])}: "
            "pass the folder that holds them, or a list of paths."
        )
    return found


def hash_file(file: str | Path) -> str:
    """Return the sha256 of the bytes of a file, in hex.

    Parameters
    ----------
    file : str or Path

    Returns
    -------
    str
    """
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

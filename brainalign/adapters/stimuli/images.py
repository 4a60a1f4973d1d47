"""Decoding images."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from brainalign.adapters.files import reading
from brainalign.core.errors import FormatError, require


def decode_image(source: str | Path | IO[bytes], *, name: str | None = None) -> np.ndarray[Any, Any]:
    """Decode an image to red, green and blue.

    Parameters
    ----------
    source : str, Path or binary file
        Of a film (an animated GIF) the first frame.
    name : str, optional
        What to call a binary file in a message.

    Returns
    -------
    ndarray of uint8, (y, x, 3)
        Grey becomes three equal channels; transparency is dropped; the pixels are in the order of the file (an EXIF
        rotation is not applied).

    Raises
    ------
    FormatError
        Missing, damaged, or with more than 8 bits a channel or 8192 x 8192 pixels.
    """
    require("PIL", extra="media", purpose="decoding images")
    from PIL import Image

    if isinstance(source, (str, Path)):
        name, source = str(source), Path(source)
        if not source.is_file():
            raise FormatError(
                f"there is no image {name!r}. Expected it below the attr `root` of the stimuli: set it to their folder."
            )
    with reading(name, "an image"), Image.open(source) as image:
        return to_rgb(image, str(name))


#: A header that promises more is damaged, or a bomb: it would ask for all memory.
MAX_PIXELS = 2**26


def to_rgb(image: Any, name: str) -> np.ndarray[Any, Any]:
    """Return the pixels of an image of PIL.

    Parameters
    ----------
    image : PIL Image
    name : str
        For the message.

    Returns
    -------
    ndarray of uint8, (y, x, 3)

    Raises
    ------
    FormatError
        More than 8 bits a channel, or more pixels than an image of a stimulus has.
    """
    if image.width * image.height > MAX_PIXELS:
        raise FormatError(
            f"{name!r} states {image.width} x {image.height} pixels. Expected at most {MAX_PIXELS}: it may be damaged; make it smaller."
        )
    if image.mode.startswith(("I", "F")):
        raise FormatError(
            f"{name!r} has pixels of mode {image.mode!r}. Expected 8 bits a channel: convert it, or pass its values as an array."
        )
    return np.asarray(image.convert("RGB"))

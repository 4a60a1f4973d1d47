"""Which image the Natural Scenes Dataset (NSD) showed when: the design of its experiment, counted from 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainalign.adapters.files import existing
from brainalign.adapters.matfile import find_fields, read_mat
from brainalign.core.errors import FormatError

TRIALS = 750  # of each session
IMAGES = 73000


def read_design(path: Any, subject: int, sessions: Sequence[int]) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return the stimulus of each trial, and whether it is one of the 1000 that all subjects share.

    Parameters
    ----------
    path : str or Path
        ``nsd_expdesign.mat``: ``subjectim`` (8, 10000), ``masterordering`` (30000), ``sharedix`` (1000), all counted from 1.
    subject : int
        From 1.
    sessions : sequence of int
        From 1; 750 trials each.

    Returns
    -------
    (list of str, ndarray of bool)
        Ids as ``nsd-00013``, counted from 0.

    Raises
    ------
    FormatError
        No such file or fields, indices out of range or of mixed bases, or a session that the design does not have.
    """
    file, source = existing(path), str(path)
    variables = read_mat(file)
    images, order, shared = (
        _indices(find_fields(variables, name, source)[name], name, source) for name in ("subjectim", "masterordering", "sharedix")
    )
    order, shared = order.ravel(), shared.ravel()
    if images.ndim != 2 or subject > len(images):
        raise FormatError(
            f"{source!r} has 'subjectim' of shape {images.shape}. Expected (subject, image), at least {subject} subjects."
        )
    _in_range(order, images.shape[1], "masterordering", source)
    _in_range(images, IMAGES, "subjectim", source)
    _in_range(shared, IMAGES, "sharedix", source)
    unseen = np.setdiff1d(shared, images[subject - 1])
    if unseen.size:
        raise FormatError(
            f"{source!r} has {unseen.size} images in 'sharedix' that 'subjectim' does not show to subject {subject}, first {unseen[0]}. Expected all: "
            "does one of them count from 0? Take the published file."
        )
    if max(sessions) * TRIALS > order.size:
        raise FormatError(
            f"{source!r} has {order.size} trials in 'masterordering', {order.size // TRIALS} sessions of {TRIALS}. Expected session "
            f"{max(sessions)} among them: is it the design of another experiment?"
        )
    trials = np.concatenate([np.arange((session - 1) * TRIALS, session * TRIALS) for session in sessions])
    seen = images[subject - 1, order[trials] - 1]
    return [f"nsd-{image - 1:05d}" for image in seen.tolist()], np.isin(seen, shared)


def _indices(values: Any, name: str, source: str) -> np.ndarray[Any, Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or not array.size or not (array == np.round(array)).all():
        raise FormatError(
            f"{source!r} has {name!r} of dtype {array.dtype} and shape {array.shape}. Expected whole numbers, from 1."
        )
    return array.astype(np.int64)


def _in_range(values: np.ndarray[Any, Any], n: int, name: str, source: str) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 1 or high > n:
        raise FormatError(
            f"{source!r} has {name!r} from {low} to {high}. Expected 1 to {n}: NSD counts from 1, and a file that counts from 0 would name "
            "every trial by its neighbour; take the published file."
        )

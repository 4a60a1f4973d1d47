"""Lazy arrays one after the other: a slice of the whole reads that slice of each, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from brainalign.adapters.lazy import Spans, lazy_array


def joined(arrays: Sequence[Any], axis: int = 0) -> Any:
    """Return lazy arrays one after the other along an axis.

    ``dask.array.concatenate`` gives the same values. But dask hands a slice down to a file only where nothing lies between, so that
    one column of its result reads whole blocks; a slice of this one reads that slice of each array.

    Parameters
    ----------
    arrays : sequence of dask array
        Of one shape but for the axis, and of one dtype.
    axis : int

    Returns
    -------
    dask array
        Along the axis in the chunks of each array, otherwise in those of the first.
    """
    if len(arrays) == 1:
        return arrays[0]
    first = arrays[0]
    starts = tuple(np.cumsum([0, *(array.shape[axis] for array in arrays)]).tolist())
    shape = (*first.shape[:axis], starts[-1], *first.shape[axis + 1 :])
    along = tuple(n for array in arrays for n in array.chunks[axis])
    chunks = (*first.chunks[:axis], along, *first.chunks[axis + 1 :])
    return lazy_array(_JoinedRead(tuple(arrays), starts, axis), shape, first.dtype, files=[], what="its parts", chunks=chunks)


@dataclass(frozen=True)
class _JoinedRead:
    arrays: tuple[Any, ...]
    starts: tuple[int, ...]
    axis: int

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        wanted = spans[self.axis]
        out = np.empty(tuple(span.stop - span.start for span in spans), dtype=self.arrays[0].dtype)
        for array, (start, stop) in zip(self.arrays, pairwise(self.starts), strict=True):
            first, last = max(wanted.start, start), min(wanted.stop, stop)
            if first < last:
                inner = (*spans[: self.axis], slice(first - start, last - start), *spans[self.axis + 1 :])
                place = (slice(None),) * self.axis + (slice(first - wanted.start, last - wanted.start),)
                out[place] = array[inner].compute(scheduler="synchronous")
        return out

"""One rule for when a progress bar is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from typing import Any

DELAY_S = 5.0


def progress_bar(iterable: Iterable[Any] | None = None, *, progress: bool | None, desc: str, **options: Any) -> Any:
    """Return a progress bar on standard error, or as a widget in a notebook; where it is not to be seen it does nothing.

    Parameters
    ----------
    iterable : iterable, optional
        What the bar goes along with; without, it is moved by its ``update``.
    progress : bool or None
        True shows it and False does not. None shows it on a terminal or in a notebook, once the work has taken five seconds: batch jobs,
        logs and short calls stay silent.
    desc : str
    **options
        Of ``tqdm``.

    Returns
    -------
    tqdm

    Examples
    --------
    >>> [2 * i for i in progress_bar(range(3), progress=None, desc="doubling")]
    [0, 2, 4]
    """
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    # tqdm takes disable=None as: unless the stream is a terminal, or the bar a widget
    return tqdm(
        iterable, desc=desc, disable=None if progress is None else not progress, delay=0.0 if progress else DELAY_S, **options
    )


def without_bar(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Return a verb that shows no bar of its own: for a loop over it that has one.

    Parameters
    ----------
    verb : callable

    Returns
    -------
    callable
        The verb itself where it has no ``progress``.

    Examples
    --------
    >>> without_bar(len)([1, 2])
    2
    """
    return partial(verb, progress=False) if "progress" in signature(verb).parameters else verb

"""Which units are lesioned, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import preview
from brainalign.engine.moments import Numbers

MODES = ("zero", "mean", "resample", "swap", "noise", "dampen")
#: Modes that need not know what units hold on other presentations.
UNREAD = ("zero", "dampen")


def by_layer(units: Any) -> dict[str, Any]:
    """Return units by layer or region.

    Parameters
    ----------
    units : mapping, str, or sequence of str
        ``{layer: numbers or None}``, or addresses ``"layer/unit"``; a layer or region alone stands for all of it.

    Returns
    -------
    dict of str to list or None

    Raises
    ------
    ParameterError
        There are none.

    Examples
    --------
    >>> by_layer(["V1/3", "V1/7", "V4"])
    {'V1': ['3', '7'], 'V4': None}
    """
    if isinstance(units, Mapping):
        found = {str(layer): which for layer, which in units.items()}
    else:
        found = {}
        for item in [units] if isinstance(units, str) or not isinstance(units, Iterable) else units:
            layer, _, name = str(item).partition("/")
            if not name:
                found[layer] = None
            elif found.setdefault(layer, []) is not None:
                found[layer].append(name)
    if not found:
        raise ParameterError(
            f"lesion got units={units!r}. Expected {{layer: numbers}}, or addresses such as 'layer1/17' or 'V4/17'."
        )
    return found


def scale_of(mode: str, factor: Any, layer: str, n_units: int) -> Numbers:
    """Return how much of what each unit of a layer holds stays.

    Parameters
    ----------
    mode : str
    factor : float, or mapping of str to sequence
        Of ``"dampen"``.
    layer : str
    n_units : int

    Returns
    -------
    ndarray of float64, (unit,)

    Raises
    ------
    ParameterError
        ``factor`` is neither one number nor one for each unit.
    """
    if mode != "dampen":
        return np.full(n_units, float(mode == "noise"))
    values = np.asarray(factor.get(layer, np.nan) if isinstance(factor, Mapping) else factor, dtype=np.float64)
    if values.shape not in ((), (n_units,)) or not np.isfinite(values).all():
        raise ParameterError(
            f"lesion got factor={factor!r:.60} for the {n_units} units of {layer!r}. Expected one finite number, or {{{layer!r}: one for "
            "each unit}."
        )
    return np.broadcast_to(values, n_units)


def check_alike(shapes: Sequence[tuple[int, ...]], n_rows: int, mode: str, layer: str) -> None:
    """Refuse to exchange what rows hold where they differ in shape, or where there is only one.

    Parameters
    ----------
    shapes : sequence of tuple of int
    n_rows : int
    mode, layer : str

    Raises
    ------
    ParameterError
    """
    if len(set(shapes)) > 1 or n_rows < 2:
        what = f"{n_rows} presentation" if n_rows < 2 else f"values of shapes {preview(dict.fromkeys(shapes))}"
        raise ParameterError(
            f"mode={mode!r} got {what} in {layer!r}. Expected two presentations or more of one shape, to exchange what they hold: lesion by "
            "'zero' or 'mean'."
        )

"""Uniform parameter checks: one wording for every argument of every verb."""

from __future__ import annotations

import difflib
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from brainalign.core.errors import ParameterError


def check_number(
    name: str,
    value: Any,
    *,
    owner: str,
    low: float = -np.inf,
    high: float = np.inf,
    integer: bool = False,
    low_open: bool = False,
) -> Any:
    """Return ``value`` if it is a finite number within ``[low, high]``.

    Parameters
    ----------
    name, owner : str
        The parameter and the function or class it belongs to, for the message.
    value : object
    low, high : float
        Bounds; ``low`` itself is excluded when ``low_open``.
    integer : bool
        Only whole numbers pass (bool does not count as one).

    Returns
    -------
    int or float

    Raises
    ------
    ParameterError
        The value is no such number.
    """
    kind = numbers.Integral if integer else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
    if is_number and -np.inf < value < np.inf and low <= value <= high and not (low_open and value == low):
        return int(value) if integer else float(value)
    word, left = ("an int" if integer else "a float"), "(" if low_open or low == -np.inf else "["
    right = ")" if high == np.inf else "]"
    raise ParameterError(
        f"The {name!r} parameter of {owner} must be {word} in the range {left}{low}, {high}{right}. Got {value!r} instead."
    )


def check_sizes(name: str, given: Any, *, owner: str, low: int, high: float = np.inf) -> list[int]:
    """Return one or several whole numbers within ``[low, high]``, each once, in ascending order.

    Parameters
    ----------
    name, owner : str
        As in :func:`check_number`.
    given : int or sequence of int
    low, high : float

    Returns
    -------
    list of int

    Raises
    ------
    ParameterError
        One of them is no such number.

    Examples
    --------
    >>> check_sizes("n_neuroids", [20, 5, 20], owner="similarity", low=1)
    [5, 20]
    """
    values = [given] if np.ndim(given) == 0 else list(given)
    return sorted({check_number(name, value, owner=owner, low=low, high=high, integer=True) for value in values})


def check_choice(name: str, value: Any, choices: Sequence[Any], *, owner: str) -> Any:
    """Return ``value`` if it is one of ``choices``; otherwise name the closest one.

    Parameters
    ----------
    name, owner : str
        The parameter and the function or class it belongs to, for the message.
    value : object
    choices : sequence

    Returns
    -------
    object
        The choice that ``value`` equals; True is not 1.

    Raises
    ------
    ParameterError
        It is none of them.
    """
    plain = value.item() if isinstance(value, np.generic) else value  # a name taken out of an array is still that name
    for choice in choices:
        if value is choice or (type(plain) is type(choice) and plain == choice):
            return choice
    options = ", ".join(repr(choice) for choice in choices)
    raise ParameterError(
        f"The {name!r} parameter of {owner} must be one of {options}. Got {value!r} instead.{did_you_mean(value, choices)}"
    )


def check_names(name: str, value: Any, *, owner: str) -> tuple[str, ...]:
    """Return one or several names as a tuple.

    Parameters
    ----------
    name, owner : str
        As in :func:`check_number`.
    value : str or sequence of str

    Returns
    -------
    tuple of str

    Raises
    ------
    ParameterError
        Something else.

    Examples
    --------
    >>> check_names("by", "stimulus_id", owner="split")
    ('stimulus_id',)
    """
    names = (value,) if isinstance(value, str) or not np.iterable(value) else tuple(value)
    if all(isinstance(each, str) for each in names):
        return names
    raise ParameterError(f"The {name!r} parameter of {owner} must be a name, or a sequence of names. Got {value!r} instead.")


def check_over(over: Any, *, owner: str, unit: str) -> tuple[str, ...]:
    """Return the kinds of units that a claim generalises to: stimuli, another kind, or both.

    Parameters
    ----------
    over : str, or two of them
    owner, unit : str
        The verb, and what the other kind is called in its message.

    Returns
    -------
    tuple of str

    Raises
    ------
    ParameterError
        It is neither, or two without ``"stimulus"``.

    Examples
    --------
    >>> check_over("stimulus", owner="bootstrap", unit="a kind of unit")
    ('stimulus',)
    """
    units = tuple(over) if np.iterable(over) and not isinstance(over, str) else (over,)
    both = len(units) == 2 and units.count("stimulus") == 1
    if all(isinstance(name, str) for name in units) and (len(units) == 1 or both):
        return units
    raise ParameterError(
        f"The 'over' parameter of {owner} must be 'stimulus', {unit}, or both, as ('subject', 'stimulus'). Got {units!r} instead."
    )


def check_options(function: Callable[..., Any], options: Mapping[str, Any], *, owner: str) -> None:
    """Refuse keyword arguments that a function does not have, and name those that it cannot do without.

    Parameters
    ----------
    function : callable
        What the options are handed on to.
    options : mapping of str to object
    owner : str
        What the user called, for the message.

    Raises
    ------
    ParameterError
        An option that does not exist (the closest one is named), or one that is missing.

    Examples
    --------
    >>> check_options(open, {"mode": "r"}, owner="read")
    """
    known = {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_POSITIONAL}
    taken = [name for name, p in known.items() if p.kind is p.VAR_KEYWORD]
    keywords = [name for name, p in known.items() if p.kind is p.KEYWORD_ONLY or p.default is not p.empty]
    for name in options:
        if name not in known and not taken:
            raise ParameterError(
                f"{owner} got an unknown option {name!r}.{did_you_mean(name, keywords)} Expected options among {', '.join(keywords)}."
            )
    missing = missing_options(function, options)
    if missing:
        raise ParameterError(
            f"{owner} needs {', '.join(f'`{name}=`' for name in missing)}, got {', '.join(options) or 'no options'}. Expected each of them: "
            "pass it as a keyword argument."
        )


def missing_options(function: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """Return the keyword arguments that a function cannot do without and that are not among ``options``.

    Parameters
    ----------
    function : callable
    options : mapping of str to object

    Returns
    -------
    list of str

    Examples
    --------
    >>> missing_options(sorted, {}), missing_options(check_options, {})
    ([], ['owner'])
    """
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty and name not in options
    ]


def did_you_mean(value: Any, names: Iterable[Any]) -> str:
    """Return " Did you mean 'x'?" for the closest of ``names``, or an empty string.

    Parameters
    ----------
    value : object
        What was given; anything but a string has no close name.
    names : iterable
        What exists.

    Returns
    -------
    str

    Examples
    --------
    >>> did_you_mean("pearsn", ["pearson", "spearman"])
    " Did you mean 'pearson'?"
    """
    strings = {name.casefold(): name for name in names if isinstance(name, str)}
    close = difflib.get_close_matches(value.casefold(), strings, n=1) if isinstance(value, str) else []
    return f" Did you mean {strings[close[0]]!r}?" if close else ""


def check_random_state(random_state: int | np.random.Generator | None, *, owner: str) -> int:
    """Return one integer seed, drawing it where none was given, so that it can be recorded.

    Parameters
    ----------
    random_state : int, numpy Generator or None
        A Generator gives its next draw; None draws from the operating system.
    owner : str
        The function or class it belongs to, for the message.

    Returns
    -------
    int
        In ``[0, 2**63)``; spawn per block with ``np.random.SeedSequence(seed).spawn``.

    Raises
    ------
    ParameterError
        It is none of the three, or a negative integer.

    Examples
    --------
    >>> check_random_state(7, owner="simulate")
    7
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    raise ParameterError(
        f"The 'random_state' parameter of {owner} must be a non-negative int, a numpy Generator or None. "
        f"Got {random_state!r} instead."
    )


def check_device(name: Any, found: str | None, *, owner: str) -> str:
    """Return the device to compute on if there is one of this name.

    Parameters
    ----------
    name : object
        What was asked for.
    found : str or None
        From :func:`brainalign.engine.backend.resolve_device`.
    owner : str
        For the message.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        There is no such device here.
    """
    if found is None:
        raise ParameterError(
            f"The 'device' parameter of {owner} must be 'cpu', 'auto' or a device of this machine, such as 'cuda'. Got {name!r} instead."
        )
    return found


def preview(values: Iterable[Any], n: int = 3) -> str:
    """Return the first ``n`` values as text for a message: ``'a', 'b', 'c', ... (12 in all)``.

    Parameters
    ----------
    values : iterable
    n : int
        How many to show.

    Returns
    -------
    str

    Examples
    --------
    >>> preview("abcde", 2)
    "'a', 'b', ... (5 in all)"
    """
    items = [value.item() if isinstance(value, np.generic) else value for value in values]
    shown = ", ".join(repr(item) for item in items[:n])
    return shown if len(items) <= n else f"{shown}, ... ({len(items)} in all)"

"""A run of the command line as a list of Python calls: what is printed is what is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Name:
    """A variable made by an earlier line."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Call:
    """A call of a public function or class: ``ba.reports.report(first, title='x')``.

    Attributes
    ----------
    function : str
        Dotted name within ``brainalign``.
    args : tuple
        Values, :class:`Name`, :class:`Call`, or lists, tuples and dicts of these.
    kwargs : dict
    """

    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [*map(render, self.args), *(f"{name}={render(value)}" for name, value in self.kwargs.items())]
        return f"ba.{self.function}({', '.join(words)})"


@dataclass(frozen=True)
class Item:
    """One item of a study, as a Dataset: ``ba.open_study(path)[key].to_dataset()``."""

    path: str
    key: str

    def __str__(self) -> str:
        return f"ba.open_study({self.path!r})[{self.key!r}].to_dataset()"


@dataclass(frozen=True)
class Line:
    """One line of a program: an expression and the variable that holds its value, if any."""

    value: Any
    name: str | None = None

    def __str__(self) -> str:
        return str(self.value) if self.name is None else f"{self.name} = {render(self.value)}"


def render(value: Any) -> str:
    """Return an expression as Python text.

    Parameters
    ----------
    value : Call, Name, Item, or plain values

    Returns
    -------
    str

    Examples
    --------
    >>> render([Call("Delay", kwargs={"delays_s": [2, 4]}), Name("x"), "text"])
    "[ba.Delay(delays_s=[2, 4]), x, 'text']"
    """
    if isinstance(value, list):
        return f"[{', '.join(map(render, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(render, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {render(item)}" for name, item in value.items()) + "}"
    return str(value) if isinstance(value, (Call, Name, Item)) else repr(str(value) if isinstance(value, Path) else value)


def as_python(lines: list[Line]) -> str:
    """Return a program as a Python script that does the same.

    Parameters
    ----------
    lines : list of Line

    Returns
    -------
    str

    Examples
    --------
    >>> print(as_python([Line(Call("simulate", kwargs={"random_state": 0}), "study")]))
    import brainalign as ba
    <BLANKLINE>
    study = ba.simulate(random_state=0)
    """
    return "\n".join(["import brainalign as ba", "", *map(str, lines)])


def run(lines: list[Line]) -> dict[str, Any]:
    """Run a program and return its variables.

    Parameters
    ----------
    lines : list of Line

    Returns
    -------
    dict of str to object

    Examples
    --------
    >>> run([Line(Call("Delay", kwargs={"delays_s": [2.0]}), "step")])["step"].delays_s
    [2.0]
    """
    variables: dict[str, Any] = {}
    for line in lines:
        value = _value(line.value, variables)
        if line.name is not None:
            variables[line.name] = value
    return variables


def public(function: str) -> Any:
    """Return what a dotted name within ``brainalign`` stands for.

    Parameters
    ----------
    function : str

    Returns
    -------
    object
    """
    import brainalign

    found: Any = brainalign
    for part in function.split("."):
        found = getattr(found, part)
    return found


def _value(expression: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(expression, Name):
        return variables[expression.name]
    if isinstance(expression, Item):
        from brainalign.core.errors import StoreError

        tree = public("open_study")(expression.path)
        if expression.key not in {node.path.lstrip("/") for node in tree.subtree}:
            held = ", ".join(sorted(node.path.lstrip("/") for node in tree.leaves))
            raise StoreError(f"{expression.path} holds no {expression.key!r}. It holds: {held}.")
        return tree[expression.key].to_dataset()
    if isinstance(expression, Call):
        args = [_value(item, variables) for item in expression.args]
        return public(expression.function)(*args, **{name: _value(item, variables) for name, item in expression.kwargs.items()})
    if isinstance(expression, (list, tuple)):
        return type(expression)(_value(item, variables) for item in expression)
    if isinstance(expression, dict):
        return {name: _value(item, variables) for name, item in expression.items()}
    return expression

"""Names for adapters, metrics and methods: a static table, plus entry points read on first use."""

from __future__ import annotations

import importlib
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from brainalign.core.errors import UnknownNameError
from brainalign.core.parameters import did_you_mean


class Registry:
    """Names that stand for objects; nothing is imported before it is asked for.

    Parameters
    ----------
    group : str
        Entry-point group that plug-ins use, e.g. ``"brainalign.adapters"``.
    builtin : dict of str to str
        Name to ``"module:attribute"``.

    Examples
    --------
    >>> paths = Registry("brainalign.examples", {"join": "os.path:join"})
    >>> paths.get("join")("a", "b")
    'a/b'
    """

    def __init__(self, group: str, builtin: dict[str, str]) -> None:
        self.group = group
        self._builtin = dict(builtin)

    @cached_property
    def _targets(self) -> dict[str, str | EntryPoint]:
        targets: dict[str, str | EntryPoint] = dict(self._builtin)
        for point in entry_points(group=self.group):
            other = targets.get(point.name)
            if other is not None and getattr(other, "value", other) != point.value:
                raise UnknownNameError(
                    f"{self.group}: the name {point.name!r} is claimed by {getattr(other, 'value', other)!r} and by "
                    f"{point.value!r}. Uninstall one of the two packages, or pass the object instead of its name."
                )
            targets[point.name] = point
        return targets

    def names(self) -> list[str]:
        """Return every name, built-in and plugged in, sorted."""
        return sorted(self._targets)

    def get(self, name: Any) -> Any:
        """Return the object behind a name; anything but a string is returned as it is.

        Parameters
        ----------
        name : str or object

        Returns
        -------
        object

        Raises
        ------
        UnknownNameError
            No such name; the closest one is suggested.
        """
        if not isinstance(name, str):
            return name
        target = self._targets.get(name)
        if target is None:
            raise UnknownNameError(
                f"{self.group}: no entry is named {name!r}. Known: {', '.join(self.names())}.{did_you_mean(name, self.names())}"
            )
        if isinstance(target, EntryPoint):
            return target.load()
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)

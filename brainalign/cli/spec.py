"""From a flat TOML file to a program: its keys are the keyword arguments of the public function of that name."""

from __future__ import annotations

import inspect
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from brainalign.cli.program import Call, Item, Line, Name, public
from brainalign.core.errors import FormatError, ParameterError, UnknownNameError
from brainalign.core.parameters import did_you_mean

STEPS = ("BinTime", "Clean", "Delay", "HRF", "Reduce", "WordsToVolumes", "ZScore")
MAPPINGS = (
    "AttentionReadout",
    "BandedRidge",
    "Classifier",
    "ContrastiveDecoder",
    "DistantRidge",
    "KalmanDecoder",
    "KernelRidge",
    "LatentDecoder",
    "PLS",
    "Ridge",
    "SharedSpace",
    "SpatialReadout",
    "Stacked",
    "TRF",
)
RESPONDERS = ("TransformersResponder",)
#: What each command takes beside the arguments of its function, and what it cannot do without.
_SAVED = ("store", "name", "overwrite")
EXTRA = {"evaluate": _SAVED, "compare": _SAVED, "rsa": _SAVED, "decode": _SAVED, "record": (), "report": ()}
REQUIRED = {
    "evaluate": ("source", "target"),
    "compare": ("source", "target", "by"),
    "rsa": ("source", "target"),
    "decode": ("source", "target"),
    "record": ("responder", "stimuli", "store"),
    "report": ("results", "path"),
}
FUNCTION = {
    "evaluate": "evaluate",
    "compare": "compare",
    "rsa": "compare_rdms",
    "decode": "decode_time",
    "record": "record",
    "report": "reports.report",
}


def read_spec(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict

    Raises
    ------
    FormatError
        There is none, or it is not valid TOML; the message has the line.
    """
    file = Path(path)
    if not file.is_file():
        raise FormatError(f"{file} does not exist. Expected a TOML file with the arguments of the command: look at the path.")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{file} is not valid TOML: {error}. Expected lines `key = value`, with text in quotes.") from error


def program(command: str, spec: Mapping[str, Any]) -> list[Line]:
    r"""Return the calls that a command makes for a specification.

    Parameters
    ----------
    command : {"record", "evaluate", "compare", "rsa", "decode", "report"}
    spec : mapping
        Keyword arguments of the function. ``source`` and ``target`` are a path, or a table ``{path = ..., name = ...}`` whose
        other keys go to :func:`brainalign.open_responses`; ``target = {coordinate = "condition"}`` decodes; of ``"rsa"`` the key ``rdm`` of a
        side holds the arguments of :func:`brainalign.rdm`, and ``{rdms = path, ...}`` opens matrices. ``model`` is a
        step, or a list of steps, each a name or a table ``{step = "Delay", delays_s = [2, 4]}``. ``cv`` is a number or a
        table for :func:`brainalign.split`. ``store`` (and ``name``, ``overwrite``) say where the result is saved as a whole; with
        ``resume``, true or false, ``store`` goes to the function, which keeps tile by tile and continues what was interrupted.

    Returns
    -------
    list of Line

    Raises
    ------
    ParameterError, UnknownNameError
        A key, step or argument that does not exist (the closest one is named), or one that is missing.

    Examples
    --------
    >>> spec = {"source": "net.zarr", "target": "brain.zarr", "model": ["ZScore", {"step": "Ridge", "cv": 3}]}
    >>> print(*program("evaluate", spec), sep="\n")
    source = ba.open_responses('net.zarr')
    target = ba.open_responses('brain.zarr')
    result = ba.evaluate(source, target, model=ba.chain(ba.ZScore(), ba.Ridge(cv=3)))
    """
    function = FUNCTION[command]
    known = [*_arguments(function), *EXTRA[command]]
    _refuse_unknown(spec, known, f"brainalign {command}")
    for name in ("store", "path"):
        if name in spec and not isinstance(spec[name], str):
            raise ParameterError(f"brainalign {command} got {name} = {spec[name]!r}. Expected a path in quotes.")
    missing = [name for name in REQUIRED[command] if name not in spec]
    if missing:
        raise ParameterError(
            f"brainalign {command} needs {', '.join(map(repr, missing))}. Expected a line `{missing[0]} = ...` in the file."
        )
    if command == "report":
        rest = {name: value for name, value in spec.items() if name != "results"}
        return [Line(Call(function, (_results(spec["results"]),), rest), "page")]
    if command == "record":
        rest = {name: value for name, value in spec.items() if name not in ("responder", "stimuli")}
        responder = _call(spec["responder"], "call", RESPONDERS, "responder")
        lines = [Line(responder, "responder"), Line(_stimuli(spec["stimuli"]), "stimuli")]
        return [*lines, Line(Call(function, (Name("responder"), Name("stimuli")), rest), "result")]
    return _pair(function, spec)


def with_edges(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which ``edges_s``, the edges of bins, may have been given by their width.

    Parameters
    ----------
    options : mapping
        With ``edges_s="start:stop:width"``, seconds, it becomes a list.

    Returns
    -------
    dict

    Raises
    ------
    ParameterError
        It is no such text, or the width is no whole part of what lies between.

    Examples
    --------
    >>> with_edges({"edges_s": "-0.1:0.2:0.1"})
    {'edges_s': [-0.1, 0.0, 0.1, 0.2]}
    """
    text = options.get("edges_s")
    if not isinstance(text, str):
        return dict(options)
    try:
        start, stop, width = map(float, text.split(":"))
        n = round((stop - start) / width)
        if n < 1 or abs(n * width - (stop - start)) > 1e-6 * abs(width):
            raise ValueError
    except (ValueError, ArithmeticError):
        raise ParameterError(
            f"edges_s is {text!r}. Expected start:stop:width in seconds, where bins of that width fill the whole, such as 0:0.5:0.05; or "
            "all edges, as [0.0, 0.05, 0.1]."
        ) from None
    return {**options, "edges_s": [round(start + k * width, 9) for k in range(n + 1)]}


def _pair(function: str, spec: Mapping[str, Any]) -> list[Line]:
    in_tiles = "resume" in spec
    if in_tiles and ("store" not in spec or "name" in spec or "overwrite" in spec):
        raise ParameterError(
            f"brainalign {function} got `resume` {'with `name` or `overwrite`' if 'store' in spec else 'without `store`'}. Expected a line "
            f'`store = "study.zarr"` with it, where the result becomes results/{function}: leave the others out.'
        )
    elsewhere = ("source", "target") if in_tiles else ("source", "target", "store", "name", "overwrite")
    options = {name: value for name, value in spec.items() if name not in elsewhere}
    for name in ("by", "over"):
        if name in options:
            options[name] = _plain_tuple(options[name])
    if "model" in options:
        options["model"] = _model(options["model"])
    if isinstance(options.get("cv"), Mapping):
        _refuse_unknown(options["cv"], _arguments("split")[1:], "cv")
        rows = "source" if isinstance(spec["target"], Mapping) and "coordinate" in spec["target"] else "target"
        options["cv"] = Call("split", (Name(rows),), options["cv"])
    side = _rdms if function == "compare_rdms" else _responses
    lines = [Line(side(spec[name], name), name) for name in ("source", "target")]
    lines.append(Line(Call(function, (Name("source"), Name("target")), options), "result"))
    if "store" in spec and not in_tiles:
        where = {name: spec[name] for name in ("name", "overwrite") if name in spec}
        lines.append(Line(Call("save", (Name("result"), spec["store"]), where)))
    elif "name" in spec or "overwrite" in spec:
        raise ParameterError(
            'brainalign got `name` or `overwrite` without `store`. Expected a line `store = "study.zarr"` with them.'
        )
    return lines


def _responses(value: Any, side: str) -> Any:
    """Return how one side is opened."""
    if isinstance(value, str):
        return Call("open_responses", (value,))
    if isinstance(value, Mapping) and set(value) == {"coordinate"} and side == "target":
        return value["coordinate"]
    if isinstance(value, Mapping) and isinstance(value.get("path"), str):
        return Call(
            "open_responses", (value["path"],), with_edges({name: item for name, item in value.items() if name != "path"})
        )
    example = '{path = "study.zarr", name = "sub-01"}' + (' or {coordinate = "condition"}' if side == "target" else "")
    raise ParameterError(f"{side} is {value!r}. Expected a path in quotes, or a table such as {example}.")


def _rdms(value: Any, side: str) -> Call:
    """Return how the RDMs of one side are made, or opened."""
    if isinstance(value, Mapping) and isinstance(value.get("rdms"), str):
        return Call("open_rdms", (value["rdms"],), {name: item for name, item in value.items() if name != "rdms"})
    made = value.get("rdm", {}) if isinstance(value, Mapping) else {}
    if isinstance(made, Mapping):
        _refuse_unknown(made, _arguments("rdm")[1:], f"{side}: rdm")
        recording = {name: item for name, item in value.items() if name != "rdm"} if isinstance(value, Mapping) else value
        return Call("rdm", (_responses(recording, side),), {name: _plain_tuple(item) for name, item in made.items()})
    raise ParameterError(f'{side} has rdm = {made!r}. Expected the arguments of `ba.rdm`, as in rdm = {{by = "layer"}}.')


def _stimuli(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"path", "name"}:
        return Item(value["path"], f"stimuli/{value['name']}")
    if isinstance(value, Mapping) and "call" in value:
        return _call(value, "call", public("stimuli").__all__, "stimuli", prefix="stimuli.")
    raise ParameterError(
        f'stimuli is {value!r}. Expected a table: {{path = "study.zarr", name = "images"}} for what a study holds, or '
        '{call = "from_bids", ...} for a function of `ba.stimuli`.'
    )


def _results(value: Any) -> dict[str, Item]:
    entries = value if isinstance(value, list) else [value]
    found: dict[str, Item] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or not {"path", "name"} <= set(entry) <= {"path", "name", "heading"}:
            raise ParameterError(
                f'results holds {entry!r}. Expected tables {{path = "study.zarr", name = "forward", heading = "Layers to regions"}}; '
                "the heading may be left out."
            )
        heading = str(entry.get("heading", entry["name"]))
        if heading in found:
            raise ParameterError(f"results has the heading {heading!r} twice. Expected one each: add `heading = ...`.")
        found[heading] = Item(str(entry["path"]), f"results/{entry['name']}")
    return found


def _model(value: Any) -> Call:
    steps = value if isinstance(value, list) else [value]
    calls = [_call(step, "step", (*STEPS, *MAPPINGS), "model") for step in steps]
    return calls[0] if len(calls) == 1 and not isinstance(value, list) else Call("chain", tuple(calls))


def _call(value: Any, key: str, allowed: Iterable[str], where: str, prefix: str = "") -> Call:
    """Return the call that a name, or a table of a name and its arguments, stands for."""
    entry = {key: value} if isinstance(value, str) else value
    if not isinstance(entry, Mapping) or not isinstance(entry.get(key), str):
        raise ParameterError(f'{where} holds {value!r}. Expected a name in quotes, or a table {{{key} = "Name", ...}}.')
    name = entry[key]
    if name not in allowed:
        raise UnknownNameError(
            f"{where} has no {key} {name!r}. Known: {', '.join(sorted(allowed))}.{did_you_mean(name, allowed)}"
        )
    options = with_edges({option: item for option, item in entry.items() if option != key})
    _refuse_unknown(options, _arguments(prefix + name), f"{where}: {name}")
    needed = [
        p for p in inspect.signature(public(prefix + name)).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    missing = [p.name for p in needed if p.default is p.empty and p.name not in options]
    if missing:
        raise ParameterError(
            f'{where}: {name} needs {", ".join(map(repr, missing))}. Expected a table {{{key} = "{name}", {missing[0]} = ...}}.'
        )
    return Call(prefix + name, (), options)


def _arguments(function: str) -> list[str]:
    return [name for name in inspect.signature(public(function)).parameters if name != "self"]


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            raise ParameterError(f"{where} got an unknown key {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")


def _plain_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""``brainalign data check PATH`` says what stands out in whatever there is, ``brainalign data add PATH STUDY`` brings it into a study."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import xarray as xr

from brainalign.cli.spec import with_edges
from brainalign.core.errors import FormatError, ParameterError, SchemaError, StoreError
from brainalign.core.parameters import missing_options
from brainalign.core.provenance import write_step
from brainalign.core.responses import count_repetitions
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of


def check_path(path: str, *, format: str | None = None, options: Sequence[str] = (), output: str | None = None) -> int:
    """Open a recording, or all those of a study, print what stands out, and write a page with pictures.

    Parameters
    ----------
    path : str
    format : str, optional
    options : sequence of str
        ``key=value`` each, for :func:`brainalign.open_responses`.
    output : str, optional
        HTML page to write.

    Returns
    -------
    int
        Exit status: 1 where there is an error, else 0; warnings are none.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> study = tempfile.mkdtemp() + "/study.zarr"
    >>> ba.save(ba.simulate(n_stimuli=20, random_state=0).fmri, study)
    >>> check_path(study)
    sub-01: fmri, 80 presentation × 90 neuroid in a.u., 20 stimuli, 4 presentations each; nothing stands out
    0
    """
    from brainalign.reports.datacheck import check, findings
    from brainalign.reports.html import report

    results = {}
    for name, x, stimuli in _recordings(path, format, read_options(options)):
        results[name] = check(x, stimuli=stimuli)
        found = findings(results[name])
        print(f"{name}: {_summary(x)}; {_count(found)}")
        for row in found.itertuples():
            where = f" ({row.where})" if row.where else ""
            count = "" if row.severity == "error" else f"{row.n} "  # what validate raises counts for itself
            print(f"  {row.severity}: {row.check}: {count}{row.what.removesuffix('.')}{where}. {row.mend}")
    if output is not None:
        print(report(results, output, title=f"Check of {Path(path).name}"))
    return int(any((findings(result).severity == "error").any() for result in results.values()))


def add_path(
    path: str,
    study: str,
    *,
    name: str | None = None,
    overwrite: bool = False,
    single_trials: bool = False,
    format: str | None = None,
    options: Sequence[str] = (),
) -> None:
    r"""Open a recording, save it into a study, and print what was saved where.

    Parameters
    ----------
    path : str
        A study of several recordings needs the option ``name=...``, which says which one.
    study : str
        Made where there is none.
    name, overwrite
        As in :func:`brainalign.save`.
    single_trials : bool
        Make each presentation a stimulus of its own, ``"cat/0"``, ``"cat/1"`` ...; what it was named by is its ``condition``, where it
        has none yet.
    format, options
        As in :func:`check_path`.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "rates.csv").write_text("stimulus_id,n1,n2\ncat,4,0.5\ndog,1,2.5\n")
    >>> add_path(folder / "rates.csv", folder / "study.zarr", options=["modality=spikes", "system=monkey-a"])  # doctest: +ELLIPSIS
    monkey-a: spikes, 2 presentation × 2 neuroid, 2 stimuli, 1 presentation each; saved in .../study.zarr as responses/monkey-a
    """
    from brainalign.dataset.open import save

    x = _open(path, format, read_options(options))
    x = _apart(x) if single_trials else x
    try:
        save(x, study, name=name, overwrite=overwrite)
    except (ParameterError, StoreError) as error:
        raise type(error)(f"{error} On the command line these are `--name` and `--overwrite`.") from error
    name = str(x.system.values.flat[0]) if name is None else name
    print(f"{name}: {_summary(x)}; saved in {study} as responses/{name}")


def read_options(given: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as options; values are read as Python literals where they are some, bins by their width, else as text.

    Parameters
    ----------
    given : sequence of str

    Returns
    -------
    dict

    Raises
    ------
    ParameterError
        There is no ``=`` in one.

    Examples
    --------
    >>> read_options(["tr_s=2", "system=sub-01", "edges_s=0:0.3:0.1"])
    {'tr_s': 2, 'system': 'sub-01', 'edges_s': [0.0, 0.1, 0.2, 0.3]}
    """
    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ParameterError(f"brainalign data got --option {text!r}. Expected key=value, e.g. --option tr_s=2.0.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return with_edges(options)


def _recordings(path: str, format: str | None, options: dict[str, Any]) -> Iterator[tuple[str, xr.DataArray, Any]]:
    """Yield name, responses and stimuli: those of a study, or what one file or folder holds."""
    from brainalign.dataset.open import find_format, open_study

    study = Path(path).is_dir() and "name" not in options and format in (None, "store") and not (Path(path) / "_labels").exists()
    if study and find_format(path)[0] == "store":
        tree = open_study(path)
        tables = [node.to_dataset() for node in tree["stimuli"].children.values()]
        for name, node in tree["responses"].children.items():
            x = node["responses"]
            yield name, x, next((table for table in tables if _shared(x, table)), None)
        return
    yield Path(path).name, _open_with_nan(path, format, options), None


def _open_with_nan(path: str, format: str | None, options: dict[str, Any]) -> xr.DataArray:
    """Open what may hold NaN that nobody declared: it is to be reported, with all its places, rather than refused at the first one."""
    from brainalign.dataset.open import FORMATS, find_format, open_responses

    name = find_format(path)[0] if format is None and Path(path).exists() else format
    reader = FORMATS.get(name).open if name is not None else open_responses
    if "system" in missing_options(reader, options):
        options = options | {"system": Path(path).name}  # a check asks nothing of whom it was recorded from
    able = "allow_nan" in signature(reader).parameters and "allow_nan" not in options
    try:
        x = _open(path, format, options)
    except (FormatError, SchemaError):
        if not able:
            raise
    else:
        if not able or x.chunks is None or x.attrs["allow_nan"]:
            return x
    return open_responses(path, format=format, **options, allow_nan=True).assign_attrs(allow_nan=False)


def _open(path: str, format: str | None, options: dict[str, Any]) -> xr.DataArray:
    """Open one recording, and say on the terminal which format was chosen, and why."""
    from brainalign.dataset.open import open_responses

    with _spoken():
        try:
            return open_responses(path, format=format, **options)
        except (ParameterError, StoreError) as error:
            raise type(error)(f"{error} On the command line options are given one by one: `--option tr_s=2.0`.") from error


def _apart(x: xr.DataArray) -> xr.DataArray:
    """Return responses in which each presentation is a stimulus of its own."""
    names = x["stimulus_id"].values.tolist()
    labels = {"condition": as_labels(names)} | coords_of(x, "presentation")
    labels["stimulus_id"] = as_labels([f"{name}/{i}" for i, name in enumerate(names)])
    labels["repetition"] = count_repetitions(labels)
    out = x.assign_coords({name: ("presentation", values) for name, values in labels.items()})
    return write_step(out, "data add", params={"single_trials": True}, inputs={"responses": x})


def _shared(x: xr.DataArray, table: xr.Dataset) -> bool:
    return bool(set(x.stimulus_id.values.tolist()) & set(table.stimulus_id.values.tolist()))


class _spoken:
    """While it lasts, the log says on the terminal which format was chosen, and why."""

    def __enter__(self) -> None:
        self._log, self._handler = logging.getLogger("brainalign"), logging.StreamHandler()
        self._level = self._log.level
        self._log.addHandler(self._handler)
        self._log.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self._handler)
        self._log.setLevel(self._level)


def _summary(x: xr.DataArray) -> str:
    counts = x.stimulus_id.to_series().astype(object).value_counts()
    low, high = int(counts.min()), int(counts.max())
    each = f"{low} presentation{'s' if low > 1 else ''}" if low == high else f"{low} to {high} presentations"
    units = f" in {x.attrs['units']}" if x.attrs.get("units") else ""
    return f"{x.attrs['modality']}, {' × '.join(f'{n:,} {dim}' for dim, n in x.sizes.items())}{units}, {counts.size:,} stimuli, {each} each"


def _count(found: Any) -> str:
    n_errors, n = int((found.severity == "error").sum()), len(found)
    if not n:
        return "nothing stands out"
    return f"{n_errors} error{'s' if n_errors != 1 else ''}, {n - n_errors} warning{'s' if n - n_errors != 1 else ''}"

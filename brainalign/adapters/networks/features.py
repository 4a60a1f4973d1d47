"""Feature folders of other toolkits (thingsvision, Net2Brain): rows named by the files they were made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.containers import headers, load, open_array
from brainalign.adapters.delimited import numeric_columns, read_ids, read_table
from brainalign.adapters.files import NAMES, Format, check_finite, naming, narrowed, reading, record_opening
from brainalign.adapters.lazy import Spans, lazy_array, leading
from brainalign.adapters.matfile import read_mat
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, did_you_mean, preview
from brainalign.core.responses import responses

_NAMES = "file_names.txt"
_CONSOLIDATED = "consolidated_"
_LAZY, _WHOLE = (".npy", ".hdf5", ".h5"), (".mat", ".txt", ".pt")
_SUFFIX = re.compile(r"\.(eps|jpe?g|png|bmp|gif|tiff?|webp|mp4|avi|mov|wav|mp3|flac|txt)$", re.IGNORECASE)


@dataclass(frozen=True)
class _Layer:
    """Values of one layer, (stimulus, neuroid), and the shape of one response before it was flattened."""

    values: Any
    shape: tuple[int, ...]


def open_features(
    path: Any,
    *,
    system: str,
    layer: str | Sequence[str] | None = None,
    files: str | None = None,
    stimulus_id: Mapping[str, str] | None = None,
    units: str = "activation",
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open a folder of features that thingsvision or Net2Brain wrote.

    Parameters
    ----------
    path : str or Path
        thingsvision: ``file_names.txt`` and ``features.npy`` (or ``.hdf5``, ``.mat``, ``.txt``, ``.pt``; also in parts, ``features_01.npy``
        ...). Net2Brain: one npz file a stimulus with an array a layer, or one a layer with an array a stimulus.
    system : str
        Whose responses these are (``"resnet50"``).
    layer : str or sequence of str, optional
        thingsvision: the name of the layer, which its folder does not hold; required. Net2Brain: which layers, default all.
    files : {"stimuli", "layers"}, optional
        Net2Brain: what each file stands for. Default: layers where the names start with ``consolidated_``, else stimuli.
    stimulus_id : mapping of str to str, optional
        From the name that the folder has for a stimulus to its id. Default: that name without its folder and suffix.
    units : str
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        ``layer``, ``neuroid_id`` (0, 1, ... in the flat order of a response), ``unit``, and ``token`` or ``channel_x``,
        ``channel_y`` for maps. Lazy, except from ``.mat``, ``.txt`` and ``.pt``.

    Raises
    ------
    FormatError
        No such folder, another number of names than of rows, a layer that one file lacks, or of another shape there.
    ParameterError
        A layer that is not named, or not there; a name without an id.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FormatError(
            f"there is no folder {str(folder)!r}. Expected one of features: `file_names.txt` with `features.npy`, or npz files."
        )
    if (folder / _NAMES).is_file():
        names, layers, sources = _thingsvision(folder, layer, allow_nan)
    else:
        names, layers, sources = _net2brain(folder, layer, files, allow_nan)
    ids = _ids(names, stimulus_id, folder)
    from brainalign.adapters.networks.capture import map_coords  # torch: not wanted where files are only looked at

    coords = [map_coords(found.shape) for found in layers.values()]
    keys = dict.fromkeys(key for table in coords for key in table)
    widths = [len(table["neuroid_id"]) for table in coords]
    neuroid = {
        key: np.concatenate([table.get(key, np.full(n, -1)) for table, n in zip(coords, widths, strict=True)]) for key in keys
    }
    neuroid["layer"] = np.repeat(np.array(list(layers), dtype=object), widths)
    with naming(repr(folder.name)):
        x = responses(
            _side_by_side([found.values for found in layers.values()]), stimulus_id=ids, neuroid_id=neuroid.pop("neuroid_id"), neuroid=neuroid,
            modality="ann", system=system, units=units, deterministic=True, allow_nan=allow_nan,
        )  # fmt: skip
    params = {"files": files, "layers": list(layers), "scale": 1.0, "index_base": NAMES}
    return record_opening(x, "features", [folder.name, *sources[:3]], params)


def _thingsvision(folder: Path, layer: Any, allow_nan: bool) -> tuple[list[str], dict[str, _Layer], list[str]]:
    """Return the names of the rows, the one layer, and the files."""
    if not isinstance(layer, str):
        raise ParameterError(
            f"open_features got layer={layer!r} for {str(folder)!r}, written by thingsvision, which does not keep the name of the layer. "
            "Expected its name."
        )
    names = read_ids(folder / _NAMES)
    found = sorted(
        (file for file in folder.glob("features*") if file.suffix in _LAZY + _WHOLE), key=lambda file: _number(file.stem)
    )
    kinds = sorted({file.suffix for file in found})
    if len(kinds) != 1:
        raise FormatError(
            f"{str(folder)!r} holds features of {len(kinds)} kinds: {preview([file.name for file in found])}. Expected one: `features.npy`, or "
            "parts of one kind; move the others away."
        )
    parts = [part for file in found for part in _parts(file, names, allow_nan)]
    shapes = {part.shape[1:] for part in parts}
    n_rows = sum(len(part) for part in parts)
    if len(shapes) != 1 or n_rows != len(names):
        raise FormatError(
            f"{str(folder)!r} holds {n_rows} rows of shape {preview(sorted(shapes))} and {len(names)} names in {_NAMES!r}. Expected one row a "
            "name, of one shape: the two files are not of the same run."
        )
    values = parts[0] if len(parts) == 1 else _stacked(parts)
    return names, {layer: _Layer(values.reshape(n_rows, -1), shapes.pop())}, [file.name for file in found]


def _parts(file: Path, names: list[str], allow_nan: bool) -> list[Any]:
    """Return the arrays of one file, (stimulus, ...), in the order of their numbers."""
    if file.suffix in _LAZY:
        found = {key: shape for key, (shape, dtype) in headers(file).items() if dtype.kind in "iufb" and shape}
        keys = [key for key in sorted(found, key=_number) if key in ("", "features") or key.startswith("features_")]
        if not keys:
            raise FormatError(
                f"{str(file)!r} holds {preview(found, 8)}. Expected an array 'features', or 'features_01' and so on."
            )
        return [open_array(file, key, dtype=np.float32, finite_axis=None if allow_nan else 1) for key in keys]
    if file.suffix == ".txt":
        table = read_table(file, header=False)
        values = numeric_columns(table, table.columns, str(file))
    elif file.suffix == ".pt":
        import torch

        with reading(file, "a torch tensor"):
            values = torch.load(file, map_location="cpu", weights_only=True).numpy(force=True)
    else:
        values = _from_mat(file, names)
    values = narrowed(np.asarray(values), np.float32, str(file))
    flat = values.reshape(len(values), -1)
    check_finite(flat, str(file), np.arange(flat.shape[1]), allow_nan)
    return [values]


def _from_mat(file: Path, names: list[str]) -> Any:
    """Return the rows of a MATLAB file: one array, or a field a stimulus, named as its file without the suffix."""
    variables = read_mat(file)
    if "features" in variables:
        return variables["features"]
    wanted = [name for name in (_SUFFIX.sub("", name) for name in names) if name in variables]
    if not wanted:
        raise FormatError(
            f"{str(file)!r} has the fields {preview(variables, 8)}. Expected 'features', or the names in {_NAMES!r}."
        )
    return np.stack([np.ravel(variables[name]) for name in wanted])


def _net2brain(folder: Path, layer: Any, files: str | None, allow_nan: bool) -> tuple[list[str], dict[str, _Layer], list[str]]:
    """Return the names of the stimuli, the layers, and the files."""
    found = sorted(file for file in folder.glob("*.npz") if not file.name.startswith("."))
    if not found:
        raise FormatError(
            f"{str(folder)!r} holds no npz files and no {_NAMES!r}. Expected a folder that thingsvision or Net2Brain wrote."
        )
    consolidated = all(file.name.startswith(_CONSOLIDATED) for file in found)
    per = (
        ("layers" if consolidated else "stimuli")
        if files is None
        else check_choice("files", files, ("stimuli", "layers"), owner="open_features")
    )
    held = {file.stem.removeprefix(_CONSOLIDATED) if per == "layers" else file.stem: (file, headers(file)) for file in found}
    inner = list(next(iter(held.values()))[1])
    names, all_layers = (inner, list(held)) if per == "layers" else (list(held), inner)
    layers = all_layers if layer is None else [layer] if isinstance(layer, str) else list(layer)
    for wanted in layers:
        if wanted not in all_layers:
            raise ParameterError(
                f"open_features got layer={wanted!r}; {str(folder)!r} has {preview(all_layers, 12)}.{did_you_mean(wanted, all_layers)}"
            )
    if not layers or len(set(layers)) < len(layers):
        raise ParameterError(f"open_features got layer={layers}. Expected at least one layer, each once.")
    out = {}
    for name in layers:
        places = [(held[name][0], stimulus) if per == "layers" else (held[stimulus][0], name) for stimulus in names]
        out[name] = _one_layer(name, places, {file: arrays for file, arrays in held.values()}, allow_nan)
    if per == "layers":
        _refuse_other_stimuli(held, layers, names)
    return names, out, [file.name for file in found]


def _one_layer(name: str, places: list[tuple[Path, str]], arrays: Mapping[Path, Mapping[str, Any]], allow_nan: bool) -> _Layer:
    shapes = []
    for file, key in places:
        if key not in arrays[file]:
            raise FormatError(
                f"{str(file)!r} has no array {key!r}, which {places[0][0].name!r} has; it has {preview(arrays[file], 12)}. Expected the same "
                "layers and stimuli in every file: extract them again, or choose others."
            )
        shape, dtype = arrays[file][key]
        if dtype.kind not in "iufb":
            raise FormatError(
                f"{str(file)!r} has dtype {dtype} for {key!r}. Expected real numbers: extract or convert them again."
            )
        shapes.append(shape)
        if shapes[-1] != shapes[0]:
            raise FormatError(
                f"{str(file)!r} has shape {shapes[-1]} for {key!r}, and {str(places[0][0])!r} {shapes[0]} for {places[0][1]!r}, layer {name!r}. "
                "Expected one shape for all stimuli: pool over tokens or frames first."
            )
    shape = shapes[0][1:] if len(shapes[0]) > 1 and shapes[0][0] == 1 else shapes[0]  # Net2Brain keeps a batch of one
    width = int(np.prod(shape, dtype=np.int64))
    values = lazy_array(
        _Stimuli(tuple(places)), (len(places), width), np.float32, files=list(dict.fromkeys(file for file, _ in places)), what="numpy",
        chunks=leading((len(places), width), 4), finite_axis=None if allow_nan else 1,
    )  # fmt: skip
    return _Layer(values, shape)


@dataclass(frozen=True)
class _Stimuli:
    """Reads one array of an npz file for each row."""

    places: tuple[tuple[Path, str], ...]

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        rows, columns = spans
        return np.stack([load(file, key).ravel()[columns] for file, key in self.places[rows]])


def _refuse_other_stimuli(held: Mapping[str, tuple[Path, Mapping[str, Any]]], layers: list[str], names: list[str]) -> None:
    for layer in layers:
        file, arrays = held[layer]
        more = [name for name in arrays if name not in names]
        if more:
            raise FormatError(
                f"{str(file)!r} has the stimuli {preview(more)}, which other layers lack. Expected the same in each file."
            )


def _ids(names: list[str], given: Mapping[str, str] | None, folder: Path) -> list[str]:
    if given is not None:
        lacking = [name for name in names if name not in given]
        if lacking:
            raise ParameterError(
                f"stimulus_id= has no id for {len(lacking)} of {len(names)} names of {str(folder)!r}: {preview(lacking)}. Expected one for each."
            )
        return [str(given[name]) for name in names]
    ids = [_SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2]) for name in names]
    seen: dict[str, str] = {}
    for name, short in zip(names, ids, strict=True):
        if seen.setdefault(short, name) != name:
            raise FormatError(
                f"{str(folder)!r} has two stimuli that are both called {short!r}: {seen[short]!r} and {name!r}. Expected names that differ "
                "without folder and suffix: pass `stimulus_id={name: id}`."
            )
    return ids


def _number(name: str) -> tuple[int, str]:
    digits = re.search(r"_(\d+)$", name)
    return (int(digits.group(1)) if digits else -1, name)


def _stacked(parts: list[Any]) -> Any:
    import dask.array as da

    return da.concatenate(parts) if any(hasattr(part, "dask") for part in parts) else np.concatenate(parts)


def _side_by_side(layers: list[Any]) -> Any:
    import dask.array as da

    return layers[0] if len(layers) == 1 else da.concatenate(layers, axis=1)


def _matches(source: Any) -> str:
    """Recognise a folder with a list of names and features, or of npz files only."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return ""
    names = [item.name for item in Path(source).iterdir() if not item.name.startswith(".")]
    if _NAMES in names and any(re.fullmatch(r"features(_\d+)?\.(npy|hdf5|h5|mat|txt|pt)", name) for name in names):
        return f"{_NAMES} beside features, as thingsvision writes them"
    return (
        "a folder of npz files only, as Net2Brain writes them" if names and all(name.endswith(".npz") for name in names) else ""
    )


adapter = Format("features", _matches, open_features)

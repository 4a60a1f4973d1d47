"""Weights from a file into a network: safetensors, or a state dict of torch; never a pickle that could run code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from brainalign.adapters.files import existing, first_bytes, reading
from brainalign.adapters.stimuli.media import hash_file
from brainalign.core.errors import FormatError, require
from brainalign.core.parameters import preview

_PARALLEL = "module."  # what DataParallel puts in front of every name


def load_checkpoint(model: torch.nn.Module, path: Any) -> dict[str, str]:
    """Load the weights of a file into a network: all of them, and no others.

    Parameters
    ----------
    model : Module
        Changed in place, on its device and in its dtype; left as it was where anything does not fit.
    path : str or Path
        A ``.safetensors`` file, or a state dict that ``torch.save`` wrote (also under the key ``state_dict``), which is read without
        running code. Names may all start with ``module.``, as those of DataParallel do.

    Returns
    -------
    dict
        ``file``, its name, and ``sha256`` of its bytes.

    Raises
    ------
    FormatError
        A damaged file, or no state dict; names that are missing or not expected, and other shapes, are listed. A weight that is
        tied to one in the file is not missing. Weights that are NaN or infinite, in the file or in the dtype of the network; buffers
        may be infinite, as masks are.
    OptionalDependencyError
        safetensors is not installed.
    """
    file = existing(path)
    state = _read(file)
    if state and all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    given = {value.data_ptr() for name, value in wanted.items() if name in state and value.numel()}
    missing = [name for name, value in wanted.items() if name not in state and value.data_ptr() not in given]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems = {"lacks": missing, "holds besides": unexpected, "has of other shape": shapes}
    if any(problems.values()):
        told = "; ".join(f"{what} {preview(names)}" for what, names in problems.items() if names)
        raise FormatError(
            f"{str(file)!r} does not fit {type(model).__name__} with {len(wanted)} weights: it {told}. Expected every weight once: build the "
            "network that it was saved from, or load what fits yourself, `model.load_state_dict(..., strict=False)`."
        )
    _refuse_not_finite(model, state, file)
    model.load_state_dict(state, strict=False)  # whole but for tied weights, as checked above
    return {"file": file.name, "sha256": hash_file(file)}


def _refuse_not_finite(model: torch.nn.Module, state: dict[str, torch.Tensor], file: Path) -> None:
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, there in model.state_dict().items():
        if name not in state or not isinstance(there, torch.Tensor) or not there.is_floating_point():
            continue
        value = state[name].to(there.dtype)
        value = value.float() if value.element_size() == 1 else value  # torch cannot test those of 8 bits
        bad = int((~torch.isfinite(value) if name in weights else torch.isnan(value)).sum())
        if bad:
            raise FormatError(
                f"{str(file)!r} holds {bad} of {value.numel()} values in {name!r} that are NaN or infinite as {there.dtype}. Expected finite "
                "weights: training diverged, or the file is damaged; take an earlier one. To use it as it is, load it yourself, "
                "`model.load_state_dict(...)`, and pass the network without `checkpoint=`."
            )


def _read(file: Path) -> dict[str, torch.Tensor]:
    start = first_bytes(file, 9)
    if start[8:9] == b"{":  # after the length of the header
        safetensors = require("safetensors.torch", extra="transformers", purpose="reading safetensors")
        with reading(file, "safetensors"):
            found: Any = safetensors.load_file(file)
    else:
        with reading(file, "a state dict of torch"):
            found = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        held = preview(found) if isinstance(found, dict) else type(found).__name__
        raise FormatError(f"{str(file)!r} holds {held}. Expected a state dict: names and tensors, or one under 'state_dict'.")
    return found

"""Loading what transformers and diffusers have on disk or on the Hugging Face hub: no code of its own, no pickled weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import preview

_EXPECTED = (
    "a folder with config.json and weights as safetensors (`model.save_pretrained(folder)` of transformers writes them), or a name on the "
    "Hugging Face hub (HF_HUB_OFFLINE=1 allows only those on disk)"
)


def from_pretrained(
    auto: Any, source: str | Path, *, owner: str = "TransformersResponder", expected: str = _EXPECTED, **options: Any
) -> Any:
    """Return what a class of transformers or diffusers makes of a folder or hub name, never running code that comes with it.

    Parameters
    ----------
    auto : type
    source : str or Path
    owner, expected : str
        What the user called, and what it loads, for the message.
    **options
        Of its ``from_pretrained``.

    Returns
    -------
    object

    Raises
    ------
    ParameterError
        Not found, or no safetensors where ``use_safetensors`` asks for them.
    CapabilityError
        It needs code of its own.
    """
    try:
        if options.get("use_safetensors"):
            _refuse_pickled(source, options.get("local_files_only", False))
        return auto.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise CapabilityError(
                f"The network {str(source)!r} needs program code that comes with it, which brainalign never runs. Expected a stock "
                f"architecture of {auto.__module__.partition('.')[0]}: load the model yourself and pass it to ba.TorchResponder."
            ) from error
        raise ParameterError(
            f"{owner} could not load {str(source)!r} with {auto.__name__}: {_first_line(error)} Expected {expected}."
        ) from error


def is_cut_off(source: str | Path) -> bool:
    """Return whether no connection to the hub can be made, so that only what is on disk is there.

    Parameters
    ----------
    source : str or Path
        Folder or hub name.

    Returns
    -------
    bool
        False for a folder.

    Notes
    -----
    huggingface_hub would find out anew for each file, the missing ones too, and try each six times over 23 s. What the hub answers, and
    an answer that is late, are left to it.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HFValidationError

    if Path(source).is_dir():
        return False
    try:
        get_hf_file_metadata(hf_hub_url(str(source), "config.json"))
    except HFValidationError:
        return False  # no name on a hub, as transformers will say
    except Exception as error:  # of httpx or of its successors, by the version
        return type(error).__name__ in ("ConnectError", "ConnectTimeout")
    return False


def _refuse_pickled(source: str | Path, local_files_only: bool) -> None:
    """Refuse lists of safetensors that name other files, which transformers and diffusers would unpickle, or read from elsewhere."""
    from transformers.utils import cached_file

    tables = list(Path(source).rglob("*.safetensors.index.json"))
    if not Path(source).is_dir():
        options = {"local_files_only": local_files_only, "_raise_exceptions_for_missing_entries": False}
        found = cached_file(source, "model.safetensors.index.json", **options)
        tables = [Path(found)] if found else []
    files = {Path(file) for table in tables for file in dict(json.loads(table.read_text()))["weight_map"].values()}
    if wrong := sorted(str(file) for file in files if file.name != str(file) or file.suffix != ".safetensors"):
        raise ValueError(f"weights in {preview(wrong)}.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

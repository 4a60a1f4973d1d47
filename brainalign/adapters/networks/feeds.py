"""What goes into a Hugging Face network in one forward pass, and how its layers become response rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from brainalign.adapters.networks.capture import check_finite
from brainalign.adapters.networks.hub import Network
from brainalign.adapters.networks.pooling import pool_map, pool_tokens
from brainalign.adapters.networks.text_windows import Tokens, by_length, gather, pad
from brainalign.core.errors import CapabilityError, ParameterError

#: What a forward pass costs beside its tokens, in tokens: a GPU computes some thousands in the time that starting it takes.
_PASS_TOKENS_CPU, _PASS_TOKENS_GPU = 64, 2048


@dataclass(frozen=True)
class Feed:
    """The input of one forward pass.

    Attributes
    ----------
    arguments : dict of str to Tensor
        Keyword arguments of the model.
    rows : ndarray of int, (row,)
        Rows of the stimulus table that the pooled layers answer for.
    pool : callable
        From a layer's raw value to (row, ...).
    parts : ndarray of int, (window, position), or None
        Stimulus row of each token, -1 for special tokens and padding.
    dims : tuple of str
        Of one continuous input.
    """

    arguments: dict[str, torch.Tensor]
    rows: np.ndarray[Any, Any]
    pool: Callable[[torch.Tensor], torch.Tensor]
    parts: np.ndarray[Any, Any] | None
    dims: tuple[str, ...]


def text_feeds(
    network: Network, encoded: Sequence[Tokens], wanted: np.ndarray[Any, Any], pool: str, special_tokens: bool
) -> list[Feed]:
    """Return the forward passes of some windows of text: one, or several of like length where padding would cost more.

    Parameters
    ----------
    network : Network
    encoded : sequence of Tokens
    wanted : ndarray of int
        Rows to answer for.
    pool : str
    special_tokens : bool

    Returns
    -------
    list of Feed
    """
    if pool == "all":  # texts of unlike length have no row in common
        return [text_feed(network, encoded, wanted, pool, special_tokens)]
    cost = _PASS_TOKENS_CPU if network.model.device.type == "cpu" else _PASS_TOKENS_GPU
    groups = by_length([len(tokens.ids) for tokens in encoded], cost)
    parts = [[encoded[i] for i in np.sort(group)] for group in groups]
    return [text_feed(network, part, wanted, pool, special_tokens) for part in parts]


def text_feed(network: Network, encoded: Sequence[Tokens], wanted: np.ndarray[Any, Any], pool: str, special_tokens: bool) -> Feed:
    """Return the forward pass of some windows of text.

    Parameters
    ----------
    network : Network
    encoded : sequence of Tokens
    wanted : ndarray of int
        Rows to answer for.
    pool : str
    special_tokens : bool

    Returns
    -------
    Feed
    """
    ids, mask = pad(encoded, network.prepare.pad_token_id)
    chosen = gather(encoded, wanted, pool, special_tokens)
    parts = np.full(ids.shape, -1, dtype=np.int64)
    for i, tokens in enumerate(encoded):
        parts[i, : len(tokens.rows)] = tokens.rows
    device = network.model.device
    arguments = {"input_ids": torch.as_tensor(ids, device=device), "attention_mask": torch.as_tensor(mask, device=device)}
    return Feed(arguments, chosen.rows, lambda hidden: pool_tokens(hidden, chosen, pool), parts, ("position", "embedding"))


def signal_feeds(
    network: Network, content: Any, rows: np.ndarray[Any, Any], *, prepared: bool, rate_hz: float | None, pool: str, n_prefix: int
) -> list[Feed]:
    """Return the forward passes of some images or sounds: one for each shape among them, so that none is padded.

    Parameters
    ----------
    network : Network
    content : list of ndarray, or ndarray (row, ...)
        Images (y, x, channel), or waveforms (sample,).
    rows : ndarray of int, (row,)
    prepared : bool
        The arrays are the network's input as it is; no processor is applied.
    rate_hz : float or None
        Sampling rate of the waveforms.
    pool : str
    n_prefix : int

    Returns
    -------
    list of Feed

    Raises
    ------
    SchemaError
        NaN or infinite values.
    """
    values = list(content) if prepared else _prepare(network, list(content), rate_hz)
    tensors = [torch.as_tensor(value, dtype=network.model.dtype, device=network.model.device) for value in values]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, tensor in enumerate(tensors):
        groups.setdefault(tuple(tensor.shape), []).append(i)
    return [_signal_feed(network, torch.stack([tensors[i] for i in at]), rows[at], pool, n_prefix) for at in groups.values()]


def _signal_feed(network: Network, batch: torch.Tensor, rows: np.ndarray[Any, Any], pool: str, n_prefix: int) -> Feed:
    dims = {3: ("channel", "y", "x"), 2: ("band", "frame"), 1: ("sample",)}
    names = dims.get(batch.ndim - 1, tuple(f"axis_{i}" for i in range(batch.ndim - 1)))
    check_finite(batch, rows, type(network.model).__name__)
    return Feed(
        {network.model.main_input_name: batch},
        rows,
        lambda hidden: pool_map(_one_row_each(hidden, len(batch)), pool, n_prefix),
        None,
        names,
    )


def _one_row_each(hidden: torch.Tensor, n: int) -> torch.Tensor:
    if len(hidden) != n:
        raise CapabilityError(
            f"A layer gives shape {tuple(hidden.shape)} for {n} stimuli. Expected the stimuli as its first dim (attention within windows "
            "has none): name another layer."
        )
    return hidden


def _prepare(network: Network, content: list[Any], rate_hz: float | None) -> list[Any]:
    if network.prepare is None:
        raise CapabilityError(
            f"This {network.inputs} network comes without preprocessor_config.json. Expected one beside its weights: add it, or give "
            "arrays that are its input as it is, in a stimulus table of kind 'array'."
        )
    name = network.model.main_input_name
    if network.inputs == "image":
        images = [np.stack([image] * 3, axis=-1) if np.ndim(image) == 2 else np.asarray(image) for image in content]
        return [
            network.prepare(images=image, return_tensors="pt", input_data_format="channels_last")[name][0] for image in images
        ]
    expected = float(network.prepare.sampling_rate)
    if rate_hz is None or abs(float(rate_hz) - expected) > 1e-6 * expected:
        raise ParameterError(
            f"The sounds have sampling_rate_hz {rate_hz!r}. Expected {expected:g}, which the network was made for: resample them and set "
            "`stimuli.attrs['sampling_rate_hz']`."
        )
    # One by one: padding to a batch would change the responses of networks that normalise over time.
    return [
        network.prepare(np.asarray(wave, dtype=np.float32), sampling_rate=int(expected), return_tensors="pt")[name][0]
        for wave in content
    ]


def describe_processor(prepare: Any) -> str:
    """Return a text that changes when a tokenizer or processor does, wherever it was loaded from.

    Parameters
    ----------
    prepare : tokenizer, processor or None

    Returns
    -------
    str
    """
    backend = getattr(prepare, "backend_tokenizer", None)
    if backend is not None:
        # Truncation and padding are set anew by every call.
        state = {key: value for key, value in json.loads(backend.to_str()).items() if key not in ("truncation", "padding")}
    elif hasattr(prepare, "get_vocab"):
        state = {"class": type(prepare).__name__, "vocab": prepare.get_vocab(), "special": prepare.all_special_tokens}
    else:
        state = {} if prepare is None else json.loads(prepare.to_json_string())
    return json.dumps(state, sort_keys=True, default=str)


@contextmanager
def replaced(module: torch.nn.Module, value: torch.Tensor) -> Iterator[None]:
    """Let a module give another value; so gradients reach every network, also those that take no embeddings.

    Parameters
    ----------
    module : Module
    value : Tensor
        In place of its output.

    Yields
    ------
    None
    """
    handle = module.register_forward_hook(lambda module, args, output: value.to(output.dtype), prepend=True)
    try:
        yield
    finally:
        handle.remove()

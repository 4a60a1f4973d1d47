"""Stock Hugging Face networks as responders: text, words in context, images and sounds."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.adapters.networks import hub
from brainalign.adapters.networks.capture import OnDemand, Tap, capture, check_columns, flatten, map_coords, pick, select
from brainalign.adapters.networks.feeds import Feed, describe_processor, replaced, signal_feeds, text_feed, text_feeds
from brainalign.adapters.networks.inside import Copies, Inside
from brainalign.adapters.networks.pooling import POOLS, patch_coords
from brainalign.adapters.networks.text_windows import Tokens, Window, check_length, encode_texts, encode_words, word_windows
from brainalign.adapters.networks.untrained import Untrainable
from brainalign.adapters.networks.weights import WeightsHash, digest
from brainalign.adapters.stimuli.media import read_content
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_device, check_number, check_random_state
from brainalign.core.protocols import Piece
from brainalign.core.tables import presentation_table
from brainalign.engine.backend import resolve_device


class TransformersResponder(Inside, Untrainable):
    """Layers of a stock Hugging Face network for text, images or sounds, as responses.

    Parameters
    ----------
    model_name_or_path : str or Path
        Name on the hub, or a local folder. Code that comes with a network is never run.
    layers : str, int, or a sequence of these
        Names, globs or numbers. Hidden states are ``h.0`` (what enters the first block: the embeddings) to ``h.L``
        (equal to ``hidden_states[-1]`` of transformers), for every architecture; ``mlp.1`` ... ``mlp.L`` and
        ``heads.1`` ... ``heads.L`` lie in the block that ends in ``h.1`` ... ``h.L``.
    kind : {"hidden", "mlp", "heads"}
        Hidden states; neurons of the MLP (after its nonlinearity); outputs of the attention heads before they are
        projected back, side by side, with the coordinate ``head``.
    pool : {"first", "last", "mean", "max", "cls", "all", "word"}, optional
        How tokens become one response. Text: over the tokens of the attention mask. Images and sounds: over patches or
        frames, without class and register tokens. ``"all"`` keeps every token as neuroids of its own. Default:
        ``"word"`` for word stimuli, where it is the only choice, else ``"mean"``.
    pool_pieces : {"mean", "first", "last", "max"}
        How the pieces of one word become its response.
    context_words, stride_words : int
        Words go through in windows of ``stride_words`` new ones behind ``context_words`` of left context, less at the
        start of a run; no window crosses a run. In a bidirectional network a word also sees what follows in its window.
    special_tokens : bool
        Special tokens of a whole text ([CLS], [SEP]) are pooled with the others, as sentence encoders do. Those around
        windows of words never are.
    truncation : bool
        Cut whole texts that exceed the limit, instead of refusing them. Windows of words are never cut.
    max_length : int, optional
        Most tokens in a pass; default: what tokenizer and network allow.
    pretrained : bool
        False: the same architecture with random weights, the untrained control.
    random_state : int, Generator or None
        Seed of these weights.
    inputs : {"text", "image", "audio"}, optional
        Which tower, for a network with several.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Of weights and computation; responses are float32.
    system : str, optional
        Whose responses these are; default: the last part of the name, and ``-untrained`` behind it for the control.

    Attributes
    ----------
    layers : tuple of str
    inputs : {"text", "image", "audio"}
    random_state : int or None
        The seed drawn for the untrained control.
    bidirectional : bool
        Whether an earlier position responds to a later one; tried out once.

    Raises
    ------
    ParameterError
        No such network, layer or device.
    CapabilityError
        The network needs code of its own, or has no such projection.

    Notes
    -----
    A stimulus table of kind ``"array"`` is the input of an image or sound network as it is (pixel values, waveforms).

    Examples
    --------
    >>> import brainalign as ba, os, tempfile, transformers
    >>> folder = os.path.join(tempfile.mkdtemp(), "tiny")
    >>> vocab = {w: i for i, w in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on mat".split())}
    >>> _ = transformers.BertTokenizer(vocab=vocab).save_pretrained(folder)
    >>> transformers.BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
    ...                         intermediate_size=16).save_pretrained(folder)
    >>> lm = ba.TransformersResponder(folder, layers="h.*", pretrained=False, random_state=0)
    >>> lm.layers, lm.system, lm.bidirectional
    (('h.0', 'h.1', 'h.2'), 'tiny-untrained', True)
    >>> words = ba.stimuli.table("the cat sat on the mat".split(), stimulus_id=list("abcdef"), kind="word")
    >>> lm.at("h.1").respond(words, slice(0, 6))["h.1"].shape
    (6, 8)
    """

    modality = "ann"
    deterministic = True

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        layers: str | int | Sequence[str | int] = "*",
        kind: str = "hidden",
        pool: str | None = None,
        pool_pieces: str = "mean",
        context_words: int = 32,
        stride_words: int = 32,
        special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
        pretrained: bool = True,
        random_state: int | np.random.Generator | None = None,
        inputs: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        system: str | None = None,
    ) -> None:
        owner = type(self).__name__
        self.kind = check_choice("kind", kind, hub.KINDS, owner=owner)
        self.pool = check_choice("pool", pool, (None, *POOLS), owner=owner)
        self.pool_pieces = check_choice("pool_pieces", pool_pieces, ("mean", "first", "last", "max"), owner=owner)
        self.context_words = check_number("context_words", context_words, owner=owner, low=0, integer=True)
        self.stride_words = check_number("stride_words", stride_words, owner=owner, low=1, integer=True)
        self.special_tokens, self.truncation = bool(special_tokens), bool(truncation)
        if max_length is not None:
            check_number("max_length", max_length, owner=owner, low=1, integer=True)
        check_choice("dtype", dtype, ("float32", "float64", "float16", "bfloat16"), owner=owner)
        check_choice("inputs", inputs, (None, *hub.INPUTS), owner=owner)
        device = check_device(device, resolve_device(device), owner=owner)
        self.random_state = None if pretrained else check_random_state(random_state, owner=owner)
        self._network = hub.load(
            model_name_or_path, pretrained=bool(pretrained), seed=self.random_state, inputs=inputs, dtype=dtype, device=device
        )
        self.inputs = self._network.inputs
        self.system = system or Path(model_name_or_path).name + ("" if pretrained else "-untrained")
        self.max_length = hub.token_limit(self.model, self._network.prepare, max_length) if self.inputs == "text" else None
        self._n_prefix = 0 if self.inputs == "text" else hub.n_prefix_tokens(self.model)
        self._taps = self._select(layers)
        self._columns: np.ndarray[Any, Any] | None = None
        self._copies = Copies()
        self._weights = WeightsHash(self.model)

    @property
    def model(self) -> Any:
        """The network (the tower that is used), in evaluation mode."""
        return self._network.model

    @cached_property
    def bidirectional(self) -> bool:
        """Whether an earlier position responds to a later one."""
        return hub.is_bidirectional(self._network)

    def at(self, layer: str | int, neuroid: Any = None) -> TransformersResponder:
        """Return a responder of one layer, or of some of its neuroids.

        Parameters
        ----------
        layer : str or int
            One of ``layers``, or its number.
        neuroid : int or sequence of int, optional
            Their ``neuroid_id``; default all.

        Returns
        -------
        TransformersResponder
            Shares the network.

        Raises
        ------
        ParameterError
            No such layer.
        """
        name = f"{hub.PREFIX[self.kind]}.{layer}" if isinstance(layer, (int, np.integer)) else layer
        check_choice("layer", name, self.layers, owner="TransformersResponder.at")
        other = copy.copy(self)
        other._taps = [tap for tap in self._taps if tap.name == name]
        other._columns = check_columns(neuroid)
        return other

    def fingerprint(self) -> str:
        """Return a hash of the weights, the architecture, the tokenizer or processor and the options."""
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
        options = [
            self.inputs, self.kind, self.pool, self.pool_pieces, self.context_words, self.stride_words, self.special_tokens,
            self.truncation, self.max_length, self.layers, None if self._columns is None else self._columns.tolist(),
        ]  # fmt: skip
        texts = (json.dumps(config, sort_keys=True, default=str), describe_processor(self._network.prepare), repr(options))
        return digest(self._weights(), *texts, *self._altered())

    def neuroids(self, stimuli: xr.Dataset) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Return the coordinates of the neuroids by layer, found by one pass of the first stimulus.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        dict of str to dict of str to ndarray

        Raises
        ------
        ParameterError
            ``pool="all"`` and texts of different length.
        """
        if self._pool(stimuli) == "all" and self.inputs == "text":
            rows = np.arange(stimuli.sizes["presentation"])
            text_feed(self._network, self._encode(stimuli, rows), rows, "all", self.special_tokens)
        (feed,) = self._feeds(stimuli, np.arange(1))
        shapes: dict[str, Sequence[int]] = {}

        def keep(tap: Tap, value: torch.Tensor) -> torch.Tensor:
            shapes[tap.name] = feed.pool(value).shape[1:]
            return value[:0]

        with torch.inference_mode():
            self._run(feed, keep)
        return {name: pick(self._coords(shape, feed), self._columns) for name, shape in shapes.items()}

    def blocks(self, stimuli: xr.Dataset, batch_size: int) -> list[slice]:
        """Return runs of rows that are computed in one pass: ``batch_size`` stimuli, or whole windows of words.

        Parameters
        ----------
        stimuli : Dataset
        batch_size : int
            Windows (stimuli) in a forward pass.

        Returns
        -------
        list of slice
        """
        check_number("batch_size", batch_size, owner="blocks", low=1, integer=True)
        windows = self._windows(stimuli)
        groups = [windows[start : start + batch_size] for start in range(0, len(windows), batch_size)]
        return [slice(group[0].start, group[-1].stop) for group in groups]

    def respond(self, stimuli: xr.Dataset, rows: slice) -> dict[str, np.ndarray[Any, Any]]:
        """Return the responses of some rows, by layer.

        Parameters
        ----------
        stimuli : Dataset
        rows : slice
            Computed in one forward pass; images and sounds of several shapes in one each, texts of unlike length in as many as padding
            would cost more. Rows that are no whole windows
            get the same responses, as the windows are those of the whole table.

        Returns
        -------
        dict of str to ndarray, (row, neuroid) float32

        Raises
        ------
        ParameterError
            A text or window longer than the limit, a word without tokens, or a pooling that does not fit the stimuli.
        """
        wanted = np.arange(stimuli.sizes["presentation"])[rows]
        feeds = self._feeds(stimuli, wanted)
        with torch.inference_mode():
            found = [self._run(feed, self._keeper(feed)) for feed in feeds]
        if len(feeds) == 1:
            return {name: value.float().cpu().numpy() for name, value in found[0].items()}
        back = np.argsort(np.concatenate([feed.rows for feed in feeds]))
        return {name: torch.cat([part[name] for part in found]).float().cpu().numpy()[back] for name in self.layers}

    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return differentiable pieces: one window of words, one text, one image or one sound; made on demand.

        Parameters
        ----------
        stimuli : Dataset
        rows : ndarray of int, optional
            Default all.

        Returns
        -------
        sequence of Piece
            Text: inputs are the word embeddings (1, position, embedding), before positions are added, and a window answers
            for its new words only. Images and sounds: the processed input.
        """
        wanted = np.arange(stimuli.sizes["presentation"]) if rows is None else np.unique(rows)
        edges = np.searchsorted(wanted, [window.start for window in self._windows(stimuli)])
        chunks = [chunk for chunk in np.split(wanted, edges) if chunk.size]
        return OnDemand([lambda chunk=chunk: self._piece(self._feeds(stimuli, chunk)[0]) for chunk in chunks])

    def _piece(self, feed: Feed) -> Piece:
        if feed.parts is None:
            (name,) = feed.arguments
            return Piece(feed.arguments[name], lambda x: self._differentiable(feed, x), feed.rows, None, feed.dims)
        with torch.no_grad():
            inputs = self.model.get_input_embeddings()(feed.arguments["input_ids"])
        return Piece(inputs, lambda x: self._differentiable(feed, x), feed.rows, feed.parts, feed.dims)

    def _differentiable(self, feed: Feed, inputs: torch.Tensor) -> torch.Tensor:
        n = len(inputs) // len(next(iter(feed.arguments.values())))  # copies of the inputs
        if feed.parts is None:
            (name,) = feed.arguments
            found = self._run(replace(feed, arguments={name: inputs}), self._keeper(feed, n))
        else:
            copied = {name: values.repeat(n, *[1] * (values.ndim - 1)) for name, values in feed.arguments.items()}
            with replaced(self.model.get_input_embeddings(), inputs):
                found = self._run(replace(feed, arguments=copied), self._keeper(feed, n))
        return torch.cat(list(found.values()), dim=1)

    def _keeper(self, feed: Feed, n: int = 1) -> Callable[[Tap, torch.Tensor], torch.Tensor]:
        """Return what keeps the rows of each copy: of those that altered layers make, and of ``n`` copies of the inputs."""

        def keep(tap: Tap, value: torch.Tensor) -> torch.Tensor:
            copies = [part for whole in self._copies.split(value) for part in whole.chunk(n)]
            return torch.cat([flatten(feed.pool(part), self._columns) for part in copies])

        return keep

    def _run(self, feed: Feed, keep: Callable[[Tap, torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        return capture(self.model, lambda: self.model(**feed.arguments), self._taps, keep)

    def _layer_taps(self, name: str) -> list[Tap]:
        return hub.named_taps(self._network, name)

    def _n_heads(self, layer: str) -> int | None:
        return hub.n_heads(self.model) if layer.startswith(f"{hub.PREFIX['heads']}.") else None

    def _select(self, layers: str | int | Sequence[str | int]) -> list[Tap]:
        taps = hub.taps_of(self._network, self.kind)
        wanted = [layers] if isinstance(layers, (str, int, np.integer)) else list(layers)
        prefix = hub.PREFIX[self.kind]
        patterns = [
            f"{prefix}.{name}" if isinstance(name, (int, np.integer)) else ("**" if name == "*" else name) for name in wanted
        ]
        chosen = set(select([tap.name for tap in taps], patterns, owner="TransformersResponder"))
        return [tap for tap in taps if tap.name in chosen]

    def _pool(self, stimuli: xr.Dataset) -> str:
        """Return the pooling for these stimuli: that of word pieces for words."""
        kind = stimuli.attrs.get("kind")
        fits = {"text": ("text", "word"), "image": ("image", "array"), "audio": ("audio", "array")}[self.inputs]
        if kind not in fits:
            raise CapabilityError(f"{self.system!r} takes {self.inputs}. Got stimuli of kind {kind!r}, expected one of {fits}.")
        if self.pool is not None and (kind == "word") != (self.pool == "word"):
            mend = "leave `pool` out and choose `pool_pieces`" if kind == "word" else "build a table of words, kind='word'"
            raise ParameterError(f"pool={self.pool!r} does not fit stimuli of kind {kind!r}; 'word' is for words only: {mend}.")
        return self.pool_pieces if kind == "word" else self.pool or "mean"

    def _windows(self, stimuli: xr.Dataset) -> list[Window]:
        if stimuli.attrs.get("kind") == "word":
            return word_windows(presentation_table(stimuli), self.context_words, self.stride_words)
        return [Window(row, row, row + 1) for row in range(stimuli.sizes["presentation"])]

    def _feeds(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any]) -> list[Feed]:
        pool = self._pool(stimuli)
        if self.inputs == "text":
            specials = self.special_tokens and stimuli.attrs["kind"] == "text"
            return text_feeds(self._network, self._encode(stimuli, rows), rows, pool, specials)
        rate = stimuli.attrs.get("sampling_rate_hz")
        prepared = stimuli.attrs["kind"] == "array"
        content = read_content(stimuli, rows)
        return signal_feeds(self._network, content, rows, prepared=prepared, rate_hz=rate, pool=pool, n_prefix=self._n_prefix)

    def _encode(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any]) -> list[Tokens]:
        if stimuli.attrs["kind"] == "text":
            if self.pool == "cls" and self._network.prepare.cls_token_id is None:
                raise CapabilityError(
                    f"pool='cls' got {self.system!r}, whose tokenizer adds no class token. Use 'mean' or 'last'."
                )
            limit = self.max_length if self.truncation else None
            encoded = encode_texts(self._network.prepare, rows, list(read_content(stimuli, rows)), limit)
            check_length(encoded, self.max_length, "shorten them, or pass truncation=True")
            return encoded
        low, high = int(rows.min()), int(rows.max())
        windows = [window for window in self._windows(stimuli) if window.stop > low and window.start <= high]
        first, stop = min(window.first for window in windows), windows[-1].stop
        encoded = encode_words(self._network.prepare, windows, read_content(stimuli, slice(first, stop)), first)
        check_length(encoded, self.max_length, "pass fewer `context_words` or `stride_words`")
        return encoded

    def _coords(self, shape: Sequence[int], feed: Feed) -> dict[str, np.ndarray[Any, Any]]:
        coords = map_coords(shape)
        if self.kind == "heads":
            coords["head"] = coords["unit"] // (shape[-1] // hub.n_heads(self.model))
        if self.inputs == "image" and len(shape) == 2:
            (pixels,) = feed.arguments.values()
            coords = patch_coords(coords, hub.patch_grid(self.model, pixels.shape[-2:]), self._n_prefix)
        return coords

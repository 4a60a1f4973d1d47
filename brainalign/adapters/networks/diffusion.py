"""A stock diffusion pipeline that makes images of given embeddings; weights from a local folder, and no other code."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from contextlib import suppress
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.adapters.networks.pretrained import from_pretrained
from brainalign.adapters.networks.weights import WeightsHash, digest, stable_repr
from brainalign.adapters.stimuli.media import array_bytes, hash_bytes
from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError, require
from brainalign.core.latents import latent_matrices
from brainalign.core.parameters import check_device, check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import validate_stimuli
from brainalign.engine.backend import resolve_device

_OWNER = "DiffusersGenerator"
_EXPECTED = "a pipeline as diffusers saves it, its weights as safetensors"
_TOKENS = ("prompt_embeds", "negative_prompt_embeds")
_OWN = ("prompt", "generator", "output_type", "return_dict", "num_images_per_prompt")  # which options may not set
_TOLD = ("num_inference_steps", "guidance_scale", "strength")  # which provenance tells though nobody chose them


class DiffusersGenerator:
    """Images by a frozen diffusion pipeline whose embeddings are given, decoded from a recording for example.

    Latents go by the names of the pipeline's arguments: ``"prompt_embeds"``, tokens one after the other; ``"pooled_prompt_embeds"``,
    ``"image_embeds"`` and the like; ``"image"``, a square one that it starts from: pixels from 0 to 1, (y, x, channel), or what its
    autoencoder makes of them, (channel, y, x). A pipeline from text then is used from image to image.

    Parameters
    ----------
    folder : str or Path
        A pipeline as diffusers saves it, its weights as safetensors.
    batch_size : int
        Images at a time; those of others do not matter to one.
    device : {"cpu", "cuda", "auto"}
    **options
        Of the pipeline: ``num_inference_steps``, ``guidance_scale``, ``strength`` of the noise that is added to ``"image"`` ...

    Raises
    ------
    ParameterError
        No such folder, or no weights that are safe to load.
    CapabilityError
        It needs code of its own, or other pipelines.
    OptionalDependencyError
        diffusers is not installed.

    Notes
    -----
    Noise is drawn by the seed and ``stimulus_id``, on the CPU: for one stimulus it is the same whatever is decoded, by whom, and beside
    which others. With decoded embeddings of text and a decoded image to start from, this is the second stage of Ozcelik and VanRullen 2023.

    Examples
    --------
    >>> import brainalign as ba
    >>> generator = ba.adapters.DiffusersGenerator("models/some-pipeline", guidance_scale=7.5)  # doctest: +SKIP
    >>> decoder = ba.LatentDecoder().fit(brain[:900], {"prompt_embeds": texts[:900], "image": pixels[:900]})  # doctest: +SKIP
    >>> made = generator.generate(decoder.predict(brain[900:]), seed=0)  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, *, batch_size: int = 8, device: str = "cpu", **options: Any) -> None:
        check_number("batch_size", batch_size, owner=_OWNER, low=1, integer=True)
        if not Path(folder).is_dir():
            raise ParameterError(
                f"{_OWNER} got {str(folder)!r}, which is no folder. Expected local weights: nothing is downloaded."
            )
        self._library = require("diffusers", extra="transformers", purpose=_OWNER)
        _refuse_unsafe(self._library, Path(folder))
        found = from_pretrained(
            self._library.DiffusionPipeline, str(folder), owner=_OWNER, expected=_EXPECTED, dtype=torch.float32,
            local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False,
        )  # fmt: skip
        self.pipeline = found.to(check_device(device, resolve_device(device), owner=_OWNER))
        self.batch_size, self.options = batch_size, options

    def generate(self, latents: Any, seed: int = 0) -> xr.Dataset:
        """Make an image of each row.

        Parameters
        ----------
        latents : dict of str to DataArray (presentation, neuroid), or one DataArray
            Finite. One alone is of the prompt.
        seed : int

        Returns
        -------
        Dataset, (presentation,)
            A stimulus table of images, from 0 to 1, under the ``stimulus_id`` of the latents.

        Raises
        ------
        AlignmentError
            Latents that the pipeline does not take, or lacks.
        CapabilityError
            NaN, or rows of which it cannot make what it takes.
        ParameterError
            An option that it does not have.
        """
        check_number("seed", seed, owner="generate", low=0, integer=True)
        inputs = dict(latents) if isinstance(latents, Mapping) else {"prompt_embeds": latents}
        found, ids = latent_matrices(inputs, _OWNER)
        pipeline = self._pipeline(found)
        given: dict[str, Any] = {name: self._shaped(name, x) for name, x in found.items()}
        known = inspect.signature(pipeline.__call__).parameters
        if "prompt" in known and "prompt_embeds" not in given:
            given["prompt"] = [""] * len(ids)
        batches = [slice(k, k + self.batch_size) for k in range(0, len(ids), self.batch_size)]
        noise = [torch.Generator().manual_seed(_seed(seed, name)) for name in ids.tolist()]
        try:
            parts = [
                pipeline(
                    **{name: x[rows] for name, x in given.items()}, generator=noise[rows], output_type="np", **self.options
                ).images
                for rows in batches
            ]
        except ValueError as error:
            raise CapabilityError(
                f"{_OWNER} gave {preview(given, 8)} to a {type(pipeline).__name__}, which refused: {error} Expected latents and options that it "
                "takes together."
            ) from error
        values = np.concatenate(parts).astype(np.float32)
        labels = {"stimulus_id": ids, "sha256": as_labels([hash_bytes(*array_bytes(row)) for row in values])}
        coords = {name: ("presentation", column) for name, column in labels.items()}
        out = xr.Dataset({"values": (("presentation", "y", "x", "channel"), values)}, coords, {"kind": "image"})
        told = {name: known[name].default for name in _TOLD if name in known} | self.options
        params = {"generator": _OWNER, "pipeline": type(pipeline).__name__, "network": self.fingerprint(), "options": told}
        return write_step(validate_stimuli(out), "generate", params=params, inputs=inputs, seed=seed)

    def fingerprint(self) -> str:
        """Return a hash of the weights and of the configuration of all parts."""
        return digest(*(f"{name} {_described(part)}" for name, part in sorted(self.pipeline.components.items())))

    def _pipeline(self, found: Mapping[str, Any]) -> Any:
        """Return the pipeline that takes these latents."""
        pipeline = self.pipeline
        if "image" in found and "image" not in inspect.signature(pipeline.__call__).parameters:
            with suppress(ValueError):  # there is none: what this one takes is told below
                pipeline = self._library.AutoPipelineForImage2Image.from_pipe(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        known = inspect.signature(pipeline.__call__).parameters
        takes = [n for n in known if n == "image" or (n.endswith("_embeds") and not n.startswith("ip_adapter"))]
        needs = [n for n in takes if known[n].default is inspect.Parameter.empty or (n == "image" and "strength" in known)]
        lacks, other = [n for n in needs if n not in found], [n for n in found if n not in takes]
        if lacks or other:
            raise AlignmentError(
                f"{_OWNER} got the latents {preview(found, 8)} for a {type(pipeline).__name__}, which does not take "
                f"{preview(other, 8) or 'none'} of them and lacks {preview(lacks) or 'none'}. Expected names among {preview(takes, 12)}."
            )
        options = [name for name in known if name not in (*_OWN, *takes)]
        wrong = [name for name in self.options if name not in options]
        if wrong:
            raise ParameterError(
                f"{_OWNER} got the options {preview(wrong)}, which a {type(pipeline).__name__} does not have or which are not to choose. Expected "
                f"some of {preview(options, 20)}."
            )
        return pipeline

    def _shaped(self, name: str, x: np.ndarray) -> torch.Tensor:
        """Return rows as the pipeline takes them."""
        lost = np.flatnonzero(~np.isfinite(x).all(axis=0))
        if lost.size:
            raise CapabilityError(
                f"{_OWNER} got {name!r} with NaN or infinity in {lost.size} of {x.shape[1]} neuroids, first at {preview(lost)}. Expected numbers: "
                "what was constant in training has its value there: `decoded.fillna(known.mean('presentation'))`."
            )
        parts = self.pipeline.components
        values = torch.as_tensor(np.ascontiguousarray(x, dtype=np.float32), device=self.pipeline.device)
        if name == "image":
            return self._square(values)
        if name not in _TOKENS:
            return values
        config = getattr(parts.get("unet") or parts.get("transformer"), "config", {})
        width = config.get("joint_attention_dim") or config.get("cross_attention_dim")
        if not isinstance(width, int) or x.shape[1] % width:
            raise CapabilityError(
                f"{_OWNER} got {name!r} with {x.shape[1]} neuroids. Expected whole tokens, {width} numbers each: decode what the text encoder of "
                "this pipeline gives."
            )
        return values.reshape(len(x), -1, width)

    def _square(self, values: torch.Tensor) -> torch.Tensor:
        """Return pixels, or codes of the autoencoder, as (row, channel, y, x); which they are, their number tells."""
        (n, size), parts = values.shape, self.pipeline.components
        coder = parts.get("vae") or parts.get("movq")
        coded = 3 if coder is None else int(coder.config.latent_channels)
        side, side_coded = isqrt(size // 3), isqrt(size // coded)
        if size == 3 * side**2:
            return values.reshape(n, side, side, 3).permute(0, 3, 1, 2).clip(0, 1)
        if size == coded * side_coded**2:
            return values.reshape(n, coded, side_coded, side_coded)
        raise CapabilityError(
            f"{_OWNER} got 'image' with {size} neuroids. Expected a square of pixels, (y, x, 3), or of what the autoencoder gives, ({coded}, y, x)."
        )


def _refuse_unsafe(library: Any, folder: Path) -> None:
    """Refuse pipelines that load more than this folder; code that lies beside a part, diffusers refuses itself."""
    try:
        index = dict(json.loads((folder / "model_index.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ParameterError(f"{_OWNER} could not load {str(folder)!r}: {error} Expected {_EXPECTED}.") from error
    name = index.pop("_class_name", None)
    # A pipeline in another takes pickles for weights, and a connected one reads others, from wherever a README says.
    nested = [part for part, kind in index.items() if isinstance(kind, list) and "Pipeline" in str(kind)]
    if nested or not isinstance(name, str) or getattr(getattr(library, name, None), "_load_connected_pipes", True):
        raise CapabilityError(
            f"{_OWNER} got {str(folder)!r}, a pipeline {name!r} with the pipelines {preview(nested) or 'none'} in it: code of its own, or "
            "files elsewhere, which brainalign never runs. Expected a stock architecture of diffusers, in one folder."
        )


def _described(part: Any) -> str:
    """Return what a part of a pipeline is, wherever it was loaded from."""
    config = getattr(part, "config", None) or {}
    known = config if isinstance(config, Mapping) else config.to_dict()
    told = stable_repr(sorted((name, value) for name, value in known.items() if not name.startswith("_")))
    return f"{type(part).__name__} {told} {WeightsHash(part)() if isinstance(part, torch.nn.Module) else ''}"


def _seed(seed: int, stimulus: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {stimulus}".encode(), digest_size=7).digest())

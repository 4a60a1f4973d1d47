"""A stock Hugging Face language model that puts given features into words; weights from a local folder, and no other code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainalign.adapters.networks.pretrained import from_pretrained
from brainalign.core.errors import CapabilityError, ParameterError, require
from brainalign.core.parameters import check_device, check_number
from brainalign.engine.backend import resolve_device


class TransformersCaptioner:
    """Captions by a frozen network whose image features are given, decoded from a recording for example.

    Parameters
    ----------
    folder : str or Path
        Local weights, configuration and tokenizer: an encoder-decoder (vision-encoder-decoder), whose decoder attends to the features; or a
        causal language model, before whose first token they stand, as embeddings.
    max_new_tokens : int
    device : {"cpu", "cuda", "auto"}

    Raises
    ------
    ParameterError
        No such folder or device, or not a model of these kinds.
    CapabilityError
        It needs code of its own.

    Examples
    --------
    >>> import os, tempfile, transformers
    >>> folder = os.path.join(tempfile.mkdtemp(), "tiny")
    >>> vocab = {w: i for i, w in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] a cat dog".split())}
    >>> _ = transformers.BertTokenizer(vocab=vocab).save_pretrained(folder)
    >>> config = transformers.GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=2, eos_token_id=3)
    >>> transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    >>> captions = TransformersCaptioner(folder, max_new_tokens=3).caption(np.ones((2, 16)))
    >>> len(captions), captions[0] == captions[1]
    (2, True)
    """

    def __init__(self, folder: str | Path, *, max_new_tokens: int = 20, device: str = "cpu") -> None:
        check_number("max_new_tokens", max_new_tokens, owner="TransformersCaptioner", low=1, integer=True)
        if not Path(folder).is_dir():
            raise ParameterError(
                f"TransformersCaptioner got {str(folder)!r}, which is no folder. Expected local weights: nothing is downloaded."
            )
        device = check_device(device, resolve_device(device), owner="TransformersCaptioner")
        library = require("transformers", extra="transformers", purpose="TransformersCaptioner")
        local: dict[str, Any] = {"owner": "TransformersCaptioner", "local_files_only": True}
        config = from_pretrained(library.AutoConfig, folder, **local)
        self._encodes = bool(getattr(config, "is_encoder_decoder", False) or getattr(config, "encoder", None))
        auto = library.AutoModelForImageTextToText if self._encodes else library.AutoModelForCausalLM
        self.model = from_pretrained(auto, folder, use_safetensors=True, **local).to(device).eval().requires_grad_(False)
        self.tokenizer = from_pretrained(library.AutoTokenizer, folder, **local)
        self.max_new_tokens = max_new_tokens
        inner = self.model.config.encoder if self._encodes else self.model.config
        self.width = int(inner.hidden_size)

    def caption(self, features: Any) -> list[str]:
        """Put features into words, the likeliest token at a time.

        Parameters
        ----------
        features : array_like, (row, token * width)
            What the encoder would have given, tokens one after the other.

        Returns
        -------
        list of str

        Raises
        ------
        CapabilityError
            Rows that are no whole number of tokens of the network's width, or have NaN.
        """
        values = np.asarray(features, dtype=np.float32)
        if values.ndim != 2 or not values.shape[1] or values.shape[1] % self.width or not np.isfinite(values).all():
            raise CapabilityError(
                f"TransformersCaptioner got features of shape {values.shape}, {np.isnan(values).sum()} of them NaN. Expected finite rows of "
                f"whole tokens, {self.width} numbers each: decode what the network's own encoder gives."
            )
        hidden = torch.as_tensor(values).reshape(len(values), -1, self.width).to(self.model.device, self.model.dtype)
        given: dict[str, Any] = {"inputs_embeds": hidden}
        if self._encodes:
            output = require(
                "transformers.modeling_outputs", extra="transformers", purpose="TransformersCaptioner"
            ).BaseModelOutput
            given = {"encoder_outputs": output(last_hidden_state=hidden)}
        with torch.inference_mode():
            tokens = self.model.generate(**given, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1)
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]

"""``SharedLatentDecoder``: what others' responses taught of the stimuli, for a subject of whom there is little."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import AlignmentError, LeakWarning, ParameterError, SplitError
from brainalign.core.parameters import check_number, check_random_state, preview
from brainalign.engine.moments import column_status
from brainalign.engine.shared_latent import Part, SharedLatentNetwork, SharedRows, train
from brainalign.models.mapping import NetworkMapping, Values, as_columns, check_rows, feature_matrix
from brainalign.models.pretrained import Pretrained, digests, hash_of, refuse_seen, stimuli_of, systems_of
from brainalign.models.ridge import Ridge
from brainalign.models.subjects import stopping_split, targets_of

_OWNER = "SharedLatentDecoder"


class SharedLatentDecoder(NetworkMapping):
    """Decode a subject through latents that other subjects share: people, animals or networks, each with sensors of its own.

    ``pretrain`` learns from several subjects a linear map of each into latents, and one trunk from latents to targets. ``refine`` gives a
    decoder for a new subject, to be fitted and evaluated as any mapping: its own map is learned first, with the trunk as it is, and then
    both. Without pretraining it is fitted from scratch; after it only through ``refine``.

    Parameters
    ----------
    n_latents, width : int
        Latents, and hidden units of the trunk.
    contrast : float
        λ, from 0 to 1: the loss is λ · soft contrast + (1 − λ) · squared error.
    alpha : float
        Ridge penalty of the maps into latents.
    alignment : float
        Of a pretraining: penalty of the distance between the latents of a stimulus that two subjects saw, Σ ‖xE − x'E'‖², the mean over
        such stimuli summed over pairs of subjects.
    frozen_steps : int
        Of a refinement: the first steps, in which the trunk stays as it is.
    max_steps, patience, batch_size, learning_rate, weight_decay, cv, groups, random_state, device
        As in :class:`ContrastiveDecoder`.
    pretrained : Pretrained, optional
        Set by ``refine``.

    Attributes
    ----------
    network_ : torch.nn.Module
    pretrained_ : Pretrained
        After ``pretrain``.
    initial_hash_ : str
        Of all parameters before the first step; the same in every fold.
    step_ : int
        The step that was kept.
    status_ : ndarray of str, (target,)
    seed_ : int

    Notes
    -----
    Sources: Huo et al. 2024 (NeuroPictor), Scotti et al. 2024 (MindEye2), from their equations.
    A trunk that saw the subject under test would bring what it knows of the test presentations into every fold. So ``refine`` refuses
    subjects of the pretraining, and ``fit`` responses of a system, or rows, that it saw, and a trunk whose parameters are no longer those
    that the pretraining left. Nor may others have seen the stimuli under test, whose very targets a trunk learns: ``predict``
    warns of these.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> latent, weights = rng.normal(size=(400, 4)), rng.normal(size=(4, 64))
    >>> target = latent @ weights + 4 * rng.normal(size=(400, 64))                 # much of it is in no animal's responses
    >>> animals = {name: latent @ rng.normal(size=(4, 20)) + rng.normal(size=(400, 20)) for name in "abcd"}
    >>> new, others = animals.pop("d"), {name: x[:200] for name, x in animals.items()}
    >>> decoder = ba.models.SharedLatentDecoder(4, max_steps=100).pretrain(others, {name: target[:200] for name in others}).refine("d")
    >>> guess = lambda model: model.fit(new[200:230], target[200:230]).predict(new[300:])
    >>> error = lambda model: np.square(guess(model) - latent[300:] @ weights).mean()
    >>> bool(error(decoder) < 0.8 * error(ba.Ridge()))
    True
    """

    _left: tuple[str, ...] = ()  # who taught a trunk that `fit` would leave behind

    def __init__(
        self,
        n_latents: int = 16,
        *,
        width: int = 64,
        contrast: float = 0.25,
        alpha: float = 1e-3,
        alignment: float = 0.0,
        frozen_steps: int = 200,
        max_steps: int = 500,
        patience: int = 200,
        batch_size: int = 128,
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-2,
        cv: Any = 5,
        groups: Any = None,
        random_state: int | np.random.Generator | None = 0,
        device: str = "cpu",
        pretrained: Pretrained | None = None,
    ) -> None:
        self.n_latents = n_latents
        self.width = width
        self.contrast = contrast
        self.alpha = alpha
        self.alignment = alignment
        self.frozen_steps = frozen_steps
        self.max_steps = max_steps
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.cv = cv
        self.groups = groups
        self.random_state = random_state
        self.device = device
        self.pretrained = pretrained

    def __sklearn_clone__(self) -> Self:
        out = super().__sklearn_clone__()
        out._left = self._left  # what is evaluated are clones
        return out

    def baseline(self) -> Ridge:
        """Return what is scored beside this: ridge regression on the subject alone."""
        return Ridge(groups=self.groups)

    def pretrain(self, X: Mapping[str, Any], Y: Any) -> Self:
        """Learn the trunk from several subjects.

        Parameters
        ----------
        X : dict of str to DataArray or ndarray, (presentation, neuroid[, time])
            Presentations and neuroids of their own.
        Y : DataArray or ndarray, (presentation, neuroid), or dict of them
            One for all is looked up by ``stimulus_id``.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError, ParameterError
            Targets that differ in width, or NaN.
        """
        generator = self._generator()
        targets = targets_of(X, Y, _OWNER)
        ys, xs = [as_columns(y) for y in targets], [feature_matrix(x) for x in X.values()]
        for name, source, target, x, y in zip(X, X.values(), targets, xs, ys, strict=True):
            check_rows(source, target)
            if y.shape[1] != ys[0].shape[1] or not (np.isfinite(x).all() and np.isfinite(y).all()):
                raise ParameterError(
                    f"{_OWNER} got {name!r} with {y.shape[1]} targets, and {int((~np.isfinite(x)).sum())} and {int((~np.isfinite(y)).sum())} values "
                    f"of source and target that are NaN or infinite. Expected {ys[0].shape[1]} targets for all, and finite values."
                )
        splits = [
            stopping_split(self.cv, self.groups, y, target if isinstance(target, xr.DataArray) else None, _OWNER)[0]
            for y, target in zip(ys, targets, strict=True)
        ]
        own = np.concatenate([y[train] for y, (train, _) in zip(ys, splits, strict=True)]).astype(np.float64)
        mean, size = own.mean(axis=0).astype(np.float32), float(own.std(axis=0).mean()) or 1.0
        self.network_ = SharedLatentNetwork([x.shape[1] for x in xs], self.n_latents, self.width, ys[0].shape[1], generator)
        parts = [
            self._part(*_moments(x, split[0]), x, (y - mean) / size, split) for x, y, split in zip(xs, ys, splits, strict=True)
        ]
        self.step_ = self._trained(parts, self.max_steps, generator, _shared(X, splits) if self.alignment else ())
        trunk = {name: p.detach().cpu().clone() for name, p in self.network_.trunk.items()}
        systems, stimuli = (frozenset().union(*map(named, X.values())) for named in (systems_of, stimuli_of))
        rows = frozenset().union(*(digests(x) for x in xs))
        z = [(x @ e.detach()).cpu().numpy() for (x, _, _), e in zip(parts, self.network_.into, strict=True)]
        latents = Ridge().fit(np.concatenate([y.cpu().numpy() for _, y, _ in parts]), np.concatenate(z))
        self._left = tuple(X)
        self.pretrained_ = Pretrained(tuple(X), hash_of(trunk), systems, rows, stimuli, trunk, mean, size, latents)
        return self

    def refine(self, subject: str) -> SharedLatentDecoder:
        """Return a decoder for a new subject, to be fitted, that starts from the trunk.

        Parameters
        ----------
        subject : str

        Returns
        -------
        SharedLatentDecoder

        Raises
        ------
        ParameterError
            There is no trunk yet.
        SplitError
            The subject was in the pretraining.
        """
        if not hasattr(self, "pretrained_"):
            raise ParameterError(f"This {_OWNER} has no trunk. Expected `pretrain({{name: responses, ...}}, targets)` first.")
        if subject in self.pretrained_.subjects:
            raise SplitError(
                f"{_OWNER} was pretrained on {preview(self.pretrained_.subjects, 8)}, {subject!r} among them: a score of that subject would be of "
                "presentations that the trunk has seen. Expected another subject: pretrain without this one."
            )
        refined: SharedLatentDecoder = clone(self).set_params(pretrained=self.pretrained_)
        return refined

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn one subject's map into the latents, and then all parameters; without pretraining all from the first step.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
        Y : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations, or the targets not those of the pretraining.
        ParameterError
            After ``pretrain``, whose trunk would be lost.
        SplitError
            The trunk saw these responses, or this system, or has been trained since.
        """
        self._new = self._generator()
        if self.pretrained is None and self._left:
            raise ParameterError(
                f"{_OWNER} was pretrained on {preview(self._left, 8)}, and `fit` would leave that trunk and start from scratch. Expected the "
                "decoder of `refine(subject)`, or one without pretraining."
            )
        if self.pretrained is not None:
            refuse_seen(self.pretrained, X)
        self._stimuli = stimuli_of(X)
        return super().fit(X, Y)

    def predict(self, X: Any) -> Any:
        """Predict the target.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid[, time])

        Warns
        -----
        LeakWarning
            Of stimuli that are new to the subject, some were in the pretraining.
        """
        out = super().predict(X)
        if self.pretrained is not None:
            asked = stimuli_of(X)
            met = sorted((asked & self.pretrained.stimuli) - self._stimuli)
            if met:
                warnings.warn(
                    f"The trunk of {_OWNER} has learned the targets of {len(met)} of these {len(asked)} stimuli from others, first {met[0]}, and tells "
                    "them far better than stimuli that nobody saw. Expected a pretraining without the stimuli under test.",
                    LeakWarning,
                    stacklevel=2,
                )
        return out

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        before, self.status_ = self.pretrained, column_status(y)
        y = y[:, self.status_ != "nan"].astype(np.float64)
        split, _ = stopping_split(self.cv, self.groups, y, rows, _OWNER)
        if not y.shape[1]:
            return
        if before is not None and y.shape[1] != len(before.mean):
            raise AlignmentError(
                f"{_OWNER} got {y.shape[1]} targets without NaN. Expected the {len(before.mean)} that it was pretrained on."
            )
        self._mean = y[split[0]].mean(axis=0).astype(np.float32) if before is None else before.mean
        self._size = (float(y[split[0]].std(axis=0).mean()) or 1.0) if before is None else before.size
        self.network_ = SharedLatentNetwork([x.shape[1]], self.n_latents, self.width, y.shape[1], self._new)
        self._moments = _moments(x, split[0])
        part = self._part(*self._moments, x, (y - self._mean) / self._size, split)
        if before is None:
            self.initial_hash_ = hash_of(dict(self.network_.named_parameters()))
            self.step_ = self._trained([part], self.max_steps, self._new)
            return
        self.network_.trunk.load_state_dict(before.trunk)
        own, target = split[0], part[1].cpu().numpy()
        start = Ridge().fit(part[0].cpu().numpy()[own], before.latents.predict(target[own])).coef_
        self.network_.into[0].data.copy_(torch.as_tensor(start))
        self.initial_hash_ = hash_of(dict(self.network_.named_parameters()))
        self.network_.trunk.requires_grad_(False)
        self.step_ = self._trained([part], self.frozen_steps, self._new)
        if self.max_steps > self.frozen_steps:
            self.network_.trunk.requires_grad_(True)
            self.step_ += self._trained([part], self.max_steps - self.frozen_steps, self._new)

    def _predict_values(self, x: Values) -> Values:
        out = np.full((len(x), len(self.status_)), np.nan, dtype=np.float32)
        fitted = self.status_ != "nan"
        if fitted.any():
            mean, scale = self._moments
            with torch.no_grad():
                out[:, fitted] = self._mean + self._size * self.network_(self._tensor((x - mean) / scale), 0).cpu().numpy()
        return out

    def _part(self, mean: Values, scale: Values, x: Values, y: Values, split: Any) -> Part:
        return self._tensor((x - mean) / scale), self._tensor(y), split

    def _trained(self, parts: list[Part], steps: int, generator: torch.Generator, shared: Sequence[SharedRows] = ()) -> int:
        self.network_.to(parts[0][0].device)
        return train(
            self.network_, parts, contrast=self.contrast, alpha=self.alpha, steps=steps, patience=self.patience, batch_size=self.batch_size,
            learning_rate=self.learning_rate, weight_decay=self.weight_decay, generator=generator, alignment=self.alignment,
            shared=shared,
        )  # fmt: skip

    def _generator(self) -> torch.Generator:
        for name, low in (
            ("n_latents", 1),
            ("width", 1),
            ("frozen_steps", 1),
            ("max_steps", 1),
            ("patience", 1),
            ("batch_size", 2),
        ):
            check_number(name, getattr(self, name), owner=_OWNER, low=low, integer=True)
        check_number("contrast", self.contrast, owner=_OWNER, low=0, high=1)
        for name in ("alpha", "alignment", "weight_decay"):
            check_number(name, getattr(self, name), owner=_OWNER, low=0)
        check_number("learning_rate", self.learning_rate, owner=_OWNER, low=0, low_open=True)
        self.seed_ = check_random_state(self.random_state, owner=_OWNER)
        return torch.Generator().manual_seed(self.seed_ % 2**63)


def _moments(x: Values, own: Values) -> tuple[Values, Values]:
    scale = x[own].std(axis=0, dtype=np.float64)
    return x[own].mean(axis=0, dtype=np.float64), np.where(scale > 0, scale, np.inf)


def _shared(X: Mapping[str, Any], splits: Sequence[tuple[Values, Values]]) -> list[SharedRows]:
    """Return the training rows of each two subjects that are of the same stimuli."""
    seen = {
        k: pd.DataFrame({"stimulus": x.stimulus_id.values[own].astype(object), "row": own})
        for k, (x, (own, _)) in enumerate(zip(X.values(), splits, strict=True))
        if isinstance(x, xr.DataArray)
    }
    both = [(a, b, seen[a].merge(seen[b], on="stimulus")) for a, b in combinations(seen, 2)]
    found = [(a, b, rows.row_x.to_numpy(copy=True), rows.row_y.to_numpy(copy=True)) for a, b, rows in both if len(rows)]
    if not found:
        raise ParameterError(
            f"{_OWNER} got an alignment, and no stimulus that two of the subjects {preview(X, 8)} are trained on. Expected responses that "
            "name the same stimuli, or alignment=0."
        )
    return found

"""``ContrastiveDecoder``: which of many stimuli a series of responses belongs to, learned by telling them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.provenance import hash_array
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.engine.backend import whole_float32
from brainalign.engine.contrastive import ContrastiveNetwork, train
from brainalign.engine.moments import column_status
from brainalign.models.mapping import NetworkMapping, Values
from brainalign.models.places import GRID, SPACE
from brainalign.models.subjects import RidgeBySubject, stack_subjects, stopping_split, subject_codes, subject_labels


class ContrastiveDecoder(NetworkMapping):
    """Decode embeddings from series of responses, by a network that tells the embedding of a row from those of other stimuli.

    Attention over sensors by their places, where they have any; a layer for each subject; dilated convolutions in time; attention over
    time; and two heads. Responses without time go through the same network, which then is a perceptron. Where latencies are the
    same in all rows, ridge regression does as well or better with less: :func:`evaluate` and :func:`identify` score it beside,
    ``score_baseline``.

    Parameters
    ----------
    contrast : float
        λ, from 0 to 1: the loss is λ · contrast + (1 − λ) · squared error.
    head : {"contrast", "values"}
        Whose predictions these are: of the head that tells stimuli apart, which are directions and all of one length; or of that
        which predicts the target's values.
    width, depth : int
        Channels of the network, and its blocks of convolutions; the dilation doubles from block to block.
    dropout : float
        Sensors within this radius of a random place are lost at each step of the training, in units of the longest side of the
        array; without places, this share of all.
    max_steps : int
        Of AdamW, at most.
    patience : int
        Stop after so many steps without improvement on held-out training rows; the best step is kept.
    batch_size : int
        Presentations a step, each of which is told from all others but those of its own stimulus.
    learning_rate, weight_decay : float
        Of AdamW.
    cv, groups : see :class:`Ridge`
        The first inner fold holds the rows on which training stops. They share no stimulus and no group with the rows that are trained
        on; rows of the target with the same values are one stimulus where they have no names.
    random_state : int, Generator or None
        Of the start, the batches and the sensors that are lost. The same on one CPU gives the same result.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Attributes
    ----------
    network_ : torch.nn.Module
    subjects_ : ndarray of str, (subject,)
        Of the source's presentation coordinate ``subject``.
    initial_hash_ : str
        Of all parameters before the first step; the same in every fold.
    step_ : int
        The step that was kept.
    status_ : ndarray of str, (target,)
        ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.
    seed_ : int

    Notes
    -----
    Several subjects, whose sensors are the same: a dict of them, or one recording with the presentation coordinate ``subject``, for
    which :func:`evaluate` and :func:`identify` want ``repeats="keep"``. Targets are centred, and divided by one number.
    Source: Défossez et al. 2023 and Benchetrit et al. 2024, from their equations.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> target, late = rng.normal(size=(400, 4)), rng.integers(3, 17, size=400)    # each response comes at its own time
    >>> meg = 0.3 * rng.normal(size=(400, 4, 20))
    >>> meg[np.arange(400), :, late] += target
    >>> error = lambda model: np.square(model.fit(meg[:300], target[:300]).predict(meg[300:]) - target[300:]).mean()
    >>> bool(error(ba.ContrastiveDecoder(head="values", width=16, depth=1, max_steps=200)) < 0.5 * error(ba.Ridge()))
    True
    """

    def __init__(
        self,
        *,
        contrast: float = 0.75,
        head: str = "contrast",
        width: int = 64,
        depth: int = 4,
        dropout: float = 0.2,
        max_steps: int = 1000,
        patience: int = 200,
        batch_size: int = 128,
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-2,
        cv: Any = 5,
        groups: Any = None,
        random_state: int | np.random.Generator | None = 0,
        device: str = "cpu",
    ) -> None:
        self.contrast = contrast
        self.head = head
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.max_steps = max_steps
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.cv = cv
        self.groups = groups
        self.random_state = random_state
        self.device = device

    def baseline(self) -> RidgeBySubject:
        """Return what is scored beside this: ridge regression from every neuroid at every time, for each subject alone."""
        return RidgeBySubject(self.groups if isinstance(self.groups, str) else None)

    def fit(self, X: Any, Y: Any) -> Self:
        """Train the network.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time]), or dict of DataArray by subject
            With ``x_mm``, ``y_mm`` (``z_mm``), or ``channel_x``, ``channel_y``, where sensors have places.
        Y : DataArray or ndarray, (presentation, neuroid[, time]), or dict of them
            The embeddings. One for all subjects of a dict is looked up by ``stimulus_id``.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations, or subjects have other sensors than the first.
        SplitError
            A stimulus or a group is trained on and stopped by.
        """
        self._check()
        self.seed_ = check_random_state(self.random_state, owner="ContrastiveDecoder")
        if isinstance(X, Mapping):
            X, Y = stack_subjects(X, Y, "ContrastiveDecoder")
        self.subjects_, self._subject = np.unique(subject_labels(X), return_inverse=True)
        self._places, self._n_times = _places(X), X.shape[2] if np.ndim(X) == 3 else 1
        return super().fit(X, Y)

    def predict(self, X: Any) -> Any:
        """Decode the embeddings.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time]), or dict of DataArray by subject

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid[, time]), or dict of them

        Raises
        ------
        AlignmentError
            Other features, or another subject, than in ``fit``.
        """
        if isinstance(X, Mapping):
            named = {name: x.assign_coords(subject=("presentation", as_labels([name] * len(x)))) for name, x in X.items()}
            return {name: self.predict(x) for name, x in named.items()}
        x = self._full(self._features(X))
        subject = torch.as_tensor(subject_codes(X, self.subjects_, "ContrastiveDecoder"), device=x.device)
        ok = self.status_ == "ok"
        flat = np.full((len(x), len(ok)), np.nan, dtype=np.float32)
        if ok.any():
            flat[:, ok] = self._mean + self._size * self._found(x, subject)
        return self._labelled(flat.reshape(len(flat), *self.target_shape_), X, "predict")

    def _found(self, x: torch.Tensor, subject: torch.Tensor) -> Values:
        """Return what the head says, as targets are: centred, in units of their size."""
        with torch.no_grad(), whole_float32():
            blocks = zip(torch.split(x, self.batch_size), torch.split(subject, self.batch_size), strict=True)
            parts = [self.network_(*rows) for rows in blocks]
        told, values = (np.asarray(torch.cat(head).cpu()) for head in zip(*parts, strict=True))
        if self.head == "values":
            return values
        lengths = np.linalg.norm(told, axis=1, keepdims=True)
        return np.asarray(told / np.where(lengths > 0, lengths, 1) * told.shape[1] ** 0.5)

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        self.status_ = column_status(y)
        y = y[:, self.status_ == "ok"].astype(np.float64)
        split, stimulus = stopping_split(self.cv, self.groups, y, rows, "ContrastiveDecoder")
        if not y.shape[1]:
            return
        self._mean = y[split[0]].mean(axis=0).astype(np.float32)
        self._size = float(y[split[0]].std(axis=0).mean()) or 1.0
        features = self._full(x)
        generator = torch.Generator().manual_seed(self.seed_ % 2**63)
        mean, scale = self._moments(features.cpu().numpy(), split[0])
        self.network_ = ContrastiveNetwork(
            mean, scale, self._n_times, y.shape[1], self._places, self.width, self.depth, generator
        )
        self.initial_hash_ = hash_array(torch.nn.utils.parameters_to_vector(self.network_.parameters()).detach().numpy())
        self.network_.to(features.device)
        target = torch.as_tensor((y - self._mean) / self._size, dtype=torch.float32, device=features.device)
        subject, same = (torch.as_tensor(codes, device=features.device) for codes in (self._subject, stimulus))
        self.step_ = train(
            self.network_, features, target, subject, same, split, contrast=self.contrast, dropout=self.dropout, steps=self.max_steps,
            patience=self.patience, batch_size=self.batch_size, learning_rate=self.learning_rate, weight_decay=self.weight_decay,
            generator=generator,
        )  # fmt: skip
        if self.step_ == 0:
            raise ParameterError(
                f"The loss of ContrastiveDecoder was never a number within {self.max_steps} steps: the training diverged. Expected a smaller "
                f"learning_rate than {self.learning_rate!r}."
            )
        self.network_.requires_grad_(False)

    def _moments(self, x: Values, own: Values) -> tuple[Values, Values]:
        """Return each subject's mean at every sensor and time, and the scale of each sensor, over the rows that are trained on."""
        subject = self._subject[own]
        absent = np.flatnonzero(np.bincount(subject, minlength=len(self.subjects_)) == 0)
        if absent.size:
            raise SplitError(
                f"ContrastiveDecoder stops by all rows of the subject {preview(self.subjects_[absent])}, and would train on none. Expected some "
                "of each subject on both sides: group by stimulus or run."
            )
        means, scales = [], []
        for k in range(len(self.subjects_)):
            rows = x[own[subject == k]]
            means.append(rows.mean(axis=0, dtype=np.float64))
            scales.append(np.sqrt(rows.var(axis=0, dtype=np.float64).reshape(-1, self._n_times).mean(axis=1)))
        return np.stack(means), np.stack(scales)

    def _check(self) -> None:
        check_choice("head", self.head, ("contrast", "values"), owner="ContrastiveDecoder")
        for name in ("contrast", "dropout"):
            check_number(name, getattr(self, name), owner="ContrastiveDecoder", low=0, high=1)
        for name, low in (("width", 1), ("depth", 0), ("max_steps", 1), ("patience", 1), ("batch_size", 2)):
            check_number(name, getattr(self, name), owner="ContrastiveDecoder", low=low, integer=True)
        check_number("learning_rate", self.learning_rate, owner="ContrastiveDecoder", low=0, low_open=True)
        check_number("weight_decay", self.weight_decay, owner="ContrastiveDecoder", low=0)


def _places(X: Any) -> Values | None:
    """Return where sensors are, from 0 to 1 along the longest side; None where nothing says so, or they all are at one place."""
    known = coords_of(X, "neuroid") if isinstance(X, xr.DataArray) else {}
    axes = next(([known[name] for name in names if name in known] for names in (SPACE, GRID) if names[0] in known), [])
    if not axes:
        return None
    at = np.stack(axes, axis=1).astype(np.float64)
    lost = np.flatnonzero(~np.isfinite(at).all(axis=1))
    if lost.size:
        raise ParameterError(
            f"ContrastiveDecoder got {lost.size} of {len(at)} sensors without a place, at positions {preview(lost)}. Expected places for all or "
            "for none: drop these sensors, or the coordinates."
        )
    at = (at - at.min(axis=0)) / (np.ptp(at, axis=0).max() or 1.0)
    at = at[:, np.ptp(at, axis=0) > 0]
    return at if at.shape[1] else None

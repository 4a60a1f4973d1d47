"""Whether the parts that an attribution names matter: they are taken out of the stimuli, and the responses looked at again.

The same for a unit and a voxel: what is taken out is set to the baseline, in every piece of the responder that holds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.protocols import DifferentiableResponder, Piece, seeded
from brainalign.core.provenance import responder_params, write_step
from brainalign.core.tables import coords_of
from brainalign.engine.agreement import cosines
from brainalign.engine.moments import Numbers
from brainalign.features.recorded import as_stimuli
from brainalign.neurons.addresses import find_neuroids, names_of
from brainalign.neurons.attribution.inputs import Baseline, group_index
from brainalign.neurons.attribution.pieces import holds_no_stimulus

_COPIES = 64  # of a piece that go through the network at a time


def deletion_insertion(
    responder: Any,
    stimuli: xr.Dataset | xr.DataArray,
    attribution: xr.DataArray,
    *,
    baseline: Any = "zero",
    groups: Any = None,
    n_steps: int = 10,
    progress: bool | None = None,
) -> xr.Dataset:
    """Take out the parts with the highest attribution first, and put them in first, and follow the response.

    Parameters
    ----------
    responder : DifferentiableResponder
        The one that was attributed: a network layer, or the ``readout`` of a voxel.
    stimuli : Dataset, (presentation,), or DataArray, (presentation, neuroid)
        As they were attributed.
    attribution : DataArray, (presentation, neuroid, ...)
        From :func:`attribute`, to the input; or any map with its dims and labels.
    baseline : {"zero", "mean"}, array or callable
        What takes the place of a part, as in :func:`attribute`.
    groups : DataArray or array_like, optional
        Those of the attribution, where it has any.
    n_steps : int
        Portions in which parts go.
    progress : bool or None
        As in :func:`evaluate`, over portions.

    Returns
    -------
    Dataset
        ``deletion`` and ``insertion`` (presentation, neuroid, removed), as shares of the change from baseline to stimulus, with the
        coordinate ``removed`` from 0 to 1 (of ``insertion`` the share that was put in); ``deletion_auc``, ``insertion_auc``, and
        ``score``, the second less the first: (presentation, neuroid). 0 is what an order without meaning gives on average. NaN where a
        response does not change from baseline to stimulus.

    Raises
    ------
    ParameterError, AlignmentError
        The attribution is not one of these stimuli's parts.

    Notes
    -----
    Parts are sorted by signed attribution where the stimulus raises a response above the baseline, and by its negative where it lowers it.
    Of a response that adds up over parts, no order has a higher score than that of the parts' true effects, and a random one has 0: the
    area under each curve is then one half. Source: Petsiuk, Das and Saenko 2018.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 3)), layers="0", system="net")
    >>> x = ba.stimuli.table(np.random.default_rng(0).normal(size=(5, 6)), stimulus_id=list("abcde"), kind="array")
    >>> out = ba.neurons.deletion_insertion(net, x, ba.attribute(net, x), n_steps=6)
    >>> bool((out.score > 0).all())
    True
    """
    check_number("n_steps", n_steps, owner="deletion_insertion", low=1, integer=True)
    asked = _Removal(responder, stimuli, attribution, baseline, groups, "deletion_insertion")
    values = asked.values
    order = np.argsort(-values * asked.direction[..., None], axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[-1]), -1)
    cuts = np.round(np.linspace(0, order.shape[-1], n_steps + 1)).astype(np.int64)
    curves = np.empty((2, *values.shape[:2], n_steps + 1))
    for k, cut in enumerate(progress_bar(cuts, progress=progress, desc="portions")):
        curves[0, :, :, k] = asked.without(rank < cut)
        curves[1, :, :, k] = asked.without(rank >= cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (curves - asked.start[..., None]) / (asked.end - asked.start)[..., None]
    shares[:, asked.end == asked.start] = np.nan
    removed = cuts / order.shape[-1]
    deleted, inserted = np.trapezoid(shares, removed, axis=-1)
    pair = ("presentation", "neuroid")
    found = {"deletion": ((*pair, "removed"), shares[0]), "insertion": ((*pair, "removed"), shares[1]), "deletion_auc": (pair, deleted),
             "insertion_auc": (pair, inserted), "score": (pair, inserted - deleted)}  # fmt: skip
    return asked.labelled(found, {"n_steps": n_steps}, removed=removed)


def removal_agreement(
    responder: Any,
    stimuli: xr.Dataset | xr.DataArray,
    attribution: xr.DataArray,
    *,
    baseline: Any = "zero",
    groups: Any = None,
    n_removed: int | None = None,
    n_draws: int = 50,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Compare what sets of parts are said to contribute with what is lost where they are taken out.

    Parameters
    ----------
    responder, stimuli, attribution, baseline, groups
        As in :func:`deletion_insertion`.
    n_removed : int, optional
        Parts in a set. Default: each part is in it with probability one half.
    n_draws : int
        Sets, the same for all presentations and neuroids.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over sets.

    Returns
    -------
    Dataset
        ``score``, the correlation over sets of the summed attribution with the loss (sensitivity-n), and ``infidelity``, the mean squared
        difference of the two, in the squared unit of the response: (presentation, neuroid). Score 1 and infidelity 0: each sum is what
        is lost. NaN where no loss differs from another.

    Raises
    ------
    ParameterError, AlignmentError

    Notes
    -----
    Sources: Ancona et al. 2018 (sensitivity-n); Yeh et al. 2019, definition 2.1, with the removed part of the input as the perturbation
    and attributions that are multiplied with it.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 3)), layers="0", system="net")
    >>> x = ba.stimuli.table(np.random.default_rng(0).normal(size=(5, 6)), stimulus_id=list("abcde"), kind="array")
    >>> out = ba.neurons.removal_agreement(net, x, ba.attribute(net, x, method="gradient-times-input"), random_state=0)
    >>> out.score.values.min().round(4).item(), bool((out.infidelity < 1e-10).all())
    (1.0, True)
    """
    check_number("n_draws", n_draws, owner="removal_agreement", low=2, integer=True)
    seed = check_random_state(random_state, owner="removal_agreement")
    asked = _Removal(responder, stimuli, attribution, baseline, groups, "removal_agreement")
    n_parts, rng = asked.values.shape[-1], np.random.default_rng(seed)
    if n_removed is None:
        sets = rng.random((n_draws, n_parts)) < 0.5
    else:
        check_number("n_removed", n_removed, owner="removal_agreement", low=1, high=n_parts, integer=True)
        sets = rng.permuted(np.tile(np.arange(n_parts) < n_removed, (n_draws, 1)), axis=1)
    said = np.einsum("pnk,dk->pnd", asked.values, sets, optimize=True)
    shown = progress_bar(sets, progress=progress, desc="sets")
    lost = np.stack([asked.end - asked.without(np.broadcast_to(own, asked.values.shape)) for own in shown], axis=-1)
    score = cosines(*(x - x.mean(axis=-1, keepdims=True) for x in (said, lost)))
    pair = ("presentation", "neuroid")
    found = {"score": (pair, score), "infidelity": (pair, ((said - lost) ** 2).mean(axis=-1))}
    return asked.labelled(found, {"n_removed": n_removed, "n_draws": n_draws}, seed=seed)


class _Removal:
    """A responder whose stimuli lose parts."""

    def __init__(self, responder: Any, stimuli: Any, attribution: xr.DataArray, baseline: Any, groups: Any, owner: str) -> None:
        if not isinstance(responder, DifferentiableResponder):
            raise ParameterError(
                f"{owner} got a {type(responder).__name__}, which has no `pieces`. Expected the responder of the attribution."
            )
        self.owner, self.attribution, self.responder = owner, attribution, (responder := seeded(responder))
        self.stimuli = stimuli = as_stimuli(stimuli)
        self.rows = _rows_of(responder, stimuli, attribution, owner)
        self.columns, _ = find_neuroids(responder.neuroids(stimuli), names_of(attribution)[1], owner=owner)
        values = attribution.transpose("presentation", "neuroid", ...).values.astype(np.float64)
        self.values: Numbers = values.reshape(*values.shape[:2], -1)
        self.tail = values.shape[2:]
        self.groups = groups
        self.baseline = Baseline(baseline, responder, stimuli, n_draws=1, seed=0)
        self.end = self.without(np.zeros(self.values.shape, dtype=bool))
        self.start = self.without(np.ones(self.values.shape, dtype=bool))

    @property
    def direction(self) -> Numbers:
        """1 where the stimulus raises a response, -1 where it lowers it."""
        return np.where(self.end >= self.start, 1.0, -1.0)

    def without(self, removed: Numbers) -> Numbers:
        """Return responses after parts were set to the baseline, (presentation, neuroid) from bool (presentation, neuroid, part)."""
        out = np.zeros(removed.shape[:2])
        for piece in self.responder.pieces(self.stimuli, self.rows):
            inside = np.flatnonzero(np.isin(piece.rows, self.rows))
            position = np.searchsorted(self.rows, piece.rows[inside])
            if holds_no_stimulus(piece):
                with torch.no_grad():
                    out[position] += piece.forward(piece.inputs)[inside][:, self.columns].double().cpu().numpy()
                continue
            codes = self._codes(piece)
            asked = removed[position]
            # Rows, and neuroids, that lose the same parts share a pass; where each input is a row, all rows do.
            masks = asked.transpose(1, 0, 2)[:, None] if piece.parts is None else asked.transpose(1, 0, 2)[:, :, None]
            out[position] += _responses(piece, masks, codes, inside, self.columns, self.baseline)
        return out

    def _codes(self, piece: Piece) -> torch.Tensor:
        """Return to which part each element of the inputs belongs, (batch or 1, ...); -1: to none."""
        if piece.parts is not None:
            return torch.as_tensor(np.asarray(piece.parts))
        shape = tuple(piece.inputs.shape[1:])
        if self.groups is not None:
            codes, labels = group_index(self.groups, shape, piece.dims)
            n = len(labels)
        else:
            n = int(np.prod(shape))
            codes = torch.arange(n).reshape(1, *shape)
        if n != self.values.shape[-1]:
            raise AlignmentError(
                f"{self.owner} got an attribution to {self.values.shape[-1]} parts {self.tail} of inputs with {n}. Expected one to the input, "
                "and its `groups` where it has any."
            )
        return codes

    def labelled(self, found: dict[str, Any], params: dict[str, Any], *, seed: int | None = None, **coords: Any) -> xr.Dataset:
        labels = {name: (dim, v) for dim in ("presentation", "neuroid") for name, v in coords_of(self.attribution, dim).items()}
        out = xr.Dataset(
            found, coords=labels | coords, attrs={**params, "baseline": self.baseline.label, "direction": "higher is better"}
        )
        inputs = {"stimuli": self.stimuli, "attribution": self.attribution}
        return write_step(out, self.owner, params=params | responder_params(self.responder), inputs=inputs, seed=seed)


def _responses(piece: Piece, masks: Numbers, codes: torch.Tensor, rows: Numbers, columns: Numbers, baseline: Baseline) -> Numbers:
    """Return (row, neuroid) responses; masks are (neuroid, 1 or row, row or 1, part): the second and third say what a pass serves."""
    inputs = piece.inputs.detach()
    start: Callable[[torch.Tensor], torch.Tensor] = baseline.starts(piece)
    other = start(torch.zeros(1, dtype=torch.int64))[0]
    n_neuroids, n_passes, _, n_parts = masks.shape
    flat = masks.reshape(n_neuroids * n_passes, -1, n_parts)
    unique, back = np.unique(flat, axis=0, return_inverse=True)
    found = []
    with torch.no_grad():
        for start_at in range(0, len(unique), _COPIES):
            some = torch.as_tensor(unique[start_at : start_at + _COPIES], device=inputs.device)
            if piece.parts is None:
                full = torch.zeros(len(some), len(inputs), n_parts, dtype=torch.bool, device=inputs.device)
                full[:, torch.as_tensor(rows)] = some
                gone = full[:, :, codes[0].flatten()].reshape(len(some), *inputs.shape)
            else:
                held = torch.cat([some[:, 0], torch.zeros(len(some), 1, dtype=torch.bool, device=inputs.device)], dim=1)
                gone = held[:, codes.to(inputs.device)]  # -1 is the last: never
                gone = gone.reshape(*gone.shape, *[1] * (inputs.ndim + 1 - gone.ndim))
            x = torch.where(gone, other, inputs).flatten(0, 1)
            found.append(piece.forward(x).reshape(len(some), len(piece.rows), -1)[:, rows][:, :, columns].double().cpu().numpy())
    out = np.concatenate(found)[back.ravel()].reshape(n_neuroids, n_passes, len(rows), n_neuroids)
    own = np.arange(n_neuroids)
    if piece.parts is None:
        return np.asarray(out[own, 0, :, own].T)
    return np.asarray(out[own[None, :], np.arange(n_passes)[:, None], np.arange(n_passes)[:, None], own[None, :]])


def _rows_of(responder: Any, stimuli: xr.Dataset, attribution: xr.DataArray, owner: str) -> Numbers:
    """Return which of the responder's presentations an attribution is of."""
    table = responder.presentations(stimuli)
    names = [name for name in ("stimulus_id", "run", "repetition") if name in table and name in attribution.coords]
    ours = table[names].astype(str).agg("/".join, axis=1)
    theirs = ["/".join(map(str, row)) for row in zip(*(attribution[name].values.tolist() for name in names), strict=True)]
    position = {name: i for i, name in enumerate(ours)}
    at = np.array([position.get(name, -1) for name in theirs])
    if (at < 0).any() or (np.diff(at) <= 0).any():
        raise AlignmentError(
            f"{owner} got an attribution of {len(theirs)} presentations, {int((at < 0).sum())} of which the responder does not answer for, or in "
            "another order. Expected what `ba.attribute` returns for these stimuli."
        )
    return at

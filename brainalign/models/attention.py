"""``AttentionReadout``: mappings whose receptive fields move with the stimulus."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.schema import as_labels, group_label
from brainalign.engine.attention import AttentionNetwork, fit_readouts, sine_code, train
from brainalign.engine.moments import column_status, deviations
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import NetworkMapping, Values
from brainalign.models.places import field_of_view

#: Penalties of the linear readouts, in units of the summed variance of what a query sees.
RELATIVE_ALPHAS = np.logspace(-3, 4, 15)


class AttentionReadout(NetworkMapping):
    """Readout by attention: queries that find their token by its content, by its place, or by both.

    A = softmax(q · (M K + code) / √d) over tokens, ŷ = w · (A M) + b. The code of places is added to keys only, so that what
    is read is content. Queries and keys are learned by gradient descent; the linear readouts are then fitted by ridge
    regression, with an alpha for each target.

    Parameters
    ----------
    queries : str
        ``"region"``: one for each region of the target (layer, where it has layers). ``"neuroid"``: one for each neuroid. Or
        another coordinate of the target's neuroids.
    n_heads : int
        Places that each query may look at, each with keys and readout weights of its own.
    width : int
        d, of queries, keys and the code of places.
    max_steps : int
        Of AdamW, at most.
    patience : int
        Stop after so many steps without improvement on held-out rows; the best step is kept.
    batch_size : int
        Presentations a step, and at a time in ``predict``: memory follows it.
    learning_rate, weight_decay : float
        Of AdamW.
    cv, groups : see :class:`Ridge`
        The first inner fold holds the rows on which training stops and alphas are compared.
    random_state : int, Generator or None
        Of the start and of the batches. The same on one CPU gives the same result.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Attributes
    ----------
    network_ : torch.nn.Module
        Flattened features to targets, differentiable: what ``predict`` and ``readout`` run.
    alpha_, alpha_at_edge_, cv_score_, status_
        As in :class:`Ridge`; ``cv_score_`` is of the one inner fold.
    queries_ : ndarray, (query,)
        Whose queries these are.
    step_ : int
        The step that was kept.
    seed_ : int

    Raises
    ------
    CapabilityError
        In ``fit``: the source has no tokens, grid or coordinates, or several grids; the target has no such labels.

    Notes
    -----
    Source: Adeli et al. 2025 (transformer brain encoder), without its feed-forward block. On receptive fields that do not move,
    :class:`SpatialReadout` needs less data.

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> tokens, at = rng.normal(size=(200, 9, 4)), rng.integers(9, size=200)     # presentation, token, unit
    >>> tokens[np.arange(200), at, 0] += 6                                       # one of them is marked
    >>> y = tokens[np.arange(200), at, 1:]                                       # the target reads the marked one
    >>> model = ba.AttentionReadout("neuroid", max_steps=200).fit(tokens, y)
    >>> bool((model.cv_score_ > 0.5).all())
    True
    """

    def __init__(
        self,
        queries: str = "region",
        *,
        n_heads: int = 1,
        width: int = 32,
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
        self.queries = queries
        self.n_heads = n_heads
        self.width = width
        self.max_steps = max_steps
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.cv = cv
        self.groups = groups
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn queries, keys and readouts.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time]), or ndarray, (presentation, token, unit) or (presentation, channel, y, x)
            With ``token``, ``channel_x`` and ``channel_y``, or ``x_mm``, ``y_mm``, ``z_mm``.
        Y : DataArray or ndarray, (presentation, neuroid[, time])

        Returns
        -------
        self
        """
        for name in ("n_heads", "max_steps", "patience", "batch_size"):
            check_number(name, getattr(self, name), owner="AttentionReadout", low=1, integer=True)
        check_number("learning_rate", self.learning_rate, owner="AttentionReadout", low=0, low_open=True)
        check_number("weight_decay", self.weight_decay, owner="AttentionReadout", low=0)
        self.tokens_ = field_of_view(X, owner="AttentionReadout", tokens=True).one_grid("AttentionReadout")
        check_number("width", self.width, owner="AttentionReadout", low=2 * self.tokens_.points.shape[1], integer=True)
        self.seed_ = check_random_state(self.random_state, owner="AttentionReadout")
        self._codes, self._names = self._query_labels(Y)
        return super().fit(X, Y)

    def attention(self, X: Any) -> xr.DataArray:
        """Return where each query looks, presentation by presentation.

        Parameters
        ----------
        X : DataArray or ndarray
            The features of ``fit``, for any presentations.

        Returns
        -------
        DataArray of float32, (presentation, query, token)
            Sums to 1 over tokens; the mean over heads. The coordinates of ``query`` are the labels of the target, those of
            ``token`` the places in the source.
        """
        x = self._full(self._features(X))
        maps = []
        with torch.no_grad():
            for rows in x.split(self.batch_size):
                maps.append(self.network_.attend(self.network_.tokens(rows)).mean(2).cpu())
        rows = (
            {name: c.variable for name, c in X.coords.items() if c.dims == ("presentation",)}
            if isinstance(X, xr.DataArray)
            else {}
        )
        places = {name: ("token", values) for name, values in self.tokens_.places.items()}
        coords = {**rows, **places, "query": ("query", self.queries_)}
        return xr.DataArray(torch.cat(maps).numpy(), dims=("presentation", "query", "token"), coords=coords, name="attention")

    def _query_labels(self, Y: Any) -> tuple[Values, Values]:
        """Return the query of each target (flat), and the names of the queries."""
        shape = np.shape(Y)[1:] or (1,)
        labelled = isinstance(Y, xr.DataArray)
        if self.queries == "neuroid":
            names = Y.coords["neuroid_id"].values if labelled else np.arange(shape[0])
            return np.repeat(np.arange(shape[0]), int(np.prod(shape[1:]))), names
        if not labelled:
            raise CapabilityError(
                f"AttentionReadout(queries={self.queries!r}) got a plain target array, which has no such label. Expected responses: build them "
                "with `ba.responses(..., region=...)`, or use queries='neuroid'."
            )
        name = group_label(Y) if self.queries == "region" else self.queries
        if name is None or name not in Y.coords or "presentation" in Y.coords[name].dims:
            known = sorted(str(c) for c in Y.coords if Y.coords[c].dims == ("neuroid",))
            raise CapabilityError(
                f"AttentionReadout(queries={self.queries!r}) got a target with the neuroid labels {', '.join(known)}. Expected "
                f"{'`region` or `layer`' if self.queries == 'region' else f'`{self.queries}`'} among them: assign it with "
                "`y.assign_coords(region=('neuroid', labels))`, or use queries='neuroid'."
            )
        labels = np.broadcast_to(Y.coords[name].values, shape[:1])
        names, first, codes = np.unique(labels, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return np.repeat(np.argsort(order)[codes], int(np.prod(shape[1:]))), names[order]

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        self.status_ = column_status(y)
        ok = np.flatnonzero(self.status_ == "ok")
        split = inner_splits(self.cv, self.groups, len(y), rows)[0]
        kept, query = np.unique(self._codes[ok] if ok.size else np.zeros(1, dtype=int), return_inverse=True)
        self.queries_ = as_labels(self._names[kept])
        features = self._full(x)
        generator = torch.Generator().manual_seed(self.seed_ % 2**63)
        self.network_ = self._network(features[torch.as_tensor(split[0])], len(kept), generator)
        centred = deviations(y[:, ok])
        scale = centred.std(axis=0)
        targets = torch.as_tensor((centred / scale).astype(np.float32), device=features.device)
        query, self.step_ = query[: len(ok)], 0
        if ok.size:
            self.step_ = train(
                self.network_, features, targets, query, split, steps=self.max_steps, patience=self.patience, batch_size=self.batch_size,
                learning_rate=self.learning_rate, weight_decay=self.weight_decay, generator=generator,
            )  # fmt: skip
        self._fit_readouts(features, targets, query, split, ok, scale, y)

    def _fit_readouts(
        self, features: torch.Tensor, targets: torch.Tensor, query: Values, split: Any, ok: Values, scale: Values, y: Values
    ) -> None:
        n_targets, width = y.shape[1], self.network_.weight.shape[0]
        weight, bias = np.zeros((width, n_targets)), np.full(n_targets, np.nan)
        reads = np.full(n_targets, -1 if ok.size else 0)
        reads[ok] = query
        self.alpha_, self.cv_score_ = np.full(n_targets, np.nan), np.full(n_targets, np.nan)
        self.alpha_at_edge_ = np.zeros(n_targets, dtype=bool)
        spread = (deviations(targets.cpu().numpy()[split[1]]) ** 2).sum(axis=0)
        spread[spread == 0] = np.nan  # nothing varies in the held-out rows
        for own, fitted, found in fit_readouts(
            self.network_, features, targets, query, RELATIVE_ALPHAS, [split], self.batch_size
        ):
            at = ok[own]
            weight[:, at] = found * scale[own]
            bias[at] = y[:, at].mean(axis=0, dtype=np.float64) - np.asarray(fitted.factor.mean) @ weight[:, at]
            self.alpha_[at], self.cv_score_[at] = fitted.alpha, 1 - fitted.error / spread[own]
            self.alpha_at_edge_[at] = (fitted.alpha_index == 0) | (fitted.alpha_index == len(RELATIVE_ALPHAS) - 1)
        self.network_.read(weight, bias, reads)
        self.network_.to(features.device).requires_grad_(False)

    def _network(self, features: torch.Tensor, n_queries: int, generator: torch.Generator) -> AttentionNetwork:
        """Return an untrained network, whose channels are standardised by the rows that it will train on."""
        columns = self.tokens_.columns
        means, variances = (
            part.cpu().numpy()[columns].astype(np.float64) for part in (features.mean(0), features.var(0, correction=0))
        )
        mean = means.mean(axis=0)
        scale = np.sqrt((variances + (means - mean) ** 2).mean(axis=0))
        code = sine_code(self.tokens_.points, self.tokens_.cell, self.width)
        scale = np.where(scale > 0, scale, 1.0)
        used = self.features_used_
        return AttentionNetwork(columns, used, mean, scale, code, n_queries, self.n_heads, generator)

    def _predict_values(self, x: Values) -> Values:
        with torch.no_grad():
            return torch.cat([self.network_(rows).cpu() for rows in self._full(x).split(self.batch_size)]).numpy()

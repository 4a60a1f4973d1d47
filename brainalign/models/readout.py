"""``readout``: a network composed with a fitted mapping is a responder, so a voxel is one more neuron.

Presentation steps and affine steps are linear in the features, so a whole chain is one affine map
``F -> sum_i M_i F A_i + b`` of the word (or image) features ``F``. Here it is a short sequence of sparse mixings and
affine layers in torch, exact and differentiable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import xarray as xr

from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.protocols import DifferentiableResponder, InnerResponder, Piece
from brainalign.core.provenance import hash_array
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of, numbered, positions_among
from brainalign.features.chain import Chain, is_mixing
from brainalign.features.mixing import table_of
from brainalign.features.recorded import behind_recording
from brainalign.models.affine import Affine, Mixing, Network, affine_steps, compose, in_steps, share_of
from brainalign.models.readout_pieces import Pieces, behind, constant_piece, contribution
from brainalign.models.readout_refits import Refittable, as_chain


class Readout(Refittable):
    """The responder that :func:`readout` returns: features of a backbone, mapped to the target's neuroids.

    Parameters
    ----------
    backbone : DifferentiableResponder
    model : Chain
        Fitted.
    presentations : DataFrame or None
        The output rows, where the chain retimes.
    scores : Dataset, optional
        Held-out scores of the mapping.

    Attributes
    ----------
    given : Chain
        As it was fitted; ``model`` is in steps.
    scores : dict of str to ndarray, (neuroid,)
        How well the mapping predicts its targets: ``mapping_score``, and ``mapping_p_value`` and ``ceiling`` where they are known.
    """

    def __init__(
        self, backbone: DifferentiableResponder, model: Chain, presentations: pd.DataFrame | None, scores: Any = None
    ) -> None:
        self.backbone, self.given, self._rows = backbone, model, presentations
        self.model = model = in_steps(model)
        mapping = model.steps_[-1]
        coords = _class_coords(mapping) if mapping.is_classifier else _target_coords(mapping)
        self._groups = _groups(coords)
        self.system = str(coords["system"][0])
        self.modality = str(mapping.target_attrs_.get("modality", "behaviour"))
        self.deterministic = backbone.deterministic
        self.causal_scope = getattr(backbone, "causal_scope", "model")
        *steps, last = affine_steps(model)
        order = np.concatenate([columns for _, columns, _ in self._groups])
        self._affine = [*steps, last.take(torch.as_tensor(order))]
        known = _inner_scores(mapping, len(order)) if scores is None else _given_scores(scores, coords)
        self.scores = {name: values[order] for name, values in known.items()}

    def fingerprint(self) -> str:
        """Return a hash of the backbone, of every fitted map and of the options of every presentation step."""
        maps = [hash_array(t.cpu().numpy()) for step in self._affine for t in step.tensors()]
        text = "|".join([self.backbone.fingerprint(), *maps, *(repr(step) for step in self.model.steps)])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def presentations(self, stimuli: xr.Dataset) -> pd.DataFrame:
        """Return the presentations that the readout answers for.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        DataFrame
        """
        if not self.model.retimes:
            return self.backbone.presentations(stimuli)
        return self._rows

    def neuroids(self, stimuli: xr.Dataset) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Return the coordinates of the target's neuroids, by layer or region where they have one.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        dict of str to dict of str to ndarray
        """
        return {name: coords for name, _, coords in self._groups}

    def blocks(self, stimuli: xr.Dataset, batch_size: int) -> list[slice]:
        """Return the runs of rows that are computed together: whole runs where presentations are mixed.

        Parameters
        ----------
        stimuli : Dataset
        batch_size : int
            For the backbone.

        Returns
        -------
        list of slice
        """
        if not self.model.mixes:
            return self.backbone.blocks(stimuli, batch_size)
        table = self.presentations(stimuli)
        runs = table["run"].to_numpy() if "run" in table else np.zeros(len(table))
        starts = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
        return [slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], len(table)], strict=True)]

    def respond(self, stimuli: xr.Dataset, rows: slice) -> dict[str, np.ndarray[Any, Any]]:
        """Return the predicted responses of one block.

        Parameters
        ----------
        stimuli : Dataset
        rows : slice

        Returns
        -------
        dict of str to ndarray, (row, neuroid) float32
        """
        self._width(stimuli)
        wanted = np.arange(len(self.presentations(stimuli)))[rows]
        steps, needed = self._restrict_to(stimuli, wanted)
        features = self._features(stimuli, needed)
        with torch.no_grad():
            out = compose(steps)(torch.as_tensor(features, dtype=torch.float32))
        edges = np.cumsum([0, *(len(columns) for _, columns, _ in self._groups)])
        return {name: out[:, a:b].numpy() for (name, _, _), a, b in zip(self._groups, edges[:-1], edges[1:], strict=True)}

    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return the backbone's pieces, each followed by its share of the affine map.

        Parameters
        ----------
        stimuli : Dataset
        rows : ndarray of int, optional
            Output rows wanted; default all.

        Returns
        -------
        sequence of Piece
            Made on demand. The outputs of several pieces for one row add up; constants are a piece of their own.
        """
        width = self._width(stimuli)
        wanted = np.arange(len(self.presentations(stimuli))) if rows is None else np.asarray(rows)
        if not self.model.mixes:
            steps = self._steps(stimuli)
            return Pieces(self.backbone.pieces(stimuli, wanted), lambda piece: behind(piece, steps, width))
        cut, needed = self._restrict_to(stimuli, wanted)

        def carry_on(piece: Piece) -> Piece:
            local = np.flatnonzero(np.isin(piece.rows, needed))
            share, reached = share_of(cut, np.searchsorted(needed, piece.rows[local]))
            return contribution(piece, local, share, wanted[reached], width)

        constant = constant_piece(compose(cut)(torch.zeros(len(needed), width)), wanted)
        return Pieces(self.backbone.pieces(stimuli, needed), carry_on, constant)

    def inner_layers(self, layers: str | Sequence[str] = "**") -> list[str]:
        """Return the names of the backbone's inner layers that match.

        Parameters
        ----------
        layers : str or sequence of str

        Returns
        -------
        list of str
        """
        return self._inner().inner_layers(layers)

    def inner_coords(self, layer: str, shape: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the coordinates of one row of an inner layer of the backbone, in flat order.

        Parameters
        ----------
        layer : str
        shape : sequence of int

        Returns
        -------
        dict of str to ndarray
        """
        return self._inner().inner_coords(layer, shape)

    def reading(self, layers: Iterable[str]) -> AbstractContextManager[Mapping[str, Any]]:
        """Read inner layers of the backbone while the readout runs.

        Parameters
        ----------
        layers : iterable of str

        Returns
        -------
        context manager
        """
        return self._inner().reading(layers)

    def altering(self, changes: Mapping[str, Callable[[Any], Any]], *, copies: int = 1) -> AbstractContextManager[None]:
        """Alter inner layers of the backbone while the readout runs.

        Parameters
        ----------
        changes : mapping of str to callable
        copies : int

        Returns
        -------
        context manager
        """
        return self._inner().altering(changes, copies=copies)

    def _inner(self) -> InnerResponder:
        if isinstance(self.backbone, InnerResponder):
            return self.backbone
        raise CapabilityError(
            f"The backbone of this readout, a {type(self.backbone).__name__}, has no inner layers to read or alter. Expected `reading` and "
            "`altering`, as of ba.TorchResponder or ba.TransformersResponder."
        )

    def _steps(self, stimuli: xr.Dataset) -> list[Affine | Mixing | Network]:
        tables, table = iter(self._affine), table_of(stimuli)
        steps: list[Affine | Mixing | Network] = []
        for step in self.model.steps_[:-1]:
            if is_mixing(step):
                steps.append(Mixing(tuple(sp.csr_matrix(m) for m in step.mixing(table, self._rows))))
                table = self._rows if step.retimes else table
            else:
                steps.append(next(tables))
        return [*steps, next(tables)]

    def _restrict_to(
        self, stimuli: xr.Dataset, wanted: np.ndarray[Any, Any]
    ) -> tuple[list[Affine | Mixing | Network], np.ndarray[Any, Any]]:
        """Return the steps cut down to the wanted output rows, and the source rows that they need."""
        steps, rows = [], wanted
        for step in reversed(self._steps(stimuli)):
            if isinstance(step, Mixing):
                cut = [matrix[rows] for matrix in step.matrices]
                rows = np.flatnonzero(np.asarray(sum(abs(matrix).sum(axis=0) for matrix in cut)).ravel())
                step = Mixing(tuple(matrix.tocsc()[:, rows].tocsr() for matrix in cut))
            steps.append(step)
        return steps[::-1], rows

    def _features(self, stimuli: xr.Dataset, needed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        parts = []
        for block in self.backbone.blocks(stimuli, 32):
            inside = needed[(needed >= block.start) & (needed < block.stop)]
            if inside.size:
                values = np.concatenate(list(self.backbone.respond(stimuli, block).values()), axis=1)
                if len(values) != block.stop - block.start:
                    raise CapabilityError(
                        f"The backbone answered {len(values)} rows for {block.stop - block.start}. Expected one each: `altering` with "
                        "`copies` is for the forward of a piece, not for `respond`."
                    )
                parts.append(values[inside - block.start])
        return np.concatenate(parts) if parts else np.zeros((0, self._width(stimuli)), dtype=np.float32)

    def _width(self, stimuli: xr.Dataset) -> int:
        """Return the number of features, after checking that the backbone gives those that the model was fitted on."""
        groups = self.backbone.neuroids(stimuli)
        given = np.concatenate([np.asarray(coords["neuroid_id"]) for coords in groups.values()])
        fitted = self.model.source_neuroids_["neuroid_id"]
        if not np.array_equal(given, fitted):
            raise AlignmentError(
                f"readout got a backbone with {len(given)} neuroids of {', '.join(groups)} ({preview(given)}), and a model fitted on "
                f"{len(fitted)} ({preview(fitted)}). Expected the same in the same order: choose the layer with `backbone.at(layer)`."
            )
        return len(given)


def readout(backbone: Any, model: Any, *, presentations: Any = None, scores: Any = None) -> Readout:
    """Compose a network with a fitted mapping: a responder whose neuroids are the mapping's targets.

    Parameters
    ----------
    backbone : DifferentiableResponder, or DataArray (presentation, neuroid[, time])
        Gives the features that ``model`` was fitted on, in the same order: ``lm.at("layer.3")``. Or a recording, of a brain or of a
        network, that ``model`` reads: then recorded neuroids are what is attributed to, from a class or from another system.
    model : Chain, or a fitted mapping
        Presentation steps (:class:`Delay`, :class:`HRF`, :class:`WordsToVolumes`), affine steps (scaling, PCA, :class:`Reduce`), and
        at the end a mapping that is linear in its features, whichever it is (:class:`Ridge`, :class:`BandedRidge`, :class:`TRF`,
        :class:`PLS`, :class:`SpatialReadout`, a linear :class:`KernelRidge`; a :class:`Classifier` with a linear boundary, whose
        classes are then the neuroids); without presentation steps it may end in an :class:`AttentionReadout`.
    presentations : DataArray, Dataset or DataFrame, optional
        Where the chain retimes: the volumes to answer for. Default: those seen in ``fit``.
    scores : Dataset, optional
        What :func:`evaluate` found for this model: ``score`` by ``neuroid_id``, and ``p_value`` and ``ceiling`` where they are there.
        They stand beside what is attributed. Default: the score by which the mapping chose its penalty on inner folds, an
        optimistic one.

    Returns
    -------
    Readout
        A responder: goes to ``record`` and ``attribute`` like any network layer.

    Raises
    ------
    CapabilityError
        A step is not affine, or the backbone has no gradients.
    AlignmentError
        The model was fitted on other features than the backbone gives.

    Notes
    -----
    What is explained or recorded through a readout is the *fitted model of* a neuroid, not the neuroid itself.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh()), layers="1", system="net")
    >>> images = ba.stimuli.table(np.random.default_rng(0).normal(size=(30, 6)), stimulus_id=[f"s{i}" for i in range(30)], kind="array")
    >>> feats = ba.record(net, images, progress=False)
    >>> brain = ba.responses(feats.values @ np.ones((4, 2)), stimulus_id=feats.stimulus_id, neuroid_id=[7, 8], modality="fmri",
    ...                      system="sub-01")
    >>> voxel = ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(feats, brain))
    >>> ba.record(voxel, images, progress=False).sizes["neuroid"]
    2
    """
    fitted = as_chain(model)
    if isinstance(backbone, xr.DataArray):
        backbone, fitted = behind_recording(backbone, fitted)
    if not isinstance(backbone, DifferentiableResponder):
        raise CapabilityError(
            f"readout got a backbone of type {type(backbone).__name__}, which has no `pieces`. Expected a responder with gradients: "
            "ba.TorchResponder or ba.TransformersResponder."
        )
    if not hasattr(fitted, "steps_"):
        raise CapabilityError(
            "readout got a model that was not fitted on labelled responses. Fit it first: `model.fit(features, responses)`, both made "
            "with `ba.record` or `ba.responses`."
        )
    rows = fitted.presentations_ if presentations is None else presentations
    return Readout(backbone, fitted, None if rows is None else table_of(rows), scores)


def _groups(coords: dict[str, Any]) -> list[tuple[str, np.ndarray[Any, Any], dict[str, Any]]]:
    """Return (name, columns, coordinates) of each layer or region of the targets, in order of first appearance."""
    label = next((coords[name] for name in ("layer", "region") if name in coords), None)
    if label is None:
        return [("readout", np.arange(len(coords["neuroid_id"])), coords)]
    codes, names = numbered(label.astype(object), "layer or region", "neuroid")
    found = [(str(name), np.flatnonzero(codes == k)) for k, name in enumerate(names)]
    return [(name, columns, {key: values[columns] for key, values in coords.items()}) for name, columns in found]


def _target_coords(mapping: Any) -> dict[str, Any]:
    return {name: values for name, (dims, values) in mapping.target_coords_.items() if dims == ("neuroid",)}


def _class_coords(mapping: Any) -> dict[str, Any]:
    """Return the coordinates of the classes of a classifier, as neuroids."""
    classes = as_labels([str(label) for label in mapping.classes_])
    system = (mapping.target_coords_ or {}).get("system", (None, [type(mapping).__name__]))[1][0]
    return {"neuroid_id": classes, "system": np.full(len(classes), str(system), dtype=classes.dtype)}


def _inner_scores(mapping: Any, n: int) -> dict[str, np.ndarray[Any, Any]]:
    score = np.asarray(getattr(mapping, "cv_score_", np.nan), dtype=np.float64)
    return {"mapping_score": np.broadcast_to(score, n)}


def _given_scores(scores: Any, coords: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return scores in the order of the targets; NaN for one that has none."""
    if not isinstance(scores, xr.Dataset) or "score" not in scores or scores["score"].dims != ("neuroid",):
        raise ParameterError(
            f"readout got scores of type {type(scores).__name__}. Expected a Dataset with `score` (neuroid), as `ba.evaluate` returns it for "
            "this model and its target."
        )
    at, found = positions_among(coords, coords_of(scores, "neuroid")), {}
    for name, label in (("score", "mapping_score"), ("p_value", "mapping_p_value"), ("ceiling", "ceiling")):
        if name in scores and scores[name].dims == ("neuroid",):
            found[label] = np.append(scores[name].values.astype(np.float64), np.nan)[at]
    return found

"""Stimuli from latents, without a network: the nearest of a bank, or a linear map back to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from brainalign.core.errors import AlignmentError, CapabilityError
from brainalign.core.latents import latent_matrices
from brainalign.core.parameters import check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.tables import content_of, validate_stimuli
from brainalign.dataset.stimuli import table
from brainalign.engine.retrieval import prepared
from brainalign.models.mapping import Values
from brainalign.models.ridge import Ridge

_KEPT = ("stimulus_id", "sha256", "path_part")  # what tells of a content, and not of when it was shown


class _FromBank(BaseEstimator):
    """Base of what learns from latents of known stimuli, one or several by name."""

    def fit(self, latents: Any, stimuli: xr.Dataset) -> Self:
        """Take in a bank.

        Parameters
        ----------
        latents : dict of str to DataArray (presentation, neuroid), or one DataArray
            Of stimuli of the bank, each once.
        stimuli : Dataset, (presentation,)
            A stimulus table that has them all.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            Latents of other stimuli than the bank's, or of different ones by name.
        """
        self.latents_, ids = latent_matrices(latents, type(self).__name__)
        bank = pd.Index(validate_stimuli(stimuli).stimulus_id.values.astype(object))
        first = pd.Series(np.arange(len(bank)), index=bank).groupby(level=0).first().reindex(ids)
        if first.isna().any():
            raise AlignmentError(
                f"{type(self).__name__} got latents of {int(first.isna().sum())} stimuli that the bank lacks, first "
                f"{preview(first.index[first.isna()])}. Expected stimuli with these `stimulus_id` values."
            )
        self.stimuli_ = stimuli.isel(presentation=first.to_numpy(dtype=np.int64))
        return self

    def _like_bank(self, latents: Any) -> tuple[dict[str, Values], Values]:
        """Return latents as matrices, once they are those of the bank, and the stimuli that they are of."""
        check_is_fitted(self, "latents_")
        found, ids = latent_matrices(latents, type(self).__name__)
        widths, known = ({name: x.shape[1] for name, x in side.items()} for side in (found, self.latents_))
        if widths != known:
            raise AlignmentError(
                f"{type(self).__name__} got latents of {widths} dimensions. Expected those of `fit`, {known}: the same names and neuroids."
            )
        return found, ids

    def _told(self, out: xr.Dataset, latents: Any, seed: int) -> xr.Dataset:
        check_number("seed", seed, owner="generate", low=0, integer=True)
        inputs = dict(latents) if isinstance(latents, Mapping) else {"latents": latents}
        return write_step(out, "generate", params={"generator": self}, inputs=inputs, seed=seed)


class NearestNeighbourGenerator(_FromBank):
    """Generate by search: the stimulus of a bank whose latents are the most alike.

    Attributes
    ----------
    stimuli_ : Dataset, (presentation,)
        The bank.
    latents_ : dict of str to ndarray, (presentation, neuroid)
        Its latents.

    Notes
    -----
    Alike is the cosine around the bank's mean, averaged over latents. A baseline for any other generator: what it adds to what was
    decoded is what it does better than this one.

    Examples
    --------
    >>> import brainalign as ba
    >>> bank = ba.stimuli.table(np.arange(3.0)[:, None, None] * np.ones((3, 4, 4)), stimulus_id=list("abc"), kind="image")
    >>> latents = ba.responses(np.eye(3), stimulus_id=list("abc"), neuroid_id=range(3), modality="ann", system="net")
    >>> generator = ba.models.NearestNeighbourGenerator().fit(latents, bank)
    >>> generator.generate(latents[[2, 0]] * 0.5).bank_id.values.tolist()
    ['c', 'a']
    """

    def generate(self, latents: Any, seed: int = 0) -> xr.Dataset:
        """Return the nearest stimulus for each row.

        Parameters
        ----------
        latents : dict of str to DataArray (presentation, neuroid), or one DataArray
            As in ``fit``. A neuroid with NaN, which was constant in training, tells nothing.
        seed : int
            Recorded; nothing is drawn.

        Returns
        -------
        Dataset, (presentation,)
            Content of the bank under the ``stimulus_id`` of the latents, with ``bank_id``.

        Raises
        ------
        AlignmentError
            Latents of other names or widths than those of ``fit``.
        CapabilityError
            A row of which no latent has a direction.
        """
        found, ids = self._like_bank(latents)
        likeness = np.zeros((len(ids), self.stimuli_.sizes["presentation"]))
        told = np.zeros((len(ids), 1))
        for name, x in found.items():
            bank = self.latents_[name]
            known = np.isfinite(x).all(axis=0) & np.isfinite(bank).all(axis=0)
            if not known.any():
                continue  # a product over nothing is 0, and tells nothing
            middle = bank[:, known].mean(axis=0, dtype=np.float64)
            cosine = prepared(x[:, known] - middle, "cosine") @ prepared(bank[:, known] - middle, "cosine").T
            told += np.isfinite(cosine).any(axis=1, keepdims=True)
            likeness += np.nan_to_num(cosine, nan=0.0)
        if not told.all():
            raise CapabilityError(
                f"{int((told == 0).sum())} rows of the latents have no direction around the bank's mean, first "
                f"{preview(ids[np.flatnonzero(told == 0)])}. Expected predictions that vary: look at `status_` of the decoder."
            )
        best = likeness.argmax(axis=1)
        bank_ids = self.stimuli_.stimulus_id.values[best]
        out = self.stimuli_.isel(presentation=best)
        out = out.drop_vars([name for name in out.coords if name not in _KEPT])
        out = out.assign_coords(stimulus_id=("presentation", ids), bank_id=("presentation", bank_ids))
        return self._told(validate_stimuli(out), latents, seed)


class LinearGenerator(_FromBank):
    """Generate by a linear map from latents back to the values of stimuli; of principal components, that is their inverse.

    Parameters
    ----------
    alpha : float
        Penalty of the ridge regression; 0 is least squares.

    Attributes
    ----------
    stimuli_ : Dataset, (presentation,)
        The bank.
    latents_ : dict of str to ndarray, (presentation, neuroid)
    map_ : Ridge
        Fitted.
    range_ : tuple of float
        Smallest and largest value in the bank, to which what is generated is cut.

    Examples
    --------
    >>> import brainalign as ba
    >>> values = np.random.default_rng(0).random((30, 4, 4))
    >>> bank = ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(30)], kind="image")
    >>> latents = ba.responses(values.reshape(30, 16) * 2 - 1, stimulus_id=bank.stimulus_id.values, neuroid_id=range(16), modality="ann",
    ...                        system="net")
    >>> made = ba.models.LinearGenerator().fit(latents, bank).generate(latents[:5])
    >>> np.allclose(made["values"], values[:5], atol=1e-5)
    True
    """

    def __init__(self, alpha: float = 0.0) -> None:
        self.alpha = alpha

    def fit(self, latents: Any, stimuli: xr.Dataset) -> Self:
        """Learn the map.

        Parameters
        ----------
        latents : dict of str to DataArray (presentation, neuroid), or one DataArray
            Of stimuli of the bank, each once.
        stimuli : Dataset, (presentation,)
            A stimulus table of arrays (images, sounds) that has them all.

        Returns
        -------
        self

        Raises
        ------
        CapabilityError
            The table holds texts or files.
        AlignmentError
            As for other generators.
        """
        alpha = check_number("alpha", self.alpha, owner="LinearGenerator", low=0.0)
        super().fit(latents, stimuli)
        if content_of(stimuli) != "values":
            raise CapabilityError(
                f"LinearGenerator got stimuli with `{content_of(stimuli)}`, which are not numbers. Expected arrays of one shape: read images into "
                "`ba.stimuli.table(array, kind='image')`."
            )
        values = self.stimuli_["values"].values.astype(np.float64)
        self.range_ = float(values.min()), float(values.max())
        self.map_ = Ridge([alpha], dtype="float64").fit(np.hstack(list(self.latents_.values())), values.reshape(len(values), -1))
        return self

    def generate(self, latents: Any, seed: int = 0) -> xr.Dataset:
        """Return the values of each row.

        Parameters
        ----------
        latents : dict of str to DataArray (presentation, neuroid), or one DataArray
            As in ``fit``. A neuroid with NaN, which was constant in training, counts as its mean in the bank.
        seed : int
            Recorded; nothing is drawn.

        Returns
        -------
        Dataset, (presentation,)
            A stimulus table of the bank's kind.

        Raises
        ------
        AlignmentError
            Latents of other names or widths than those of ``fit``.
        """
        found, ids = self._like_bank(latents)
        x, bank = (np.hstack(list(side.values())).astype(np.float64) for side in (found, self.latents_))
        flat = self.map_.predict(np.where(np.isfinite(x), x, bank.mean(axis=0)))
        known = self.stimuli_["values"]
        flat = np.where(self.map_.status_ == "constant", known.values[0].ravel(), flat)  # a pixel that never varied
        values = np.clip(flat, *self.range_).reshape(len(flat), *known.shape[1:]).astype(np.result_type(known.dtype, np.float32))
        out = table(values, stimulus_id=ids, kind=self.stimuli_.attrs["kind"], dims=[str(dim) for dim in known.dims[1:]])
        return self._told(out, latents, seed)

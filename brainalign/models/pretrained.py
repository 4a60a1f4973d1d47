"""What a network learned of several subjects, and on whom it may be used: nobody that it has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import SplitError
from brainalign.core.parameters import preview
from brainalign.core.provenance import hash_array
from brainalign.core.tables import coords_of
from brainalign.models.mapping import Values, feature_matrix
from brainalign.models.ridge import Ridge

_OWNER = "SharedLatentDecoder"


@dataclass(frozen=True)
class Pretrained:
    """A trunk, and what it was trained on.

    Attributes
    ----------
    subjects : tuple of str
        By the names of the dict.
    hash : str
        Of the trunk's parameters, as the pretraining left them.
    systems : frozenset of str
        Those that the sources name.
    rows : frozenset of bytes
        Digests of every source row.
    stimuli : frozenset of str
        Whose targets the trunk has learned, where sources name them.
    trunk : dict of str to Tensor
    mean, size : ndarray of float32, (target,), and float
        Of the targets.
    latents : Ridge
        From targets to the subjects' latents.
    """

    subjects: tuple[str, ...]
    hash: str
    systems: frozenset[str] = field(repr=False)
    rows: frozenset[bytes] = field(repr=False)
    stimuli: frozenset[str] = field(repr=False)
    trunk: dict[str, torch.Tensor] = field(repr=False)
    mean: Values = field(repr=False)
    size: float = field(repr=False)
    latents: Ridge = field(repr=False)


def refuse_seen(before: Pretrained, X: Any) -> None:
    """Refuse a trunk that saw the subject under test, or that is not what the pretraining left.

    Parameters
    ----------
    before : Pretrained
    X : DataArray or ndarray, (presentation, neuroid[, time])
        Source of the subject under test.

    Raises
    ------
    SplitError
        Its system or more than half of its rows were seen, or the trunk has other parameters.
    """
    if hash_of(before.trunk) != before.hash:
        raise SplitError(
            f"The trunk of {_OWNER} has the parameters {hash_of(before.trunk)} before `fit`, and had {before.hash} after its pretraining: it was trained "
            "on something else since, maybe on the subject under test. Expected the trunk of `refine`."
        )
    systems = sorted(systems_of(X) & before.systems)
    seen = np.mean([row in before.rows for row in digests(feature_matrix(X))] or [False])
    if systems or seen > 0.5:
        what = f"the system {preview(systems)}" if systems else f"{seen:.0%} of these rows"
        raise SplitError(
            f"The trunk of {_OWNER} saw {what} in its pretraining, on {preview(before.subjects, 8)}. Expected a subject that it has not seen: "
            "pretrain without this one."
        )


def systems_of(X: Any) -> frozenset[str]:
    """Return whose responses these are.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, neuroid[, time])

    Returns
    -------
    frozenset of str
        Empty where they do not say.
    """
    return frozenset(map(str, coords_of(X, "neuroid").get("system", ()))) if isinstance(X, xr.DataArray) else frozenset()


def stimuli_of(X: Any) -> frozenset[str]:
    """Return the stimuli of the rows.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, neuroid[, time])

    Returns
    -------
    frozenset of str
        Empty where they have no names.
    """
    return frozenset(map(str, X.coords["stimulus_id"].values)) if isinstance(X, xr.DataArray) else frozenset()


def digests(x: Values) -> frozenset[bytes]:
    """Return a digest of each row that is not constant; silent trials are alike in all animals.

    Parameters
    ----------
    x : ndarray, (row, feature)

    Returns
    -------
    frozenset of bytes
        Of the values as float32.
    """
    return frozenset(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in x.astype(np.float32) if np.ptp(row) > 0)


def hash_of(parameters: Mapping[str, torch.Tensor]) -> str:
    """Return a hash of parameters.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        In any order.

    Returns
    -------
    str
    """
    return hash_array(np.concatenate([p.detach().cpu().numpy().ravel() for _, p in sorted(parameters.items())]))

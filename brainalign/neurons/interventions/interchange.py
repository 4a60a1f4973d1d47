"""``mediation``: whether what is decoded of a concept goes through a neuroid, whose response presentations exchange."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_number, check_random_state, did_you_mean, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_values
from brainalign.neurons.addresses import short_names
from brainalign.neurons.captions.banks import texts_of_neuroids
from brainalign.neurons.labelling import neuroid_labels, without_time


def mediation(
    responses: xr.DataArray,
    model: Any,
    captions: Any = None,
    *,
    n_pairs: int = 200,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Exchange the response of one neuroid between two presentations, and see how far what is decoded follows.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid)
        Presentations that the model was not fitted on.
    model : fitted mapping
        From these neuroids to concepts: ``ba.Ridge().fit(responses, bank)``, or any with ``predict``.
    captions : DataArray or sequence of str, (neuroid,), optional
        The concept of each neuroid, as ``label`` of :func:`caption`; ``""`` for none.
    n_pairs : int
        Of presentations, drawn at random.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over neuroids.

    Returns
    -------
    Dataset, (neuroid, concept)
        ``effect``, the part of the difference between two presentations that what is decoded moves by when this neuroid alone is
        taken from the other: 1 for a neuroid through which all of it goes, 0 for one that goes with the concept and is not used.
        With captions also by neuroid ``score``, the effect on its concept, ``chance``, the mean over all other neuroids, and
        ``p_value``, how often one of them has as much. The attr ``causal_scope`` is ``"virtual"``: it is the fitted model that
        is tested, and no brain.

    Raises
    ------
    CapabilityError
        A model that predicts no numbers.
    AlignmentError
        Captions of other neuroids.
    ParameterError
        A caption that is no concept of the model.

    Notes
    -----
    Σ (ŷ(base, neuroid from source) − ŷ(base)) (ŷ(source) − ŷ(base)) / Σ (ŷ(source) − ŷ(base))² over pairs; effects of all
    neuroids add up to 1 for a linear decoder. Interchange intervention of Huang et al. (2023).

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> x = ba.responses(rng.normal(size=(60, 3)), stimulus_id=range(60), neuroid_id=["a", "b", "c"], modality="fmri", system="s")
    >>> furry = ba.responses(x.values[:, [1]], stimulus_id=range(60), neuroid_id=["furry"], modality="behaviour", system="judges")
    >>> out = ba.neurons.mediation(x, ba.Ridge(alphas=[1e-3]).fit(x, furry), random_state=0)
    >>> (out.effect.values.ravel().round(3) + 0.0).tolist()
    [0.0, 1.0, 0.0]
    """
    check_number("n_pairs", n_pairs, owner="mediation", low=1, integer=True)
    seed = check_random_state(random_state, owner="mediation")
    x = without_time(responses, "mediation")
    rng = np.random.default_rng(seed)
    base = rng.integers(len(x), size=n_pairs)
    source = (base + rng.integers(1, max(2, len(x)), size=n_pairs)) % len(x)
    effect, names = _effects(x, model, base, source, progress)
    out = xr.Dataset({"effect": (("neuroid", "concept"), effect)}, {"concept": as_labels(names)})
    out = out.assign_coords(neuroid_labels(x))
    if captions is not None:
        texts = texts_of_neuroids(captions, x, owner="mediation")
        labels = dict(zip(("score", "chance", "p_value"), _of_captions(texts, effect, names), strict=True))
        out = out.assign({name: ("neuroid", values) for name, values in labels.items()})
    out.attrs = {"causal_scope": "virtual", "n_pairs": n_pairs}
    return write_step(out, "mediation", params={"model": model, "n_pairs": n_pairs}, inputs={"responses": responses}, seed=seed)


def _effects(x: xr.DataArray, model: Any, base: Numbers, source: Numbers, progress: bool | None) -> tuple[Numbers, list[str]]:
    """Return the effect of each neuroid on each output, and the names of these."""
    start, other = x[base], x.values[source]
    before = model.predict(start)
    at_base, at_source = (np.asarray(values) for values in (before, model.predict(x[source])))
    if at_base.dtype.kind not in "iuf" or at_base.ndim != 2:
        raise CapabilityError(
            f"mediation got a model that predicts {at_base.dtype} of shape {at_base.shape}. Expected numbers (presentation, concept): a "
            "mapping fitted on a bank of concepts, such as `ba.Ridge().fit(responses, bank)`."
        )
    names = short_names(before) if isinstance(before, xr.DataArray) else [str(i) for i in range(at_base.shape[1])]
    at_base = at_base.astype(np.float64)
    apart = at_source - at_base
    power = (apart * apart).sum(axis=0)
    effect = np.empty((x.shape[1], at_base.shape[1]))
    for n in progress_bar(range(x.shape[1]), progress=progress, desc="neuroids"):
        values = start.values.copy()
        values[:, n] = other[:, n]
        moved = np.asarray(model.predict(start.copy(data=values))) - at_base
        effect[n] = (moved * apart).sum(axis=0) / np.where(power > 0, power, np.nan)
    return effect, names


def _of_captions(texts: list[str], effect: Numbers, names: list[str]) -> tuple[Numbers, Numbers, Numbers]:
    """Return the effect of each neuroid on its concept, the mean of the others, and how often one of them has as much."""
    unknown = [text for text in texts if text and text not in names]
    if unknown:
        raise ParameterError(
            f"mediation got {len(unknown)} captions that are no concept of the model ({preview(unknown)}). Expected one of "
            f"{preview(names)} for each neuroid, or ''.{did_you_mean(unknown[0], names)}"
        )
    out = np.full((3, len(texts)), np.nan)
    for n, text in enumerate(texts):
        if text and np.isfinite(own := effect[n, names.index(text)]):
            others = np.delete(effect[:, names.index(text)], n)
            chance = others.mean() if len(others) else np.nan
            out[:, n] = own, chance, p_values(own, others)
    return out[0], out[1], out[2]

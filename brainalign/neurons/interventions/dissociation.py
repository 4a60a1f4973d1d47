"""``double_dissociation``: one circuit carries one task and not the other, and another circuit the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_random_state, preview
from brainalign.core.provenance import provenance, write_step
from brainalign.core.schema import as_labels
from brainalign.engine.resample import p_values
from brainalign.neurons.interventions.lesion import lesion, rounding


def double_dissociation(
    system: Any,
    tasks: Mapping[str, tuple[Any, Mapping[str, Any]]],
    *,
    circuits: Mapping[str, Any],
    n_draws: int = 100,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> xr.Dataset:
    """Lesion each of two circuits in each of two tasks, and as many random units.

    Parameters
    ----------
    system : InnerResponder or fitted mapping
        As in :func:`brainalign.lesion`.
    tasks : mapping of two names to (stimuli, options)
        What each task shows (stimuli of a network, or responses that a mapping reads), and its ``target`` and ``neuroid``.
    circuits : mapping of two names to units
        As in :func:`brainalign.lesion`; the first is held to carry the first task, the second the second.
    n_draws : int
        Random lesions of the size of each circuit, the same in both tasks, of units that are not of the other circuit.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`brainalign.lesion`, for each circuit in each task.
    **options
        ``by``, ``mode``, ``factor``, ``max_memory`` of :func:`brainalign.lesion`.

    Returns
    -------
    Dataset
        ``effect`` (circuit, task), the mean over neuroids of what a lesion costs; ``selectivity`` (circuit), ``(own - other) / (|own| + |other|)``;
        ``dissociation``, the smaller of the two differences own - other, positive for a double dissociation. With draws
        ``effect_random`` (draw, circuit, task), ``p_value`` (circuit, task), and ``p_value_dissociation``, the larger of the p-values
        of the two differences: both circuits must dissociate.

    Raises
    ------
    ParameterError
        Not two tasks and two circuits.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> values = np.random.default_rng(0).normal(size=(60, 20))
    >>> x = ba.responses(values, stimulus_id=range(60), neuroid_id=range(20), modality="fmri", system="sub-01", region=np.repeat(["V1", "V4", "IT"], [4, 4, 12]))
    >>> y = ba.responses(values @ np.kron(np.eye(5, 2), np.ones((4, 1))), stimulus_id=range(60), neuroid_id=[0, 1], modality="behaviour", system="s")
    >>> tasks = {"fine": (x, {"target": y, "neuroid": 0}), "coarse": (x, {"target": y, "neuroid": 1})}
    >>> out = ba.neurons.double_dissociation(ba.Ridge(alphas=[1.0]).fit(x, y), tasks, circuits={"early": "V1", "late": "V4"}, random_state=0)
    >>> bool(out.dissociation > 0.3), bool(out.p_value_dissociation < 0.05)
    (True, True)
    """
    for name, given in (("tasks", tasks), ("circuits", circuits)):
        if not isinstance(given, Mapping) or len(given) != 2:
            what = preview(given) if isinstance(given, Mapping) else repr(given)
            raise ParameterError(f"double_dissociation got {name} {what}. Expected two, by name: a mapping.")
    seed = check_random_state(random_state, owner="double_dissociation")
    both, once = list(circuits.values()), partial(lesion, n_draws=n_draws, progress=progress)
    found = [
        [
            once(system, shown, units=units, spared=other, random_state=seed + 2 * i, **{**options, **own})
            for shown, own in tasks.values()
        ]
        for i, (units, other) in enumerate(zip(both, both[::-1], strict=True))
    ]
    effect = np.array([[float(one.effect.mean()) for one in row] for row in found])
    difference = _own_less_other(effect)
    cell = ("circuit", "task")
    out = xr.Dataset(
        {
            "effect": (cell, effect),
            "selectivity": ("circuit", difference / np.maximum(np.abs(effect).sum(axis=1), np.finfo(float).tiny)),
            "dissociation": ((), difference.min()),
        },
        coords={"circuit": as_labels(list(circuits)), "task": as_labels(list(tasks))},
    )
    if n_draws:
        null = np.stack([[one.effect_random.values.reshape(n_draws, -1).mean(axis=1) for one in row] for row in found])
        null = null.transpose(2, 0, 1)
        least = np.max([[np.max(rounding(one)) for one in row] for row in found])
        out["effect_random"], out["p_value"] = (("draw", *cell), null), (cell, p_values(effect - least, null))
        # Not the smaller difference against smaller differences: then one circuit that dissociates would make two of any other.
        out["p_value_dissociation"] = ((), p_values(difference - least, _own_less_other(null)).max())
    out.attrs |= {"causal_scope": found[0][0].attrs["causal_scope"], "mode": found[0][0].attrs["mode"]}
    asked = {
        name: {task: provenance(one).steps[-1]["params"] for task, one in zip(tasks, row, strict=True)}
        for name, row in zip(circuits, found, strict=True)
    }
    params = {"circuits": {name: str(units) for name, units in circuits.items()}, "n_draws": n_draws, "lesions": asked}
    inputs = {name: shown for name, (shown, _) in tasks.items()}
    inputs |= {f"target of {name}": own["target"] for name, (_, own) in tasks.items() if "target" in own}
    return write_step(out, "double_dissociation", params=params, inputs=inputs, seed=seed)


def _own_less_other(effect: Any) -> Any:
    """Return own - other of each circuit, (..., circuit)."""
    return np.stack([effect[..., 0, 0] - effect[..., 0, 1], effect[..., 1, 1] - effect[..., 1, 0]], axis=-1)

"""What one copy of a system costs: bytes of its graph, and seconds backwards and forwards."""

from __future__ import annotations

from time import perf_counter

import torch

from brainalign.engine.attribution import NoForwardMode, Path, System, path_sums

#: Where counts of passes differ by more than this, no time that a pass may take would turn them round.
_CLEAR = 8.0


def graph_bytes(system: System, known: dict[tuple[int, ...], int], *, enough: float = 0.0) -> int:
    """Return the bytes that the graph of one more copy takes: what two copies keep for the backward pass, less what one does.

    Parameters
    ----------
    system : System
    known : dict
        What was found for systems that differ in the values of their inputs only, by the shape of these.
    enough : float
        Bytes that a copy may take: where one keeps no more, weights and all, that is returned, and two are not tried.

    Returns
    -------
    int
    """
    shape = tuple(system.inputs.shape)
    if shape in known:
        return known[shape]
    kept = []
    for copies in (1, 2):
        storages: dict[int, int] = {}

        def pack(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        x = torch.cat([system.inputs.detach()] * copies).requires_grad_(True)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            system.forward(x)
        kept.append(sum(storages.values()))
        if kept[0] + system.inputs.nbytes <= enough:
            break
    known[shape] = kept[-1] - sum(kept[:-1]) + system.inputs.nbytes
    return known[shape]


def choose_mode(system: System, path: Path, outputs: torch.Tensor, rows: torch.Tensor) -> str:
    """Return the cheaper of going backwards for each output and forwards for each group, timed once where counts leave it open.

    Parameters
    ----------
    system : System
    path : Path
    outputs, rows : Tensor of int64

    Returns
    -------
    {"vjp", "jvp"}
    """
    if system.groups is None:
        return "vjp"
    n_back, n_forth = len(outputs) * (1 if system.rowwise else len(rows)), system.n_groups
    if not n_back / _CLEAR <= n_forth <= n_back * _CLEAR:
        return "vjp" if n_back < n_forth else "jvp"
    short = Path(path.start, path.at[:1], path.weights[:1], path.times_step)
    one = System(system.forward, system.inputs, system.n_rows, system.rowwise, system.groups.clamp(max=0), 1)
    seconds = {}
    for mode in ("vjp", "jvp"):
        before = perf_counter()
        try:
            path_sums(one, short, outputs[:1], rows[:1], mode=mode, copies=1)
        except NoForwardMode:
            return "vjp"
        seconds[mode] = perf_counter() - before
    return "vjp" if n_back * seconds["vjp"] <= n_forth * seconds["jvp"] else "jvp"

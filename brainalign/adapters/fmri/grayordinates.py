"""Grayordinates, the places on surfaces and in volumes that CIFTI-2 lists: their labels, their identity, their grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from brainalign.core.grids import pack_indices

PREFIX = "CIFTI_STRUCTURE_"
_HEMISPHERES = {"CORTEX_LEFT": "L", "CORTEX_RIGHT": "R"}


def is_parcellated(brain: Any) -> bool:
    """Return True for an axis of parcels, False for one of grayordinates.

    Parameters
    ----------
    brain : nibabel ``ParcelsAxis`` or ``BrainModelAxis``

    Returns
    -------
    bool
    """
    return hasattr(brain, "voxels")


def structures_of(brain: Any) -> np.ndarray[Any, Any]:
    """Return the structure of each grayordinate, without ``CIFTI_STRUCTURE_``.

    Parameters
    ----------
    brain : nibabel ``BrainModelAxis``

    Returns
    -------
    ndarray of str
    """
    return np.array([str(name).removeprefix(PREFIX) for name in brain.name], dtype=object)


def places_of(brain: Any) -> pd.MultiIndex:
    """Return an index of the grayordinates that is the same in every file of one space.

    Parameters
    ----------
    brain : nibabel ``BrainModelAxis``

    Returns
    -------
    MultiIndex
        Of the structure, and of the vertex or voxel there.
    """
    at, voxels = brain.vertex.astype(np.int64), ~brain.surface_mask
    if voxels.any():
        at[voxels] = np.ravel_multi_index(brain.voxel[voxels].T, brain.volume_shape)
    return pd.MultiIndex.from_arrays([structures_of(brain), at])


def columns_of(brain: Any, keep: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the labels of the neuroids.

    Parameters
    ----------
    brain : nibabel ``BrainModelAxis`` or ``ParcelsAxis``
    keep : ndarray of int
        Columns that are taken.

    Returns
    -------
    dict of str to sequence
        As :func:`brainalign.adapters.fmri.cifti.open_cifti` describes them.
    """
    if is_parcellated(brain):
        names = [str(brain.name[column]) for column in keep]
        sides = [_HEMISPHERES.get(_only_surface(brain.vertices[column], brain.voxels[column]), "") for column in keep]
        return {"neuroid_id": names, "region": names, "hemisphere": sides}
    structure, surface = structures_of(brain)[keep], brain.surface_mask[keep]
    columns: dict[str, Any] = {"neuroid_id": keep, "structure": structure}
    if surface.any():
        columns["hemisphere"] = [_HEMISPHERES.get(name, "") if on else "" for name, on in zip(structure, surface, strict=True)]
        columns["vertex"] = np.where(surface, brain.vertex[keep], -1).astype(np.int64)
    if not surface.all():
        ijk = np.where(surface[:, None], -1, brain.voxel[keep]).astype(np.int64)
        xyz = np.where(surface[:, None], np.nan, ijk @ brain.affine[:3, :3].T + brain.affine[:3, 3])
        columns |= dict(zip(("x_mm", "y_mm", "z_mm"), xyz.T, strict=True))
        columns |= dict(zip(("voxel_i", "voxel_j", "voxel_k"), ijk.T, strict=True))
    return columns


def _only_surface(vertices: dict[str, Any], voxels: Any) -> str:
    return next(iter(vertices)).removeprefix(PREFIX) if len(vertices) == 1 and not len(voxels) else ""


def grid_of_axis(brain: Any) -> dict[str, Any]:
    """Return all that it takes to build the axis again, as JSON holds it.

    Parameters
    ----------
    brain : nibabel ``BrainModelAxis`` or ``ParcelsAxis``

    Returns
    -------
    dict
        ``models`` or ``parcels``, each with its vertices and voxels as runs of numbers (voxels counted with ``i`` fastest);
        ``n_vertices`` of each surface; ``shape`` and ``affine`` (mm) of the volume.
    """
    shape = brain.volume_shape
    space: dict[str, Any] = {"n_vertices": {name.removeprefix(PREFIX): int(n) for name, n in brain.nvertices.items()}}
    if shape is not None:
        space |= {"shape": [int(n) for n in shape], "affine": np.asarray(brain.affine).tolist()}
    if is_parcellated(brain):
        parts = zip(brain.name, brain.vertices, brain.voxels, strict=True)
        parcels = [
            {
                "name": str(name),
                "vertices": {key.removeprefix(PREFIX): pack_indices(np.asarray(at)) for key, at in vertices.items()},
                "voxels": _packed_voxels(voxels, shape),
            }
            for name, vertices, voxels in parts
        ]
        return {"parcels": parcels, **space}
    models = [
        {
            "structure": name.removeprefix(PREFIX),
            **(
                {"vertices": pack_indices(model.vertex)}
                if name in brain.nvertices
                else {"voxels": _packed_voxels(model.voxel, shape)}
            ),
        }
        for name, _, model in brain.iter_structures()
    ]
    return {"models": models, **space}


def _packed_voxels(voxels: Any, shape: Any) -> list[int]:
    return pack_indices(np.ravel_multi_index(np.asarray(voxels).T, shape, order="F")) if len(voxels) else []

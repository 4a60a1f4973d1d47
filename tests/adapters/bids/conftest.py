"""A small data set as fMRIPrep leaves it, written with nibabel; the confounds are those that nilearn ships."""

import json
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

AFFINE = np.diag([2.0, 2, 2, 1])
N_VOLUMES = 30  # as many as the rows of nilearn's confounds


class Tree:
    """Writes files of a BIDS data set below ``root``."""

    def __init__(self, root: Path):
        self.root = root
        self.json("dataset_description.json", Name="simulated", BIDSVersion="1.9.0")

    def path(self, name, *, datatype="func"):
        parts = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        folder = self.root.joinpath(*parts, datatype)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def json(self, place, **keys):
        (self.root / place).write_text(json.dumps(keys))

    def bold(self, name, *, seed=0, shape=(3, 4, 2), n=N_VOLUMES, tr=2.0, affine=AFFINE, values=None):
        values = np.random.default_rng(seed).normal(size=(*shape, n)).astype(np.float32) if values is None else values
        image = nibabel.Nifti1Image(values, affine)
        image.header.set_zooms((2, 2, 2, tr))
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, self.path(name))
        return values

    def volume(self, name, values):
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), self.path(name))

    def confounds(self, name, *, dialect="timeseries", edit=lambda lines: lines):
        source = {"timeseries": "test-v21_desc-confounds_timeseries", "regressors": "test_desc-confounds_regressors"}[dialect]
        data = Path(find_spec("nilearn").origin).parent / "interfaces/fmriprep/data"
        rows = [line.split("\t") for line in (data / f"{source}.tsv").read_text().splitlines()]
        file = self.path(f"{name}_desc-confounds_{dialect}.tsv")
        file.write_text("\n".join("\t".join(row) for row in edit(rows)) + "\n")
        file.with_suffix(".json").write_text((data / f"{source}.json").read_text())
        return file


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "fmriprep").mkdir()
    return Tree(tmp_path / "fmriprep")

"""Each simulated data set is recognised by one format, whatever else is installed."""

import h5py
import numpy as np
import pytest

import brainalign as ba
from brainalign.dataset.open import FORMATS


def hdf5(file, **arrays):
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as opened:
        for name, values in arrays.items():
            opened[name] = values
    return file


def algonauts_2023(folder):
    (folder / "subj01/training_split/training_fmri").mkdir(parents=True)
    np.save(folder / "subj01/training_split/training_fmri/lh_training_fmri.npy", np.ones((2, 3)))
    return folder / "subj01"


def algonauts_2025(folder):
    return hdf5(folder / "func/sub-01_task-friends_bold.h5", **{"ses-001_task-s01e01a": np.ones((3, 4))})


def net2brain(folder):
    (folder / "net").mkdir()
    np.savez(folder / "net/a.png.npz", fc=np.ones((1, 3)))
    return folder / "net"


def thingsvision(folder):
    (folder / "net").mkdir()
    np.save(folder / "net/features.npy", np.ones((1, 3)))
    (folder / "net/file_names.txt").write_text("a.png\n")
    return folder / "net"


def assembly(folder):
    x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=["n1", "n2"], modality="ann", system="net")
    ba.save(x, folder / "assy.nc", format="brainscore")
    return folder / "assy.nc"


MADE = {
    "algonauts": (algonauts_2023, algonauts_2025, lambda folder: algonauts_2025(folder).parent),
    "lebel": (
        lambda folder: hdf5(folder / "UTS01/souls.hf5", data=np.ones((3, 4))),
        lambda folder: hdf5(folder / "UTS01/souls.hf5", data=np.ones((3, 4))).parent,
    ),
    "features": (net2brain, thingsvision),
    "brainscore": (assembly,),
    "arrays": (lambda folder: hdf5(folder / "x.h5", x=np.ones((2, 3)), stimulus_id=[b"a", b"b"], neuroid_id=[1, 2, 3]),),
}


@pytest.mark.parametrize(("name", "make"), [(name, make) for name, makers in MADE.items() for make in makers])
def test_one_format_claims_it(tmp_path, name, make):
    made = make(tmp_path)
    assert [known for known in FORMATS.names() if FORMATS.get(known).matches(made)] == [name]

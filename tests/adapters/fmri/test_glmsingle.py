import json

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

import brainalign as ba
from brainalign.adapters.fmri.glmsingle import adapter, open_glmsingle
from brainalign.core.errors import FormatError, ParameterError, SchemaError
from brainalign.dataset.open import FORMATS

GRID, N = (4, 3, 2), 10
BETAS = np.random.default_rng(0).normal(size=(*GRID, N)).astype(np.float32)
R2 = np.random.default_rng(1).uniform(0, 60, size=GRID).astype(np.float32)
IDS = [f"image-{i % 4}" for i in range(N)]
MASK = np.random.default_rng(2).random(GRID) < 0.6
TYPED = "TYPED_FITHRF_GLMDENOISE_RR"


def python(path, betas=BETAS, r2=R2, **more):
    """Write as GLMsingle does with wanthdf5=1: contiguous arrays, and nothing for what was not computed."""
    with h5py.File(path, "w") as file:
        for name, values in {"betasmd": betas, "R2": r2, "noisepool": h5py.Empty("f"), "pcnum": 3, **more}.items():
            file.create_dataset(name, data=values)
    return path


def matlab(path, betas=BETAS, r2=R2):
    """Write as MATLAB 7.3 does: a header of 512 bytes, axes reversed, packed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("modelmd", data=betas.T, chunks=tuple(min(n, 2) for n in betas.T.shape), compression="gzip")
        file.create_dataset("R2", data=r2.T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("write", [python, matlab])
def test_betas_of_volumes_are_those_of_the_fit(tmp_path, write):
    file = write(tmp_path / f"{TYPED}{'.hdf5' if write is python else '.mat'}")
    x = open_glmsingle(tmp_path, system="sub-01", stimulus_id=IDS, subject="01", session="2")
    np.testing.assert_array_equal(x.values, BETAS.reshape(24, N).T)
    np.testing.assert_array_equal(x.R2, R2.ravel())
    np.testing.assert_array_equal(x.neuroid_id, np.arange(24))
    assert list(x.stimulus_id.values) == IDS
    assert list(x.repetition.values) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert (x.attrs["units"], x.session.values[3], x.subject.values[0]) == ("% signal change", "2", "01")
    assert json.loads(x.attrs["grid"])["shape"] == list(GRID)
    masked = open_glmsingle(file, system="sub-01", stimulus_id=IDS, mask=MASK)
    np.testing.assert_array_equal(masked.values, BETAS[MASK].T)
    np.testing.assert_array_equal(masked.neuroid_id, np.flatnonzero(MASK))
    np.testing.assert_array_equal(masked.R2, R2[MASK])
    ba.validate(x, deep=True)


@pytest.mark.parametrize("write", [python, matlab])
def test_betas_of_voxels_get_their_places_from_the_mask_of_the_fit(tmp_path, write):
    flat = BETAS[MASK].reshape(-1, *([1, 1] if write is python else []), N)  # Python makes (voxel, 1, 1, trial) of them
    file = write(tmp_path / "TYPEC_FITHRF_GLMDENOISE.hdf5", flat, R2[MASK].reshape(flat.shape[:-1]))
    x = open_glmsingle(file, system="s", stimulus_id=IDS)
    np.testing.assert_array_equal(x.values, BETAS[MASK].T)
    np.testing.assert_array_equal(x.neuroid_id, np.arange(MASK.sum()))
    assert "grid" not in x.attrs
    affine = np.diag([2.0, 2, 3, 1])
    nibabel.save(nibabel.Nifti1Image(MASK.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    placed = open_glmsingle(file, system="s", stimulus_id=IDS, mask=tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(placed.values, x.values)
    np.testing.assert_array_equal(placed.neuroid_id, np.flatnonzero(MASK))
    np.testing.assert_array_equal(placed.z_mm, 3.0 * np.argwhere(MASK)[:, 2])
    with pytest.raises(FormatError, match=rf"betas of {MASK.sum()} voxels, and the mask takes 24"):
        open_glmsingle(file, system="s", stimulus_id=IDS, mask=np.ones(GRID, bool))


def test_pickled_outputs_are_refused_with_a_way_out(tmp_path):
    np.save(tmp_path / f"{TYPED}.npy", {"betasmd": BETAS}, allow_pickle=True)
    for path in (tmp_path, tmp_path / f"{TYPED}.npy"):
        with pytest.raises(FormatError, match=r"pickled Python dict, which can run code .*wanthdf5"):
            open_glmsingle(path, system="s", stimulus_id=IDS)
    python(tmp_path / f"{TYPED}.hdf5")
    assert open_glmsingle(tmp_path, system="s", stimulus_id=IDS).shape == (N, 24)


def test_the_last_stage_is_taken_unless_another_is_named(tmp_path):
    python(tmp_path / f"{TYPED}.hdf5")
    python(tmp_path / "TYPEB_FITHRF.hdf5", BETAS + 1)
    x = open_glmsingle(tmp_path, system="s", stimulus_id=IDS)
    assert ba.core.provenance(x).steps[-1]["params"]["source"] == [f"{TYPED}.hdf5"]
    other = open_glmsingle(tmp_path, system="s", stimulus_id=IDS, model="TYPEB_FITHRF")
    np.testing.assert_array_equal(other.values, x.values + 1)
    with pytest.raises(ParameterError, match="'model' parameter of open_glmsingle must be one of"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS, model="TYPEA_ONOFF")
    with pytest.raises(FormatError, match=r"holds none of TYPEC_FITHRF_GLMDENOISE \(\.hdf5 or \.mat\)"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS, model="TYPEC_FITHRF_GLMDENOISE")


def test_labels_come_from_a_list_a_file_or_a_column(tmp_path):
    python(tmp_path / f"{TYPED}.hdf5")
    table = pd.DataFrame({"image": IDS, "repetition": 7, "run": ["1"] * 5 + ["2"] * 5, "onset_s": np.arange(N) * 4.0})
    x = open_glmsingle(tmp_path, system="s", stimulus_id="image", presentation=table)
    assert (list(x.stimulus_id.values), x.run.values[5], float(x.onset_s[2])) == (IDS, "2", 8.0)
    assert list(x.repetition.values) == [i // 4 for i in range(N)]  # counted, whatever a table says
    table.to_csv(tmp_path / "events.tsv", sep="\t", index=False)
    again = open_glmsingle(tmp_path, system="s", stimulus_id="image", presentation=tmp_path / "events.tsv")
    np.testing.assert_array_equal(again.onset_s, x.onset_s)
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    assert list(open_glmsingle(tmp_path, system="s", stimulus_id=str(tmp_path / "ids.txt")).stimulus_id.values) == IDS
    with pytest.raises(FormatError, match=r"no column 'images'.* Did you mean 'image'\?"):
        open_glmsingle(tmp_path, system="s", stimulus_id="images", presentation=table)
    numbers = pd.DataFrame({"image": [1234567.0, 1234568.0, *range(8)], "note": [None, *"abcdefghi"]})
    x = open_glmsingle(tmp_path, system="s", stimulus_id="image", presentation=numbers)
    assert (list(x.stimulus_id.values[:3]), list(x.note.values[:2])) == (["1234567", "1234568", "0"], ["n/a", "a"])
    with pytest.raises(SchemaError, match=r"no `stimulus_id` at presentations 3"):
        open_glmsingle(tmp_path, system="s", stimulus_id=[*IDS[:3], np.nan, *IDS[4:]])
    with pytest.raises(ParameterError, match="betas of 10 trials, and `stimulus_id=` has 1 rows"):
        open_glmsingle(tmp_path, system="s", stimulus_id=5)
    with pytest.raises(ParameterError, match="betas of 10 trials, and `stimulus_id=` has 9 rows"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS[1:])
    with pytest.raises(ParameterError, match="betas of 10 trials, and `presentation=` has 9 rows"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS, presentation=table[1:])


def test_voxels_without_signal_are_named_or_declared(tmp_path):
    betas = BETAS.copy()
    betas[2, 1, 0] = np.nan  # 100 * beta / mean, where the mean is 0
    python(tmp_path / f"{TYPED}.hdf5", betas)
    with pytest.raises(FormatError, match=r"10 values that are NaN or infinite, the first in row 0 of 'neuroid 14'"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS).compute()
    assert np.isnan(open_glmsingle(tmp_path, system="s", stimulus_id=IDS, allow_nan=True).values).sum() == N
    mask = np.ones(GRID, bool)
    mask[2, 1, 0] = False
    assert np.isfinite(open_glmsingle(tmp_path, system="s", stimulus_id=IDS, mask=mask).values).all()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FormatError, match="holds none of TYPED"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS)
    savemat(tmp_path / "TYPEB_FITHRF.mat", {"modelmd": BETAS})
    with pytest.raises(FormatError, match=r"Expected version 7\.3"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS)
    python(tmp_path / f"{TYPED}.hdf5", r2=R2[:2])
    with pytest.raises(FormatError, match=r"'R2' of shape \(2, 3, 2\), and betas of \(4, 3, 2\)"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS)
    python(tmp_path / f"{TYPED}.hdf5", betas=np.zeros(3))
    with pytest.raises(FormatError, match="no array of betas at 'betasmd'"):
        open_glmsingle(tmp_path, system="s", stimulus_id=IDS)
    with pytest.raises(ParameterError, match="model='TYPEB_FITHRF' for the file"):
        open_glmsingle(tmp_path / f"{TYPED}.hdf5", system="s", stimulus_id=IDS, model="TYPEB_FITHRF")


def test_a_block_of_voxels_reads_its_own(tmp_path, bytes_read):
    betas = np.zeros((40, 40, 20, 60), np.float32)  # 7.7 MB
    file = python(tmp_path / f"{TYPED}.hdf5", betas, np.zeros((40, 40, 20), np.float32))
    x = open_glmsingle(file, system="s", stimulus_id=[str(i) for i in range(60)])
    size = 40 * 40 * 20 * 4
    assert bytes_read(open_glmsingle, file, system="s", stimulus_id=[str(i) for i in range(60)]) < size + 30_000  # R2
    assert bytes_read(x[:, 700:720].compute) < 20 * 60 * 4 + 100_000


def test_content_is_recognised(tmp_path):
    file = python(tmp_path / f"{TYPED}.hdf5")
    for source in (tmp_path, file):
        assert [name for name in FORMATS.names() if FORMATS.get(name).matches(source)] == ["glmsingle"]
    assert not adapter.matches(matlab(tmp_path / f"{TYPED}.mat"))  # a MATLAB file is one of many things: its folder decides
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = BETAS
    (tmp_path / "broken.h5").write_bytes(file.read_bytes()[:100])
    for source in (tmp_path / "other.h5", tmp_path / "broken.h5", tmp_path / "gone", 3, None):
        assert not adapter.matches(source)


@pytest.mark.parametrize("write", [python, matlab])
def test_damaged_files(tmp_path, write, survives_damage):
    file = write(tmp_path / f"{TYPED}{'.hdf5' if write is python else '.mat'}")
    assert survives_damage(file, lambda: open_glmsingle(file, system="s", stimulus_id=IDS, allow_nan=True).compute())

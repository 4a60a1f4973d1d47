import json

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import savemat

import brainalign as ba
from brainalign.adapters.fmri.nsd import adapter, open_nsd
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.open import FORMATS

GRID, TRIALS = (3, 4, 2), 750
AFFINE = np.array([[1.8, 0, 0, -2], [0, 1.8, 0, -3], [0, 0, 1.8, -1], [0, 0, 0, 1.0]])
RNG = np.random.default_rng(0)
SHARED, OTHER = np.split(RNG.permutation(73000) + 1, [1000])
SUBJECTIM = np.stack([np.concatenate([SHARED, RNG.permutation(OTHER)[:9000]]) for _ in range(8)])
ORDER = RNG.permutation(np.repeat(np.arange(1, 10001), 3))[None]


def betas(session):
    return np.random.default_rng(session).integers(-3000, 3000, size=(*GRID, TRIALS), dtype=np.int16)


def volume(path, stored):
    """Write as MATLAB does: HDF5 has the axes reversed, and each voxel a chunk of its own."""
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=stored.transpose(), chunks=(TRIALS, 1, 1, 1))


def image(path, values):
    kind = nibabel.MGHImage if path.suffix in (".mgh", ".mgz") else nibabel.Nifti1Image
    nibabel.save(kind(values, AFFINE), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsd") / "subj02" / "betas_fithrf"
    folder.mkdir(parents=True)
    savemat(folder / "nsd_expdesign.mat", {"subjectim": SUBJECTIM, "masterordering": ORDER, "sharedix": SHARED})
    for session in (1, 2, 3):
        volume(folder / f"betas_session{session:02d}.hdf5", betas(session))
    return folder


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roi")
    visual, faces = np.full(GRID, -1, np.int16), np.zeros(GRID, np.int16)
    visual[0], visual[1, :2], visual[1, 2] = 1, 7, 0
    faces[1, 0], faces[2] = 2, 1
    general = np.where(visual > 0, 1, visual)
    return {name: image(folder / f"{name}.nii.gz", values) for name, values in
            {"prf-visualrois": visual, "floc-faces": faces, "nsdgeneral": general}.items()} | {"values": visual}  # fmt: skip


def test_values_are_percent_signal_change_of_the_voxel_and_trial(folder):
    x = open_nsd(folder)
    assert x.shape == (3 * TRIALS, 24)
    assert x.dtype == np.float32
    expected = np.concatenate([betas(s).reshape(24, TRIALS).T for s in (1, 2, 3)]) / 300.0
    np.testing.assert_array_equal(x.values, expected.astype(np.float32))
    assert x.attrs["units"] == "% signal change"
    assert json.loads(x.attrs["grid"])["shape"] == list(GRID)
    i, j, k = np.unravel_index(x.neuroid_id.values[17], GRID)
    np.testing.assert_array_equal(x.values[TRIALS:, 17][:TRIALS], (betas(2)[i, j, k] / 300.0).astype(np.float32))
    ba.validate(x, deep=True)


def test_ids_count_images_from_0_and_trials_from_the_design(folder):
    x = open_nsd(folder)
    for row in (0, 1, 749, 750, 2249):
        image_from_1 = SUBJECTIM[1, ORDER[0, row] - 1]
        assert x.stimulus_id.values[row] == f"nsd-{image_from_1 - 1:05d}"
        assert bool(x.shared1000.values[row]) == (image_from_1 in SHARED)
    assert (x.session.values[749], x.session.values[750], int(x.trial.values[750])) == ("01", "02", 0)
    assert set(x.subject.values) == set(x.system.values) == {"subj02"}
    step = ba.core.provenance(x).steps[-1]
    assert (step["verb"], step["params"]["index_base"], step["params"]["scale"]) == ("open:nsd", 1, 300.0)


@pytest.mark.parametrize("wrong", ["subjectim", "masterordering", "sharedix"])
def test_an_index_that_is_off_by_one_is_refused(folder, tmp_path, wrong):
    right = {"subjectim": SUBJECTIM, "masterordering": ORDER, "sharedix": SHARED}
    savemat(tmp_path / "off.mat", right | {wrong: right[wrong] + 1})
    savemat(tmp_path / "zero.mat", right | {wrong: right[wrong] - right[wrong].min()})
    savemat(tmp_path / "mixed.mat", right | {"sharedix": SHARED - 1 + (SHARED == 1)})
    said = r"'masterordering' from 2 to 10001\. Expected 1 to 10000|'subjectim' from|images in 'sharedix' that 'subjectim' does not show to subject 2"
    for name in ("off", "mixed"):
        with pytest.raises(FormatError, match=said):
            open_nsd(folder, design=tmp_path / f"{name}.mat")
    with pytest.raises(FormatError, match=rf"'{wrong}' from 0 .* NSD counts from 1"):
        open_nsd(folder, design=tmp_path / "zero.mat")


def test_repeats_are_counted_over_sessions(folder):
    x = open_nsd(folder)
    ids, repetition = x.stimulus_id.values, x.repetition.values
    for image_id in np.unique(ids)[:200]:
        np.testing.assert_array_equal(repetition[ids == image_id], np.arange((ids == image_id).sum()))
    assert repetition.max() == 2
    alone = open_nsd(folder, sessions=[3])
    np.testing.assert_array_equal(alone.stimulus_id, ids[2 * TRIALS :])
    np.testing.assert_array_equal(alone.values, x.values[2 * TRIALS :])


def test_masks_and_regions_take_their_voxels(folder, labels):
    x, visual = open_nsd(folder), labels["values"]
    masked = open_nsd(folder, mask=labels["nsdgeneral"])
    np.testing.assert_array_equal(masked.values, x.values[:, (visual > 0).ravel()])
    np.testing.assert_array_equal(masked.neuroid_id, np.flatnonzero(visual > 0))
    xyz = np.stack([masked[name].values for name in ("x_mm", "y_mm", "z_mm")], axis=1)
    np.testing.assert_allclose(xyz, nibabel.affines.apply_affine(AFFINE, np.argwhere(visual > 0)), atol=1e-5)
    both = open_nsd(folder, rois=[labels["prf-visualrois"], labels["floc-faces"]], regions=["V1v", "hV4", "OFA"])
    for name, inside in (("V1v", visual == 1), ("hV4", visual == 7)):
        np.testing.assert_array_equal(both.values[:, both.region.values == name], x.values[:, inside.ravel()])
    assert both["roi_FFA-1"].values.sum() == 2
    with pytest.raises(ParameterError, match=r"2 neuroids that lie both in 'hV4' and in 'FFA-1'"):
        open_nsd(folder, rois=[labels["prf-visualrois"], labels["floc-faces"]])
    with pytest.raises(ParameterError, match=r"no region 'V1'\. Did you mean 'V1v'\?"):
        open_nsd(folder, rois=labels["prf-visualrois"], regions=["V1"])
    with pytest.raises(ParameterError, match="without `rois=`"):
        open_nsd(folder, regions=["V1v"])
    with pytest.raises(FormatError, match=r"4 different values, up to 7\. Expected a mask"):
        open_nsd(folder, mask=labels["prf-visualrois"])


def test_labels_of_other_images_need_names(folder, tmp_path):
    own = image(tmp_path / "own.nii.gz", np.arange(24, dtype=np.int16).reshape(GRID) % 3)
    with pytest.raises(ParameterError, match="labels '1', '2' without names"):
        open_nsd(folder, rois=own)
    with pytest.raises(ParameterError, match=r"rois= an array of shape \(3, 4, 2\)\. Expected label images"):
        open_nsd(folder, rois=np.ones(GRID))
    assert set(open_nsd(folder, rois=own, region_names={1: "a", 2: "b"}).region.values) == {"a", "b"}


def test_the_noise_ceiling_of_the_folder_is_kept(folder):
    ratio = np.linspace(0, 2, 24, dtype=np.float32).reshape(GRID)
    file = image(folder / "ncsnr.nii.gz", ratio)
    try:
        x = open_nsd(folder)
    finally:
        file.unlink()
    np.testing.assert_array_equal(x.ncsnr, ratio.ravel())
    np.testing.assert_allclose(x.nc_singletrial, 100 * ratio.ravel() ** 2 / (ratio.ravel() ** 2 + 1), rtol=1e-6)
    assert "ncsnr" not in open_nsd(folder).coords


def test_z_scores_only_where_asked_for_and_within_sessions(folder):
    x, z = open_nsd(folder), open_nsd(folder, zscore="session")
    for session in ("01", "02", "03"):
        part = x.values[x.session.values == session].astype(np.float64)
        np.testing.assert_allclose(z.values[z.session.values == session], (part - part.mean(0)) / part.std(0), atol=1e-5)
    assert z.attrs["units"] == "z-score within session"
    assert ba.core.provenance(z).steps[-1]["params"]["zscore"] == "session"
    with pytest.raises(ParameterError, match="'zscore' parameter of open_nsd must be one of None, 'session'"):
        open_nsd(folder, zscore="run")


def test_sessions_that_are_missing_are_named(folder, tmp_path):
    (tmp_path / "subj01").mkdir()
    for session in (1, 4, 5):
        volume(tmp_path / "subj01" / f"betas_session{session:02d}.hdf5", betas(session))
    design = folder / "nsd_expdesign.mat"
    with pytest.raises(FormatError, match=r"lacks session 2, 3; it holds 1, 4, 5.*sessions=\[1, 4, 5\]"):
        open_nsd(tmp_path / "subj01", design=design)
    x = open_nsd(tmp_path / "subj01", design=design, sessions=[1, 4])
    assert x.stimulus_id.values[TRIALS] == f"nsd-{SUBJECTIM[0, ORDER[0, 3 * TRIALS] - 1] - 1:05d}"


def test_missing_sidecars_and_wrong_grids_are_named(folder, tmp_path):
    home = tmp_path / "subj01"
    home.mkdir()
    volume(home / "betas_session01.hdf5", betas(1))
    with pytest.raises(FormatError, match=r"no file '.*nsd_expdesign\.mat'"):
        open_nsd(home)
    with pytest.raises(ParameterError, match="names no subject"):
        open_nsd(tmp_path)
    design = folder / "nsd_expdesign.mat"
    with h5py.File(home / "betas_session02.hdf5", "w") as file:
        file["betas"] = np.zeros((TRIALS, 2, 4, 4), np.int16)
    with pytest.raises(FormatError, match=r"session02\.hdf5' has the shape \(4, 4, 2, 750\), .* of session 2"):
        open_nsd(home, design=design)
    with h5py.File(home / "betas_session02.hdf5", "w") as file:
        file["betas"] = np.zeros((TRIALS, 2, 4, 3), np.float32)
    with pytest.raises(FormatError, match=r"holds float32 at 'betas'\. Expected whole numbers"):
        open_nsd(home, design=design)  # 300 times too small, were it divided as int16 is
    with h5py.File(home / "betas_session02.hdf5", "w") as file:
        file["betas"] = np.zeros((TRIALS - 1, 2, 4, 3), np.int16)
    with pytest.raises(FormatError, match=r"session02\.hdf5' has the shape \(3, 4, 2, 749\), .* the 750 trials of session 2"):
        open_nsd(home, design=design)
    with h5py.File(home / "betas_session02.hdf5", "w") as file:
        file["beta"] = np.zeros(3)
    with pytest.raises(FormatError, match=r"no array of betas at 'betas'.*\['beta'\]"):
        open_nsd(home, design=design)
    savemat(tmp_path / "short.mat", {"subjectim": SUBJECTIM, "masterordering": ORDER[:, :1000], "sharedix": SHARED})
    with pytest.raises(FormatError, match=r"has 1000 trials in 'masterordering', 1 sessions of 750\. Expected session 3"):
        open_nsd(folder, design=tmp_path / "short.mat")
    with pytest.raises(FormatError, match=r"grid \(2, 2, 2\), and .* has \(3, 4, 2\)"):
        open_nsd(folder, mask=np.ones((2, 2, 2), bool))


def test_surfaces_have_both_hemispheres(folder, tmp_path):
    home, values = tmp_path / "subj01", {}
    home.mkdir()
    for session in (1, 2):
        for side, n in (("lh", 5), ("rh", 6)):
            values[session, side] = np.random.default_rng(session + n).normal(size=(n, 1, 1, TRIALS)).astype(np.float32)
            image(home / f"{side}.betas_session{session:02d}.mgh", values[session, side])
    for side, n in (("lh", 5), ("rh", 6)):
        image(home / f"{side}.ncsnr.mgh", np.arange(n, dtype=np.float32).reshape(n, 1, 1))
        image(tmp_path / f"{side}.streams.mgz", (np.arange(n) % 3).astype(np.float32).reshape(n, 1, 1))
    design = folder / "nsd_expdesign.mat"
    x = open_nsd(home, design=design)
    expected = np.block([[values[s, side].reshape(-1, TRIALS).T for side in ("lh", "rh")] for s in (1, 2)])
    np.testing.assert_array_equal(x.values, expected)
    assert "".join(x.hemisphere.values) == "LLLLLRRRRRR"
    assert list(x.neuroid_id.values[[0, 5]]) == ["L0", "R0"]
    np.testing.assert_array_equal(x.vertex, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(x.ncsnr, x.vertex)
    with pytest.raises(ParameterError, match=r"ncsnr=.*lh\.ncsnr.* Expected 2"):
        open_nsd(home, design=design, ncsnr=home / "lh.ncsnr.mgh")
    with pytest.raises(ParameterError, match="Expected 2: one a volume, or one a hemisphere"):
        open_nsd(home, design=design, ncsnr=[home / "lh.ncsnr.mgh"] * 2)
    swapped = open_nsd(home, design=design, ncsnr=[home / f"{side}.ncsnr.mgh" for side in ("rh", "lh")])
    np.testing.assert_array_equal(swapped.ncsnr, x.vertex)
    part = open_nsd(home, design=design, rois=[tmp_path / "lh.streams.mgz", tmp_path / "rh.streams.mgz"], regions="midventral")
    np.testing.assert_array_equal(part.values, expected[:, [2, 7, 10]])
    np.testing.assert_array_equal(open_nsd(home, design=design, mask=np.arange(11) > 7).values, expected[:, 8:])
    file = home / "rh.betas_session02.mgh"
    whole = file.read_bytes()
    file.write_bytes(whole[:-500])
    with pytest.raises(FormatError, match=r"rh\.betas_session02\.mgh' has \d+ bytes; its header promises"):
        open_nsd(home, design=design)
    file.unlink()
    with pytest.raises(FormatError, match="lacks rh of session 2"):
        open_nsd(home, design=design)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """40 sessions of the size of subj01, of which only chunks with data occupy the disk."""
    folder = tmp_path_factory.mktemp("large") / "subj01"
    folder.mkdir()
    savemat(folder / "nsd_expdesign.mat", {"subjectim": SUBJECTIM, "masterordering": ORDER, "sharedix": SHARED})
    for session in range(1, 41):
        with h5py.File(folder / f"betas_session{session:02d}.hdf5", "w") as file:
            stored = file.create_dataset("betas", shape=(TRIALS, 83, 104, 81), dtype=np.int16, chunks=(TRIALS, 1, 1, 1))
            for z in range(40, 60):
                stored[:, z, 50, 30] = 300 * session + z
    return folder


def test_opening_40_gb_reads_headers_only_and_a_block_its_chunks(large, bytes_read):
    assert sum(file.stat().st_size for file in large.glob("*.hdf5")) < 10_000_000
    design = (large / "nsd_expdesign.mat").stat().st_size
    opened = bytes_read(open_nsd, large)
    x = open_nsd(large)
    assert x.shape == (30000, 81 * 104 * 83)
    assert x.nbytes == pytest.approx(2 * 42.0e9, rel=0.01)  # float32 of what int16 holds
    assert opened < 40 * 8_000 + 2 * design
    first = int(np.ravel_multi_index((30, 50, 40), (81, 104, 83)))
    ten = x[:, first : first + 10]
    np.testing.assert_array_equal(ten.values[::TRIALS, 3], ((300 * np.arange(1, 41) + 43) / 300).astype(np.float32))
    # 10 chunks of 1500 bytes a session, and the index of the chunks
    assert bytes_read(ten.compute) < 40 * (10 * 1500 + 16_000)
    z = open_nsd(large, zscore="session")[:, first : first + 10]
    assert bytes_read(z.compute) < 40 * (10 * 1500 + 16_000)
    five = x[100:105, first : first + 20]
    assert bytes_read(five.compute) < 20 * 1500 + 16_000  # a chunk holds all trials of a voxel


def test_what_is_opened_is_evaluated_like_any_other(folder, labels):
    x = open_nsd(folder, rois=labels["prf-visualrois"])
    ids = np.unique(x.stimulus_id.values.astype(object))
    features = ba.responses(
        np.random.default_rng(1).normal(size=(len(ids), 3)), stimulus_id=ids, neuroid_id=range(3), modality="ann", system="net"
    )
    result = ba.evaluate(features, x, model=ba.Ridge(), cv=3)
    assert np.isfinite(result.score).all()


def test_folders_are_recognised_by_their_files(folder, tmp_path, labels):
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(folder)] == ["nsd"]
    assert not adapter.matches(tmp_path)
    assert not adapter.matches(labels["nsdgeneral"])
    assert not adapter.matches(np.zeros(3))
    with pytest.raises(FormatError, match="holds no betas that are read"):
        open_nsd(tmp_path, subject=1)


@pytest.mark.parametrize("name", ["betas_session02.hdf5", "nsd_expdesign.mat"])
def test_damaged_files(tmp_path, folder, name, survives_damage):
    home = tmp_path / "subj02"
    home.mkdir()
    small = {"subjectim": SUBJECTIM[:, :50], "masterordering": np.tile(np.arange(1, 51), 30)[None], "sharedix": SHARED[:9]}
    savemat(home / "nsd_expdesign.mat", small)
    for session in (1, 2):
        (home / f"betas_session{session:02d}.hdf5").write_bytes((folder / f"betas_session{session:02d}.hdf5").read_bytes())
    assert survives_damage(home / name, lambda: open_nsd(home).compute())

import h5py
import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.fmri.things_fmri import adapter, open_things_fmri
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.open import FORMATS

VOXELS, TRIALS = 6, 20
VALUES = np.random.default_rng(0).normal(size=(VOXELS, TRIALS))
NAMES = [f"{concept}_{i:02d}s.jpg" for i in range(4) for concept in ("dog", "baseball_bat", "mango", "bat1", "dog")]
STIMULI = pd.DataFrame(
    {
        "trial_type": ["train", "train", "test", "train", "train"] * 4, "session": np.repeat([1, 2], 10), "run": np.repeat([1, 2, 1, 2], 5),
        "subject_id": 1, "trial_id": np.arange(TRIALS), "stimulus": NAMES, "concept": [name.rpartition("_")[0] for name in NAMES],
    }
).assign(stimulus=lambda t: t.stimulus.where(t.trial_type != "test", "mango_00s.jpg"))  # fmt: skip
REGIONS = {"V1": [1, 1, 0, 0, 0, 0], "LO1 (prf)": [0, 0, 1, 1, 0, 0], "IT": [0, 1, 1, 0, 0, 0], "glasser-FFC": [0, 0, 0, 0, 1, 0]}
VOXEL_TABLE = pd.DataFrame(
    {
        "voxel_id": np.arange(VOXELS), "subject_id": 1, "voxel_x": [1, 1, 2, 2, 3, 3], "voxel_y": 39, "voxel_z": np.arange(33, 39),
        "nc_singletrial": np.linspace(0, 50, VOXELS), "nc_testset": np.linspace(0, 90, VOXELS), "splithalf_corrected": 0.5,
        "prf-size": np.linspace(0, 9, VOXELS), **REGIONS,
    }
)  # fmt: skip


def write(folder, values=VALUES, stimuli=STIMULI, voxels=VOXEL_TABLE, *, pickled=False, columns=None, name="sub-01"):
    """Write as pandas 3.1 with PyTables 3.10 does (``DataFrame.to_hdf(key="ResponseData")``, format fixed): one block a dtype."""
    with h5py.File(folder / f"{name}_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group.attrs.update({"CLASS": np.bytes_("GROUP"), "pandas_type": np.bytes_("frame"), "nblocks": np.int64(2)})
        group["axis1"] = np.arange(len(values))
        group["block0_values"], group["block1_values"] = values, np.arange(len(values))[:, None]
        group["block1_items"] = np.array([b"voxel_id"])
        if pickled:  # labels that are numbers and text: an object, in bytes that pandas would unpickle
            blob = group.create_dataset("block0_items", (1,), dtype=h5py.vlen_dtype(np.uint8))
            blob[0] = np.frombuffer(b"\x80\x05cos\nsystem\n", np.uint8)
        else:
            group["block0_items"] = np.array(columns or [str(i) for i in range(values.shape[1])], dtype="S")
    stimuli.to_csv(folder / f"{name}_StimulusMetadata.csv", index=False)
    voxels.to_csv(folder / f"{name}_VoxelMetadata.csv", index=False)
    return folder


@pytest.mark.parametrize("pickled", [False, True])
def test_rows_are_trials_and_columns_are_voxels(tmp_path, pickled):
    x = open_things_fmri(write(tmp_path, pickled=pickled))
    np.testing.assert_array_equal(x.values, VALUES.T.astype(np.float32))
    assert x.dims == ("presentation", "neuroid")
    assert list(x.stimulus_id.values[:3]) == ["dog_00s", "baseball_bat_00s", "mango_00s"]
    assert list(x.condition.values[:4]) == ["dog", "baseball_bat", "mango", "bat1"]
    assert list(x.trial_type.values[:3]) == ["train", "train", "test"]
    assert (x.session.values[10], x.run.values[5], x.subject.values[0], x.system.values[0]) == ("2", "2", "sub-01", "sub-01")
    np.testing.assert_array_equal(x.repetition.values[2::5], [0, 1, 2, 3])
    np.testing.assert_array_equal(x.neuroid_id, np.arange(VOXELS))
    for name in ("voxel_z", "nc_singletrial", "nc_testset", "splithalf_corrected", "prf-size"):
        np.testing.assert_array_equal(x[name], VOXEL_TABLE[name])
    for name, inside in REGIONS.items():
        np.testing.assert_array_equal(x[f"roi_{name}"], np.array(inside, bool))
    assert "region" not in x.coords
    ba.validate(x, deep=True)


def test_regions_are_chosen_by_name_and_must_not_overlap(tmp_path):
    write(tmp_path)
    x = open_things_fmri(tmp_path / "sub-01_ResponseData.h5", regions=["glasser-FFC", "V1"])
    np.testing.assert_array_equal(x.values, VALUES[[0, 1, 4]].T.astype(np.float32))
    assert list(x.region.values) == ["V1", "V1", "glasser-FFC"]
    np.testing.assert_array_equal(x.nc_testset, VOXEL_TABLE["nc_testset"][[0, 1, 4]])
    with pytest.raises(ParameterError, match="1 neuroids that lie both in 'V1' and in 'IT'"):
        open_things_fmri(tmp_path, regions=["V1", "IT"])
    with pytest.raises(ParameterError, match="no region 'V5'"):
        open_things_fmri(tmp_path, regions=["V5"])


def test_the_concept_comes_from_the_name_where_no_column_tells_it(tmp_path):
    x = open_things_fmri(write(tmp_path, stimuli=STIMULI.drop(columns="concept")))
    assert list(x.condition.values) == list(STIMULI["stimulus"].str.rpartition("_")[0])


def test_z_scores_within_sessions(tmp_path):
    x = open_things_fmri(write(tmp_path), zscore="session")
    part = VALUES[:, 10:].T
    np.testing.assert_allclose(x.values[10:], (part - part.mean(0)) / part.std(0), atol=1e-5)
    mixed = STIMULI.assign(session=[1, 2] * 10)
    with pytest.raises(FormatError, match="Expected the trials of a session in one piece"):
        open_things_fmri(write(tmp_path, stimuli=mixed))


def test_tables_of_another_order_or_length_are_refused(tmp_path):
    swapped = [str(i) for i in range(TRIALS)]
    swapped[3], swapped[4] = "4", "3"
    with pytest.raises(FormatError, match=r"has trial 4 at position 3, and 'sub-01_StimulusMetadata.csv' has 3 in that row"):
        open_things_fmri(write(tmp_path, columns=swapped))
    with pytest.raises(FormatError, match=r"has voxel 0 at position 0, and 'sub-01_VoxelMetadata.csv' has 5 in that row"):
        open_things_fmri(write(tmp_path, voxels=VOXEL_TABLE[::-1]))
    with pytest.raises(FormatError, match=r"6 voxels × 20 trials; .* has 6 rows and .* has 19"):
        open_things_fmri(write(tmp_path, stimuli=STIMULI[:-1]))
    with pytest.raises(FormatError, match=r"6 voxels × 20 trials; .* has 5 rows and .* has 20"):
        open_things_fmri(write(tmp_path, voxels=VOXEL_TABLE[1:]))


def test_missing_columns_files_and_cells_are_named(tmp_path):
    with pytest.raises(FormatError, match="no column 'stimulus'"):
        open_things_fmri(write(tmp_path, stimuli=STIMULI.drop(columns="stimulus")))
    with pytest.raises(FormatError, match="no column 'voxel_id'"):
        open_things_fmri(write(tmp_path, voxels=VOXEL_TABLE.drop(columns="voxel_id")))
    with pytest.raises(FormatError, match="has 2 in row 0 of the region 'V1'"):
        open_things_fmri(write(tmp_path, voxels=VOXEL_TABLE.assign(V1=[2, 1, 0, 0, 0, 0])))
    write(tmp_path)
    table = tmp_path / "sub-01_VoxelMetadata.csv"
    table.write_text(table.read_text()[:-8])  # the last row loses its regions
    with pytest.raises(FormatError, match="has nan in row 5 of the region"):
        open_things_fmri(tmp_path)
    VOXEL_TABLE.to_csv(table, index=False)
    head, *rows = table.read_text().splitlines()
    for longer in (rows, rows[3:4]):
        table.write_text("\n".join([head, *(f"{row},1" if row in longer else row for row in rows)]))
        with pytest.raises(FormatError, match="could not be read as csv"):
            open_things_fmri(tmp_path)
    table.unlink()
    with pytest.raises(FormatError, match=r"no file '.*sub-01_VoxelMetadata.csv'"):
        open_things_fmri(tmp_path)
    (tmp_path / "sub-01_ResponseData.h5").unlink()
    with pytest.raises(FormatError, match=r"holds no sub-01_ResponseData.h5"):
        open_things_fmri(tmp_path)


def test_one_of_several_people_is_named(tmp_path):
    write(write(tmp_path), VALUES + 1, name="sub-02")
    with pytest.raises(ParameterError, match="holds 'sub-01', 'sub-02', and subject=None"):
        open_things_fmri(tmp_path)
    np.testing.assert_array_equal(open_things_fmri(tmp_path, subject="sub-02").values, (VALUES + 1).T.astype(np.float32))


def test_undeclared_nan_is_named(tmp_path):
    values = VALUES.copy()
    values[4, 13] = np.nan
    with pytest.raises(FormatError, match="row 13 of 'neuroid 4'"):
        open_things_fmri(write(tmp_path, values)).compute()
    assert np.isnan(open_things_fmri(tmp_path, allow_nan=True).values).sum() == 1


def test_other_tables_of_pandas_are_refused(tmp_path):
    write(tmp_path)
    with h5py.File(tmp_path / "sub-01_ResponseData.h5", "w") as file:
        file["ResponseData/table"] = np.zeros(3)
    with pytest.raises(FormatError, match=r"0 tables of pandas .* Expected one table in the format 'fixed'"):
        open_things_fmri(tmp_path)


def test_a_block_of_voxels_reads_its_own(tmp_path, bytes_read):
    n = 2000
    voxels = pd.DataFrame({"voxel_id": np.arange(n), "V1": 1})
    write(tmp_path, np.zeros((n, TRIALS * 20)), pd.concat([STIMULI.assign(session=i) for i in range(20)], ignore_index=True).assign(
        trial_id=np.arange(TRIALS * 20)), voxels)  # fmt: skip
    x = open_things_fmri(tmp_path)
    tables = sum(file.stat().st_size for file in tmp_path.glob("*.csv"))
    assert bytes_read(open_things_fmri, tmp_path) < 2 * tables + 100_000  # of 6.4 MB
    assert bytes_read(x[:, 1000:1003].compute) < 300_000


def test_content_is_recognised(tmp_path):
    assert not adapter.matches(tmp_path)
    write(tmp_path)
    for source in (tmp_path, tmp_path / "sub-01_ResponseData.h5"):
        assert [name for name in FORMATS.names() if FORMATS.get(name).matches(source)] == ["things-fmri"]
    for source in (tmp_path / "sub-01_VoxelMetadata.csv", tmp_path / "gone", 3, None):
        assert not adapter.matches(source)
    with pytest.raises(FormatError, match="is no table of responses"):
        open_things_fmri(tmp_path / "sub-01_VoxelMetadata.csv")


@pytest.mark.parametrize("file", ["sub-01_ResponseData.h5", "sub-01_StimulusMetadata.csv", "sub-01_VoxelMetadata.csv"])
def test_damaged_files(tmp_path, file, survives_damage):
    write(tmp_path)
    assert survives_damage(tmp_path / file, lambda: open_things_fmri(tmp_path, allow_nan=True).compute())

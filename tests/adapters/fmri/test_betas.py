import dask.array as da
import nibabel
import numpy as np
import pytest

from brainalign.adapters.fmri.betas import choose_sessions, grid_map, image_ids, mask_map, names_in, region_of, scaled, zscores
from brainalign.core.errors import FormatError, ParameterError

MEMBERS = {
    "V1": np.array([1, 1, 0, 0, 0], bool),
    "V2": np.array([0, 0, 1, 0, 0], bool),
    "early": np.array([1, 1, 1, 0, 0], bool),
    "empty": np.zeros(5, bool),
}


def test_regions_label_their_neuroids_and_must_not_overlap():
    keep, region = region_of(MEMBERS, ["V2", "V1"], "the file")
    assert keep.tolist() == [True, True, True, False, False]
    assert region.tolist() == ["V1", "V1", "V2"]
    with pytest.raises(ParameterError, match=r"the file has 2 neuroids that lie both in 'V1' and in 'early'"):
        region_of(MEMBERS, ["V1", "early"], "the file")
    with pytest.raises(ParameterError, match=r"no region 'v1'\. Did you mean 'V1'\?"):
        region_of(MEMBERS, ["v1"], "the file")
    with pytest.raises(ParameterError, match="no neuroid in 'empty'"):
        region_of(MEMBERS, "empty", "the file")


def test_z_scores_are_within_sessions_and_constants_stay_constant():
    values = np.random.default_rng(0).normal(3, 2, size=(7, 4)).astype(np.float32)
    values[:, 2] = 0.1  # 0.1 has no exact mean: a trace of rounding must not become 1
    lazy = da.from_array(values, chunks=((3, 4), 2))
    assert scaled(lazy, [3, 4], None, owner="f") is lazy
    z = scaled(lazy, [3, 4], "session", owner="f").compute()
    for part, scored in ((values[:3], z[:3]), (values[3:], z[3:])):
        expected = (part - part.mean(0)) / np.where(part.std(0) < 1e-5, np.inf, part.std(0))
        np.testing.assert_allclose(scored, expected, atol=1e-5)
    assert (z[:, 2] == 0).all()
    assert np.isnan(zscores(np.array([[np.nan, 1.0], [1.0, 3.0]]))[:, 0]).all()


def test_sessions_are_numbered_and_none_goes_missing(tmp_path):
    assert choose_sessions({2: "", 1: ""}, None, tmp_path) == [1, 2]
    assert choose_sessions({1: "", 3: ""}, [3], tmp_path) == [3]
    with pytest.raises(FormatError, match=r"lacks session 2; it holds 1, 3.*`sessions=\[1, 3\]`"):
        choose_sessions({1: "", 3: ""}, None, tmp_path)
    with pytest.raises(FormatError, match="lacks session 9"):
        choose_sessions({1: ""}, [1, 9], tmp_path)
    assert choose_sessions({2: "", 1: ""}, 2, tmp_path) == [2]
    for wrong in ([], [1, 1], [1.5], [0], ["1"]):
        with pytest.raises(ParameterError, match="each once"):
            choose_sessions({1: ""}, wrong, tmp_path)


def test_maps_are_on_the_grid(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(values[..., None], np.diag([2.0, 2, 2, 1])), tmp_path / "m.nii.gz")
    found, affine = grid_map(tmp_path / "m.nii.gz", (2, 3, 4), tmp_path)
    np.testing.assert_array_equal(found, values.ravel())
    np.testing.assert_array_equal(affine, np.diag([2.0, 2, 2, 1]))
    with pytest.raises(FormatError, match=r"m\.nii\.gz' has the grid \(2, 3, 4\), and .* has \(4, 3, 2\)"):
        grid_map(tmp_path / "m.nii.gz", (4, 3, 2), tmp_path)
    with pytest.raises(FormatError, match=r"the array of shape \(5,\) has the grid"):
        grid_map(np.zeros(5), (4,), tmp_path)
    (tmp_path / "m.mgz").write_bytes(b"nothing of the kind")
    with pytest.raises(FormatError, match="could not be read as MGH"):
        grid_map(tmp_path / "m.mgz", (4,), tmp_path)


def test_masks_hold_what_is_inside_and_outside():
    assert mask_map(np.array([-1, 0, 1]), "m").tolist() == [False, False, True]
    with pytest.raises(FormatError, match=r"m holds 2 different values, up to 0\.5"):
        mask_map(np.array([0, 0.5]), "m")
    with pytest.raises(FormatError, match="takes 0 of 2 places"):
        mask_map(np.array([0, -1]), "m")


def test_ids_are_names_of_images_without_folder_and_suffix():
    assert image_ids([" x/dog_12s.jpg ", "a.JPEG"], "f") == ["dog_12s", "a"]
    with pytest.raises(FormatError, match=r"'a\.jpg' and 'a\.png', which have one id, 'a'"):
        image_ids(["a.jpg", "b.jpg", "a.png"], "f")


def test_names_of_a_folder_never_raise(tmp_path):
    (tmp_path / "a").touch()
    assert names_in(tmp_path) == ["a"]
    assert names_in(tmp_path / "a") == names_in(tmp_path / "gone") == names_in(3) == []

import nibabel
import numpy as np
import pytest

from brainalign.adapters.fmri.voxels import check_same_grid, mask_values, read_region_names, select_voxels
from brainalign.core.errors import FormatError

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])
IMAGE = nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.float32), AFFINE)


def test_every_voxel_has_its_place_in_c_order():
    keep, columns = select_voxels(IMAGE, "b.nii")
    assert keep.all()
    ijk = np.stack(np.unravel_index(np.arange(24), (2, 3, 4)), axis=1)
    xyz = np.stack([columns[name] for name in ("x_mm", "y_mm", "z_mm")], axis=1)
    np.testing.assert_allclose(xyz, nibabel.affines.apply_affine(AFFINE, ijk))


def test_mask_and_labels_cut_each_other():
    mask = np.zeros((2, 3, 4), bool)
    mask[0] = True
    labels = nibabel.Nifti1Image(np.tile(np.array([0, 1, 2, 2], np.int16), (2, 3, 1)), AFFINE)
    keep, columns = select_voxels(IMAGE, "b.nii", mask=mask, labels=labels, region_names={1: "A", 2: "B"})
    assert keep.sum() == 9
    assert list(columns["region"]) == ["A", "B", "B"] * 3


def test_a_mask_may_be_an_image_with_one_volume(tmp_path):
    values = np.zeros((2, 3, 4, 1), np.uint8)
    values[1, 2, 3] = 1
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "m.nii.gz")
    assert np.argwhere(mask_values(tmp_path / "m.nii.gz", IMAGE, "b.nii")).tolist() == [[1, 2, 3]]
    whole = (tmp_path / "m.nii.gz").read_bytes()
    (tmp_path / "m.nii.gz").write_bytes(whole[:-3])
    with pytest.raises(FormatError, match=r"m\.nii\.gz"):
        mask_values(tmp_path / "m.nii.gz", IMAGE, "b.nii")


def test_grids_are_compared_by_shape_and_place():
    check_same_grid("a", (2, 3, 4), AFFINE + 1e-4, "b", IMAGE)
    with pytest.raises(FormatError, match=r"a has the grid \(2, 3, 3\) and b \(2, 3, 4\)"):
        check_same_grid("a", (2, 3, 3), None, "b", IMAGE)
    with pytest.raises(FormatError, match=r"a and b have affines that differ by up to 0\.5 mm"):
        check_same_grid("a", (2, 3, 4), AFFINE + 0.5, "b", IMAGE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("index\tlabel\n1\tA\n", "no column 'name'"),
        ("index\tname\n1.5\tA\n", "index 1.5 and name 'A' in row 0"),
        ("index\tname\nn/a\tA\n", "index nan"),
        ("index\tname\n1\tA\n1\tB\n", "index 1 and name 'B' in row 1"),
        ("index\tname\none\tA\n", "'one' in row 0"),
    ],
)
def test_damaged_tables_of_names(tmp_path, text, said):
    (tmp_path / "x_dseg.tsv").write_text(text)
    with pytest.raises(FormatError, match=said):
        read_region_names(tmp_path / "x_dseg.tsv")


def test_labels_are_whole_numbers():
    halves = nibabel.Nifti1Image(np.full((2, 3, 4), 0.5, np.float32), AFFINE)
    with pytest.raises(FormatError, match="no whole numbers"):
        select_voxels(IMAGE, "b.nii", labels=halves, region_names={})

import gzip
import struct

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.adapters.fmri.volumes import header_tr, lazy_volumes, load_image, read_values
from brainalign.core.errors import FormatError

SHAPE = (4, 3, 5, 7)


def image_of(values, *, slope=None, kind=nibabel.Nifti1Image):
    image = kind(values, np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    if slope is not None:
        image.header.set_slope_inter(*slope)
        image.header.set_data_dtype(np.int16)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    stored = np.random.default_rng(0).integers(-3000, 3000, SHAPE).astype(np.int16)
    for suffix in (".nii", ".nii.gz"):
        nibabel.save(image_of(stored), folder / f"plain{suffix}")
        nibabel.save(image_of(stored, slope=(1 / 300, 2.5)), folder / f"scaled{suffix}")
        nibabel.save(image_of(stored.astype(">f8"), kind=nibabel.Nifti2Image), folder / f"wide{suffix}")
    nibabel.save(image_of(stored, kind=nibabel.Nifti1Pair), folder / "pair.hdr")
    return folder


NAMES = [f"{name}{suffix}" for name in ("plain", "scaled", "wide") for suffix in (".nii", ".nii.gz")] + ["pair.hdr"]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_nibabel(folder, name):
    keep = np.random.default_rng(1).random(SHAPE[:3]) < 0.4
    image = load_image(folder / name, n_dims=4)
    array = lazy_volumes(image, keep, allow_nan=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.compute(), image.get_fdata()[keep].T.astype(np.float32))
    np.testing.assert_array_equal(read_values(image), np.asanyarray(image.dataobj))


index = st.one_of(st.slices(7), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.just(slice(None, None, -2)))


@given(rows=index, columns=st.slices(60), name=st.sampled_from(["plain.nii", "scaled.nii.gz"]))
def test_any_block_is_the_block_of_the_whole(folder, rows, columns, name):
    image = load_image(folder / name)
    array = lazy_volumes(image, np.ones(SHAPE[:3], bool), allow_nan=False)
    whole = image.get_fdata().reshape(60, 7).T.astype(np.float32)
    np.testing.assert_array_equal(array[rows][:, columns].compute(), whole[rows][:, columns])


def test_a_block_reads_its_own_volumes_and_little_more(tmp_path, bytes_read):
    values = np.zeros((20, 20, 10, 100), dtype=np.int16)  # 800 kB, 8 kB a volume
    nibabel.save(image_of(values), tmp_path / "a.nii")
    every = np.ones((20, 20, 10), dtype=bool)
    load_image(tmp_path / "a.nii")
    assert bytes_read(load_image, tmp_path / "a.nii") < 30_000
    array = lazy_volumes(load_image(tmp_path / "a.nii"), every, allow_nan=False)
    assert bytes_read(array[40:45].compute) < 5 * 8_000 + 10_000
    slab = np.zeros_like(every)
    slab[:, :, 4] = True
    part = lazy_volumes(load_image(tmp_path / "a.nii"), slab, allow_nan=False)
    assert bytes_read(part.compute) < 100 * 800 + 10_000


def test_a_compressed_run_is_streamed_once(tmp_path, bytes_read):
    values = np.random.default_rng(0).integers(0, 3000, (20, 20, 10, 100)).astype(np.int16)
    nibabel.save(image_of(values), tmp_path / "a.nii.gz")
    size = (tmp_path / "a.nii.gz").stat().st_size
    load_image(tmp_path / "a.nii.gz")
    assert bytes_read(load_image, tmp_path / "a.nii.gz") < 0.5 * size
    array = lazy_volumes(load_image(tmp_path / "a.nii.gz"), np.ones((20, 20, 10), bool), allow_nan=False)
    assert bytes_read(array.compute) < size + 50_000


def test_a_flipped_bit_is_noticed_by_whichever_block_is_read(tmp_path):
    values = np.random.default_rng(0).integers(0, 3000, (10, 10, 10, 100)).astype(np.int16)
    nibabel.save(image_of(values), tmp_path / "a.nii.gz")
    # stored, not deflated: nothing but the checksum can tell
    whole = bytearray(gzip.compress(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()), compresslevel=0))
    whole[-1000] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(whole)
    array = lazy_volumes(load_image(tmp_path / "a.nii.gz"), np.ones((10, 10, 10), bool), allow_nan=False)
    for block in (array[:1, :1], array[99:]):
        with pytest.raises(FormatError, match=r"a\.nii\.gz' could not be read as NIfTI \(BadGzipFile: CRC"):
            block.compute()


@pytest.mark.parametrize("name", ["plain.nii", "plain.nii.gz", "wide.nii", "wide.nii.gz"])
def test_a_header_that_promises_more_is_refused_at_opening(folder, tmp_path, name):
    whole = (folder / name).read_bytes()
    raw = bytearray(gzip.decompress(whole) if name.endswith("gz") else whole)
    at, form = (48, "<h") if name.startswith("plain") else (48, "<q")
    struct.pack_into(form, raw, at, 30000) if name.startswith("plain") else struct.pack_into(form, raw, at, 2**40)
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    with pytest.raises(FormatError, match=r"its header promises \d+ \(shape \(4, 3, 5, \d+\)"):
        load_image(tmp_path / name)


def test_members_of_gzip_are_one_file(folder, tmp_path):
    raw = gzip.decompress((folder / "plain.nii.gz").read_bytes())
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    array = lazy_volumes(load_image(tmp_path / "a.nii.gz"), np.ones(SHAPE[:3], bool), allow_nan=False)
    expected = lazy_volumes(load_image(folder / "plain.nii"), np.ones(SHAPE[:3], bool), allow_nan=False)
    np.testing.assert_array_equal(array, expected)


def test_other_values_and_other_files_are_named(tmp_path):
    for dtype in (np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]):
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), dtype), np.eye(4)), tmp_path / "c.nii")
        with pytest.raises(FormatError, match="Expected real numbers"):
            load_image(tmp_path / "c.nii")
    nibabel.save(nibabel.MGHImage(np.zeros((2, 2, 2, 3), np.float32), np.eye(4)), tmp_path / "m.mgz")
    with pytest.raises(FormatError, match=r"holds a MGHImage\. Expected volumes in NIfTI"):
        load_image(tmp_path / "m.mgz")
    nibabel.save(image_of(np.zeros((2, 2, 2, 3), np.int16)), tmp_path / "b.nii.bz2")
    with pytest.raises(FormatError, match=r"compressed as \.bz2"):
        load_image(tmp_path / "b.nii.bz2")


@pytest.mark.parametrize(
    ("unit", "zoom", "seconds"), [("sec", 1.5, 1.5), ("msec", 1500, 1.5), ("usec", 1.5e6, 1.5), ("unknown", 2, None), ("sec", 0, None), ("hz", 2, None)]
)  # fmt: skip
def test_the_unit_of_time_is_obeyed(unit, zoom, seconds):
    image = image_of(np.zeros(SHAPE, np.int16))
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = zoom
    assert header_tr(image)[0] == pytest.approx(seconds)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_places_are_in_mm(tmp_path, unit):
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), np.eye(4))
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, tmp_path / "mouse.nii")
    with pytest.raises(FormatError, match=rf"mouse.nii' states its places in {unit}.* Expected mm"):
        load_image(tmp_path / "mouse.nii")


def test_a_lazy_run_travels_to_another_process(folder):
    array = lazy_volumes(load_image(folder / "scaled.nii.gz"), np.ones(SHAPE[:3], bool), allow_nan=False)
    np.testing.assert_array_equal(array.compute(scheduler="processes", num_workers=1), array.compute())

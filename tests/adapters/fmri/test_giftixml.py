import gzip

import nibabel
import numpy as np
import pytest
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

from brainalign.adapters.fmri.giftixml import TYPES, describe, read_arrays
from brainalign.core.errors import FormatError


def gifti(path, rows, *, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32", **options):
    arrays = [GiftiDataArray(row, intent=intent, datatype=datatype, meta=GiftiMetaData({"Name": f"n{i}"}), **options)
              for i, row in enumerate(rows)]  # fmt: skip
    nibabel.save(GiftiImage(darrays=arrays, meta=GiftiMetaData({"TimeStep": "2000"})), path)
    return path


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)


@pytest.mark.parametrize("encoding", ["ASCII", "Base64Binary", "GZipBase64Binary"])
@pytest.mark.parametrize("endian", ["LittleEndian", "BigEndian"])
def test_every_encoding_gives_what_nibabel_gives(tmp_path, rows, encoding, endian):
    file = gifti(tmp_path / "x.gii", rows, encoding="GIFTI_ENCODING_" + {"ASCII": "ASCII", "Base64Binary": "B64BIN"}.get(encoding, "B64GZ"),
                 endian=endian.removesuffix("Endian").lower())  # fmt: skip
    assert f'Encoding="{encoding}"' in file.read_text()
    found = [values for _, values in read_arrays(file)]
    for values, array in zip(found, nibabel.load(file).darrays, strict=True):
        np.testing.assert_array_equal(values, array.data)
    np.testing.assert_allclose(found, rows, atol=1e-6)  # six decimals as text


@pytest.mark.parametrize("datatype", ["NIFTI_TYPE_UINT8", "NIFTI_TYPE_INT32", "NIFTI_TYPE_FLOAT32"])
def test_types_keep_their_values(tmp_path, datatype):
    values = np.arange(6).astype(TYPES[datatype])
    ((array, found),) = read_arrays(gifti(tmp_path / "x.gii", [values], datatype=datatype))
    np.testing.assert_array_equal(found, values)
    assert (array.dtype, array.meta) == (values.dtype, {"Name": "n0"})


def test_two_dims_in_either_order(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    for order, start in (("RowMajorOrder", "C"), ("ColumnMajorOrder", "F")):
        file = gifti(tmp_path / f"{start}.gii", [values], ordering=start)
        assert order in file.read_text()
        np.testing.assert_array_equal(next(iter(read_arrays(file)))[1], nibabel.load(file).darrays[0].data)


def test_compressed_files_and_label_tables(tmp_path, rows):
    file = gifti(tmp_path / "x.gii", rows)
    text = file.read_text().replace(
        "<LabelTable />", '<LabelTable><Label Key="0">???</Label><Label Key="3"><![CDATA[V1 & V2]]></Label></LabelTable>'
    )
    packed = tmp_path / "x.gii.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert describe(packed).labels == {0: "???", 3: "V1 & V2"}
    np.testing.assert_array_equal([values for _, values in read_arrays(packed)], rows)


def test_a_time_series_is_described_from_its_start(tmp_path, bytes_read):
    rows = np.random.default_rng(0).normal(size=(50, 5000)).astype(np.float32)
    file = gifti(tmp_path / "x.gii", rows)
    said = describe(file)
    assert (said.n_arrays, said.arrays[0].shape, said.arrays[0].intent, said.meta) == (
        50,
        (5000,),
        "TIME_SERIES",
        {"TimeStep": "2000"},
    )
    assert bytes_read(describe, file) < 80_000 < file.stat().st_size / 10
    maps = gifti(tmp_path / "maps.gii", rows[:3], intent="NIFTI_INTENT_NONE")
    assert [array.meta["Name"] for array in describe(maps).arrays] == ["n0", "n1", "n2"]


def external(path, name, rows, offset=0, n=None):
    arrays = "".join(
        f'<DataArray Intent="NIFTI_INTENT_TIME_SERIES" DataType="NIFTI_TYPE_FLOAT32" ArrayIndexingOrder="RowMajorOrder" Dimensionality="1" '
        f'Dim0="{rows.shape[1]}" Encoding="ExternalFileBinary" Endian="LittleEndian" ExternalFileName="{name}" '
        f'ExternalFileOffset="{offset + i * rows[0].nbytes}"><MetaData/><Data/></DataArray>'
        for i in range(len(rows))
    )
    path.write_text(
        f'<?xml version="1.0"?><GIFTI Version="1.0" NumberOfDataArrays="{n or len(rows)}"><MetaData/>{arrays}</GIFTI>'
    )
    return path


def test_external_files_are_read_beside_the_file_only(tmp_path, rows):
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "x.dat").write_bytes(b"\0" * 8 + rows.tobytes())
    np.testing.assert_array_equal([v for _, v in read_arrays(external(folder / "x.gii", "x.dat", rows, 8))], rows)
    (tmp_path / "out.dat").write_bytes(rows.tobytes())
    for name in ("../out.dat", str(tmp_path / "out.dat")):
        with pytest.raises(FormatError, match=r"names the external file '.*out.dat', outside its own folder"):
            describe(external(folder / "x.gii", name, rows))
    with pytest.raises(FormatError, match=r"external file 'none.dat', which is not there"):
        describe(external(folder / "x.gii", "none.dat", rows))
    with pytest.raises(FormatError, match=r"x.dat' has 120 bytes; 'x.gii' promises 28 from byte 100 on"):
        describe(external(folder / "x.gii", "x.dat", rows, 100))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'NumberOfDataArrays="4"',
            'NumberOfDataArrays="999999999999"',
            r"promises 999999999999 arrays of shape \(7,\) and has \d+ bytes",
        ),
        ('Dim0="7"', 'Dim0="999999999999"', r"promises 4 arrays of shape \(999999999999,\)"),
        ('Dim0="7"', 'Dim0="-7"', r"shape \(-7,\)"),
        ("NIFTI_TYPE_FLOAT32", "NIFTI_TYPE_RGB24", "an array of 'NIFTI_TYPE_RGB24'. Expected one of"),
        ("<GIFTI", "<GIFT", "could not be read as GIFTI"),
    ],
)
def test_impossible_promises_are_refused_at_opening(tmp_path, rows, old, new, message):
    file = gifti(tmp_path / "x.gii", rows)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(FormatError, match=message):
        describe(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('NumberOfDataArrays="4"', 'NumberOfDataArrays="5"', "holds 4 arrays; it promises 5"),
        ('Dim0="7"', 'Dim0="8"', r"an array of 28 bytes; its shape \(8,\) promises 32"),
        ('Dim0="7"', 'Dim0="6"', r"an array of 25 bytes; its shape \(6,\) promises 24"),
        ("GZipBase64Binary", "Base64Binary", r"an array of \d+ bytes; its shape"),
        ("GZipBase64Binary", "ZstdBinary", "of encoding 'ZstdBinary'. Expected ASCII"),
        ("</GIFTI>", "", "could not be read as GIFTI"),
    ],
)
def test_values_that_are_not_what_was_promised_are_refused(tmp_path, rows, old, new, message):
    file = gifti(tmp_path / "x.gii", rows)
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(FormatError, match=message):
        list(read_arrays(file))


def test_a_bomb_is_not_unfolded_and_entities_are_refused(tmp_path, rows):
    file = gifti(tmp_path / "x.gii", [np.zeros(10**7, np.float32)])
    file.write_text(file.read_text().replace('Dim0="10000000"', 'Dim0="5"'))
    with pytest.raises(FormatError, match=r"an array of 21 bytes; its shape \(5,\) promises 20"):
        list(read_arrays(file))
    file.write_text('<?xml version="1.0"?><!DOCTYPE GIFTI [<!ENTITY a "aaaa">]><GIFTI NumberOfDataArrays="0">&a;</GIFTI>')
    with pytest.raises(FormatError, match="declares the XML entity 'a'"):
        describe(file)


def test_damage_is_an_error_or_no_matter(tmp_path, rows, survives_damage):
    for name in ("x.gii", "x.gii.gz"):
        file = gifti(tmp_path / name, rows)
        assert survives_damage(file, lambda file=file: (describe(file), list(read_arrays(file))))

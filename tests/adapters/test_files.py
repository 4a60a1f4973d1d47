import gzip

import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.files import check_finite, existing, first_bytes, naming, narrowed, per_run_ids, reading, record_opening
from brainalign.adapters.lazy import open_npy
from brainalign.core.errors import FormatError, ParameterError, SchemaError
from brainalign.dataset.open import FORMATS


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(FormatError, match=r"no file '.*gone.csv'\. The folder"):
        existing(tmp_path / "gone.csv")
    with pytest.raises(FormatError, match=r"is a folder. Expected a file"):
        existing(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(FormatError, match=r"empty.csv' has 0 bytes"):
        existing(tmp_path / "empty.csv")
    with pytest.raises(ParameterError, match="Got 3"):
        existing(3)


def test_first_bytes_looks_through_gzip(tmp_path):
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(b"hello world")
    assert first_bytes(tmp_path / "a.gz", 5) == b"hello"
    (tmp_path / "cut.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:11])
    assert first_bytes(tmp_path / "cut.gz", 5) == b""


def test_library_errors_become_format_errors_and_ours_pass():
    with pytest.raises(FormatError, match=r"'x.mat' could not be read as MATLAB \(KeyError: 'a'\)"), reading("x.mat", "MATLAB"):
        raise KeyError("a")
    with pytest.raises(SchemaError, match="own"), reading("x.mat", "MATLAB"):
        raise SchemaError("own")


def test_schema_errors_gain_the_name_of_the_source():
    with pytest.raises(SchemaError, match=r"'a.npy': responses has"), naming("'a.npy'"):
        raise SchemaError("responses has")


def test_the_first_value_that_is_not_finite_is_named():
    values = np.ones((3, 2, 4), dtype=np.float32)
    values[1, 1, 2] = np.nan
    with pytest.raises(FormatError, match=r"1 values that are NaN or infinite, the first in row 1 of 'V2'"):
        check_finite(values, "f.npy", ["V1", "V2"], allow_nan=False)
    check_finite(values, "f.npy", ["V1", "V2"], allow_nan=True)


def test_opening_is_recorded():
    x = ba.responses([[1.0]], stimulus_id=["a"], neuroid_id=["v"], modality="fmri", system="s")
    steps = ba.core.provenance(record_opening(x, "nifti", ["b.nii"], {"tr_s": 2.0, "mask": None})).steps
    assert [step["verb"] for step in steps] == ["responses", "open:nifti"]
    assert steps[1]["params"] == {"source": ["b.nii"], "tr_s": 2.0}


def test_ids_of_continuous_rows():
    assert per_run_ids("1", 2, "v") == ["run-1/v00000", "run-1/v00001"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "file", "wanted"),
    [
        ("haxby2001", "sub001/BOLD/task001_run001/bold_25mm.nii.gz", ["nifti"]),
        ("haxby2001", "sub001/BOLD/task001_run001/bold_events.tsv", []),
        ("haxby2001", "sub001", []),
        ("bids-ds000117-meta", "", ["bids"]),
        ("bids-ds000117-meta", "sub-01", []),
        ("alice-fmri-roi", "10mm/s18-timecourses.txt", ["timecourses"]),
        ("alice-fmri-roi", "10mm/s33-timecourses.txt", ["timecourses"]),
        ("alice-fmri-roi", "README.md", []),
        ("grasshopper-receptor", "grasshopper_spike_times1.txt", ["spikes"]),
        ("meg-eeg-evoked", "test-ave.fif.gz", ["meeg"]),
        ("mouse-v1-gratings", "230809_mrcuts28_fov4_grat-000_data.mat", ["matlab"]),
        ("images92-fmri15", "fmri_EVC_RDMs.npz", ["arrays"]),
        ("brainio-assembly", "assy_test_package_assembly.nc", ["brainscore"]),
        ("brainio-assembly", "image_test_ten_images.csv", ["arrays"]),
        ("images92-fmri15", "stimuli/image_01.jpg", []),
        ("nwb-units", "A8604-211122.nwb", ["nwb"]),
        ("eeg-visual-attention", "eeglab_data.fdt", []),
        ("eeg-visual-attention", "eeglab_data.set", ["meeg"]),
    ],
)
def test_content_decides_and_no_two_formats_claim_a_file(shared_data, folder, file, wanted):
    path = shared_data(folder) / file
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(path)] == wanted


def test_numbers_beyond_the_dtype_are_named_with_their_file(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0, -1e300], [np.inf, np.nan]]))
    with pytest.raises(FormatError, match=r"a.npy' holds numbers up to 1e\+300; float32 ends at 3.4e\+38"):
        open_npy(tmp_path / "a.npy", dtype=np.float32).compute()
    np.testing.assert_array_equal(narrowed(np.array([np.inf, np.nan, 2.0]), np.float32, "x"), [np.inf, np.nan, 2.0])

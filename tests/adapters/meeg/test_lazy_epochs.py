import numpy as np
import pytest

from brainalign.adapters.meeg.lazy_epochs import open_epochs
from brainalign.core.errors import FormatError

mne = pytest.importorskip("mne")
mne.set_log_level("ERROR")


def saved(path, n=60, n_channels=20, fmt="single", **options):
    events = np.column_stack([np.arange(n) * 600 + 50, np.zeros(n, int), np.ones(n, int)])
    values = np.random.default_rng(0).normal(size=(n, n_channels, 500)) * 1e-12
    info = mne.create_info(n_channels, 200.0, ["mag", "grad"] * (n_channels // 2))
    made = mne.EpochsArray(values, info, events, tmin=-0.1)
    made.save(path, fmt=fmt, **options)
    return made


@pytest.mark.parametrize("fmt", ["single", "double"])
@pytest.mark.parametrize("split_size", ["2GB", "2MB"])
def test_blocks_are_what_mne_reads(tmp_path, fmt, split_size):
    file = tmp_path / "x-epo.fif"
    saved(file, fmt=fmt, split_size=split_size)
    epochs, values, files = open_epochs(mne, file)
    wanted = mne.read_epochs(file, preload=True).get_data().astype(np.float32)
    assert (len(files) > 1) == (split_size == "2MB")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values.compute(), wanted)
    np.testing.assert_array_equal(values[17:41, 3, ::50].compute(), wanted[17:41, 3, ::50])
    assert len(epochs) == 60


def test_a_block_reads_its_own_trials_only(tmp_path, bytes_read):
    file = tmp_path / "x-epo.fif"
    saved(file, n=600)  # 24 MB
    whole = file.stat().st_size
    open_epochs(mne, file)
    assert bytes_read(open_epochs, mne, file) < whole / 20
    values = open_epochs(mne, file)[1]
    values[:1].compute()
    assert bytes_read(values[500:].compute) < whole / 2


def test_values_that_are_not_finite_are_named_when_read(tmp_path):
    file = tmp_path / "x-epo.fif"
    made = saved(file, n=10)
    made._data[4, 2, 100] = np.nan
    made.save(file, overwrite=True)
    values = open_epochs(mne, file)[1]
    with pytest.raises(FormatError, match=r"x-epo.fif"):
        values.compute()


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "x-ave.fif"
    mne.write_evokeds(file, saved(tmp_path / "x-epo.fif", n=4).average())
    with pytest.raises(FormatError, match=r"holds evoked. Expected epochs"):
        open_epochs(mne, file)


def test_damage_is_survived(tmp_path, survives_damage):
    file = tmp_path / "x-epo.fif"
    saved(file, n=4, n_channels=4)
    assert survives_damage(file, lambda: open_epochs(mne, file)[1].compute(), examples=60)

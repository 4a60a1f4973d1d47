import dask.array as da
import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.adapters.store.responses import adapter, save_responses
from brainalign.adapters.store.streaming import ResponseWriter, stored_key
from brainalign.adapters.store.study import JOURNAL
from brainalign.core.errors import StoreError

KEY = {"weights": "abc"}
N = 2500


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    return ba.responses(
        rng.normal(size=(N, 1303)) * np.r_[1, 0, np.ones(1301)], stimulus_id=[f"s{i}" for i in range(N)], neuroid_id=np.arange(1303), modality="ann", system="net",
        layer=["a", "b", "a"] + ["c"] * 1300,
    )  # fmt: skip


def template(x):
    return x.copy(data=da.zeros(x.shape, dtype=x.dtype))


def blocks(size):
    return [slice(a, min(a + size, N)) for a in range(0, N, size)]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [1, 37, 1024, 1500, N])
def test_blocks_of_any_size_give_the_bytes_of_save(tmp_path, whole, size):
    save_responses(whole, tmp_path / "saved", name="net")
    with ResponseWriter(tmp_path / "streamed", "net", template(whole), KEY) as writer:
        for rows in blocks(size):
            writer.write(rows, whole.values[rows])
        x = writer.finish()
    xr.testing.assert_identical(x.compute(), whole)
    saved, streamed = files(tmp_path / "saved"), files(tmp_path / "streamed")
    header = "responses/net/zarr.json"  # differs in the key
    assert saved.pop(header) != streamed.pop(header)
    assert saved == streamed


def test_interruption_keeps_what_was_done_and_nothing_is_visible(tmp_path, whole):
    for stop in (0, 3, 11, 12, 25):
        with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
            for rows in blocks(100)[:stop]:
                if rows.stop > writer.n_done:
                    writer.write(rows, whole.values[rows])
        assert stored_key(tmp_path / "s", "net") == (False, None)
        with pytest.raises(StoreError, match="holds 0 responses"):
            adapter.open(tmp_path / "s")
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        assert writer.n_done == N
        xr.testing.assert_identical(writer.finish().compute(), whole)
    assert stored_key(tmp_path / "s", "net") == (True, KEY)


def test_torn_journal_line_does_not_count(tmp_path, whole):
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        writer.write(slice(0, 100), whole.values[:100])
    journal = tmp_path / "s" / "responses" / ".partial-net" / JOURNAL
    journal.write_text(journal.read_text() + "20")
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        assert writer.n_done == 100
    journal.write_text('{"weig')
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        assert writer.n_done == 0


def test_another_key_or_no_resume_starts_anew(tmp_path, whole):
    seen = []
    for key, resume in ((KEY, True), (KEY, False), ({"weights": "new"}, True)):
        with ResponseWriter(tmp_path / "s", "net", template(whole), key, resume=resume, on_mismatch=seen.append) as writer:
            assert writer.n_done == 0
            writer.write(slice(0, 100), whole.values[:100])
    assert seen == [KEY]


def test_rows_come_in_order_and_all_of_them(tmp_path, whole):
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        with pytest.raises(StoreError, match=r"rows from 5. Expected the next row, 0"):
            writer.write(slice(5, 6), whole.values[5:6])
        with pytest.raises(StoreError, match=r"0 rows. Expected 2500"):
            writer.finish()
        with (
            pytest.raises(StoreError, match="being written by process"),
            ResponseWriter(tmp_path / "s", "net", template(whole), KEY),
        ):
            pass


def test_what_a_torn_line_left_is_not_joined_to_the_next(tmp_path, whole):
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        writer.write(slice(0, 100), whole.values[:100])
    journal = tmp_path / "s" / "responses" / ".partial-net" / JOURNAL
    journal.write_text(journal.read_text() + "1")
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        writer.write(slice(100, 200), whole.values[100:200])
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        assert writer.n_done == 200


def test_a_failure_before_the_first_row_leaves_nothing(tmp_path, whole):
    def fail():
        with ResponseWriter(tmp_path / "s", "net", template(whole), KEY):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "s").exists()
    save_responses(whole[:5], tmp_path / "s", name="other")
    before = files(tmp_path / "s")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert files(tmp_path / "s") == before


def test_a_full_disk_is_a_typed_error_and_work_can_go_on(tmp_path, whole, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        writer.write(slice(0, 100), whole.values[:100])
        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", full)
            with pytest.raises(StoreError, match=r"cannot be written \(.*No space left"):
                writer.write(slice(100, 200), whole.values[100:200])
    with ResponseWriter(tmp_path / "s", "net", template(whole), KEY) as writer:
        assert writer.n_done == 100

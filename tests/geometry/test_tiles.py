import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import CapabilityError, DegenerateNeuroidWarning, ParameterError, SchemaError, StoreError
from brainalign.geometry import tiles


def recording(n=50, p=12, times=(), ids=None, **coords):
    values = np.random.default_rng(0).normal(size=(n, p, *times)).astype(np.float32)
    time = {"time": np.arange(times[0]) / 10} if times else {}
    return ba.responses(values, stimulus_id=[f"s{i:02d}" for i in range(n)] if ids is None else ids, neuroid_id=range(p), modality="ann",
                        system="net", **time, **coords)  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Chunks of 8 conditions, and memory for two blocks of 16."""
    monkeypatch.setattr(tiles, "_CHUNK", 8)
    return {"max_memory": 4 * (2 * 20**2 + 4 * 20 * 12), "dtype": "float32"}


@pytest.mark.parametrize(
    ("metric", "lazy"),
    [("correlation", True), ("correlation", False), ("cosine", False), ("euclidean", True), ("sqeuclidean", False)],
)
def test_equal_to_what_is_made_in_memory(tmp_path, small, metric, lazy):
    x = recording(times=(2,), layer=["u"] * 5 + ["v"] * 7, n=30, ids=[f"s{i % 27:02d}" for i in range(30)])
    if lazy:
        ba.save(x, tmp_path / "in.zarr", name="net")
    source = ba.open_responses(tmp_path / "in.zarr") if lazy else x
    out = ba.rdm(source, metric=metric, by="layer", store=tmp_path / "out.zarr", **small)
    assert out.dims == ("layer", "time", "stimulus", "stimulus_2")
    assert out.chunks[2][:2] == (8, 8)
    expected = ba.rdm(x, metric=metric, by="layer", dtype="float32")
    np.testing.assert_allclose(out.values, expected.values, atol=2e-6 * float(expected.max()))
    np.testing.assert_array_equal(out.values, out.values.swapaxes(2, 3))
    assert (out.n_neuroids.values == expected.n_neuroids.values).all()
    again = ba.open_study(tmp_path / "out.zarr")["results"]["rdm"].to_dataset().rdm
    xr.testing.assert_identical(again.load(), out.load())
    assert ba.core.provenance(again).steps[-1]["params"]["metric"] == metric


def test_an_interrupted_run_leaves_nothing_that_opens(tmp_path, small, monkeypatch):
    x, made = recording(), tiles._tile
    calls = []

    def failing(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return made(*args)

    monkeypatch.setattr(tiles, "_tile", failing)
    with pytest.raises(KeyboardInterrupt):
        ba.rdm(x, store=tmp_path / "out.zarr", **small)
    assert not (tmp_path / "out.zarr").exists()
    out = ba.rdm(x, store=tmp_path / "out.zarr", **small)
    with pytest.raises(StoreError, match="already holds results named 'rdm'"):
        ba.rdm(x, store=tmp_path / "out.zarr", **small)
    other = ba.rdm(x, store=tmp_path / "out.zarr", name="again", **small)
    np.testing.assert_array_equal(out.values, other.values)


def test_holes_are_warned_of_once_and_change_nothing_else(tmp_path, small):
    x = recording(subject=["p"] * 30 + ["q"] * 20, ids=[f"s{i % 30:02d}" for i in range(50)])
    with pytest.warns(DegenerateNeuroidWarning) as seen:
        out = ba.rdm(x, by="subject", store=tmp_path / "out.zarr", **small)
    assert ["10 of 30" in str(w.message) for w in seen] == [True]
    with pytest.warns(DegenerateNeuroidWarning):
        expected = ba.rdm(x, by="subject")
    np.testing.assert_allclose(out.values, expected.values, atol=1e-6)


def test_each_pair_of_blocks_is_compared_once(tmp_path, small, monkeypatch):
    made, seen = tiles._tile, []
    monkeypatch.setattr(tiles, "_tile", lambda *args: seen.append(1) or made(*args))
    ba.rdm(recording(n=64), store=tmp_path / "out.zarr", **small)
    assert len(seen) == 4 * 5 / 2


@pytest.mark.parametrize("times", [(), (2,)])
@pytest.mark.parametrize(("metric", "value", "what"), [("correlation", 0.3, "constant over neuroids"), ("cosine", 0.0, "zero")])
def test_patterns_that_cannot_be_scaled_are_told_once_all_are_read(tmp_path, small, monkeypatch, metric, value, what, times):
    made, seen = tiles._tile, []
    monkeypatch.setattr(tiles, "_tile", lambda *args: seen.append(1) or made(*args))
    x = recording(n=64, times=times)
    x[3] = x[60] = value
    with pytest.raises(SchemaError, match=f"rdm got 2 of 64 conditions whose pattern is {what} in all.*: 's03', 's60'"):
        ba.rdm(x, metric=metric, store=tmp_path / "out.zarr", **small)
    assert len(seen) == (10 if times else 0) + 3  # of four blocks, and at the first of two times all ten tiles
    assert not (tmp_path / "out.zarr").exists()


def test_what_cannot_be_tiled_is_named(tmp_path, small):
    x = recording(run=["1"] * 25 + ["2"] * 25, ids=[f"s{i % 25}" for i in range(50)])
    with pytest.raises(CapabilityError, match=r"store= with metric='crossnobis' and folds='run'.*'correlation', 'cosine'"):
        ba.rdm(x, metric="crossnobis", folds="run", store=tmp_path / "out.zarr", **small)
    with pytest.raises(ParameterError, match=r"'max_memory' parameter of rdm holds 0 conditions of 12 neuroids"):
        ba.rdm(x, store=tmp_path / "out.zarr", max_memory=300)
    holed = x.copy(deep=True)
    holed[40, 7] = np.nan
    with pytest.raises(SchemaError, match="1 of 12 neuroids have NaN or infinity in all presentations and neuroids: 7"):
        ba.rdm(holed, store=tmp_path / "out.zarr", **small)
    with pytest.raises(SchemaError, match="rdm has 2 finite neuroids in all presentations and neuroids for metric='correlation'"):
        ba.rdm(x[:, :2], store=tmp_path / "out.zarr", **small)
    assert not (tmp_path / "out.zarr").exists()

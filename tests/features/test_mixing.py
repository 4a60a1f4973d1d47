import numpy as np
import pytest
import scipy.sparse as sp

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.provenance import is_lazy, provenance
from brainalign.features import mixing
from brainalign.features.mixing import PresentationMixer, apply_mixing, table_of


class Pairs(PresentationMixer):
    """Sum of each source row and the next, and twice each row: a step with two blocks."""

    def mixing(self, source, target=None):
        n = len(source)
        return [sp.csr_matrix(sp.eye_array(n) + sp.eye_array(n, k=1)), sp.csr_matrix(2 * sp.eye_array(n))]

    def labels(self, coords):
        return {name: np.concatenate([v, v + 100 if name == "neuroid_id" else v]) for name, v in coords.items()}


class ToTarget(PresentationMixer):
    retimes = True

    def mixing(self, source, target=None):
        return [sp.csr_matrix(np.ones((len(target), len(source))))]

    def report(self, source, target=None):
        return {"n_rows": len(target)}


def recording(values, **more):
    values = np.asarray(values)
    ids = [f"s{i}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="ann", system="n", **more)


def test_equals_the_dense_product_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    matrices = [sp.random_array((7, 5), density=0.4, rng=rng).tocsr() for _ in range(3)]
    values = rng.normal(size=(5, 11, 2)).astype(np.float32)
    whole = apply_mixing(matrices, values)
    wanted = np.concatenate([np.einsum("ij,jkt->ikt", m.toarray(), values) for m in matrices], axis=1)
    np.testing.assert_allclose(whole, wanted, rtol=1e-5, atol=1e-6)
    assert whole.dtype == np.float32
    monkeypatch.setattr(mixing, "_BLOCK_BYTES", 100)
    np.testing.assert_array_equal(apply_mixing(matrices, values), whole)


def test_nan_reaches_only_the_rows_that_use_it():
    x = recording([[1.0, 1.0], [np.nan, 2.0], [3.0, 3.0], [4.0, 4.0]], allow_nan=True)
    out = Pairs().fit_transform(x).values
    assert np.isnan(out[:, 0]).tolist() == [True, True, False, False]
    assert not np.isnan(out[:, [1, 3]]).any()


def test_rows_of_another_table_are_refused():
    with pytest.raises(AlignmentError, match="made for 3 source rows, and the values have 2"):
        apply_mixing([sp.eye_array(3)], np.ones((2, 1)))


def test_labels_and_provenance_of_kept_rows():
    x = recording([[1.0, 5.0], [2.0, 6.0]], onset_s=[0.0, 1.0], region="V1")
    out = Pairs().fit_transform(x)
    assert out.values.tolist() == [[3, 11, 2, 10], [2, 6, 4, 12]]
    assert out.neuroid_id.values.tolist() == [0, 1, 100, 101]
    assert out.onset_s.values.tolist() == [0.0, 1.0]
    assert provenance(out).steps[-1]["verb"] == "Pairs"
    assert provenance(out).altered is False


def test_retimed_rows_are_the_targets():
    x = recording([[1.0], [2.0]], condition=["p", "q"])
    target = recording(np.zeros((3, 4)), onset_s=[0.0, 2.0, 4.0], run="r1")
    out = ToTarget().transform(x, presentations=target)
    assert out.values.ravel().tolist() == [3, 3, 3]
    assert out.stimulus_id.values.tolist() == ["s0", "s1", "s2"]
    assert out.run.values.tolist() == ["r1"] * 3
    assert "condition" not in out.coords
    assert provenance(out).steps[-1]["params"] == {"n_rows": 3}
    frame = ToTarget().transform(x, presentations=table_of(target))
    assert frame.identical(out.assign_attrs(provenance=frame.attrs["provenance"]))


def test_retiming_needs_presentations():
    with pytest.raises(ParameterError, match=r"ToTarget.transform got no `presentations`"):
        ToTarget().transform(recording([[1.0]]))
    with pytest.raises(SchemaError, match="presentations is a list"):
        ToTarget().transform(recording([[1.0]]), presentations=[1])


def test_lazy_values_stay_lazy_and_equal():
    x = recording(np.arange(24.0).reshape(4, 6))
    lazy = x.chunk({"presentation": 2, "neuroid": 3})
    out = Pairs().fit_transform(lazy)
    assert is_lazy(out)
    np.testing.assert_array_equal(out.values, Pairs().fit_transform(x).values)


def test_a_time_dim_is_carried():
    x = recording(np.arange(12.0).reshape(2, 2, 3), time=[0.0, 0.1, 0.2])
    out = Pairs().fit_transform(x)
    assert out.dims == x.dims
    np.testing.assert_array_equal(out.values[:, 2:], 2 * x.values)


def test_scalar_run_holds_for_every_row():
    x = recording([[1.0], [2.0]]).assign_coords(run="a")
    assert table_of(x)["run"].tolist() == ["a", "a"]

import numpy as np
import pytest
import xarray as xr

from brainalign.core.errors import AlignmentError, SchemaError
from brainalign.geometry.rdm_pairs import join_rdms, label_of, leading, pairs_of


def rdm_of(ids, **labels):
    """Return matrices whose entry is the sum of the two letters' places in the alphabet."""
    places = np.array([ord(i) - ord("a") for i in ids], dtype=float)
    values = (places[:, None] + places) * (1 - np.eye(len(ids)))
    values = np.broadcast_to(values, (*(len(v) for v in labels.values()), *values.shape)).copy()
    return xr.DataArray(values, dims=(*labels, "stimulus", "stimulus_2"), coords={**labels, "stimulus": ids, "stimulus_2": ids})


def test_sides_are_joined_in_the_order_of_names():
    joined = join_rdms({"source": rdm_of(list("abcde"), layer=["l1", "l2"]), "target": rdm_of(list("xdcb"))}, "inner")
    assert joined.stimuli == ["b", "c", "d"]
    assert joined.vectors["source"].tolist() == [[3.0, 4.0, 5.0]] * 2
    assert joined.vectors["target"].tolist() == [[3.0, 4.0, 5.0]]
    assert joined.report == {
        "n_shared": 3,
        "source_only": 2,
        "target_only": 1,
        "first_source_only": ["a", "e"],
        "first_target_only": ["x"],
    }


def test_a_third_side_is_joined_like_the_others():
    sides = {"source": rdm_of(list("abcd")), "target": rdm_of(list("abcd")), "controlling": rdm_of(list("abc"))}
    assert join_rdms(sides, "inner").stimuli == ["a", "b", "c"]
    with pytest.raises(
        AlignmentError, match="source and target and controlling share 3 of 4 / 4 / 3 stimuli; one side lacks 'd', 'd'"
    ):
        join_rdms(sides, "exact")


def test_infinite_dissimilarities_are_missing():
    x = rdm_of(list("abcd"))
    x[0, 1] = x[1, 0] = np.inf
    assert np.isnan(join_rdms({"source": x, "target": x}, "inner").vectors["source"]).sum() == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(np.triu(np.ones((4, 4)), 1) > 0, 1.0, np.nan), "6 entries have a NaN as mirror image"),
        (np.triu(np.ones((4, 4), dtype=bool), 1), "differ from their mirror image by up to 1"),
    ],
)
def test_a_triangle_alone_is_no_symmetric_matrix(values, message):
    x = rdm_of(list("abcd"))
    with pytest.raises(SchemaError, match=f"target is not symmetric: .*{message}.*or fill the one that is empty"):
        join_rdms({"source": x, "target": x.copy(data=values)}, "inner")


def test_no_matrix_at_all_is_an_error():
    x = rdm_of(list("abcd"), layer=["l1", "l2"])
    with pytest.raises(
        SchemaError, match=r"source has no matrix: \{'layer': 0, .*\}\. Expected one at least: look at what was selected"
    ):
        join_rdms({"source": x[:0], "target": x}, "inner")
    with pytest.raises(SchemaError, match="rdms has no matrix"):
        pairs_of(x[:0], "rdms")


def test_names_of_matrices_and_of_dims():
    x = rdm_of(list("abc"), layer=["l1", "l2"], time=[0.1, 0.2, 0.3])
    assert label_of(x, 4) == " at layer='l2', time=0.2"
    assert label_of(x[0, 0], 0) == ""
    labels = np.array(["l1", "l2"], dtype=np.dtypes.StringDType())  # as `ba.rdm` gives them
    assert label_of(x[:, 0].assign_coords(layer=labels), 1) == " at layer='l2'"
    assert leading(x, "source")[:2] == (["source_layer", "source_time"], [2, 3])
    assert set(leading(x, "source")[2]) == {"source_layer", "source_time"}

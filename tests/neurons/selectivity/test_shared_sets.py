"""overlap: Jaccard indices against what random sets share, by name or by match."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError


def marked(*members, n=50, ids=None, **coords):
    values = np.stack([np.isin(np.arange(n), m) for m in members], axis=1)
    ids = np.arange(n) if ids is None else ids
    labels = {"neuroid_id": ("neuroid", ids), "category": [f"c{k}" for k in range(len(members))]} | coords
    return xr.DataArray(values, dims=("neuroid", "category"), coords=labels)


def test_counts_chance_and_p():
    out = ba.neurons.overlap(marked(range(10), range(5), []), marked(range(5, 20), range(5), []))
    assert out.n_shared.values.tolist() == [5, 5, 0]
    assert out.score.values.tolist() == pytest.approx([5 / 20, 1.0, np.nan], nan_ok=True)
    assert out.chance.values[0] == pytest.approx(3 / 22)
    assert out.p_value.values[1] == pytest.approx(1 / 2_118_760)  # 50 over 5
    assert np.isnan(out.p_value.values[2])


def test_random_sets_share_what_they_should():
    rng = np.random.default_rng(0)
    sets = [[rng.choice(200, 40, replace=False) for _ in range(300)] for _ in range(2)]
    out = ba.neurons.overlap(*(marked(*s, n=200) for s in sets))
    assert out.score.mean().item() == pytest.approx(out.chance[0].item(), abs=0.01)
    assert (out.p_value <= 0.05).mean().item() <= 0.06


def test_neuroids_are_joined_by_name_and_layer():
    layer = ("neuroid", np.repeat(["one", "two"], 25))
    a = marked([3, 30], ids=np.tile(np.arange(25), 2), layer=layer)
    out = ba.neurons.overlap(a, a[::-1][:30])
    assert (out.n_neuroids.item(), out.n_shared.item()) == (30, 1)
    with pytest.raises(AlignmentError, match="share no neuroid"):
        ba.neurons.overlap(a, marked([3]))


def test_neuroids_are_joined_by_their_matches():
    values = np.random.default_rng(0).normal(size=(60, 20))
    x, y = (
        ba.responses(v, stimulus_id=[f"s{i}" for i in range(60)], neuroid_id=range(20), modality="ann", system=s)
        for v, s in ((values, "a"), (values[:, ::-1], "b"))
    )
    matches = ba.match(x, y, one_to_one=True, random_state=0)
    out = ba.neurons.overlap(marked([0, 1, 2], n=20), marked([17, 18, 19], n=20), matches=matches)
    assert out.score.item() == 1.0
    with pytest.raises(AlignmentError, match="matches of 20 neuroids"):
        ba.neurons.overlap(marked([1]), marked([1]), matches=matches)


def test_scores_are_no_sets():
    with pytest.raises(ParameterError, match="compare scores with a threshold first"):
        ba.neurons.overlap(marked([1]).astype(float), marked([1]))

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.scores import mapnulls

RNG = np.random.default_rng(0)


def places(n, radius=100.0):
    height, turn = 1 - 2 * (np.arange(n) + 0.5) / n, np.pi * (1 + 5**0.5) * np.arange(n)
    flat = np.sqrt(1 - height**2)
    return radius * np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)


def brain_map(values, at):
    coords = {name: ("neuroid", at[:, i]) for i, name in enumerate(("x_mm", "y_mm", "z_mm"))}
    side = np.where(at[:, 0] < 0, "L", "R").astype("T")
    return xr.DataArray(values, dims=("layer", "neuroid")[-np.ndim(values) :], coords={**coords, "hemisphere": ("neuroid", side),
                        "neuroid_id": ("neuroid", np.arange(len(at)))})  # fmt: skip


@pytest.mark.parametrize("null", ["spin", "variogram"])
def test_maps_that_share_a_pattern_are_alike_and_others_are_not(null):
    at = places(300)
    pattern = np.sin(at[:, 1] / 25) + np.cos(at[:, 2] / 20)
    layers = np.stack([pattern + 0.3 * RNG.normal(size=300), np.sin(at[:, 0] / 30 + 1) * np.cos(at[:, 2] / 60)])
    x, y = brain_map(layers, at), brain_map(pattern, at)
    out = ba.permutation_test(x, y, null=null, n_permutations=99, random_state=0)
    assert out.score.dims == ("layer",)
    np.testing.assert_allclose(out.score, [np.corrcoef(layer, pattern)[0, 1] for layer in layers])
    assert out.p_value.values[0] == 0.01
    assert out.p_value.values[1] > 0.05
    assert (out.attrs["null"], out.attrs["n_permutations"]) == (null, 99)
    again = ba.permutation_test(-x, y, null=null, n_permutations=99, random_state=0)  # either way from zero
    np.testing.assert_array_equal(again.p_value, out.p_value)


def test_scores_of_a_result_are_a_map_and_holes_are_left_out():
    at = places(120)
    values = RNG.normal(size=120)
    y = brain_map(values, at)
    y[4] = np.nan
    out = ba.permutation_test(
        xr.Dataset({"score": brain_map(values, at)}), y, null="variogram", n_permutations=19, random_state=0
    )
    assert out.score.item() == pytest.approx(1)
    assert out.p_value.item() == 0.05


@pytest.mark.parametrize("null", ["spin", "variogram"])
def test_long_draws_show_a_bar_however_many_go_together(null, capsys, monkeypatch):
    at = places(60)
    x, y = brain_map(RNG.normal(size=(2, 60)), at), brain_map(RNG.normal(size=60), at)
    silent = ba.permutation_test(x, y, null=null, n_permutations=30, random_state=0)
    assert "permutations" not in capsys.readouterr().err  # no terminal
    monkeypatch.setattr(mapnulls, "_TOGETHER", 7)
    shown = ba.permutation_test(x, y, null=null, n_permutations=30, random_state=0, progress=True)
    assert "permutations: 100%" in capsys.readouterr().err
    xr.testing.assert_equal(shown, silent)


def test_messages():
    at = places(60)
    x = brain_map(RNG.normal(size=60), at)
    with pytest.raises(ParameterError, match=r"without x_mm, y_mm, z_mm"):
        ba.permutation_test(*[x.drop_vars(["x_mm", "y_mm", "z_mm"])] * 2, null="variogram")
    with pytest.raises(ParameterError, match=r"sphere around it"):
        ba.permutation_test(*[x.assign_coords(x_mm=x.x_mm + 50)] * 2, null="spin")
    with pytest.raises(AlignmentError, match="different neuroids"):
        ba.permutation_test(x, x.assign_coords(neuroid_id=x.neuroid_id + 1), null="spin")
    with pytest.raises(SchemaError, match="one map as y"):
        ba.permutation_test(x, brain_map(RNG.normal(size=(2, 60)), at), null="spin")
    with pytest.raises(SchemaError, match=r"y has type NoneType"):
        ba.permutation_test(x, null="spin")
    with pytest.raises(ParameterError, match=r"'sign' for maps"):
        ba.permutation_test(x, x, null="sign")

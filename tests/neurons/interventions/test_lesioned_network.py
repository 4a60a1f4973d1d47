"""Lesions of a network: what takes the place of a unit, stock models, and self-repair."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import ParameterError


def test_modes_change_what_they_say(net, table):
    stimuli = table()
    held = ba.record(ba.TorchResponder(net.model, "2", system="net"), stimuli, progress=False).values
    lesioned = {}
    for mode in ("zero", "mean", "swap", "resample", "noise", "dampen"):
        out = ba.lesion(ba.TorchResponder(net.model, "2", system="net"), stimuli, units={"2": [1, 3]}, mode=mode, factor={"2": [1, 0.25, 1, 0.5]},
                        random_state=0)  # fmt: skip
        np.testing.assert_array_equal(out.response_lesioned[:, [0, 2]], out.response[:, [0, 2]])
        lesioned[mode] = out.response_lesioned.values[:, [1, 3]]
    held = held[:, [1, 3]]
    np.testing.assert_array_equal(lesioned["zero"], 0)
    np.testing.assert_allclose(lesioned["mean"], np.broadcast_to(held.mean(0), held.shape), atol=1e-6)
    np.testing.assert_allclose(lesioned["dampen"], held * [0.25, 0.5], atol=1e-6)
    assert {tuple(row) for row in lesioned["swap"].round(5)} == {tuple(row) for row in held.astype(float).round(5)}
    assert np.isin(lesioned["resample"][:, 0].round(5), held[:, 0].astype(float).round(5)).all()
    np.testing.assert_allclose((lesioned["noise"] - held).std(0), held.std(0), rtol=0.35)


class Backup(torch.nn.Module):
    """Head 0 writes the input; a backup head sees what it wrote, and writes ``repair`` of what is missing."""

    def __init__(self, repair):
        super().__init__()
        self.repair, self.head, self.backup = repair, torch.nn.Linear(3, 3), torch.nn.Identity()
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(3))
            self.head.bias.zero_()

    def forward(self, x):
        written = self.head(x)
        return written + self.backup(self.repair * (x - written))


@pytest.mark.parametrize(("repair", "ratio"), [(0.7, 0.3), (0.0, 1.0)])
def test_self_repair_is_the_share_of_the_direct_effect_that_is_left(repair, ratio, table):
    toy = ba.TorchResponder(torch.nn.Sequential(Backup(repair), torch.nn.Identity()), "1", system="toy")
    out = ba.lesion(toy, table(width=3), units={"0.head": None}, freeze="0.backup")
    np.testing.assert_allclose(out.repair_ratio, ratio, atol=0.02)
    np.testing.assert_allclose(out.total_effect, ratio * out.direct_effect, atol=1e-6)
    np.testing.assert_allclose(out.direct_effect, -out.response.mean("presentation"), atol=1e-6)


def test_heads_of_a_stock_model_are_lesioned_over_texts_of_any_length(gpt2, texts):
    import xarray as xr

    lm = ba.TransformersResponder(gpt2, layers=3, pool="last")
    long, short = texts(3, 0), texts(2, 1, length=4)
    both = xr.concat([long, short.assign_coords(stimulus_id=("presentation", ["t0", "t1"]))], "presentation")
    for mode in ("zero", "mean"):
        out = ba.lesion(lm, both, units={"heads.2": [1], "mlp.1": range(5)}, by=None if mode == "mean" else "unit", mode=mode, n_draws=3,
                        random_state=0)  # fmt: skip
        assert np.isfinite(out.effect_random.values).all()
    head = ba.lesion(lm, both, units={"heads.2": [1]}, by="head", freeze=["heads.*", "mlp.*"])
    with lm.altering({"heads.2": lambda v: torch.cat([v[..., :8], 0 * v[..., 8:16], v[..., 16:]], dim=-1)}):
        expected = np.concatenate([lm.respond(both, slice(0, 3))["h.3"], lm.respond(both, slice(3, 5))["h.3"]])
    np.testing.assert_allclose(head.response_lesioned, expected, atol=1e-5)
    assert np.isfinite(head.repair_ratio).all()
    with pytest.raises(ParameterError, match=r"'swap' got values of shapes .*'zero' or 'mean'"):
        ba.lesion(lm, both, units={"heads.2": [1]}, mode="swap")
    with pytest.raises(ParameterError, match=r"7 and 4 of `token`"):
        ba.lesion(lm, both, units={"heads.2": [1]}, by="token")

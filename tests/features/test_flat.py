"""Responses in two dims: every neuroid at every time is a feature, with a name of its own."""

import numpy as np

import brainalign as ba
from brainalign.features.flat import flat, flatten_time


def test_every_neuroid_at_every_time_is_a_feature():
    values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("float32")
    x = ba.responses(values, stimulus_id=list("abcde"), neuroid_id=["m", "n"], time=[0.0, 0.1, 0.2], modality="meg", system="s",
                     region=["left", "right"])  # fmt: skip
    out = ba.validate(flatten_time(x))
    assert out.neuroid_id.values.tolist() == ["m@0s", "m@0.1s", "m@0.2s", "n@0s", "n@0.1s", "n@0.2s"]
    assert out.region.values.tolist() == ["left"] * 3 + ["right"] * 3
    assert out.time_s.values.tolist() == [0.0, 0.1, 0.2] * 2
    assert out.stimulus_id.values.tolist() == list("abcde")
    np.testing.assert_array_equal(out.values, flat(x))
    np.testing.assert_array_equal(out.values[:, 4], values[:, 1, 1])
    assert "time_reference" not in out.attrs


def test_without_times_nothing_is_done():
    x = ba.responses(np.ones((2, 3)), stimulus_id=["a", "b"], neuroid_id=range(3), modality="ann", system="s")
    assert flatten_time(x) is x

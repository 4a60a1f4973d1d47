"""Latents by name: one alone has none, and rows are of the same stimuli."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.latents import latent_matrices


def test_matrices_by_name_and_what_is_none():
    x = ba.responses(np.arange(6.0).reshape(3, 2), stimulus_id=list("abc"), neuroid_id=range(2), modality="ann", system="net")
    found, ids = latent_matrices({"low": x, "high": 2 * x}, "generate")
    assert ids.tolist() == list("abc")
    np.testing.assert_array_equal(found["high"], 2 * x.values)
    assert list(latent_matrices(x, "generate")[0]) == [""]
    for wrong, match in (({}, "generate got latents: none"), ({"low": x.values}, "generate got latents: ndarray for 'low'")):
        with pytest.raises(ba.errors.ParameterError, match=match):
            latent_matrices(wrong, "generate")
    with pytest.raises(
        ba.errors.AlignmentError, match=r"'low' and 'high' of different stimuli, or in another order \('a', 'b', 'c'"
    ):
        latent_matrices({"low": x, "high": x[::-1]}, "generate")

"""Units by layer, and how much of what they hold stays."""

import numpy as np
import pytest

from brainalign.core.errors import ParameterError
from brainalign.neurons.interventions.lesion_modes import by_layer, check_alike, scale_of


def test_units_go_by_layer_or_by_address():
    assert by_layer({"h.1": [2, 5], "h.2": None}) == {"h.1": [2, 5], "h.2": None}
    assert by_layer(["h.1/2", "h.1/5", "h.2"]) == {"h.1": ["2", "5"], "h.2": None}
    assert by_layer("V4/left") == {"V4": ["left"]}
    assert by_layer(["V4", "V4/3"]) == {"V4": None}
    for nothing in ({}, []):
        with pytest.raises(ParameterError, match="addresses such as"):
            by_layer(nothing)


def test_what_stays():
    assert scale_of("zero", 0.5, "h", 2).tolist() == [0, 0]
    assert scale_of("noise", 0.5, "h", 2).tolist() == [1, 1]
    assert scale_of("dampen", 0.5, "h", 2).tolist() == [0.5, 0.5]
    assert scale_of("dampen", {"h": [0.1, 1.0]}, "h", 2).tolist() == [0.1, 1.0]
    for factor in ([1.0] * 3, {"g": [1.0, 1.0]}, np.nan):
        with pytest.raises(ParameterError, match="2 units of 'h'"):
            scale_of("dampen", factor, "h", 2)


def test_rows_are_exchanged_where_they_are_alike():
    check_alike([(3,), (3,)], 2, "swap", "h")
    with pytest.raises(ParameterError, match=r"'swap' got values of shapes \(3,\), \(4,\) in 'h'"):
        check_alike([(3,), (4,)], 2, "swap", "h")
    with pytest.raises(ParameterError, match="got 1 presentation"):
        check_alike([(3,)], 1, "swap", "h")

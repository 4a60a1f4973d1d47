"""Groups by name, in blocks, and in bands."""

import numpy as np
import pytest
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.schema import as_labels
from brainalign.neurons.attribution.groups import find_groups

IMAGE = {"shape": (2, 4, 6), "dims": ("channel", "y", "x"), "coords": {}}
REGIONS = {
    "shape": (3, 2),
    "dims": ("source_neuroid", "time"),
    "coords": {"source_region": (("source_neuroid",), as_labels(["V4", "V1", "V4"])), "time": (("time",), np.array([0.0, 0.5]))},
}
HERTZ = {"shape": (2, 9), "dims": ("channel", "frequency"), "coords": {"frequency_hz": (("frequency",), np.arange(9) * 4.0)}}


def test_dims_and_coordinates_have_names():
    index, labels = find_groups("channel", **IMAGE)
    assert labels.tolist() == [0, 1]
    assert (index[0, 1] == 1).all()
    for name in ("region", "source_region"):
        index, labels = find_groups(name, **REGIONS)
        assert labels.tolist() == ["V1", "V4"]
        assert index[0].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert find_groups("time", **REGIONS)[1].tolist() == [0.0, 0.5]
    for before in ([-0.5, 0.0], [-500, 0]):  # a baseline before the stimulus
        early = REGIONS | {"coords": {"time": (("time",), np.array(before))}}
        assert find_groups("time", **early)[1].tolist() == before
    assert find_groups("neuroid", **REGIONS)[0][0, :, 0].tolist() == [0, 1, 2]


def test_patches_are_blocks_in_rows():
    index, labels = find_groups({"y": 2, "x": 4}, **IMAGE)
    assert len(labels) == 4  # the last two of six columns are a block
    assert index[0, 1, :, ::2].tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 3], [2, 2, 3]]


def test_bands_come_in_the_order_given_and_the_rest_is_one():
    index, labels = find_groups({"theta": (4, 8), "alpha": (8, 13)}, **HERTZ)
    assert labels.tolist() == ["theta", "alpha", "rest"]
    assert index[0, 1].tolist() == [2, 0, 1, 1, 2, 2, 2, 2, 2]
    assert find_groups({"all": (0, 99)}, **HERTZ)[1].tolist() == ["all"]
    fine = HERTZ | {"coords": {"frequency_hz": (("frequency",), np.arange(9) * 2.0)}}
    with pytest.raises(ParameterError, match="the band 'gamma' of 30 to 100 Hz, which holds no frequency"):
        find_groups("bands", **fine)


def test_labels_are_taken_as_before():
    assert find_groups(xr.DataArray(["l", "r"], dims="channel"), **HERTZ)[1].tolist() == ["l", "r"]


def test_what_is_no_group_is_named():
    with pytest.raises(ParameterError, match=r"groups='chanel'. Expected a dim or a coordinate.*channel.*Did you mean 'channel'"):
        find_groups("chanel", **IMAGE)
    with pytest.raises(ParameterError, match=r"groups=\{'z': 2\}. Expected numbers of positions along dims"):
        find_groups({"z": 2}, **IMAGE)
    with pytest.raises(ParameterError, match="band 'b' of 7 to 20 Hz, which shares 8 Hz with another"):
        find_groups({"a": (4, 9), "b": (7, 20)}, **HERTZ)
    with pytest.raises(ParameterError, match=r"are no frequencies. Expected domain='frequency'"):
        find_groups("bands", **IMAGE)
    with pytest.raises(ParameterError, match=r"no sampling rate: set `stimuli.attrs\['sampling_rate_hz'\]`"):
        find_groups("bands", **(HERTZ | {"coords": {}}))
    holes = REGIONS | {"coords": {"source_region": (("source_neuroid",), as_labels(["V4", "", "V4"]))}}
    with pytest.raises(ParameterError, match="groups that leave out 2 of 6 elements"):
        find_groups("region", **holes)

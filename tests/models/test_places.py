"""Where features lie: by labels, by shape, in one field of view; and what is said where nothing tells."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import CapabilityError
from brainalign.models.places import field_of_view


def source(n=5, **labels):
    width = len(next(iter(labels.values())))
    return ba.responses(np.zeros((n, width)), stimulus_id=[f"s{i}" for i in range(n)], neuroid_id=range(width), modality="ann",
                        system="net", **labels)  # fmt: skip


def test_a_grid_is_centred_and_its_longer_side_is_one():
    y, x = (a.ravel() for a in np.mgrid[:2, :4])
    view = field_of_view(source(channel_x=x, channel_y=y, unit=np.zeros(8, int)), owner="test")
    assert view.axes == ("x", "y")
    np.testing.assert_allclose(view.maps[0].points[0], [-0.375, 0.125])  # first row, first column: left, above
    np.testing.assert_allclose(view.maps[0].points[-1], [0.375, -0.125])
    np.testing.assert_allclose(view.maps[0].cell, 0.25)
    np.testing.assert_array_equal(view.maps[0].columns[:, 0], np.arange(8))


def test_shape_and_labels_agree():
    maps = np.zeros((5, 3, 2, 4))
    c, y, x = (a.ravel() for a in np.indices((3, 2, 4)))
    by_label, by_shape = (field_of_view(s, owner="test").maps[0] for s in (source(channel_x=x, channel_y=y, unit=c), maps))
    np.testing.assert_array_equal(by_label.columns, by_shape.columns)
    np.testing.assert_allclose(by_label.points, by_shape.points)
    np.testing.assert_array_equal(by_label.places["channel_x"], by_shape.places["channel_x"])


def test_class_tokens_have_no_place():
    token = np.repeat(np.arange(5), 2)
    x = source(token=token, channel_x=np.where(token > 0, (token - 1) % 2, -1), channel_y=np.where(token > 0, (token - 1) // 2, -1),
               unit=np.tile([0, 1], 5))  # fmt: skip
    view = field_of_view(x, owner="test", tokens=True)
    assert view.maps[0].columns.shape == (4, 2)
    assert view.maps[0].columns.min() == 2


def test_tokens_of_a_text_lie_on_a_line():
    view = field_of_view(source(token=np.repeat(np.arange(3), 2), unit=np.tile([0, 1], 3)), owner="test", tokens=True)
    np.testing.assert_allclose(view.maps[0].points[:, 0], [-1 / 3, 0, 1 / 3])
    assert field_of_view(np.zeros((5, 3, 2)), owner="test", tokens=True).maps[0].columns.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_layers_with_one_grid_are_channels_of_it_and_others_are_not():
    layers, x = np.repeat(["a", "b"], 4), np.tile([0, 1, 0, 1], 2)
    view = field_of_view(source(layer=layers, channel_x=x, channel_y=np.tile([0, 0, 1, 1], 2)), owner="test")
    assert len(view.maps) == 2
    assert view.one_grid("test").columns.tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert "layer" not in view.one_grid("test").places
    other = field_of_view(source(layer=["a"] * 4 + ["b"], channel_x=[0, 1, 0, 1, 0], channel_y=[0, 0, 1, 1, 0]), owner="test")
    with pytest.raises(CapabilityError, match=r"test got maps of 4 and of 1 places.*select one layer"):
        other.one_grid("test")


def test_times_and_delays_are_channels():
    x = source(channel_x=[0, 1], channel_y=[0, 0]).expand_dims(time=[0.0, 0.1, 0.2], axis=2)
    x.attrs["time_reference"] = "stimulus onset"
    assert field_of_view(x, owner="test").maps[0].columns.tolist() == [[0, 1, 2], [3, 4, 5]]
    delayed = source(channel_x=[0, 1, 0, 1], channel_y=[0] * 4).assign_coords(delay_s=("neuroid", [2.0, 2.0, 4.0, 4.0]))
    assert field_of_view(delayed, owner="test").maps[0].columns.tolist() == [[0, 2], [1, 3]]


def test_space_has_one_field_of_view_for_all_regions():
    view = field_of_view(source(x_mm=[0.0, 10.0, 20.0, 40.0], y_mm=[0.0] * 4, z_mm=[0.0, 5.0, 10.0, 20.0],
                                region=["V1", "V1", "V2", "V2"]), owner="test")  # fmt: skip
    assert view.axes == ("x_mm", "z_mm")  # all lie at one y
    assert view.scale == 40
    np.testing.assert_allclose(view.maps[1].points * view.scale + view.centre, [[20, 10], [40, 20]])
    np.testing.assert_allclose(view.maps[0].cell, np.hypot(10, 5) / 40)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            lambda: source(unit=[0, 1, 2]),
            r"neuroid labels neuroid_id, system, unit.*says nothing of where.*channel_x.*pool='all'",
        ),
        (lambda: source(token=[0, 1, 2]), r"go to `ba.AttentionReadout`"),
        (lambda: np.zeros((5, 6)), r"plain array of shape \(5, 6\).*\(presentation, channel, y, x\)"),
        (
            lambda: source(channel_x=[0, 1, 0], channel_y=[0, 0, 1], unit=[0, 0, 0]).isel(neuroid=[0, 1, 2, 2]),
            "have 1 features twice",
        ),
        (lambda: source(channel_x=[0, 1, 0], channel_y=[0, 0, 0], unit=[0, 0, 1]), "lack 1 of 4 features.*select whole maps"),
        (lambda: source(x_mm=[0.0, 1.0, np.nan], y_mm=[0.0] * 3, z_mm=[0.0] * 3), r"1 of 3 features whose `x_mm`.* is NaN"),
    ],
)
def test_what_is_missing_is_named(x, message):
    with pytest.raises(CapabilityError, match=message):
        field_of_view(x(), owner="SpatialReadout")

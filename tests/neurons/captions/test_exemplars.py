import numpy as np
import pytest

import brainalign as ba


def recorded(values, **coords):
    values = np.asarray(values, dtype="float64")
    given = {"stimulus_id": [f"s{i:02d}" for i in range(len(values))], "neuroid_id": range(values.shape[1]), "modality": "ann"}
    return ba.responses(values, **(given | {"system": "net"} | coords))


def test_the_highest_come_first_with_their_responses_and_percentiles():
    x = recorded(np.array([[3.0, 0.0], [1.0, 5.0], [2.0, 4.0], [0.0, 4.0]]))
    out = ba.exemplars(x, k=2, random_state=0)
    assert out.stimulus_id.values[0].tolist() == ["s00", "s02"]
    assert out.response.values[0].tolist() == [3.0, 2.0]
    assert out.percentile.values[0].tolist() == [87.5, 62.5]
    assert out.percentile.values[1].tolist() == [87.5, 50.0]  # two that tie share their place
    assert out.stimulus_id.values[1, 0] == "s01"
    assert out.attrs["n_presentations"] == 4


def test_repeats_are_averaged_or_kept():
    x = recorded([[9.0], [1.0], [4.0], [5.0]], stimulus_id=["a", "a", "b", "b"])
    assert ba.exemplars(x, k=1).response.item() == 5.0
    kept = ba.exemplars(x, k=3, repeats="keep")
    assert kept.stimulus_id.values[0].tolist() == ["a", "b", "b"]


def test_held_out_responses_are_not_high_by_their_own_noise():
    """On pure noise the highest mean is high, and what was left out of the ranking is not."""
    rng = np.random.default_rng(0)
    ids = np.tile([f"s{i:03d}" for i in range(100)], 2)
    x = recorded(rng.normal(size=(200, 60)), stimulus_id=ids)
    circular, honest = ba.exemplars(x, k=5), ba.exemplars(x, k=5, held_out=True)
    assert float(circular.response.mean()) > 1.2
    assert abs(float(honest.response.mean())) < 0.15
    assert abs(float(honest.percentile.mean()) - 50) < 5
    signal = np.tile(3 * rng.normal(size=(100, 60)), (2, 1))
    assert float(ba.exemplars(x.copy(data=x.values + signal), k=5, held_out=True).percentile.mean()) > 90
    with pytest.raises(ba.errors.SchemaError, match="200 stimuli that were presented once"):
        ba.exemplars(recorded(x.values, stimulus_id=[f"t{i}" for i in range(200)]), held_out=True)


def test_maps_answer_with_their_highest_place_and_say_where_it_was():
    """A unit's map of 2 x 3; the unit of the same number in another layer is another neuroid."""
    values = np.zeros((4, 12))
    values[2, 4], values[1, 9] = 5.0, 7.0
    x = recorded(values, layer=np.repeat(["a", "b"], 6), neuroid_id=np.tile(np.arange(6), 2), unit=np.zeros(12, int),
                 channel_y=np.tile([0, 0, 0, 1, 1, 1], 2), channel_x=np.tile([0, 1, 2], 4))  # fmt: skip
    out = ba.exemplars(x, k=1, by="unit")
    assert out.layer.values.tolist() == ["a", "b"]
    assert out.neuroid_id.values.tolist() == [0, 0]
    assert out.stimulus_id.values[:, 0].tolist() == ["s02", "s01"]
    assert out.channel_y.values[:, 0].tolist() == [1, 1]
    assert out.channel_x.values[:, 0].tolist() == [1, 0]
    values[0, 0] = np.nan  # a place that is not known does not stand for its map
    out = ba.exemplars(recorded(values, unit=["u"] * 12, allow_nan=True), k=1, by="unit")
    assert (out.status.item(), out.stimulus_id.item()) == ("ok", "s01")
    with pytest.raises(ba.errors.ParameterError, match=r"by='units'.*Did you mean 'unit'"):
        ba.exemplars(x, k=1, by="units")


def test_constant_neuroids_have_no_exemplars():
    out = ba.exemplars(recorded([[1.0, 2.0], [1.0, 3.0]]), k=1)
    assert out.stimulus_id.values.tolist() == [[""], ["s01"]]
    assert np.isnan(out.response.values[0, 0])
    assert out.status.values.tolist() == ["constant", "ok"]


def test_content_stands_beside_the_names():
    words = ba.stimuli.table(["the", "cat", "sat"], stimulus_id=["s00", "s01", "s02"], kind="word")
    x = recorded([[0.0], [2.0], [1.0]])
    assert ba.exemplars(x, stimuli=words, k=2).text.values.tolist() == [["cat", "sat"]]
    with pytest.raises(ba.errors.AlignmentError, match="without 1 of the exemplars, first 's01'"):
        ba.exemplars(x, stimuli=words[{"presentation": [0, 2]}], k=2)


def test_neuroids_are_named_by_id_or_address():
    x = recorded(np.eye(4), layer=["a", "a", "b", "b"], neuroid_id=[0, 1, 0, 2])
    assert ba.exemplars(x, k=1, neuroid=["b/0", 2, "1"]).stimulus_id.values[:, 0].tolist() == ["s02", "s03", "s01"]
    with pytest.raises(ba.errors.ParameterError, match="exemplars got neuroid=0, which matches 2 neuroids, 'a/0', 'b/0'"):
        ba.exemplars(x, k=1, neuroid=0)


def test_bad_input_is_named():
    with pytest.raises(ba.errors.ParameterError, match="k=9 and 2 stimuli"):
        ba.exemplars(recorded([[1.0], [2.0]]))
    both = recorded(np.eye(4), stimulus_id=["a", "b", "a", "b"], subject=["s1", "s1", "s2", "s2"])
    for held_out in (False, True):
        with pytest.raises(ba.errors.SchemaError, match="exemplars got stimuli that several subjects saw, 's1', 's2'"):
            ba.exemplars(both, k=1, held_out=held_out)
    timed = ba.responses(np.ones((2, 1, 3)), stimulus_id=["a", "b"], neuroid_id=[0], modality="meg", system="s", time=[0, 1, 2])
    with pytest.raises(ba.errors.SchemaError, match="3 times"):
        ba.exemplars(timed)

"""AttentionReadout: content is found wherever it is, attention is labelled, and one seed gives one result."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError


def test_content_is_followed_where_static_readouts_see_nothing(routed_content, held_out_r):
    """Card 6, at its size: the marked place moves from picture to picture; the oracle's r is .707."""
    x, y, at = routed_content(n_neuroids=12)
    model = ba.AttentionReadout()
    assert held_out_r(model, x, y) > 0.65
    assert held_out_r(ba.Ridge(), x, y) < 0.10
    assert held_out_r(ba.SpatialReadout("factorised"), x, y) < 0.10
    looks = model.attention(x[500:]).argmax("token").values[:, 0]
    assert np.mean(looks == at[500:]) > 0.95


def test_on_fixed_fields_the_factorised_readout_wins(fixed_fields, held_out_r):
    x, y, _ = fixed_fields(n_neuroids=10)
    attention = held_out_r(ba.AttentionReadout("neuroid", max_steps=300), x, y)
    assert held_out_r(ba.SpatialReadout("factorised"), x, y) > max(0.58, attention + 0.2)


def test_queries_find_a_place_with_enough_presentations(fixed_fields, held_out_r):
    x, y, place = fixed_fields(n=1500, side=3, n_channels=4, n_neuroids=4)
    model = ba.AttentionReadout("neuroid", max_steps=600)
    assert held_out_r(model, x, y, 1200) > 0.6
    assert model.attention(x[:5]).argmax("token").values[0].tolist() == place.tolist()


def test_attention_is_labelled_and_sums_to_one(routed_content):
    x, y, _ = routed_content(n=60, side=3, n_channels=3, n_neuroids=4, region=["V1", "V4", "V1", "V4"])
    model = ba.AttentionReadout(max_steps=25, n_heads=2).fit(x, y)
    looks = model.attention(x[:7])
    assert looks.dims == ("presentation", "query", "token")
    assert looks.sizes == {"presentation": 7, "query": 2, "token": 9}
    assert looks["query"].values.tolist() == ["V1", "V4"]
    assert looks.channel_y.values.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert looks.stimulus_id.values.tolist() == x.stimulus_id.values[:7].tolist()
    np.testing.assert_allclose(looks.sum("token"), 1.0, rtol=1e-5)
    by_neuroid = ba.AttentionReadout("neuroid", max_steps=25).fit(x, y)
    assert by_neuroid.attention(x)["query"].values.tolist() == [0, 1, 2, 3]
    assert ba.AttentionReadout("system", max_steps=25).fit(x, y).queries_.tolist() == ["sub-01"]


def test_regions_whose_neuroids_are_interleaved_come_back_in_order(routed_content):
    x, y, _ = routed_content(n=60, side=3, n_channels=3, n_neuroids=4)
    mixed = y.assign_coords(region=("neuroid", ["V1", "V4", "V1", "V4"]))
    a = ba.AttentionReadout(max_steps=25).fit(x, mixed).predict(x)
    b = ba.AttentionReadout(max_steps=25).fit(x, mixed[:, [0, 2, 1, 3]]).predict(x)
    np.testing.assert_allclose(a[:, [0, 2, 1, 3]], b, atol=1e-4)


@pytest.mark.parametrize("queries", ["region", "neuroid"])
def test_one_seed_one_result(routed_content, queries):
    x, y, _ = routed_content(n=60, side=3, n_channels=3, n_neuroids=4)
    first, again = (ba.AttentionReadout(queries, max_steps=50, random_state=3).fit(x, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict(x), again.predict(x))
    other = ba.AttentionReadout(queries, max_steps=50, random_state=4).fit(x, y)
    assert not np.array_equal(first.predict(x), other.predict(x))
    drawn = ba.AttentionReadout(queries, max_steps=25, random_state=None).fit(x, y)
    assert ba.core.provenance(drawn.predict(x)).steps[-1]["seed"] == drawn.seed_
    np.testing.assert_array_equal(drawn.predict(x), clone(drawn).set_params(random_state=drawn.seed_).fit(x, y).predict(x))


def test_the_state_of_torch_is_left_alone(routed_content):
    x, y, _ = routed_content(n=60, side=3, n_channels=3, n_neuroids=4)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ba.AttentionReadout(max_steps=25).fit(x, y)
    np.testing.assert_array_equal(torch.rand(3), expected)


def test_training_stops_by_rows_of_other_groups_in_the_training_rows(routed_content, monkeypatch):
    x, y, _ = routed_content(n=60, side=3, n_channels=3, n_neuroids=4)
    seen = []
    import brainalign.models.attention as module

    real = module.train
    monkeypatch.setattr(module, "train", lambda *args, **options: seen.append((len(args[1]), args[4])) or real(*args, **options))
    groups = np.arange(60) // 6
    ba.AttentionReadout(max_steps=25, groups=groups).fit(x, y)
    n_rows, (own, held) = seen[0]
    assert n_rows == 60
    assert not np.intersect1d(groups[own], groups[held]).size
    ba.evaluate(x, y, model=ba.AttentionReadout(max_steps=25), cv=3, random_state=0)
    assert {n for n, _ in seen[1:]} == {40}


@pytest.mark.parametrize("queries", ["region", "neuroid"])
def test_degenerate_targets_are_named_and_disturb_no_other(routed_content, queries):
    x, y, _ = routed_content(n=60, side=3, n_channels=3, n_neuroids=4)
    bad = y.copy()
    bad[:, 1], bad[3, 2] = 4.0, np.nan
    model = ba.AttentionReadout(queries, max_steps=50).fit(x, bad)
    clean = ba.AttentionReadout(queries, max_steps=50).fit(x, y[:, [0, 3]])
    assert model.status_.tolist() == ["ok", "constant", "nan", "ok"]
    np.testing.assert_allclose(model.predict(x)[:, [0, 3]], clean.predict(x), atol=1e-5)
    assert np.isnan(model.predict(x)[:, [1, 2]]).all()
    assert np.isnan(ba.AttentionReadout(queries).fit(x, bad[:, [1, 2]]).predict(x)).all()


def test_tokens_may_be_voxels_and_words_and_plain_arrays():
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(40)]
    unit = ba.responses(rng.normal(size=(40, 2)), stimulus_id=ids, neuroid_id=[0, 1], modality="ann", system="net", layer="fc")
    place = rng.normal(size=(3, 12))
    brain = ba.responses(rng.normal(size=(40, 12)), stimulus_id=ids, neuroid_id=range(12), modality="fmri", system="s",
                         x_mm=place[0], y_mm=place[1], z_mm=place[2])  # fmt: skip
    model = ba.AttentionReadout(max_steps=25).fit(brain, unit)
    assert model.predict(brain).shape == (40, 2)
    assert model.attention(brain).x_mm.dims == ("token",)
    assert model.queries_.tolist() == ["fc"]
    words = ba.responses(rng.normal(size=(40, 6)), stimulus_id=ids, neuroid_id=range(6), modality="ann", system="lm",
                         token=np.repeat([0, 1, 2], 2), unit=np.tile([0, 1], 3))  # fmt: skip
    by_label = ba.AttentionReadout("neuroid", max_steps=25, cv=[(np.arange(30), np.arange(30, 40))])
    by_shape = clone(by_label).fit(words.values.reshape(40, 3, 2), unit.values)
    np.testing.assert_allclose(
        by_label.fit(words, unit).predict(words), by_shape.predict(words.values.reshape(40, 3, 2)), atol=1e-6
    )
    assert by_label.attention(words).token.values.tolist() == [0, 1, 2]


def test_what_is_missing_is_named(routed_content):
    x, y, _ = routed_content(n=30, side=3, n_channels=3, n_neuroids=4)
    with pytest.raises(CapabilityError, match=r"AttentionReadout got a source with the neuroid labels.*Expected `token`"):
        ba.AttentionReadout().fit(x.drop_vars(["channel_x", "channel_y"]), y)
    with pytest.raises(CapabilityError, match="plain target array"):
        ba.AttentionReadout().fit(x, y.values)
    with pytest.raises(CapabilityError, match="Expected `region` or `layer` among them"):
        ba.AttentionReadout().fit(x, y.drop_vars("region"))
    with pytest.raises(CapabilityError, match="Expected `area` among them"):
        ba.AttentionReadout("area").fit(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 0}, "'n_heads' parameter of AttentionReadout"),
        ({"max_steps": 0}, "'max_steps' parameter"),
        ({"width": 3}, r"'width' parameter of AttentionReadout must be an int in the range \[4"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"weight_decay": -1}, "'weight_decay' parameter"),
        ({"random_state": -1}, "'random_state' parameter of AttentionReadout"),
        ({"device": "gpu"}, "'device' parameter of AttentionReadout"),
    ],
)
def test_impossible_options_are_named(routed_content, options, message):
    x, y, _ = routed_content(n=30, side=3, n_channels=3, n_neuroids=4)
    with pytest.raises(ParameterError, match=message):
        ba.AttentionReadout(**options).fit(x, y)


def test_obeys_the_estimator_contract():
    model = ba.AttentionReadout("neuroid", max_steps=3)
    assert clone(model).get_params() == model.get_params()
    assert repr(model) == "AttentionReadout(max_steps=3, queries='neuroid')"

"""A recording as a responder: its own values, labels and names."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.protocols import DifferentiableResponder
from brainalign.features.recorded import RecordedResponder, as_stimuli, names_over_time

pytestmark = pytest.mark.filterwarnings("ignore:.*explains models of")


def recording(time=True):
    shape = (4, 3, 2) if time else (4, 3)
    options = {"time": [0.0, 0.5]} if time else {}
    return ba.responses(np.arange(np.prod(shape), dtype="float32").reshape(shape), stimulus_id=list("abcd"), neuroid_id=["n1", "n2", "n3"],
                        modality="meg", system="sub-01", region=["V1", "V1", "V4"], **options)  # fmt: skip


def test_a_recording_is_a_table_with_its_labels():
    x = recording()
    table = as_stimuli(x)
    assert table["values"].dims == ("presentation", "source_neuroid", "time")
    assert table.source_region.values.tolist() == ["V1", "V1", "V4"]
    assert table.stimulus_id.values.tolist() == list("abcd")
    assert as_stimuli(table) is table


@pytest.mark.parametrize("time", [False, True])
def test_it_answers_with_what_it_is_shown(time):
    x = recording(time)
    responder, table = RecordedResponder(x), as_stimuli(x)
    assert isinstance(responder, DifferentiableResponder)
    assert responder.causal_scope == "virtual"
    expected = x.values.reshape(4, -1)
    (piece,) = responder.pieces(table, np.array([1, 3]))
    np.testing.assert_array_equal(piece.forward(piece.inputs), expected[[1, 3]])
    found = [responder.respond(table, block)["sub-01"] for block in responder.blocks(table, 3)]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    names = responder.neuroids(table)["sub-01"]["neuroid_id"]
    assert names.tolist() == names_over_time(x).tolist()
    assert names.tolist()[:2] == (["n1@0s", "n1@0.5s"] if time else ["n1", "n2"])
    assert responder.fingerprint() == RecordedResponder(x[:2]).fingerprint() != RecordedResponder(x[:, ::-1]).fingerprint()


def test_what_is_no_recording_is_named():
    x = recording().copy()
    x.values[2, 1, 0] = np.nan
    with pytest.raises(SchemaError, match=r"missing in 1 of 3 neuroids \(.*n2.*\)"):
        as_stimuli(x.assign_attrs(allow_nan=True))
    images = ba.stimuli.table(np.ones((4, 3)), stimulus_id=list("abcd"), kind="array")
    with pytest.raises(ParameterError, match="a readout of a recording got stimuli with values"):
        RecordedResponder(recording()).pieces(images)


def brain(values, **options):
    regions = ["V1"] * 3 + ["IT"] * 2
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(len(values))], neuroid_id=[f"n{i}" for i in range(5)], modality="meg",
                        system="sub-01", region=regions, **options)  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_voxels_drive_a_class_by_weights_times_differences(rng):
    label = np.repeat(["cat", "dog", "owl"], 20)
    x = brain(rng.normal(size=(60, 5)) + (label == "dog")[:, None] * np.eye(5)[3])
    model = ba.Classifier("lda").fit(x, label)
    decoder = ba.readout(x, model)
    a = ba.attribute(decoder, x, neuroid="dog", baseline="mean")
    assert a.dims == ("presentation", "neuroid", "source_neuroid")
    assert a.attrs["causal_scope"] == "virtual"
    weights = model.estimator_.coef_[1]
    np.testing.assert_allclose(a.values[:, 0], weights * (x.values - x.values.mean(axis=0)), atol=1e-4)
    np.testing.assert_allclose(a.response.values[:, 0], model.decision_function(x).values[:, 1], atol=1e-4)
    assert a.source_neuroid_id.values[int(np.abs(a).mean(("presentation", "neuroid")).argmax("source_neuroid"))] == "n3"
    by_region = ba.attribute(decoder, x, neuroid=["cat", "dog"], baseline="mean", method="shapley", groups="region")
    assert by_region.group.values.tolist() == ["IT", "V1"]
    np.testing.assert_allclose(by_region.values[:, 1, 0], a.values[:, 0, 3:].sum(axis=1), atol=1e-4)


def test_an_epoch_drives_a_class_by_bands_and_times(rng):
    t = np.arange(32) / 64
    label = np.repeat(["rest", "task"], 40)
    values = rng.normal(size=(80, 5, 32)) * 0.5
    values[40:, 1] += np.sin(2 * np.pi * 10 * t)  # alpha, on one channel
    x = brain(values.astype("float32"), time=t)
    decoder = ba.readout(x[::2], ba.chain(StandardScaler(), ba.Classifier("ridge")).fit(x[::2], label[::2]))
    held = x[1::2]
    whole = ba.attribute(decoder, held, neuroid="task")
    assert whole.dims == ("presentation", "neuroid", "source_neuroid", "time")
    bands = {"theta": (4, 8), "alpha": (8, 13), "beta": (13, 30)}
    by_band = ba.attribute(decoder, held, neuroid="task", domain="frequency", groups=bands)
    np.testing.assert_allclose(by_band.sum("group"), whole.sum(("source_neuroid", "time")), atol=1e-3)
    task = by_band[20:].mean(("presentation", "neuroid"))
    assert task.group.values[int(task.argmax("group"))] == "alpha"
    by_channel = ba.attribute(decoder, held, neuroid="task", domain="frequency")
    assert by_channel.dims == ("presentation", "neuroid", "source_neuroid", "frequency")
    best = by_channel[20:].mean(("presentation", "neuroid")).argmax(...)
    assert by_channel.source_neuroid_id.values[int(best["source_neuroid"])] == "n1"
    assert 8 <= by_channel.frequency_hz.values[int(best["frequency"])] <= 12
    halves = ba.attribute(decoder, held, neuroid="task", method="occlusion", groups={"time": 16})
    assert halves.sizes["group"] == 2


@pytest.mark.parametrize("modality", ["meg", "ann"])
def test_any_recording_drives_what_is_predicted_of_it(rng, modality):
    """Units of a network from a brain, and a region from recorded units: the numbers do not know whose they are."""
    x = brain(rng.normal(size=(40, 5))).assign_attrs(modality=modality)
    weights = rng.normal(size=(5, 2))
    y = ba.responses(
        x.values @ weights, stimulus_id=x.stimulus_id, neuroid_id=[10, 11], modality="ann", system="net", layer="h.1"
    )
    a = ba.attribute(ba.readout(x, ba.Ridge(alphas=[1e-4]).fit(x, y)), x[:7], neuroid="h.1/11")
    np.testing.assert_allclose(a.values[:, 0], x.values[:7] * weights[:, 1], atol=1e-3)
    assert a.attrs["completeness_error"] < 1e-5


def test_times_and_neuroids_must_be_those_of_the_fit(rng):
    label = np.repeat(["a", "b"], 10)
    x = brain(rng.normal(size=(20, 5, 4)), time=[0.0, 0.1, 0.2, 0.3])
    model = ba.Classifier().fit(x, label)
    with pytest.raises(AlignmentError, match="a recording with 4 neuroids"):
        ba.readout(x[:, 1:], model)
    with pytest.raises(AlignmentError, match=r"n0@0.5s.* fitted on 20 \(.*n0@0s"):
        ba.attribute(ba.readout(x, model), x.assign_coords(time=[0.5, 0.6, 0.7, 0.8]), neuroid="a")
    uneven = x.assign_coords(time=[0.0, 0.1, 0.2, 0.5])
    with pytest.raises(ParameterError, match=r"domain='frequency' for the times .* Expected several at even steps"):
        ba.attribute(ba.readout(uneven, model), uneven, neuroid="a", domain="frequency")

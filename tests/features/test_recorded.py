"""A recording as a responder: its own values, labels and names."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.protocols import DifferentiableResponder
from brainalign.features.recorded import RecordedResponder, as_stimuli, names_over_time


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

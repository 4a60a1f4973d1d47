import numpy as np
import pytest
from sklearn.linear_model import Ridge

from brainalign.core import protocols
from brainalign.core.protocols import DifferentiableResponder, Mapping, Metric, Piece, PresentationStep, Responder
from brainalign.scores.metrics import METRICS


class Doubler:
    """A responder with nothing inherited: the values of the stimuli, doubled."""

    system, modality, deterministic = "doubler", "ann", True

    def fingerprint(self):
        return "doubler-1"

    def presentations(self, stimuli):
        return stimuli

    def neuroids(self, stimuli):
        return {"layer": {"neuroid_id": np.arange(2)}}

    def blocks(self, stimuli, batch_size):
        return [slice(0, 2)]

    def respond(self, stimuli, rows):
        return {"layer": 2 * stimuli[rows]}


class SmoothDoubler(Doubler):
    def pieces(self, stimuli, rows=None):
        return [Piece(stimuli, lambda x: 2 * x, np.arange(len(stimuli)), None, ("feature",))]


def test_a_responder_is_whatever_answers_like_one():
    assert isinstance(Doubler(), Responder)
    assert not isinstance(object(), Responder)


def test_gradients_are_a_property_that_a_responder_has_or_lacks():
    assert isinstance(SmoothDoubler(), DifferentiableResponder)
    assert not isinstance(Doubler(), DifferentiableResponder)
    piece = SmoothDoubler().pieces(np.ones((2, 3)))[0]
    assert piece.forward(piece.inputs).tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("missing", ["fingerprint", "presentations", "neuroids", "blocks", "respond"])
def test_every_verb_of_a_responder_is_needed(missing):
    methods = {name: value for name, value in vars(Doubler).items() if name != missing and not name.startswith("__")}
    assert not isinstance(type("Partial", (), methods)(), Responder)


def test_a_scikit_learn_estimator_is_a_mapping():
    assert isinstance(Ridge(), Mapping)
    assert not isinstance(Ridge, PresentationStep)


def test_a_function_is_a_metric():
    assert isinstance(METRICS.get("pearson"), Metric)
    assert not isinstance(lambda target, prediction: 0.0, Metric)


def test_a_piece_cannot_be_changed_after_it_was_made():
    piece = SmoothDoubler().pieces(np.ones((1, 1)))[0]
    with pytest.raises(AttributeError):
        piece.rows = None


def test_the_module_offers_the_protocols_of_the_design():
    assert {"Responder", "Mapping", "Adapter", "Metric"} <= set(dir(protocols))

"""Black-box methods on a responder that has no gradients."""

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.core.errors import CapabilityError


class Rule:
    """A responder in numpy: a sum, and the larger of the first two."""

    system, modality, deterministic = "rule", "ann", True

    def fingerprint(self):
        return "rule"

    def presentations(self, stimuli):
        return pd.DataFrame({"stimulus_id": stimuli.stimulus_id.values.astype(object)})

    def neuroids(self, stimuli):
        return {"rule": {"neuroid_id": np.array([0, 1])}}

    def blocks(self, stimuli, batch_size):
        return [slice(i, i + 1) for i in range(stimuli.sizes["presentation"])]

    def respond(self, stimuli, rows):
        x = stimuli["values"].values[rows]
        return {"rule": np.stack([x.sum(axis=1), x[:, :2].max(axis=1)], axis=1).astype(np.float32)}


def test_responses_are_all_that_is_asked_for(table):
    x = table(5)["values"].values
    lost = ba.attribute(Rule(), table(5), method="occlusion")
    assert lost.dims == ("presentation", "neuroid", "feature")
    np.testing.assert_allclose(lost.values[:, 0], x, atol=1e-5)
    shared = ba.attribute(Rule(), table(5), method="shapley", neuroid=1)
    np.testing.assert_allclose(shared.sum("feature").values[:, 0], x[:, :2].max(axis=1), atol=1e-5)
    assert not shared.values[:, 0, 2:].any()
    total = ba.attribute(Rule(), table(5), method="sobol", neuroid=0, n_steps=512, random_state=0)
    np.testing.assert_allclose(total.values[:, 0], x**2 / (x**2).sum(axis=1, keepdims=True), atol=0.03)


def test_gradients_and_texts_are_refused_by_name(table, texts):
    with pytest.raises(CapabilityError, match=r"has no `pieces`.*method='occlusion'"):
        ba.attribute(Rule(), table(5))
    with pytest.raises(CapabilityError, match=r"Rule without gradients, and text stimuli. Expected arrays"):
        ba.attribute(Rule(), texts(2, 0), method="occlusion")

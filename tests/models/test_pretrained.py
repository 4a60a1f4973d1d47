"""On whom a trunk may be used: whose rows, and whose system, it has not seen, and as its pretraining left it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import SplitError
from brainalign.models.pretrained import Pretrained, digests, hash_of, refuse_seen, stimuli_of, systems_of

VALUES = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")
TRUNK = {"up": torch.ones(2, 3), "down": torch.zeros(3)}


def recorded(values, system):
    return ba.responses(
        values, stimulus_id=[f"s{i}" for i in range(len(values))], neuroid_id=range(4), modality="spikes", system=system
    )


@pytest.fixture
def before():
    return Pretrained(
        ("one",), hash_of(TRUNK), frozenset({"mouse-1"}), digests(VALUES), frozenset({"s0"}), TRUNK, np.zeros(2), 1.0, ba.Ridge()
    )


def test_who_was_seen_is_refused(before):
    new = VALUES + 1
    refuse_seen(before, recorded(new, "mouse-2"))
    refuse_seen(before, np.concatenate([VALUES[:4], new[:6]]))  # a few rows may be alike by chance
    with pytest.raises(SplitError, match="saw the system 'mouse-1' in its pretraining, on 'one'"):
        refuse_seen(before, recorded(new, "mouse-1"))
    with pytest.raises(SplitError, match="saw 60% of these rows"):
        refuse_seen(before, np.concatenate([VALUES[:6], new[:4]]))
    refuse_seen(before, np.zeros((10, 4)))  # silence is nobody's
    other = replace(before, trunk=TRUNK | {"down": torch.ones(3)})
    with pytest.raises(SplitError, match=f"before `fit`, and had {before.hash} after its pretraining"):
        refuse_seen(other, recorded(new, "mouse-2"))


def test_names_where_there_are_some():
    x = recorded(VALUES[:2], "mouse-1")
    assert (systems_of(x), stimuli_of(x)) == ({"mouse-1"}, {"s0", "s1"})
    assert (systems_of(VALUES), stimuli_of(VALUES)) == (frozenset(), frozenset())
    assert hash_of(TRUNK) == hash_of(dict(reversed(TRUNK.items())))

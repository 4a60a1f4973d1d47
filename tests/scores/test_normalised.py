"""Ratios to a ceiling: of the same units and of the same neuroids."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.scores.normalised import normalise


@pytest.fixture
def scored():
    study = ba.simulate(n_stimuli=40, n_neuroids=4, n_repeats=3, random_state=0)
    return study.fmri, ba.evaluate(study.network, study.fmri, model=ba.Ridge(alphas=[1.0]), cv=3, controls="none", random_state=0)


def test_r2_is_divided_by_the_square_of_a_ceiling_in_r(scored):
    target, out = scored
    ceiling = ba.noise_ceiling(target, random_state=0)
    divided = normalise(out, ceiling, target, metric="r2", seed=0, averaged=1 / 3)
    np.testing.assert_allclose(divided.score_normalized, out.score / ceiling.values**2)


def test_other_units_and_other_neuroids_are_refused(scored):
    target, out = scored
    ceiling = ba.noise_ceiling(target, units="r2", random_state=0)
    with pytest.raises(ParameterError, match="kind 'r2'"):
        normalise(out, ceiling, target, metric="pearson", seed=0, averaged=1 / 3)
    with pytest.raises(AlignmentError, match="in its order"):
        normalise(out, ceiling[::-1], target, metric="r2", seed=0, averaged=1 / 3)
    with pytest.raises(ParameterError, match="leave `ceiling` out"):
        normalise(out, ceiling, target, metric="accuracy", seed=0, averaged=1 / 3)

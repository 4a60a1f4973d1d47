"""Retrieval in windows: they slide and grow, find when a stimulus can be told, and hold together for all windows."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError


@pytest.fixture(scope="module", params=["meg", "ann"])
def sides(request):
    """A recording, or a recurrent network, that says what was shown from 0.2 to 0.3 s only; and what was shown."""
    rng = np.random.default_rng(0)
    shown, ids = rng.normal(size=(90, 5)), [f"s{i}" for i in range(90)]
    x = 0.5 * rng.normal(size=(90, 8, 6))
    x[:, :, 2:4] += (shown @ rng.normal(size=(5, 8)))[:, :, None]
    times = [0.0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]
    source = ba.responses(x, stimulus_id=ids, neuroid_id=range(8), time=times, modality=request.param, system="x")
    return source, ba.responses(shown, stimulus_id=ids, neuroid_id=range(5), modality="ann", system="net")


def test_windows_that_slide_find_when_and_those_that_grow_keep_it(sides):
    options = {"model": ba.Ridge(alphas=[1.0]), "cv": 3, "random_state": 0}
    slide = ba.identify(*sides, windows=[(0.0, 0.2), (0.2, 0.4), (0.4, 0.6)], n_permutations=19, **options)
    assert slide.score.dims == ("window", "measure")
    assert slide["rank"].dims == ("window", "presentation")
    assert slide.chance.dims == ("measure",)
    assert slide.start_s.values.tolist() == [0.0, 0.2, 0.4]
    top = slide.score.sel(measure="top-5").values
    assert top[1] > 0.9
    assert max(top[0], top[2]) < 0.35  # chance is 1 / 6
    assert slide.p_value_max.sel(measure="top-5").values[1] == slide.p_value_max.sel(measure="median-rank").values[1] == 0.05
    assert (slide.p_value_max >= slide.p_value - 1e-12).all()
    grow = ba.identify(*sides, windows=[(0.0, 0.2), (0.0, 0.4), (0.0, 0.6)], **options)
    assert (grow.score.sel(measure="top-5").values[1:] > 0.85).all()
    assert "p_value" not in grow
    whole = ba.identify(*sides, **options)
    np.testing.assert_array_equal(grow.score.values[2], whole.score.values)
    assert ba.core.provenance(grow).steps[-1]["params"]["windows"] == [[0.0, 0.2], [0.0, 0.4], [0.0, 0.6]]


def test_a_stop_is_not_in_the_window(sides):
    source, target = sides
    found = ba.identify(source, target, model=ba.Ridge(alphas=[1.0]), cv=3, windows=[(0.2, 0.3)], random_state=0)
    alone = ba.identify(source.isel(time=[2]), target, model=ba.Ridge(alphas=[1.0]), cv=3, random_state=0)
    np.testing.assert_array_equal(found.score.values[0], alone.score.values)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (
            [(0.6, 0.9)],
            r"windows= holds \(0.6, 0.9\), in which the source has no time. Expected some of its 6 times, from 0 s to 0.5 s",
        ),
        ([0.1, 0.2], r"windows= got \[0.1, 0.2\]. Expected pairs of seconds"),
        ([], r"Expected pairs of seconds"),
    ],
)
def test_windows_without_time_are_refused(sides, windows, message):
    with pytest.raises(ParameterError, match=message):
        ba.identify(*sides, windows=windows)


def test_further_candidates_are_seen_in_the_same_windows(sides):
    source, target = sides
    options = {"model": ba.Ridge(alphas=[1.0]), "cv": ba.split(target[:60], n_splits=3, random_state=0), "query": "target"}
    found = ba.identify(source[:60], target[:60], candidates=source[60:], windows=[(0.0, 0.2), (0.2, 0.4)], **options)
    cut = source.isel(time=[2, 3])
    alone = ba.identify(cut[:60], target[:60], candidates=cut[60:], **options)
    np.testing.assert_array_equal(found.score.values[1], alone.score.values)
    with pytest.raises(ParameterError, match=r"candidates lack 2 of the source's 6 times, first 0 s. Expected all of them"):
        ba.identify(source[:60], target[:60], candidates=source[60:].isel(time=[2, 3, 4, 5]), **options)


def test_a_source_without_time_has_no_windows(sides):
    source, target = sides
    with pytest.raises(
        ParameterError, match=r"windows= got a source with dims \('presentation', 'neuroid'\). Expected one with time"
    ):
        ba.identify(source.isel(time=0), target, windows=[(0, 1)])

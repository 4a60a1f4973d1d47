import pickle
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.spikes.alignment import check_edges, check_events
from brainalign.adapters.spikes.traces import trace_responses
from brainalign.core.errors import FormatError, ParameterError

VALUES = np.arange(40, dtype=np.float32).reshape(20, 2) ** 2
TIMES = np.arange(20) / 10


@dataclass(frozen=True)
class Rows:
    values: np.ndarray

    def __call__(self, spans):
        return self.values[spans]


@pytest.fixture
def traces(tmp_path):
    """Return a function that labels traces of 10 Hz which stay in a file."""
    file = tmp_path / "F.npy"
    np.save(file, VALUES)

    def open_traces(onsets=None, edges=None, times=TIMES, values=VALUES, **options):
        events = (
            None if onsets is None else check_events(pd.DataFrame({"stimulus_id": [f"s{o}" for o in onsets], "onset_s": onsets}))
        )
        return trace_responses(
            Rows(values), values.shape, np.asarray(times), chunks=(7, 1), files=[file], what="numpy", neuroid_id=["a", "b"],
            neuroid={"cell": [True, False]}, system="m", who={"run": "1", "subject": "m1"}, events=events,
            edges=None if edges is None else check_edges(edges, owner="t"), **options,
        )  # fmt: skip

    return open_traces


def test_one_row_a_frame(traces):
    x = traces(units="a.u.")
    np.testing.assert_array_equal(x.values, VALUES)
    np.testing.assert_array_equal(x.onset_s, TIMES)
    assert float(x.sampling_rate_hz[0]) == pytest.approx(10)
    assert (x.attrs["units"], x.dtype, set(x.subject.values)) == ("a.u.", np.float32, {"m1"})
    ba.validate(x, deep=True)


def test_each_frame_falls_into_one_half_open_bin(traces):
    x = traces([0.5, 1.0], [-0.2, 0.0, 0.5])
    np.testing.assert_allclose(x.values[0], np.stack([VALUES[3:5].mean(0), VALUES[5:10].mean(0)], axis=1))
    np.testing.assert_allclose(x.values[1], np.stack([VALUES[8:10].mean(0), VALUES[10:15].mean(0)], axis=1))
    np.testing.assert_allclose(x[1:, 1:, 1:].values, x.values[1:, 1:, 1:])
    assert x.attrs["n_overlapping_windows"] == 1
    ba.validate(x, deep=True)


def test_a_window_may_end_with_the_last_frame(traces):
    assert np.isfinite(traces([1.0], [0.0, 0.5, 1.0]).values).all()
    with pytest.raises(
        ParameterError, match=r"1 of 2 windows lie outside the frames of 'F.npy': that of event 1 is 1.2 to 2.2 s, .* 0 to 1.9 s"
    ):
        traces([1.0, 1.2], [0.0, 0.5, 1.0])
    with pytest.raises(ParameterError, match="1 of 1 windows lie outside"):
        traces([0.5], [-2.0, 0.5])


def test_bins_without_a_frame_are_named(traces):
    with pytest.raises(
        ParameterError, match=r"1 bins hold no frame of 'F.npy', the first from 0.52 to 0.58 s \(event 0\); frames are 0.1 s"
    ):
        traces([0.5], [0.0, 0.02, 0.08, 0.3])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"times": TIMES[:-1]}, FormatError, r"has 20 frames, and there are times of shape \(19,\)"),
        ({"times": np.r_[TIMES[:-1], np.nan]}, FormatError, "frame 19 without time"),
        ({"times": np.r_[0.1, TIMES[1:]]}, FormatError, "from 0.1 to 0.1 s at frame 1"),
        ({"onsets": [0.5]}, ParameterError, "events= without edges_s="),
        ({"edges": [0, 1]}, ParameterError, "edges_s= without events="),
    ],
)
def test_traces_that_cannot_be(traces, options, error, says):
    with pytest.raises(error, match=says):
        traces(**options)


def test_values_that_are_not_finite_are_found_when_they_are_read(traces):
    values = VALUES.copy()
    values[12, 1] = np.inf
    x = traces([0.5, 1.0], [0.0, 0.4], values=values)
    assert np.isfinite(x[:1].values).all()
    with pytest.raises(FormatError, match=r"F.npy' holds 1 values that are NaN or infinite .* the first at \(1, 1, 0\)"):
        x.compute()


def test_traces_travel_to_another_process(traces):
    x = traces([0.5, 1.0], [0.0, 0.4])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(x.data)).compute(), x.values)

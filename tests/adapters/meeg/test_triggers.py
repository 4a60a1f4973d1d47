import numpy as np
import pytest

from brainalign.adapters.meeg.triggers import align, checked_onsets, trigger_onsets
from brainalign.core.errors import FormatError, ParameterError

mne = pytest.importorskip("mne")


@pytest.mark.parametrize("offset", [-30.0, -0.15, 0.0, 0.15, 3.7])
@pytest.mark.parametrize("seed", range(4))
def test_a_planted_offset_is_found_among_other_triggers(offset, seed):
    rng = np.random.default_rng(seed)
    onsets = np.cumsum(rng.uniform(0.8, 1.5, 80)) + 40
    jitter = rng.uniform(-0.004, 0.004, 80)
    others = rng.uniform(0, 160, 40)  # responses
    found = align(onsets, np.sort(np.r_[onsets + offset + jitter, others]))
    assert not np.isnan(found.onset_s).any()
    assert found.offset_s == pytest.approx(offset, abs=0.003)
    np.testing.assert_allclose(np.median(found.onset_s - onsets - offset - jitter), 0, atol=1e-9)
    assert found.n_triggers == 120


def test_jitter_alone_is_refused_and_named():
    onsets = np.arange(1.0, 21.0)
    late = onsets + np.where(np.arange(20) % 2, 0.03, -0.03)
    with pytest.raises(FormatError, match=r"'f': the triggers come [+-]30.0 ms.* within 60.0 ms|\+0.0 ms.* within 30.0 ms"):
        checked_onsets(onsets, ["a"] * 20, late, by="table", tolerance_s=0.01, name="f")
    used, record = checked_onsets(onsets, ["a"] * 20, late, by="trigger", tolerance_s=0.01, name="f")
    np.testing.assert_allclose(used, late)
    assert record["n_triggers"] == 20


def test_evenly_spaced_events_keep_the_smallest_offset():
    onsets = np.arange(5.0, 25.0)
    found = align(onsets, np.r_[1.0, onsets + 0.02])
    assert found.offset_s == pytest.approx(0.02)


def test_rises_of_a_stimulus_channel_and_of_a_photodiode():
    info = mne.create_info(["A", "B", "C"], 100.0, ["stim", "misc", "stim"])
    data = np.zeros((3, 50))
    data[0, 10:12], data[0, 12:14], data[1, 20:30] = 4, 8, 0.7
    raw = mne.io.RawArray(data, info, verbose="error")
    np.testing.assert_allclose(trigger_onsets(raw, "A", "f"), [0.10, 0.12])
    np.testing.assert_allclose(trigger_onsets(raw, "B", "f"), [0.20])
    with pytest.raises(ParameterError, match=r"'stim'.*\['A', 'C'\]"):
        trigger_onsets(raw, "stim", "f")

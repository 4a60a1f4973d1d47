import numpy as np
import pytest

from brainalign.dataset import simulate_signals as signals
from brainalign.dataset.simulate_instruments import INSTRUMENTS, Plan


@pytest.fixture(scope="module")
def plan():
    rng = np.random.default_rng(0)
    streams = dict(zip(("fmri", "bold", "meg", "spikes"), np.random.SeedSequence(0).spawn(4), strict=True))
    return Plan(
        layers={"a": rng.standard_normal((40, 10)), "b": rng.standard_normal((40, 20))},
        layer_of={"V1": "a", "IT": "b"},
        latency_s={"V1": 0.1, "IT": 0.2},
        stimulus_id=np.array([f"s{i}" for i in range(40)]),
        condition=None,
        trials=signals.trial_table(rng, 40, 2),
        n_neuroids=3,
        n_channels=5,
        n_repeats=2,
        snr=(0.5, 2.0),
        system="sub-01",
        streams=streams,
    )


@pytest.mark.parametrize(
    ("name", "made"),
    [("fmri", {"fmri": (80, 6), "bold": (172, 6)}), ("meg", {"meg": (80, 5, 61)}), ("spikes", {"spikes": (80, 6, 30)})],
)
def test_each_instrument_labels_its_recordings(plan, name, made):
    parts = INSTRUMENTS[name](plan)
    assert {key: part.values.shape for key, part in parts.items()} == made
    for part in parts.values():
        assert part.signal.shape[1:] == part.values.shape[1:] == part.ceiling.shape
        assert (part.ceiling_single <= part.ceiling).all()
        assert 0 <= float(part.ceiling.min()) <= float(part.ceiling.max()) < 1


def test_snr_is_drawn_per_neuroid_within_its_range(plan):
    snr = plan.draw_snr(np.random.default_rng(0), 1000)
    assert 0.5 <= snr.min() < 0.55
    assert 1.9 < snr.max() <= 2.0
    single = INSTRUMENTS["fmri"](plan)["fmri"].ceiling_single.values
    assert np.unique(single).size == single.size
    assert np.sqrt(0.5 / 1.5) <= single.min() <= single.max() <= np.sqrt(2 / 3)


def test_meg_signal_is_the_mixture_of_the_components(plan):
    part = INSTRUMENTS["meg"](plan)["meg"]
    late = part.signal.sel(time=0.3, method="nearest").values  # only IT is still active, 3 sd after its peak
    of_late = part.mixing.values[:, signals.N_COMPONENTS :]
    assert np.linalg.matrix_rank(late, tol=1e-4 * np.abs(late).max() * len(late)) <= signals.N_COMPONENTS
    basis = np.linalg.svd(of_late, full_matrices=False)[0]
    np.testing.assert_allclose(late @ basis @ basis.T, late, atol=2e-3 * np.abs(late).max())

"""Stand-ins have the size and the reliability that they were asked for."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.scores.standin import Likeness, grouped, likeness, on_shared_stimuli, stand_in

SIZES = {"n_neuroids": None, "n_stimuli": None, "n_repeats": None, "reliability": None}


def network(n_stimuli=400, n_units=30, seed=0, **labels):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_stimuli, n_units)) * np.linspace(0.1, 3, n_units)
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(n_stimuli)], neuroid_id=range(n_units), modality="ann", system="net",
                        deterministic=True, **labels)  # fmt: skip


@pytest.mark.parametrize("readout", ["mixtures", "units"])
@pytest.mark.parametrize("n_repeats", [2, 5])
def test_the_reliability_asked_for_is_the_one_measured(readout, n_repeats):
    like = Likeness((25,), (400,), n_repeats, np.array([0.6]))
    x = stand_in(network(), 25, like, readout, np.random.default_rng(0))
    assert x.shape == (400 * n_repeats, 25)
    rho = ba.noise_ceiling(x, method="variance", units="r2")
    assert float(rho.mean()) == pytest.approx(0.6, abs=0.02)
    assert x.attrs["modality"] == "ann"


def test_without_noise_it_is_the_system_itself():
    system = network(50)
    x = stand_in(system, 30, Likeness((30,), (50,), 1, np.array([1.0])), "units", np.random.default_rng(0))
    centred = system.values - system.values.mean(axis=0)
    found = sorted(x.std("presentation").values.tolist())
    np.testing.assert_allclose(found, sorted(centred.std(axis=0).tolist()), rtol=1e-5)
    assert x.attrs["deterministic"]
    mixed = stand_in(system, 2000, Likeness((2000,), (50,), 1, np.array([1.0])), "mixtures", np.random.default_rng(0))
    same = ba.compare_rdms(ba.rdm(system, metric="euclidean"), ba.rdm(mixed, metric="euclidean"), metric="pearson")
    assert float(same.score) > 0.98  # a random projection keeps distances


@pytest.mark.parametrize("readout", ["mixtures", "units"])
def test_units_are_drawn_by_name(readout):
    system, like = network(50), Likeness((5,), (50,), 2, np.array([0.5]))
    first, again = (stand_in(x, 5, like, readout, np.random.default_rng(0)) for x in (system, system[:, ::-1]))
    np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-5)


def test_sizes_and_reliability_come_from_a_recording():
    brain = ba.simulate(n_stimuli=100, n_neuroids=8, n_repeats=3, snr=(0.1, 4.0), random_state=0).brain
    size = likeness(brain, 80, **SIZES)
    assert (size.n_neuroids, size.n_stimuli, size.n_repeats) == ((24,), (80,), 3)
    expected = ba.noise_ceiling(brain, method="variance", units="r2").fillna(0.0)
    np.testing.assert_allclose(size.reliability, expected)
    six = likeness(brain, 80, **SIZES | {"n_repeats": 6, "n_neuroids": [50, 10, 50]})
    assert six.n_neuroids == (10, 50)
    np.testing.assert_allclose(six.reliability, 2 * size.reliability / (1 + size.reliability))
    given = likeness(None, 80, **SIZES | {"n_neuroids": 5, "reliability": 0.5})
    assert (given.n_repeats, given.n_stimuli, given.reliability.tolist()) == (1, (80,), [0.5])


def test_what_cannot_be_imitated_is_named():
    once = network(40).assign_attrs(deterministic=False)
    with pytest.raises(SchemaError, match="0 of 40 stimuli are repeated"):
        likeness(once, 40, **SIZES)
    with pytest.raises(ParameterError, match="like=None, n_neuroids=5 and reliability=None"):
        likeness(None, 40, **SIZES | {"n_neuroids": 5})
    given = SIZES | {"n_neuroids": 5, "reliability": 0.5}
    with pytest.raises(ParameterError, match="n_stimuli=50, of which the systems share 40"):
        likeness(None, 40, **given | {"n_stimuli": [20, 50]})
    with pytest.raises(ParameterError, match=r"'reliability' parameter .* Got 1\.2"):
        likeness(None, 40, **given | {"reliability": 1.2})
    with pytest.raises(ParameterError, match="'n_neuroids' parameter"):
        likeness(None, 40, **given | {"n_neuroids": []})
    with pytest.raises(ParameterError, match="draw 31 neuroids from a system of which 30 units vary"):
        stand_in(network(40), 31, Likeness((31,), (40,), 1, np.array([1.0])), "units", np.random.default_rng(0))


def test_subjects_in_one_array_are_no_repeats():
    brain = ba.simulate(n_stimuli=20, n_neuroids=4, n_repeats=3, random_state=0).brain
    people = ("presentation", np.array(["sub-01", "sub-02", "sub-02"])[brain.repetition.values % 3].astype("T"))
    given = {"n_repeats": 2, "reliability": 0.5}  # what would be read from it otherwise
    for options in (SIZES, SIZES | given):
        with pytest.raises(SchemaError, match="recovery_study got stimuli that several subjects saw, 'sub-01', 'sub-02'"):
            likeness(brain.assign_coords(subject=people), 20, **options)
    one = likeness(brain.assign_coords(subject=("presentation", ["sub-01"] * len(brain))), 20, **SIZES)
    assert one.n_repeats == 3
    averaged = likeness(ba.average_repeats(brain), 20, **SIZES | {"reliability": 0.5})
    assert averaged.n_repeats == 3  # of rows that are averages, those that are in them


def test_systems_are_brought_to_their_common_stimuli():
    a, b = network(40), network(60, seed=1)[::-1]
    shared = on_shared_stimuli({"a": a, "b": b})
    assert shared["b"].stimulus_id.values.tolist() == shared["a"].stimulus_id.values.tolist()
    assert shared["a"].stimulus_id.values.tolist() == sorted(a.stimulus_id.values.tolist())
    np.testing.assert_array_equal(shared["b"].values, b.values[[59 - int(name[1:]) for name in shared["a"].stimulus_id.values]])
    with pytest.raises(AlignmentError, match="'a', 'b' share 5 stimuli"):
        on_shared_stimuli({"a": a, "b": b[-5:]})
    with pytest.raises(SchemaError, match=r"b has dims .* and 40 repeated presentations"):
        on_shared_stimuli({"a": a, "b": a.isel(presentation=np.tile(np.arange(40), 2))})


def test_groups_of_a_system():
    x = network(20, 4, layer=["b", "a", "b", "a"])
    assert {name: part.neuroid_id.values.tolist() for name, part in grouped(x, "layer").items()} == {"b": [0, 2], "a": [1, 3]}
    assert list(grouped(x, "region")) == [""]

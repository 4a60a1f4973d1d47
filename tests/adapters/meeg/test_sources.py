import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.meeg.sources import adapter, open_sources
from brainalign.core.errors import FormatError, ParameterError, SchemaError
from brainalign.dataset.open import FORMATS

mne = pytest.importorskip("mne")
mne.set_log_level("ERROR")
LEFT, RIGHT = np.array([3, 17, 40]), np.array([5, 17])
ASKED = {"system": "s", "units": "dSPM"}


def surface(seed=0, vertices=(LEFT, RIGHT), tmin=-0.1, n=6, subject="fsaverage"):
    values = np.random.default_rng(seed).normal(size=(sum(map(len, vertices)), n)).astype(np.float32)
    return mne.SourceEstimate(values, list(vertices), tmin=tmin, tstep=0.01, subject=subject)


def volume():
    space = mne.setup_volume_source_space(pos=30.0, sphere=(0.0, 0.0, 0.0, 0.09), sphere_units="m")
    vertices = space[0]["vertno"][::3]
    values = np.random.default_rng(0).normal(size=(len(vertices), 4)).astype(np.float32)
    return mne.VolSourceEstimate(values, [vertices], tmin=0.0, tstep=0.1), space


def test_surface_estimates_are_named_by_hemisphere_and_vertex():
    made = [surface(seed) for seed in (0, 1)]
    x = open_sources(made, stimulus_id=["face", "house"], presentation={"condition": ["a", "b"]}, **ASKED)
    np.testing.assert_array_equal(x.values, np.stack([each.data for each in made]))
    assert list(x.neuroid_id.values) == ["lh/3", "lh/17", "lh/40", "rh/5", "rh/17"]
    assert list(x.hemisphere.values) == ["L"] * 3 + ["R"] * 2
    assert list(x.vertex.values) == [3, 17, 40, 5, 17]
    np.testing.assert_allclose(x.time, made[0].times)
    assert (x.attrs["units"], x.attrs["modality"]) == ("dSPM", "meg")
    assert float(x.sampling_rate_hz[0]) == pytest.approx(100)
    assert ba.core.provenance(x).steps[-1]["params"]["anatomy_of"] == "fsaverage"
    ba.validate(x, deep=True)


def test_files_of_both_hemispheres(tmp_path):
    made = surface()
    made.save(tmp_path / "x")
    for end in ("-lh.stc", "-rh.stc"):
        file = tmp_path / f"x{end}"
        assert [name for name in FORMATS.names() if FORMATS.get(name).matches(file)] == ["source-estimates"]
        x = ba.open_responses(file, stimulus_id="face", **ASKED)
        np.testing.assert_array_equal(x.values[0], made.data)
        assert list(x.neuroid_id.values) == ["lh/3", "lh/17", "lh/40", "rh/5", "rh/17"]
        np.testing.assert_allclose(x.time, made.times, atol=1e-6)
    both = open_sources([tmp_path / "x-lh.stc"] * 2, stimulus_id=["face", "face"], **ASKED)
    assert list(both.repetition.values) == [0, 1]


def test_volumes_have_places_where_their_source_space_is_given(tmp_path):
    made, space = volume()
    made.save(tmp_path / "x-vl.stc", ftype="stc")
    mne.write_source_spaces(tmp_path / "x-src.fif", space)
    for source, where in ((made, space), (tmp_path / "x-vl.stc", tmp_path / "x-src.fif")):
        x = open_sources(source, stimulus_id="face", source_space=where, system="s", units="nA·m")
        np.testing.assert_array_equal(x.values[0], made.data)
        assert x.neuroid_id.values[0] == f"vol/{made.vertices[0][0]}"
        np.testing.assert_allclose(x.x_mm, space[0]["rr"][made.vertices[0], 0] * 1e3, atol=1e-3)
        assert set(x.coordinate_frame.values) == {"MRI"}
        assert "hemisphere" not in x.coords
    with pytest.raises(ParameterError, match=r"source_space= has 1 parts .* the estimate has 2 parts"):
        open_sources(surface(), stimulus_id="face", source_space=space, **ASKED)


def test_vector_estimates_have_three_neuroids_a_source():
    values = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    made = mne.VectorSourceEstimate(values, [LEFT, RIGHT], tmin=0.0, tstep=0.1)
    x = open_sources(made, stimulus_id="face", **ASKED)
    np.testing.assert_array_equal(x.values[0].reshape(values.shape), values)
    assert list(x.neuroid_id.values[:4]) == ["lh/3/0", "lh/3/1", "lh/3/2", "lh/17/0"]
    assert list(x.orientation.values[:4]) == [0, 1, 2, 0]


def test_what_does_not_fit_is_named():
    with pytest.raises(ParameterError, match="2 estimates and 1 stimulus_id"):
        open_sources([surface(), surface()], stimulus_id="face", **ASKED)
    with pytest.raises(FormatError, match=r"has \[3, 1\] sources and 'SourceEstimate' \[3, 2\]"):
        open_sources([surface(), surface(vertices=(LEFT, RIGHT[:1]))], stimulus_id=["a", "b"], **ASKED)
    with pytest.raises(FormatError, match=r"runs from 0 to 0.05 s and 'SourceEstimate' from -0.1 to -0.05 s"):
        open_sources([surface(), surface(tmin=0.0)], stimulus_id=["a", "b"], **ASKED)
    with pytest.raises(FormatError, match="anatomy 'bert' and 'SourceEstimate' of 'fsaverage'"):
        open_sources([surface(), surface(subject="bert")], stimulus_id=["a", "b"], **ASKED)
    made = surface()
    made.data[1, 2] = np.nan
    with pytest.raises(FormatError, match="1 values that are NaN or infinite, the first in row 0 of 'lh/17'"):
        open_sources(made, stimulus_id="a", **ASKED)
    with pytest.raises(ParameterError, match="got a ndarray"):
        open_sources(np.zeros(3), stimulus_id="a", **ASKED)


def test_an_estimate_needs_a_name():
    with pytest.raises(SchemaError, match="no `stimulus_id` at presentations 0"):
        open_sources(surface(), stimulus_id=None, **ASKED)


def test_truncated_files_and_missing_hemispheres(tmp_path):
    surface().save(tmp_path / "x")
    left, right = tmp_path / "x-lh.stc", tmp_path / "x-rh.stc"
    whole = right.read_bytes()
    right.write_bytes(whole[:-8])
    with pytest.raises(
        FormatError, match=rf"x-rh.stc' has {len(whole) - 8} bytes and promises {len(whole)} \(2 sources, 6 samples\)"
    ):
        open_sources(left, stimulus_id="a", **ASKED)
    right.unlink()
    with pytest.raises(FormatError, match=r"one hemisphere, and 'x-rh.stc' is not beside it"):
        open_sources(left, stimulus_id="a", **ASKED)
    surface(n=5).save(tmp_path / "y")
    (tmp_path / "y-rh.stc").rename(right)
    with pytest.raises(FormatError, match="they are of different estimates"):
        open_sources(left, stimulus_id="a", **ASKED)
    left.rename(tmp_path / "x.stc")
    with pytest.raises(FormatError, match=r"name that ends in -lh.stc"):
        open_sources(tmp_path / "x.stc", stimulus_id="a", **ASKED)
    (tmp_path / "z.stc").write_bytes(b"no")
    assert not adapter.matches(tmp_path / "z.stc")
    assert not adapter.matches(tmp_path)


def test_damage_is_survived(tmp_path, survives_damage):
    surface().save(tmp_path / "x")
    assert survives_damage(
        tmp_path / "x-lh.stc", lambda: open_sources(tmp_path / "x-lh.stc", stimulus_id="a", **ASKED), header=40, examples=80
    )


def test_sources_run_through_a_comparison():
    rng = np.random.default_rng(0)
    made = [mne.SourceEstimate(rng.normal(size=(5, 6)), [LEFT, RIGHT], 0.0, 0.01) for _ in range(12)]
    x = open_sources(made, stimulus_id=[f"s{i}" for i in range(12)], **ASKED)
    assert ba.rdm(x).dims == ("time", "stimulus", "stimulus_2")

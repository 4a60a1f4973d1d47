import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import SchemaError
from brainalign.features.nuisance import nuisance


def words(**coords):
    rows = {
        "onset_s": [0.0, 0.4, 2.5, 5.0, 0.0, 3.0],
        "duration_s": [0.4, 0.3, 0.5, 0.5, 1.0, 1.0],
        "run": list("111122"),
    } | coords
    rows = {name: values for name, values in rows.items() if values is not None}
    values = np.random.default_rng(0).normal(size=(6, 3))
    return ba.responses(values, stimulus_id=list("abcdef"), neuroid_id=range(3), modality="ann", system="lm", layer="h.1",
                        presentation=rows)  # fmt: skip


def volumes(modality="fmri"):
    rows = {"onset_s": np.tile(np.arange(0.0, 8.0, 2.0), 2), "duration_s": np.full(8, 2.0), "run": np.repeat(["1", "2"], 4)}
    return ba.responses(np.zeros((8, 2)), stimulus_id=[f"v{i}" for i in range(8)], neuroid_id=[0, 1], modality=modality, system="s",
                        presentation=rows)  # fmt: skip


def column(x, name):
    return x.values[:, (x.neuroid_id == name).values][:, 0].tolist()


def test_words_are_counted_in_volumes_whatever_the_model_does_with_them():
    for how in ("mean", "sum", "last"):
        out = nuisance(words(), volumes(), model=ba.chain(ba.WordsToVolumes(how), ba.Ridge()))
        ba.validate(out, deep=True)
        assert out.stimulus_id.values.tolist() == [f"v{i}" for i in range(8)]
        assert column(out, "rate") == [2, 1, 1, 0, 1, 1, 0, 0]
        assert column(out, "onset") == [1, 1, 1, 0, 1, 1, 0, 0]
        np.testing.assert_allclose(column(out, "energy"), [0.7, 0.5, 0.5, 0, 1, 1, 0, 0], rtol=1e-6)
        np.testing.assert_allclose(column(out, "position"), np.tile([-1, -1 / 3, 1 / 3, 1], 2), rtol=1e-6)
    assert ba.core.provenance(out).steps[-1]["verb"] == "nuisance"


def test_features_lag_as_those_of_the_model_do():
    model = ba.chain(ba.WordsToVolumes("mean"), ba.Delay([2, 4]), ba.Ridge())
    out = nuisance(words(), volumes(), model=model)
    assert column(out, "rate@+2s") == [0, 2, 1, 1, 0, 1, 1, 0]
    assert column(out, "rate@+4s") == [0, 0, 2, 1, 0, 0, 1, 1]
    assert out.delay_s.values.tolist() == [2.0] * 3 + [4.0] * 3 + [0.0] * 2
    assert column(out, "position") == column(
        nuisance(words(), volumes(), model=ba.chain(ba.WordsToVolumes(), ba.Ridge())), "position"
    )


def test_rows_of_their_own_keep_what_varies():
    out = nuisance(words(duration_s=None))
    assert out.neuroid_id.values.tolist() == ["onset", "position", "position2"]  # one word a row: the rate is constant
    assert column(out, "onset") == [1, 0, 1, 1, 1, 1]
    assert column(out, "onset") == column(nuisance(words(duration_s=[np.nan] * 6)), "onset")
    assert nuisance(volumes()).neuroid_id.values.tolist() == ["onset", "position", "position2"]


def test_a_brain_and_a_network_are_treated_alike():
    np.testing.assert_array_equal(nuisance(volumes()).values, nuisance(volumes("ann")).values)


def test_rows_without_times_are_refused():
    x = ba.responses(np.ones((3, 1)), stimulus_id=list("abc"), neuroid_id=[0], modality="ann", system="lm")
    with pytest.raises(SchemaError, match="nuisance needs the time of every row, and the source have no `onset_s`"):
        nuisance(x)


def test_the_rate_is_found_to_be_what_sums_of_features_predict_with():
    """A brain that follows the word rate alone: nothing is left to the features once the nuisance band is there."""
    rng = np.random.default_rng(0)
    n = 400
    onset = np.sort(rng.choice(np.arange(0, 2 * n, 0.2), size=900, replace=False))
    features = rng.normal(size=(900, 8)) + 1
    said = ba.responses(features, stimulus_id=[f"w{i}" for i in range(900)], neuroid_id=range(8), modality="ann", system="lm",
                        presentation={"onset_s": onset, "duration_s": np.full(900, 0.2), "run": ["1"] * 900})  # fmt: skip
    rows = {"onset_s": 2.0 * np.arange(n), "duration_s": np.full(n, 2.0), "run": ["1"] * n}
    rate = np.histogram(onset, bins=np.arange(0, 2 * n + 1, 2))[0]
    late = np.r_[0, 0, rate[:-2]][:, None] * np.ones((1, 5)) + rng.normal(size=(n, 5))
    bold = ba.responses(late, stimulus_id=[f"v{i}" for i in range(n)], neuroid_id=range(5), modality="fmri", system="s",
                        presentation=rows)  # fmt: skip
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2, 4, 6]), ba.BandedRidge())
    prepared, rest = model.prepare(said, bold)
    source = ba.bands(nuisance=nuisance(said, bold, model=model).drop_vars("delay_s"), words=prepared.drop_vars("delay_s"))
    out = ba.partition_variance(source, bold, model=rest, cv=5, random_state=0)
    assert (out.r2.sel(subset="words") > 0.3).all()
    assert (out.unique.sel(band="words") < 0.01).all()
    assert (out.unique.sel(band="nuisance") > 0.05).all()

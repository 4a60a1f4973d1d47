"""The chain: training rows only, no crossing of runs, labels kept, equal to the same steps done by hand."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError


def recording(values, *, name="x", tr=2.0, n_runs=2, modality="fmri"):
    """A continuous recording of equal runs."""
    n = len(values) // n_runs
    run = np.repeat([str(r) for r in range(n_runs)], n)
    return ba.responses(
        values,
        stimulus_id=[f"{name}/{r}/v{i:04d}" for r in range(n_runs) for i in range(n)],
        neuroid_id=[f"{name}{i}" for i in range(values.shape[1])],
        modality=modality,
        system=name,
        run=run,
        onset_s=np.tile(np.arange(n) * tr, n_runs),
        duration_s=tr,
    )


def words_of(values, *, step=0.5, n_runs=2):
    """Word features, four words a volume of two seconds."""
    n = len(values) // n_runs
    return ba.responses(
        values,
        stimulus_id=[f"w/{r}/{i:05d}" for r in range(n_runs) for i in range(n)],
        neuroid_id=np.arange(values.shape[1]),
        modality="ann",
        system="lm",
        layer="3",
        run=np.repeat([str(r) for r in range(n_runs)], n),
        onset_s=np.tile(np.arange(n) * step, n_runs),
        duration_s=step,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_plain_arrays_equal_a_sklearn_pipeline(rng):
    X, Y = rng.normal(3, 2, size=(80, 12)), rng.normal(size=(80, 3))
    ours = ba.chain(StandardScaler(), PCA(5), ba.Ridge(alphas=[3.0], dtype="float64")).fit(X[:60], Y[:60]).predict(X[60:])
    theirs = make_pipeline(StandardScaler(), PCA(5), SklearnRidge(alpha=3.0)).fit(X[:60], Y[:60]).predict(X[60:])
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_fitted_steps_see_training_rows_only(rng):
    X, Y = recording(rng.normal(size=(80, 6)), name="x"), recording(rng.normal(size=(80, 2)), name="y")
    Y = Y.assign_coords(stimulus_id=X.stimulus_id)
    train, test = np.arange(40), np.arange(40, 80)
    spoiled = X.copy(deep=True)
    spoiled[test] *= 1e4
    for x in (X, spoiled):
        fitted = ba.chain(StandardScaler(), ba.Ridge(alphas=[1.0])).fit(x, Y, rows=train)
        np.testing.assert_allclose(fitted.steps_[0].mean_, X.values[train].mean(0), atol=1e-5)


def test_words_that_reach_only_test_volumes_do_not_shape_a_step_before_them(rng):
    words, bold = words_of(rng.normal(size=(160, 5))), recording(rng.normal(size=(40, 2)))
    train = np.flatnonzero(bold.run.values == "0")
    model = ba.chain(StandardScaler(), ba.WordsToVolumes("sum"), ba.Delay([2.0]), ba.Ridge(alphas=[1.0]))
    fitted = model.fit(words, bold, rows=train)
    # the last volume's words are delayed out of the run: they reach no training row
    first_run = words.values[:76]
    np.testing.assert_allclose(fitted.steps_[0].mean_, first_run.mean(0), atol=1e-5)


def test_the_same_steps_by_hand_give_the_same_predictions(rng):
    words, bold = words_of(rng.normal(size=(160, 5))), recording(rng.normal(size=(40, 2)))
    model = ba.chain(ba.WordsToVolumes("mean"), ba.Delay([2, 4]), ba.Ridge(alphas=[1.0]))
    together = model.fit(words, bold).predict(words)
    features = ba.Delay([2, 4]).transform(ba.WordsToVolumes("mean").transform(words, bold))
    apart = ba.Ridge(alphas=[1.0]).fit(features.values, bold.values).predict(features.values)
    np.testing.assert_allclose(together.values, apart, atol=1e-6)
    assert (together.stimulus_id.values == bold.stimulus_id.values).all()
    assert (together.neuroid_id.values == bold.neuroid_id.values).all()


def test_preparing_once_changes_nothing(rng):
    words, bold = words_of(rng.normal(size=(160, 5))), recording(rng.normal(size=(40, 2)))
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2]), StandardScaler(), ba.Ridge(alphas=[1.0]))
    train = np.flatnonzero(bold.run.values == "0")
    whole = model.fit(words, bold, rows=train).predict(words)
    prepared, rest = model.prepare(words, bold)
    np.testing.assert_allclose(rest.fit(prepared, bold, rows=train).predict(prepared).values, whole.values, atol=1e-6)


def test_predicts_for_presentations_that_were_not_fitted(rng):
    words, bold = words_of(rng.normal(size=(160, 5))), recording(rng.normal(size=(40, 2)))
    first, second = (bold[bold.run.values == r] for r in "01")
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2]), ba.Ridge(alphas=[1.0])).fit(words, first)
    assert model.predict(words).sizes["presentation"] == 20
    assert (model.predict(words, second).stimulus_id.values == second.stimulus_id.values).all()


def test_labels_survive_scaling_and_mixtures_get_names(rng):
    X = recording(rng.normal(size=(40, 6)))
    Y = X[:, :2].copy()
    fitted = ba.chain(StandardScaler(), PCA(3), ba.Ridge(alphas=[1.0])).fit(X, Y)
    assert fitted.transform(X).neuroid_id.values.tolist() == ["pca/0", "pca/1", "pca/2"]
    assert (fitted.transform(X).system.values == "x").all()
    kept = ba.chain(StandardScaler(), ba.Ridge(alphas=[1.0])).fit(X, Y).transform(X)
    assert (kept.neuroid_id.values == X.neuroid_id.values).all()


def test_reach_adds_up_over_steps():
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2, 8, -4]), ba.Ridge())
    assert model.reach_s[0] >= 8
    assert model.reach_s[1] >= 4


def test_says_what_is_wrong(rng):
    X, Y = recording(rng.normal(size=(40, 6))), recording(rng.normal(size=(20, 2)))
    with pytest.raises(ParameterError, match=r"no `predict`.*ba.Ridge"):
        ba.chain(StandardScaler())
    with pytest.raises(ParameterError, match=r"Ridge, which has no `transform`"):
        ba.chain(ba.Ridge(), ba.Ridge())
    with pytest.raises(ParameterError, match="needs onsets and runs"):
        ba.chain(ba.Delay([2]), ba.Ridge()).fit(X.values, X.values)
    with pytest.raises(AlignmentError, match="40 source and 20 target"):
        ba.chain(StandardScaler(), ba.Ridge()).fit(X, Y)
    with pytest.raises(ParameterError, match=r"Nearest, which has no `get_params`.*class Nearest\(sklearn.base.BaseEstimator\)"):
        ba.chain(StandardScaler(), Nearest())


class Nearest:
    """A mapping of one's own: it fits and predicts, and is no estimator of scikit-learn."""

    def __init__(self, k=1):
        self.k = k

    def fit(self, X, Y):
        self.x_, self.y_ = np.asarray(X), np.asarray(Y)
        return self

    def predict(self, X):
        far = ((np.asarray(X)[:, None] - self.x_) ** 2).sum(axis=-1)
        return self.y_[np.argsort(far, axis=1)[:, : self.k]].mean(axis=1)


class NearestWithParameters(Nearest):
    def get_params(self, deep=True):
        return {"k": self.k}

    def set_params(self, k):
        self.k = k
        return self


class NearestEstimator(BaseEstimator, Nearest):
    def __init__(self, k=1):
        self.k = k


def test_a_mapping_of_ones_own_needs_no_more_than_its_parameters():
    study = ba.simulate(n_stimuli=40, n_repeats=1, snr=4.0, random_state=0)
    options = {"cv": 4, "controls": "none", "random_state": 0}
    one, other = (
        ba.evaluate(study.network, study.fmri, model=x(k=3), **options) for x in (NearestWithParameters, NearestEstimator)
    )
    np.testing.assert_array_equal(one.score, other.score)
    assert float(one.score.median()) > 0.2
    assert "NearestEstimator(k=3)" in ba.core.provenance(other).steps[-1]["params"]["model"]


def test_a_class_in_the_place_of_a_step_is_named():
    with pytest.raises(ParameterError, match=r"holds the class StandardScaler.*`StandardScaler\(...\)`"):
        ba.chain(StandardScaler, ba.Ridge())


def test_fits_run_in_threads_where_all_steps_are_known_and_the_mapping_says_so():
    class Mine(StandardScaler):
        pass

    class Own(SklearnRidge):
        in_threads = True

    assert ba.chain(StandardScaler(), ba.Reduce(2), ba.Ridge()).in_threads
    assert ba.chain(Own()).in_threads
    assert not ba.chain(Mine(), ba.Ridge()).in_threads
    assert not ba.chain(ba.Ridge(device="auto")).in_threads
    assert not ba.chain(SklearnRidge()).in_threads
    assert not ba.chain(ba.SpatialReadout()).in_threads

"""A readout answers what the mapping predicts, whichever mapping and whatever stands before it."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import brainalign as ba

BANDS = ["a", "a", "a", "b", "b"]
N = 80


@pytest.fixture(scope="module")
def study():
    """A layer far from 0, a recording of it in the same rows and one in volumes, and what was shown, in three kinds."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    layer = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), Shifted()), layers="2", system="net")
    table = ba.stimuli.table(
        rng.normal(size=(N, 6)).astype("float32"),
        stimulus_id=[f"w{i:02d}" for i in range(N)],
        kind="array",
        onset_s=np.tile(np.arange(N // 2) * 0.5, 2),
        duration_s=np.full(N, 0.5),
        run=np.repeat(["a", "b"], N // 2),
    )
    features = ba.record(layer, table, progress=False)
    weights, noise = rng.normal(size=(5, 3)), rng.normal(size=(N, 3))
    rows = {name: features[name].values for name in ("stimulus_id", "run", "onset_s", "duration_s")}
    brain = ba.responses(
        features.values @ weights / 2 + 0.3 * noise, neuroid_id=["x", "y", "z"], modality="fmri", system="s", **rows
    )
    volumes = brain[::4].assign_coords(stimulus_id=("presentation", [f"v{i}" for i in range(N // 4)]))
    kinds = np.array(["cat", "dog", "owl"])[(brain.values - brain.values.mean(axis=0)).argmax(axis=1)]
    return layer, table, features, brain, volumes.assign_coords(duration_s=("presentation", np.full(N // 4, 2.0))), kinds


class Shifted(torch.nn.Module):
    """Features whose mean is far from 0, as those of networks are."""

    def forward(self, x):
        return x + torch.linspace(-3, 3, 5)


SAME_ROWS = {
    "ridge": lambda: ba.Ridge(alphas=[0.1, 10.0]),
    "banded": lambda: ba.BandedRidge(bands=BANDS, alphas=[0.1, 10.0], candidates=5),
    "pls": lambda: ba.PLS(2),
    "stacked": lambda: ba.Stacked(ba.Ridge(alphas=[1.0]), bands=BANDS),
    "shared space": lambda: ba.SharedSpace(),
    "response model": lambda: ba.SharedSpace("srm", 2),
    "linear kernel": lambda: ba.KernelRidge("linear"),
    "response function": lambda: ba.TRF(-0.5, 1.0, alphas=[1.0]),
    "latents": lambda: ba.LatentDecoder(alphas=[0.1, 10.0]),
    "scaling": lambda: ba.chain(StandardScaler(), ba.Ridge(alphas=[0.1])),
    "scaling, PCA": lambda: ba.chain(StandardScaler(), PCA(3, whiten=True), ba.PLS(2)),
    "delays": lambda: ba.chain(StandardScaler(), ba.Delay([0.0, 0.5]), PCA(4), ba.Ridge(alphas=[0.1])),
    "delays of a kernel": lambda: ba.chain(ba.Delay([-0.5, 0.0]), ba.KernelRidge("linear", alphas=[0.1])),
}
VOLUMES = {
    "words in volumes": lambda: ba.chain(ba.WordsToVolumes("mean"), ba.Delay([2, 4]), StandardScaler(), ba.Ridge(alphas=[1.0])),
    "hemodynamics": lambda: ba.chain(PCA(3), ba.WordsToVolumes("sum"), ba.HRF(), ba.PLS(2)),
    "hemodynamics, delays": lambda: ba.chain(ba.WordsToVolumes("sum"), ba.HRF(), ba.Delay([0, 2]), ba.LatentDecoder(alphas=[1.0])),
}  # fmt: skip


@pytest.mark.parametrize("name", [*SAME_ROWS, *VOLUMES])
def test_responses_are_predictions(study, name):
    layer, table, features, brain, volumes, _ = study
    model = {**SAME_ROWS, **VOLUMES}[name]().fit(features, brain if name in SAME_ROWS else volumes)
    expected = model.predict(features).values
    found = ba.record(ba.readout(layer, model), table, progress=False)
    np.testing.assert_allclose(found.values, expected, atol=1e-5, rtol=0)
    assert found.neuroid_id.values.tolist() == ["x", "y", "z"]
    assert expected.std(axis=0).min() > 0.01  # not of a constant


@pytest.mark.parametrize("method", ["lda", "logistic", "svm", "ridge"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scaled", [False, True])
def test_classes_are_scores_of_the_boundary(study, method, n_classes, scaled):
    layer, table, features, *_, kinds = study
    labels = kinds if n_classes == 3 else np.where(kinds == "owl", "dog", kinds)
    classifier, scale = ba.Classifier(method, random_state=0), StandardScaler()
    model = (ba.chain(scale, classifier) if scaled else classifier).fit(features, labels)
    expected = (model.steps_[-1] if scaled else model).decision_function(
        model.steps_[0].transform(features.values) if scaled else features.values
    )
    found = ba.record(ba.readout(layer, model), table, progress=False)
    assert found.neuroid_id.values.tolist() == ["cat", "dog", "owl"][:n_classes]
    given = expected if n_classes == 3 else np.stack([-expected, expected], axis=1)
    np.testing.assert_allclose(found.values, given, atol=1e-5, rtol=1e-6)  # up to 100: float32 has no more digits
    np.testing.assert_array_equal(found.neuroid_id.values[found.values.argmax(axis=1)], model.predict(features))

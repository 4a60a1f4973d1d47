"""Stimuli from latents: exact where latents say all, and a bank's nearest otherwise."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import brainalign as ba

IMAGES = load_digits().images[:160]
IDS = [f"digit-{i:03d}" for i in range(160)]
PARTS = PCA(64, svd_solver="full").fit_transform(IMAGES.reshape(160, -1))


def responses(values, ids=IDS, system="x"):
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="behaviour", system=system)


@pytest.fixture(scope="module")
def bank():
    return ba.stimuli.table(IMAGES.astype("float32"), stimulus_id=IDS, kind="image", onset_s=np.arange(160.0))


@pytest.fixture(scope="module")
def latents():
    return {"low": responses(PARTS[:, :12]), "high": responses(PARTS[:, 12:])}


def some(latents, rows):
    return {name: x[rows] for name, x in latents.items()}


@pytest.mark.parametrize(
    "generator", [ba.models.NearestNeighbourGenerator(), ba.models.LinearGenerator()], ids=["nearest", "linear"]
)
def test_what_is_known_exactly_is_made_exactly(bank, latents, generator):
    assert isinstance(generator, ba.protocols.Generator)
    made = generator.fit(latents, bank).generate(some(latents, [5, 3]), seed=7)
    np.testing.assert_allclose(made["values"], IMAGES[[5, 3]], atol=1e-3)
    assert made.stimulus_id.values.tolist() == [IDS[5], IDS[3]]
    assert made.attrs["kind"] == "image"
    assert "onset_s" not in made.coords
    step = ba.core.provenance(made).steps[-1]
    assert (step["verb"], step["seed"]) == ("generate", 7)
    assert ba.record(ba.TorchResponder(_flat(), layers="0", system="net"), made, progress=False).shape == (2, 64)


def _flat():
    import torch

    return torch.nn.Sequential(torch.nn.Flatten())


def test_the_linear_map_is_the_inverse_of_principal_components(bank):
    pca = PCA(10).fit(IMAGES[:120].reshape(120, -1))
    few = responses(pca.transform(IMAGES.reshape(160, -1)))
    made = ba.models.LinearGenerator().fit(few[:120], bank).generate(few[120:])
    want = pca.inverse_transform(few[120:].values).reshape(-1, 8, 8).clip(0, 16)
    np.testing.assert_allclose(made["values"], want, atol=1e-4)


def test_the_nearest_is_new_content_under_the_name_of_what_was_decoded(bank, latents):
    made = ba.models.NearestNeighbourGenerator().fit(some(latents, slice(0, 100)), bank).generate(some(latents, slice(100, 160)))
    assert set(made.bank_id.values) <= set(IDS[:100])
    digit = dict(zip(IDS, load_digits().target, strict=False))
    assert np.mean([digit[a] == digit[b] for a, b in zip(made.stimulus_id.values, made.bank_id.values, strict=True)]) > 0.8
    texts = ba.stimuli.table([f"picture {i}" for i in range(160)], stimulus_id=IDS, kind="text")
    told = ba.models.NearestNeighbourGenerator().fit(latents, texts).generate(some(latents, [9, 1]))
    assert told.text.values.tolist() == ["picture 9", "picture 1"]


def test_a_neuroid_that_was_constant_in_training_tells_nothing(bank, latents):
    holed = {"low": latents["low"].where(latents["low"].neuroid_id != 3), "high": latents["high"]}
    for generator in (ba.models.NearestNeighbourGenerator(), ba.models.LinearGenerator()):
        made = generator.fit(latents, bank).generate(some(holed, slice(0, 20)))
        assert np.corrcoef(made["values"].values.ravel(), IMAGES[:20].ravel())[0, 1] > 0.9


def test_what_cannot_be_made_is_refused(bank, latents):
    nearest = ba.models.NearestNeighbourGenerator().fit(latents, bank)
    with pytest.raises(ba.errors.AlignmentError, match="'low': 12} dimensions"):
        nearest.generate({"low": latents["low"]})
    with pytest.raises(ba.errors.AlignmentError, match="'low' and 'high' of different stimuli"):
        nearest.generate({"low": latents["low"], "high": latents["high"][::-1]})
    with pytest.raises(ba.errors.AlignmentError, match="160 stimuli that the bank lacks, first 'digit-000'"):
        ba.models.LinearGenerator().fit(latents, bank.assign_coords(stimulus_id=("presentation", [f"x{i}" for i in range(160)])))
    with pytest.raises(ba.errors.CapabilityError, match="20 rows of the latents have no direction"):
        nearest.generate({name: x[:20] * np.nan for name, x in latents.items()})
    with pytest.raises(ba.errors.CapabilityError, match="stimuli with `text`, which are not numbers"):
        ba.models.LinearGenerator().fit(latents, ba.stimuli.table(IDS, stimulus_id=IDS, kind="text"))
    with pytest.raises(ba.errors.ParameterError, match="got latents: ndarray for ''"):
        nearest.generate(PARTS)
    with pytest.raises(ba.errors.ParameterError, match="'alpha' parameter of LinearGenerator"):
        ba.models.LinearGenerator(-1.0).fit(latents, bank)
    with pytest.raises(ba.errors.ParameterError, match="'seed' parameter of generate"):
        nearest.generate(latents, seed=-1)

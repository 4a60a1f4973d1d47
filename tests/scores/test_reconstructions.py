"""Reconstructions and captions: one where they are exact, chance where they belong to others, with p-values that say which."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import brainalign as ba
from brainalign.scores import score_reconstructions

RNG = np.random.default_rng(0)
N = 50
IDS = [f"s{i}" for i in range(N)]
IMAGES = np.kron(load_digits().images[:N] / 16, np.ones((2, 2)))
COLOURS, THINGS, PLACES = (
    ["red", "blue", "green", "grey", "black"],
    ["cat", "dog"],
    ["on a mat", "in a tree", "by the sea", "at home", "under a roof"],
)
CAPTIONS = [f"a {c} {t} sits {p}" for c in COLOURS for t in THINGS for p in PLACES]


def images(values, ids=IDS, **more):
    return ba.stimuli.table(np.asarray(values, dtype="float32"), stimulus_id=ids, kind="image", **more)


def texts(said, ids=IDS):
    return ba.stimuli.table(list(said), stimulus_id=list(ids), kind="text")


def network():
    import torch

    torch.manual_seed(0)
    return ba.TorchResponder(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 50), torch.nn.ReLU()), layers=["1", "2"], system="net"
    )


def values(out, name):
    return {str(m): float(v) for m, v in zip(out.measure.values, out[name].values, strict=True)}


def named(values, ids, system="x"):
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality="behaviour", system=system)


@pytest.fixture(scope="module")
def decoded_digits():
    """Principal components of digits, decoded from voxels that mix them, and what a linear generator makes of them."""
    digits = np.kron(load_digits().images[:240] / 16, np.ones((2, 2)))
    ids = [f"digit-{i}" for i in range(240)]
    pca = PCA(24).fit(digits[:200].reshape(200, -1))
    z = pca.transform(digits.reshape(240, -1))
    voxels = named(z @ RNG.normal(size=(24, 100)) + 2 * RNG.normal(size=(240, 100)), ids)
    latents = {"low": named(z[:, :12], ids), "high": named(z[:, 12:], ids)}
    known, shown = {name: x[:200] for name, x in latents.items()}, images(digits, ids)
    decoded = ba.LatentDecoder().fit(voxels[:200], known).predict(voxels[200:])
    return ba.models.LinearGenerator().fit(known, shown).generate(decoded), shown


def test_digits_are_made_again_and_told_from_all_others(decoded_digits):
    made, shown = decoded_digits
    out = score_reconstructions(made, shown, responder=network(), n_permutations=99, random_state=0)
    assert values(out, "score")["two-way 2"] > 0.95
    assert (out.p_value == 0.01).all()
    exchanged = made.assign_coords(stimulus_id=("presentation", RNG.permutation(made.stimulus_id.values)))
    out = score_reconstructions(exchanged, shown, responder=network(), n_permutations=99, random_state=0)
    assert values(out, "score")["two-way 2"] == pytest.approx(0.5, abs=0.12)
    assert (out.p_value > 0.05).all()


@pytest.mark.parametrize(("noise", "least", "most"), [(0.0, 1.0, 1.0), (0.5, 0.95, 1.0), (1000.0, 0.0, 0.15)])
def test_templated_captions_are_found_by_their_attributes(noise, least, most):
    """Embeddings are bags of attributes; without noise every caption of the bank comes back word by word."""
    attributes = [*COLOURS, *THINGS, *PLACES]
    bag = np.array([[attribute in caption for attribute in attributes] for caption in CAPTIONS], dtype=float)
    ids = [f"{name}-{k}" for k in range(5) for name in IDS]
    voxels = named(np.tile(bag, (5, 1)) @ RNG.normal(size=(12, 60)) + noise * RNG.normal(size=(250, 60)), ids)
    decoded = ba.LatentDecoder(dtype="float64").fit(voxels[:200], named(np.tile(bag, (4, 1)), ids[:200])).predict(voxels[200:])
    said = ba.neurons.NearestCaption(bag - bag.mean(axis=0), CAPTIONS).caption(decoded.values - bag.mean(axis=0))
    assert least <= np.mean([a == b for a, b in zip(said, CAPTIONS, strict=True)]) <= most
    out = score_reconstructions(texts(said), texts(CAPTIONS), n_permutations=99, random_state=0)
    assert least < 1 or (out.score == 1).all()
    assert (float(out.p_value.sel(measure="unigram-f")) <= 0.05) == (least > 0)


def test_what_is_exact_is_one_and_significant():
    out = score_reconstructions(images(IMAGES), images(IMAGES), responder=network(), n_permutations=99, random_state=0)
    assert list(values(out, "score")) == ["pixcorr", "ssim", "two-way 1", "feature-r 1", "two-way 2", "feature-r 2"]
    np.testing.assert_allclose(out.score, 1.0, atol=1e-6)
    assert (out.p_value == 0.01).all()
    np.testing.assert_allclose(out.score_by_presentation.mean("presentation"), out.score, atol=1e-12)
    chance = values(out, "chance")
    assert chance["two-way 2"] == pytest.approx(0.5, abs=0.03)
    assert 0 < chance["pixcorr"] < 0.7


def test_rows_of_others_are_chance():
    wrong = images(IMAGES[RNG.permutation(N)])
    out = score_reconstructions(wrong, images(IMAGES), responder=network(), n_permutations=99, random_state=0)
    assert (out.p_value > 0.05).all()
    np.testing.assert_allclose(out.score, out.chance, atol=0.1)
    assert values(out, "score")["two-way 2"] == pytest.approx(0.5, abs=0.12)


def test_two_way_and_the_pixels_are_those_counted_by_hand():
    made = IMAGES + 0.5 * RNG.normal(size=IMAGES.shape)
    net = network()
    out = score_reconstructions(images(made), images(IMAGES), responder=net, random_state=0)
    r = np.array([[np.corrcoef(a.ravel(), b.ravel())[0, 1] for b in IMAGES] for a in images(made)["values"].values])
    assert values(out, "score")["pixcorr"] == pytest.approx(np.diag(r).mean())
    x, y = (ba.record(net.at("2"), images(side), progress=False).values for side in (made, IMAGES))
    likeness = np.corrcoef(x, y)[:N, N:]
    beaten = [(np.delete(row, i) < row[i]).mean() for i, row in enumerate(likeness)]
    assert values(out, "score")["two-way 2"] == pytest.approx(np.mean(beaten), abs=1e-3)
    assert values(out, "score")["feature-r 2"] == pytest.approx(np.diag(likeness).mean())


def test_order_of_rows_and_dims_do_not_matter_and_more_truth_may_be_there():
    made, colour = IMAGES + 0.3 * RNG.normal(size=IMAGES.shape), np.stack([IMAGES, IMAGES**2, 1 - IMAGES], axis=1)
    plain = score_reconstructions(images(made), images(IMAGES), random_state=0)
    turned = images(made[::-1], IDS[::-1])
    np.testing.assert_allclose(score_reconstructions(turned, images(IMAGES), random_state=0).score, plain.score)
    few = score_reconstructions(images(made[:9], IDS[:9]), images(IMAGES), random_state=0)
    np.testing.assert_allclose(few.score_by_presentation, plain.score_by_presentation[:, :9], atol=1e-6)
    first = images(colour, dims=("channel", "y", "x"))
    last = images(np.moveaxis(colour, 1, -1), dims=("y", "x", "channel"))
    np.testing.assert_allclose(score_reconstructions(last, first, random_state=0).score, 1.0, atol=1e-6)


def test_captions_of_a_bank_are_exact_and_those_of_others_are_not():
    out = score_reconstructions(texts(CAPTIONS), texts(CAPTIONS), n_permutations=99, random_state=0)
    assert values(out, "score") == {"bleu-1": 1, "bleu-2": 1, "bleu-3": 1, "bleu-4": 1, "unigram-f": 1}
    assert (out.p_value == 0.01).all()
    assert (out.chance < 0.7).all()
    wrong = score_reconstructions(texts(np.roll(CAPTIONS, 7)), texts(CAPTIONS), n_permutations=99, random_state=0)
    assert (wrong.p_value > 0.05).all()
    several = {name: ["something else", caption] for name, caption in zip(IDS, CAPTIONS, strict=True)}
    np.testing.assert_allclose(score_reconstructions(texts(CAPTIONS), several, random_state=0).score, 1.0)


def test_a_blank_counts_as_chance_and_is_warned_of():
    made = IMAGES.copy()
    made[3] = 0.5
    with pytest.warns(ba.errors.DegeneratePredictionWarning, match="values are constant for 1 stimuli as made and 0 as shown"):
        out = score_reconstructions(images(made), images(IMAGES), random_state=0)
    assert float(out.score_by_presentation.sel(measure="pixcorr")[3]) == 0


def test_files_need_someone_who_looks_at_them(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for i in range(3):
        Image.fromarray((255 * IMAGES[i]).astype("uint8")).save(tmp_path / f"s{i}.png")
    files = ba.stimuli.table([str(tmp_path / f"s{i}.png") for i in range(3)], stimulus_id=IDS[:3], kind="image")
    with pytest.raises(ba.errors.ParameterError, match="got `path`, Dataset as truth and no responder"):
        score_reconstructions(files, files)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ba.errors.ParameterError, match="captions are an empty or unknown Dataset"):
        score_reconstructions(texts(CAPTIONS), images(IMAGES))
    with pytest.raises(ba.errors.SchemaError, match="Expected the same content, in the same dims and sizes"):
        score_reconstructions(images(IMAGES[:, :8]), images(IMAGES))
    with pytest.raises(ba.errors.ParameterError, match="got `text`, dict as truth and a responder"):
        score_reconstructions(texts(CAPTIONS), dict(zip(IDS, CAPTIONS, strict=True)), responder=network())
    with pytest.raises(ba.errors.SchemaError, match="made has 2 rows of 1 stimuli"):
        score_reconstructions(images(IMAGES[:2], ["s0", "s0"]), images(IMAGES))
    with pytest.raises(ba.errors.AlignmentError, match="1 of 50 stimuli that were made have no truth, first 's0'"):
        score_reconstructions(images(IMAGES), images(IMAGES[1:], IDS[1:]))


def test_it_says_what_was_asked():
    out = score_reconstructions(images(IMAGES), images(IMAGES), n_permutations=9, random_state=3)
    step = ba.core.provenance(out).steps[-1]
    assert (step["verb"], step["seed"], step["params"]["n_permutations"]) == ("score_reconstructions", 3, 9)

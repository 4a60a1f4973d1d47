"""SharedLatentDecoder: others' responses help a subject of whom there is little, and a trunk that saw the subject is refused."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import AlignmentError, LeakWarning, ParameterError, SplitError
from brainalign.engine.retrieval import rank_true, retrieval_measures

OPTIONS = {"contrast": 0.5, "max_steps": 100, "frozen_steps": 50, "learning_rate": 1e-2}
TINY = {"n_latents": 3, "max_steps": 30, "frozen_steps": 20}


def recorded(values, name, modality="spikes"):
    ids = [f"{name}/{i}" for i in range(len(values))]
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), modality=modality, system=name)


def two_way(model, x, y):
    ranks = rank_true(np.asarray(model.predict(x)), np.asarray(y), np.arange(len(y)))
    return retrieval_measures(ranks, np.full(len(y), len(y)))[-1]


@pytest.fixture(scope="module")
def people():
    """Six subjects, whose 40 neuroids mix 16 latents that a target of 256 dimensions holds beside much else."""
    rng = np.random.default_rng(0)
    out, weights = {}, rng.normal(size=(16, 256)) / 4
    for k in range(6):
        latent = rng.normal(size=(200, 16))
        x = latent @ rng.normal(size=(16, 40)) / 4 + 0.5 * rng.normal(size=(200, 40))
        out[f"sub-{k}"] = (
            recorded(x, f"sub-{k}", "fmri"),
            recorded(latent @ weights + 3 * rng.normal(size=(200, 256)), f"sub-{k}", "ann"),
        )
    return out


@pytest.fixture(scope="module")
def pretrained(people):
    others = {name: sides for name, sides in people.items() if name != "sub-5"}
    model = ba.models.SharedLatentDecoder(16, **OPTIONS)
    return model.pretrain({name: x for name, (x, _) in others.items()}, {name: y for name, (_, y) in others.items()})


def test_a_subject_of_whom_there_is_little_gains_from_the_others(people, pretrained):
    x, y = people["sub-5"]
    few, rest = slice(0, 40), slice(100, 200)
    refined = two_way(pretrained.refine("sub-5").fit(x[few], y[few]), x[rest], y[rest])
    scratch = two_way(ba.models.SharedLatentDecoder(16, **OPTIONS).fit(x[few], y[few]), x[rest], y[rest])
    ridge = two_way(ba.Ridge().fit(x[few], y[few]), x[rest], y[rest])
    assert refined > ridge + 0.05
    assert refined > scratch + 0.05


def test_it_is_a_mapping_whose_folds_start_alike_with_the_ridge_beside(people, pretrained):
    class Recording(ba.models.SharedLatentDecoder):
        seen = []

        def fit(self, X, Y):
            super().fit(X, Y)
            self.seen.append(self.initial_hash_)
            return self

    x, y = people["sub-5"]
    short = {**OPTIONS, "max_steps": 30, "frozen_steps": 20}
    model = Recording(16, **short).set_params(pretrained=pretrained.pretrained_)
    found = ba.identify(x[:60], y[:60], model=model, cv=3, random_state=0)
    assert len(Recording.seen) == 3
    trunk = dict(pretrained.pretrained_.trunk)
    assert all(torch.equal(p, pretrained.network_.trunk[name]) for name, p in trunk.items())  # as it was
    assert found.score.sel(measure="two-way") > 0.6
    assert found.score_baseline.sel(measure="two-way") > 0.6
    scratch = ba.identify(x[:60], y[:60], model=Recording(16, **short), cv=3, random_state=0)
    assert len(set(Recording.seen[3:])) == 1  # no trunk, no ridge: one start for all folds
    assert scratch.attrs["baseline"] == "Ridge()"


def animal(rng, name, means, mixing, n_each):
    code = np.tile(np.arange(len(means)), n_each)
    x = (means[code] + 0.4 * rng.normal(size=(len(code), means.shape[1]))) @ mixing + 3 * rng.normal(
        size=(len(code), mixing.shape[1])
    )
    x, y = recorded(x, name), recorded(np.eye(len(means))[code], name, "behaviour")
    return x, y, code


def test_transfer_between_animals_and_chance_without_new_inputs():
    """Card 17: 8 classes, 5 trials each, of an animal whose units say what another's said."""
    rng = np.random.default_rng(0)
    means = 1.5 * rng.normal(size=(8, 6))
    first = animal(rng, "one", means, rng.normal(size=(6, 40)), 60)
    second = animal(rng, "two", means, rng.normal(size=(6, 40)), 30)
    x, y, code = second
    options = {"n_latents": 6, "max_steps": 200, "frozen_steps": 100, "learning_rate": 1e-2, "contrast": 0.0}
    model = ba.models.SharedLatentDecoder(**options).pretrain({"one": first[0]}, {"one": first[1]})

    def accuracy(fitted, rows, codes):
        return np.mean(np.asarray(fitted.predict(rows)).argmax(axis=1) == codes)

    transferred = accuracy(model.refine("two").fit(x[:40], y[:40]), x[40:], code[40:])
    scratch = accuracy(ba.models.SharedLatentDecoder(**options).fit(x[:40], y[:40]), x[40:], code[40:])
    assert transferred > scratch + 0.1
    own = model.refine("again")
    same = first[0].assign_coords(system=("neuroid", ["copy"] * 40))
    with pytest.raises(SplitError, match=r"saw 100% of these rows in its pretraining, on 'one'"):
        own.fit(same, first[1])
    inputs = model.network_  # the first animal's own map, read by units in another order
    z = (first[0].values - first[0].values.mean(axis=0)) / first[0].values.std(axis=0)
    with torch.no_grad():
        kept, moved = (
            inputs(torch.as_tensor(side, dtype=torch.float32), 0).numpy().argmax(axis=1)
            for side in (z, z[:, rng.permutation(40)])
        )
    assert np.mean(kept == first[2]) > 0.6
    assert abs(np.mean(moved == first[2]) - 1 / 8) < 0.12


def test_a_trunk_that_saw_the_subject_is_refused(people, pretrained):
    x, y = people["sub-3"]
    with pytest.raises(SplitError, match=r"was pretrained on 'sub-0', .*'sub-4', 'sub-3' among them: .*Expected another subject"):
        pretrained.refine("sub-3")
    with pytest.raises(SplitError, match=r"saw the system 'sub-3' in its pretraining"):
        pretrained.refine("renamed").fit(x[:40], y[:40])
    with pytest.raises(SplitError, match=r"saw 100% of these rows"):
        pretrained.refine("renamed").fit(x.values[:40], y.values[:40])
    known = pretrained.pretrained_
    trained = replace(known, trunk={name: p + 0.1 for name, p in known.trunk.items()})
    x, y = people["sub-5"]
    with pytest.raises(
        SplitError, match=rf"before `fit`, and had {known.hash} after its pretraining: it was trained on something else since"
    ):
        pretrained.refine("sub-5").set_params(pretrained=trained).fit(x[:40], y[:40])


def test_stimuli_under_test_whose_targets_the_trunk_has_learned_are_warned_of(people):
    """They are told by what the trunk remembers: of 100, three times as many are the first as of stimuli that nobody saw."""
    x, y = people["sub-5"]
    others = {name: people[name][0][:60].assign_coords(stimulus_id=x.stimulus_id[:60]) for name in ("sub-0", "sub-1")}
    model = (
        ba.models.SharedLatentDecoder(**TINY)
        .pretrain(others, {name: y[:60] for name in others})
        .refine("sub-5")
        .fit(x[:40], y[:40])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(x[60:])
        model.predict(x[:40])  # its own
    with pytest.warns(
        LeakWarning, match="learned the targets of 20 of these 100 stimuli from others, first sub-5/40, .* without the stimuli"
    ):
        model.predict(x[40:140])


def test_one_seed_one_result(people):
    x, y = people["sub-0"]
    some = {"a": x[:30], "b": people["sub-1"][0][:30, :20]}
    targets = {"a": y[:30, :4], "b": people["sub-1"][1][:30, :4]}
    model = ba.models.SharedLatentDecoder(**TINY, random_state=1)
    new, its = people["sub-2"][0][:30], people["sub-2"][1][:30, :4]
    first, again = (clone(model).pretrain(some, targets).refine("c").fit(new, its).predict(new) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert first.dims == ("presentation", "neuroid")
    other = clone(model).set_params(random_state=2).pretrain(some, targets).refine("c").fit(new, its).predict(new)
    assert not np.array_equal(first.values, other.values)


def test_one_target_serves_all_by_stimulus_and_degenerate_ones_are_named(people):
    x, y = people["sub-0"]
    x, y = x[:40], y[:40, :4]
    seen = {"a": x[:30], "b": people["sub-1"][0][:20].assign_coords(stimulus_id=x.stimulus_id[20:40])}
    model = ba.models.SharedLatentDecoder(**TINY)
    assert clone(model).pretrain(seen, y).pretrained_.subjects == ("a", "b")
    bad = y.copy()
    bad[:, 1], bad[3, 2] = 4.0, np.nan
    fitted = clone(model).fit(x, bad)
    assert fitted.status_.tolist() == ["ok", "constant", "nan", "ok"]
    assert np.isnan(fitted.predict(x).values).all(axis=0).tolist() == [False, False, True, False]
    with pytest.raises(ParameterError, match=r"got 'a' with 4 targets, and 0 and 1 values of source and target that are NaN"):
        clone(model).pretrain(seen, bad)


def test_a_trunk_is_never_left_behind_without_a_word(people, pretrained):
    """Who pretrains and evaluates, without `refine`, would score a start from scratch."""
    x, y = people["sub-5"]
    for attempt in (
        lambda: clone(pretrained).fit(x[:60], y[:60]),
        lambda: clone(clone(pretrained)).fit(x[:60], y[:60]),
        lambda: ba.evaluate(x[:60], y[:60], model=pretrained, cv=3, controls="none", random_state=0),
        lambda: ba.identify(x[:60], y[:60], model=ba.chain(ba.ZScore(), pretrained), cv=3, random_state=0),
    ):
        with pytest.raises(
            ParameterError, match=r"was pretrained on 'sub-0', .*start from scratch. Expected the decoder of `refine\("
        ):
            attempt()
    fresh = ba.models.SharedLatentDecoder(**{**pretrained.get_params(), **TINY})
    assert fresh.fit(x[:40], y[:40]).network_ is not None


def test_latents_of_stimuli_that_subjects_share_are_aligned(people):
    rng, source = np.random.default_rng(0), people["sub-0"][0]
    y = recorded(source.values[:, :5] @ rng.normal(size=(5, 8)), "sub-0", "ann")
    x = {"a": source, "b": source.copy(data=source.values @ rng.normal(size=(40, 40)) / 6)}  # the same, in other mixtures

    def apart(alignment):
        model = ba.models.SharedLatentDecoder(**TINY | {"max_steps": 200}, alignment=alignment).pretrain(x, y)
        with torch.no_grad():
            z = [
                model._tensor((s.values - s.values.mean(axis=0)) / s.values.std(axis=0)) @ e
                for s, e in zip(x.values(), model.network_.into, strict=True)
            ]
        return float((z[0] - z[1]).square().sum() / z[0].square().sum())

    assert apart(1.0) < 0.5 * apart(0.0)
    others = {name: people[name][0][:30] for name in ("sub-0", "sub-1")}
    with pytest.raises(
        ParameterError, match="an alignment, and no stimulus that two of the subjects 'sub-0', 'sub-1' are trained on"
    ):
        ba.models.SharedLatentDecoder(**TINY, alignment=1.0).pretrain(others, {name: people[name][1][:30] for name in others})


def test_what_cannot_be_is_refused(people, pretrained):
    x, y = people["sub-5"]
    with pytest.raises(AlignmentError, match=r"got 4 targets without NaN. Expected the 256 that it was pretrained on"):
        pretrained.refine("sub-5").fit(x, y[:, :4])
    with pytest.raises(ParameterError, match=r"has no trunk. Expected `pretrain"):
        ba.models.SharedLatentDecoder().refine("sub-5")
    for name, value in {
        "n_latents": 0,
        "contrast": 2,
        "alpha": -1,
        "alignment": -1,
        "frozen_steps": 0,
        "learning_rate": 0,
        "device": "tpu",
    }.items():
        with pytest.raises(ParameterError, match=f"'{name}' parameter of SharedLatentDecoder"):
            ba.models.SharedLatentDecoder(**{name: value}).fit(x, y)

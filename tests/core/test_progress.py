import io
import sys

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core import progress as module
from brainalign.core.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(monkeypatch, stream, progress, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(4), desc="counting", progress=progress, **options)) == [0, 1, 2, 3]
    return stream.getvalue()


@pytest.mark.parametrize(("progress", "seen"), [(True, True), (None, False), (False, False)])
def test_without_a_terminal_only_what_is_asked_for_is_seen(monkeypatch, progress, seen):
    monkeypatch.setattr(module, "DELAY_S", 1e-9)
    assert ("4/4" in written(monkeypatch, io.StringIO(), progress, mininterval=0)) == seen


@pytest.mark.parametrize(("progress", "seen"), [(True, True), (None, True), (False, False)])
def test_on_a_terminal_long_work_is_seen_unasked(monkeypatch, progress, seen):
    monkeypatch.setattr(module, "DELAY_S", 1e-9)
    assert ("4/4" in written(monkeypatch, Terminal(), progress, mininterval=0)) == seen


def test_short_work_is_seen_only_if_asked_for(monkeypatch):
    assert written(monkeypatch, Terminal(), None) == ""
    assert "0/4" in written(monkeypatch, Terminal(), True)


def test_a_bar_without_an_iterable_is_moved_by_hand(capsys):
    with progress_bar(progress=True, desc="saving", total=10) as bar:
        bar.update(10)
    assert "10/10" in capsys.readouterr().err


IDS = range(12)


def recording(n_neuroids=4, seed=0, **coords):
    values = np.random.default_rng(seed).normal(size=(12, n_neuroids))
    return ba.responses(values, stimulus_id=IDS, neuroid_id=range(n_neuroids), modality="fmri", system="s", **coords)


def rdms(n=2, seed=0):
    values = np.random.default_rng(seed).normal(size=(12, 4 * n))
    labels = np.repeat([f"r{i}" for i in range(n)], 4)
    return ba.rdm(
        ba.responses(values, stimulus_id=IDS, neuroid_id=range(4 * n), modality="fmri", system="s", region=labels), by="region"
    )


def network():
    return ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)), "2", system="n")


def shown():
    return ba.stimuli.table(np.random.default_rng(0).normal(size=(4, 3)), stimulus_id=list("abcd"), kind="array")


def attributed(verb, **options):
    net, stimuli = network(), shown()
    return verb(net, stimuli, ba.attribute(net, stimuli, method="gradient-times-input"), **options)


def dissociated(**options):
    x = recording()
    tasks = {name: (x, {"target": x[:, :2], "neuroid": 0}) for name in ("one", "other")}
    return ba.neurons.double_dissociation(
        ba.Ridge().fit(x, x[:, :2]), tasks, circuits={"a": ["neuroid/0"], "b": ["neuroid/1"]}, **options
    )


def with_angles():
    degrees = np.repeat(np.arange(0, 360, 60), 2)
    return recording(presentation={"deg": degrees, "side": np.where(degrees < 180, "left", "right")})


def trains(**options):
    counts = np.random.default_rng(0).poisson(0.5, size=(4, 2, 5))
    x = ba.responses(counts, stimulus_id=range(4), neuroid_id=range(2), time=np.arange(5) / 10, modality="spikes", system="m")
    return ba.geometry.spike_distance(x, timescale_s=0.1, **options)


def captions(**options):
    bank = ba.neurons.caption_bank({str(i): "a cat" if i % 3 else "a dog" for i in IDS})
    return ba.neurons.score_captions(["a cat"], recording(1), bank, n_permutations=2, **options)


def said(**options):
    table = ba.stimuli.table(["a cat", "a dog", "a cow"], stimulus_id=list("abc"), kind="text")
    return ba.scores.score_reconstructions(table, table, **options)


def grouped_rdms(**options):
    two = xr.concat([rdms(seed=0), rdms(seed=1)], "subject", combine_attrs="override")
    return ba.geometry.identify_groups(two, n_bootstraps=3, **options)


def parted(**options):
    source = recording(4, band=["a", "a", "b", "b"])
    return ba.partition_variance(source, recording(1, seed=1), model=ba.Ridge(alphas=[1.0]), cv=2, **options)


VERBS = {
    "trsa of pairs": lambda **o: ba.trsa(rdms(), rdms(seed=1), step=0.5, n_permutations=3, **o),
    "trsa of one": lambda **o: ba.trsa(rdms()[0], rdms(seed=1)[0], step=0.5, n_permutations=3, **o),
    "trsa redrawn": lambda **o: ba.trsa(rdms()[0], rdms(seed=1)[0], step=0.5, n_bootstraps=3, **o),
    "fit_rdms": lambda **o: ba.geometry.fit_rdms(rdms(), rdms(seed=1), n_repeats=1, **o),
    "fit_rdms permuted": lambda **o: ba.geometry.fit_rdms(rdms(), rdms(seed=1), n_repeats=1, n_permutations=3, **o),
    "identify_groups": grouped_rdms,
    "adaptive_dependence of pairs": lambda **o: ba.geometry.adaptive_dependence(rdms(), rdms(seed=1), n_permutations=3, **o),
    "adaptive_dependence of one": lambda **o: ba.geometry.adaptive_dependence(rdms()[0], rdms(seed=1)[0], n_permutations=3, **o),
    "pseudo_depth": lambda **o: ba.geometry.pseudo_depth(
        recording(layer=["a"] * 4), recording(seed=1, region=["v"] * 4), n_draws=3, **o
    ),
    "kernel_analysis": lambda **o: ba.geometry.kernel_analysis(with_angles(), "side", **o),
    "predicted_rdm": lambda **o: ba.geometry.predicted_rdm(
        recording(), recording(seed=1), model=ba.Ridge(alphas=[1.0]), cv=2, **o
    ),
    "spike_distance": trains,
    "rdm": lambda **o: ba.rdm(recording(region=["a", "a", "a", "a"]), by="region", **o),
    "lesion": lambda **o: ba.lesion(
        ba.Ridge(alphas=[1.0]).fit(recording(), recording(1)), recording(), units=["neuroid/0"], mode="mean", n_draws=3, **o
    ),
    "double_dissociation": lambda **o: dissociated(mode="mean", n_draws=2, **o),
    "patch exactly": lambda **o: ba.patch(network(), shown(), "zero", nodes="0", **o),
    "patch by gradients": lambda **o: ba.patch(network(), shown(), "zero", nodes="0", method="attribution", **o),
    "null of patch": lambda **o: ba.patch(network(), shown(), "zero", nodes="0", null="random-network", n_permutations=2, **o),
    "null of attribute": lambda **o: ba.attribute(network(), shown(), null="random-network", n_permutations=2, **o),
    "stability": lambda **o: ba.neurons.stability(network(), shown(), n_draws=2, k=2, **o),
    "sanity_check": lambda **o: ba.neurons.sanity_check(network(), shown(), **o),
    "deletion_insertion": lambda **o: attributed(ba.neurons.deletion_insertion, n_steps=2, **o),
    "removal_agreement": lambda **o: attributed(ba.neurons.removal_agreement, n_draws=3, **o),
    "caption": lambda **o: ba.caption(recording(), recording(seed=1), n_permutations=2, **o),
    "score_captions": captions,
    "mediation": lambda **o: ba.neurons.mediation(recording(), ba.Ridge(alphas=[1.0]).fit(recording(), recording(2)), **o),
    "localise": lambda **o: ba.neurons.localise(with_angles(), "side", ("left", "right"), n_selected=1, n_draws=2, **o),
    "tuning": lambda **o: ba.neurons.tuning(with_angles(), "deg", **o),
    "match": lambda **o: ba.match(recording(), recording(seed=1), n_permutations=2, **o),
    "match in two": lambda **o: ba.match(recording(), {"a": recording(seed=1), "b": recording(seed=2)}, **o),
    "partition_variance": parted,
    "score_reconstructions": said,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_long_verbs_show_how_far_they_are_on_demand(verb, capsys):
    verb(progress=False)
    assert capsys.readouterr().err == ""
    verb(progress=True)
    assert "100%" in (err := capsys.readouterr().err) or "it [" in err

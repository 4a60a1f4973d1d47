"""The symmetry promise: every public verb runs, with the same call, on brains and on networks, in every direction."""

import ast
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

import brainalign as ba
from brainalign.cli.spec import MAPPINGS


def predicted_and_held_out(source, target):
    x, y, _ = ba.align(ba.average_repeats(source), ba.average_repeats(target))
    return ba.Ridge(alphas=[10.0]).fit(x[:40], y[:40]).predict(x[40:]), y[40:]


def in_time(x):
    """Two times: noise, and then what there is."""
    noise = np.random.default_rng(0).normal(size=x.shape)
    labels = {name: (c.dims, c.values) for name, c in x.coords.items()}
    return xr.DataArray(
        np.stack([noise, x.values], axis=2).astype("float32"),
        dims=(*x.dims, "time"),
        coords=labels | {"time": [0.0, 0.1]},
        attrs=x.attrs,
    ).assign_attrs(time_reference="stimulus onset")


def encoding(source, target):
    """A mapping fitted on each stimulus once."""
    return ba.Ridge(alphas=[10.0]).fit(*ba.align(ba.average_repeats(source), ba.average_repeats(target))[:2])


def captions_of(x):
    """A sentence about each stimulus that tells whether the response of the first neuroid is high."""
    first = ba.average_repeats(x)[:, 0]
    words = np.where(first > first.median(), "a high one", "a low one")
    return dict(zip(first.stimulus_id.values.tolist(), words.tolist(), strict=True))


def with_conditions(x):
    """Three conditions of twenty stimuli each, and eight angles."""
    stimulus = np.unique(x.stimulus_id.values.astype(object), return_inverse=True)[1]
    labels = {"condition": np.array(list("abc"))[stimulus % 3], "angle_deg": 45.0 * (stimulus % 8)}
    return x.assign_coords({name: ("presentation", values) for name, values in labels.items()})


def reconstructed(source, target):
    """Decode the target's values, and generate stimuli from them by search and by a linear map."""
    x, y, _ = ba.align(ba.average_repeats(source), ba.average_repeats(target))
    bank = ba.stimuli.table(np.random.default_rng(0).random((60, 4, 4)), stimulus_id=y.stimulus_id.values, kind="image")
    decoded = ba.LatentDecoder([10.0]).fit(x[:40], {"all": y[:40]}).predict(x[40:])
    makers = (ba.models.NearestNeighbourGenerator(), ba.models.LinearGenerator(1.0))
    made = [maker.fit({"all": y[:40]}, bank).generate(decoded) for maker in makers]
    return xr.concat([ba.scores.score_reconstructions(one, bank, random_state=0) for one in made], "generator")


#: What each public name is. A name that is missing here fails the test below, so that no verb escapes it.
PAIR_VERBS = {
    "align": lambda source, target: ba.align(source, target)[1],
    "evaluate": lambda source, target: ba.evaluate(
        source,
        target,
        model=ba.Ridge(alphas=[1.0, 100.0], cv=3),
        cv=3,
        ceiling=ba.noise_ceiling(target, random_state=0),
        n_permutations=9,
        random_state=0,
    ),
    "compare": lambda source, target: ba.compare(
        source, target, by=("group", "group"), model=ba.Ridge(alphas=[1.0, 100.0], cv=3), cv=3, n_permutations=9, random_state=0
    ),
    "permutation_test": lambda source, target: ba.permutation_test(
        *predicted_and_held_out(source, target), n_permutations=9, random_state=0
    ),
    "bootstrap": lambda source, target: ba.bootstrap(
        ba.compare(source, target, by=("group", "group"), model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0),
        over="target_group",
        between="source_group",
        random_state=0,
    ),
    "partition_variance": lambda source, target: ba.partition_variance(
        source[:, np.isin(source.group, np.unique(source.group)[:2])],
        target,
        by="group",
        model=ba.BandedRidge(alphas=[10.0], bands="group", candidates=3, cv=3),
        cv=3,
        random_state=0,
    ),
    "hierarchy": lambda source, target: ba.hierarchy(
        ba.compare(source, target, by=("group", "group"), model=ba.Ridge(alphas=[10.0]), cv=3, controls="none", random_state=2),
        np.unique(target.group),
    ),
    "recovery_study": lambda source, target: ba.recovery_study(
        ba.average_repeats(source),
        {"model": ba.Ridge(alphas=[10.0]), "cv": 3},
        by="group",
        like=target,
        without=["low-level", "untrained"],
        n_draws=2,
        random_state=0,
    ),
    "identify": lambda source, target: ba.identify(source, target, model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0),
    "decode_time": lambda source, target: ba.decode_time(
        in_time(source),
        ba.average_repeats(target),
        model=ba.Ridge(alphas=[10.0], standardize="train"),
        cv=3,
        n_permutations=9,
        random_state=0,
    ),
    "compare_rdms": lambda source, target: ba.compare_rdms(ba.rdm(source), ba.rdm(target)),
    "similarity": lambda source, target: ba.similarity(
        source,
        target,
        by=("group", "group"),
        n_permutations=9,
        n_bootstraps=9,
        n_neuroids=3,
        ceiling={"other": source},
        random_state=0,
    ),
    "match": lambda source, target: ba.match(
        ba.average_repeats(source),
        {"one": target, "two": target[:, ::-1]},
        n_permutations=9,
        one_to_one=True,
        random_state=0,
    ),
    "caption": lambda source, target: ba.caption(target, source, n_permutations=9, random_state=0),
    "trsa": lambda source, target: ba.trsa(
        ba.rdm(source, by="group"), ba.rdm(target, by="group"), step=0.25, n_permutations=9, random_state=0
    ),
}
#: Options that bring a second system, or further sources, into a verb; and what a submodule holds.
PAIR_OPTIONS = {
    "noise_ceiling, others=": lambda source, target: ba.noise_ceiling(
        target, method="inter-system", others={"other": source}, cv=3, n_splits=2, random_state=0
    ),
    "compare, recovery=": lambda source, target: ba.compare(
        source,
        target,
        by=("group", "group"),
        model=ba.Ridge(alphas=[10.0]),
        cv=3,
        controls="none",
        recovery={"n_draws": 2, "without": ["low-level", "untrained"]},
        random_state=0,
    ),
    "compare, metric= of similarity": lambda source, target: ba.compare(
        source,
        target,
        by=("group", "group"),
        metric="procrustes-normalised",
        n_permutations=9,
        controls={"other": target},
        random_state=0,
    ),
    "bootstrap, n_refits=": lambda source, target: ba.bootstrap(
        ba.compare(
            source, target, by=("group", "group"), model=ba.Ridge([10.0]), cv=3, n_bootstraps=9, n_refits=3, random_state=0
        ),
        over="stimulus",
        between="source_group",
    ),
    "evaluate, controls=ba.controls(...)": lambda source, target: ba.evaluate(
        source,
        target,
        model=ba.Ridge(alphas=[10.0]),
        cv=3,
        controls=ba.controls(ba.simulate(n_stimuli=60, n_neuroids=1, random_state=0).stimuli, random_state=0),
        random_state=0,
    ).sel(control=["random-low-level"]),
    "attribute to recorded neuroids": lambda source, target: ba.attribute(
        ba.readout(ba.average_repeats(source), encoding(source, target[:, :2])),
        ba.average_repeats(source)[:5],
        method="shapley",
        groups="group",
        random_state=0,
    ),
    "neurons.score_captions, neurons.caption_bank": lambda source, target: ba.neurons.score_captions(
        ba.caption(target, ba.neurons.caption_bank(captions_of(source)), n_permutations=0, random_state=0).label,
        target,
        ba.neurons.caption_bank(captions_of(source)),
        n_permutations=9,
        random_state=0,
    ),
    "neurons.mediation": lambda source, target: ba.neurons.mediation(
        ba.average_repeats(source),
        encoding(source, target[:, :2]),
        [str(target.neuroid_id.values[0])] * source.shape[1],
        n_pairs=20,
        random_state=0,
    ),
    "neurons.describe": lambda source, target: ba.neurons.describe(
        encoding(source, target), ba.average_repeats(source), captions_of(target), k=20, random_state=0
    ).rename(keyword_score="score"),
    "neurons.describe, neurons.NearestCaption": lambda source, target: ba.neurons.describe(
        encoding(source, target),
        ba.average_repeats(source),
        ba.neurons.NearestCaption(
            ba.average_repeats(source), [captions_of(target)[i] for i in ba.average_repeats(source).stimulus_id.values.tolist()]
        ),
        k=20,
        random_state=0,
    ).rename(keyword_score="score"),
    "neurons.read_weights, neurons.project_weights": lambda source, target: ba.neurons.read_weights(
        ba.neurons.project_weights(encoding(source, target), ba.average_repeats(source), size=20), ba.average_repeats(source), k=2
    ),
    "neurons.in_out_cosines, neurons.weight_patterns": lambda source, target: ba.neurons.in_out_cosines(
        encoding(source, target), ba.neurons.weight_patterns(encoding(source, target), ba.average_repeats(source))
    ).rename(in_out="score"),
    "scores.ablate": lambda source, target: ba.scores.ablate(
        source, target, by="group", model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0
    ),
    "scores.ablate, verb=identify": lambda source, target: ba.scores.ablate(
        source, target, by="group", method="silence", verb="identify", model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0
    ),
    "identify, metric=likelihood and rescale=": lambda source, target: ba.identify(
        source,
        target,
        model=ba.Ridge(alphas=[10.0]),
        cv=3,
        metric="likelihood",
        query="target",
        rescale="train",
        random_state=0,
    ),
    "models.NearestNeighbourGenerator, models.LinearGenerator, scores.score_reconstructions": lambda source, target: (
        reconstructed(source, target)
    ),
    "identify, windows= with ContrastiveDecoder": lambda source, target: ba.identify(
        in_time(ba.average_repeats(source)),
        target,
        model=ba.ContrastiveDecoder(width=8, depth=1, max_steps=25),
        windows=[(0.0, 0.1), (0.0, 0.2)],
        cv=3,
        n_permutations=1,
        random_state=0,
    ),
    "models.SharedLatentDecoder": lambda source, target: ba.identify(
        source,
        target,
        model=ba.models.SharedLatentDecoder(4, max_steps=30, frozen_steps=20)
        .pretrain({"other": ba.average_repeats(target)[:30].values}, {"other": ba.average_repeats(target)[:30].values})
        .refine("source"),
        cv=ba.split(target, test=ba.average_repeats(target).stimulus_id.values[30:]),
        random_state=0,
    ),
    "geometry.adaptive_dependence": lambda source, target: ba.geometry.adaptive_dependence(
        ba.rdm(source), ba.rdm(target), n_permutations=9, random_state=0
    ),
    "geometry.geodesic, geometry.geo_topological": lambda source, target: ba.compare_rdms(
        ba.geometry.geodesic(ba.rdm(source)), ba.geometry.geo_topological(ba.rdm(target), 0.4, 0.6)
    ),
    "compare_rdms, n_bootstraps= and n_permutations=": lambda source, target: ba.compare_rdms(
        ba.rdm(source),
        ba.rdm(target, by="group"),
        over=("group", "stimulus"),
        n_bootstraps=9,
        n_permutations=9,
        random_state=0,
    ),
    "compare_rdms, controlling=": lambda source, target: ba.compare_rdms(
        ba.rdm(source, by="group"), ba.rdm(target, by="group"), metric="whitened-cosine", controlling=ba.rdm(source[:, ::7])
    ),
    "geometry.fit_rdms": lambda source, target: ba.geometry.fit_rdms(
        ba.rdm(source, by="group"), ba.rdm(target, by="group"), n_repeats=1, random_state=0
    ),
    "geometry.predicted_rdm": lambda source, target: ba.geometry.predicted_rdm(
        source, target, model=ba.Ridge(alphas=[10.0]), cv=3, random_state=0
    ),
    "geometry.regress_rdms": lambda source, target: ba.geometry.regress_rdms(
        ba.rdm(source, by="group"), ba.rdm(target, by="group"), metric="spearman"
    ).rename(r2="score"),
    "geometry.identify_groups": lambda source, target: ba.geometry.identify_groups(
        xr.concat(
            [ba.rdm(x, by="group")[:2].drop_vars(["group", "n_neuroids"]) for x in (source, target)],
            "who",
            join="inner",
            combine_attrs="override",
        ),
        by="group",
        over="who",
    ),
    "models.pseudo_population": lambda source, target: ba.models.pseudo_population(
        {name: ba.average_repeats(x) for name, x in (("one", source), ("other", target))}, by="stimulus_id", random_state=0
    ),
    "geometry.pseudo_depth": lambda source, target: ba.geometry.pseudo_depth(
        source, target, by=("group", "group"), n_draws=2, random_state=0
    ),
}
SINGLE_VERBS = {
    "validate": lambda x: ba.validate(x, deep=True),
    "average_repeats": lambda x: ba.average_repeats(x),
    "split": lambda x: ba.split(x, n_splits=3, random_state=0),
    "rdm": lambda x: ba.rdm(x),
    "noise_ceiling": lambda x: ba.noise_ceiling(x, units="r2", random_state=0),
    "selectivity": lambda x: ba.selectivity(with_conditions(x), "condition", n_permutations=9, n_bootstraps=9, random_state=0),
    "exemplars": lambda x: ba.exemplars(x, k=3, by="group", random_state=0),
    "bands": lambda x: ba.bands(a=x, b=x),
}
#: What a submodule holds for one system.
SINGLE_OPTIONS = {
    "geometry.spike_distance": lambda x: ba.geometry.spike_distance(
        in_time(ba.average_repeats(x)).pipe(lambda y: y.copy(data=np.rint(np.abs(y.values)))), timescale_s=0.05
    ),
    "geometry.kernel_analysis": lambda x: ba.geometry.kernel_analysis(
        x.assign_coords(half=("presentation", x.stimulus_id.values < x.stimulus_id.values[30])), "half", by="group"
    ),
    "neurons.captum_forward": lambda x: ba.neurons.captum_forward(
        ba.readout(x, ba.Ridge(alphas=[1.0]).fit(x, x[:, :2])), x, neuroid=x.neuroid_id.values[0]
    ),
    "neurons.coverage": lambda x: ba.neurons.coverage(x[:40], new=x[40:]),
    "lesion of recorded neuroids": lambda x: ba.lesion(
        ba.Ridge(alphas=[1.0]).fit(x, x[:, :2]), x, units={x.group.values[0]: None}, n_draws=9, random_state=0
    ),
    "neurons.double_dissociation": lambda x: ba.neurons.double_dissociation(
        ba.Ridge(alphas=[1.0]).fit(x, x[:, :2]),
        {"first": (x, {"neuroid": x.neuroid_id.values[0]}), "second": (x, {"neuroid": x.neuroid_id.values[1]})},
        circuits={"a": {x.group.values[0]: None}, "b": {x.group.values[-1]: None}},
        n_draws=9,
        random_state=0,
    ),
    "neurons.localise": lambda x: ba.neurons.localise(with_conditions(x), "condition", ("a", "b"), n_selected=3, random_state=0),
    "neurons.massive, neurons.tame": lambda x: ba.neurons.massive(ba.neurons.tame(x)),
    "neurons.overlap": lambda x: ba.neurons.overlap(x[0].drop_attrs() > 0, x[1].drop_attrs() > 0),
    "neurons.sparseness": lambda x: ba.neurons.sparseness(x, by="group"),
    "neurons.tuning": lambda x: ba.neurons.tuning(
        with_conditions(x), "angle_deg", n_permutations=9, n_bootstraps=9, random_state=0
    ),
    "selectivity, metric= of activation": lambda x: ba.selectivity(with_conditions(x), "condition", metric="lape"),
    "geometry.trajectories": lambda x: ba.geometry.trajectories(ba.rdm(x, by="group"), along="group"),
}
#: Feature steps, on a continuous recording and the rows that another one wants.
STEPS = {
    "BinTime": lambda x, rows: ba.BinTime().transform(x, rows),
    "Clean": lambda x, rows: ba.Clean(standardize="zscore").transform(x),
    "Delay": lambda x, rows: ba.Delay([1.0, 2.0]).transform(x),
    "HRF": lambda x, rows: ba.HRF().transform(x),
    "Reduce": lambda x, rows: ba.Reduce(2, random_state=0).fit_transform(x),
    "WordsToVolumes": lambda x, rows: ba.WordsToVolumes("sum").transform(x, rows),
    "ZScore": lambda x, rows: ba.ZScore().transform(x),
}
STORED = {"save", "open_responses", "open_study"}  # both kinds below
RESPONDER_VERBS = {"record", "attribute", "readout", "patch", "lesion"}  # both kinds below
OTHER = {
    "TorchResponder", "TransformersResponder", "adapters", "chain", "controls", "core", "errors", "geometry", "models", "neurons",
    "open_rdms", "protocols", "reports", "responses", "scores", "simulate", "stimuli",
}  # fmt: skip


def public_names():
    tree = ast.parse((Path(ba.__file__).parent / "__init__.pyi").read_text())
    return {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_every_public_name_has_a_place_in_the_table():
    known = set(PAIR_VERBS) | set(SINGLE_VERBS) | set(STEPS) | STORED | RESPONDER_VERBS | set(MAPPINGS) | OTHER
    assert public_names() == known


@pytest.fixture(scope="module")
def systems():
    """Four systems that saw the same stimuli: two brains (fMRI, spikes) and two networks, labelled alike by ``group``."""
    study = ba.simulate(n_stimuli=60, n_neuroids=6, n_repeats=2, random_state=0)
    other = ba.simulate(study.network, n_neuroids=6, n_repeats=2, random_state=1)
    rng = np.random.default_rng(0)
    mixed = study.network.copy(
        data=study.network.values @ rng.normal(size=(study.network.sizes["neuroid"],) * 2).astype("float32")
    )
    found = {
        "brain": study.fmri.assign_coords(group=("neuroid", study.fmri.region.values)),
        "second brain": other.fmri.assign_coords(group=("neuroid", other.fmri.region.values)),
        "network": study.network.assign_coords(group=("neuroid", study.network.layer.values)),
        "second network": mixed.assign_coords(
            group=("neuroid", study.network.layer.values), system=("neuroid", ["other"] * mixed.shape[1])
        ),
    }
    return found


DIRECTIONS = [("network", "brain"), ("brain", "network"), ("brain", "second brain"), ("network", "second network")]


@pytest.mark.parametrize("verb", PAIR_VERBS | PAIR_OPTIONS)
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_pair_verb_runs_in_every_direction_with_one_result_type(systems, verb, source, target):
    run = (PAIR_VERBS | PAIR_OPTIONS)[verb]
    out, reference = run(systems[source], systems[target]), run(systems["network"], systems["brain"])
    assert type(out) is type(reference)
    assert out.dims == reference.dims if isinstance(out, xr.DataArray) else set(out.data_vars) == set(reference.data_vars)
    assert np.isfinite((out.score if isinstance(out, xr.Dataset) else out).values).any()


@pytest.mark.parametrize("verb", SINGLE_VERBS | SINGLE_OPTIONS)
def test_single_verb_runs_on_both_kinds_with_one_result_type(systems, verb):
    brain, network = ((SINGLE_VERBS | SINGLE_OPTIONS)[verb](systems[kind]) for kind in ("brain", "network"))
    assert type(brain) is type(network)
    if isinstance(brain, xr.DataArray):
        assert brain.dims == network.dims


@pytest.mark.parametrize(
    "mapping",
    [
        ba.Ridge(alphas=[10.0]), ba.chain(ba.Reduce(4), ba.Ridge(alphas=[10.0])), ba.BandedRidge(bands="group", candidates=9),
        ba.KernelRidge(alphas=[1.0]), ba.PLS([1, 2, 4]), ba.ContrastiveDecoder(width=32, depth=1, max_steps=100), ba.LatentDecoder(latents="group"),
        ba.Stacked(ba.Ridge(alphas=[10.0]), bands="group"), ba.SharedSpace(),
    ],
    ids=["ridge", "chain", "banded", "kernel", "pls", "contrastive", "latents", "stacked", "shared-space"],
)  # fmt: skip
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_mappings_fit_in_every_direction(systems, mapping, source, target):
    x, y, _ = ba.align(ba.average_repeats(systems[source]), ba.average_repeats(systems[target]))
    prediction = mapping.fit(x, y).predict(x)
    assert prediction.dims == y.dims
    assert (prediction.neuroid_id.values == y.neuroid_id.values).all()
    centred = [side.values - side.values.mean(axis=0) for side in (prediction, y)]
    assert np.corrcoef(*(side.ravel() for side in centred))[0, 1] > 0.2  # of the rows that it was fitted on


@pytest.mark.parametrize("method", ["kalman", "robust"])
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_a_few_neuroids_are_decoded_as_states_in_every_direction(systems, method, source, target):
    x, y, _ = ba.align(ba.average_repeats(systems[source]), ba.average_repeats(systems[target]))
    prediction = (
        ba.KalmanDecoder(method, regressor=None if method == "kalman" else ba.Ridge(alphas=[10.0])).fit(x, y[:, :3]).predict(x)
    )
    assert prediction.dims == y.dims
    assert (prediction.neuroid_id.values == y.neuroid_id.values[:3]).all()
    assert all(np.corrcoef(prediction[:, k], y[:, k])[0, 1] > 0.2 for k in range(3))  # of the rows that it was fitted on


@pytest.mark.parametrize(
    "mapping",
    [ba.TRF(-0.01, 0.02, alphas=[1.0, 10.0], groups="run"), ba.chain(ba.Delay([0.0, 0.01]), ba.models.PoissonGLM(alphas=100.0))],
    ids=["trf", "poisson-glm"],
)
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_recordings_in_time_are_mapped_in_every_direction(systems, mapping, source, target):
    """The stimuli in the order of one film, in three runs: what a row says of the same row, the one before and the one after."""
    run, onset = [f"run-{k}" for k in np.repeat(range(3), 20)], 0.01 * np.tile(np.arange(20), 3)
    sides = ba.align(*(ba.average_repeats(systems[name]) for name in (source, target)))[:2]
    x, y = (side.assign_coords(run=("presentation", run), onset_s=("presentation", onset)) for side in sides)
    y = y.copy(data=np.maximum(np.rint(y.values - y.values.min(axis=0)), 0.0))  # numbers that could be counts
    prediction = mapping.fit(x, y).predict(x)
    assert prediction.dims == y.dims
    assert (prediction.neuroid_id.values == y.neuroid_id.values).all()
    defined = np.isfinite(prediction.values).all(axis=0)
    assert defined.any()
    centred = [side.values[:, defined] - side.values[:, defined].mean(axis=0) for side in (prediction, y)]
    assert np.corrcoef(*(side.ravel() for side in centred))[0, 1] > 0.2  # of the rows that it was fitted on


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_a_diffusion_pipeline_makes_images_of_what_is_decoded_in_every_direction(systems, diffusion_folder, source, target):
    """The target's values as one token, and pictures to start from, decoded from the source."""
    x, y, _ = ba.align(ba.average_repeats(systems[source]), ba.average_repeats(systems[target]))
    pictures = ba.responses(np.random.default_rng(0).random((60, 768)), stimulus_id=y.stimulus_id.values, neuroid_id=range(768),
                            modality="behaviour", system="pixels")  # fmt: skip
    latents = {"prompt_embeds": y[:, :8], "image": pictures}
    decoded = ba.LatentDecoder([10.0]).fit(x[:50], {name: z[:50] for name, z in latents.items()}).predict(x[50:])
    generator = ba.adapters.DiffusersGenerator(diffusion_folder, num_inference_steps=2, guidance_scale=1.0, strength=0.5)
    made = generator.generate(decoded, seed=1)
    assert made.stimulus_id.values.tolist() == y.stimulus_id.values[50:].tolist()
    shown = ba.stimuli.table(pictures.values.reshape(60, 16, 16, 3), stimulus_id=y.stimulus_id.values, kind="image")
    assert np.isfinite(ba.scores.score_reconstructions(made, shown, random_state=0).score).all()


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_motifs_are_detected_in_every_direction(systems, source, target):
    """Where a neuroid of the target is high, from the rounded rows of the source and those before."""
    x, y = ba.align(*(ba.average_repeats(systems[name]) for name in (source, target)))[:2]
    x = x.copy(data=np.rint(np.abs(x.values)))
    events = (y[:, :2] > y[:, :2].quantile(0.8, "presentation").drop_vars("quantile")).astype(int).assign_attrs(y.attrs)
    model = ba.models.MotifDetector(1.0, sampling_rate_hz=1.0).fit(x, events)
    assert model.coef_.dims == ("motif", "neuroid", "delay")
    assert (model.average_precision(x, events).score > 0.7).all()  # of the rows that it was fitted on


def test_brains_and_networks_share_one_template(systems):
    names = list(systems)
    x = ba.average_repeats(systems[names[0]])
    aligned = {name: ba.align(ba.average_repeats(systems[name]), x)[0] for name in names}
    space = ba.SharedSpace("hyperalignment").fit(aligned)
    for source, target in DIRECTIONS:
        prediction = space.predict(aligned[source], source=source, target=target)
        assert prediction.dims == aligned[target].dims
        assert (prediction.neuroid_id.values == aligned[target].neuroid_id.values).all()


READOUTS = [
    ba.SpatialReadout(n_positions=2, sizes=2, cv=3),
    ba.SpatialReadout("factorised", n_positions=2, sizes=2, n_steps=1, cv=3),
    ba.AttentionReadout(max_steps=25),
    ba.AttentionReadout("neuroid", max_steps=25),
]


@pytest.mark.parametrize("readout", READOUTS, ids=repr)
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_readouts_of_maps_ask_for_places_and_not_for_a_kind(systems, readout, source, target):
    """Four neuroids at places, seen at two times: whoever they belong to, the same numbers give the same prediction."""
    x, y, _ = ba.align(ba.average_repeats(systems[source]), ba.average_repeats(systems[target]))
    names = [name for name in x.coords if name in ("x_mm", "y_mm", "z_mm", "channel_x", "channel_y", "token")]
    bare = x.isel(neuroid=slice(4)).drop_vars(names)
    two = ba.bands(early=bare, late=bare.copy(data=bare.values[::-1]))
    with pytest.raises(ba.errors.CapabilityError, match="says nothing of where the features lie"):
        clone(readout).fit(two, y)
    on_grid = two.assign_coords(channel_x=("neuroid", [0, 1] * 4), channel_y=("neuroid", [0, 0, 1, 1] * 2))
    in_space = two.assign_coords(x_mm=("neuroid", [0.0, 9.0] * 4), y_mm=("neuroid", [9.0, 9.0, 0.0, 0.0] * 2))
    first, other = (clone(readout).fit(z, y).predict(z) for z in (on_grid, in_space))
    assert first.dims == y.dims
    assert (first.neuroid_id.values == y.neuroid_id.values).all()
    assert np.isfinite(other.values).all()
    plain = ba.responses(on_grid.values, stimulus_id=on_grid.stimulus_id.values, neuroid_id=range(8), modality="behaviour", system="x",
                         band=on_grid.band.values, channel_x=on_grid.channel_x.values, channel_y=on_grid.channel_y.values)  # fmt: skip
    np.testing.assert_array_equal(clone(readout).fit(plain, y).predict(plain).values, first.values)


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_neighbours_are_told_by_places_and_not_by_kind(systems, source, target):
    x, y, _ = ba.align(ba.average_repeats(systems[source]), ba.average_repeats(systems[target]))
    found = []
    for across, up in (("x_mm", "y_mm"), ("channel_x", "channel_y")):
        line = {up: 0.0, across: np.arange(999.0)}
        sides = [
            side.drop_vars([n for n in side.coords if str(n).startswith(("channel_", "x_mm", "y_mm", "z_mm"))]).assign_coords(
                {name: ("neuroid", np.resize(values, side.shape[1])) for name, values in line.items()}
            )
            for side in (x, y)
        ]
        prediction = ba.DistantRidge(0.5, alphas=[10.0]).fit(*sides).predict(sides[0])
        assert prediction.dims == y.dims
        assert (prediction.neuroid_id.values == y.neuroid_id.values).all()
        found.append(ba.DistantRidge(0.5, alphas=[10.0]).fit(sides[0], sides[0]))
        assert (found[-1].n_left_out_ == 1).all()
        assert (np.diag(found[-1].coef_) == 0).all()
    np.testing.assert_array_equal(found[0].coef_, found[1].coef_)


@pytest.mark.parametrize("kind", ["brain", "network"])
def test_labels_are_decoded_from_both_kinds(systems, kind):
    x = systems[kind]
    half = np.where(np.strings.find(x.stimulus_id.values, "1") >= 0, "with", "without")
    out = ba.evaluate(x.assign_coords(condition=("presentation", half)), "condition", model=ba.Classifier(), cv=3, random_state=0)
    assert out.score.shape == (1,)
    assert 0 <= float(out.score[0]) <= 1
    assert float(out.chance) == 0.5


def test_a_voxel_and_a_unit_are_recorded_and_attributed_by_the_same_calls():
    import torch

    torch.manual_seed(0)
    images = ba.stimuli.table(
        np.random.default_rng(0).normal(size=(40, 5)), stimulus_id=[f"s{i}" for i in range(40)], kind="array"
    )
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh()), layers="1", system="net")
    features = ba.record(net, images, progress=False)
    brain = ba.responses(features.values @ np.ones((4, 2)), stimulus_id=features.stimulus_id, neuroid_id=["v1", "v2"], modality="fmri",
                         system="sub-01", region="V1")  # fmt: skip
    mapping = ba.Ridge(alphas=[1e-3]).fit(features, brain)
    voxel = ba.readout(net, mapping)
    mlp = torch.nn.ModuleDict({"fc1": torch.nn.Linear(5, 4), "fc2": torch.nn.Linear(4, 5)})
    of_voxels = {"w_in": mapping, "w_out": ba.neurons.weight_patterns(mapping, features)}
    for weights in (ba.neurons.mlp_weights(mlp, layer="mlp", system="net"), of_voxels):
        assert ba.neurons.in_out_cosines(**weights).role.dims == ("neuroid",)
    for responder, neuroid in ((net, 2), (voxel, "v2")):
        assert ba.record(responder, images, progress=False).dims == ("presentation", "neuroid")
        a = ba.attribute(responder, images, neuroid=neuroid)
        assert a.dims == ("presentation", "neuroid", "feature")
        assert a.attrs["completeness_error"] < 1e-4
        for method in ("occlusion", "shapley", "sobol"):
            found = ba.attribute(responder, images, neuroid=neuroid, method=method, domain="frequency", random_state=0)
            assert found.dims == ("presentation", "neuroid", "frequency")
        module, inputs = ba.neurons.captum_forward(responder, images, neuroid=neuroid)
        np.testing.assert_allclose(module(inputs).detach(), a.response, atol=1e-5)
        effect = ba.patch(
            responder, images, images[["values"]].isel(presentation=slice(None, None, -1)), nodes="0", by="unit", neuroid=neuroid
        )
        assert effect.dims == ("presentation", "node", "neuroid")
        lost = ba.lesion(responder, images, units={"0": [1, 2]}, neuroid=neuroid, n_draws=9, random_state=0)
        assert lost.effect.dims == ("neuroid",)
        with ba.neurons.lrp_rules(responder):
            assert ba.record(responder, images, progress=False).dims == ("presentation", "neuroid")


@pytest.mark.parametrize("step", STEPS)
def test_steps_treat_a_recorded_brain_and_a_recorded_network_alike(step):
    """The same numbers under the labels of a brain and of a network give the same numbers out."""
    values = np.random.default_rng(0).normal(size=(80, 4))
    out = []
    for modality, system, group in (("fmri", "sub-01", {"region": "V1"}), ("ann", "lm", {"layer": "h.3"})):
        x = ba.responses(values, stimulus_id=[f"r{i:02d}" for i in range(80)], neuroid_id=range(4), modality=modality, system=system,
                         run=np.repeat(["a", "b"], 40), onset_s=np.tile(np.arange(40.0), 2), duration_s=1.0, **group)  # fmt: skip
        rows = x[::4].assign_coords(duration_s=("presentation", np.full(20, 4.0)))
        out.append(STEPS[step](x, rows))
    np.testing.assert_array_equal(out[0].values, out[1].values)
    assert out[0].dims == out[1].dims
    assert "region" in out[0].coords
    assert "layer" in out[1].coords


def test_both_kinds_are_stored_and_opened_by_the_same_calls(systems, tmp_path):
    for kind in ("brain", "network"):
        ba.save(systems[kind], tmp_path / "study.zarr")
        name = str(systems[kind].system.values[0])
        xr.testing.assert_identical(ba.open_responses(tmp_path / "study.zarr", name=name).load(), systems[kind])
    assert len(ba.open_study(tmp_path / "study.zarr")["responses"].children) == 2


def test_stored_sides_give_the_scores_of_those_in_memory(systems, tmp_path):
    store = tmp_path / "study.zarr"
    for kind in ("brain", "network"):
        ba.save(systems[kind], store)
    lazy = {kind: ba.open_responses(store, name=str(systems[kind].system.values[0])) for kind in ("brain", "network")}
    for source, target in (("network", "brain"), ("brain", "network")):
        model = ba.Ridge(alphas=[10.0])
        options = {"model": model, "cv": 3, "n_permutations": 9, "random_state": 0}
        here, there = ba.evaluate(systems[source], systems[target], **options), ba.evaluate(lazy[source], lazy[target], **options)
        np.testing.assert_allclose(there.score.values, here.score.values, atol=1e-6)
        np.testing.assert_array_equal(there.p_value.values, here.p_value.values)


@pytest.mark.parametrize("kind", ["brain", "network"])
def test_distances_across_runs_and_noise_ask_for_repeats_and_not_for_a_kind(systems, kind):
    """A network that is not deterministic repeats as a brain does."""
    once, rng = ba.average_repeats(systems[kind]), np.random.default_rng(0)
    once = once.isel(neuroid=slice(None, None, 4))
    runs = [once.values + rng.normal(size=once.shape) for _ in range(3)]
    x = ba.responses(
        np.concatenate(runs), stimulus_id=np.tile(once.stimulus_id.values, 3), neuroid_id=range(once.shape[1]),
        modality=once.attrs["modality"], system="any", run=np.repeat(["1", "2", "3"], len(once)),
    )  # fmt: skip
    noise = ba.geometry.noise_covariance(x)
    assert noise.dims == ("neuroid", "neuroid_2")
    found = ba.rdm(x, metric="crossnobis", folds="run", noise=noise)
    assert found.dims == ("stimulus", "stimulus_2")
    assert float(ba.compare_rdms(found, ba.rdm(once, metric="sqeuclidean")).score) > 0.3


def test_maps_of_units_voxels_and_recorded_neuroids_have_nulls_and_are_evaluated_by_the_same_calls(systems):
    import torch

    torch.manual_seed(0)
    images = ba.stimuli.table(
        np.random.default_rng(0).normal(size=(40, 5)), stimulus_id=[f"s{i}" for i in range(40)], kind="array"
    )
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh()), layers="1", system="net")
    features = ba.record(net, images, progress=False)
    brain = features[:, :2].assign_coords(layer=("neuroid", ["V1", "V1"])).rename(layer="region")
    cases = [(net, images, {"null": "random-network"}), (net, images, {"null": "random-network"})]
    cases[1] = (ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(features, brain)), images, {"null": "permutation", "target": brain})
    for kind in ("brain", "network"):
        x = ba.average_repeats(systems[kind])
        to = x[:, :2]
        cases.append((ba.readout(x, ba.Ridge(alphas=[1.0]).fit(x, to)), x, {"null": "permutation", "target": to}))
    for responder, stimuli, null in cases:
        a = ba.attribute(responder, stimuli, n_permutations=3, random_state=0, **null)
        dims = ("neuroid", a.dims[2])
        assert a.p_value.dims == a.ci_low.dims == dims
        for verb in (ba.neurons.deletion_insertion, ba.neurons.removal_agreement):
            assert verb(responder, stimuli, a).score.dims == ("presentation", "neuroid")
        inside = xr.DataArray(np.arange(a.shape[2]) < 2, dims=a.dims[2])
        assert ba.neurons.localisation(a, inside).score.dims == ("presentation", "neuroid")
        assert ba.neurons.stability(responder, stimuli, n_draws=1, random_state=0).score.dims == ("presentation", "neuroid")
    for responder, neuroid in ((net, 2), (cases[1][0], 1)):
        assert ba.neurons.sanity_check(responder, images, neuroid=neuroid, random_state=0).score.dims == ("neuroid",)

"""Eight categories of pictures in one slice of one brain: blocks of eight runs, one run left out at a time."""

import json

import numpy as np
import pandas as pd
import pytest

import brainalign as ba

pytestmark = pytest.mark.real

RUNS = range(1, 9)
SVM = ba.Classifier("svm", C=0.01, random_state=0)


@pytest.fixture(scope="module")
def runs(shared_data):
    return [shared_data("haxby2001") / "sub001" / "BOLD" / f"task001_run{k:03d}" for k in RUNS]


@pytest.fixture(scope="module")
def events(runs):
    """One row a block, named by run and category."""
    tables = [pd.read_csv(folder / "bold_events.tsv", sep="\t").assign(run=str(k)) for k, folder in zip(RUNS, runs, strict=True)]
    table = pd.concat(tables)
    table = table.rename(columns={"onset": "onset_s", "duration": "duration_s", "trial_type": "condition"})
    return table.assign(stimulus_id="run-" + table["run"] + "/" + table["condition"])


def bold_of(runs, grid):
    """Volumes of the voxels that are bright in the first run."""
    files = [folder / f"bold_{grid}.nii.gz" for folder in runs]
    opened = {"format": "nifti", "system": "sub001", "units": "scanner units"}
    first = ba.open_responses(files[0], run="1", **opened)
    brightness = first.mean("presentation").values.reshape(json.loads(first.attrs["grid"])["shape"])
    return ba.open_responses(files, run=[str(k) for k in RUNS], mask=brightness > 0.2 * brightness.max(), **opened)


def blocks_of(bold, events):
    """Means from 5 s after a block's start to 2.5 s after its end; nothing is fitted, so no fold can leak."""
    return ba.BinTime(window_s=(5.0, 2.5)).transform(ba.Clean(standardize="std").transform(bold), events)


@pytest.fixture(scope="module")
def bold(runs):
    return bold_of(runs, "1slice")


@pytest.fixture(scope="module")
def blocks(bold, events):
    return blocks_of(bold, events)


@pytest.fixture(scope="module")
def category(events):
    """What was shown in each block, as the responses of a task that knows: joined with the brain by name."""
    names, codes = np.unique(events["condition"].to_numpy(dtype=str), return_inverse=True)
    y = ba.responses(
        codes[:, None], stimulus_id=events["stimulus_id"], neuroid_id=["category"], modality="behaviour", system="task",
        presentation=events.drop(columns="stimulus_id"),
    )  # fmt: skip
    return y.assign_attrs(classes=json.dumps(names.tolist()))


def accuracy(source, target, model=SVM):
    rows = source if isinstance(target, str) else target
    return ba.evaluate(source, target, model=model, cv=ba.split(rows, by="run"), metric="accuracy", controls="none").score.item()


def only(x, *conditions):
    return x[np.isin(x.condition.values.astype(object), conditions)]


def test_categories_are_decoded_from_the_run_left_out(bold, blocks):
    """README .703 of 64 blocks, .125 by chance; one block is .016."""
    assert bold.shape == (968, 488)
    assert blocks.shape == (64, 488)
    assert accuracy(blocks, "condition") == pytest.approx(0.703, abs=0.016)
    assert accuracy(only(blocks, "face", "house"), "condition") == 1.0


def test_the_whole_chain_goes_from_volumes_to_categories(bold, category):
    """The same figure in one call, and the training volumes keep away from the run that is tested."""
    model = ba.chain(ba.Clean(standardize="std"), ba.BinTime(window_s=(5.0, 2.5)), SVM)
    assert accuracy(bold, category, model) == pytest.approx(0.703, abs=0.016)


def test_the_figure_needs_the_right_ids(blocks, category):
    assert accuracy(blocks, category) == pytest.approx(0.703, abs=0.016)
    null = []
    for seed in range(5):
        ids = np.random.default_rng(seed).permutation(blocks.stimulus_id.values)
        null.append(accuracy(blocks.assign_coords(stimulus_id=("presentation", ids)), category))
    # Binomial(64, 1/8): a mean of .125 and a standard deviation of .041.
    assert max(null) < 0.3
    assert np.mean(null) == pytest.approx(0.125, abs=0.07)


def test_large_voxels_know_less(runs, events):
    """README .281 with voxels of 25 mm; faces against houses stay perfect."""
    blocks = blocks_of(bold_of(runs, "25mm"), events)
    assert blocks.shape == (64, 104)
    assert accuracy(blocks, "condition") == pytest.approx(0.281, abs=0.016)
    assert accuracy(only(blocks, "face", "house"), "condition") == 1.0


def halves(blocks):
    """Blocks of odd and of even runs; each voxel z-scored over the blocks of its half, as one run of them."""
    odd = np.isin(blocks.run.values.astype(object), list("1357"))
    return [ba.ZScore().transform(x.drop_vars(["run", "onset_s"])) for x in (blocks[odd], blocks[~odd])]


def test_patterns_of_a_category_return_in_other_runs(blocks):
    """README: .240 within and -.033 between categories (ours .243, -.034); RDMs of odd and even runs .470 (ours .484)."""
    odd, even = (ba.average_repeats(x, by="condition").sortby("condition") for x in halves(blocks))
    r = np.corrcoef(odd.values, even.values)[:8, 8:]
    same = np.eye(8, dtype=bool)
    print(
        "RDM",
        r[same].mean(),
        r[~same].mean(),
        ba.compare_rdms(*[ba.rdm(x, condition="condition") for x in halves(blocks)]).score.item(),
    )
    assert r[same].mean() == pytest.approx(0.240, abs=0.01)
    assert r[~same].mean() == pytest.approx(-0.033, abs=0.01)
    rdms = [ba.rdm(x, condition="condition") for x in halves(blocks)]
    assert ba.compare_rdms(*rdms).score.item() == pytest.approx(0.470, abs=0.02)


def test_reverse_direction_categories_predict_voxels(blocks, events):
    """The same call with the sides swapped: which voxels are told by what was shown."""
    shown = pd.get_dummies(events["condition"]).astype(float)
    design = ba.responses(
        shown.to_numpy(), stimulus_id=events["stimulus_id"], neuroid_id=list(shown), modality="ann", system="task"
    )
    ids = np.random.default_rng(0).permutation(design.stimulus_id.values)
    wrong = design.assign_coords(stimulus_id=("presentation", ids))
    folds = ba.split(blocks, by="run")
    real, null = (ba.evaluate(x, blocks, model=ba.Ridge(alphas=[1.0]), cv=folds, controls="none").score for x in (design, wrong))
    assert float(real.mean()) > 0.1
    assert float(real.max()) > 0.6
    assert float(null.mean()) < 0.02


def test_voxels_are_selective_for_categories_and_agree_over_runs(blocks):
    """Blocks of four runs say which voxels prefer houses; those of the other four agree."""
    out = ba.selectivity(blocks, "condition", n_permutations=299, random_state=0)
    assert (out.p_value_max <= 0.05).any("neuroid").sel(category="house").item()
    halves = [ba.selectivity(blocks[np.isin(blocks.run.values.astype(int) % 2, k)], "condition").score for k in (0, 1)]
    assert np.corrcoef(halves[0].sel(category="house"), halves[1].sel(category="house"))[0, 1] > 0.3

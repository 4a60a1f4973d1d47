import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

import brainalign as ba
from brainalign.adapters.matfile import read_mat
from brainalign.adapters.rdms import adapter, open_rdms
from brainalign.core.errors import FormatError, ParameterError

IDS = list("abcde")
VECTORS = np.random.default_rng(0).uniform(0.1, 2, size=(3, 10))
STACK = np.stack([squareform(vector) for vector in VECTORS])
OBJECTS = [f"object_{i:02d}" for i in range(1, 93)]
PAIRS = np.triu_indices(92, 1)


@pytest.mark.parametrize(("stored", "how"), [(STACK, "stack"), (np.moveaxis(STACK, 0, 2), "MATLAB stack"), (VECTORS, "vectors")])
def test_every_layout_opens_alike(tmp_path, stored, how):
    np.savez(tmp_path / "r.npz", r=stored, n=np.arange(3 if stored.ndim == 3 else 4))
    savemat(tmp_path / "r.mat", {"r": stored})
    for name in ("r.npz", "r.mat"):
        assert adapter.matches(tmp_path / name), how
        x = open_rdms(tmp_path / name, stimulus_id=IDS, names=["x", "y", "z"], metric="correlation")
        np.testing.assert_array_equal(x.values, STACK)
        assert x.dims == ("rdm", "stimulus", "stimulus_2")
        assert float(x.sel(rdm="y", stimulus="a", stimulus_2="c")) == VECTORS[1, 1]
        assert x.attrs["metric"] == "correlation"


def test_one_rdm_takes_the_name_of_its_variable(tmp_path):
    for i, stored in enumerate((STACK[0], VECTORS[0], VECTORS[:1].T)):
        savemat(tmp_path / f"{i}.mat", {"hIT": stored})
        x = open_rdms(tmp_path / f"{i}.mat", stimulus_id=IDS)
        np.testing.assert_array_equal(x.sel(rdm="hIT"), STACK[0])


def test_structs_bring_their_names(tmp_path):
    structs = np.empty(3, dtype=[("RDM", object), ("name", object)])
    for i, name in enumerate(("x", "y", "z")):
        structs[i] = (VECTORS[i] if i else STACK[i], name)
    savemat(tmp_path / "r.mat", {"RDMs": structs})
    x = open_rdms(tmp_path / "r.mat", stimulus_id=IDS, dim="region")
    assert list(x.region.values) == ["x", "y", "z"]
    np.testing.assert_array_equal(x.values, STACK)
    assert ba.core.provenance(x).altered is False
    structs["name"][2] = "x"
    savemat(tmp_path / "twice.mat", {"RDMs": structs})
    with pytest.raises(ParameterError, match="none twice"):
        open_rdms(tmp_path / "twice.mat", stimulus_id=IDS)


def test_ids_and_names_are_never_positions(tmp_path):
    np.savez(tmp_path / "r.npz", r=STACK, ids=np.array(IDS))
    with pytest.raises(ParameterError, match="5 conditions, and positions are no names"):
        open_rdms(tmp_path / "r.npz", names=list("xyz"))
    with pytest.raises(ParameterError, match=r"4 names, 0 of them repeated .* 5 conditions"):
        open_rdms(tmp_path / "r.npz", names=list("xyz"), stimulus_id=IDS[:4])
    with pytest.raises(ParameterError, match="5 names, 1 of them repeated \\('a'\\)"):
        open_rdms(tmp_path / "r.npz", names=list("xyz"), stimulus_id=[*IDS[:4], "a"])
    with pytest.raises(ParameterError, match="holds 3 RDMs, and their names are None"):
        open_rdms(tmp_path / "r.npz", stimulus_id=IDS)
    with pytest.raises(ParameterError, match="stimulus_id='rows' is neither"):
        open_rdms(tmp_path / "r.npz", names=list("xyz"), stimulus_id="rows")
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    for given in ("ids", tmp_path / "ids.txt"):
        assert list(open_rdms(tmp_path / "r.npz", names=list("xyz"), stimulus_id=given).stimulus.values) == IDS


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (1 - STACK[0], "diagonal of up to 1"),
        (STACK[0] + np.triu(np.ones((5, 5)), 1), "differs from its transpose by 1"),
        (np.where(np.eye(5)[[1, 0, 2, 3, 4]], np.nan, STACK[0]), r"is nan at \(0, 1\)"),
        (np.ones((2, 7)), "7 is not for any n"),
        (np.ones((2, 3, 4)), "Expected a stack of square matrices"),
    ],
)
def test_what_is_no_rdm_is_refused(tmp_path, stored, says):
    np.savez(tmp_path / "r.npz", r=stored)
    with pytest.raises(FormatError, match=says):
        open_rdms(tmp_path / "r.npz", key="r", stimulus_id=IDS, names=["x"])


def test_nan_can_be_declared(tmp_path):
    holes = STACK.copy()
    holes[0, 0, 1] = holes[0, 1, 0] = np.nan
    np.savez(tmp_path / "r.npz", r=holes)
    assert int(np.isnan(open_rdms(tmp_path / "r.npz", key="r", stimulus_id=IDS, names=list("xyz"), allow_nan=True)).sum()) == 2


def test_the_right_variable_must_be_named(tmp_path):
    np.savez(tmp_path / "r.npz", first=STACK[0], second=STACK[1])
    with pytest.raises(ParameterError, match=r"RDMs under \['first', 'second'\]"):
        open_rdms(tmp_path / "r.npz", stimulus_id=IDS)
    assert not adapter.matches(tmp_path / "r.npz")
    with pytest.raises(FormatError, match="no field 'third'"):
        open_rdms(tmp_path / "r.npz", key="third", stimulus_id=IDS)


def test_damaged_files_are_named(tmp_path):
    np.savez(tmp_path / "r.npz", r=STACK)
    savemat(tmp_path / "r.mat", {"r": STACK})
    for name in ("r.npz", "r.mat"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FormatError, match=rf"{name}' (could not be read|is damaged)"):
            open_rdms(tmp_path / name, stimulus_id=IDS, names=list("xyz"))
    (tmp_path / "r.txt").write_text("0 1\n1 0\n")
    with pytest.raises(FormatError, match=r"Expected a MATLAB file or a numpy .npz"):
        open_rdms(tmp_path / "r.txt", stimulus_id=["a", "b"])


@pytest.mark.real
def test_human_and_monkey_it(shared_data):
    folder = shared_data("images92-kriegeskorte")
    it = open_rdms(
        folder / "Kriegeskorte_Neuron2008_supplementalData.mat", stimulus_id=OBJECTS, metric="correlation", units="1 - r"
    )
    assert it.shape == (2, 92, 92)
    human, monkey = (it.sel(rdm=name).values[PAIRS] for name in ("hITvisStim_316vx", "mIT_674neurons"))
    assert spearmanr(human, monkey)[0] == pytest.approx(0.4389, abs=5e-5)
    models = open_rdms(folder / "92_modelRDMs.mat", stimulus_id=OBJECTS)
    assert spearmanr(human, models.sel(rdm="animacy").values[PAIRS])[0] == pytest.approx(0.5882, abs=5e-5)
    v1 = open_rdms(folder / "rdm92_V1model.mat", key="rdm92_V1model", stimulus_id=OBJECTS)
    assert spearmanr(human, v1.values[0][PAIRS])[0] == pytest.approx(0.0393, abs=5e-5)


@pytest.mark.real
def test_people_sessions_and_behaviour(shared_data):
    folder = shared_data("images92-kriegeskorte")
    brains = open_rdms(folder / "92_brainRDMs.mat", stimulus_id=OBJECTS)
    assert brains.shape == (8, 92, 92)
    between = [
        spearmanr(*(brains.sel(rdm=f"hIT | {who} | Session: {session}").values[PAIRS] for session in (1, 2)))[0]
        for who in ("BE", "KO", "SN", "TI")
    ]
    np.testing.assert_allclose(between, [0.277, 0.095, 0.382, 0.120], atol=6e-4)
    assert open_rdms(folder / "92_behavRDMs.mat", stimulus_id=OBJECTS).shape == (16, 92, 92)


@pytest.mark.real
def test_animacy_model_follows_from_the_features(shared_data):
    folder = shared_data("images92-kriegeskorte")
    stimuli = read_mat(folder / "Kriegeskorte_Neuron2008_supplementalData.mat")["stimuli_92objs"]
    animal = np.array([int(np.ravel(one["animal"])[0]) for one in stimuli])
    model = open_rdms(folder / "92_modelRDMs.mat", stimulus_id=OBJECTS).sel(rdm="animacy")
    np.testing.assert_array_equal(model, np.abs(animal[:, None] - animal))


@pytest.mark.real
def test_early_visual_cortex_of_fifteen_people(shared_data):
    file = shared_data("images92-fmri15") / "fmri_EVC_RDMs.npz"
    x = open_rdms(file, stimulus_id=OBJECTS, names=[f"sub-{i:02d}" for i in range(1, 16)], dim="subject", metric="correlation")
    assert x.dims == ("subject", "stimulus", "stimulus_2")
    assert x.shape == (15, 92, 92)
    ranks = np.stack([pd.Series(rdm[PAIRS]).rank() for rdm in x.values])
    # The mean of the ranks is the best Spearman model; Pearson's r of ranks, since it is not ranked again.
    lower = np.mean([np.corrcoef(ranks[i], np.delete(ranks, i, 0).mean(0))[0, 1] for i in range(15)])
    upper = np.mean([np.corrcoef(ranks[i], ranks.mean(0))[0, 1] for i in range(15)])
    np.testing.assert_allclose([lower, upper], [0.2468, 0.3986], atol=5e-5)

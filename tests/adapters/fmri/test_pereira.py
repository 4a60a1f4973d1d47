import numpy as np
import pytest
from scipy.io import savemat

import brainalign as ba
from brainalign.adapters.fmri.pereira import adapter, is_pereira, open_pereira
from brainalign.adapters.matlab import adapter as matlab
from brainalign.core.errors import FormatError

VALUES = np.random.default_rng(0).normal(size=(5, 3))
SENTENCES = ["An apple is a fruit.", "It grows on trees.", "Some are red.", "A beekeeper keeps bees.", "Bees make honey."]


def cell(items, shape=(-1, 1), *, nested=False):
    """Return a MATLAB cell array of texts; nested, each in a cell of its own, as some of the published fields are."""
    out = np.empty(len(items), dtype=object)
    for row, item in enumerate(items):
        out[row] = np.array([[item]], dtype=object) if nested else item
    return out.reshape(shape)


def variables(**changed):
    fields = {
        "examples": VALUES, "keySentences": cell(SENTENCES, nested=True), "labelsSentences": np.arange(1, 6).reshape(-1, 1),
        "labelsPassageForEachSentence": np.array([[1], [1], [1], [2], [2]], dtype=np.uint8), "keyPassages": cell(["apple", "beekeeper"]),
        "labelsPassageCategory": np.array([[2], [1]], dtype=np.uint8), "keyPassageCategory": cell(["profession", "fruit"], (1, -1), nested=True),
        "meta": {"colToCoord": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), "roiMultimaskAAL": np.array([[2], [0], [1]]), "roisAAL": cell(["IFG_L", "MTG_L"])},
    }  # fmt: skip
    return {name: value for name, value in {**fields, **changed}.items() if value is not None}


@pytest.fixture
def write(tmp_path):
    def write(name="examples_243sentences.mat", **changed):
        (tmp_path / "P01").mkdir(exist_ok=True)
        savemat(tmp_path / "P01" / name, variables(**changed))
        return tmp_path / "P01" / name

    return write


def test_sentences_lie_in_passages_and_indices_count_from_1(write):
    x = ba.open_responses(write())
    np.testing.assert_allclose(x.values, VALUES, rtol=1e-6)
    assert x.stimulus_id.values.tolist() == [f"243sentences.{i}" for i in range(5)]
    assert x.sentence.values.tolist() == SENTENCES
    assert x.passage.values.tolist() == ["apple"] * 3 + ["beekeeper"] * 2
    assert x.passage_category.values.tolist() == ["fruit"] * 3 + ["profession"] * 2
    assert x.n_repeats.values.tolist() == [3] * 5
    assert x.region.values.tolist() == ["MTG_L", "", "IFG_L"]
    assert (x.voxel_i.values.tolist(), x.voxel_k.values.tolist()) == ([0, 3, 6], [2, 5, 8])
    assert (x.system.values[0], x.subject.values[0]) == ("P01", "P01")
    ba.validate(x, deep=True)


def test_no_other_format_takes_it(write):
    file = write()
    assert adapter.matches(file)
    assert not matlab.matches(file)
    savemat(file, {"examples": VALUES})
    assert matlab.matches(file)
    assert not is_pereira(file)
    assert not is_pereira(file.parent)


def test_folds_can_be_held_out_by_passage(write):
    x = open_pereira(write(), n_repeats=1)
    folds = ba.split(x, by="passage", n_splits=2).on(x)
    assert sorted(fold.test.tolist() for fold in folds) == [[0, 1, 2], [3, 4]]


def test_without_the_optional_fields(write):
    x = open_pereira(write(meta=None, keyPassageCategory=None), system="x", experiment="exp3", units="z")
    assert "passage_category" not in x.coords
    assert "region" not in x.coords
    assert x.stimulus_id.values[0] == "exp3.0"
    x = open_pereira(write(meta={"roiMultimaskAAL": np.array([[2], [0], [1]])}))
    assert x.aal.values.tolist() == [2, 0, 1]  # numbers, where the file does not name them


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"keySentences": None}, "has no field 'keySentences'"),
        ({"keySentences": cell(SENTENCES[:4])}, r"4 entries of 'keySentences', and 5 rows"),
        ({"labelsPassageForEachSentence": np.array([[1, 1, 1, 2, 3]])}, r"entries 3 of 'keyPassages', which has 2"),
        ({"labelsPassageForEachSentence": np.array([[0, 0, 0, 1, 1]])}, r"Expected whole numbers from 1, as MATLAB counts"),
        ({"labelsPassageForEachSentence": np.array([[1, 1, 1.5, 2, 2]])}, "Expected whole numbers"),
        ({"examples": VALUES[0, 0]}, r"Expected \(sentence, voxel\)|rows of 'examples'"),
        (
            {"examples": np.where(VALUES == VALUES[2, 1], np.nan, VALUES)},
            r"1 values that are NaN or infinite, the first in row 2 of '1'",
        ),
        ({"meta": {"colToCoord": np.zeros((3, 3))}}, r"meta.colToCoord .* counted from 1"),
        ({"meta": {"roiMultimaskAAL": np.array([1, 2])}}, "2 entries of meta.roiMultimaskAAL, and 3 voxels"),
        ({"meta": {"roiMultimaskAAL": np.array([1, 2, 3]), "roisAAL": cell(["a", "b"])}}, r"entries 3 of 'meta.roisAAL'"),
    ],
)
def test_files_that_do_not_hold_what_they_should(write, changed, said):
    with pytest.raises(FormatError, match=said):
        open_pereira(write(**changed))


def test_damage(write, survives_damage):
    file = write()
    assert survives_damage(file, lambda: open_pereira(file), examples=30)

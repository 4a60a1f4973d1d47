import numpy as np
import pytest

import brainalign as ba
from brainalign.reports import exemplarfigures


@pytest.fixture
def maps():
    """Two units with a map of 2 x 2 each, on six pictures of 8 x 8."""
    values = np.random.default_rng(0).normal(size=(6, 8))
    values[4, 2] = 9.0  # unit 0, lower left
    x = ba.responses(values, stimulus_id=[f"p{i}" for i in range(6)], neuroid_id=range(8), modality="ann", system="net", layer="conv",
                     unit=np.repeat([0, 1], 4), channel_y=np.tile([0, 0, 1, 1], 2), channel_x=np.tile([0, 1], 4))  # fmt: skip
    pictures = ba.stimuli.table(np.random.default_rng(1).random((6, 8, 8)), stimulus_id=[f"p{i}" for i in range(6)], kind="array")
    return ba.exemplars(x, k=3, by="unit", random_state=0), pictures


def test_pictures_stand_in_rows_with_their_responses_and_the_place_framed(maps):
    result, pictures = maps
    figure = exemplarfigures.exemplar_panel(result, pictures, title="Units")
    assert len(figure.axes) == 6
    first = figure.axes[0]
    np.testing.assert_array_equal(first.images[0].get_array(), pictures["values"].values[4])
    assert first.get_title() == "9"
    assert first.get_ylabel() == "conv/0"
    (frame,) = first.lines
    assert (frame.get_xdata().min(), frame.get_ydata().min()) == (-0.5, 3.5)
    assert np.ptp(frame.get_xdata()) == 4.0


def test_texts_are_written_and_labels_stand_beside_the_ids():
    words = ba.stimuli.table(["the", "cat", "a word that is too long to be shown"], stimulus_id=["s0", "s1", "s2"], kind="text")
    x = ba.responses(
        [[0.0, 1.0], [2.0, 0.0], [3.0, 1.0]], stimulus_id=["s0", "s1", "s2"], neuroid_id=["v1", "v2"], modality="fmri", system="s"
    )
    result = ba.exemplars(x, k=2, random_state=0)
    labels = result.status.copy(data=["animal", "article"])
    for figure in (
        exemplarfigures.exemplar_panel(result, words, labels=labels),
        exemplarfigures.exemplar_panel(ba.exemplars(x, stimuli=words, k=2, random_state=0), labels=labels),
    ):
        assert [axes.texts[0].get_text() for axes in figure.axes[:2]] == ["a word that is too lo…", "cat"]
        assert figure.axes[0].get_ylabel() == "v1\nanimal"
    assert exemplarfigures.exemplar_panel(result).axes[1].texts[0].get_text() == "s1"


def test_neuroids_without_exemplars_have_an_empty_row():
    x = ba.responses([[0.0, 1.0], [0.0, 2.0]], stimulus_id=["s0", "s1"], neuroid_id=["v1", "v2"], modality="fmri", system="s")
    figure = exemplarfigures.exemplar_panel(ba.exemplars(x, k=1))
    assert [len(axes.texts) for axes in figure.axes] == [0, 1]


def test_pictures_of_other_layouts_are_turned_or_named():
    rgb = np.random.default_rng(0).random((2, 3, 5, 6))
    x = ba.responses([[0.0], [1.0]], stimulus_id=["a", "b"], neuroid_id=["v"], modality="fmri", system="s")
    shown = exemplarfigures.exemplar_panel(ba.exemplars(x, k=1), ba.stimuli.table(rgb, stimulus_id=["a", "b"], kind="array"))
    assert shown.axes[0].images[0].get_array().shape == (5, 6, 3)
    flat = ba.stimuli.table(rgb.reshape(2, -1), stimulus_id=["a", "b"], kind="array")
    assert exemplarfigures.exemplar_panel(ba.exemplars(x, k=1), flat).axes[0].texts[0].get_text() == "b"


def test_bad_input_is_named(maps):
    result, pictures = maps
    with pytest.raises(ba.errors.ParameterError, match=r"Expected a result of `ba.exemplars"):
        exemplarfigures.exemplar_panel(result.drop_vars("stimulus_id"))
    with pytest.raises(ba.errors.AlignmentError, match=r"without 1 of . exemplars, first 'p4'"):
        exemplarfigures.exemplar_panel(result, pictures.isel(presentation=[0, 1, 2, 3, 5]))
    many = result.isel(neuroid=[0] * 25)
    with pytest.raises(ba.errors.ParameterError, match="25 neuroids"):
        exemplarfigures.exemplar_panel(many)

import numpy as np
import pandas as pd
import pytest

from brainalign.adapters.spikes.presented import presented, timed
from brainalign.core.errors import FormatError, ParameterError


def ids(table, column, form=None, blank=None, blanks="keep"):
    return presented(pd.DataFrame(table), stimulus_column=column, stimulus_format=form, blank=blank, blanks=blanks, source="t")


def test_columns_make_a_name_and_null_is_blank():
    table = {"orientation": ["45.0", "null", "90.0"], "contrast": ["0.8", "null", "0.1"], "block": [1, 1, 2]}
    out, said = ids(table, ["orientation", "contrast"], "ori-{orientation:03d}/c-{contrast:g}")
    assert out.stimulus_id.tolist() == ["ori-045/c-0.8", "blank", "ori-090/c-0.1"]
    assert said == {"blanks": "keep", "n_blank": 1}
    out, said = ids(table, ["orientation", "contrast"], "{0}-{1}", blanks="drop")
    assert out.stimulus_id.tolist() == ["45-0.8", "90-0.1"]
    assert out.block.tolist() == [1, 2]
    assert said == {"blanks": "drop", "n_blank": 1}


def test_natural_scenes_are_counted_from_0_and_minus_1_is_blank():
    frames = np.r_[np.arange(118), -1].astype(float)
    out, said = ids({"frame": frames}, "frame", "scene-{:03d}")
    assert out.stimulus_id.tolist() == [f"scene-{i:03d}" for i in range(118)] + ["blank"]
    assert said["n_blank"] == 1
    assert ids({"frame": ["3.0", "-1.0"]}, "frame")[0].stimulus_id.tolist() == ["3", "blank"]


def test_a_signed_column_is_no_index():
    out, said = ids({"signed_contrast": [-1.0, 0.25, np.nan]}, "signed_contrast", "{:g}")
    assert (out.stimulus_id.tolist(), said["n_blank"]) == (["-1", "0.25", "blank"], 1)
    assert ids({"signed_contrast": [-1, 1]}, "signed_contrast", blank=[-1])[0].stimulus_id.tolist() == ["blank", "1"]


def test_labels_that_only_look_like_numbers_stay_text():
    assert ids({"image": ["007", "010"]}, "image")[0].stimulus_id.tolist() == ["007", "010"]


def test_a_name_of_two_columns_is_blank_only_where_both_are():
    out, _ = ids({"stimulus_name": ["gratings", "scenes"], "frame": ["null", "7"]}, ["stimulus_name", "frame"], "{}/{}")
    assert out.stimulus_id.tolist() == ["gratings/null", "scenes/7"]


@pytest.mark.parametrize(
    ("column", "form", "error", "says"),
    [
        (None, None, ParameterError, r"needs `stimulus_column=`.*'frame', 'name'"),
        ("image", None, FormatError, r"no column 'image'. Its columns are 'frame', 'name'"),
        (["frame", "name"], None, ParameterError, r"no `stimulus_format=`.*'\{frame\}/\{name\}'"),
        ("name", "{:03d}", ParameterError, r"does not fit row 0 of t, \{'name': 'a'\}"),
        ("frame", "{other}", ParameterError, "does not fit"),
    ],
)
def test_what_must_be_said(column, form, error, says):
    with pytest.raises(error, match=says):
        ids({"frame": [0, 1], "name": ["a", "b"]}, column, form)


def test_a_table_without_rows():
    with pytest.raises(FormatError, match="t has no rows"):
        ids({"frame": []}, "frame")


def test_a_table_of_blanks_alone_is_no_experiment():
    with pytest.raises(FormatError, match="all 2 rows are blank"):
        ids({"frame": [-1, -1]}, "frame", blanks="drop")


def test_times_become_onset_and_duration_in_order():
    table = pd.DataFrame({"start_time": [2.0, 1.0], "stop_time": [2.5, 1.25], "x": ["b", "a"]})
    out = timed(table, start="start_time", stop="stop_time", source="t")
    assert out.to_dict("list") == {"x": ["a", "b"], "onset_s": [1.0, 2.0], "duration_s": [0.25, 0.5]}
    for broken, says in (
        ({"start_time": [1.0, np.nan]}, "no 'start_time' in rows 1"),
        ({"stop_time": [0.5, 3.0]}, "ends before it starts in row 0"),
        ({"start_time": ["x", "y"]}, "no numbers"),
    ):
        with pytest.raises(FormatError, match=says):
            timed(table.assign(**broken), start="start_time", stop="stop_time", source="t")

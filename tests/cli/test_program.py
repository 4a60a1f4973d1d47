import numpy as np
import pytest

import brainalign as ba
from brainalign.cli.program import Call, Item, Line, Name, as_python, public, render, run


def test_what_is_printed_is_what_is_run():
    lines = [
        Line(Call("simulate", kwargs={"n_stimuli": 12, "n_neuroids": 2, "modalities": ["fmri"], "random_state": 3}), "study"),
        Line(Call("Delay", kwargs={"delays_s": [2.0, 4.0]}), "step"),
    ]
    ours, theirs = run(lines), {}
    exec(as_python(lines), theirs)
    np.testing.assert_array_equal(ours["study"].brain, theirs["study"].brain)
    assert theirs["step"].delays_s == ours["step"].delays_s == [2.0, 4.0]


def test_values_of_every_kind_render_as_python():
    value = {"a": [1, (2.5, "x'y"), Name("x")], "b": Call("Ridge", (None,), {"cv": 3})}
    assert eval(render(value), {"x": 1, "ba": ba})["a"] == [1, (2.5, "x'y"), 1]
    assert render(("layer",)) == "('layer',)"
    assert str(Line(Call("save", (Name("x"), "p")))) == "ba.save(x, 'p')"


def test_items_of_a_study_are_opened_or_missed_by_name(tmp_path):
    study = ba.simulate(n_stimuli=8, n_neuroids=2, modalities=("fmri",), random_state=0)
    store = str(tmp_path / "study.zarr")
    ba.save(study.stimuli, store, name="images")
    assert run([Line(Item(store, "stimuli/images"), "x")])["x"].sizes["presentation"] == 8
    with pytest.raises(ba.errors.StoreError, match=r"'stimuli/image'.*stimuli/images"):
        run([Line(Item(store, "stimuli/image"), "x")])


def test_dotted_names_are_found():
    assert public("reports.report") is ba.reports.report

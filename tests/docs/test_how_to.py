"""The page of recipes: its pieces run one after the other, and give what they say."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / "docs" / "how_to.md"


def test_the_recipes_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    for piece in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(piece, found)
    assert np.allclose(found["result"].ceiling, found["ceiling"])  # of the mean over people, not of one
    assert (found["result"].score > 0.7).all()
    assert found["over_people"].ci_low.dims == ("source_system", "target_neuroid_id")
    assert found["mine"].score.attrs["units"] == "squared response units"
    assert (found["mine"].score_minus_best_control > 0).all()
    assert found["blocks"].shape == (12, 2)
    assert found["matrix"].sizes["stimulus"] == 3
    assert found["course"].sizes["time"] == 7
    assert (tmp_path / "course.png").exists()
    assert (tmp_path / "across.png").exists()

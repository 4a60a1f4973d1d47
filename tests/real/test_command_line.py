"""The command line on real input: a story's words through a language model into a study store."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.cli.main import main

pytestmark = pytest.mark.real


def test_record_from_a_transcript(shared_data, minilm, tmp_path, capsys):
    transcript = tmp_path / "story.tsv"
    words = ba.stimuli.from_transcript(
        shared_data("alice-fmri-roi") / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid", run="story"
    )
    first = words.isel(presentation=slice(0, 70))
    rows = zip(first.onset_s.values, first.duration_s.values, first.text.values.tolist(), strict=True)
    transcript.write_text("onset\tduration\tword\n" + "".join(f"{onset}\t{duration}\t{word}\n" for onset, duration, word in rows))
    spec = tmp_path / "record.toml"
    spec.write_text(
        f"""
store = "{tmp_path}/study.zarr"
progress = false

[responder]
call = "TransformersResponder"
model_name_or_path = "{minilm}"
layers = ["h.3"]
pool = "word"
system = "minilm"

[stimuli]
call = "from_transcript"
path = "{transcript}"
run = "story"
columns = {{ text = "word", onset_s = "onset", duration_s = "duration" }}
"""
    )
    assert main(["record", str(spec)]) == 0, capsys.readouterr().err
    recorded = ba.open_responses(tmp_path / "study.zarr")
    lm = ba.TransformersResponder(minilm, layers=["h.3"], pool="word", system="minilm")
    direct = ba.record(lm, first, progress=False)
    assert recorded.shape == (70, 384)
    np.testing.assert_allclose(recorded.values, direct.values, atol=1e-5)

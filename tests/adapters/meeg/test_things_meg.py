import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.meeg.things_meg import adapter, open_things_meg
from brainalign.core.errors import FormatError
from brainalign.dataset.open import FORMATS

mne = pytest.importorskip("mne")
mne.set_log_level("ERROR")
N = 60


def metadata(**changes):
    """Columns as the authors' scripts use them; one image of four is shown again, every tenth trial is a catch trial."""
    kind = np.where(np.arange(N) % 10 == 9, "catch", np.where(np.arange(N) % 4 == 0, "test", "exp"))
    paths = [f"images_{kind[i]}_meg\\concept\\concept_{i % 30 if kind[i] == 'test' else i:02d}b.jpg" for i in range(N)]
    paths = [f"images_test_meg/shown_{i % 8:02d}s.jpg" if kind[i] == "test" else path for i, path in enumerate(paths)]
    table = pd.DataFrame(
        {
            "trial_type": kind, "session_nr": np.arange(N) // 30 + 1, "run_nr": np.arange(N) // 10 + 1, "things_image_nr": np.arange(N) + 1,
            "things_category_nr": np.arange(N) % 7 + 1, "image_path": paths, "cv_split": 1.5,
        }
    )  # fmt: skip
    return table.assign(**changes)


def write(folder, person=1, table=None, n_channels=20):
    folder.mkdir(exist_ok=True)
    events = np.column_stack([np.arange(N) * 600 + 50, np.zeros(N, int), np.ones(N, int)])
    values = np.random.default_rng(person).normal(size=(N, n_channels, 500))
    info = mne.create_info([f"MLC{i:02d}-1609" for i in range(n_channels)], 200.0, "mag")
    made = mne.EpochsArray(values, info, events, tmin=-0.1, metadata=metadata() if table is None else table)
    made.save(folder / f"preprocessed_P{person}-epo.fif", split_size="2MB", overwrite=True)
    return made


def test_one_person_is_read_lazily_with_names_that_other_data_share(tmp_path):
    folder = tmp_path / "preprocessed"
    made = write(folder)
    files = ["preprocessed_P1-epo.fif", "preprocessed_P1-epo-1.fif", "preprocessed_P1-epo-2.fif"]
    assert {file.name for file in folder.iterdir()} == set(files)
    x = open_things_meg(folder, system="P1")
    assert hasattr(x.data, "dask")
    np.testing.assert_array_equal(x.values, made.get_data().astype(np.float32))
    np.testing.assert_allclose(x.time, made.times)
    assert list(x.stimulus_id.values[[0, 1, 4]]) == ["shown_00s", "concept_01b", "shown_04s"]
    assert list(x.condition.values[:2]) == ["shown", "concept"]
    shown = x.isel(presentation=x.trial_type.values == "test")
    assert sorted(set(shown.stimulus_id.values)) == ["shown_00s", "shown_04s"]
    assert list(shown.repetition.values[:4]) == [0, 0, 1, 1]
    assert list(x.session.values[[0, 59]]) == ["1", "2"]
    assert list(x.run.values[[0, 59]]) == ["1", "6"]
    assert list(x.things_image_nr.values[:3]) == [1, 2, 3]
    assert set(x.subject.values) == {"P1"}
    assert x.attrs["units"] == "baseline SD"  # the file says T, the authors' script says z-score
    step = ba.core.provenance(x).steps[-1]
    assert step["params"]["source"] == files
    assert step["params"]["index_base"] == {"trial": 0, "things_image_nr": 1}


def test_the_folder_is_known_and_no_other_reader_claims_it(tmp_path):
    write(tmp_path / "preprocessed")
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(tmp_path / "preprocessed")] == ["things-meg"]
    assert not adapter.matches(tmp_path)
    assert not adapter.matches(tmp_path / "preprocessed" / "preprocessed_P1-epo.fif")
    x = ba.open_responses(tmp_path / "preprocessed", system="P1")
    assert x.sizes["presentation"] == N


def test_people_and_parts_that_are_not_there(tmp_path):
    folder = tmp_path / "preprocessed"
    write(folder)
    write(folder, 2)
    with pytest.raises(FormatError, match=r"holds the people 'P1', 'P2'. Choose one"):
        open_things_meg(folder, system="s")
    assert set(open_things_meg(folder, system="s", subject=2).subject.values) == {"P2"}
    with pytest.raises(FormatError, match=r"'P1', 'P2' and subject='P7'"):
        open_things_meg(folder, system="s", subject="P7")
    part = folder / "preprocessed_P1-epo-1.fif"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"'preprocessed_P1-epo-1.fif' ends at byte"):
        open_things_meg(folder, system="s", subject=1)
    part.unlink()
    with pytest.raises(FormatError, match=r"goes on in 'preprocessed_P1-epo-1.fif'"):
        open_things_meg(folder, system="s", subject=1)


def test_metadata_that_do_not_fit(tmp_path):
    folder = tmp_path / "preprocessed"
    write(folder, table=metadata().drop(columns="image_path"))
    with pytest.raises(FormatError, match=r"no metadata column 'image_path'. Its columns are \['trial_type'"):
        open_things_meg(folder, system="s")
    write(folder, table=metadata(image_path=[f"images_{i % 2}/same.jpg" for i in range(N)]))
    with pytest.raises(FormatError, match=r"image 'same' at 'images_0/same.jpg' and at 'images_1/same.jpg'"):
        open_things_meg(folder, system="s")


def test_catch_trials_without_a_picture_are_named_catch(tmp_path):
    folder = tmp_path / "preprocessed"
    table = metadata()
    table.loc[table.trial_type == "catch", "image_path"] = None
    write(folder, table=table)
    assert open_things_meg(folder, system="s").stimulus_id.values[9] == "catch"

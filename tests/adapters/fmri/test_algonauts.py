import h5py
import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.fmri.algonauts import adapter, open_algonauts, read_words_per_tr
from brainalign.core.errors import FormatError, ParameterError

RNG = np.random.default_rng(0)
LH, RH = RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=(4, 2)).astype(np.float32)
IMAGES = ["nsd-00013", "nsd-72999", "nsd-00000", "nsd-00100"]


@pytest.fixture
def subject(tmp_path):
    """Write one person of 2023, as the organisers' script does (simulated values)."""
    folder = tmp_path / "subj01"
    for name in ("training_split/training_fmri", "training_split/training_images", "roi_masks"):
        (folder / name).mkdir(parents=True)
    for side, values, vertices in (("lh", LH, [5, 7, 100]), ("rh", RH, [0, 163841])):
        np.save(folder / f"training_split/training_fmri/{side}_training_fmri.npy", values)
        mask = np.zeros(163842, dtype=np.int64)
        mask[vertices] = 1
        np.save(folder / f"roi_masks/{side}.all-vertices_fsaverage_space.npy", mask)
        np.save(folder / f"roi_masks/{side}.streams_challenge_space.npy", np.array([1, 0, 5][: len(vertices)]))
        np.save(folder / f"roi_masks/{side}.streams_fsaverage_space.npy", mask)
    np.save(folder / "roi_masks/mapping_streams.npy", np.array({0: "Unknown", 1: "early"}, dtype=object), allow_pickle=True)
    for number, image in enumerate(IMAGES, 1):
        (folder / f"training_split/training_images/train-{number:04d}_{image}.png").touch()
    return folder


def test_images_are_named_by_their_nsd_index_from_0(subject):
    x = ba.open_responses(subject)
    np.testing.assert_array_equal(x.values, np.hstack([LH, RH]))
    assert x.stimulus_id.values.tolist() == IMAGES
    assert x.neuroid_id.values.tolist() == ["L5", "L7", "L100", "R0", "R163841"]
    assert x.vertex.values.tolist() == [5, 7, 100, 0, 163841]
    assert x.hemisphere.values.tolist() == ["L", "L", "L", "R", "R"]
    assert x.roi_streams.values.tolist() == ["early", "", "ventral", "early", ""]
    assert np.isnan(x.n_repeats.values).all()  # averaged, of how many the files do not say
    assert (x.system.values[0], x.attrs["units"]) == ("subj01", "z")
    assert ba.core.provenance(x).steps[-2]["params"]["index_base"] == 0
    ba.validate(x, deep=True)


def test_the_names_of_the_files_say_the_rows_not_their_alphabet(subject):
    images = subject / "training_split/training_images"
    (images / "train-0004_nsd-00100.png").rename(images / "train-4_nsd-00100.png")  # sorts before all others of its length
    assert open_algonauts(subject).stimulus_id.values.tolist() == IMAGES


def test_regions_have_the_names_of_nsd_or_those_that_are_given(subject):
    assert open_algonauts(subject, region="streams").region.values.tolist() == ["early", "", "ventral", "early", ""]
    own = open_algonauts(subject, region="streams", region_names={"streams": {1: "one", 5: "five"}})
    assert own.region.values.tolist() == ["one", "", "five", "one", ""]
    assert own.roi_streams.values.tolist() == own.region.values.tolist()
    with pytest.raises(ParameterError, match=r"region='floc-faces'; the masks .*'roi_streams'"):
        open_algonauts(subject, region="floc-faces")
    with pytest.raises(ParameterError, match=r"region_names\['streams'\] has no name for 5"):
        open_algonauts(subject, region_names={"streams": {1: "early"}})
    with pytest.raises(ParameterError, match=r"the masks 'stream'; .* has 'streams'"):
        open_algonauts(subject, region_names={"stream": {1: "early"}})


def test_a_mask_without_names_keeps_its_numbers(subject):
    for side, numbers in (("lh", [3, 0, 4]), ("rh", [3, 0])):
        np.save(subject / f"roi_masks/{side}.own_challenge_space.npy", np.array(numbers))
    assert open_algonauts(subject).roi_own.values.tolist() == [3, 0, 4, 3, 0]
    with pytest.raises(ParameterError, match=r"region='own' without names.*region_names="):
        open_algonauts(subject, region="own")


def test_files_of_another_person_or_missing(subject):
    (subject / "training_split/training_images/train-0002_nsd-72999.png").unlink()
    with pytest.raises(FormatError, match=r"holds 3 images; numbers 2 are missing"):
        open_algonauts(subject)
    (subject / "training_split/training_images/train-0004_nsd-00100.png").rename(
        subject / "training_split/training_images/train-0002_nsd-00100.png"
    )
    with pytest.raises(FormatError, match=r"'lh_training_fmri.npy' .* has shape \(4, 3\), and there are 3 images"):
        open_algonauts(subject)


def test_an_image_that_is_counted_from_1_is_refused(subject):
    images = subject / "training_split/training_images"
    (images / "train-0002_nsd-72999.png").rename(images / "train-0002_nsd-73000.png")
    with pytest.raises(FormatError, match=r"other names are 'train-0002_nsd-73000.png'.* up to nsd-72999"):
        open_algonauts(subject)


def test_the_images_of_the_test_come_where_their_responses_are(subject):
    part = subject / "test_split"
    (part / "test_images").mkdir(parents=True)
    (part / "test_images/test-0001_nsd-00845.png").touch()
    with pytest.raises(FormatError, match=r"no file '.*lh_test_fmri.npy'"):  # the challenge keeps them to itself
        open_algonauts(subject, split="test")
    (part / "test_fmri").mkdir()
    for side, values in (("lh", LH), ("rh", RH)):
        np.save(part / f"test_fmri/{side}_test_fmri.npy", values[:1])
    x = open_algonauts(subject, split="test")
    assert x.stimulus_id.values.tolist() == ["nsd-00845"]
    np.testing.assert_array_equal(x.values, np.hstack([LH, RH])[:1])


def test_masks_of_another_person(subject):
    np.save(subject / "roi_masks/rh.streams_challenge_space.npy", np.zeros(7))
    with pytest.raises(FormatError, match=r"'rh.streams_challenge_space.npy' has shape \(7,\). Expected 2 vertices"):
        open_algonauts(subject)
    np.save(subject / "roi_masks/rh.all-vertices_fsaverage_space.npy", np.ones(9))
    with pytest.raises(FormatError, match=r"keeps 9 vertices; the responses have 2"):
        open_algonauts(subject)
    (subject / "roi_masks/rh.all-vertices_fsaverage_space.npy").unlink()
    with pytest.raises(FormatError, match=r"no file .*rh.all-vertices_fsaverage_space.npy"):
        open_algonauts(subject)


def films(path, **arrays):
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key.replace("__", "-")] = values
    return path


@pytest.fixture
def bold(tmp_path):
    """Write a file of 2025 (simulated values): ten parcels, films of other lengths, one of them shown twice."""
    keys = {
        "ses__001_task__s01e01a": 5,
        "ses__001_task__s01e02a": 4,
        "ses__006_task__life01_run__1": 3,
        "ses__009_task__life01_run__2": 4,
    }
    values = {key: RNG.normal(size=(n, 10)).astype(np.float32) for key, n in keys.items()}
    return films(tmp_path / "sub-01_task-friends_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net_bold.h5", **values)


def test_films_are_runs_and_a_film_shown_again_repeats(bold):
    x = ba.open_responses(bold)
    assert x.shape == (16, 10)
    runs = x.run.values.tolist()
    assert list(dict.fromkeys(runs)) == ["s01e01a", "s01e02a", "life01_run-1", "life01_run-2"]
    np.testing.assert_allclose(x.onset_s.values[:5], 1.49 * np.arange(5))
    assert x.onset_s.values[5] == 0
    assert x.session.values.tolist() == ["001"] * 9 + ["006"] * 3 + ["009"] * 4
    life = x[x.film.values == "life01"]
    assert life.repetition.values.tolist() == [0, 0, 0, 1, 1, 1, 0]  # the second run is longer
    assert life.stimulus_id.values[0] == "life01/v00000"
    assert x.neuroid_id.values.tolist() == list(range(1, 11))
    assert (x.system.values[0], x.attrs.get("units")) == ("sub-01", None)
    with h5py.File(bold) as file:
        np.testing.assert_array_equal(x.values[:5], file["ses-001_task-s01e01a"])
    ba.validate(x, deep=True)


def test_the_tr_is_in_seconds(bold):
    assert open_algonauts(bold, tr_s=1.5).onset_s.values[4] == 6.0
    with pytest.raises(ParameterError, match=r"'tr_s' .* range \(0, 50.0\]. Got 1490"):
        open_algonauts(bold, tr_s=1490)


def test_films_are_chosen_by_name_and_only_they_are_read(tmp_path, bytes_read, bold):
    x = open_algonauts(bold, films=["s01*"])
    assert set(x.film.values.tolist()) == {"s01e01a", "s01e02a"}
    with pytest.raises(ParameterError, match=r"none for 's07\*'. There are 's01e01a'"):
        open_algonauts(bold, films=["life*", "s07*"])
    big = films(tmp_path / "sub-02_bold.h5", s01e01a=np.zeros((4000, 100)), s01e01b=np.zeros((4000, 100)))
    assert bytes_read(open_algonauts, big) < 100_000
    assert bytes_read(open_algonauts(big)[:10].compute) < 4000 * 100 * 8 + 100_000  # one film of the two


def test_a_folder_of_files_is_one_person(bold):
    films(bold.parent / "sub-01_task-movie10_bold.h5", bourne01=np.ones((2, 10)))
    (bold.parent / "._sub-01_task-movie10_bold.h5").write_bytes(b"\x00\x05\x16\x07")  # of macOS
    x = open_algonauts(bold.parent)
    assert x.sizes["presentation"] == 18
    assert set(x.film.values.tolist()) == {"s01e01a", "s01e02a", "life01", "bourne01"}
    films(bold.parent / "sub-02_task-movie10_bold.h5", bourne02=np.ones((2, 10)))
    for system in (None, "sub-01"):
        with pytest.raises(ParameterError, match="name 2 people"):
            open_algonauts(bold.parent, system=system)


def test_other_files(tmp_path):
    file = films(tmp_path / "sub-01_a_bold.h5", s01e01a=np.ones((2, 10)), s01e01b=np.ones((2, 9)))
    with pytest.raises(FormatError, match=r"shape \(2, 9\) at 's01e01b', and 's01e01a' \(2, 10\)"):
        open_algonauts(file)
    file = films(tmp_path / "sub-01_b_bold.h5", **{"_x": np.ones((2, 10))})
    with pytest.raises(FormatError, match=r"holds '_x'. Expected arrays named"):
        open_algonauts(file)
    assert not adapter.matches(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"no folder 'training_split' \(2023\) and no '\*_bold.h5' \(2025\)"):
        open_algonauts(tmp_path / "empty")
    file = films(tmp_path / "sub-01_c_bold.h5", s01e01a=np.array([[1.0, np.nan]]))
    with pytest.raises(FormatError, match="neuroid 1"):
        open_algonauts(file).compute()
    assert np.isnan(open_algonauts(file, allow_nan=True).values[0, 1])


def test_words_of_each_volume(tmp_path):
    file = tmp_path / "friends_s01e01a.tsv"
    file.write_text(
        "text_per_tr\twords_per_tr\tonsets_per_tr\tdurations_per_tr\n"
        'There\'s nothing\t"[""There\'s"", \'nothing\']"\t[0.5, 1.1]\t[0.2, 0.3]\n'
        "\t[]\t[]\t[]\n"
        "to tell!\t['to', 'tell!']\t[3.1, 3.3]\t[0.1, 0.4]\n"
    )
    words = read_words_per_tr(file)
    assert words.text.tolist() == ["There's", "nothing", "to", "tell!"]
    assert words.onset_s.tolist() == [0.5, 1.1, 3.1, 3.3]
    assert words.volume.tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("['a', 'b']\t[0.5]\t[0.1, 0.1]", r"2 words, 1 onsets and 2 durations in row 0"),
        ("['a'\t[0.5]\t[0.1]", r"\"\['a'\" in row 0 of 'words_per_tr'"),
        ("__import__('os')\t[0.5]\t[0.1]", r"in row 0 of 'words_per_tr'"),
        ("['a']\t['x']\t[0.1]", r"onsets \['x'\].*Expected seconds"),
        ("[]\t[]\t[]", "no word in 1 rows"),
    ],
)
def test_transcripts_that_are_damaged(tmp_path, row, said):
    (tmp_path / "a.tsv").write_text(f"words_per_tr\tonsets_per_tr\tdurations_per_tr\n{row}\n")
    with pytest.raises(FormatError, match=said):
        read_words_per_tr(tmp_path / "a.tsv")


def test_damage(bold, survives_damage):
    assert survives_damage(bold, lambda: open_algonauts(bold).compute(), examples=25)

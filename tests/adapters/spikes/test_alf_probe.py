import numpy as np
import pytest

from brainalign.adapters.spikes.alf_files import collections
from brainalign.adapters.spikes.alf_probe import read_probe
from brainalign.core.errors import FormatError, ParameterError


@pytest.fixture
def probe(tmp_path):
    """Return a function that writes and reads a probe of three clusters on four channels."""

    def read(*, base=None, quality=None, **files):
        arrays = {
            "spikes.times": [0.1, 0.2, 0.3, 0.4], "spikes.clusters": np.array([2, 0, 2, 0], dtype=np.uint32),
            "clusters.depths": [10.0, 20.0, 30.0], "channels.rawInd": [0, 1, 2, 3],
            "channels.acronym": np.array(["VISp", "VISp", "LGd", "CA1"]), **files,
        }  # fmt: skip
        for name, array in arrays.items():
            if array is not None:
                np.save(tmp_path / f"{name}.npy", np.asarray(array))
        return read_probe("probe00", tmp_path, collections(tmp_path)[tmp_path], base, quality)

    return read


def test_spikes_by_cluster_and_clusters_without_spikes(probe):
    found = probe(**{"clusters.channels": [3, 1, 0]})
    assert [train.tolist() for train in found.times] == [[0.2, 0.4], [], [0.1, 0.3]]
    assert found.labels["n_spikes"].tolist() == [2, 0, 2]
    assert found.labels["region"].tolist() == ["CA1", "VISp", "VISp"]
    assert found.labels["channel"].tolist() == ["3", "1", "0"]
    assert (found.region_from, found.index_base) == ("channels.acronym", 0)
    kept = probe(quality={"depths": ">10"})
    assert (kept.rows.tolist(), [t.size for t in kept.times]) == ([1, 2], [0, 2])


def test_peak_channels_count_from_0_or_1_or_must_be_told(probe):
    assert probe(**{"clusters.peakChannel": [0, 1, 3]}).labels["region"].tolist() == ["VISp", "VISp", "CA1"]
    one = probe(**{"clusters.peakChannel": [[4.0], [1.0], [3.0]]})
    assert (one.index_base, one.labels["region"].tolist()) == (1, ["CA1", "VISp", "LGd"])
    with pytest.raises(
        ParameterError, match=r"peakChannel from 1 to 3, and 4 channels: they may count from 0 or from 1.*index_base="
    ):
        probe(**{"clusters.peakChannel": [1, 2, 3]})
    assert probe(base=1, **{"clusters.peakChannel": [1, 2, 3]}).labels["region"].tolist() == ["VISp", "VISp", "LGd"]
    with pytest.raises(FormatError, match=r"from 0 to 4, and 4 channels: .* bases are mixed"):
        probe(**{"clusters.peakChannel": [0, 2, 4]})
    outside = probe(base=1, **{"clusters.peakChannel": [1, 2, 9]})
    assert outside.labels["region"].tolist() == ["VISp", "VISp", "unknown"]
    assert outside.labels["channel"].tolist() == ["0", "1", "unknown"]


def test_channels_of_alf_count_from_0(probe):
    assert probe(**{"clusters.channels": [1, 2, 3]}).index_base == 0
    with pytest.raises(ParameterError, match="ALF counts from 0, and these do not"):
        probe(**{"clusters.channels": [1, 2, 4]})


def test_regions_of_the_clusters_themselves_and_numbers_of_an_atlas(probe):
    assert probe(**{"clusters.acronym": np.array(["a", "", "c"])}).labels["region"].tolist() == ["a", "unknown", "c"]
    found = probe(**{"clusters.acronym": np.array([385.0, np.nan, 170.0])})
    assert found.labels["region"].tolist() == ["385", "unknown", "170"]


def test_without_names_of_places_there_is_no_region(probe):
    found = probe(**{"clusters.channels": [0, 1, 2], "channels.acronym": None, "channels.site": [0, 1, 2, 3]})
    assert found.region_from is None
    assert "region" not in found.labels
    own = probe(**{"clusters.channels": [0, 1, 2], "clusters.acronym": np.array(["a", "b", "c"])})
    assert (own.region_from, own.labels["channel"].size) == ("clusters.acronym", 3)


def test_metrics_are_joined_on_their_cluster(probe, tmp_path):
    (tmp_path / "clusters.metrics.csv").write_text("cluster_id,label\n2,1\n0,0.33\n")
    found = probe()
    np.testing.assert_array_equal(found.labels["label"], [0.33, np.nan, 1.0])
    assert probe(quality={"label": 1}).rows.tolist() == [2]
    (tmp_path / "clusters.metrics.csv").write_text("cluster_id,label\n3,1\n0,0.33\n")
    with pytest.raises(FormatError, match=r"names the clusters 0 to 3, 2 rows, and there are 3"):
        probe()
    (tmp_path / "clusters.metrics.csv").write_text("label\n1\n0\n")
    with pytest.raises(FormatError, match="2 rows for 3 clusters, and no cluster_id"):
        probe()


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({"spikes.clusters": [0, 1, 2, 3]}, FormatError, "clusters 0 to 3, and 3 clusters"),
        ({"spikes.clusters": [0, 1, 2]}, FormatError, r"shape \(4,\) and spikes.clusters of shape \(3,\)"),
        ({"spikes.clusters": [0.0, 1.5, 2.0, 0.0]}, FormatError, "float64"),
        ({"spikes.times": [0.4, 0.3, 0.2, 0.1]}, ParameterError, "'probe00': the spike times of unit '0' go back"),
        ({"spikes.times": [0.1, np.nan, 0.3, 0.4]}, ParameterError, "not all finite"),
        ({"spikes.clusters": None}, FormatError, "no spikes.clusters"),
        ({"clusters.channels": [0.0, np.nan, 1.0]}, FormatError, "no whole numbers"),
    ],
)
def test_files_that_do_not_fit(probe, files, error, says):
    with pytest.raises(error, match=says):
        probe(**files)

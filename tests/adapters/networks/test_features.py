import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

import brainalign as ba
from brainalign.adapters.networks.features import adapter, open_features
from brainalign.core.errors import FormatError, ParameterError

RNG = np.random.default_rng(0)
FLAT = RNG.normal(size=(4, 6))
MAPS = RNG.normal(size=(4, 2, 3, 3))
NAMES = ["dog/d_10.jpg", "dog/d_2.jpg", "ant/a.JPEG", "cat/c.png"]  # in the order of the loader, not of the alphabet
IDS = ["d_10", "d_2", "a", "c"]
NET = {"system": "net"}


def thingsvision(folder, name="features.npy", values=FLAT, names=NAMES):
    folder.mkdir(exist_ok=True)
    (folder / "file_names.txt").write_text("".join(f"{item}\n" for item in names))
    file = folder / name
    if name.endswith(".npy"):
        np.save(file, values)
    elif name.endswith("5"):
        with h5py.File(file, "w") as opened:
            opened["features"] = values
    elif name.endswith(".txt"):
        np.savetxt(file, values)
    elif name.endswith(".pt"):
        torch.save(torch.as_tensor(values), file)
    else:
        savemat(file, {"features": values})
    return folder


def net2brain(folder, layers, names=NAMES, *, per="stimuli", prefix="consolidated_"):
    """Write what Net2Brain does: arrays with a batch of one, a file a stimulus (or a layer)."""
    folder.mkdir(exist_ok=True)
    short = [name.rpartition("/")[2] for name in names]
    if per == "stimuli":
        for row, name in enumerate(short):
            np.savez_compressed(folder / f"{name}.npz", **{layer: values[row : row + 1] for layer, values in layers.items()})
    else:
        for layer, values in layers.items():
            np.savez_compressed(
                folder / f"{prefix}{layer}.npz", **{name: values[row : row + 1] for row, name in enumerate(short)}
            )
    return folder


@pytest.mark.parametrize("name", ["features.npy", "features.hdf5", "features.mat", "features.txt", "features.pt"])
def test_thingsvision_rows_are_named_by_its_list(tmp_path, name):
    folder = thingsvision(tmp_path / "f", name)
    assert "thingsvision" in adapter.matches(folder)
    x = open_features(folder, layer="avgpool", **NET)
    np.testing.assert_allclose(x.values, FLAT, rtol=1e-6)
    assert x.stimulus_id.values.tolist() == IDS
    assert set(x.layer.values.tolist()) == {"avgpool"}
    assert x.neuroid_id.values.tolist() == list(range(6))
    assert (x.attrs["modality"], x.attrs["units"], x.attrs["deterministic"]) == ("ann", "activation", True)
    ba.validate(x, deep=True)


def test_matlab_fields_are_found_by_name(tmp_path):
    folder = thingsvision(tmp_path / "f", names=["b.jpg", "a.jpg", "c.jpg", "d.jpg"])
    (folder / "features.npy").unlink()
    savemat(folder / "features.mat", {name: FLAT[row] for name, row in (("a", 1), ("d", 3), ("c", 2), ("b", 0))})
    x = open_features(folder, layer="fc", **NET)
    assert x.stimulus_id.values.tolist() == ["b", "a", "c", "d"]
    np.testing.assert_allclose(x.values, FLAT, rtol=1e-6)


def test_parts_go_by_their_numbers(tmp_path):
    folder = tmp_path / "f"
    for number, row in ((10, 3), (2, 1), (1, 0), (9, 2)):
        thingsvision(folder, f"features_{number:02d}.npy", FLAT[row : row + 1])
    np.testing.assert_allclose(open_features(folder, layer="fc", **NET).values, FLAT, rtol=1e-6)
    with h5py.File(thingsvision(tmp_path / "g", "features.hdf5") / "features.hdf5", "w") as file:
        file["features_02"], file["features_01"] = FLAT[2:], FLAT[:2]
    np.testing.assert_allclose(open_features(tmp_path / "g", layer="fc", **NET).values, FLAT, rtol=1e-6)


def test_maps_are_flattened_with_their_coordinates(tmp_path):
    x = open_features(thingsvision(tmp_path / "f", values=MAPS), layer="conv", **NET)
    np.testing.assert_allclose(x.values, MAPS.reshape(4, -1), rtol=1e-6)
    at = {name: x[name].values for name in ("unit", "channel_y", "channel_x")}
    np.testing.assert_allclose(x.values[1], MAPS[1, at["unit"], at["channel_y"], at["channel_x"]], rtol=1e-6)


@pytest.mark.parametrize("per", ["stimuli", "layers"])
def test_net2brain_by_stimulus_and_by_layer(tmp_path, per):
    folder = net2brain(tmp_path / "f", {"layer1.0": MAPS, "fc": FLAT}, per=per)
    assert "Net2Brain" in adapter.matches(folder)
    x = ba.open_responses(folder, **NET)
    by_id = x.isel(presentation=[x.stimulus_id.values.tolist().index(name) for name in IDS])
    np.testing.assert_allclose(by_id[:, x.layer == "layer1.0"].values, MAPS.reshape(4, -1), rtol=1e-6)
    np.testing.assert_allclose(by_id[:, x.layer == "fc"].values, FLAT, rtol=1e-6)
    assert x.channel_x.values[x.layer == "fc"].tolist() == [-1] * 6  # a vector has no place in a map
    one = open_features(folder, layer="fc", **NET)
    assert (one.shape, "channel_x" in one.coords) == ((4, 6), False)


def test_files_of_layers_without_a_prefix_must_be_named(tmp_path):
    folder = net2brain(tmp_path / "f", {"fc": FLAT}, per="layers", prefix="")
    x = open_features(folder, files="layers", **NET)
    np.testing.assert_allclose(x.values, FLAT, rtol=1e-6)
    assert x.stimulus_id.values.tolist() == IDS


def test_opening_reads_headers_and_a_block_its_own_files(tmp_path, bytes_read):
    values = RNG.normal(size=(4, 50_000))
    folder = net2brain(tmp_path / "f", {"fc": values})
    assert bytes_read(open_features, folder, **NET) < 4 * 20_000
    x = open_features(folder, **NET)
    assert bytes_read(x[:1].compute) < 50_000 * 8 + 50_000
    folder = thingsvision(tmp_path / "g", values=values)
    assert bytes_read(open_features, folder, layer="fc", **NET) < 50_000
    assert bytes_read(open_features(folder, layer="fc", **NET)[1:2].compute) < 50_000 * 8 + 50_000


def test_a_layer_that_one_file_lacks_or_has_in_another_shape(tmp_path):
    folder = net2brain(tmp_path / "f", {"fc": FLAT, "conv": MAPS})
    np.savez(folder / "c.png.npz", conv=MAPS[:1])
    with pytest.raises(FormatError, match=r"c.png.npz' has no array 'fc', which 'a.JPEG.npz' has; it has 'conv'"):
        open_features(folder, **NET)
    assert open_features(folder, layer="conv", **NET).shape == (4, 18)
    np.savez(folder / "c.png.npz", conv=MAPS[:1, :, :2], fc=FLAT[:1])
    with pytest.raises(FormatError, match=r"c.png.npz' has shape \(1, 2, 2, 3\) for 'conv', and .*a.JPEG.npz' \(1, 2, 3, 3\)"):
        open_features(folder, **NET)
    with pytest.raises(ParameterError, match=r"layer='con'; .* has 'fc', 'conv'. Did you mean 'conv'"):
        open_features(folder, layer="con", **NET)
    for layers in ([], ["conv", "conv"]):
        with pytest.raises(ParameterError, match=r"got layer=\[.*Expected at least one layer, each once"):
            open_features(folder, layer=layers, **NET)


def test_what_are_no_real_numbers_is_named(tmp_path):
    folder = net2brain(tmp_path / "f", {"fc": FLAT})
    for wrong in (FLAT[:1] * 1j, np.array([["a", "b"]])):
        np.savez(folder / "c.png.npz", fc=wrong)
        with pytest.raises(FormatError, match=r"c.png.npz' has dtype .* for 'fc'. Expected real numbers"):
            open_features(folder, **NET)


def test_stimuli_that_one_layer_lacks_or_has_more(tmp_path):
    folder = net2brain(tmp_path / "f", {"a": FLAT, "b": FLAT}, per="layers")
    np.savez(
        folder / "consolidated_b.npz", **{f"{name}": FLAT[:1] for name in [*(n.rpartition("/")[2] for n in NAMES), "more.png"]}
    )
    with pytest.raises(FormatError, match=r"consolidated_b.npz' has the stimuli 'more.png', which other layers lack"):
        open_features(folder, **NET)


def test_names_and_rows_must_be_of_one_run(tmp_path):
    with pytest.raises(FormatError, match=r"holds 4 rows of shape \(6,\) and 3 names in 'file_names.txt'"):
        open_features(thingsvision(tmp_path / "f", names=NAMES[:3]), layer="fc", **NET)
    folder = thingsvision(tmp_path / "g", "features.txt")
    np.save(folder / "features.npy", FLAT)
    with pytest.raises(FormatError, match=r"features of 2 kinds: 'features.npy', 'features.txt'"):
        open_features(folder, layer="fc", **NET)
    with pytest.raises(ParameterError, match=r"layer=None .* does not keep the name of the layer"):
        open_features(folder, **NET)
    with pytest.raises(FormatError, match="no folder"):
        open_features(tmp_path / "h", **NET)
    (tmp_path / "h").mkdir()
    with pytest.raises(FormatError, match="no npz files"):
        open_features(tmp_path / "h", **NET)


def test_containers_without_features_list_what_they_hold(tmp_path):
    folder = thingsvision(tmp_path / "f")
    for file in folder.glob("features*"):
        file.unlink()
    savemat(folder / "features.mat", {"x": FLAT})
    with pytest.raises(FormatError, match=r"features.mat' has the fields 'x'. Expected 'features', or the names"):
        open_features(folder, layer="fc", **NET)
    (folder / "features.mat").unlink()
    with h5py.File(folder / "features.h5", "w") as file:
        file["x"] = FLAT
    with pytest.raises(FormatError, match=r"features.h5' holds 'x'. Expected an array 'features'"):
        open_features(folder, layer="fc", **NET)


def test_two_names_that_become_one_id_need_ids(tmp_path):
    folder = thingsvision(tmp_path / "f", names=["a/1.jpg", "b/1.jpg", "c.jpg", "d.jpg"])
    with pytest.raises(FormatError, match=r"both called '1': 'a/1.jpg' and 'b/1.jpg'.*stimulus_id="):
        open_features(folder, layer="fc", **NET)
    ids = {"b/1.jpg": "two", "a/1.jpg": "one", "c.jpg": "three", "d.jpg": "four"}
    x = open_features(folder, layer="fc", stimulus_id=ids, **NET)
    assert x.stimulus_id.values.tolist() == ["one", "two", "three", "four"]
    with pytest.raises(ParameterError, match=r"no id for 1 of 4 names .*'d.jpg'"):
        open_features(folder, layer="fc", stimulus_id={name: name for name in list(ids)[:3]}, **NET)


def test_nan_and_pickles(tmp_path):
    values = FLAT.copy()
    values[2, 5] = np.nan
    for name in ("features.npy", "features.pt", "features.mat"):
        folder = thingsvision(tmp_path / name[-3:], name, values)
        with pytest.raises(FormatError, match="1 values that are NaN"):
            open_features(folder, layer="fc", **NET).compute()
        assert np.isnan(open_features(folder, layer="fc", allow_nan=True, **NET).values[2, 5])
    folder = net2brain(tmp_path / "n", {"fc": values})
    with pytest.raises(FormatError, match=r"1 values that are NaN .* neuroid 5"):
        open_features(folder, **NET).compute()
    np.savez(folder / "c.png.npz", fc=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match="pickled"):
        open_features(folder, **NET)


def test_damage(tmp_path, survives_damage):
    folder = net2brain(tmp_path / "f", {"fc": FLAT})
    assert survives_damage(folder / "c.png.npz", lambda: open_features(folder, **NET).compute(), header=200, examples=20)
    for name in ("features.pt", "features.txt", "features.mat"):
        folder = thingsvision(tmp_path / name[-3:], name)
        assert survives_damage(
            folder / name, lambda folder=folder: open_features(folder, layer="fc", **NET).compute(), examples=10
        )


def test_looking_at_files_does_not_import_torch():
    code = "import sys; from brainalign.adapters.networks.features import adapter; adapter.matches('.'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_features_run_in_evaluate(tmp_path):
    values = RNG.normal(size=(40, 5))
    x = open_features(thingsvision(tmp_path / "f", values=values, names=[f"{i}.png" for i in range(40)]), layer="fc", **NET)
    y = ba.responses(
        values @ RNG.normal(size=(5, 3)),
        stimulus_id=[str(i) for i in range(40)],
        neuroid_id=range(3),
        modality="fmri",
        system="s",
    )
    assert float(ba.evaluate(x, y, model=ba.Ridge(), cv=4).score.mean()) > 0.99

import numpy as np
import pytest

from brainalign.engine.backend import (
    cast,
    even_slices,
    is_torch,
    like,
    move,
    namespace,
    resolve_device,
    rows_of,
    to_numpy,
    whole_float32,
)

torch = pytest.importorskip("torch")


def test_the_library_is_read_off_the_array():
    assert namespace(np.zeros(2)) is np
    assert namespace(torch.zeros(2)) is torch
    assert is_torch(torch.zeros(2))
    assert not is_torch([1.0])


def test_numpy_stays_numpy_on_the_cpu():
    x = np.zeros((2, 3), dtype=np.float32)
    assert move(x, "cpu") is x
    assert cast(x, "float32") is x
    assert cast(x, "float64").dtype == np.float64
    assert move(torch.zeros(2), "cpu").device.type == "cpu"


def test_other_devices_take_tensors():
    moved = move(np.asfortranarray(np.ones((2, 3))), "meta")
    assert is_torch(moved)
    assert moved.shape == (2, 3)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_helpers_speak_both(make):
    x = make(np.arange(6.0).reshape(3, 2))
    assert to_numpy(rows_of(x, np.array([2, 0]))).tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert is_torch(like([1, 2], x)) == is_torch(x)
    assert to_numpy(like([1, 2], x)).dtype == np.float64
    assert to_numpy(cast(x, "float32")).dtype == np.float32


def test_auto_is_a_device_that_exists():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert [resolve_device(name) for name in ("cuda:99", "tpu", 1.5)] == [None] * 3


def test_convolutions_keep_their_digits_and_the_setting_comes_back():
    torch.backends.cudnn.allow_tf32 = True
    inside = []

    def fail():
        with whole_float32():
            inside.append(torch.backends.cudnn.allow_tf32)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert inside == [False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("n", "size"), [(0, 3), (1, 3), (7, 3), (9, 3), (1000, 64)])
def test_even_slices_cover_all_once_and_differ_by_one(n, size):
    parts = even_slices(n, size)
    assert np.concatenate([np.arange(n)[part] for part in parts]).tolist() == list(range(n))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == max(1, -(-n // size))

import numpy as np
import pytest

from brainalign.engine.krylov import leading_eigenvector

RNG = np.random.default_rng(0)


def symmetric(values):
    Q = np.linalg.qr(RNG.normal(size=(len(values), len(values))))[0]
    return (Q * values) @ Q.T, Q


@pytest.mark.parametrize("n", [1, 2, 7, 60, 300])
def test_equal_to_a_full_decomposition(n):
    A, Q = symmetric(np.arange(1.0, n + 1) ** 2)
    vector, value, block = leading_eigenvector(lambda B: A @ B, RNG.normal(size=(n, min(n, 2))))
    assert value == pytest.approx(n**2)
    assert abs(vector @ Q[:, -1]) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(A @ vector - value * vector) <= 1e-9 * value
    assert len(block) == n


def test_two_values_that_nearly_tie_are_still_told_apart():
    A, Q = symmetric(np.r_[np.linspace(0, 1 - 1e-7, 399), 1.0])
    vector, value, _ = leading_eigenvector(lambda B: A @ B, RNG.normal(size=(400, 1)))
    assert value == pytest.approx(1)
    assert abs(vector @ Q[:, -1]) == pytest.approx(1, abs=1e-4)


def test_a_start_among_the_null_directions_does_no_harm():
    A, Q = symmetric(np.r_[np.zeros(30), 1.0, 2.0])
    vector, value, _ = leading_eigenvector(lambda B: A @ B, np.c_[Q[:, 0], Q[:, -2] + Q[:, -1]])
    assert value == pytest.approx(2)
    assert abs(vector @ Q[:, -1]) == pytest.approx(1)


def test_nothing_has_the_eigenvalue_zero():
    vector, value, _ = leading_eigenvector(lambda B: 0 * B, np.zeros((5, 2)))
    assert value == 0
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_the_next_ones_come_along():
    A, Q = symmetric(np.r_[np.linspace(0, 1, 97), 10.0, 20.0, 30.0])
    block = leading_eigenvector(lambda B: A @ B, RNG.normal(size=(100, 2)))[2]
    assert np.linalg.norm(block.T @ Q[:, -2]) == pytest.approx(1, abs=1e-3)


def test_torch_tensors_give_what_arrays_give():
    torch = pytest.importorskip("torch")
    A, _ = symmetric(np.arange(1.0, 81))
    start = RNG.normal(size=(80, 2))
    ours = leading_eigenvector(lambda B: A @ B, start)[0]
    theirs = leading_eigenvector(lambda B: torch.from_numpy(A) @ B, torch.from_numpy(start))[0]
    assert abs(ours @ theirs.numpy()) == pytest.approx(1)

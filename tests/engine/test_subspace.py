import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from brainalign.engine.subspace import orthogonal_map, row_space, shared_maps

RNG = np.random.default_rng(0)


def centred(*shape):
    x = RNG.normal(size=shape)
    return x - x.mean(0)


def rotations(n_systems, width):
    return [ortho_group.rvs(width, random_state=i) for i in range(n_systems)]


def test_a_square_map_is_that_of_scipy():
    X, Y = centred(30, 6), centred(30, 6)
    np.testing.assert_allclose(orthogonal_map(X, Y), orthogonal_procrustes(X, Y)[0], atol=1e-12)


@pytest.mark.parametrize(("p", "q"), [(4, 9), (9, 4)])
def test_an_oblong_map_has_orthonormal_columns_or_rows(p, q):
    X, Y = centred(30, p), centred(30, q)
    R = orthogonal_map(X, Y)
    inner = R @ R.T if p < q else R.T @ R
    np.testing.assert_allclose(inner, np.eye(min(p, q)), atol=1e-12)
    other = np.linalg.qr(RNG.normal(size=(max(p, q), min(p, q))))[0]
    assert np.sum((X @ R) * Y) >= np.sum((X @ (other.T if p < q else other)) * Y)


@pytest.mark.parametrize("n", [40, 12])
def test_hyperalignment_undoes_rotations(n):
    base = centred(n, 20)
    systems = [base @ R for R in rotations(4, 20)]
    template, maps = shared_maps(systems, "hyperalignment")
    for x, R in zip(systems, maps, strict=True):
        np.testing.assert_allclose(x @ R, template, atol=1e-8)
    np.testing.assert_allclose(template @ template.T, base @ base.T, atol=1e-8)


def test_hyperalignment_ends_where_no_map_can_be_improved():
    systems = [centred(40, width) for width in (8, 5, 8)]
    template, maps = shared_maps(systems, "hyperalignment")
    for x, R in zip(systems, maps, strict=True):
        np.testing.assert_allclose(orthogonal_map(x, template), R, atol=1e-3)
    np.testing.assert_allclose(sum(x @ R for x, R in zip(systems, maps, strict=True)) / 3, template, atol=1e-3)


@pytest.mark.parametrize(("n", "widths"), [(60, (9, 15, 12)), (20, (60, 40, 90))])
def test_srm_finds_the_planted_responses(n, widths):
    shared = centred(n, 3)
    systems = [shared @ np.linalg.qr(RNG.normal(size=(p, 3)))[0].T for p in widths]
    template, maps = shared_maps(systems, "srm", 3)
    for x, W in zip(systems, maps, strict=True):
        np.testing.assert_allclose(W.T @ W, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(template @ W.T, x, atol=1e-8)


def test_srm_explains_more_than_where_it_starts():
    systems = [centred(50, 10) for _ in range(3)]
    error = lambda template, maps: sum(((x - template @ W.T) ** 2).sum() for x, W in zip(systems, maps, strict=True))  # noqa: E731
    template, maps = shared_maps(systems, "srm", 4)
    start = np.linalg.svd(np.hstack(systems), full_matrices=False)[0][:, :4]
    before = [orthogonal_map(x, start) for x in systems]
    assert error(template, maps) < error(sum(x @ W for x, W in zip(systems, before, strict=True)) / 3, before)


@pytest.mark.parametrize("n", [40, 12])
def test_procrustes_leaves_the_first_system_as_it_is(n):
    systems = [centred(n, 20), centred(n, 15)]
    template, maps = shared_maps(systems, "procrustes")
    np.testing.assert_allclose(systems[0] @ maps[0], template, atol=1e-9)
    np.testing.assert_allclose(template @ maps[0].T, systems[0], atol=1e-9)


@pytest.mark.parametrize("p", [8, 50])
def test_the_row_space_keeps_every_inner_product(p):
    x = centred(12, p)
    coordinates, dual = row_space(x)
    basis = x.T @ dual
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-9)
    np.testing.assert_allclose(coordinates @ basis.T, x, atol=1e-9)
    assert coordinates.shape == (12, min(p, 11))
    assert np.isfinite(row_space(0 * x)[1]).all()


@pytest.mark.parametrize("method", ["procrustes", "hyperalignment", "srm"])
def test_torch_tensors_give_what_arrays_give(method):
    torch = pytest.importorskip("torch")
    systems = [centred(10, 4), centred(10, 30)]
    ours, theirs = (shared_maps(group, method, 3) for group in (systems, [torch.from_numpy(x) for x in systems]))
    np.testing.assert_allclose(theirs[0] @ theirs[0].T, ours[0] @ ours[0].T, atol=1e-8)
    for R, Q in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(Q @ Q.T, R @ R.T, atol=1e-8)

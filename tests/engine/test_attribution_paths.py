"""Paths: their points, their weights, and the error of a mean over draws."""

import numpy as np
import torch

from brainalign.engine.attribution import System, path_sums
from brainalign.engine.attribution_paths import end_point, even_grid, from_one, gauss_legendre, stratified


def test_weights_add_up_to_one_and_points_lie_on_the_line():
    start = torch.zeros(1, 2)
    draws = stratified(from_one(start), 8, torch.Generator().manual_seed(0))
    for path in (gauss_legendre(start, 5), even_grid(start, 4), draws, end_point(start, times_step=True)):
        assert float(path.weights.sum()) == 1.0 or abs(float(path.weights.sum()) - 1) < 1e-12
        assert ((path.at >= 0) & (path.at <= 1)).all()
    assert even_grid(start, 4).at.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (torch.floor(draws.at * 8) == torch.arange(8)).all()


def test_nodes_are_exact_for_polynomials():
    x = torch.tensor([[2.0]], dtype=torch.float64)
    system = System(lambda z: z**6, x, 1, True)
    found = path_sums(system, gauss_legendre(torch.zeros_like(x), 3), torch.tensor([0]), torch.tensor([0]), mode="vjp", copies=9)
    assert abs(found.item() - 64) < 1e-12


def test_the_error_of_expected_gradients_falls_with_the_root_of_the_draws():
    """A linear function: the mean of the differences from baselines drawn."""
    x, pool = torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.randn(500, 1, 2, dtype=torch.float64)
    pool -= pool.mean(dim=0)
    w = torch.tensor([[0.5], [-2.0]], dtype=torch.float64)
    system, one, errors = System(lambda z: z @ w, x, 1, True), torch.tensor([0]), []
    sizes = [4, 16, 64, 256]
    for n in sizes:
        squares = []
        for seed in range(60):
            generator = torch.Generator().manual_seed(seed)
            draws = torch.randint(len(pool), (n,), generator=generator)
            path = stratified(lambda at, draws=draws: pool[draws[at]], n, generator)
            found = path_sums(system, path, one, one, mode="vjp", copies=n)[0, 0]
            squares.append(float(((found - w[:, 0] * x[0]) ** 2).sum()))
        errors.append(np.sqrt(np.mean(squares)))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.1

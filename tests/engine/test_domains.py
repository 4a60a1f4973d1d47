"""Other coordinates of inputs: there and back, and what is known of attributions to them."""

import numpy as np
import torch

from brainalign.engine.attribution import System, path_sums
from brainalign.engine.attribution_paths import gauss_legendre
from brainalign.engine.domains import Components, Frequencies

ONE = torch.tensor([0])


def attributed(domain, function, x, start):
    """Integrated gradients of one response to the coordinates of one input, (..., [2])."""
    z, z0 = domain.forward(x[None]), domain.forward(start[None])
    system = System(lambda u: function(domain.inverse(u))[:, None], z, 1, True)
    return path_sums(system, gauss_legendre(z0, 16), ONE, ONE, mode="vjp", copies=4)[0, 0]


def test_energy_is_attributed_to_frequencies_as_parseval_has_it():
    for n in (16, 15):
        x = torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        found = attributed(Frequencies(-1, n), lambda s: (s**2).sum(dim=1), x, 0 * x).sum(dim=-1)
        spectrum = torch.fft.rfft(x).abs() ** 2 / n
        twice = torch.full_like(spectrum, 2.0)
        twice[0] = 1
        if n % 2 == 0:
            twice[-1] = 1
        torch.testing.assert_close(found, twice * spectrum, atol=1e-14, rtol=1e-12)


def test_two_sines_are_found_where_they_are():
    t = torch.arange(16).double()
    x = torch.sin(2 * np.pi * 3 * t / 16) + 0.5 * torch.cos(2 * np.pi * 5 * t / 16)
    found = attributed(Frequencies(-1, 16), lambda s: (s**2).sum(dim=1), x, 0 * x).sum(dim=-1)
    expected = torch.zeros(9).double()
    expected[3], expected[5] = 8, 2
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_sums_do_not_depend_on_the_coordinates():
    generator = torch.Generator().manual_seed(0)
    x, start, w, m = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 8), (3, 8), (3, 8), (3, 3)))
    function = lambda s: torch.tanh(s * w).sum(dim=(1, 2)) ** 2  # noqa: E731
    change = function(x[None]) - function(start[None])
    for domain in (Frequencies(-1, 8), Frequencies(-2, 3), Components(m, -2, x[None])):
        torch.testing.assert_close(attributed(domain, function, x, start).sum(), change[0], rtol=1e-6, atol=1e-9)


def test_components_of_a_linear_response_are_weights_through_the_mixing():
    generator = torch.Generator().manual_seed(0)
    mixing, z, w = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 3), (3,), (5,)))
    domain = Components(mixing, -1, (mixing @ z)[None])
    torch.testing.assert_close(attributed(domain, lambda s: s @ w, mixing @ z, torch.zeros(5).double()), (mixing.T @ w) * z)


def test_what_no_component_holds_stays():
    x = torch.tensor([[1.0, 2.0, 3.0]])
    domain = Components(torch.tensor([[1.0], [0.0], [0.0]]), -1, x)
    assert domain.forward(x).tolist() == [[1]]
    assert domain.inverse(torch.tensor([[5.0], [0.0]])).tolist() == [[5, 2, 3], [0, 2, 3]]

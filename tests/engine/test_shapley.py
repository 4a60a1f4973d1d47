"""Shapley values with the answers that are known."""

import torch

from brainalign.engine.shapley import shapley_exact, shapley_sampled

WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 4.0]).double()


def one(values):
    return values.double()[:, None, None]


def game(shares):
    """Additive, and a product of the first three that is shared by them equally."""
    shares = shares.double()
    return one(shares @ WEIGHTS + 6 * shares[:, 0] * shares[:, 1] * shares[:, 2])


def test_exact_values_of_an_additive_game_and_a_product():
    torch.testing.assert_close(shapley_exact(game, 4)[0, 0], WEIGHTS + torch.tensor([2.0, 2.0, 2.0, 0.0]))


def test_a_glove_game():
    """One left glove and two right ones: a pair is worth 1, and the left glove two thirds of it."""
    gloves = lambda s: one(s[:, 0] * torch.maximum(s[:, 1], s[:, 2]))  # noqa: E731
    torch.testing.assert_close(shapley_exact(gloves, 3)[0, 0], torch.tensor([4, 1, 1]).double() / 6)


def test_sampled_values_lie_within_their_errors_and_add_up_exactly():
    values, errors = shapley_sampled(lambda k: game, 4, 400, seed=0)
    expected = WEIGHTS + torch.tensor([2.0, 2.0, 2.0, 0.0])
    assert ((values[0, 0] - expected).abs() <= 4 * errors[0, 0] + 1e-12).all()
    assert 0.05 < errors[0, 0, 0] < 0.2  # of 6 in a third of the permutations: 6 * sqrt(2 / 9 / 400) = 0.14
    torch.testing.assert_close(values.sum(), expected.sum())
    again = shapley_sampled(lambda k: game, 4, 400, seed=0)[0]
    assert torch.equal(values, again)
    assert not torch.equal(values, shapley_sampled(lambda k: game, 4, 400, seed=1)[0])


def test_errors_are_those_of_repeated_estimates():
    found = torch.stack([shapley_sampled(lambda k: game, 4, 20, seed=s)[0][0, 0, :3] for s in range(60)])
    error = shapley_sampled(lambda k: game, 4, 2000, seed=0)[1][0, 0, :3] * 10
    torch.testing.assert_close(found.std(dim=0), error, rtol=0.3, atol=0)


def test_an_additive_game_has_no_error():
    values, errors = shapley_sampled(lambda k: lambda s: one(s.double() @ WEIGHTS), 4, 3, seed=0)
    torch.testing.assert_close(values[0, 0], WEIGHTS)
    assert errors.max() < 1e-12

"""The attention network: its equations by hand, and two ways through it that give one result."""

import numpy as np
import pytest
import torch

from brainalign.engine.attention import AttentionNetwork, fit_readouts, sine_code, train


def network(n_queries=2, n_heads=2, seed=0):
    rng = np.random.default_rng(seed)
    columns = np.arange(12).reshape(4, 3)
    code = sine_code(np.linspace(-0.4, 0.4, 4)[:, None], np.array([0.25]), 6)
    return AttentionNetwork(columns, np.ones(12, bool), rng.normal(size=3), rng.uniform(1, 2, size=3), code, n_queries, n_heads,
                            torch.Generator().manual_seed(seed))  # fmt: skip


def test_is_the_equation():
    net, rng = network(n_heads=1), np.random.default_rng(1)
    weight, bias = rng.normal(size=(3, 3)), rng.normal(size=3)
    net.read(weight, bias, np.array([1, 0, 1]))
    x = rng.normal(size=(5, 12)).astype(np.float32)
    maps = (x.reshape(5, 4, 3) - net.mean.numpy()) / net.scale.numpy()
    key, query = net.key.detach().numpy()[:, 0], net.query.detach().numpy()[:, 0]
    energy = np.einsum("ntd,qd->nqt", maps @ key + net.code.numpy(), query) / np.sqrt(6)
    looks = np.exp(energy) / np.exp(energy).sum(axis=2, keepdims=True)
    seen = np.einsum("nqt,ntc->nqc", looks, maps)
    expected = np.stack([seen[:, q] @ weight[:, k] + bias[k] for k, q in enumerate((1, 0, 1))], axis=1)
    np.testing.assert_allclose(net(torch.as_tensor(x)).detach().numpy(), expected, atol=1e-5)


def test_reading_before_pooling_is_pooling_before_reading():
    net, rng = network(), np.random.default_rng(1)
    net.read(rng.normal(size=(6, 2)), rng.normal(size=2), np.arange(2))
    x = torch.as_tensor(rng.normal(size=(5, 12)), dtype=torch.float32)
    assert net.each
    first = net(x).detach().numpy()
    net.each = False
    np.testing.assert_allclose(net(x).detach().numpy(), first, atol=1e-5)


def test_a_target_without_a_query_has_its_bias_alone():
    net = network()
    net.read(np.ones((6, 3)), np.array([0.0, np.nan, 0.0]), np.array([0, -1, 1]))
    out = net(torch.zeros(2, 12)).detach().numpy()
    assert np.isnan(out[:, 1]).all()
    assert np.isfinite(out[:, [0, 2]]).all()


def test_the_code_tells_neighbours_apart_on_every_axis():
    y, x = np.mgrid[:8, :8]
    points = np.stack([x.ravel(), y.ravel()], axis=1) / 8 - 0.4375
    code = sine_code(points, np.full(2, 0.125), 33)
    assert code.shape == (64, 33)
    distance = ((code[:, None] - code[None]) ** 2).sum(axis=2) + 99 * np.eye(64)
    assert distance.min() > 0.5
    assert (code[:, -1] == 0).all()


def routed(n=200):
    rng = np.random.default_rng(0)
    maps, at = rng.normal(size=(n, 4, 3)), rng.integers(4, size=n)
    maps[np.arange(n), at, 0] += 5
    y = maps[np.arange(n), at][:, 1:] + 0.3 * rng.normal(size=(n, 2))
    return torch.as_tensor(maps.reshape(n, 12), dtype=torch.float32), torch.as_tensor(
        (y - y.mean(0)) / y.std(0), dtype=torch.float32
    )


OPTIONS = {"patience": 100, "batch_size": 64, "learning_rate": 1e-2, "weight_decay": 1e-2}


def test_training_keeps_the_best_step_of_the_held_out_rows():
    x, y = routed()
    net, split = network(n_queries=1), (np.arange(40, 200), np.arange(40))
    at = train(net, x, y, np.zeros(2, dtype=int), split, steps=300, **OPTIONS, generator=torch.Generator().manual_seed(0))
    assert at % 25 == 0
    assert ((net(x[:40]) - y[:40]) ** 2).mean().item() < 0.4
    ((targets, fitted, weight),) = fit_readouts(net, x, y, np.zeros(2, dtype=int), np.logspace(-3, 3, 7), [split], 64)
    assert targets.tolist() == [0, 1]
    assert (1 - fitted.error / (y[:40].numpy() ** 2).sum(axis=0) > 0.7).all()
    assert weight.shape == (6, 2)


@pytest.mark.parametrize("patience", [25, 1000])
def test_patience_ends_training_on_noise(patience):
    x, _ = routed()
    y = torch.as_tensor(np.random.default_rng(3).normal(size=(200, 2)), dtype=torch.float32)
    net, seen = network(n_queries=1), []
    net.register_forward_hook(lambda *_: seen.append(1))
    split = (np.arange(40, 200), np.arange(40))
    train(
        net,
        x,
        y,
        np.zeros(2, dtype=int),
        split,
        steps=400,
        **OPTIONS | {"patience": patience},
        generator=torch.Generator().manual_seed(0),
    )
    assert (len(seen) < 300) == (patience == 25)

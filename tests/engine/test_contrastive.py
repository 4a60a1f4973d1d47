"""The contrastive network and its losses: closed forms, twins that are no negatives, places and lost sensors."""

import numpy as np
import pytest
import torch

from brainalign.engine.contrastive import (
    ContrastiveNetwork,
    _lost_sensors,
    contrastive_loss,
    fourier_code,
    soft_contrastive_loss,
    train,
)


def network(n_subjects=1, n_sensors=5, n_times=7, places=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, scale = np.zeros((n_subjects, n_sensors * n_times)), np.ones((n_subjects, n_sensors))
    return ContrastiveNetwork(mean, scale, n_times, 3, places, 4, 2, generator)


def test_the_contrast_is_the_cross_entropy_of_cosines_each_way():
    rng = np.random.default_rng(0)
    p, z = (torch.as_tensor(rng.normal(size=(6, 4))) for _ in range(2))
    cosine = (p / p.norm(dim=1, keepdim=True)) @ (z / z.norm(dim=1, keepdim=True)).T * 3.0
    expected = -(torch.log_softmax(cosine, 1).diag().mean() + torch.log_softmax(cosine, 0).diag().mean()) / 2
    got = contrastive_loss(p, z, torch.tensor(3.0).log(), torch.arange(6))
    assert float(got) == pytest.approx(float(expected), abs=1e-6)
    assert float(contrastive_loss(5 * p, z, torch.tensor(3.0).log(), torch.arange(6))) == pytest.approx(float(got), abs=1e-6)


def test_rows_of_one_stimulus_are_no_negatives():
    p = torch.eye(3)
    twins = torch.cat([p, p])
    kinds = torch.tensor([0, 1, 2, 0, 1, 2])
    scale = torch.tensor(10.0).log()
    alone = contrastive_loss(p, p, scale, torch.arange(3))
    assert float(contrastive_loss(twins, twins, scale, kinds)) == pytest.approx(
        float(torch.log1p(4 * torch.exp(torch.tensor(-10.0)))), abs=1e-6
    )
    assert float(contrastive_loss(twins, twins, scale, torch.arange(6))) > float(alone) + 0.5  # log 2: the twin is as good
    found = twins.clone().requires_grad_()
    contrastive_loss(found, twins, scale, kinds).backward()
    assert torch.isfinite(found.grad).all()


def test_the_soft_contrast_is_its_equation_and_least_at_the_targets():
    rng = np.random.default_rng(1)
    p, z = (torch.as_tensor(rng.normal(size=(5, 4))) for _ in range(2))
    unit_p, unit_z = (x / x.norm(dim=1, keepdim=True) for x in (p, z))
    soft = torch.softmax(unit_z @ unit_z.T / 0.125, dim=1)
    each = [torch.log_softmax(s / 0.125, dim=1) for s in (unit_p @ unit_z.T, unit_z @ unit_p.T)]
    expected = -sum((soft * part).sum(dim=1).mean() for part in each) / 2
    assert float(soft_contrastive_loss(p, z)) == pytest.approx(float(expected), abs=1e-10)
    assert float(soft_contrastive_loss(z, z)) < float(expected)


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_the_code_of_places_has_all_waves_and_tells_places_apart(n_axes):
    places = np.random.default_rng(0).uniform(size=(9, n_axes))
    code = fourier_code(places)
    n = {1: 1024, 2: 32, 3: 10}[n_axes]
    assert code.shape == (9, 2 * n**n_axes)
    np.testing.assert_allclose(code.square().sum(dim=1), float(n**n_axes), rtol=1e-5)
    assert np.linalg.matrix_rank(code.numpy()) == 9
    assert not torch.allclose(fourier_code(np.zeros((1, n_axes))), fourier_code(np.ones((1, n_axes))))  # waves do not come round


def test_lost_sensors_are_those_around_a_place_and_are_not_looked_at():
    places = np.stack(np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 5)), axis=-1).reshape(-1, 2)
    net, generator = network(n_sensors=25, places=places), torch.Generator().manual_seed(0)
    lost = _lost_sensors(net, 0.3, generator)
    gone = places[lost.numpy()]
    assert 0 < len(gone) < 12
    assert np.linalg.norm(gone[:, None] - gone, axis=2).max() <= 0.6
    x = torch.randn(2, 25 * 7, generator=generator)
    other = torch.where(lost.repeat_interleave(7), 9.0, x)
    subject = torch.zeros(2, dtype=torch.int64)
    np.testing.assert_allclose(*(torch.cat(net(side, subject, lost)).detach() for side in (x, other)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(x, subject)[0], net(other, subject)[0])
    assert _lost_sensors(net, 0.0, generator) is None
    bare = _lost_sensors(network(n_sensors=400), 0.2, generator)
    assert 0.1 < float(bare.float().mean()) < 0.3


def test_rows_do_not_look_at_each_other_and_a_sensor_without_scale_is_left_out():
    net = network(n_subjects=2)
    net.scale[:, 1] = 0
    x, subject = torch.randn(6, 35, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 0, 1])
    with torch.no_grad():
        net.by_subject[1] *= 2
        whole, alone = net(x, subject)[0], torch.cat([net(x[[k]], subject[[k]])[0] for k in range(6)])
        np.testing.assert_allclose(whole, alone, rtol=1e-4, atol=1e-5)
        changed = x.reshape(6, 5, 7).clone()
        changed[:, 1] = 100
        np.testing.assert_allclose(net(changed.reshape(6, 35), subject)[0], whole, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(net(x, 1 - subject)[0], whole)


def test_training_is_of_training_rows_alone():
    x, y = (torch.randn(40, k, generator=torch.Generator().manual_seed(k)) for k in (35, 3))
    codes = torch.zeros(40, dtype=torch.int64)
    options = {
        "contrast": 0.5,
        "dropout": 0.1,
        "steps": 30,
        "patience": 99,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
    }
    split, found = (np.arange(20), np.arange(20, 30)), []
    for last in (0.0, 9.0):
        x[30:], y[30:] = last, last
        net = network()
        step = train(net, x, y, codes, torch.arange(40), split, **options, generator=torch.Generator().manual_seed(0))
        found.append((step, torch.nn.utils.parameters_to_vector(net.parameters())))
    assert found[0][0] == found[1][0] > 0
    assert torch.equal(found[0][1], found[1][1])

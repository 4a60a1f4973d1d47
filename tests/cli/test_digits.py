import numpy as np
import pytest
import torch

from brainalign.cli.digits import LAYERS, N_TEST, train_digits


@pytest.fixture(scope="module")
def digits():
    return train_digits(n_epochs=2, random_state=3)


def test_it_learns_and_reports_what_it_learned(digits):
    assert digits.images.shape == (N_TEST, 1, 8, 8)
    assert digits.n_train + N_TEST == 1797
    with torch.no_grad():
        guess = digits.network(torch.as_tensor(digits.images)).argmax(dim=1).numpy()
    assert digits.accuracy == np.mean(guess == digits.digits)
    assert digits.accuracy > 0.5
    assert tuple(name for name, _ in digits.network.named_children()) == LAYERS


def test_a_seed_gives_the_same_network_and_leaves_the_random_stream_alone(digits):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    again = train_digits(n_epochs=2, random_state=3)
    assert torch.rand(1) == expected
    for ours, theirs in zip(digits.network.parameters(), again.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)

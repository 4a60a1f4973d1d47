"""Copies with their own elements exchanged, and sums over nodes."""

import torch

from brainalign.engine.patching import blend, n_copies, node_sums


def test_each_copy_has_its_own_elements_exchanged():
    value, other = torch.arange(8.0).reshape(2, 2, 2), -torch.ones(2, 2, 2)
    masks = torch.tensor([[True, False, False, False], [False, False, True, True], [False] * 4])
    out = blend(value, other, masks)
    assert out.shape == (6, 2, 2)
    assert out[:2].flatten(1).tolist() == [[-1, 1, 2, 3], [-1, 5, 6, 7]]
    assert out[2:4].flatten(1).tolist() == [[0, 1, -1, -1], [4, 5, -1, -1]]
    assert torch.equal(out[4:], value)
    assert torch.equal(blend(out, value, ~masks & masks), out)  # each copy keeps what it holds
    by_row = blend(value, other, torch.stack([masks[0], masks[1]])[None])  # each row has its own
    assert by_row.flatten(1).tolist() == [[-1, 1, 2, 3], [4, 5, -1, -1]]


def test_sums_leave_out_what_belongs_to_no_node():
    x = torch.tensor([[1.0, 2.0, 4.0, 8.0], [0.0, 1.0, 0.0, 1.0]])
    assert node_sums(x, torch.tensor([1, -1, 1, 0]), 3).tolist() == [[8.0, 5.0, 0.0], [1.0, 0.0, 0.0]]


def test_copies_fill_the_room_and_never_vanish():
    assert n_copies(100, 2, 8 * 100 * 2 * 5, 99) == 5
    assert n_copies(100, 2, 8 * 100 * 2 * 5, 3) == 3
    assert n_copies(1e9, 2, 1, 99) == 1

import torch
from conftest import CPU

from mmqsa.training.batches import Batches


def batches(left=(), seed=0):
    return Batches(10, 4, torch.Generator().manual_seed(seed), CPU, list(left))


def test_every_image_comes_once_in_an_epoch():
    drawn = batches()
    order = torch.cat([drawn.next() for _ in range(5)]).tolist()
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]


def test_what_is_left_goes_on_where_it_was():
    whole, first = batches(), batches()
    expected = [whole.next().tolist() for _ in range(6)]
    found = [first.next().tolist() for _ in range(2)]
    second = Batches(10, 4, first.draws, CPU, first.left)
    assert found + [second.next().tolist() for _ in range(4)] == expected


def test_a_batch_may_be_larger_than_the_data_set():
    drawn = Batches(3, 8, torch.Generator().manual_seed(0), CPU, [])
    assert sorted(drawn.next().tolist()[:6]) == [0, 0, 1, 1, 2, 2]

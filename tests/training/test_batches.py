import torch
from conftest import CPU

from mmqsa.training.batches import Batches


def batches(num_images=10, batch_size=4):
    return Batches(num_images, batch_size, torch.Generator().manual_seed(0), CPU)


def test_every_image_comes_once_in_an_epoch():
    drawn = batches()
    order = torch.cat([drawn.next() for _ in range(5)]).tolist()
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))
    assert order[:10] != order[10:]


def test_an_epoch_resumes_where_it_was():
    whole, first = batches(), batches()
    expected = [whole.next().tolist() for _ in range(6)]
    drawn = [first.next().tolist() for _ in range(2)]
    second = Batches(10, 4, first.generator, CPU)
    second.left = first.left
    assert drawn + [second.next().tolist() for _ in range(4)] == expected


def test_a_batch_may_be_larger_than_the_data_set():
    drawn = batches(num_images=3, batch_size=8)
    assert sorted(drawn.next().tolist()[:6]) == [0, 0, 1, 1, 2, 2]

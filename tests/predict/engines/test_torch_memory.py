"""The PyTorch engine when the memory of a GPU is full, and the precision of convolutions."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
from torch import nn

from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.predict.engines import EngineOptions, build_engine
from manyhot.predict.engines.torch import full_precision
from manyhot.predict.network import Network, Preprocessing


class Small(nn.Module):
    """A network on a device on which `most` images fit."""

    def __init__(self, most):
        super().__init__()
        self.most, self.sizes = most, []
        self.layer = nn.Linear(3 * 8 * 8, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee notes")
        return self.head(self.layer(x.flatten(1)))


def engine_of(module, features=False):
    preprocessing = Preprocessing((8, 8), (8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
    network = Network("small", from_keys(["a", "b"]), preprocessing, module.eval(), "head")
    return build_engine("torch", network, EngineOptions(features=features, workers=1, batch=32))


def images(n):
    return np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("features", [False, True])
def test_a_batch_that_does_not_fit_is_halved_for_good(features):
    module = Small(9)
    engine = engine_of(module, features)
    logits, found = engine(images(32))
    assert module.sizes == [32, 16, 8, 8, 8, 8]
    engine(images(32))
    assert module.sizes[6:] == [8, 8, 8, 8]
    module.most = 32
    whole = engine_of(module, features)(images(32))
    np.testing.assert_allclose(logits, whole[0], rtol=1e-5, atol=1e-6)
    assert (found is None) == (not features)
    if features:
        np.testing.assert_allclose(found, whole[1], rtol=1e-5, atol=1e-6)


def test_a_last_batch_of_odd_size():
    module = Small(3)
    assert len(engine_of(module)(images(7))[0]) == 7
    assert module.sizes == [7, 4, 2, 2, 2, 1]


def test_padded_batches_are_halved_too():
    module = Small(9)
    engine = dataclasses.replace(engine_of(module), one_shape=True)
    assert len(engine(images(5))[0]) == 5
    assert module.sizes == [32, 16, 8]


def test_not_even_one_image_fits():
    with pytest.raises(InputError) as error:
        engine_of(Small(0))(images(2))
    assert str(error.value) == (
        "The GPU has too little memory for one image.\n"
        "  got:     CUDA out of memory. Tried to allocate 2.00 GiB.\n"
        "  do:      free its memory, or predict on the CPU: CUDA_VISIBLE_DEVICES= manyhot predict …"
    )


def test_the_last_thread_restores_the_precision():
    assert torch.backends.cudnn.allow_tf32
    inside, leave = threading.Event(), threading.Event()

    def other():
        with full_precision:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with full_precision:
        thread.start()
        assert inside.wait(10)
    still = torch.backends.cudnn.allow_tf32  # the other one computes
    leave.set()
    thread.join()
    assert not still
    assert torch.backends.cudnn.allow_tf32

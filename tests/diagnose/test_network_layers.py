"""Layers whose weights are shuffled, against the weights before."""

import torch
from torch import nn

from manyhot.diagnose.network_layers import randomised
from manyhot.predict.network import Network, Preprocessing
from small_models import COLOURS


def test_weights_are_shuffled_from_the_scores_down():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(*layers, nn.Linear(6, len(COLOURS))).eval()
    net = Network("small", COLOURS, Preprocessing((28, 28), (28, 28), mode="squash"), module)
    before = {name: w.clone() for name, w in net.module.state_dict().items()}
    last, layers, of_layers = randomised(net, 0.0, seed=0)
    assert (layers, of_layers) == (1, 2)
    for name, weights in last.module.state_dict().items():
        assert torch.equal(weights, before[name]) is name.startswith("0."), name
        assert torch.equal(weights.flatten().sort()[0], before[name].flatten().sort()[0])
    every, layers, _ = randomised(net, 1.0, seed=0)
    assert layers == 2
    assert not torch.equal(every.module[0].weight, before["0.weight"])
    again = randomised(net, 1.0, seed=0)[0]
    assert all(
        torch.equal(a, b) for a, b in zip(every.module.parameters(), again.module.parameters(), strict=True)
    )
    assert all(torch.equal(w, before[name]) for name, w in net.module.state_dict().items())

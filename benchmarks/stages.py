"""How fast the last stage of EfficientNet-Lite0 is trained on features that are there.

    python benchmarks/stages.py

Images a second of CPU time on one thread: reading features, forward, backward and step, batches of 64.
"""

from __future__ import annotations

import time

from common import quiet

N, BATCH, CLASSES = 512, 64, 9


def main() -> None:
    quiet()
    for size in (128, 224):
        print(f"{size} pixels: {rate(size):,.0f} images a CPU second")


def rate(size: int) -> float:
    """Return the median rate of three epochs after one that is not counted."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from manyhot.classes import from_keys
    from manyhot.train.feeds import FeatureFeed
    from manyhot.train.loop import optimiser_of
    from manyhot.train.losses import loss_of
    from manyhot.train.networks import stages_of, start_of
    from manyhot.train.order import plan_of
    from manyhot.train.recipe import Recipe

    recipe = Recipe(model="efficientnet-lite0", trained_from="blocks.6", augment="mirror")
    module = start_of(recipe, from_keys([str(i) for i in range(CLASSES)])).module
    stages = stages_of(module.to(memory_format=torch.channels_last), recipe.trained_from)
    stages.freeze()
    stages.train()
    rest = stages.rest()
    assert rest is not None
    with torch.no_grad():
        some = stages.features(torch.randn(BATCH, 3, size, size)).numpy()
    features = np.tile(some[:, None], (N // BATCH, 2, 1, 1, 1))
    feed = FeatureFeed(features, np.arange(N), np.arange(N), plan_of(BATCH, 8, 0, N), torch.device("cpu"))
    optimiser = optimiser_of(recipe, module, {}, loss_of("bce"))
    wanted, rates = torch.rand(BATCH, CLASSES), []
    for epoch in range(4):
        begun = time.process_time()
        for fed in feed.epoch(epoch, 0):
            loss = F.binary_cross_entropy_with_logits(rest(fed.x), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        rates.append(N / (time.process_time() - begun))
    return sorted(rates[1:])[1]


if __name__ == "__main__":
    main()

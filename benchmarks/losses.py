"""What label sets cost in a step of training, over single labels, at 1,000 classes.

``python benchmarks/losses.py`` trains a ResNet-18 on noise, with ReaL's 50,000 label sets as targets:
steps with a class number and PyTorch's cross-entropy, and steps with `Teacher.batch` and a loss, by turns. It
prints the median step of each, and what is between logits and their gradient alone: labels looked up, loss,
and its backward pass. CPU seconds of one thread, so that other work on the machine counts little. Takes two
minutes on a core that is free; ``--quick`` 20 seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import common

common.quiet()

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from manyhot import registry  # noqa: E402
from manyhot.core.sets import NO_LABEL  # noqa: E402
from manyhot.tables.arrays import label_sets  # noqa: E402
from manyhot.train.losses import loss_of, made_memory  # noqa: E402
from manyhot.train.targets import Teacher, teacher  # noqa: E402

C = 1000
Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits and rows."""


def single(taught: Teacher) -> Loss:
    """Cross-entropy with the class number of each image."""
    number = taught.classes
    return lambda logits, rows: torch.nn.functional.cross_entropy(logits, number[rows])


def looked_up(name: str, taught: Teacher) -> Loss:
    """A registered loss with what the teacher says of each image."""
    loss = loss_of(name)
    memory = made_memory(loss, taught, 0)
    return lambda logits, rows: loss(logits, taught.batch(rows, 5, memory))


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that something took."""
    began = time.process_time()
    work()
    return time.process_time() - began


def alone(loss: Loss, batch: int, n: int, runs: int) -> float:
    """Return the median seconds between logits and their gradient."""
    logits = torch.randn(batch, C, requires_grad=True)
    spent = [seconds(lambda: loss(logits, torch.randint(n, (batch,))).backward()) for _ in range(runs + 20)]
    return float(np.median(spent[20:]))


def steps(losses: dict[str, Loss], batch: int, size: int, n: int, runs: int) -> dict[str, list[float]]:
    """Return the seconds of steps with each loss, by turns."""
    torch.manual_seed(0)
    module = timm.create_model("resnet18", num_classes=C).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(module.parameters(), 1e-3)
    x = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)

    def step(loss: Loss) -> None:
        optimiser.zero_grad()
        loss(module(x), torch.randint(n, (batch,))).backward()
        optimiser.step()

    spent: dict[str, list[float]] = {name: [] for name in losses}
    for run in range(runs + 3):
        for name in sorted(losses, key=lambda _: np.random.default_rng(run).random()):
            took = seconds(lambda name=name: step(losses[name]))
            if run >= 3:
                spent[name].append(took)
    return spent


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--size", type=int, default=64)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    sets = label_sets(common.validation()[0])
    sets = sets.take(np.flatnonzero(sets.label != NO_LABEL))
    n, runs = len(sets), 20 if given.quick else 100
    one = single(teacher(sets, "label", ends="softmax"))
    taught = teacher(sets, "sets")
    arms = {"single": one, "bce": looked_up("bce", taught)}
    spent = steps(arms, given.batch, given.size, n, runs)
    base = float(np.median(spent["single"]))
    apart = np.median(np.array(spent["bce"]) - np.array(spent["single"]))
    print(f"steps of {given.batch} images at {given.size} pixels, {C} classes, median of {runs}, by turns")
    for name, took in spent.items():
        print(f"  {name:8} {np.median(took) * 1e3:8.2f} ms")
    print(f"  median difference {apart * 1e3:+.2f} ms: {apart / base:+.2%} of a step")
    print("between logits and their gradient")
    own = alone(one, given.batch, n, 10 * runs)
    print(f"  {'single':8} {own * 1e6:8.0f} µs")
    for name in registry.names("loss"):
        about = teacher(sets, "sets", ends=loss_of(name).about["ends"])
        if name == "role":
            continue  # its memory of 50,000 images of 1,000 classes belongs to the optimiser
        took = alone(looked_up(name, about), given.batch, n, runs)
        print(f"  {name:8} {took * 1e6:8.0f} µs  {(took - own) / base:+.2%} of a step")


if __name__ == "__main__":
    main()

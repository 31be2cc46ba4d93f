"""Validation in several processes, with the results of one process. The data are made up.

``python examples/distributed_validation.py`` evaluates in one process, and
``torchrun --nproc-per-node 2 examples/distributed_validation.py`` in two. Both print the same numbers to the
last digit. The sampler pads the data set, so that each process has equally many images; images that therefore
occur twice count once, because they have ids.
"""

import json

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from manyhot import Evaluator

N, C = 301, 12


class Photos(Dataset):
    """Made-up features with several labels per image."""

    def __init__(self) -> None:
        """Draw the data."""
        draw = torch.Generator().manual_seed(7)
        self.shown = torch.rand(N, C, generator=draw) < 0.2
        self.features = self.shown * 1.5 + torch.randn(N, C, generator=draw)

    def __len__(self) -> int:
        """Return the number of images."""
        return N

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return the features, the label set and the id of an image."""
        return self.features[i], self.shown[i], i


def main() -> None:
    """Evaluate a model, and print the results in the first process."""
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    photos, model = Photos(), torch.nn.Identity()
    sampler = DistributedSampler(photos, shuffle=False) if dist.is_initialized() else None

    evaluator = Evaluator(n_classes=C, metrics=["real1", "f1@3", "map_macro"], resamples=200)
    for features, label_sets, ids in DataLoader(photos, batch_size=32, sampler=sampler):
        evaluator.update(model(features), label_sets, ids=ids)

    if dist.is_initialized():
        evaluators: list[Evaluator] = [evaluator] * dist.get_world_size()
        dist.all_gather_object(evaluators, evaluator)
        evaluator = sum(evaluators[1:], evaluators[0])
    if not dist.is_initialized() or dist.get_rank() == 0:
        found = evaluator.compute()
        for row in found.results.to_pylist():
            if row["slice"] == "all":
                print(json.dumps({name: row[name] for name in ("metric", "value", "lo", "hi", "n")}))
        for note in found.notes:
            print(note)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""Does a label map tell what is in a crop? The network that made the map is asked about the crop itself.

``python benchmarks/label_maps.py ../shared/data/samples/samples.tar`` makes label maps of photographs with
EfficientNet-Lite0, draws five random crops of each of the first 200, and compares three answers with what the
network says of the crop at its own size: the map's, with all classes and with five of each place, and that of
the whole image. Takes two minutes of a core. It prints the table of losses.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from manyhot.predict.decode import decode  # noqa: E402
from manyhot.predict.models import find_model  # noqa: E402
from manyhot.predict.network import Network  # noqa: E402
from manyhot.predict.sources import open_source  # noqa: E402
from manyhot.predict.sources.source import ImageSource  # noqa: E402
from manyhot.train.batches import cropped_view, random_box  # noqa: E402
from manyhot.train.label_maps import LocalTeacher, localised, write_maps  # noqa: E402
from manyhot.train.write_label_maps import compute_label_maps  # noqa: E402

PHOTOGRAPHS, CROPS = 200, 5


def teacher(network: Network, source: ImageSource, names: list[str], k: int, folder: Path) -> LocalTeacher:
    """Return what the maps of photographs teach."""
    made = compute_label_maps(network, source, k=k, batch=40, skip=lambda *_: None)
    blocks = islice(made, PHOTOGRAPHS // 40)
    return localised(write_maps(folder / f"{k}.arrow", blocks, network.classes, {}), names, network.classes)


def sees(network: Network) -> Callable[[Tensor], Tensor]:
    """Return the network as a function from bytes to probabilities."""
    how, module = network.preprocessing, network.module
    assert module is not None
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (how.mean, how.std))
    return lambda images: torch.softmax(module.eval()((images - mean) / std), 1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of q from p, in nats, of each row."""
    return (p * (p.clamp(min=1e-12).log() - q.clamp(min=1e-12).log())).sum(1)


@torch.inference_mode()
def main() -> None:
    """Compare and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("source")
    given = arguments.parse_args()
    network, source = find_model("efficientnet-lite0"), open_source(given.source)
    see, size = sees(network), network.preprocessing.size
    items = [(item.image_id, opener) for part in source.parts for item, opener in part.items()][:PHOTOGRAPHS]
    names = [name for name, _ in items]
    rng = np.random.default_rng(0)
    found: dict[str, list[Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        taught = {k: teacher(network, source, names, k, Path(folder)) for k in (len(network.classes), 5)}
        for row, (_, opener) in enumerate(items):
            pixels = decode(opener())
            assert not isinstance(pixels, str)
            views = [
                cropped_view(pixels, random_box(rng, *pixels.shape[1:], 0.08), size) for _ in range(CROPS)
            ]
            truth = see(torch.stack([view.pixels for view in views]))
            rows, boxes = torch.full((CROPS,), row), torch.tensor([view.box for view in views])
            answers = {f"map, {k} classes a place": t.batch(rows, boxes=boxes).p for k, t in taught.items()}
            answers["whole image"] = taught[len(network.classes)].batch(rows).p
            for name, p in answers.items():
                same = (p.argmax(1) == truth.argmax(1)).float()
                found.setdefault(name, []).append(torch.stack([same, divergence(truth, p)], 1))
    print(f"{len(items)} photographs, {CROPS} crops of each")
    print("| answer | same best class | divergence, nats |\n| --- | --- | --- |")
    for name, parts in found.items():
        same, apart = torch.cat(parts).mean(0).tolist()
        print(f"| {name} | {same:.1%} | {apart:.2f} |")


if __name__ == "__main__":
    main()

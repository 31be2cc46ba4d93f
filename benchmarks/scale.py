"""Time and cost of the recipes for ImageNet on eight GPUs, from published speeds and prices.

``python benchmarks/scale.py`` prints the table of docs/scale.md. ``--decode SOURCE`` measures, too, how many
random crops a core decodes a second, and prints how many cores feed the GPUs.
"""

from __future__ import annotations

import argparse
import time
import tomllib

import common

common.quiet()

import numpy as np  # noqa: E402

IMAGES = 1_281_167
"""Of ImageNet's training set."""

RESNET50 = 16_621
"""Images a second that eight A100 of 80 GB train a ResNet-50 on, in mixed precision, container 21.03: NVIDIA,
DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5/README.md, commit 291f0d0."""

RTX3090 = {"timm/resnet50": 1218.01, "timm/deit3_small_patch16_224": 987.86}
"""Images a second of one RTX 3090, mixed precision, channels last: timm's
results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv, commit 5e7d47c. For what NVIDIA did not measure."""

PRICE = 14.75
"""Dollars an hour of p4d.24xlarge, eight A100 of 40 GB and 96 virtual cores: AWS, EC2 Capacity Blocks for ML,
Ohio, table valid until the end of 2024. Prices change: --price."""


def speed(model: str) -> float:
    """Return images a second of eight A100: measured, or scaled by what an RTX 3090 does."""
    return RESNET50 * RTX3090[model] / RTX3090["timm/resnet50"]


def crops(source: str) -> tuple[float, float]:
    """Return how many random crops of 224 pixels a core decodes a second, and the mean pixels of an image."""
    from manyhot.models import open_source
    from manyhot.models.decode import decode
    from manyhot.train.cropping import cropped, random_box

    openers = [opener for part in open_source(source).parts for _, opener in part.items()]
    rng, pixels = np.random.default_rng(0), []
    began = time.process_time()
    for opener in openers:
        image = decode(opener())
        if not isinstance(image, str):
            cropped(image, random_box(rng, *image.shape[1:], 0.08), (224, 224))
            pixels.append(image.shape[1] * image.shape[2])
    return len(pixels) / (time.process_time() - began), float(np.mean(pixels))


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--price", type=float, default=PRICE, help="dollars an hour of eight GPUs")
    arguments.add_argument("--decode", help="a source of photographs, to measure how fast a core decodes")
    given = arguments.parse_args()
    print("| recipe | epochs | images a second | hours | dollars |")
    print("| --- | --- | --- | --- | --- |")
    for path in sorted((common.REPO / "studies" / "recipes").glob("*.toml")):
        recipe = tomllib.loads(path.read_text(encoding="utf-8"))
        hours = recipe["epochs"] * IMAGES / speed(recipe["model"]) / 3600
        row = (path.stem, recipe["epochs"], f"{speed(recipe['model']):,.0f}", f"{hours:,.1f}")
        print("|", " | ".join(map(str, row)), "|", f"{hours * given.price:,.0f} |")
    if given.decode:
        rate, pixels = crops(given.decode)
        print(f"a core decodes and crops {rate:,.0f} images a second, of {pixels / 1e3:,.0f} thousand pixels")
        for model in RTX3090:
            print(f"cores to feed {model}: {speed(model) / rate:,.0f}")


if __name__ == "__main__":
    main()

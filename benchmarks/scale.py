"""Time and cost of the recipes for ImageNet on eight GPUs, from published speeds and prices.

``python benchmarks/scale.py`` prints the table of scale.md. ``--decode SOURCE`` measures, too, how many
random crops a core decodes and augments a second, and prints how many cores feed the GPUs.
"""

from __future__ import annotations

import argparse
import time

import common

common.quiet()

from manyhot.train.recipe import Recipe, read_recipe, recipe_of  # noqa: E402

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


def crops(source: str, recipe: Recipe) -> float:
    """Return how many random crops a core decodes and alters a second, as a recipe asks."""
    import torch

    from manyhot.predict.network import Preprocessing
    from manyhot.predict.sources import open_source
    from manyhot.train.batches import Views

    torch.set_num_threads(1)
    openers = [opener for part in open_source(source).parts for _, opener in part.items()]
    views = Views(recipe, Preprocessing((224, 224)), 0)
    began = time.process_time()
    seen = [views(row, opener, views.rng(row, 0)) is not None for row, opener in enumerate(openers)]
    return sum(seen) / (time.process_time() - began)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--price", type=float, default=PRICE, help="dollars an hour of eight GPUs")
    arguments.add_argument("--decode", help="a source of photographs, to measure how fast a core decodes")
    given = arguments.parse_args()
    print("| recipe | epochs | images a second | hours | dollars |")
    print("| --- | --- | --- | --- | --- |")
    paths = sorted((common.REPO / "studies" / "recipes").glob("*.toml"))
    recipes = {path.stem: recipe_of(read_recipe(path)) for path in paths}
    for name, recipe in recipes.items():
        hours = recipe.epochs * IMAGES / speed(recipe.model) / 3600
        row = (name, recipe.epochs, f"{speed(recipe.model):,.0f}", f"{hours:,.1f}")
        print("|", " | ".join(map(str, row)), "|", f"{hours * given.price:,.0f} |")
    for name, recipe in recipes.items() if given.decode else ():
        rate = crops(given.decode, recipe)
        cores = speed(recipe.model) / rate
        print(f"{name}: a core decodes and augments {rate:,.0f} images a second, {cores:,.0f} feed the GPUs")


if __name__ == "__main__":
    main()

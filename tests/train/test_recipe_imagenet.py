"""The recipes for ImageNet run on shards of its layout: their settings as they are, but small."""

import csv
import importlib.util
import os
import tomllib
from pathlib import Path

import pytest

from manyhot.errors import InputError
from manyhot.train.recipe import read_recipe
from manyhot.train.train import train

timm = pytest.importorskip("timm")

REPO = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((REPO / "studies" / "recipes").glob("*.toml"))
SMALL = {
    "resnet50": {"model": "timm/test_resnet"},
    "vit_s": {"model": "timm/test_vit"},
}
"""A network of the same kind for each."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("fake", REPO / "benchmarks" / "fake_imagenet.py")
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    folder = tmp_path_factory.mktemp("fake")
    fake.write(folder, shards=4, images=8)
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_run(shards, recipe, tmp_path):
    settings = tomllib.loads(recipe.read_text(encoding="utf-8"))
    assert timm.is_model(settings["model"].removeprefix("timm/"))
    assert settings["lanes"] % 8 == 0, "eight GPUs share the lanes"
    small = {"size": 32, "batch": 8, "lanes": 4, "buffer": 8, "epochs": 2, "warmup": 1.0}
    path = train(
        os.fspath(shards / "train-{000..003}.tar"),
        shards / "labels.parquet",
        out=tmp_path / "run",
        recipe=recipe,
        settings={**small, **SMALL[recipe.stem]},
    ).network
    assert path.is_file()
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images"]) for row in rows] == [32, 64]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = " + "9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion"),
        ("a = " + "[" * 10_000, "maximum recursion depth exceeded"),
        ("a." * 25_000 + "a = 1", "50,005 bytes"),
        ("a." * 7_000 + "a = 1", "maximum recursion depth exceeded"),
        ("a = 0x" + "f" * 14_000, "Exceeds the limit (4300 digits) for integer string conversion"),
        ("epochs = 0x" + "f" * 400, "a number of more than 64 bits"),
        ("epochs = 9223372036854775808", "a number of more than 64 bits"),
    ],
)
def test_hostile_recipes(tmp_path, text, said):
    """Numbers, nesting and dotted keys without end; the last would be read for twenty seconds."""
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_recipe(path)
    assert str(error.value).startswith(f"The recipe is not TOML.\n  where:   {path}\n  got:     {said}")

"""Images and label sets in, a trained network out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.classes import from_keys
from manyhot.errors import MatchError
from manyhot.formats import read_classes, read_labels
from manyhot.models import open_source
from manyhot.pipeline.common import PathLike
from manyhot.pipeline.predict import Notify
from manyhot.steps.sets import label_sets
from manyhot.train.recipe import Recipe, read_recipe, recipe_of


def train_files(
    source: PathLike,
    labels: PathLike,
    out: PathLike = "training",
    *,
    recipe: PathLike | Mapping[str, Any] | Recipe | None = None,
    classes: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    call: str = "",
    notify: Notify | None = None,
) -> Path:
    """Train a network on images and their label sets; ``trained:OUT/model.safetensors`` is a model then.

    Parameters
    ----------
    source : path-like
        See `manyhot.models.open_source`.
    labels : path-like
        Label sets of the images to train on; other images of the source are left out.
    out : path-like
        The folder that is written into.
    recipe : path-like, mapping or Recipe, optional
        Settings: a TOML file, or as they are.
    classes : path-like, optional
        Class list of the labels, where the file does not tell: a file, or the name of one that is known.
    settings : Mapping, optional
        Some that count instead of the recipe's.
    notify : callable, optional
        Called with the kind of an event and what is told about it.

    Returns
    -------
    Path
        The network.
    """
    from manyhot.train.loading import read_images
    from manyhot.train.loop import fit

    given = None if classes is None else read_classes(classes)
    found = read_labels(labels, classes=given)
    known = given or from_keys([str(i) for i in range(found.n_classes)], found.name)
    if isinstance(recipe, Recipe):
        recipe = recipe.told()
    own = recipe if isinstance(recipe, Mapping) else {} if recipe is None else read_recipe(recipe)
    plan = recipe_of({**own, **(settings or {})}, None if isinstance(recipe, Mapping) else recipe)
    rows = {str(name): i for i, name in enumerate(found.image_id.to_pylist())}
    data = read_images(open_source(source), rows)
    if not data:
        raise MatchError("None of the images has labels.", where=source)
    order = sorted(data)
    sets = label_sets(found).take(np.array(order))
    out = Path(out)
    fit([data[i] for i in order], sets, known, plan, out, call=call, notify=notify)
    return out / "model.safetensors"

"""Networks to train: timm's, with as many outputs as there are classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.models import Preprocessing, find_model
from manyhot.models.preprocessing import from_timm, scaled
from manyhot.train.recipe import Recipe
from manyhot.trained import read_trained

_TIMM = "timm/"


@dataclass(frozen=True, eq=False)
class Start:
    """A network before its first step.

    Attributes
    ----------
    module : torch.nn.Module
    architecture : str
        As timm knows it.
    options : Mapping of str to Any
        What ``timm.create_model`` took beside.
    preprocessing : Preprocessing
    """

    module: Any
    architecture: str
    options: Mapping[str, Any]
    preprocessing: Preprocessing


def start_of(recipe: Recipe, classes: ClassList) -> Start:
    """Build the network of a recipe.

    Raises
    ------
    InputError
        It is none of timm's, or its weights do not exist or do not fit.
    UnknownNameError
        There is no such network.
    """
    timm: Any = required("timm", "Training", '"manyhot[train]"')
    n = len(classes)
    if recipe.model.startswith(_TIMM) and recipe.weights != "published":
        name = recipe.model.removeprefix(_TIMM)
        module = timm.create_model(name, pretrained=False, num_classes=n)
        preprocessing = from_timm(timm.data.resolve_data_config({}, model=module))
    else:
        network = find_model(recipe.model)
        module, preprocessing = cast("Any", network.module), network.preprocessing
        if module is None or not hasattr(module, "reset_classifier"):
            raise InputError("This is no network of timm.", got=recipe.model, allowed="timm/NAME")
        name = str(module.pretrained_cfg["architecture"])
        module.reset_classifier(n)
    if recipe.size:
        size = (recipe.size, recipe.size)
        preprocessing = replace(preprocessing, size=size, scale=scaled(size, 0.875))
    if recipe.weights not in ("published", "none"):
        found = read_trained(recipe.weights)
        module.load_state_dict(dict(found.weights))
    module.requires_grad_(True)
    return Start(module, name, {}, preprocessing)

"""Networks of timm, from the hub, a local folder in its format, or a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, class_list, from_keys, of_outputs
from manyhot.errors import InputError, UnknownNameError, did_you_mean
from manyhot.extras import required
from manyhot.predict.adapters.network_files import with_assumptions
from manyhot.predict.network import Network, from_timm, sides
from manyhot.predict.weights import error_line, hub_or_cache
from manyhot.registry import register

_FOLDER = "local-dir:"
RANDOM = "none"
"""The checkpoint of random weights."""


@register("model", "timm", form="timm/NAME", classes="of the weights", published=r"[\w.-]+")
def timm_network(
    name: str,
    *,
    checkpoint: str = "",
    num_classes: int | None = None,
    backbone: bool = False,
    preprocessing: Mapping[str, Any],
) -> Network:
    """Load a timm network with its published weights and their preprocessing.

    Parameters
    ----------
    name : str
        Name in timm, such as ``resnet50.a1_in1k``; ``hf-hub:OWNER/NAME`` for other networks on the Hugging
        Face Hub; or ``local-dir:FOLDER`` for a local folder in the format of the Hub.
    checkpoint : str
        A local file with weights that replaces the published ones; ``none`` for random weights, the same each
        time, to try out commands without a download.
    num_classes : int, optional
        Number of classes of the checkpoint, if it differs from the network's number of classes in timm.
    backbone : bool
        Whether to also accept weights without a classifier, such as self-supervised ones. The network then
        returns a single, meaningless score; only its features are useful.
    preprocessing : mapping
        Preprocessing options. The defaults are those of the published weights. A checkpoint may have been
        trained with other values, so a note lists the assumed ones.

    Raises
    ------
    UnknownNameError
        If timm does not have the network.
    FetchError
        If the weights cannot be downloaded.
    InputError
        If the checkpoint does not exist or does not match the network, or if the published weights are not
        those of a classifier.
    """
    timm: Any = required("timm", f"The model 'timm/{name}'")
    check_network(timm, name, checkpoint, classifier=not backbone)
    if backbone and not checkpoint and _is_classless(timm, name):
        num_classes = 0  # without the projection that some have
    module, fixed_size = _created(timm, name, checkpoint, num_classes, preprocessing)
    config = timm.data.resolve_data_config({}, model=module, use_test_size=False)
    wanted = from_timm(config, preprocessing)
    random = checkpoint == RANDOM
    source = "random" if random else checkpoint or str(module.pretrained_cfg.get("hf_hub_id") or name)
    about = {"weights": source}
    notes = (f"{name} has random weights: its predictions mean nothing",) if random else ()
    title = f"timm/{name}".replace(_FOLDER, "")
    if backbone and not module.num_classes:
        module, classes, head = _with_score(module), from_keys(("none",)), "1"
    else:
        classes, head = timm_classes(module, name), head_of(module)
    network = Network(title, classes, wanted, module.eval(), head, about=about, notes=notes)
    if random or not checkpoint:
        return network
    return with_assumptions(network, preprocessing, crop_pct=config["crop_pct"], fixed_size=fixed_size)


def _is_classless(timm: Any, name: str) -> bool:
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    return config is not None and not is_classifier(config)


def _with_score(module: Any) -> Any:
    """Return a feature network with one meaningless score, so that it has the form of a classifier."""
    import torch

    score = torch.nn.Linear(getattr(module, "head_hidden_size", module.num_features), 1)
    torch.nn.init.zeros_(score.weight)
    torch.nn.init.zeros_(score.bias)
    return torch.nn.Sequential(module, score).eval()


def is_classifier(config: Any) -> bool:
    """Return whether published weights are those of a classifier.

    Some weights give only features. The image towers of CLIP and similar models give an embedding of 384 to
    1,280 numbers. This length is always a multiple of 128, unlike the length of any published class list.
    """
    return bool(config.num_classes) and config.num_classes % 128 != 0


def check_network(timm: Any, name: str, checkpoint: str = "", *, classifier: bool = True) -> None:
    """Raise an error if timm does not have a network, or if its weights do not exist.

    Parameters
    ----------
    timm : module
    name : str
        As in `timm_network`.
    checkpoint : str
        A file with weights. Empty for the published weights, and ``none`` for random ones.
    classifier : bool
        Whether the published weights must be those of a classifier.

    Raises
    ------
    InputError
        If the folder or the checkpoint does not exist, or if the weights are not those of a classifier.
    UnknownNameError
        If the network or the weights do not exist.
    """
    folder = Path(name.removeprefix(_FOLDER)) if name.startswith(_FOLDER) else None
    if folder is not None and not (folder / "config.json").is_file():
        raise InputError(
            "The folder does not contain a timm network.",
            where=folder,
            got="no config.json" if folder.is_dir() else "no such folder",
            allowed="a folder written by timm.models.save_for_hf",
        )
    if checkpoint not in ("", RANDOM) and not Path(checkpoint).is_file():
        raise InputError("The weights do not exist.", where=checkpoint)
    if folder is None and not name.startswith("hf-hub:"):
        _check_name(timm, name, checkpoint, classifier)


def _check_name(timm: Any, name: str, checkpoint: str, classifier: bool) -> None:
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UnknownNameError(
            f"timm has no network {name!r}.",
            allowed="a name listed by manyhot models 'timm/*'",
            do=did_you_mean(base.lower(), timm.list_models(), show=str),
        )
    if checkpoint:
        return
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{base}.*")]
    config = timm.get_pretrained_cfg(base if not tag else name) if not tag or tag in tags else None
    if config is None or not tags:
        raise UnknownNameError(
            f"timm has no published weights {name!r}.",
            allowed=", ".join(f"{base}.{t}" for t in tags) or f"none of {base}: it takes checkpoint='FILE'",
        )
    if classifier and not is_classifier(config):
        raise InputError(
            "The weights are not those of a classifier.",
            where=f"timm/{name}",
            got=f"an embedding of {config.num_classes:,} numbers" if config.num_classes else "no classes",
            allowed="a name listed by manyhot models 'timm/*'",
        )


def _created(
    timm: Any, name: str, checkpoint: str, num_classes: int | None, preprocessing: Mapping[str, Any]
) -> tuple[Any, bool]:
    """Return the module, and whether its weights determine the size of its input."""
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    fixed_size = config is not None and bool(config.fixed_input_size)  # others accept any size
    if fixed_size and "size" in preprocessing:
        options["img_size"] = sides(preprocessing["size"])
    local = bool(checkpoint) or name.startswith(_FOLDER)
    failures = Exception if local else RuntimeError  # other errors are the hub's
    with contextlib.nullcontext() if local else hub_or_cache(f"timm/{name}"):
        try:
            if checkpoint == RANDOM:
                return _random(timm, name, options), fixed_size
            # Without pretrained=True, even a local folder silently gives random weights.
            module = timm.create_model(name, pretrained=not checkpoint, **options)
            if checkpoint:  # timm before 1.0.26 unpickles whatever a file contains, unless told otherwise
                timm.models.load_checkpoint(module, checkpoint, weights_only=True)
            return module, fixed_size
        except TypeError as error:
            raise InputError(
                "The network does not take these options.", where=name, got=error_line(error)
            ) from error
        except failures as error:
            raise InputError(
                "The weights cannot be loaded into the network.",
                where=checkpoint or name.removeprefix(_FOLDER),
                got=error_line(error),
                do="pass the number of classes of the checkpoint: num_classes=N" if checkpoint else None,
            ) from error


def _random(timm: Any, name: str, options: dict[str, Any]) -> Any:
    """Return a network with random weights, which are the same each time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, **options)


def head_of(module: Any) -> str:
    """Return the dotted name of the classifier, or an empty string if its input is not the features."""
    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
    names = [name for name, part in module.named_modules() if part is classifier]
    return names[0] if names and type(classifier).__name__ in ("Linear", "NormMlpClassifierHead") else ""


def timm_classes(module: Any, name: str) -> ClassList:
    """Return the class list of a timm network."""
    timm: Any = required("timm", f"The model 'timm/{name}'")
    config = module.pretrained_cfg
    given = config.get("label_names")
    n = module.num_classes
    if given and len(given) == n:
        return from_keys([str(key) for key in given], name)
    subset = None if n == len(class_list()) else timm.data.infer_imagenet_subset(module)
    if subset:
        return from_keys(timm.data.ImageNetInfo(subset).label_names(), subset)
    return of_outputs(n, name)

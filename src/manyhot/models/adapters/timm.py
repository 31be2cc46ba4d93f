"""Networks of timm, from the hub, a local folder in its format, or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import FetchError, InputError, UnknownNameError
from manyhot.models.extras import required
from manyhot.models.network import Network
from manyhot.models.preprocessing import from_timm
from manyhot.registry import register


@register("model", "timm", form="timm/NAME", classes="of the weights")
def timm_network(
    name: str, *, checkpoint: str = "", num_classes: int | None = None, size: int | None = None
) -> Network:
    """A network of timm with its published weights and its own preprocessing.

    Parameters
    ----------
    name : str
        As timm knows it, such as ``resnet50.a1_in1k``; ``hf-hub:OWNER/NAME`` for others on the hub,
        ``local-dir:FOLDER`` for a folder in the hub's format.
    checkpoint : str
        A local file of weights instead of the published ones.
    num_classes : int, optional
        Of the checkpoint, where it differs from timm's.
    size : int, optional
        Height and width of images, for networks that take several.

    Raises
    ------
    UnknownNameError
        timm has no such network.
    FetchError
        The weights cannot be had.
    InputError
        The checkpoint does not exist or does not fit.
    """
    timm: Any = required("timm", f"The model 'timm/{name}'")
    options = {"num_classes": num_classes} if num_classes is not None else {}
    module = _created(timm, name, checkpoint, options | ({"img_size": size} if size else {}))
    config = timm.data.resolve_data_config(
        {"input_size": (3, size, size)} if size else {}, model=module, use_test_size=False
    )
    return Network(
        f"timm/{name}".replace("local-dir:", ""),
        classes_of(module, name),
        from_timm(config),
        module.eval(),
        _head(module),
        about={"weights": checkpoint or str(module.pretrained_cfg.get("hf_hub_id") or name)},
    )


def _created(timm: Any, name: str, checkpoint: str, options: dict[str, Any]) -> Any:
    whole = name.startswith(("hf-hub:", "local-dir:"))
    if not whole and not timm.is_model(name.partition(".")[0]):
        near = timm.list_models(f"*{name.partition('.')[0]}*")[:3]
        raise UnknownNameError(
            f"timm has no network {name!r}.",
            allowed="what manyhot models 'timm/*' lists",
            do=f"did you mean {' or '.join(near)}?" if near else None,
        )
    folder = name.removeprefix("local-dir:") if name.startswith("local-dir:") else ""
    if (checkpoint and not Path(checkpoint).is_file()) or (folder and not Path(folder).is_dir()):
        raise InputError("The weights do not exist.", where=checkpoint or folder)
    try:
        if checkpoint:
            return timm.create_model(name, pretrained=False, checkpoint_path=checkpoint, **options)
        # Without pretrained=True even a local folder gives random weights, in silence.
        return timm.create_model(name, pretrained=True, **options)
    except TypeError as error:
        raise InputError("The network does not take these options.", where=name, got=str(error)) from error
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if "pretrained" in said:
            tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
            raise UnknownNameError(
                f"There are no published weights {name!r}.", got=said, allowed=", ".join(tags) or "none"
            ) from error
        raise InputError("The weights do not fit the network.", where=checkpoint or name, got=said) from error
    except Exception as error:
        # The hub's client has a zoo of errors for what is one to a user.
        raise FetchError(
            "The weights cannot be fetched.",
            where=name,
            got=str(error).partition("\n")[0] or type(error).__name__,
            do="check the network and the name; HF_HOME is the cache; checkpoint='FILE' takes a local file",
        ) from error


def _head(module: Any) -> str:
    """Return the path of the classifier; empty where it is none that takes features."""
    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
    names = [name for name, part in module.named_modules() if part is classifier]
    return names[0] if names and type(classifier).__name__ in ("Linear", "NormMlpClassifierHead") else ""


def classes_of(module: Any, name: str) -> ClassList:
    """Return the class list that a network of timm counts in."""
    timm: Any = required("timm", f"The model 'timm/{name}'")
    config = module.pretrained_cfg
    given = config.get("label_names")
    n = module.num_classes
    if given and len(given) == n:
        return from_keys([str(key) for key in given], name)
    if n == 1000:
        return class_list("imagenet1k")
    subset = timm.data.infer_imagenet_subset(module)
    if subset:
        return from_keys(timm.data.ImageNetInfo(subset).label_names(), subset)
    return from_keys([str(i) for i in range(n)], f"{n} classes of {name}")

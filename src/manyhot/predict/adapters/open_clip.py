"""Zero-shot classifiers of open_clip: images compared with sentences about the classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError, UnknownNameError
from manyhot.extras import required
from manyhot.predict.network import Network, Preprocessing
from manyhot.predict.weights import error_line, hub_or_cache
from manyhot.registry import register

TEMPLATES = (
    "a photo of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""CLIP's plain sentence, and six of those that its authors average."""


@register("model", "open_clip", form="open_clip/ARCH/PRETRAINED", classes="any, by their names")
def open_clip_network(
    name: str, *, classes: ClassList | None = None, templates: Sequence[str] = TEMPLATES
) -> Network:
    """A zero-shot classifier: cosine similarity of an image to the mean embedding of sentences about a class.

    Parameters
    ----------
    name : str
        Architecture and weights, such as ``ViT-B-32/laion2b_s34b_b79k``. The weights can also be a local
        file.
    classes : ClassList, optional
        ImageNet-1k by default.
    templates : sequence of str
        Sentences with ``{}`` in place of the class name.

    Raises
    ------
    UnknownNameError
        If open_clip does not have the architecture or the weights.
    FetchError
        If the weights cannot be downloaded.
    InputError
        If a template has no placeholder for the class name.

    References
    ----------
    A. Radford et al. Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, 3.1.4.
    """
    clip: Any = required("open_clip", f"The model 'open_clip/{name}'", '"manyhot[clip]"')
    arch, _, pretrained = name.partition("/")
    _check(clip, arch, pretrained, templates)
    classes = classes or class_list()
    model = _created(clip, arch, pretrained)
    config = model.visual.preprocess_cfg if hasattr(model.visual, "preprocess_cfg") else {}
    module = _zero_shot(model.eval(), clip.get_tokenizer(arch), classes, templates)
    return Network(
        f"open_clip/{name}", classes, _preprocessing(config), module, "", about={"weights": pretrained}
    )


def _created(clip: Any, arch: str, pretrained: str) -> Any:
    try:
        if Path(pretrained).is_file():
            return clip.create_model(arch, pretrained=pretrained)
        with hub_or_cache(f"open_clip/{arch}/{pretrained}"):
            return clip.create_model(arch, pretrained=pretrained)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            "The weights cannot be loaded into the network.",
            where=f"{arch}/{pretrained}",
            got=error_line(error),
        ) from error


def _check(clip: Any, arch: str, pretrained: str, templates: Sequence[str]) -> None:
    if arch not in clip.list_models():
        near = difflib.get_close_matches(arch, clip.list_models(), n=3)
        raise UnknownNameError(
            f"open_clip has no architecture {arch!r}.",
            allowed=f"the {len(clip.list_models())} of open_clip.list_models(), such as ViT-B-32",
            do=f"did you mean {' or '.join(near)}?" if near else None,
        )
    tags = clip.list_pretrained_tags_by_model(arch)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise UnknownNameError(
            f"open_clip has no weights {pretrained!r} for {arch}."
            if pretrained
            else f"The name of the weights of {arch} is missing.",
            allowed=", ".join(tags) or "a local file",
        )
    wrong = [t for t in templates if "{}" not in t]
    if wrong or not templates:
        raise InputError(
            "A template has no placeholder for the class name.",
            got=wrong[:1] or "none",
            allowed="a text such as 'a photo of a {}.'",
        )


def _zero_shot(model: Any, tokenizer: Any, classes: ClassList, templates: Sequence[str]) -> Any:
    import torch

    with torch.inference_mode():
        rows = []
        for class_name in classes.names:
            said = model.encode_text(tokenizer([t.format(class_name) for t in templates]), normalize=True)
            mean = said.mean(0)
            rows.append(mean / mean.norm())
        head = torch.stack(rows) * model.logit_scale.exp()

    class ZeroShot(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = model.visual
            self.register_buffer("head", head)

        def forward(self, images: Any) -> Any:
            seen = self.visual(images)
            return torch.nn.functional.linear(torch.nn.functional.normalize(seen, dim=-1), self.head)  # type: ignore[arg-type]

    return ZeroShot().eval()


def _preprocessing(config: Any) -> Preprocessing:
    size = config.get("size", 224)
    sides = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    mode = {"shortest": "center", "longest": "border", "squash": "squash"}[
        config.get("resize_mode", "shortest")
    ]
    return Preprocessing(
        sides,
        sides,
        mode,
        config.get("interpolation", "bicubic"),
        tuple(config["mean"]),
        tuple(config["std"]),
    )

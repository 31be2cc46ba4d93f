"""Zero-shot classifiers of open_clip, as their authors evaluate them, and their image embeddings.

An image is compared with sentences about each class. Templates and the class names of ImageNet are those of
open_clip, which are OpenAI's; both may be the user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError, OutputError, UnknownNameError, counted, did_you_mean, first_names
from manyhot.extras import required
from manyhot.files import atomic_write, cache_folder
from manyhot.formats.writing import PathLike
from manyhot.predict.network import Float32Array, Network, Preprocessing
from manyhot.predict.weights import error_line, hub_or_cache
from manyhot.registry import register

TEMPLATES = {"openai": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
"""Templates by name, and what open_clip calls them: OpenAI's 80 for ImageNet, and 7 of OpenAI's."""

CLASS_NAMES = ("openai", "classes")
"""Class names by name: OpenAI's for ImageNet, or those of the class list."""

_HEAD = "head"


@register("model", "open_clip", form="open_clip/ARCH/PRETRAINED", classes="any, by their names")
def open_clip_network(
    name: str,
    *,
    classes: ClassList | None = None,
    templates: PathLike | Sequence[str] = "openai",
    names: str = "",
    backbone: bool = False,
) -> Network:
    """A zero-shot classifier: cosine similarity of an image to the mean embedding of sentences about a class.

    The embeddings of the sentences are normalised, averaged and renormalised. Logits are the similarities
    times the model's own scale, plus its bias if it has one. The features are the normalised embedding of the
    image.

    Parameters
    ----------
    name : str
        Architecture and weights, such as ``ViT-B-32/laion2b_s34b_b79k``. The weights can also be a local
        file.
    classes : ClassList, optional
        ImageNet-1k by default.
    templates : path-like or sequence of str
        Sentences with ``{}`` in place of the class name, a text file with one sentence per line, or a name in
        `TEMPLATES`.
    names : str
        One of `CLASS_NAMES`. The default is OpenAI's names if the classes are ImageNet's and the user has not
        named them, and the names in the class list otherwise.
    backbone : bool
        Whether only the features are needed. The texts are not embedded then, and the network returns a
        single, meaningless score.

    Raises
    ------
    UnknownNameError
        If open_clip does not have the architecture or the weights.
    FetchError
        If the weights cannot be downloaded.
    InputError
        If a template has no placeholder for the class name, the names do not fit the class list, or the
        weights lack a text tower.

    References
    ----------
    A. Radford et al. Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, 3.1.4.
    """
    clip: Any = required("open_clip", f"The model 'open_clip/{name}'", '"manyhot[clip]"')
    arch, _, pretrained = name.partition("/")
    _check(clip, arch, pretrained)
    sentences = read_templates(templates)
    classes = classes or class_list()
    class_names = _class_names(classes, names)
    model = _created(clip, arch, pretrained).eval()
    preprocessing = _preprocessing(model.visual.preprocess_cfg)
    about = {"weights": pretrained}
    if backbone:
        module = _with_head(model.visual, np.zeros((1, _dimension(model, preprocessing)), np.float32))
        return Network(f"open_clip/{name}", from_keys(("none",)), preprocessing, module, _HEAD, about=about)
    texts = _text_embeddings(clip, model, arch, class_names, sentences)
    scale, bias = model.logit_scale, getattr(model, "logit_bias", None)
    shift = 0.0 if bias is None else float(bias.detach())
    module = _with_head(model.visual, texts * float(scale.detach().exp()), shift)
    notes = tuple(_same_names(class_names))
    return Network(f"open_clip/{name}", classes, preprocessing, module, _HEAD, about=about, notes=notes)


def read_templates(templates: PathLike | Sequence[str]) -> tuple[str, ...]:
    """Return sentences with ``{}`` from a name in `TEMPLATES`, from a file, or from a list of sentences.

    Raises
    ------
    InputError
        If the file does not exist, or a template has no placeholder for the class name.
    """
    if not isinstance(templates, str | os.PathLike):
        return _checked(tuple(templates), None)
    file = os.fspath(templates)
    if file in TEMPLATES:
        metadata: Any = required("open_clip.zero_shot_metadata", "These templates", '"manyhot[clip]"')
        return tuple(template("{}") for template in getattr(metadata, TEMPLATES[file]))
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "The templates cannot be read.",
            where=file,
            got=error_line(error),
            allowed=f"a text file with one template per line, or {' or '.join(TEMPLATES)}",
        ) from error
    return _checked(tuple(line.strip() for line in lines if line.strip()), file)


def _checked(templates: tuple[str, ...], where: str | None) -> tuple[str, ...]:
    wrong = next((t for t in templates if not _has_place(t)), None)
    if wrong is not None or not templates:
        raise InputError(
            "A template has no placeholder for the class name." if templates else "There are no templates.",
            where=where,
            got=wrong,
            allowed="a string with one {}, such as 'a photo of a {}.'",
        )
    return templates


def _has_place(template: str) -> bool:
    with contextlib.suppress(IndexError, KeyError, ValueError):
        return template.count("{}") == 1 and template.format("") == template.replace("{}", "")
    return False


def _class_names(classes: ClassList, names: str) -> tuple[str, ...]:
    """Return the name of each class that stands in the sentences.

    Raises
    ------
    InputError
        If there is no such choice, OpenAI's names are asked for other classes, or a name is empty.
    """
    imagenet = class_list()
    place = {key: i for i, key in enumerate(imagenet.keys)}
    is_imagenet = all(key in place for key in classes.keys)
    plain = is_imagenet and all(
        own in (key, imagenet.names[place[key]]) for key, own in zip(classes.keys, classes.names, strict=True)
    )
    if names not in ("", *CLASS_NAMES):
        raise InputError("There are no such class names.", got=names, allowed=" or ".join(CLASS_NAMES))
    if names == "openai" and not is_imagenet:
        raise InputError(
            "OpenAI's class names exist only for ImageNet's classes.",
            where=classes.name,
            got=next(key for key in classes.keys if key not in place),
            do="leave out names='openai', to use the names of the class list",
        )
    if names == "openai" or (not names and plain):
        metadata: Any = required("open_clip.zero_shot_metadata", "OpenAI's class names", '"manyhot[clip]"')
        return tuple(metadata.IMAGENET_CLASSNAMES[place[key]] for key in classes.keys)
    nameless = [key for key, own in zip(classes.keys, classes.names, strict=True) if not own.strip()]
    if nameless:
        raise InputError("A class has no name.", where=classes.name, got=nameless[0])
    return classes.names


def _same_names(names: Sequence[str]) -> list[str]:
    """Return a note on classes that no sentence distinguishes."""
    same = [name for name, n in Counter(names).items() if n > 1]
    many = counted(len(same), "name")
    return (
        [f"classes with the same name get the same scores ({many}: {first_names(same, 3)})"] if same else []
    )


def _created(clip: Any, arch: str, pretrained: str) -> Any:
    """Return the model. OpenAI's weights need QuickGELU even under a name that does not say so."""
    tag = clip.get_pretrained_cfg(arch, pretrained) or {}
    options = {"pretrained": pretrained, "force_quick_gelu": bool(tag.get("quick_gelu"))}
    is_file = Path(pretrained).is_file()
    try:
        with contextlib.nullcontext() if is_file else hub_or_cache(f"open_clip/{arch}/{pretrained}"):
            return clip.create_model(arch, **options)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        has_text = not is_file or _has_text_tower(clip, pretrained)
        raise InputError(
            "The weights cannot be loaded into the network."
            if has_text
            else "The weights have no text tower.",
            where=f"{arch}/{pretrained}",
            got=error_line(error) if has_text else "an image tower only",
            allowed=None if has_text else "weights of both towers, as open_clip saves them",
        ) from error


def _has_text_tower(clip: Any, file: str) -> bool:
    """Return whether a file has weights besides those of the image tower; true if it cannot be read."""
    try:
        names = list(clip.factory.load_state_dict(file))
    except Exception:  # of whichever format it is
        return True
    return any(not name.removeprefix("module.").startswith("visual.") for name in names)


def _check(clip: Any, arch: str, pretrained: str) -> None:
    if arch not in clip.list_models():
        raise UnknownNameError(
            f"open_clip has no architecture {arch!r}.",
            allowed=f"the {len(clip.list_models())} of open_clip.list_models(), such as ViT-B-32",
            do=did_you_mean(arch, clip.list_models(), show=str),
        )
    tags = clip.list_pretrained_tags_by_model(arch)
    if pretrained not in tags and not Path(pretrained).is_file():
        raise UnknownNameError(
            f"open_clip has no weights {pretrained!r} for {arch}."
            if pretrained
            else f"The name of the weights of {arch} is missing.",
            allowed=", ".join(tags) or "a local file",
        )


def _text_embeddings(
    clip: Any, model: Any, arch: str, names: Sequence[str], templates: Sequence[str]
) -> Float32Array:
    """Return the mean embedding of the sentences about each class, shape (C, D); from the cache if possible.

    80 sentences take a ViT-B/32 7 s of CPU, so that 1,000 classes take two hours of one core: a run that
    resumes would spend most of its time on them.
    """
    import torch

    file = cache_folder() / "zero-shot" / f"{_text_hash(model, arch, names, templates)}.npy"
    with contextlib.suppress(OSError, ValueError):
        cached: Float32Array = np.load(file, allow_pickle=False)
        return cached
    is_on_hub = "hf_tokenizer_name" in clip.get_model_config(arch)["text_cfg"] or "siglip" in arch.lower()
    with hub_or_cache(f"open_clip/{arch}") if is_on_hub else contextlib.nullcontext():
        tokenizer = clip.get_tokenizer(arch)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    columns = clip.build_zero_shot_classifier(model, tokenizer, names, templates, device=device)
    model.to("cpu")
    texts: Float32Array = columns.T.float().cpu().numpy()
    with contextlib.suppress(OutputError), atomic_write(file) as part:
        buffer = io.BytesIO()
        np.save(buffer, texts)
        part.write_bytes(buffer.getvalue())
    return texts


def _text_hash(model: Any, arch: str, names: Sequence[str], templates: Sequence[str]) -> str:
    """Return a hash of what text embeddings depend on: the text tower, the names and the templates."""
    import torch

    digest = hashlib.sha256("\0".join([arch, *names, "", *templates]).encode())
    for name, value in model.state_dict().items():
        if not name.startswith("visual.") and isinstance(value, torch.Tensor):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _dimension(model: Any, preprocessing: Preprocessing) -> int:
    import torch

    with torch.inference_mode():
        return int(_embedding(model.visual(torch.zeros(1, 3, *preprocessing.size))).shape[1])


def _embedding(seen: Any) -> Any:
    """Return the embedding of an image tower; that of CoCa also returns tokens."""
    return seen[0] if isinstance(seen, tuple) else seen


def _with_head(visual: Any, weight: Float32Array, bias: float = 0.0) -> Any:
    """Return the image tower with a linear layer on its normalised embedding."""
    import torch

    class ZeroShot(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = visual
            self.head = torch.nn.Linear(weight.shape[1], len(weight))
            with torch.no_grad():
                self.head.weight.copy_(torch.from_numpy(weight))
                self.head.bias.fill_(bias)

        def forward(self, images: Any) -> Any:
            return self.head(torch.nn.functional.normalize(_embedding(self.visual(images)), dim=-1))

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

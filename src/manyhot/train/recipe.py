"""The recipe of a training run: each setting with its default, read from TOML and checked at once.

Importing it needs no PyTorch.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, did_you_mean

NOT_ASKED = ("no", "mask")
"""Treatment of classes that were not asked about: absent or unknown."""

LISTED = ("label", "sets", "soft")
"""Targets of whole images: the original label, the label set, or the probability of each class."""

TEACH = (*LISTED, "maps")
"""Targets of the whole image, or of the crop by a label map."""

CHOICES: dict[str, tuple[str, ...]] = {
    "teach": TEACH,
    "not_asked": NOT_ASKED,
    "empty": ("skip", "no"),
    "schedule": ("cosine", "constant", "step"),
    "augment": ("crop", "mirror", "none"),
    "policy": ("none", "rand-augment", "3-augment"),
    "order": ("auto", "all", "shards"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
"""The allowed values of settings."""

MAGNITUDES = 30
"""The largest magnitude of RandAugment."""


def _finite(low: float, high: float = math.inf) -> Callable[[float], bool]:
    return lambda value: math.isfinite(value) and low <= value <= high


_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("epochs", "batch", "accumulate", "lanes", "buffer"), (_finite(1), "1 or more")),
    **dict.fromkeys(("weight_decay", "warmup", "mixup", "cutmix", "clip", "seed"), (_finite(0), "0 or more")),
    **dict.fromkeys(("momentum", "ema", "drop", "drop_path"), (lambda v: 0 <= v < 1, "0 or more, below 1")),
    "lr": (lambda v: math.isfinite(v) and v > 0, "above 0"),
    "least_area": (lambda v: 0 < v <= 1, "above 0, at most 1"),
    "size": (_finite(8, 4096), "8 to 4,096 pixels"),
    "operations": (_finite(1, 14), "1 to 14"),
    "magnitude": (_finite(0, MAGNITUDES), f"0 to {MAGNITUDES}"),
    "jitter": (_finite(0), "0 or more"),
}


@dataclass(frozen=True)
class Recipe:
    """The settings of a run.

    Attributes
    ----------
    model : str
        A timm network, such as ``timm/resnet50``, or a packaged one, such as ``efficientnet-lite0``.
    weights : str
        ``published`` for the published weights, ``none`` for random weights, or a file: the network of an
        earlier run, or a checkpoint of timm or PyTorch for the same architecture.
    trained_from : str
        The first layer that is trained, such as ``blocks.6``. Earlier layers keep their weights. If empty,
        all layers are trained.
    teach : str
        The targets: ``label`` for the original label, ``sets`` for the label set, ``soft`` for soft labels,
        or ``maps`` for a label map.
    maps : str
        The file of label maps to use as targets; see `manyhot.train.label_maps`.
    loss : str
        A registered loss. The default is ``bce`` for label sets and ``softmax`` for all other targets.
    not_asked : str
        Treatment of classes that were not asked about: ``no`` to treat them as absent, or ``mask`` to ignore
        them.
    empty : str
        Treatment of images without a class: ``skip`` to leave them out, or ``no`` to treat all classes as
        absent. Under a sigmoid, ``skip`` keeps images whose classes were all answered no and, if classes that
        were not asked about are masked, images with some classes answered no.
    epochs : int
        Number of passes over the images.
    batch : int
        Number of images per step, over all processes.
    accumulate : int
        Number of parts into which each batch is split. The loss is that of the whole batch, but batch norms
        see one part at a time.
    order : str
        ``all`` draws one random order of all images in each epoch. ``shards`` shuffles shards and uses a
        shuffle buffer, for images that neither fit into memory nor allow random access. ``auto`` uses ``all``
        if possible and otherwise ``shards``.
    lanes : int
        Number of streams to which shards are distributed. A batch has the same number of images from each
        stream, so that the batches are the same for any number of processes that divides the number of lanes.
    buffer : int
        Size of the shuffle buffer of a lane, in images.
    optimiser : str
        Name of an optimiser of timm. Weight decay does not apply to biases and norms.
    lr, weight_decay, momentum : float
        Settings of the optimiser. The learning rate is the maximum of the schedule.
    schedule : str
        Schedule of the learning rate: ``cosine``, ``constant``, or ``step``, which divides it by ten after
        each third of the epochs.
    warmup : float
        Number of epochs in which the learning rate rises from 0.
    clip : float
        Maximum norm of the gradient; 0 for no limit.
    drop, drop_path : float
        The dropout rate before the classifier, and the rate at which residual branches are dropped, as in
        timm.
    size : int, optional
        Height and width of the images in pixels. By default, the input size of the network.
    augment : str
        ``crop`` for random resized crops and horizontal flips, ``mirror`` for horizontal flips only, or
        ``none``.
    least_area : float
        Smallest area of a random crop, as a share of the image.
    policy : str
        Further augmentation: ``rand-augment``, ``3-augment`` or ``none``.
    operations : int
        Number of operations of RandAugment per crop.
    magnitude : float
        Strength of the operations of RandAugment, from 0 to 30.
    jitter : float
        Maximum change of brightness, contrast and saturation, as a share.
    mixup, cutmix : float
        The α of the Beta distribution of the shares of mixed images, or 0 for no mixing. If both are set,
        each image is mixed in one of the two ways, with equal probability.
    ema : float
        Decay of the moving average of the weights, or 0 for none. The average is evaluated and written
        instead of the weights.
    best : str
        Metric that determines which epoch is chosen. The weights of the epoch with the best value are
        written, instead of those of the last epoch.
    precision : str
        Precision, as in Lightning Fabric: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    seed : int
        Seed for the initial weights, the order, the crops and the mixing.
    """

    model: str = "timm/resnet18"
    weights: str = "published"
    trained_from: str = ""
    teach: str = "sets"
    maps: str = ""
    loss: str = ""
    not_asked: str = "no"
    empty: str = "skip"
    epochs: int = 30
    batch: int = 64
    accumulate: int = 1
    order: str = "auto"
    lanes: int = 8
    buffer: int = 512
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 1.0
    clip: float = 0.0
    drop: float = 0.0
    drop_path: float = 0.0
    size: int | None = None
    augment: str = "crop"
    least_area: float = 0.25
    policy: str = "none"
    operations: int = 2
    magnitude: float = 9.0
    jitter: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    best: str = ""
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        for what, allowed in CHOICES.items():
            if getattr(self, what) not in allowed:
                raise InputError(
                    f"`{what}` of the recipe is unknown.",
                    got=getattr(self, what),
                    allowed=", ".join(allowed),
                    do=did_you_mean(str(getattr(self, what)), allowed, n=1, show=str),
                )
        for what, (fits, range_) in _RANGES.items():
            value = getattr(self, what)
            if value is not None and not fits(value):
                raise InputError(f"`{what}` of the recipe is out of range.", got=value, allowed=range_)
        if (self.teach == "maps") != bool(self.maps):
            raise InputError(
                "The settings `teach` and `maps` do not match.",
                got=f"teach {self.teach!r}, maps {self.maps!r}",
                do="set both `teach` to 'maps' and `maps` to a file written by manyhot label-maps",
            )
        if self.augment == "none" and self.alters:
            raise InputError(
                "The settings `policy` and `jitter` cannot be used if `augment` is 'none'.",
                got=f"policy {self.policy!r}, jitter {self.jitter:g}",
                do="set `augment` to 'mirror' or 'crop', or leave out `policy` and `jitter`",
            )
        if self.accumulate > self.batch:
            raise InputError(
                "A step has more parts than images.",
                got=f"accumulate {self.accumulate}, batch {self.batch}",
                do="lower `accumulate`",
            )

    @property
    def alters(self) -> bool:
        """Whether images are changed beyond cropping and mirroring."""
        return self.policy != "none" or self.jitter > 0

    def unaltered(self) -> Recipe:
        """Return the recipe without augmentation."""
        return dataclasses.replace(self, augment="none", policy="none", jitter=0.0)

    @property
    def named_loss(self) -> str:
        """The name of the loss. By default, it is the usual one for the targets."""
        return self.loss or ("bce" if self.teach == "sets" else "softmax")

    def to_dict(self) -> dict[str, Any]:
        """Return all settings keyed by name."""
        return dataclasses.asdict(self)


def recipe_of(settings: Mapping[str, Any], where: object = None) -> Recipe:
    """Return a recipe of settings by name.

    Raises
    ------
    InputError
        If a setting does not exist, or if its value has the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(Recipe)}
    for name, value in settings.items():
        if name not in fields:
            raise InputError(
                f"A recipe has no setting {name!r}.",
                where=where,
                got=value,
                allowed=", ".join(fields),
                do=did_you_mean(name, fields, show=str),
            )
        default = fields[name].default
        kind = type(default) if default is not None else int
        if not _fits(value, kind, default is None):
            raise InputError(
                f"The setting {name!r} is of another type.",
                where=where,
                got=repr(value),
                allowed=kind.__name__,
            )
    return Recipe(**settings)


def _fits(value: Any, kind: type, none: bool) -> bool:
    if isinstance(value, bool) or value is None:
        return value is None and none
    return isinstance(value, (int, float) if kind is float else kind)


_LARGEST = 1 << 14
"""Bytes of a recipe; one with all settings has 1,000."""

_LARGE = 1 << 63
"""Integers of TOML have 64 bits."""


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings of a TOML file.

    Raises
    ------
    InputError
        If the file does not exist or is not TOML.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("The file does not exist.", where=path)
    try:
        if file.stat().st_size > _LARGEST:  # 50,000 dotted keys take 20 s
            raise ValueError(f"{file.stat().st_size:,} bytes")
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        repr(found)  # Dotted keys nest without recursion, and hexadecimal digits have no limit.
        if any(isinstance(value, int) and not -_LARGE <= value < _LARGE for value in found.values()):
            raise ValueError("a number of more than 64 bits")
        return found
    except (ValueError, RecursionError) as error:  # of TOML, UTF-8, a number of over 4,300 digits, or nesting
        raise InputError("The recipe is not TOML.", where=path, got=error) from error

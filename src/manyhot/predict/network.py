"""A network over a class list, and its preprocessing: an image resized, cropped and normalised, and back.

Pixels stay integers from 0 to 255 up to the network: this takes a quarter of the memory, and engines that
accept bytes normalise within their graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import typing as npt

from manyhot.classes import ClassList
from manyhot.core.array_types import AnyFloats
from manyhot.errors import InputError, MatchError
from manyhot.tables.own_classes import are_numbers

if TYPE_CHECKING:
    from torch import Tensor, nn

Bytes = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


def as_scores(values: Any, model: str) -> Float32Array:
    """Return the value that a model's function returned as an array.

    Raises
    ------
    InputError
        If the values are complex: NumPy would drop their imaginary part.
    """
    if np.iscomplexobj(values):
        dtype = str(np.asarray(values).dtype)
        raise InputError(
            "The network returns complex scores.", where=model, got=dtype, allowed="real numbers"
        )
    with np.errstate(over="ignore"):  # infinite scores are refused later, with the name of an image
        return np.asarray(values, np.float32)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
MODES = ("center", "squash", "border")

PREPROCESSING_OPTIONS = ("size", "crop_pct", "mode", "interpolation", "mean", "std")
"""The options of preprocessing in the name of a model."""

CROP_PCT = 0.875
"""Default share of the resized side that the crop keeps."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a network.

    Attributes
    ----------
    size : (int, int)
        Height and width of its input.
    scale : (int, int)
        Height and width before the crop. In mode ``center``, the image is resized to cover this size.
    mode : str
        ``center`` keeps the aspect ratio and crops the centre, ``squash`` changes the aspect ratio, and
        ``border`` keeps the aspect ratio and pads.
    interpolation : str
        One of `INTERPOLATIONS`, with antialiasing.
    mean, std : tuple of float
        Mean and standard deviation of each channel, for pixel values between 0 and 1.
    """

    size: tuple[int, int] = (224, 224)
    scale: tuple[int, int] = (256, 256)
    mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("mode of cropping", self.mode, MODES),
            ("interpolation", self.interpolation, INTERPOLATIONS),
        ):
            if value not in allowed:
                raise InputError(f"There is no {what} {value!r}.", allowed=", ".join(allowed))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Resize and crop one image, uint8 of shape (3, H, W), to shape (3, height, width)."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        how = InterpolationMode(self.interpolation)
        if self.mode == "border" or how is InterpolationMode.LANCZOS:
            return self._by_pillow(pixels)
        resized = F.resize(pixels, self._resized(*pixels.shape[1:]), how, antialias=True)
        cropped: Tensor = F.center_crop(resized, list(self.size))
        return cropped

    @property
    def crop(self) -> Preprocessing:
        """The settings that determine the pixels: all except mean and std, plus the colour of a border."""
        mean = self.mean if self.mode == "border" else IMAGENET_MEAN
        return replace(self, mean=mean, std=IMAGENET_STD)

    def window(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the position of the network's input in an image.

        Parameters
        ----------
        height, width : int
            Size of the image, in pixels.

        Returns
        -------
        resized : (int, int)
            Height and width after resizing.
        corner : (int, int)
            Row and column of the resized image at which the input begins. Negative if the image is padded.
        """
        if self.mode == "border":
            ratio = max(height / self.scale[0], width / self.scale[1])
            resized = round(height / ratio), round(width / ratio)
        else:
            resized = (self._resized(height, width)[0], self._resized(height, width)[1])
        apart = [has - wants for has, wants in zip(resized, self.size, strict=True)]
        top, left = (round(d / 2) if d >= 0 else -(-d // 2) for d in apart)
        return resized, (top, left)

    def _resized(self, height: int, width: int) -> list[int]:
        """Return height and width after resizing, as torchvision and timm round them."""
        high, wide = self.scale
        if self.mode == "squash":
            return [high, wide]
        if high == wide:
            short, long = min(height, width), max(height, width)
            other = int(high * long / short)
            return [high, other] if height <= width else [other, high]
        ratio = min(height / high, width / wide)
        return [round(height / ratio), round(width / ratio)]

    def _by_pillow(self, pixels: Tensor) -> Tensor:
        """Resize as timm does if torchvision has no kernel for bytes."""
        import numpy as np
        import torch
        from PIL import Image
        from timm.data import transforms as t
        from torchvision.transforms import CenterCrop, Resize

        timm: Any = t
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        if self.mode == "border":
            fill = [round(255 * v) for v in self.mean]
            image = timm.ResizeKeepRatio(self.scale, interpolation=self.interpolation, longest=1.0)(image)
            image = timm.CenterCropOrPad(list(self.size), fill=fill)(image)
        else:
            size = self._resized(image.height, image.width)
            image = CenterCrop(self.size)(Resize(size, timm.str_to_interp_mode(self.interpolation))(image))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def with_options(self, options: Mapping[str, Any]) -> Preprocessing:
        """Return a copy with some of `PREPROCESSING_OPTIONS`.

        Raises
        ------
        InputError
            If an option does not exist, or if its value is out of range.
        """
        unknown = [name for name in options if name not in PREPROCESSING_OPTIONS]
        if unknown:
            raise InputError(
                f"Preprocessing has no option {unknown[0]!r}.",
                got=options[unknown[0]],
                allowed=", ".join(PREPROCESSING_OPTIONS),
            )
        changed = replace(
            self,
            mode=options.get("mode", self.mode),
            interpolation=options.get("interpolation", self.interpolation),
            mean=channels("mean", options.get("mean", self.mean)),
            std=channels("std", options.get("std", self.std)),
        )
        if "size" not in options and "crop_pct" not in options:
            return changed
        size = sides(options.get("size", self.size))
        crop_pct = options.get("crop_pct", self.size[0] / self.scale[0])
        if not (isinstance(crop_pct, int | float) and 0 < crop_pct <= 2):
            raise InputError(
                "`crop_pct` must be the share of the resized side that is kept.",
                got=crop_pct,
                allowed="above 0, at most 2",
            )
        return replace(changed, size=size, scale=scaled(size, crop_pct))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, for the metadata of predictions."""
        return asdict(self)


def scaled(size: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Return the size before a crop that keeps the given share of each side, rounded down as in timm."""
    return math.floor(size[0] / crop_pct), math.floor(size[1] / crop_pct)


def from_timm(config: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Preprocessing:
    """Return the preprocessing for a configuration from ``timm.data.resolve_data_config``.

    `options` are some of `PREPROCESSING_OPTIONS`. They override those of the configuration.

    Raises
    ------
    InputError
        As in `Preprocessing.with_options`, or if the network does not take three channels.
    """
    depth, *found = config["input_size"]
    if depth != 3:
        raise InputError("The network does not take RGB images.", got=f"{depth} channels", allowed="3")
    size, crop_pct = sides(found), config.get("crop_pct") or CROP_PCT
    own = Preprocessing(
        size,
        scaled(size, crop_pct),
        config.get("crop_mode") or "center",
        config.get("interpolation") or "bicubic",
        channels("mean", config.get("mean", IMAGENET_MEAN)),
        channels("std", config.get("std", IMAGENET_STD)),
    )
    return own.with_options({"crop_pct": crop_pct, **(options or {})})


def channels(name: str, value: Any) -> tuple[float, ...]:
    """Return one number per channel; raise an error for invalid means and standard deviations."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    # For pixels from 0 to 255 they would be above 1, and a network also answers on black images.
    if (
        len(values) != 3
        or not all(isinstance(v, int | float) and 0 <= v <= 1 for v in values)
        or (name == "std" and 0 in values)
    ):
        raise InputError(
            f"`{name}` must be one number, or one number per channel, for pixel values between 0 and 1.",
            got=value,
            allowed="such as 0.5 or (0.5, 0.5, 0.5)",
        )
    return tuple(float(v) for v in values)


def sides(value: Any) -> tuple[int, int]:
    """Return height and width; raise an error for anything but one or two side lengths."""
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int) and v > 0 for v in pair):
        raise InputError(
            "`size` must be one side length, or a height and a width, in pixels.",
            got=value,
            allowed="such as 224",
        )
    return pair[0], pair[1]


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier, built and ready for an engine.

    One of `module`, `file` and `forward` computes the scores of the network.

    Attributes
    ----------
    name : str
        Name of the model in tables, such as ``timm/resnet50.a1_in1k``.
    classes : ClassList
        The classes, in the order of the columns of the score arrays.
    preprocessing : Preprocessing
    module : torch.nn.Module, optional
        Maps normalised images, float32 of shape (n, 3, height, width), to logits of shape (n, C).
    head : str
        Path of the layer of `module` that takes the penultimate features. Empty if unknown.
    backbone : str
        Name and weights of the backbone if the layer `head` is a manyhot head. Networks with the same
        backbone and preprocessing have the same penultimate features.
    file : str
        An ONNX or OpenVINO file, which is run without conversion.
    forward : callable, optional
        Maps cropped images, uint8 of shape (n, 3, height, width), to logits, for a model that runs its own
        code without an engine.
    members : callable, optional
        Yields the probabilities of each member for cropped images; `forward` returns their mean.
    score_kind : str
        The kind of the scores, such as ``logit``.
    multilabel : bool
        Whether several classes can be valid together, so that probabilities need not add up to 1.
    about : Mapping of str to str
        Further metadata of the predictions, such as the origin of the weights.
    notes : tuple of str
        Caveats about the predictions, such as assumed preprocessing.
    assumed : Mapping of str to Any
        Preprocessing options that the model does not specify, with their assumed values.
    """

    name: str
    classes: ClassList
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    module: nn.Module | None = None
    head: str = ""
    backbone: str = ""
    file: str = ""
    forward: Callable[[Bytes], npt.ArrayLike] | None = None
    members: Callable[[Bytes], Iterable[AnyFloats]] | None = None
    score_kind: str = "logit"
    multilabel: bool = False
    about: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_features(self) -> bool:
        """Whether engines can return penultimate features. TorchScript runs no hooks."""
        import torch

        return bool(self.head) and not isinstance(self.module, torch.jit.ScriptModule)

    def columns_of(self, classes: ClassList | None) -> npt.NDArray[np.intp] | None:
        """Return the index of each class of a data set in the output; None if the class lists are equal.

        Raises
        ------
        MatchError
            If the network lacks some of the classes.
        """
        if classes is None or classes.hash == self.classes.hash:
            return None
        known = {key: i for i, key in enumerate(self.classes.keys)}
        missing = [key for key in classes.keys if key not in known]
        if missing:
            do = "choose a model that has them"
            if are_numbers(self.classes.keys):
                do = f"its {len(known):,} outputs have no names: pass as many classes, in their order"
            elif len(missing) < len(classes):
                do += f", or pass a class list without {'it' if len(missing) == 1 else 'them'} as `classes`"
            else:
                do = "leave out `classes` to predict the model's own classes; manyhot transfer --method "
                do += "probe fits a model of these classes"
            raise MatchError(
                "The model lacks some classes of the data set.",
                where=self.name,
                got=f"{len(missing):,} of {len(classes):,} unknown, such as {missing[0]}",
                allowed=f"the {len(known):,} keys of {self.classes.name}, such as {next(iter(known))}",
                do=do,
            )
        return np.array([known[key] for key in classes.keys])


def normalised(module: Any, preprocessing: Preprocessing, head: str = "") -> Any:
    """Return a module that maps bytes to logits and, if `head` is set, to the input of the layer `head`.

    The module includes the normalisation, so that engines accept bytes and can fuse the normalisation with
    the first layer.
    """
    import threading

    import torch

    calls = threading.local()  # several threads may run one module

    def look(_: Any, inputs: Any) -> None:
        if getattr(calls, "features", None) is not None:  # else another engine runs the module
            calls.features.append(inputs[0])

    class Normalised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            mean, std = (
                torch.tensor(v, dtype=torch.float64) for v in (preprocessing.mean, preprocessing.std)
            )
            scale, shift = 1 / (255 * std), -mean / std
            self.register_buffer("scale", scale.float().view(1, 3, 1, 1))
            self.register_buffer("shift", shift.float().view(1, 3, 1, 1))
            if head:
                self.module.get_submodule(head).register_forward_pre_hook(look)

        def forward(self, images: Any) -> Any:
            calls.features = [] if head else None
            logits = self.module(images.to(self.scale.dtype) * self.scale + self.shift)
            if not head:
                return logits
            (one, *others), calls.features = calls.features, None
            return logits, torch.stack([one, *others]).mean(0) if others else one  # of each augmentation

    return Normalised().eval().requires_grad_(False)


def placed(maps: npt.ArrayLike, preprocessing: Preprocessing, height: int, width: int) -> Float32Array:
    """Resample maps to the pixels of an image, with NaN outside the network's input.

    Parameters
    ----------
    maps : array-like of float, shape (…, h, w)
        Maps over the input of the network, at any resolution. Each cell is the value at its centre, and
        values between centres are interpolated linearly. A map finer than the image is averaged over each
        pixel.
    preprocessing : Preprocessing
    height, width : int
        Size of the image, in pixels.

    Returns
    -------
    ndarray of float32, shape (…, height, width)
    """
    grid: Any = np.asarray(maps, np.float32)
    resized, corner = preprocessing.window(height, width)
    rows, columns = (
        _weights(cells, crop, side, after, start)
        for cells, crop, side, after, start in zip(
            grid.shape[-2:], preprocessing.size, (height, width), resized, corner, strict=True
        )
    )
    found: Float32Array = rows @ grid @ columns.T
    return found


def _weights(cells: int, crop: int, side: int, resized: int, start: int) -> Float32Array:
    """Return the weight of each cell along an axis for each pixel of the image, shape (side, cells)."""
    centre = (np.arange(side) + 0.5) * resized / side - start  # in pixels of the crop
    place = np.clip(centre * cells / crop - 0.5, 0, cells - 1)
    reach = max(1.0, resized / side * cells / crop)  # of a triangle that is as wide as a pixel, or a cell
    weights: Any = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)) / reach)
    weights /= weights.sum(1, keepdims=True)
    weights[(centre < 0) | (centre > crop)] = np.nan
    found: Float32Array = weights.astype(np.float32)
    return found

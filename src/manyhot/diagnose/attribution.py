"""What in an image supports a class, according to a network: maps computed by captum.

A map is not a proof: it says where a network's score is sensitive, by one definition of that. Whether it
points at the object, or distinguishes classes, must be measured (`manyhot.core.detection`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manyhot.diagnose.network_layers import find_grids
from manyhot.errors import InputError, UnknownNameError
from manyhot.extras import required
from manyhot.predict.engines.torch import device
from manyhot.predict.models import find_model
from manyhot.predict.network import Bytes, Float32Array, Network, normalised, placed
from manyhot.predict.weights import error_line

STEPS = 16
"""Steps of integrated gradients between the baseline and the image."""

WINDOWS = 7
"""Windows of occlusion along an axis; they move by half of their side."""

CELLS = 14
"""Cells along an axis, over which maps by pixel are averaged: the gradient of one pixel is noise. On 168 maps
of PASCAL VOC, the highest point of a saliency map is on the object in 47 % by pixels, in 54 % by cells.
"""

_MOST_AFTER = 3


def gradcam(net: Explainer, images: Any, owner: Any, target: Any) -> Any:
    """Sum the channels of the last grid, each weighted by its mean gradient, and keep positive values.

    In most networks, a cell of the grid covers 32 × 32 pixels. The method is about as fast as predicting,
    because the layers up to the grid process each image only once, regardless of the number of classes.

    References
    ----------
    Selvaraju et al. 2017, Grad-CAM, doi 10.1109/ICCV.2017.74.
    """
    layer = net.module.module.get_submodule(net.grid)
    # From the grid on there is a row for each class; earlier layers are computed once.
    hook = layer.register_forward_hook(lambda _, __, out: out[owner])
    try:
        return net.captum.LayerGradCam(net.forward, layer).attribute(images, target, relu_attributions=True)[
            :, 0
        ]
    finally:
        hook.remove()


def integrated_gradients(net: Explainer, images: Any, owner: Any, target: Any) -> Any:
    """Integrate the gradient at each pixel along a path from an image of the mean colour to the image.

    The map is signed. Its sum over all pixels is the score of the image minus the score of the mean colour,
    up to the error of integrating in 16 steps. Computing the map of one class takes about as long as 50
    predictions.

    References
    ----------
    Sundararajan et al. 2017, Axiomatic attribution for deep networks, arXiv 1703.01365.
    """
    found = net.captum.IntegratedGradients(net.forward).attribute(
        images[owner].float(),
        net.blank,
        target,
        n_steps=STEPS,
        internal_batch_size=max(net.batch, len(owner)),
    )
    return _cells(found.sum(1))


def occlusion(net: Explainer, images: Any, owner: Any, target: Any) -> Any:
    """Measure how much the score falls when a square of the mean colour covers part of the image.

    The map is signed. Each square is a seventh as wide and a seventh as high as the image, and moves in steps
    of half its size. Computing the map of one class takes about as long as 170 predictions.

    References
    ----------
    Zeiler & Fergus 2014, doi 10.1007/978-3-319-10590-1_53.
    """
    sides = [max(1, side // WINDOWS) for side in images.shape[2:]]
    found = net.captum.Occlusion(net.forward).attribute(
        images[owner].float(),
        (3, *sides),
        (3, *(max(1, side // 2) for side in sides)),
        net.blank,
        target,
        perturbations_per_eval=max(1, net.batch // len(owner)),
    )
    return _cells(found[:, 0])


def saliency(net: Explainer, images: Any, owner: Any, target: Any) -> Any:
    """Take the largest absolute gradient over the channels of each pixel.

    The map shows where a small change would affect the score most, but not in which direction. Computing the
    map of one class takes about as long as three predictions.

    References
    ----------
    Simonyan et al. 2014, arXiv 1312.6034.
    """
    found = net.captum.Saliency(net.forward).attribute(images[owner].float().requires_grad_(), target)
    return _cells(found.amax(1))


def _cells(maps: Any) -> Any:
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(maps, (min(CELLS, maps.shape[1]), min(CELLS, maps.shape[2])))


METHODS: Mapping[str, Callable[[Explainer, Any, Any, Any], Any]] = {
    "gradcam": gradcam,
    "integrated-gradients": integrated_gradients,
    "occlusion": occlusion,
    "saliency": saliency,
}
"""Each takes images, the image of each row and its class, and returns maps of shape (rows, h, w), grids over
the images."""


@dataclass(frozen=True, eq=False)
class Explainer:
    """A network and the method that explains it.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    layer : str
        For Grad-CAM only: path of the layer to use; by default the last layer whose output is a grid over the
        image.
    batch : int
        Number of (image, class) pairs per batch. Grad-CAM computes all pairs in one batch.

    Raises
    ------
    UnknownNameError
        If there is no such method or layer.
    InputError
        If the network is not a PyTorch module, or has no layer near its end whose output is a grid.
    MissingExtraError
        If captum is not installed.
    """

    network: Network
    method: str = "gradcam"
    layer: str = ""
    batch: int = 8

    def __post_init__(self) -> None:
        _ = self.captum
        if self.method not in METHODS:
            raise UnknownNameError(
                f"There is no explanation method {self.method!r}.", allowed=", ".join(METHODS)
            )
        if self.network.module is None:
            raise InputError(
                "Only a PyTorch network can be explained, because other networks do not provide gradients.",
                where=self.network.name,
                do="pass the PyTorch model that was exported, such as timm/…, torchvision/… or python:…",
            )
        if self.batch < 1:
            raise InputError("batch must be at least 1.", got=self.batch)
        if self.layer and self.method != "gradcam":
            raise InputError("Only the method gradcam uses a layer.", got=f"{self.layer} with {self.method}")
        if self.method == "gradcam":
            _ = self.grid  # that it has none is said at once
        _ = self._last  # found before any other hook is set

    @functools.cached_property
    def captum(self) -> Any:
        """The captum method that computes the maps."""
        return required("captum.attr", "An explanation", '"manyhot[diagnose]"')

    @functools.cached_property
    def module(self) -> Any:
        """The network from bytes to scores."""
        return normalised(self.network.module, self.network.preprocessing).to(device())

    @functools.cached_property
    def grid(self) -> str:
        """The path of the layer whose grid Grad-CAM uses."""
        grids, after = find_grids(self.network)
        if self.layer:
            if self.layer not in grids:
                raise UnknownNameError(
                    f"The network has no layer {self.layer!r} whose output is a grid over the image.",
                    where=self.network.name,
                    allowed=f"the {len(grids)} layers with such an output, such as "
                    f"{', '.join(list(grids)[-3:])}",
                )
            return self.layer
        if not grids or after > _MOST_AFTER:
            raise InputError(
                "Grad-CAM needs a layer near the end of the network whose output is a grid over the image, "
                "but there is none.",
                where=self.network.name,
                got=f"{after} layers with weights after the last such layer" if grids else "no grid at all",
                do="choose another method with `method`, or a layer with `layer`",
            )
        return list(grids)[-1]

    @functools.cached_property
    def blank(self) -> Any:
        """An image of the mean colour, shape (1, 3, height, width)."""
        import torch

        made = self.network.preprocessing
        colour = 255 * torch.tensor(made.mean, device=device()).view(1, 3, 1, 1)
        return colour.expand(1, 3, *made.size)

    @functools.cached_property
    def _last(self) -> Any:
        """The sigmoid or softmax that ends the network, if it has one."""
        if self.network.score_kind != "probability":
            return None
        import torch

        seen: list[tuple[Any, Any]] = []
        ends = [m for m in self.module.modules() if isinstance(m, torch.nn.Sigmoid | torch.nn.Softmax)]
        hooks = [m.register_forward_hook(lambda m, _, out: seen.append((m, out))) for m in ends]
        with torch.inference_mode():
            scores = self.module(self.blank)
        for hook in hooks:
            hook.remove()
        return next((m for m, out in seen if torch.equal(out, scores)), None)

    def forward(self, images: Any) -> Any:
        """Return the scores to explain: logits, even for networks that output probabilities.

        If a network outputs probabilities but does not end in a sigmoid or softmax layer, the logit is log(p
        / (1 - p)).
        """
        import torch

        if self._last is None:
            out = self.module(images)
            return torch.logit(out, 1e-7) if self.network.score_kind == "probability" else out
        seen: list[Any] = []
        hook = self._last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.module(images)
        finally:
            hook.remove()
        return seen[-1]

    def scores(self, crops: Bytes) -> Float32Array:
        """Return the scores of images that `Preprocessing` has cropped, shape (n, C)."""
        import torch

        with torch.inference_mode(), self._pytorch_errors(len(crops)):
            return np.asarray(self.module(self._images(crops)).float().cpu().numpy(), np.float32)

    def maps(self, crops: Bytes, classes: Sequence[Sequence[int]]) -> list[Float32Array]:
        """Return a map for each class of each image, over the pixels of the crop or over a grid of cells.

        Parameters
        ----------
        crops : ndarray of uint8, shape (n, 3, height, width)
        classes : sequence of sequence of int
            The classes to explain for each image.

        Returns
        -------
        list of ndarray of float32, shape (k, h, w)
        """
        import torch

        rows = [(i, c) for i, own in enumerate(classes) for c in own]
        found = []
        images = self._images(crops)
        step = len(rows) if self.method == "gradcam" else self.batch
        for start in range(0, len(rows), step or 1):
            owner, target = torch.tensor(rows[start : start + step], device=images.device).T
            with self._pytorch_errors(len(crops)):
                maps = METHODS[self.method](self, images, owner, target)
            found.append(maps.detach().float().cpu().numpy())
        edges = np.cumsum([len(own) for own in classes])[:-1]
        whole = np.concatenate(found) if found else np.empty((0, 1, 1), np.float32)
        return np.split(whole.astype(np.float32), edges)

    def _images(self, crops: Bytes) -> Any:
        import torch

        return torch.from_numpy(crops).to(device()).contiguous(memory_format=torch.channels_last)

    @contextlib.contextmanager
    def _pytorch_errors(self, n: int) -> Iterator[None]:
        """Turn errors of PyTorch into our own."""
        try:
            yield
        except RuntimeError as error:
            if "memory" in str(error):
                raise InputError(
                    "The batch does not fit into memory.",
                    where=self.network.name,
                    got=f"{n} images at once: {error_line(error)}",
                    do="set a smaller batch with `batch`",
                ) from error
            raise InputError(
                f"The method {self.method} cannot explain this network.",
                where=" ".join([self.network.name, self.layer]).strip(),
                got=error_line(error),
                do="choose another method with `method`, or another layer with `layer`",
            ) from error


def attribute(
    model: str | Network,
    images: Bytes | Sequence[Bytes],
    classes: int | str | Sequence[int | str],
    method: str = "gradcam",
    *,
    layer: str = "",
    batch: int = 8,
) -> Any:
    """Return, for each image, a map of the regions that support a class.

    Parameters
    ----------
    model : str or Network
        A name, as for `predict`, or a network.
    images : ndarray of uint8, shape (n, 3, h, w), or sequence of ndarray of uint8, shape (3, h, w)
        Original images; they are resized and cropped for the model.
    classes : int, str, or a sequence of n of these
        The class to explain, as its id or key in the model's class list: either one class for all images, or
        one per image.
    method : str
        ``gradcam``, ``integrated-gradients``, ``occlusion`` or ``saliency``.
    layer : str
        For Grad-CAM only: path of the layer to use; by default the last layer whose output is a grid over the
        image.
    batch : int
        Number of images per batch.

    Returns
    -------
    ndarray of float32, shape (n, h, w), or list of these of shape (h, w)
        A map over the pixels of each image, NaN outside the model's crop. If `images` is a list, the maps are
        returned as a list.

    Raises
    ------
    UnknownNameError
        If there is no such model, class, method or layer.
    InputError
        If an array is not an image, or the model cannot be explained.
    MissingExtraError
        If captum is not installed.
    """
    network = model if isinstance(model, Network) else find_model(model)
    explainer = Explainer(network, method, layer, batch)
    class_ids = [class_of(network, c) for c in _one_each(classes, len(images))]
    found: list[Float32Array] = []
    for start in range(0, len(images), batch):
        part = [_checked(image) for image in images[start : start + batch]]
        crops = np.stack([cropped(network, image) for image in part])
        maps = explainer.maps(crops, [[c] for c in class_ids[start : start + batch]])
        for image, own in zip(part, maps, strict=True):
            found.append(placed(own[0], network.preprocessing, *image.shape[1:]))
    return np.stack(found) if isinstance(images, np.ndarray) and found else found


def cropped(network: Network, image: Bytes) -> Bytes:
    """Return an image as the network sees it, uint8 of shape (3, height, width)."""
    import torch

    crop: Bytes = network.preprocessing(torch.from_numpy(np.ascontiguousarray(image))).numpy()
    return crop


def class_of(network: Network, name: int | str) -> int:
    """Return the id of a class, given its key or id.

    Raises
    ------
    UnknownNameError
        If the model does not have this class.
    """
    keys = network.classes.keys
    number = keys.index(name) if isinstance(name, str) and name in keys else name
    if isinstance(number, str) or not 0 <= number < len(keys):
        raise UnknownNameError(
            f"The model has no class {name!r}.",
            where=network.name,
            allowed=f"0 to {len(keys) - 1}, or the keys of {network.classes.name}, such as {keys[0]}",
        )
    return int(number)


def _one_each(classes: int | str | Sequence[int | str], n: int) -> list[int | str]:
    if isinstance(classes, int | str | np.integer):
        return [classes] * n
    if len(classes) != n:
        raise InputError(
            "There must be one class per image, or one class for all images.", got=len(classes), allowed=n
        )
    return list(classes)


def _checked(image: Any) -> Bytes:
    shape: tuple[int, ...] = getattr(image, "shape", ())
    if getattr(image, "dtype", None) != np.uint8 or len(shape) != 3 or shape[0] != 3:
        raise InputError(
            "This is not an image.",
            got=f"{getattr(image, 'dtype', type(image).__name__)} of shape {tuple(shape)}",
            allowed="uint8 of shape (3, height, width)",
        )
    return np.asarray(image)

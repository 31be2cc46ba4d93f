"""The losses in training loops other than that of ``manyhot train``: the function ``manyhot.loss``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.plug_ins import ReturnError
from manyhot.registry import Entry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossFunction:
    """A loss as a function of logits and targets that can be pickled; see `loss`."""

    spec: str
    entry: Entry

    def __call__(
        self, logits: Tensor, targets: Tensor, *, mask: Tensor | None = None, epoch: int = 0
    ) -> Tensor:
        """Return the loss of a batch, as described in `loss`."""
        return _value(self.entry, logits, targets, mask, epoch)

    def __repr__(self) -> str:
        return f"loss({self.spec!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return loss, (self.spec,)


def loss(spec: str) -> LossFunction:
    """Return a loss for your own training loop, as a function of logits and targets.

    The function is called as ``function(logits, targets, *, mask=None, epoch=0)``:

    logits : torch.Tensor of float, shape (n, C)
        The outputs of the network, before the softmax or sigmoid.
    targets : torch.Tensor, shape (n, C) or (n,)
        Label sets as zeros and ones, or soft labels from 0 to 1; NaN if the state of a class is unknown. A
        vector of integers contains the class of each image, and -1 if it has none.
    mask : torch.Tensor, shape (n, C), optional
        Weight of each cell, such as a mask that is false where the state of a class is unknown.
    epoch : int
        The epoch, from 0, for losses that change during training.

    It returns the mean over all n C cells, including those of weight 0; under a softmax, the mean over
    images. A softmax divides the target of an image equally among its classes, and counts unknown classes as
    absent.

    Parameters
    ----------
    spec : str
        The name of a loss, or a call string such as ``asl(gamma_neg=2)``, as for the setting ``loss`` of
        ``manyhot train``.

    Raises
    ------
    UnknownNameError
        If the loss does not exist.
    InputError
        If an option is unknown, missing or out of range, or if the loss stores values for each image of the
        training set. The returned function raises it if targets or a mask have the wrong shape or range.
    MissingExtraError
        If torch is not installed.

    Examples
    --------
    >>> import torch
    >>> asl = loss("asl(gamma_neg=2)")
    >>> bool(asl(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, float("nan")]])) > 0)
    True
    """
    required("torch", "A loss")
    from manyhot.train.losses import loss_of

    entry = loss_of(spec)
    if entry.about.get("memory") is not None:
        raise InputError(
            "The loss stores values for each image of the training set, which only manyhot's training loop "
            "supports.",
            got=spec,
            do=f"train with manyhot train --set loss={spec}, or choose another loss",
        )

    return LossFunction(spec, entry)


def check_value(entry: Entry, value: Any, arguments: tuple[Any, ...]) -> Tensor:
    """Check what a loss of another package returned for logits and targets.

    The loss may be infinite or NaN here; the training loop checks that without waiting for the GPU at each
    step.

    Raises
    ------
    ReturnError
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise ReturnError(f"{type(value).__name__}", "a tensor")
    if value.ndim:
        raise ReturnError(f"shape {tuple(value.shape)}", "one number, such as mean(values, targets)")
    if arguments[0].requires_grad and torch.is_grad_enabled() and not value.requires_grad:
        raise ReturnError("a value without a gradient", "a value that is computed from the logits")
    return value


def _value(entry: Entry, logits: Tensor, targets: Tensor, mask: Tensor | None, epoch: int) -> Tensor:
    import torch

    from manyhot.train.targets import Targets

    p = _dense(targets, logits)
    for name, array in (("targets", p), ("mask", mask)):
        if array is not None and array.shape != logits.shape:
            raise InputError(
                f"The {name} and the logits differ in shape.",
                got=f"shape {tuple(array.shape)}",
                allowed=f"shape {tuple(logits.shape)}",
            )
    is_known = ~p.isnan()
    if bool((is_known & ((p < 0) | (p > 1))).any()):
        raise InputError(
            "Targets are not between 0 and 1.",
            got=f"{p[is_known].min():g} to {p[is_known].max():g}",
            allowed="0 to 1, or NaN for unknown classes",
        )
    weight = is_known.to(p.dtype) if mask is None else is_known * mask.to(p)
    p = torch.where(is_known, p, 0.0)
    is_softmax = entry.about["ends"] == "softmax"
    if is_softmax:
        p = p * (weight > 0)
        p = p / p.sum(dim=1, keepdim=True).clamp(min=1e-12)
    of = Targets(p, None if is_softmax else weight, torch.arange(len(p)), epoch)
    value: Tensor = entry(logits, of)
    return value


def _dense(targets: Tensor, logits: Tensor) -> Tensor:
    """Return targets as floats of shape (n, C)."""
    import torch

    if targets.ndim != 1 or targets.is_floating_point():
        return targets.to(device=logits.device, dtype=torch.float32)
    classes = targets.to(logits.device)
    if bool(((classes < -1) | (classes >= logits.shape[1])).any()):
        raise InputError(
            "A class is out of range.",
            got=f"{int(classes.min())} to {int(classes.max())}",
            allowed=f"-1 to {logits.shape[1] - 1}",
        )
    return (classes[:, None] == torch.arange(logits.shape[1], device=logits.device)).float()

"""Linear heads fitted to features: logistic regressions, by L-BFGS over all images at once.

The loss is convex and nothing is random: the same features give the same head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.classes import ClassList
from manyhot.core.sets import NO, NO_LABEL, YES
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.parameters import check_share
from manyhot.predict.weights import Head
from manyhot.tables import FramePart, align_rows, read_frame_part
from manyhot.tables.array_inputs import in_class_order

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Penalties to try, strongest first: each fit starts from the previous one."""

HELD_OUT = 10
"""One in this many images is held out to choose the penalty."""

NEVER = -100.0
"""The logit under a softmax of a class without images."""

MASKS = 4
"""Copies of each image, with other features dropped, that a head with dropout is fitted on."""

_ROUNDS = 1000
_GRADIENT = 1e-5
"""Tolerance of the gradient. Probabilities are then within 1e-3 of the minimum: on VOC within 6e-4."""

Array = npt.NDArray[Any]
Loss = Callable[[Any, Any, Any], Any]
"""Maps logits, targets and weights, tensors of shapes (n, C), (n, …) and (n,), to the mean loss."""


@dataclass(frozen=True, eq=False)
class Invariance:
    """The change in features when images are altered; the logit of a class must not depend on it.

    If d are the differences and w are the weights of the class, half the strength times the mean of (w · d)²
    is added to the loss, so that the logit of the class changes as little as possible. This is Tikhonov
    regularisation for invariance (Bishop 1995, https://doi.org/10.1162/neco.1995.7.1.108), with measured
    directions.

    Attributes
    ----------
    class_id : int
    differences : ndarray of float, shape (k, D)
        Features of altered images minus the features of the originals.
    strength : float
    """

    class_id: int
    differences: Array
    strength: float

    def scaled(self) -> Array:
        """Return the matrix A for which the penalty is half the squared length of A w."""
        differences: Array = np.asarray(self.differences, np.float64)
        scaled: Array = np.sqrt(self.strength / max(len(differences), 1)) * differences
        return scaled


def fit_softmax(
    features: npt.ArrayLike,
    label: npt.ArrayLike,
    classes: ClassList,
    backbone: str,
    *,
    weights: npt.ArrayLike | None = None,
    penalty: float | None = None,
    dropout: float = 0.0,
    start: Head | None = None,
    invariances: Sequence[Invariance] = (),
) -> Head:
    """Fit a softmax over all classes to single labels.

    The fit minimises the mean cross-entropy plus half the penalty times the sum of the squared weights of
    standardised features. With the penalty ``1 / (C n)``, this is scikit-learn's ``LogisticRegression(C)``.

    Parameters
    ----------
    features : array-like, shape (n, D)
        Features. Rows of frames and series are matched by their index, rows of arrays by position.
    label : array-like of int, shape (n,)
        Images with `NO_LABEL` are ignored.
    classes : ClassList
        A class without images gets a probability of nearly 0.
    backbone : str
        Name of the model that computed the features, as in ``manyhot predict --model``.
    weights : array-like, shape (n,), optional
        Weights of the images; 1 by default.
    penalty : float, optional
        Penalty on the weights. By default, the value in `PENALTIES` with the highest likelihood on held-out
        images (every tenth image).
    dropout : float
        Dropout rate of the features during the fit, from 0 to below 1. In prediction, features are dropped
        only by the model ``dropout:head:FILE``. The penalty is chosen without dropout.
    start : Head, optional
        Starting point of the fit, if a penalty is set. It makes the fit faster if little has changed, and
        does not change the result.
    invariances : sequence of Invariance
        Changes in features that classes must not depend on. The penalty is chosen without the invariances.

    Raises
    ------
    InputError
        If the arrays or frames do not match, or if fewer than two classes have images.
    MissingExtraError
        If PyTorch is not installed.
    """
    x, label, weight = _aligned(features, read_frame_part(label, "label"), weights, classes)
    targets = label.astype(np.int64)
    if targets.ndim != 1 or targets.max(initial=NO_LABEL) >= len(classes):
        raise InputError(
            "A label is not one of the classes.",
            got=int(targets.max()) if targets.ndim == 1 else f"shape {targets.shape}",
            allowed=f"0 to {len(classes) - 1}, one per image",
        )
    use = (targets != NO_LABEL) & (weight > 0)
    present, targets = np.unique(targets[use], return_inverse=True)
    if len(present) < 2:
        raise InputError(
            "A head needs images of at least two classes.", got=f"classes with images: {len(present)}"
        )
    begin = _Layer.of(start, present, x.shape[1])
    ties = _ties(invariances, present)
    data = x[use], targets.astype(np.int64), weight[use]
    fitted = _fit(*data, begin, _cross_entropy, penalty, dropout, ties)
    w = np.zeros((len(classes), x.shape[1]))
    b = np.full(len(classes), NEVER)
    w[present], b[present] = fitted.weight, fitted.bias
    return _head(backbone, classes, "softmax", w, b, fitted.penalty, int(use.sum()), dropout)


def fit_sigmoid(
    features: npt.ArrayLike,
    state: npt.ArrayLike,
    classes: ClassList,
    backbone: str,
    *,
    weights: npt.ArrayLike | None = None,
    penalty: float | None = None,
    dropout: float = 0.0,
    start: Head | None = None,
    invariances: Sequence[Invariance] = (),
) -> Head:
    """Fit a sigmoid for each class to label sets: one logistic regression per class.

    For each class, the fit minimises the mean binary cross-entropy over the images with a known state of the
    class, plus half the penalty times the sum of the squared weights. Images for which a class is unclear or
    was not asked about are ignored for this class.

    Parameters
    ----------
    features : array-like, shape (n, D)
    state : array-like of int, shape (n, C)
        State of each class: `manyhot.core.sets.YES`, `NO`, `UNCLEAR` or `NOT_ASKED`. Columns of a frame are
        matched by the keys or names of classes.
    classes : ClassList
        A class that is always or never valid gets the same probability for all images. This probability is
        the share of images with the class, after adding half an image with the class and half an image
        without it.
    backbone, weights, penalty, dropout, start, invariances
        As in `fit_softmax`.

    Raises
    ------
    InputError
        If the arrays or frames do not match, or if no class is valid for some images and absent for others.
    MissingExtraError
        If PyTorch is not installed.
    """
    x, states, weight = _aligned(features, read_frame_part(state, "state"), weights, classes)
    if states.ndim != 2 or states.shape[1] != len(classes):
        raise InputError(
            "The states do not match the classes.",
            got=f"shape {states.shape}",
            allowed=f"(n, {len(classes)})",
        )
    use = weight > 0
    x, states, weight = x[use], states[use], weight[use]
    yes, no = (weight @ (states == value) for value in (YES, NO))
    fittable = np.flatnonzero((yes > 0) & (no > 0))
    if not len(fittable):
        raise InputError("No class is valid for some images and absent for others, so nothing can be fitted.")
    known = states[:, fittable]
    targets = np.where(known == YES, 1, np.where(known == NO, 0, np.nan)).astype(np.float32)
    begin = _Layer.of(start, fittable, x.shape[1])
    ties = _ties(invariances, fittable)
    fitted = _fit(x, targets, weight, begin, _binary_cross_entropy, penalty, dropout, ties)
    w = np.zeros((len(classes), x.shape[1]))
    b = np.log((yes + 0.5) / (no + 0.5))
    w[fittable], b[fittable] = fitted.weight, fitted.bias
    return _head(backbone, classes, "sigmoid", w, b, fitted.penalty, len(x), dropout)


def _head(
    backbone: str, classes: ClassList, loss: str, w: Array, b: Array, penalty: float, n: int, dropout: float
) -> Head:
    return Head(backbone, classes, loss, w.astype(np.float32), b.astype(np.float32), penalty, n, dropout)


def _aligned(
    features: Any, target: FramePart, weights: Any, classes: ClassList
) -> tuple[Array, Array, Array]:
    """Return features, targets and weights, with the rows and classes of frames aligned."""
    parts = align_rows([read_frame_part(features, "features"), target, read_frame_part(weights, "weights")])
    (target,), _ = in_class_order([parts[1]], classes)
    x, targets = np.asarray(parts[0].values, np.float64), np.asarray(target.values)
    weight = np.ones(len(x)) if parts[2].values is None else np.asarray(parts[2].values, np.float64)
    if x.ndim != 2 or len(targets) != len(x) or weight.shape != (len(x),):
        raise InputError(
            "The shapes of features, labels and weights do not match.",
            got=f"shapes {x.shape}, {targets.shape} and {weight.shape}",
            allowed="(n, D), one row per image, and (n,)",
        )
    if not (np.isfinite(x).all() and np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError("Features must be finite, and weights must be finite and at least 0.")
    return x, targets, weight


Ties = Sequence[tuple[int, Array]]
"""Row of a class in a layer, and matrix A for which half the squared length of A w is added to the loss."""


def _ties(invariances: Sequence[Invariance], classes: Array) -> Ties:
    at = {int(c): i for i, c in enumerate(classes)}
    return [(at[one.class_id], one.scaled()) for one in invariances if one.class_id in at]


@dataclass(frozen=True)
class _Layer:
    weight: Array
    bias: Array
    penalty: float = 0.0

    @classmethod
    def of(cls, head: Head | None, classes: Array, d: int) -> _Layer:
        """Return the rows of a head for some classes, or zeros if there is no head."""
        if head is None:
            return cls(np.zeros((len(classes), d)), np.zeros(len(classes)))
        return cls(head.weight[classes].astype(np.float64), head.bias[classes].astype(np.float64))


def _fit(
    x: Array,
    targets: Array,
    weight: Array,
    begin: _Layer,
    loss: Loss,
    penalty: float | None,
    dropout: float = 0.0,
    ties: Ties = (),
) -> _Layer:
    """Fit with a penalty, or with the best one, and return the layer for features as they are."""
    check_share(dropout, "This is not a rate of dropout.", zero=True, one=False, allowed="0 or more, below 1")
    if dropout:
        begin = _fit(x, targets, weight, begin, loss, penalty)
        penalty = begin.penalty
        kept = np.random.default_rng(0).random((MASKS * len(x), x.shape[1])) >= dropout
        x = np.tile(x, (MASKS, 1)) * kept / (1 - dropout)
        targets, weight = np.concatenate([targets] * MASKS), np.tile(weight, MASKS)
    mean = np.average(x, axis=0, weights=weight)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    deviation[np.ptp(x, axis=0) == 0] = 1  # rounding turns 0 into 1e-16, which would be scaled up
    seen = (x - mean) / deviation
    rough = seen.astype(np.float32), targets, weight.astype(np.float32)
    bias = begin.bias + begin.weight @ mean
    start = np.concatenate([begin.weight * deviation, bias[:, None]], axis=1)
    if penalty is None:
        penalty, start = _best_penalty(*rough, start, loss)
    ties = [(row, a / deviation) for row, a in ties]
    # Single precision does most of the work in a quarter of the time.
    layer = _minimised(*rough, start, loss, penalty, ties)
    layer = _minimised(seen, targets, weight, layer, loss, penalty, ties)
    w = layer[:, :-1] / deviation
    return _Layer(w, layer[:, -1] - w @ mean, penalty)


def _best_penalty(x: Array, targets: Array, weight: Array, layer: Array, loss: Loss) -> tuple[float, Array]:
    """Return the penalty with the highest likelihood on every tenth image, and the layer fitted on the rest.

    Penalties are tried from strong to weak, until one is worse: the likelihood of images held out has one
    maximum.
    """
    held = np.arange(len(x)) % HELD_OUT == 0
    tried = [(np.inf, PENALTIES[0], layer)]
    for penalty in PENALTIES:
        layer = _minimised(x[~held], targets[~held], weight[~held], layer, loss, penalty)
        tried.append((_evaluated(x[held], targets[held], weight[held], layer, loss), penalty, layer))
        if not tried[-1][0] < tried[-2][0]:
            break
    _, best, layer = min(tried, key=lambda t: t[0])
    return best, layer


def _evaluated(x: Array, targets: Array, weight: Array, layer: Array, loss: Loss) -> float:
    torch = _torch()
    logits = torch.from_numpy(x @ layer[:, :-1].T.astype(x.dtype) + layer[:, -1].astype(x.dtype))
    return float(loss(logits, torch.from_numpy(targets), torch.from_numpy(weight)))


def _minimised(
    x: Array, targets: Array, weight: Array, start: Array, loss: Loss, penalty: float, ties: Ties = ()
) -> Array:
    """Return weights and, in the last column, biases, of shape (C, D + 1), that minimise the penalised loss.

    In the precision of `x`.
    """
    torch = _torch()
    images, labels, weights = (torch.from_numpy(np.ascontiguousarray(a)) for a in (x, targets, weight))
    layer = torch.from_numpy(start.astype(x.dtype)).requires_grad_()
    tied = [(row, torch.from_numpy(a.astype(x.dtype))) for row, a in ties]
    optimiser = torch.optim.LBFGS(
        [layer],
        max_iter=_ROUNDS,
        max_eval=2 * _ROUNDS,
        history_size=20,
        tolerance_grad=_GRADIENT,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def penalised() -> Any:
        optimiser.zero_grad()
        w, b = layer[:, :-1], layer[:, -1]
        total = loss(images @ w.T + b, labels, weights) + 0.5 * penalty * (w * w).sum()
        for row, a in tied:
            total = total + 0.5 * (a @ w[row]).square().sum()
        total.backward()
        return total

    optimiser.step(penalised)
    fitted: Array = layer.detach().numpy()
    return fitted


def _cross_entropy(logits: Any, targets: Any, weight: Any) -> Any:
    each = _torch().nn.functional.cross_entropy(logits, targets, reduction="none")
    return (weight * each).sum() / weight.sum()


def _binary_cross_entropy(logits: Any, targets: Any, weight: Any) -> Any:
    torch = _torch()
    cells = weight[:, None] * ~torch.isnan(targets)
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.nan_to_num(targets).to(logits.dtype), reduction="none"
    )
    return ((cells * each).sum(0) / cells.sum(0).clamp(min=1e-12)).sum()


def _torch() -> Any:
    return required("torch", "Fitting a head", '"manyhot[train]"')

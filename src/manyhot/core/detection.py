"""Average precision of boxes and intersection over union of class masks, under any weights of the images.

Average precision is that of COCO, and equals ``faster-coco-eval``. Unlike there, boxes are matched only once
for a thousand resamples, which repeat only the counting.

Anchors of single-shot detectors and their boxes follow section 2.2 of W. Liu et al., SSD: Single Shot
MultiBox Detector, ECCV 2016, arXiv 1512.02325, and MediaPipe's ``SsdAnchorsCalculator`` and
``TfLiteTensorsToDetectionsCalculator``.

References
----------
Lin et al. 2014, Microsoft COCO, arXiv 1405.0312; ``COCOeval`` of pycocotools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy import typing as npt
from scipy.ndimage import distance_transform_edt

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints, Ints64, Mask

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Minimum intersection over union of a correct box, as in COCO."""

VOID = 255
"""Value of unlabelled pixels."""

_RECALLS = np.linspace(0, 1, 101)

_CHUNK = 125
"""Resamples per block."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one image.

    Attributes
    ----------
    box : ndarray of float, shape (n, 4)
        Left, top, right, bottom.
    class_id : ndarray of int, shape (n,)
    score : ndarray of float, shape (n,), optional
        Scores of predicted boxes.
    ignore : ndarray of bool, shape (n,), optional
        Whether each annotated box is ignored. Ignored boxes are not counted as objects, and predictions that
        lie in them are not counted as errors.
    """

    box: Floats
    class_id: Ints
    score: Floats | None = None
    ignore: Bools | None = None

    def of(self, class_id: int) -> Boxes:
        """Return the boxes of a class sorted by descending score. Ignored boxes are last."""
        rows = np.flatnonzero(self.class_id == class_id)
        key = self.ignore if self.score is None else -self.score
        if key is not None:
            rows = rows[np.argsort(key[rows], kind="stable")]
        return Boxes(
            self.box[rows],
            self.class_id[rows],
            None if self.score is None else self.score[rows],
            None if self.ignore is None else self.ignore[rows],
        )


@dataclass(frozen=True, eq=False)
class Matched:
    """The predicted boxes of one class in all images, by descending score.

    Attributes
    ----------
    image : ndarray of int, shape (m,)
    right, counts : ndarray of bool, shape (T, m)
        Whether each box matches an object at each of T overlap thresholds, and whether the box is counted. A
        box that matches an ignored object is not.
    objects : ndarray of int, shape (n,)
        Number of objects in each image, without ignored objects.
    """

    image: Ints
    right: Bools
    counts: Bools
    objects: Ints


def overlaps(box: Floats, other: Floats, ignore: Bools) -> Floats:
    """Return the IoU of boxes, shape (n, m).

    For ignored boxes, the intersection is divided by the area of `box` instead of the union.
    """
    corner = np.maximum(box[:, None, :2], other[None, :, :2])
    end = np.minimum(box[:, None, 2:], other[None, :, 2:])
    both = np.clip(end - corner, 0, None).prod(2)
    area, others = ((b[:, 2:] - b[:, :2]).prod(1) for b in (box, other))
    union = np.where(ignore[None], area[:, None], area[:, None] + others[None] - both)
    return np.asarray(both / np.maximum(union, 1e-12), np.float64)


def match(annotated: Sequence[Boxes], predictions: Sequence[Boxes], class_id: int) -> Matched:
    """Match predicted and annotated boxes of a class, image by image, by descending score.

    A box is matched with the unmatched object with the largest overlap. If there is none, but the box lies in
    an ignored object, the box is ignored, too.
    """
    image, score, right, counts, objects = [], [], [], [], np.zeros(len(annotated), int)
    for i, (own, predicted) in enumerate(zip(annotated, predictions, strict=True)):
        own, predicted = own.of(class_id), predicted.of(class_id)
        ignore = np.zeros(len(own.box), bool) if own.ignore is None else own.ignore
        objects[i] = np.count_nonzero(~ignore)
        assert predicted.score is not None
        image.append(np.full(len(predicted.box), i))
        score.append(predicted.score)
        hits = _greedy(overlaps(predicted.box, own.box, ignore), ignore)
        right.append(hits[0])
        counts.append(hits[1])
    order = np.argsort(-np.concatenate([np.empty(0), *score]), kind="stable")
    joined = [np.concatenate([np.empty((len(OVERLAPS), 0), bool), *part], axis=1) for part in (right, counts)]
    images = np.concatenate([np.empty(0, int), *image])
    return Matched(images[order], joined[0][:, order], joined[1][:, order], objects)


def _greedy(overlap: Floats, ignore: Bools) -> tuple[Bools, Bools]:
    """Return whether each box is right, and whether it counts, at each overlap; both of shape (T, m)."""
    n, m = overlap.shape
    right, counts = np.zeros((len(OVERLAPS), n), bool), np.ones((len(OVERLAPS), n), bool)
    if not m:
        return right, counts
    free = np.tile(~ignore, (len(OVERLAPS), 1))
    at = np.arange(len(OVERLAPS))
    lies_in_ignored = (overlap[:, ignore].max(1, initial=0)[:, None] >= OVERLAPS).T
    for d in range(n):
        able = np.where(free, overlap[d], -1)
        best = m - 1 - able[:, ::-1].argmax(1)  # among equal ones the last, as in COCOeval
        hit = able[at, best] >= OVERLAPS
        free[at[hit], best[hit]] = False
        right[:, d] = hit
        counts[:, d] = hit | ~lies_in_ignored[:, d]
    return right, counts


def box_average_precision(matched: Matched, weights: npt.ArrayLike | None = None) -> Floats:
    """Return the average precision of a class at each overlap, shape (R, T); NaN if no objects are counted.

    Average precision is the mean, over 101 recalls, of the highest precision at each recall or above, as in
    COCOeval. If an image is drawn twice, each of its boxes counts twice at its rank.

    Parameters
    ----------
    weights : array-like, shape (R, n), optional
        How often each image counts in each of R resamples. By default, each image counts once.
    """
    w = np.ones((1, len(matched.objects))) if weights is None else np.asarray(weights)
    parts = [_precision(matched, w[i : i + _CHUNK].astype(float)) for i in range(0, len(w), _CHUNK)]
    return np.concatenate([np.empty((0, len(OVERLAPS))), *parts])


def _precision(matched: Matched, weights: Floats) -> Floats:
    objects = weights @ matched.objects
    drawn = weights[:, matched.image]
    precision = np.full((len(weights), len(OVERLAPS)), np.nan)
    for t, (right, counts) in enumerate(zip(matched.right, matched.counts, strict=True)):
        seen = np.cumsum(drawn[:, counts], axis=1)
        hits = np.cumsum(drawn[:, counts] * right[counts], axis=1)
        at = right[counts]  # precision has its peaks at right boxes
        hits, seen = hits[:, at], seen[:, at]
        best = np.maximum.accumulate((hits / np.maximum(seen, 1e-12))[:, ::-1], axis=1)[:, ::-1]
        for r in np.flatnonzero(objects > 0):
            place = np.searchsorted(hits[r] / objects[r], _RECALLS)
            precision[r, t] = np.append(best[r], 0.0)[place].mean()
    return precision


def pixel_counts(labelled: Ints, predicted: Ints, n_classes: int) -> Ints64:
    """Return the number of pixels per class that are in both masks, in the first, and in the second.

    Parameters
    ----------
    labelled, predicted : ndarray of int, shape (height, width)
        The masks. Pixels that are `VOID` in `labelled` are ignored.

    Returns
    -------
    ndarray of int64, shape (3, n_classes)
    """
    inside = labelled != VOID
    labelled, predicted = labelled[inside], predicted[inside]
    parts = (labelled[labelled == predicted], labelled, predicted)
    return np.stack([np.bincount(part, minlength=n_classes) for part in parts]).astype(np.int64)


def class_overlaps(counts: Ints64, weights: npt.ArrayLike | None = None) -> Floats:
    """Return the intersection over union of each class, over the pixels of all images.

    Parameters
    ----------
    counts : ndarray of int, shape (n, 3, C)
        See `pixel_counts`.
    weights : array-like, shape (R, n), optional
        How often each image counts. By default, each image counts once.

    Returns
    -------
    ndarray of float64, shape (R, C)
        NaN if the class has no pixels in any of the images.

    References
    ----------
    Everingham et al. 2015, The PASCAL Visual Object Classes Challenge: A Retrospective,
    doi 10.1007/s11263-014-0733-5, section 4.2.
    """
    w = np.ones((1, len(counts))) if weights is None else np.asarray(weights, np.float64)
    both, labelled, predicted = np.tensordot(w, counts.astype(np.float64), axes=1).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(labelled > 0, both / (labelled + predicted - both), np.nan)


HeatMap = AnyFloats

POINTING_TOLERANCE = 0.03
"""Tolerance of the pointing game as a share of the longer side: 15 of 500 pixels, VOC's longer side."""

DIFFICULT = 0.25
"""Share of the image below which an object is difficult, if there is another class, too."""

EVERYTHING = 0.9
"""Share of the visible pixels above which an object covers everything, so that any map would be right."""

SPREAD = 0.25
"""Standard deviation of `centre`, as a share of each side."""


@dataclass(frozen=True)
class Localised:
    """Measures of how well a heat map locates an object, each between 0 and 1.

    Attributes
    ----------
    pointing : float
        Whether the pixel with the highest value is on the object. If several pixels tie, the share of them
        that is on the object.
    pointing_near : float
        Like `pointing`, but pixels within the tolerance of the object count as being on it.
    energy : float
        Share of the sum of all positive values that lies on the object; 0 if no value is positive.
    overlap : float
        Share of the n pixels with the highest values that is on the object, where n is the object's number of
        pixels. A share of s corresponds to an intersection over union of s / (2 - s).
    auroc : float
        Probability that a pixel on the object has a higher value than a pixel outside it.
    """

    pointing: float
    pointing_near: float
    energy: float
    overlap: float
    auroc: float


LOCALISATION_MEASURES = tuple(f.name for f in fields(Localised))


def localise(heatmap: HeatMap, region: Mask) -> Localised:
    """Measure a heat map against the region of an object.

    Parameters
    ----------
    heatmap : ndarray of float, shape (h, w)
        Relevance; NaN pixels do not count.
    region : ndarray of bool, shape (h, w)

    Returns
    -------
    Localised
        All values are NaN if the map is constant, or if all or none of its pixels are on the object.

    References
    ----------
    Pointing game: Zhang et al. 2018, Top-down neural attention by excitation backprop, section 4.1,
    doi 10.1007/s11263-017-1059-x, with a tolerance of 15 pixels.
    Energy: Wang et al. 2020, Score-CAM, section 4.3, doi 10.1109/CVPRW50498.2020.00020, with boxes.
    """
    seen = ~np.isnan(heatmap)
    values, inside = heatmap[seen], region[seen]
    n = int(inside.sum())
    if not 0 < n < len(inside) or values.min() == values.max():
        return Localised(*[float("nan")] * len(LOCALISATION_MEASURES))
    positive = np.maximum(values, 0).astype(np.float64)
    total = positive.sum()
    return Localised(
        pointing=points_at(heatmap, region),
        pointing_near=points_at(heatmap, near(region, POINTING_TOLERANCE)),
        energy=float(positive[inside].sum() / total) if total else 0.0,
        overlap=_overlap(values, inside, n),
        auroc=_auroc(values, inside, n),
    )


def points_at(heatmap: HeatMap, region: Mask) -> float:
    """Return whether the highest pixel of a map is in a region; if pixels tie, the share inside."""
    return float(region[heatmap == np.nanmax(heatmap)].mean())


def by_chance(region: Mask, seen: Mask) -> Localised:
    """Return the expected measures of a random map over the pixels that the network saw."""
    area = float(region[seen].mean())
    return Localised(area, float(near(region, POINTING_TOLERANCE)[seen].mean()), area, area, 0.5)


def centre(height: int, width: int, spread: float = SPREAD) -> Floats:
    """Return a Gaussian centred in the image, shape (height, width): a map that ignores the content."""
    rows, columns = (
        np.exp(-(((np.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * spread**2)) for n in (height, width)
    )
    return np.outer(rows, columns)


def near(region: Mask, tolerance: float) -> Mask:
    """Return the pixels whose distance to a region is at most a given share of the image's longer side."""
    if not region.any():
        return region
    reach = tolerance * max(region.shape)
    close: Mask = distance_transform_edt(~region) <= reach
    return close


def rank_correlation(one: HeatMap, other: HeatMap) -> float:
    """Return Spearman's correlation between two maps over their common pixels; NaN if one map is constant."""
    common = ~(np.isnan(one) | np.isnan(other))
    if not common.any():
        return float("nan")
    ranks = [_ranks(m[common]) for m in (one, other)]
    a, b = (r - r.mean() for r in ranks)
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread else float("nan")


def _overlap(values: HeatMap, inside: Mask, n: int) -> float:
    """Return the share of the n highest values that are inside; ties at the boundary count by their mean."""
    edge = np.partition(values, len(values) - n)[len(values) - n]
    above, level = values > edge, values == edge
    left = n - np.count_nonzero(above)
    return float((inside[above].sum() + left * inside[level].mean()) / n)


def _auroc(values: HeatMap, inside: Mask, n: int) -> float:
    rank_sum = _ranks(values)[inside].sum()
    return float((rank_sum - n * (n + 1) / 2) / (n * (len(values) - n)))


def _ranks(values: HeatMap) -> Floats:
    """Return ranks, from 1; equal values have the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


_LOWEST = 0.1
"""Scale of the first anchor of the lowest layer, which has three anchors instead of six."""


@dataclass(frozen=True)
class AnchorLayout:
    """The layers of a single-shot detector.

    Attributes
    ----------
    side : int
        Side of the input, in pixels.
    strides : tuple of int
        Distance between anchors in each layer, in pixels, starting with the lowest layer.
    scales : tuple of float
        Side of the anchors in the lowest and the highest layer, as a share of the input. The scales of the
        layers in between are evenly spaced.
    ratios : tuple of float
        Width divided by height.
    """

    side: int = 300
    strides: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    scales: tuple[float, float] = (0.2, 0.95)
    ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)

    def anchors(self) -> Floats:
        """Return the centre and the size of each anchor, as y, x, height and width, shape (n, 4).

        All values are shares of the input. The lowest layer has three anchors at each location. In every
        other layer, each location has one anchor per ratio, and a square anchor whose scale is between the
        scales of this layer and the next.
        """
        return np.concatenate([self._layer(*layer) for layer in self._shapes()])

    def _shapes(self) -> Iterator[tuple[int, list[tuple[float, float]]]]:
        """Yield the stride of each layer, and the ratio and the scale of its anchors."""
        scales = [*np.linspace(*self.scales, len(self.strides)).tolist(), 1.0]
        for i, stride in enumerate(self.strides):
            own, following = scales[i], scales[i + 1]
            if i == 0:
                yield stride, [(1.0, _LOWEST), (2.0, own), (0.5, own)]
            else:
                yield stride, [*((ratio, own) for ratio in self.ratios), (1.0, math.sqrt(own * following))]

    def _layer(self, stride: int, shapes: Sequence[tuple[float, float]]) -> Floats:
        cells = math.ceil(self.side / stride)
        centre = (np.arange(cells) + 0.5) / cells
        sizes = np.array([(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for ratio, scale in shapes])
        y, x, shape = np.meshgrid(centre, centre, np.arange(len(shapes)), indexing="ij")
        placed: Floats = np.concatenate([np.stack([y, x], -1), sizes[shape]], axis=-1)
        return placed.reshape(-1, 4)


BOX_SCALES = (10.0, 10.0, 5.0, 5.0)
"""By what the predicted centre and size are divided, in the order y, x, height, width."""


def boxes_from_anchors(offsets: npt.ArrayLike, anchors: Floats) -> Floats:
    """Return boxes as left, top, right and bottom, clipped to the image, shape (n, 4).

    Parameters
    ----------
    offsets : array-like of float, shape (n, 4)
        Centre y and x, and the logarithms of height and width, all relative to the size of the anchor and
        multiplied by `BOX_SCALES`.
    anchors : ndarray of float, shape (n, 4)
        See `AnchorLayout.anchors`.
    """
    scaled = np.asarray(offsets, np.float64) / BOX_SCALES
    centre = scaled[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(scaled[:, 2:]) * anchors[:, 2:] / 2
    corners = np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
    boxes: Floats = np.clip(corners, 0, 1)
    return boxes

"""Samples of images that users drew themselves, with probabilities or strata that they declare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.array_types import Floats, Ints
from manyhot.core.audit_samples import AuditDesign, AuditSample
from manyhot.errors import InputError, MatchError
from manyhot.tables.audit_samples import UNIFORM, DrawnSample
from manyhot.tables.frames import examples, one_chunk
from manyhot.tables.labels import Images, with_ids_like

_MOST_DEVIATIONS = 4
"""If the number of drawn images is further from the sum of the probabilities, in standard deviations of
independent draws, the images were not drawn with these probabilities."""


@dataclass(frozen=True, eq=False)
class DeclaredDesign:
    """How a sample was drawn that nothing records: with which probabilities, from which images.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (N,)
        Unique ids of all images from which the sample was drawn.
    probability : ndarray of float64, shape (N,), optional
        The probability of each image. If only strata are passed, each image of a stratum had the same; if
        neither is, each image had the same.
    strata : pyarrow.Array of string, shape (N,), optional
        The stratum of each image.
    name : str
        What has all images, for messages.
    """

    image_id: pa.Array
    probability: Floats | None = None
    strata: pa.Array | None = None
    name: str = ""

    @classmethod
    def of_images(cls, images: Images, image_id: pa.Array, name: str = "") -> DeclaredDesign:
        """Return the design in a table of all images with columns `probability`, `stratum` or both.

        Parameters
        ----------
        images : Images
        image_id : pyarrow.Array of string, shape (N,)
            The ids of the data set, if the table may write them in another way.
        name : str
            The name of the data set.

        Raises
        ------
        InputError
            If the table has neither column, or if an image has an impossible probability.
        """
        columns, where = images.table.column_names, images.name or "the sample"
        if not {"probability", "stratum"} & set(columns):
            raise InputError(
                "The table does not say how the images were drawn.",
                where=where,
                got=f"the columns {', '.join(columns)}",
                allowed="the file audit_sample.parquet that manyhot audit wrote; a table of all images with "
                "a column probability, a column stratum, or both; or uniform",
                do="add the probability with which each image was drawn (1 / weight), or pass `sample` "
                "uniform if you drew the images uniformly from all images",
            )
        images, _ = with_ids_like(images, image_id, other_name=name or "the labels")
        table, ids = images.table, images.image_id
        probability = _probabilities(table, ids, where) if "probability" in columns else None
        strata = one_chunk(table["stratum"].cast(pa.string())) if "stratum" in columns else None
        return cls(ids, probability, strata, where)

    def drawn(self, image_id: pa.Array) -> DrawnSample:
        """Return the sample that consists of these images.

        Raises
        ------
        InputError
            If other numbers of images were drawn than the probabilities allow, or none from a stratum.
        MatchError
            If a drawn image is not among all images.
        """
        rows = pc.index_in(image_id, self.image_id)
        if rows.null_count:
            others = image_id.filter(rows.is_null())
            raise MatchError(
                "Some audited images are not among the images that they were drawn from.",
                where=self.name or "the labels",
                got=f"{len(others):,} of {len(image_id):,} images, such as {examples(others)}",
                allowed=f"the {len(self.image_id):,} images that are listed",
                do="list all images from which the sample was drawn, in the data set and in the table of the "
                "sample",
            )
        images = rows.to_numpy().astype(np.intp)
        design = self._design(images)
        kind = "stratified" if self.probability is None else "unequal-probability"
        kind = UNIFORM if self.probability is None and self.strata is None else kind
        return DrawnSample(
            self.image_id, AuditSample(design, images), kind, 0, self.strata, self.name, is_declared=True
        )

    def _design(self, images: Ints) -> AuditDesign:
        strata = self.strata if self.strata is not None else pa.nulls(len(self.image_id), pa.string())
        names, places = np.unique(pc.fill_null(strata, "").to_pylist(), return_inverse=True)
        n = np.bincount(places[images], minlength=len(names))
        probability = (n / np.maximum(np.bincount(places), 1))[places]
        if self.probability is not None:
            probability = self.probability.copy()
        for h, name in enumerate(names):
            where = self.name if self.strata is None else f"{self.name}, stratum {name or 'without a name'}"
            here = places == h
            if self.probability is not None:
                probability[here] = _given_size(self.probability[here], int(n[h]), where)
            elif not n[h] and self.strata is not None:
                raise _none_drawn(where, int(here.sum()))
        # Images that were certain to be drawn have no variance: it is estimated from the others alone.
        return AuditDesign(probability, 2 * places + (probability == 1))


def _probabilities(table: pa.Table, ids: pa.Array, name: str) -> Floats:
    column = one_chunk(table["probability"])
    try:
        p = np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy())
    except pa.ArrowInvalid:
        p = np.full(len(ids), np.nan)
    bad = np.flatnonzero(~((p > 0) & (p <= 1)))
    if len(bad):
        raise InputError(
            "The probability with which an image was drawn is out of range.",
            where=f"{name}, image {ids[bad[0]]}",
            got=f"{column[bad[0]]}, and {len(bad):,} such images in all",
            allowed="above 0 and at most 1, for each image that could be drawn",
            do="leave out images that could never be drawn, here and in the data set; of weights, pass 1 / "
            "weight",
        )
    return p


def _given_size(p: Floats, n: int, where: str) -> Floats:
    """Return the probabilities of independent draws, given that n images were drawn.

    The odds of all images are multiplied by one factor, such that the probabilities add up to n (Hájek 1964,
    doi 10.1214/aoms/1177700375).
    """
    expected, deviation = p.sum(), np.sqrt(p @ (1 - p))
    certain = int(np.count_nonzero(p == 1))
    if abs(n - expected) > _MOST_DEVIATIONS * deviation + 1 or not certain <= n <= len(p):
        raise InputError(
            "The number of audited images does not match the probabilities.",
            where=where or None,
            got=f"{n:,} audited images",
            allowed=f"about {expected:,.0f}, the sum of the probabilities"
            + f", with all {certain:,} whose probability is 1" * (certain > 0),
            do="pass the label sets of all images that were drawn, also of those without a valid class, and "
            "the probabilities of all images that could be drawn",
        )
    with np.errstate(divide="ignore"):
        odds = p / (1 - p)
    low, high = 0.0, 1.0
    while _of_odds(odds, high).sum() < n and high < 1e12:
        high *= 2
    for _ in range(100):  # bisection: the sum grows with the factor
        middle = (low + high) / 2
        low, high = (middle, high) if _of_odds(odds, middle).sum() < n else (low, middle)
    return _of_odds(odds, high)


def _of_odds(odds: Floats, factor: float) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(odds), 1.0, factor * odds / (1 + factor * odds))


def _none_drawn(where: str, n: int) -> InputError:
    return InputError(
        "No image of a stratum was audited.",
        where=where,
        got=f"none of {n:,} images",
        allowed="at least two images of each stratum, or all",
        do="merge the stratum with another one, or leave its images out, here and in the data set",
    )

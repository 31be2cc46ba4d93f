"""The sample of an audit as a table: every image that could be drawn, its probability, and the drawn ones.

The table lists all images of the population, so that whoever reads it can draw again with the recorded seed
and see that people answered the images that chance chose. Random numbers are SHA-256 of the seed and the ids,
which will be the same in every version of every library; NumPy does not promise that of its generators.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.array_types import Floats, Ints
from manyhot.core.audit_samples import AuditDesign, AuditSample
from manyhot.errors import InputError, MatchError
from manyhot.parameters import check_one_of
from manyhot.tables.frames import check_unique, count_shared, examples, one_chunk
from manyhot.tables.schemas import metadata, metadata_number, read, schema, write

UNIFORM = "uniform"

AUDIT_DESIGNS = (UNIFORM, "stratified", "active", "systematic")
"""Equal probabilities; equal ones in each stratum; higher ones where models may be wrong; any others."""

RandomNumbers = Literal["sha256", "numpy"]
"""Where the random numbers of a draw are from: SHA-256 (see `random_order`), or NumPy's generator, by which
samples without this entry in their metadata were drawn."""

_SEED_DIGITS = 100
"""Longest seed: any that somebody types."""

QUESTION_PROBABILITY = "question_probability"
"""The metadata of proposals whose scores are the probabilities that people are asked these questions."""

_KEYS = ("design", "seed", "n", "n_images", "images", "probabilities")


@dataclass(frozen=True, eq=False)
class DrawnSample:
    """A random sample of N images, and how it was drawn.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (N,)
        All images that could be drawn, in the order of their ids.
    sample : AuditSample
        The probability of each image, and the drawn images in the order in which they are answered.
    design : str
        One of `AUDIT_DESIGNS`.
    strata : pyarrow.Array of string, shape (N,), optional
        The stratum of each image.
    random : {"sha256", "numpy"}
        Where the random numbers are from.
    is_declared : bool
        Whether somebody else drew the sample, without a seed.
    """

    image_id: pa.Array
    sample: AuditSample
    design: str
    seed: int
    strata: pa.Array | None = None
    name: str = ""
    random: RandomNumbers = "sha256"
    is_declared: bool = False

    def __len__(self) -> int:
        return len(self.sample)

    @cached_property
    def drawn(self) -> pa.Array:
        """The ids of the drawn images, in the order in which they are answered, shape (n,)."""
        return self.image_id.take(pa.array(self.sample.images))

    def sample_for(self, image_id: pa.Array, name: str = "the labels") -> AuditSample:
        """Return the sample for the same images in a different order.

        Parameters
        ----------
        image_id : pyarrow.Array of string, shape (N,)
            Unique ids.
        name : str
            What has these ids, for messages.

        Raises
        ------
        MatchError
            If the sample was not drawn from these images.
        """
        shared = count_shared(image_id, self.image_id)
        if (shared, len(image_id)) != (len(self.image_id), len(self.image_id)):
            raise self._other_images(image_id, name)
        rows = pc.index_in(image_id, self.image_id).to_numpy()
        place = np.empty(len(rows), np.intp)
        place[rows] = np.arange(len(rows))
        stratum = self.sample.design.stratum
        design = AuditDesign(self.sample.design.probability[rows], None if stratum is None else stratum[rows])
        return AuditSample(design, place[self.sample.images])

    def _other_images(self, image_id: pa.Array, name: str) -> MatchError:
        extra = image_id.filter(pc.invert(pc.is_in(image_id, self.image_id)))
        absent = self.image_id.filter(pc.invert(pc.is_in(self.image_id, image_id)))
        parts = (("could never be drawn", extra), (f"are not in {name}", absent))
        return MatchError(
            "The audited images were not drawn from these images.",
            where=f"{name} and {self.name or 'the audit sample'}",
            got="; ".join(f"{len(i):,} images {what}, such as {examples(i)}" for what, i in parts if len(i)),
            allowed=f"the {len(self.image_id):,} images of the sample",
            do="pass the labels that the sample was drawn from, or select the images of the sample",
        )

    def to_table(self) -> pa.Table:
        """Return the sample as a table, one row per image of the population."""
        place = np.full(len(self.image_id), -1)
        place[self.sample.images] = np.arange(len(self))
        columns = {
            "image_id": self.image_id,
            "probability": self.sample.design.probability,
            "stratum": pa.nulls(len(place), pa.string()) if self.strata is None else self.strata,
            "place": pa.array(place, mask=place < 0),
        }
        return pa.table(columns).cast(schema("audit_sample"))

    def about(self) -> dict[str, str]:
        """Return the metadata: design, seed, numbers of drawn and of all images, and hashes of the images."""
        return ({} if self.random == "numpy" else {"random": self.random}) | {
            "design": self.design,
            "seed": str(self.seed),
            "n": str(len(self)),
            "n_images": str(len(self.image_id)),
            "images": images_digest(self.image_id),
            "probabilities": _design_digest(self.sample.design),
        }


def draw_sample(
    image_id: pa.Array,
    probability: Floats,
    design: str,
    seed: int,
    strata: pa.Array | None = None,
    *,
    random: RandomNumbers = "sha256",
) -> DrawnSample:
    """Draw a sample with a seed. The order of the images does not matter.

    Parameters
    ----------
    image_id : pyarrow.Array of string, shape (N,)
        Unique ids.
    probability : ndarray of float64, shape (N,)
        The probability that each image is drawn. The probabilities add up to the number of drawn images,
        within each stratum if there are strata.
    design : str
        One of `AUDIT_DESIGNS`.
    strata : pyarrow.Array of string, shape (N,), optional
    random : {"sha256", "numpy"}
        The source of the random numbers. ``numpy`` reproduces a draw made by an earlier version of manyhot.

    Raises
    ------
    InputError
        If the design is unknown, or if the probabilities are impossible or do not match the design.
    MatchError
        If an image is listed twice.
    """
    check_unique(image_id, "the images of the audit")
    order = pc.sort_indices(image_id)
    names = None if strata is None else strata.take(order)
    numbers = probability[order.to_numpy()]
    return _drawn(image_id.take(order), numbers, design, seed, names, "", random)


def random_order(image_id: pa.Array, seed: int, purpose: str) -> Ints:
    """Return the images in random order: by the first eight bytes of SHA-256 of ``seed:purpose:image_id``.

    Parameters
    ----------
    image_id : pyarrow.Array of string, shape (N,)
        In ascending order.
    purpose : str
        A word. Orders for different purposes are independent of each other.
    """
    keys = [_random(seed, purpose, each) for each in image_id.to_pylist()]
    return np.argsort(np.array(keys, np.uint64), kind="stable")


def _random(seed: int, purpose: str, text: str) -> int:
    """Return a random integer of 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{text}".encode()).digest()[:8])


def _draw_by_hash(drawn: AuditDesign, ids: pa.Array, seed: int, strata: Sequence[str]) -> AuditSample:
    """Draw a sample by SHA-256."""
    # 53 bits are what a float64 below 1 holds.
    starts = np.array([(_random(seed, "start", name) >> 11) / 2**53 for name in strata])
    images = np.sort(drawn.systematic(random_order(ids, seed, "draw"), starts))
    return AuditSample(drawn, images[random_order(ids.take(pa.array(images)), seed, "answer")])


def images_digest(image_id: pa.Array) -> str:
    """Return a hash of image ids in sorted order: 16 hexadecimal digits."""
    ids = image_id.take(pc.sort_indices(image_id)).to_pylist()
    # Ids may contain line breaks, so that each is preceded by its length.
    text = "".join(f"{len(each)}:{each}" for each in ids)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _design_digest(design: AuditDesign) -> str:
    """Return a hash of probabilities and strata in the order of the ids: 16 hexadecimal digits."""
    digest = hashlib.sha256(design.probability.astype("<f8").tobytes())
    digest.update(design.places.astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def write_audit_sample(
    drawn: DrawnSample,
    path: str | os.PathLike[str],
    *,
    call: str = "",
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write a sample to one Parquet file, atomically."""
    return write(drawn.to_table(), path, "audit_sample", call=call, inputs=inputs, about=drawn.about())


def read_audit_sample(path: str | os.PathLike[str]) -> DrawnSample:
    """Read a sample, and draw it again to check that the recorded seed gives the same images.

    Raises
    ------
    InputError
        If the file is not an audit sample, if its probabilities are impossible or do not match its design, or
        if the recorded seed draws other images.
    MatchError
        If an image is listed twice.
    """
    table = read(path, "audit_sample")
    return audit_sample_from_table(table, name=str(path))


def audit_sample_from_table(table: pa.Table, *, name: str) -> DrawnSample:
    """Return the sample that a table records; raise the errors of `read_audit_sample`."""
    about = metadata(table)
    _check_recorded(about, name)
    table = table.take(pc.sort_indices(table["image_id"]))
    ids = one_chunk(table["image_id"])
    check_unique(ids, name)
    _check_images(ids, about, name)
    strata = one_chunk(table["stratum"])
    drawn = _drawn(
        ids,
        table["probability"].to_numpy(),
        about["design"],
        metadata_number(about, "seed", name, digits=_SEED_DIGITS),
        None if strata.null_count == len(strata) else strata,
        name,
        _check_random(about.get("random", "numpy"), name),
    )
    if _design_digest(drawn.sample.design) != about["probabilities"]:
        raise InputError(
            "The audited images were drawn with other probabilities.",
            where=name,
            got=f"probabilities and strata with the hash {_design_digest(drawn.sample.design)}",
            allowed=f"those with the hash {about['probabilities']}",
            do="pass the file that manyhot audit wrote, unchanged",
        )
    place = pc.fill_null(one_chunk(table["place"]), -1).to_numpy()
    _check_replay(drawn, np.argsort(place, kind="stable")[np.count_nonzero(place < 0) :], about)
    return drawn


def _drawn(
    ids: pa.Array,
    probability: Floats,
    design: str,
    seed: int,
    strata: pa.Array | None,
    name: str,
    random: RandomNumbers,
) -> DrawnSample:
    check_one_of(design, AUDIT_DESIGNS, "There is no such audit design.", where=name or None)
    codes, names = None, [""]
    if strata is not None:
        _check_strata(strata, name)
        values, codes = np.unique(strata.to_pylist(), return_inverse=True)
        names = values.tolist()
    drawn = AuditDesign(np.asarray(probability, np.float64), codes)
    _check_equal(drawn, design, name)
    if random == "numpy":
        sample = drawn.draw(np.random.default_rng(seed))
    else:
        sample = _draw_by_hash(drawn, ids, seed, names)
    return DrawnSample(ids, sample, design, seed, strata, name, random)


def _check_random(random: str, name: str) -> RandomNumbers:
    if random not in get_args(RandomNumbers):
        raise InputError(
            "The kind of random numbers that was used for the draw is unknown.",
            where=name,
            got=random,
            allowed=" or ".join(get_args(RandomNumbers)),
            do="update manyhot, or pass the file that manyhot audit wrote, unchanged",
        )
    return cast(RandomNumbers, random)


def _check_recorded(about: Mapping[str, str], name: str) -> None:
    missing = [key for key in _KEYS if key not in about]
    if missing:
        raise InputError(
            "The file does not record how its images were drawn.",
            where=name,
            got=f"no {', '.join(missing)} in its metadata",
            allowed=", ".join(_KEYS),
            do="pass the file that manyhot audit wrote; if you drew the images yourself, uniformly from all "
            "images, pass `sample` uniform",
        )


def _check_images(ids: pa.Array, about: Mapping[str, str], name: str) -> None:
    if images_digest(ids) != about["images"]:
        raise InputError(
            "The audited images were not drawn from these images.",
            where=name,
            got=f"{len(ids):,} images with the hash {images_digest(ids)}",
            allowed=f"{metadata_number(about, 'n_images', name):,} images with the hash {about['images']}",
            do="pass the file that manyhot audit wrote, unchanged",
        )


def _check_strata(strata: pa.Array, name: str) -> None:
    if strata.null_count:
        raise InputError(
            "Some images have a stratum and others have none.",
            where=name or None,
            got=f"{strata.null_count:,} of {len(strata):,} images without a stratum",
            allowed="a stratum for each image, or for none",
        )


def _check_equal(drawn: AuditDesign, design: str, name: str) -> None:
    """Raise an error if a design with equal probabilities has others."""
    if design == "stratified" and drawn.stratum is None:
        raise InputError("A stratified sample has no strata.", where=name or None)
    if design not in ("uniform", "stratified"):
        return
    expected = (drawn.n_by_stratum / np.bincount(drawn.places))[drawn.places]
    if not np.allclose(drawn.probability, expected, rtol=1e-9):
        at = int(np.argmax(np.abs(drawn.probability - expected)))
        raise InputError(
            "The probabilities do not match the design.",
            where=name or None,
            got=f"{drawn.probability[at]:g} for an image of a {design} sample",
            allowed=f"{expected[at]:g}",
            do="name the design 'systematic' if probabilities differ",
        )


def _check_replay(drawn: DrawnSample, images: Ints, about: Mapping[str, str]) -> None:
    n = metadata_number(about, "n", drawn.name)
    if np.array_equal(images, drawn.sample.images) and n == len(images):
        return
    others = drawn.image_id.take(pa.array(np.setdiff1d(images, drawn.sample.images)))
    got = f"{len(images):,} images, of which {len(others):,} were not drawn"
    raise InputError(
        "The audited images were not drawn with the recorded probabilities.",
        where=drawn.name,
        got=got + f", such as {examples(others)}" * bool(len(others)),
        allowed=f"the {len(drawn):,} images that seed {drawn.seed} draws, in this order",
        do="pass the file that manyhot audit wrote, unchanged",
    )

"""Variances that plans of audits start from: of an audit that people answered, or of published answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.audit_designs import N_ASKED, PAIR, Preference, chosen_by_others, small_design
from manyhot.core.audit_plans import (
    ACCURACY,
    DIFFERING,
    EFFECTIVE,
    EFFECTS,
    FEWEST_PILOT,
    PLAIN_ACCURACY,
    PLAIN_DIFFERENCE,
    QUESTIONS,
    VARIANCES,
    DesignVariance,
    design_variance,
)
from manyhot.core.audited import Power
from manyhot.core.score_threshold import confidence_of
from manyhot.core.sets import NO_LABEL
from manyhot.data.inputs import Reading, open_inputs
from manyhot.errors import InputError
from manyhot.evaluate.slices import ModelCase, labels_of, model_cases
from manyhot.formats import holds_images_alone, read_images
from manyhot.formats.writing import PathLike, images_file
from manyhot.reassess.ensemble import ensemble_of, has_labels, only_source, order_check, source_images
from manyhot.run import Run
from manyhot.tables import Campaign, Labels
from manyhot.tables.audit_samples import DrawnSample, read_audit_sample

N_IMAGES = 50_000
"""Images of a data set, if nothing is known."""

_PLAIN: tuple[Preference, Power] = ("uniform", 0.0)
_UNIFORM: tuple[Preference, Power] = ("uniform", "tuned")
_ACTIVE: tuple[Preference, Power] = ("active", "tuned")
_DIFFERENCES: tuple[Preference, Power] = ("differences", "tuned")
"""The designs of a plan."""


@dataclass(frozen=True, eq=False)
class PlannedDesign:
    """A design and an estimator, with the variances of the K values that they estimate.

    Attributes
    ----------
    question : str
        ``accuracy`` or ``difference``.
    design : str
        As for `manyhot.audit`.
    estimator : str
        ``ppi++`` or ``sample``.
    variance : DesignVariance
    differences : ndarray of float64, shape (K,), optional
        The differences between the two models of each pair.
    """

    question: str
    design: Preference
    estimator: str
    variance: DesignVariance
    differences: Floats | None = None


@dataclass(frozen=True, eq=False)
class Pilot:
    """What is known before an audit.

    Attributes
    ----------
    source : str
        Where the variances come from.
    n_images : int
        Number of images of the data set.
    questions : float
        Mean number of questions per image.
    n_models : int
    models : tuple of str
        Names of the models, if they are known.
    of_values, of_pairs, ranked : sequence of PlannedDesign
        Designs for the accuracy of each model, for a pair of models, and for all pairs.
    n_answered : int
        Number of answered images; 0 without an audit.
    inputs : Mapping of str to str
        SHA-256 hashes of the files that were read.
    """

    source: str
    n_images: int
    questions: float
    n_models: int
    models: tuple[str, ...]
    of_values: Sequence[PlannedDesign]
    of_pairs: Sequence[PlannedDesign]
    ranked: Sequence[PlannedDesign]
    n_answered: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class UnansweredImages:
    """Images that could be audited, and models' predictions for them, before people have answered.

    Attributes
    ----------
    n_images : int
    source : str
        Where the images come from; empty if unknown.
    models : tuple of str
        Names of the models.
    differing : float, optional
        Largest share of images on which any two models differ; None for fewer than two models.
    questions : float, optional
        Mean number of questions per image, if people are asked about the top five classes of each model and
        the original label.
    inputs : Mapping of str to str
        SHA-256 hashes of the files that were read.
    """

    n_images: int = N_IMAGES
    source: str = ""
    models: tuple[str, ...] = ()
    differing: float | None = None
    questions: float | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, place: PathLike, reading: Reading, run: Run) -> UnansweredImages:
        """Count the images of a data set and, if there are predictions, the images on which models differ.

        Raises
        ------
        ManyhotError
            As in `manyhot.data.inputs.open_inputs`.
        """
        path = images_file(place)
        if path.exists() and path == Path(place) and holds_images_alone(path):
            images = read_images(path)
            return cls(len(images), f"{place}: {len(images):,} images")
        opened = open_inputs(place, unlabelled=True, reading=reading, run=run)
        source = only_source(opened, "A plan is made for")
        images, read = source_images(source), list(source.models())
        size = len(source.classes) if source.classes else max(p.n_classes for p in read)
        labelled = has_labels(images)
        check = order_check(source, reading)
        ensemble = ensemble_of(images, read, size, read[0].class_hash, None, source.misfits, check=check)
        best = np.stack([top[:, 0] for top in ensemble.top], axis=1)
        pairs = zip(*np.triu_indices(best.shape[1], 1), strict=True)
        shares = [float((best[:, a] != best[:, b]).mean()) for a, b in pairs]
        depth = min(N_ASKED, *(top.shape[1] for top in ensemble.top))
        asked_about = [top[:, :depth] for top in ensemble.top] + ([ensemble.label] if labelled else [])
        asked = np.sort(np.column_stack(asked_about))
        new = (np.diff(asked, axis=1) > 0).sum(axis=1) + (asked[:, 0] != NO_LABEL)
        about = f"{place}: {len(images):,} images"
        if shares:
            most_different = f"{max(shares):.0%} of the images"
            about += f", and {len(ensemble.names)} models whose top classes differ on up to {most_different}"
        most = max(shares, default=None)
        return cls(len(images), about, ensemble.names, most, float(new.mean()), dict(source.inputs))

    def pilot(
        self, n_models: int, accuracy: float | None, differing: float | None, proposed_by: str
    ) -> Pilot:
        """Return the published variances for these images; parameters are as in `published_pilot`."""
        share = self.differing if differing is None else differing
        basis = published_pilot(n_models, accuracy, share, proposed_by)
        return replace(
            basis,
            source=f"{basis.source}; {self.source}" if self.source else basis.source,
            n_images=self.n_images,
            questions=self.questions or basis.questions,
            models=self.models,
            of_pairs=() if len(self.models) == 1 else basis.of_pairs,
            inputs=self.inputs,
        )


def published_pilot(
    n_models: int, accuracy: float | None, differing: float | None, proposed_by: str
) -> Pilot:
    """Return the variances of 67 published models and ReaL's answers; see `manyhot.core.audit_plans`.

    Parameters
    ----------
    n_models : int
        Number of models that propose label sets; the variances for the nearest available number are used.
    accuracy : float, optional
        Accuracy of a model.
    differing : float, optional
        Share of images on which two models differ.
    proposed_by : {"models", "labels"}
    """
    near = min(QUESTIONS, key=lambda n: abs(math.log(n / n_models)))
    a = ACCURACY if accuracy is None else accuracy
    share = DIFFERING if differing is None else differing
    plain = {"accuracy": PLAIN_ACCURACY * a * (1 - a), "difference": PLAIN_DIFFERENCE * share}
    by_key = {(q, d): (s, w) for n, q, kind, d, s, w in VARIANCES if (n, kind) == (near, proposed_by)}
    effects = np.array(EFFECTS) * math.sqrt(plain["difference"])

    def arm(question: str, design: str, pairs: bool = False) -> PlannedDesign:
        spread, whole = by_key.get((question, design), (1.0, 1.0))
        if (
            design == "pair"
        ):  # images on which the two agree do not vary: that of images drawn from the others
            spread = whole * share
        unit = np.full(1, plain[question])
        prefer: Preference = "differences" if design == "pair" else design  # type: ignore[assignment]
        estimator = "ppi++" if (question, design) in by_key else "sample"
        prefer = "uniform" if design == "plain" else prefer
        effective = np.full(1, EFFECTIVE[question])
        same = (1 - share) / share if design == "pair" else 0.0
        variance = DesignVariance(spread * unit, whole * unit, effective, same)
        return PlannedDesign(question, prefer, estimator, variance, effects if pairs else None)

    ranked = [arm("difference", d, pairs=True) for d in ("plain", "uniform", "differences")]
    return Pilot(
        f"{near} of 67 published models and ReaL's answers",
        N_IMAGES,
        QUESTIONS[near],
        near,
        (),
        [arm("accuracy", d) for d in ("plain", "uniform", "active")],
        [arm("difference", d) for d in ("plain", "uniform", "pair")],
        ranked if near > PAIR else [],
    )


def read_pilot(folder: PathLike, proposed_by: str, reading: Reading, run: Run) -> Pilot:
    """Return the variances estimated from an audit that people have answered.

    Parameters
    ----------
    folder : path-like
        The campaign of the audit, with its ``labels.parquet``.
    proposed_by : {"models", "labels"}
    reading, run
        As in `manyhot.plan_audit`.

    Raises
    ------
    InputError
        If the folder is not an audit, or has no label sets or too few.
    """
    home = Campaign.read(folder)
    path = home.path("audit_sample")
    if not path.is_file():
        raise InputError(
            "The campaign is not an audit.",
            where=home.folder,
            got="no audit_sample.parquet in it",
            allowed="a folder that manyhot audit made",
            do="plan without a pilot, or draw one: manyhot audit LABELS --size 250 --out pilot",
        )
    drawn = read_audit_sample(path)
    source = only_source(open_inputs(home.folder, reading=reading, run=run), "A plan is made for")
    answered = _Answered.of(list(model_cases(source, run=run)), labels_of(source), drawn, str(home.folder))
    return answered.pilot(drawn, proposed_by, _questions(home), dict(source.inputs))


def _questions(home: Campaign) -> float:
    """Return the number of questions about each image of a campaign."""
    from pyarrow import parquet as pq

    table = pq.read_table(home.path("proposals"), columns=["image_id"])
    return len(table) / max(int(pc.count_distinct(table["image_id"]).as_py()), 1)


@dataclass(frozen=True, eq=False)
class _Answered:
    """The answered images of a sample, for M models."""

    names: tuple[str, ...]
    best: Ints
    hits: Bools
    scored: Bools
    label: Ints
    weights: Floats
    where: str
    confidence: Floats | None

    @classmethod
    def of(cls, cases: Sequence[ModelCase], labels: Labels, drawn: DrawnSample, where: str) -> _Answered:
        """Join people's label sets with the sample and the models."""
        place = pc.index_in(labels.image_id, drawn.drawn)
        answered = place.is_valid().to_numpy(zero_copy_only=False)
        if "rated" in labels.table.column_names:
            rated = pc.fill_null(labels.table["rated"], True)
            answered &= rated.to_numpy()
        for case in cases:
            answered &= np.isin(np.arange(len(labels)), case.rows)
        rows = np.flatnonzero(answered)
        at = [np.searchsorted(c.rows, rows) for c in cases]
        first = cases[0].case.labels
        weights = drawn.sample.weights[place.take(pa.array(rows)).to_numpy()]
        if len(rows) < FEWEST_PILOT:
            raise InputError(
                "The pilot has too few images with answers to plan from.",
                where=where,
                got=f"{len(rows):,} of {len(drawn):,} images of the sample",
                allowed=f"at least {FEWEST_PILOT}",
                do="have people label more images, or plan without a pilot",
            )
        return cls(
            tuple(c.model for c in cases),
            np.stack([c.case.top[r, 0] for c, r in zip(cases, at, strict=True)], axis=1),
            np.stack([c.case.hit[r, 0] for c, r in zip(cases, at, strict=True)], axis=1),
            first.scored[at[0]],
            first.label[at[0]],
            weights / weights.sum(),
            where,
            _confidence(cases, at),
        )

    def pilot(
        self, drawn: DrawnSample, proposed_by: str, questions: float, inputs: Mapping[str, str]
    ) -> Pilot:
        """Return what is known from these images."""
        n_models, w = len(self.names), self.weights
        accuracy = w @ (self.hits & self.scored[:, None]) / (w @ self.scored)
        y = (self.hits - accuracy) * self.scored[:, None] / (w @ self.scored)
        f = self._proposed(proposed_by) / (w @ self.scored)
        active = () if n_models == 1 and self.confidence is None else (_ACTIVE,)
        of_values = [
            self._arm("accuracy", design, y, f, power) for design, power in (_PLAIN, _UNIFORM, *active)
        ]
        first, second = np.triu_indices(n_models, 1)
        pairs = (y[:, first] - y[:, second], f[:, first] - f[:, second])
        same = self.best[:, first] == self.best[:, second]
        of_pairs = [
            self._arm("difference", design, *pairs, power, accuracy[first] - accuracy[second], same)
            for design, power in (_PLAIN, _UNIFORM, _DIFFERENCES)
            if n_models >= PAIR
        ]
        return Pilot(
            f"{len(w):,} audited images of {Path(self.where).name}",
            len(drawn.image_id),
            questions,
            n_models,
            self.names,
            of_values,
            of_pairs,
            of_pairs if n_models > PAIR else [],
            len(w),
            inputs,
        )

    def _proposed(self, proposed_by: str) -> Floats:
        """Return whether each model is right under the proposed label sets, shape (n, M)."""
        if proposed_by == "models":
            return chosen_by_others(self.best).astype(np.float64)
        if (self.label < 0).all():
            raise InputError(
                "The images have no original labels to use as proposed label sets.",
                where=self.where,
                do="set `proposed_by` to models",
            )
        return np.asarray(self.best == self.label[:, None], np.float64)

    def _arm(
        self,
        question: str,
        design: Preference,
        y: Floats,
        f: Floats,
        power: Power,
        differences: Floats | None = None,
        same: Bools | None = None,
    ) -> PlannedDesign:
        planned = small_design(design, self.best, self.weights, self.confidence)
        variance = design_variance(y, f, self.weights, planned, power=power, same=same)
        return PlannedDesign(
            question, design, "ppi++" if power == "tuned" else "sample", variance, differences
        )


def _confidence(cases: Sequence[ModelCase], at: Sequence[Ints]) -> Floats | None:
    """Return the probability of the top class of each model, shape (n, M); None if a model has none."""
    columns = [None if (p := confidence_of(c.case)) is None else p[r] for c, r in zip(cases, at, strict=True)]
    return (
        None if any(c is None for c in columns) else np.stack([c for c in columns if c is not None], axis=1)
    )

"""Estimates of many models' metrics on people's label sets, from an audit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Ints
from manyhot.core.audit_average_precision import audited_average_precision, doubt_of_classes
from manyhot.core.audit_strata import has_pairs
from manyhot.core.audited import (
    FEWEST_EFFECTIVE,
    TOO_FEW_IN_GROUP,
    AuditedEstimate,
    LinearisedValues,
    linearised_slices,
)
from manyhot.core.estimates import Estimate, Ratio
from manyhot.core.jackknife import Scale
from manyhot.core.posterior import combined
from manyhot.core.ratio_intervals import FEWEST_CASES
from manyhot.core.resampling import Bootstrap
from manyhot.core.sets import Case, LabelSets
from manyhot.evaluate.audit_proposals import ProposalBalance, standard_odds
from manyhot.evaluate.audited import MAP_MACRO, AuditedImages
from manyhot.evaluate.audited_pairs import AuditedPairs
from manyhot.evaluate.audited_questions import AskedClasses, unasked_share
from manyhot.evaluate.columns import ImageValues
from manyhot.evaluate.posterior import RaterShares
from manyhot.evaluate.prediction_checks import ascends
from manyhot.evaluate.reliability import CALIBRATION, AuditedCase, Row, audited_reliability
from manyhot.evaluate.requirements import case_for, depends_on_sets, entries_of
from manyhot.evaluate.result_rows import Number
from manyhot.evaluate.slices import ALL, BY_SIZE, Slices, slices_by_size
from manyhot.registry import Entry
from manyhot.tables.result_tables import accuracies

FEW_AUDITED = f"fewer than {FEWEST_CASES} audited images count"
"""Why a value has no interval: such a small sample may miss rare images and look as if there were none."""

MOST_CHANGED = 0.2
"""Share of the audited images whose answers change a denominator, from which too few pairs of images of one
class shift a mean over classes: by up to 3 points if proposals are no use, with 75 % coverage."""

TOO_FEW_PAIRS = "too few audited images to tell which classes have images without a valid class"
"""Why a mean over classes has no interval."""


class Auditor:
    """Estimates values of many models on people's label sets, one metric of one model at a time.

    Parameters
    ----------
    slices : Slices
        Slices of all images, based on the proposed label sets.
    image_id : pyarrow.Array
        The ids of all images.
    bootstrap : Bootstrap
        The bootstrap of these slices. Comparisons of data sets and of ranks use resampled values; without
        resamples, there are no intervals and no pairs.

    Attributes
    ----------
    asked : AskedClasses
        Metrics that are left out because people were not asked about the classes that decide them.
    """

    def __init__(
        self, images: AuditedImages, slices: Slices, image_id: pa.Array, bootstrap: Bootstrap
    ) -> None:
        self.images, self._slices, self._bootstrap = images, slices, bootstrap
        self.asked, self.balance = AskedClasses(), ProposalBalance(images.sample)
        self.pairs = AuditedPairs(images, image_id, bootstrap.resamples, bootstrap.seed)
        self._compared = frozenset(accuracies())
        self.raters = RaterShares()
        self._last: AuditedCase | None = None

    @cached_property
    def _inside(self) -> Bools:
        """The audited images of each slice, shape (S, n)."""
        return self._inside_by(self.images.people)

    @cached_property
    def _inside_draws(self) -> list[Bools]:
        """The audited images of each slice, on each draw of people's label sets."""
        return [self._inside_by(drawn) for drawn in self.images.draws]

    def _inside_by(self, people: LabelSets) -> Bools:
        """Return the audited images of each slice, by people's label sets if they decide, shape (S, n)."""
        inside, by_people = self._slices.masks[:, self.images.sample.images], slices_by_size(people)
        return np.array(
            [by_people.get(name, mask) for name, mask in zip(self._slices.names, inside, strict=True)]
        )

    def case(self, case: Case, rows: npt.NDArray[np.int64]) -> Case:
        """Return a model's predictions for the audited images, with people's label sets.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            The rows of the images of the case in the data set.
        """
        return self._audited(case, rows).audited

    def _audited(self, case: Case, rows: npt.NDArray[np.int64]) -> AuditedCase:
        if self._last is None or self._last.all_images is not case:
            self._last = AuditedCase.of(case, rows, self.images)
        return self._last

    def judged(
        self, model: str, metrics: Sequence[Entry], case: Case, rows: npt.NDArray[np.int64]
    ) -> list[Entry]:
        """Return the metrics that can be computed from people's answers; `asked` stores the other metrics.

        Macro average precision always has an estimate. It has no interval if a rule chose the questions.
        """
        own = self._audited(case, rows)
        weights = self.images.sample.weights[own.rows]
        return [
            m
            for m in metrics
            if m.name == MAP_MACRO
            or not depends_on_sets(m)
            or self.asked.is_judged(model, m, own.audited, weights)
        ]

    def reliability(
        self, dataset: str, model: str, case: Case, rows: npt.NDArray[np.int64]
    ) -> tuple[list[Row], str]:
        """Return a model's reliability rows, and a message about any problem; empty if there is none.

        Parameters
        ----------
        case, rows
            As in `case`.
        """
        (metric,) = entries_of([CALIBRATION])
        if reason := unaudited(metric, self.images):
            return [], reason
        own = self._audited(case, rows)
        if share := unasked_share(metric, own.audited, self.images.sample.weights[own.rows]):
            return (
                [],
                f"people were not asked about its top class on {100 * share:.0f} % of the audited images",
            )
        return [*audited_reliability(self.images, dataset, model, own)], ""

    def estimates(
        self,
        column: ImageValues,
        metric: Entry,
        case: Case,
        rows: npt.NDArray[np.int64],
        proposed: Iterable[Number],
    ) -> Iterator[Number]:
        """Yield the estimates of a model's metric, to replace its values on the proposed label sets.

        Parameters
        ----------
        column : ImageValues
            The values of all images on the proposed label sets.
        rows : ndarray of int
            As in `case`.
        proposed : iterable of Number
            The values on the proposed label sets in each slice.
        """
        audited, is_known = self._audited(case, rows), not depends_on_sets(metric)
        of_audited = case_for(metric, audited.audited)
        own, values = self._linearised(metric(of_audited), column, audited.rows, self._inside)
        estimated, draws = self.images.estimate(values, column.metric), [values]
        if audited.draws and not is_known:
            every = zip(audited.draws, self._inside_draws, strict=True)
            cases = ((of_audited.with_labels(drawn), inside) for drawn, inside in every)
            draws = [self._linearised(metric(c), column, audited.rows, inside)[1] for c, inside in cases]
            estimated = self._over_draws(column.metric, draws, estimated)
        doubts = self._doubts(estimated, own, column.ratio)
        if not is_known:
            self.balance.add(column.model, column.metric, column.ratio)
        if not is_known and own.scored.any():
            scored = self._counts_for(own.scored, rows)
            self.pairs.count(column.model, column.metric, scored, audited.audited.top[:, 0])
            for i, name in enumerate(self._slices.names):
                if name == ALL or (i >= self._slices.standing and column.metric in self._compared):
                    self.pairs.add((column.model, column.metric, name), draws, estimated, doubts[i], i)
        counts = self._counts(own.scored, audited.rows)
        for i, number in enumerate(proposed):
            if is_known and number.slice not in BY_SIZE:
                yield number
                continue
            n, n_aligned, n_audited = (int(count[i]) for count in counts)
            n_aligned = n_aligned if number.slice in BY_SIZE else number.n + number.n_skipped
            number = replace(number, n=min(n, n_aligned), n_skipped=max(n_aligned - n, 0))
            ends = self._ends(estimated, column.scale, doubts, i)
            yield self._number(number, float(estimated.value[i]), ends, column.scale, n_audited)

    def _linearised(
        self, estimate: Estimate, column: ImageValues, rows: npt.NDArray[np.int64], inside: Bools
    ) -> tuple[Ratio, LinearisedValues]:
        """Return the values of a metric on the audited images, and what each image contributes to slices."""
        assert isinstance(estimate, Ratio)
        sample = self.images.sample
        own = ImageValues.spread(column.model, column.metric, estimate, rows, len(sample)).ratio
        return own, linearised_slices(own, column.ratio, sample, inside, self._bootstrap.cells)

    def _over_draws(
        self, metric: str, draws: Sequence[LinearisedValues], fixed: AuditedEstimate
    ) -> AuditedEstimate:
        """Return the estimate over draws of people's label sets; `fixed` is that on these as they are."""
        found = combined([self.images.estimate(values, metric) for values in draws])
        self.raters.add(metric, found, fixed)
        return found

    def _number(
        self, number: Number, value: float, ends: tuple[float, float], scale: Scale, n_audited: int
    ) -> Number:
        """Return an estimate in place of a value on the proposed label sets."""
        lo, hi = ends
        if scale == "logit":  # of a share, whose estimate may be beyond 0 or 1
            value, lo, hi = (float(np.clip(x, 0, 1)) for x in (value, lo, hi))
        return replace(
            number,
            value=value,
            lo=None if np.isnan(lo) else lo,
            hi=None if np.isnan(hi) else hi,
            estimator=self.images.audit.estimator,
            n_audited=n_audited,
            alone=None if np.isnan(number.value) else number.value,
        )

    def average_precision(
        self, dataset: str, model: str, case: Case, rows: npt.NDArray[np.int64]
    ) -> Number | None:
        """Return the estimate of macro average precision on all images.

        The result is None if a model does not predict all images, or if an image is not usable.

        Parameters
        ----------
        case, rows
            As in `case`.
        """
        people = self.images.people
        is_whole = len(rows) == len(self.images.sample.design) and ascends(rows)
        if not (is_whole and people.usable.all() and case.labels.usable.all()) or case.scores is None:
            return None
        yes, proposed, scores = people.yes_matrix(), case.labels.yes_matrix(), case.scores
        questions = self.images.questions
        asked = questions.probability if questions.are_drawn else None
        features = self._features(case)
        draws = [
            audited_average_precision(
                drawn.yes_matrix(), proposed, scores, self.images.sample, features=features, asked=asked
            )
            for drawn in (people, *self.images.draws)
        ]
        estimated = self.images.estimate(draws[0], MAP_MACRO)
        if self.images.draws:
            draws = draws[1:]
            estimated = self._over_draws(MAP_MACRO, draws, estimated)
        few = FEW_AUDITED if len(people) < FEWEST_CASES else ""
        few = few or questions.doubt or doubt_of_classes(yes, scores, self.images.sample)
        few = "" if self.images.is_whole and asked is None else few
        doubts = [d or few for d in estimated.doubts()]
        self.pairs.count(model, MAP_MACRO, np.ones(len(rows), bool))
        self.pairs.add((model, MAP_MACRO, ALL), draws, estimated, doubts[0])
        n, alone = int(np.count_nonzero(case.labels.usable)), float(estimated.alone[0])
        number = Number(dataset, model, MAP_MACRO, ALL, alone, None, None, n, len(rows) - n)
        ends = self._ends(estimated, "logit", doubts)
        return self._number(number, float(estimated.value[0]), ends, "logit", len(people))

    def _features(self, case: Case) -> Sequence[AnyFloats | Bools]:
        """Return the features that predict people's answers."""
        assert case.scores is not None
        if self.images.audit.estimator == "sample":
            return ()
        own, models = standard_odds(case.scores, case.kind), self.images.models
        found = None if models is None else models.features(own)
        return (own, case.labels.yes_matrix()) if found is None else found

    def _counts_for(self, scored: Bools, rows: npt.NDArray[np.int64]) -> Bools:
        """Return the images that may count for a model, shape (N,).

        Audited images count by people's answers. Which others do is not known, and proposed label sets do not
        decide: they differ from model to model if the models propose them for one another.
        """
        found = np.zeros(len(self.images.sample.design), bool)
        found[rows] = True
        found[self.images.sample.images] = scored
        return found

    def _counts(self, scored: Bools, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return, of each slice, how many images count and are aligned, as the audited ones suggest.

        The last count is that of the audited images that count.
        """
        sample, aligned = self.images.sample, np.zeros(len(scored), bool)
        aligned[rows] = True
        weights = sample.weights * len(sample.design)
        n, n_aligned = (np.rint((self._inside & mask) @ weights).astype(int) for mask in (scored, aligned))
        return n, n_aligned, np.count_nonzero(self._inside & scored, axis=1)

    def _doubts(self, estimated: AuditedEstimate, audited: Ratio, proposed: Ratio) -> list[str]:
        """Return why each slice has no interval; empty if it has one."""
        doubts = estimated.doubts()
        if self.images.is_whole:
            return doubts
        few = np.count_nonzero(self._inside & audited.scored, axis=1) < FEWEST_CASES
        doubts = [d or (FEW_AUDITED if f else "") for d, f in zip(doubts, few, strict=True)]
        if audited.stratum is None or proposed.stratum is None:
            return doubts
        rows = self.images.sample.images
        both = audited.scored & proposed.scored[rows]
        if (audited.stratum == proposed.stratum[rows])[both].all():  # of original labels
            changed = float(np.mean(audited.scored != proposed.scored[rows]))
            unknown = changed > MOST_CHANGED and not has_pairs(proposed.stratum[rows])
            return [d or (TOO_FEW_PAIRS if unknown else "") for d in doubts]
        strata = np.unique(audited.stratum[audited.scored])
        for i, name in enumerate(self._slices.names):
            inside = audited.stratum[self._inside[i] & audited.scored]
            counts = np.bincount(np.searchsorted(strata, inside), minlength=len(strata))
            if name not in BY_SIZE and counts.min(initial=FEWEST_EFFECTIVE) < FEWEST_EFFECTIVE:
                doubts[i] = doubts[i] or TOO_FEW_IN_GROUP
        return doubts

    def _ends(
        self, estimated: AuditedEstimate, scale: Scale, doubts: Sequence[str], i: int = 0
    ) -> tuple[float, float]:
        if doubts[i] or not self._bootstrap.resamples:
            return float("nan"), float("nan")
        scale = scale if scale in ("logit", "log") else "plain"
        lo, hi = estimated.interval(scale, quantile=self.images.quantile)
        return float(lo[i]), float(hi[i])


NO_SUMS = "an audit estimates sums over images"
"""Why metrics that are not ratios of sums cannot be audited."""

NOT_WHOLE = "some images have no prediction or are not usable"
"""Why macro average precision cannot be audited."""


def unaudited(metric: Entry, images: AuditedImages) -> str:
    """Return the reason why a metric cannot be audited, or an empty string."""
    if metric.name.endswith("_unasked") or metric.name == "errors_asked":
        return "in an audit, raters are asked about other classes"
    if metric.name == MAP_MACRO and images.audit.estimator == "sample":
        return "it needs proposed label sets, so choose an estimator other than sample"
    if images.questions.are_drawn and metric.name != MAP_MACRO and depends_on_sets(metric):
        return f"the questions were drawn for {MAP_MACRO}"
    return ""

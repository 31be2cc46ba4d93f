"""Estimates of many models' metrics on people's label sets, from an audit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from scipy.special import stdtr

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.audit_average_precision import audited_average_precision, doubt_of_classes
from manyhot.core.audit_plans import QUANTILE
from manyhot.core.audit_resamples import resampled_values
from manyhot.core.audit_samples import IMPLAUSIBLE, balance_p
from manyhot.core.audit_sequence import sequence_p
from manyhot.core.audit_strata import has_pairs
from manyhot.core.audited import (
    FEWEST_EFFECTIVE,
    TOO_FEW_IN_GROUP,
    AuditedEstimate,
    LinearisedValues,
    estimate,
    linearised_slices,
    side_by_side,
)
from manyhot.core.comparison import PairTable, holm
from manyhot.core.estimates import Ratio
from manyhot.core.jackknife import Scale
from manyhot.core.ratio_intervals import FEWEST_CASES
from manyhot.core.resampling import Cells
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.evaluate.audit_proposals import standard_odds
from manyhot.evaluate.audited import ESTIMATORS, MAP_MACRO, AuditedImages
from manyhot.evaluate.audited_questions import AskedClasses
from manyhot.evaluate.columns import CountedImages, ImageValues, Key, samples_table
from manyhot.evaluate.requirements import case_for
from manyhot.evaluate.results import Number, pair_rows
from manyhot.evaluate.slices import ALL, BY_SIZE, Slices, slices_by_size
from manyhot.registry import Entry
from manyhot.tables.result_tables import ORIGINAL_LABELS, accuracies

FEW_AUDITED = f"fewer than {FEWEST_CASES} audited images count"
"""Why a value has no interval: a sample of so few misses rare images, and looks as if there were none."""

MOST_CHANGED = 0.2
"""Share of the audited images whose answers change a denominator, from which too few pairs of images of one
class shift a mean over classes: by up to 3 points if proposals are no use, with 75 % coverage."""

TOO_FEW_PAIRS = "too few audited images show which classes have images without a valid class"
"""Why a mean over classes has no interval."""

BY_TOP_CLASS = ("real1", "mla")
"""Metrics that judge an image by the top class alone: images with the same one do not tell models apart."""

_BLOCK = 4_000_000
"""Values of pairs of models in memory at once: 32 MB, several times."""


def with_class_masks(slices: Slices, sets: LabelSets) -> Slices:
    """Return slices in which classes of original labels have masks as other slices have."""
    masks = sets.label == np.array(slices.classes, np.int32)[:, None]
    names = slices.names + slices.class_names
    return replace(slices, names=names, masks=np.vstack([slices.masks, masks]), classes=(), class_names=())


class Auditor:
    """Estimates the values of many models on people's label sets, one metric of one model at a time.

    Parameters
    ----------
    images : AuditedImages
    slices : Slices
        Slices of all images, by the proposed label sets.
    cells : Cells
        The cells of these slices.
    resamples, seed : int
        Resampled values, which comparisons between data sets and of ranks use; with 0, there are no intervals
        and no pairs.

    Attributes
    ----------
    doubts : dict of str to list of str
        Why metrics have no interval, by reason, until the caller clears it.
    asked : AskedClasses
        Metrics that are left out because people were not asked about the classes that decide them.
    """

    def __init__(
        self, images: AuditedImages, slices: Slices, cells: Cells, resamples: int, seed: int
    ) -> None:
        self.images, self._slices, self._cells = images, slices, cells
        self._resamples, self._seed = resamples, seed
        self.doubts: dict[str, list[str]] = {}
        self.asked = AskedClasses()
        self._compared = frozenset(accuracies())
        self._counted = CountedImages()
        self._values: dict[Key, LinearisedValues] = {}
        self._power: dict[Key, float] = {}
        self._doubtful = set[Key]()
        self._balance: dict[str, tuple[float, str]] = {}
        self._top: dict[str, Ints] = {}
        self._case: tuple[Case, Case, npt.NDArray[np.int64]] | None = None

    @cached_property
    def _inside(self) -> Bools:
        """The audited images of each slice: by people's answers if they decide, shape (S, n)."""
        inside = self._slices.masks[:, self.images.sample.images]
        by_people = slices_by_size(self.images.people)
        return np.array(
            [by_people.get(name, mask) for name, mask in zip(self._slices.names, inside, strict=True)]
        )

    def case(self, case: Case, rows: npt.NDArray[np.int64]) -> Case:
        """Return the predictions of the audited images with people's label sets.

        Parameters
        ----------
        case : Case
        rows : ndarray of int, shape (m,)
            The rows of its images in the data set.
        """
        if self._case is None or self._case[0] is not case:
            place = np.full(len(self.images.sample.design), -1)
            place[rows] = np.arange(len(rows))
            at = place[self.images.sample.images]
            there = np.flatnonzero(at >= 0)
            people = self.images.people
            people = people if len(there) == len(people) else people.take(there)
            self._case = case, case.take(at[there], people), there
        return self._case[1]

    def judged(
        self, model: str, metrics: Sequence[Entry], case: Case, rows: npt.NDArray[np.int64]
    ) -> list[Entry]:
        """Return the metrics of a model that people's answers can judge; `asked` remembers the others.

        Macro average precision has an estimate anyhow, without an interval if a rule chose the questions.
        """
        audited = self.case(case, rows)
        assert self._case is not None
        weights = self.images.sample.weights[self._case[2]]
        return [
            m
            for m in metrics
            if m.name == MAP_MACRO
            or not depends_on_sets(m)
            or self.asked.is_judged(model, m, audited, weights)
        ]

    def estimates(
        self,
        column: ImageValues,
        metric: Entry,
        case: Case,
        rows: npt.NDArray[np.int64],
        proposed: Iterable[Number],
    ) -> Iterator[Number]:
        """Yield the estimates of a metric of a model in place of its values on the proposed label sets.

        Parameters
        ----------
        column : ImageValues
            The values of all images on the proposed label sets.
        metric : Entry
        case : Case
        rows : ndarray of int
            As in `case`.
        proposed : iterable of Number
            The values on the proposed label sets in each slice.
        """
        audited = self.case(case, rows)
        assert self._case is not None
        found = metric(case_for(metric, audited))
        assert isinstance(found, Ratio)
        n = len(self.images.sample)
        own = ImageValues.spread(column.model, column.metric, found, self._case[2], n)
        values = linearised_slices(own.ratio, column.ratio, self.images.sample, self._inside, self._cells)
        estimated = self._estimate(values, column.metric)
        doubts = self._doubts(estimated, own.ratio, column.ratio)
        is_known = not depends_on_sets(metric)
        if not is_known:
            self._compare_with_all(column)
        if not is_known and own.scored.any():
            self._counted.add(column.model, column.metric, self._counts_for(own.scored, rows))
            if len(audited.top) == n:
                self._top[column.model] = np.array(audited.top[:, 0])
            for i, name in enumerate(self._slices.names):
                if name == ALL or (i >= self._slices.standing and column.metric in self._compared):
                    self._keep((column.model, column.metric, name), values, estimated, doubts, i)
        counts = self._counts(own.scored)
        for i, number in enumerate(proposed):
            if is_known and number.slice not in BY_SIZE:
                yield number
                continue
            n, n_aligned, n_audited = (int(count[i]) for count in counts)
            n_aligned = n_aligned if number.slice in BY_SIZE else number.n + number.n_skipped
            number = replace(number, n=min(n, n_aligned), n_skipped=max(n_aligned - n, 0))
            ends = self._ends(estimated, column.scale, doubts, i)
            yield self._number(number, float(estimated.value[i]), ends, column.scale, n_audited)

    def _compare_with_all(self, column: ImageValues) -> None:
        """Compare what a model's first metric says by the proposals on the audited images and on all."""
        ratio, sample = column.ratio, self.images.sample
        if column.model in self._balance or ratio.stratum is not None or not ratio.den.any():
            return
        value = ratio.value()
        p = balance_p(ratio.num - value * ratio.den, sample)
        num, den = (sample.weights @ x[sample.images] for x in (ratio.num, ratio.den))
        on_audited = num / den if den else np.nan
        text = (
            f"{column.metric} of {column.model} {100 * on_audited:.2f} % on them, {100 * value:.2f} % on all"
        )
        self._balance[column.model] = p, text

    def check_balance(self, dataset: str) -> None:
        """Raise an error if the proposals fit the audited images differently from all images.

        Raises
        ------
        InputError
            If the p-value of `balance_p` of a model is below `IMPLAUSIBLE`, divided by the number of models.
        """
        p, text = min(self._balance.values(), default=(1.0, ""))
        limit = IMPLAUSIBLE / max(len(self._balance), 1)
        if p < limit:
            raise InputError(
                "The proposed label sets fit the audited images differently from the other images.",
                where=dataset,
                got=f"by the proposals, {text} (p = {p:.1g})",
                allowed=f"p of at least {limit:.1g}",
                do="pass proposals and models that have not seen the answers about the audited images",
            )

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

    def average_precision(self, number: Number, case: Case, rows: npt.NDArray[np.int64]) -> Number | None:
        """Return the estimate of macro average precision on all images.

        It is None if a model does not predict all images, or if an image is not usable.

        Parameters
        ----------
        number : Number
            Model, metric and numbers of images.
        case, rows
            As in `case`.
        """
        people = self.images.people
        is_whole = len(rows) == len(self.images.sample.design) and bool((rows == np.arange(len(rows))).all())
        if not (is_whole and people.usable.all() and case.labels.usable.all()) or case.scores is None:
            return None
        yes, proposed, scores = people.yes_matrix(), case.labels.yes_matrix(), case.scores
        questions = self.images.questions
        asked = questions.probability if questions.are_drawn else None
        features = self._features(case)
        values = audited_average_precision(
            yes, proposed, scores, self.images.sample, features=features, asked=asked
        )
        estimated = self._estimate(values, MAP_MACRO)
        few = FEW_AUDITED if len(people) < FEWEST_CASES else ""
        few = few or questions.doubt or doubt_of_classes(yes, scores, self.images.sample)
        few = "" if self.images.is_whole and asked is None else few
        doubts = [d or few for d in estimated.doubts()]
        self._counted.add(number.model, number.metric, np.ones(len(rows), bool))
        self._keep((number.model, number.metric, ALL), values, estimated, doubts)
        number = replace(number, value=float(estimated.alone[0]))
        ends = self._ends(estimated, "logit", doubts)
        return self._number(number, float(estimated.value[0]), ends, "logit", len(people))

    def _features(self, case: Case) -> Sequence[AnyFloats | Bools]:
        """Return what predicts people's answers."""
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

    @cached_property
    def _weights(self) -> Floats:
        """The number of images that each audited image stands for, shape (N,); 0 for others."""
        sample = self.images.sample
        found = np.zeros(len(sample.design))
        found[sample.images] = sample.weights * len(sample.design)
        return found

    def _counts(self, scored: Bools) -> tuple[Ints, Ints, Ints]:
        """Return, of each slice, how many images count and are aligned, as the audited ones suggest.

        The last count is that of the audited images that count.
        """
        assert self._case is not None
        sample, aligned = self.images.sample, np.zeros(len(scored), bool)
        aligned[self._case[2]] = True
        weights = sample.weights * len(sample.design)
        n, n_aligned = (np.rint((self._inside & mask) @ weights).astype(int) for mask in (scored, aligned))
        return n, n_aligned, np.count_nonzero(self._inside & scored, axis=1)

    def _same(self, metric: str, models: Sequence[str], a: Ints, b: Ints) -> Bools | None:
        """Return the audited images that do not tell the models of pairs apart, shape (n, P)."""
        if metric not in BY_TOP_CLASS or any(m not in self._top for m in models):
            return None
        top = np.stack([self._top[m] for m in models], axis=1)
        return np.asarray(top[:, a] == top[:, b])

    def _estimate(self, values: LinearisedValues, metric: str, same: Bools | None = None) -> AuditedEstimate:
        audit, fitted = self.images.audit, metric == MAP_MACRO
        power = 1.0 if fitted else ESTIMATORS[audit.estimator]
        found = estimate(values, self.images.sample, power=power, population=audit.population, same=same)
        # Its proposals are fitted, and images that could matter have high probabilities (`doubt_of_classes`).
        return replace(found, checked=not fitted)

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
        if doubts[i] or not self._resamples:
            return float("nan"), float("nan")
        scale = scale if scale in ("logit", "log") else "plain"
        lo, hi = estimated.interval(scale, quantile=self.images.quantile)
        return float(lo[i]), float(hi[i])

    def _keep(
        self,
        key: Key,
        values: LinearisedValues,
        estimated: AuditedEstimate,
        doubts: Sequence[str],
        i: int = 0,
    ) -> None:
        """Keep what pairs and comparisons need of a value, and why it has no interval."""
        one, doubt = slice(i, i + 1), doubts[i]
        self._values[key] = LinearisedValues(
            values.audited[:, one].astype(np.float32),
            values.proposed[:, one].astype(np.float32),
            values.mean[one],
            values.base[one],
            values.alone[one],
            np.asarray(values.parts[-1][:, one], np.float64),
        )
        if doubt and not estimated.doubts()[i]:  # it is also that of a difference
            self._doubtful.add(key)
        self._power[key] = np.nan if doubt else float(estimated.power[i])
        if key[2] == ALL and doubt and self._resamples and not self.images.is_whole:
            self.doubts.setdefault(doubt, []).append(key[1])

    def samples(self, dataset: str, rows: Sequence[Number]) -> pa.Table:
        """Return the samples table; values that no answer changes are the same in each resample.

        Parameters
        ----------
        dataset : str
        rows : sequence of Number
            All values.
        """
        keys = [k for k, power in self._power.items() if k[1] in self._compared and not np.isnan(power)]
        drawn: dict[Key, Floats32] = {}
        if keys and self._resamples:
            found = resampled_values(
                side_by_side([self._values[k] for k in keys]),
                self.images.sample,
                np.array([self._power[k] for k in keys]),
                rng=np.random.default_rng([self._seed, len(self.images.sample.design)]),
                resamples=self._resamples,
                population=self.images.audit.population,
            )
            if self.images.quantile is not None:  # their percentiles hold at all numbers of answers, too
                middle = found.mean(axis=0)
                found = middle + (found - middle) * (self.images.quantile / QUANTILE)
            drawn = dict(zip(keys, found.T.astype(np.float32), strict=True))
            if not self.images.audit.population:
                drawn |= {
                    (r.model, r.metric, r.slice): np.full(self._resamples, r.value, np.float32)
                    for r in rows
                    if r.estimator is None and r.metric in self._compared and (r.slice == ALL)
                }
        return samples_table(dataset, drawn, self._resamples)

    def pairs(self, dataset: str, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the columns of the pairs table for each metric on all images."""
        for metric in dict.fromkeys(metric for _, metric, _ in self._values) if self._resamples else ():
            listed = [m for m in models if (m, metric, ALL) in self._values]
            group = self._counted.groups(metric, listed)
            if len(set(group.tolist())) == len(listed):
                continue
            table, alone = self._pairs(metric, listed, group)
            shared = self._counted.n_shared(metric, listed, self._weights)
            columns = pair_rows(dataset, metric, ALL, listed, table, shared)
            m = len(table.a)
            yield columns | {
                "estimator": pa.repeat(pa.scalar(self.images.audit.estimator), m),
                "n_audited": np.full(m, len(self.images.sample)),
                "alone": alone,
            }

    def _pairs(self, metric: str, models: Sequence[str], group: Ints) -> tuple[PairTable, Floats]:
        """Return the differences of all pairs of models, and those on the proposed label sets alone."""
        values = side_by_side([self._values[m, metric, ALL] for m in models])
        a, b = np.triu_indices(len(models), 1)
        columns = np.full((6, len(a)), np.nan)
        for start in range(0, len(a), size := max(1, _BLOCK // len(self.images.sample))):
            block = slice(start, start + size)
            same = self._same(metric, models, a[block], b[block])
            found = self._estimate(values.differences(b[block], a[block]), metric, same)
            lo, hi = found.interval(quantile=self.images.quantile)
            columns[:, block] = found.value, lo, hi, found.error, found.df, found.alone
        columns[:, group[a] != group[b]] = np.nan
        difference, lo, hi, error, df, alone = columns
        without = np.array([(m, metric, ALL) in self._doubtful for m in models])
        lo[without[a] | without[b]] = hi[without[a] | without[b]] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            z = difference / error
        planned = self.images.planned
        p = 2 * stdtr(df, -np.abs(z)) if planned is None else sequence_p(z, len(self.images.sample), planned)
        p = np.where(np.isnan(lo), np.nan, p)
        return PairTable(a, b, difference, lo, hi, p, holm(p)), alone


NO_SUMS = "an audit estimates sums over images"
"""Why metrics that are no ratios of sums cannot be audited."""

NOT_WHOLE = "some images have no prediction or are not usable"
"""Why macro average precision cannot be audited."""


def unaudited(metric: Entry, images: AuditedImages) -> str:
    """Return why a metric cannot be audited; empty if it can."""
    if metric.name.endswith("_unasked") or metric.name == "errors_asked":
        return "people are asked about other classes in an audit than before"
    if metric.name == MAP_MACRO and images.audit.estimator == "sample":
        return "it needs proposed label sets: leave out the estimator sample"
    if images.questions.are_drawn and metric.name != MAP_MACRO and depends_on_sets(metric):
        return f"the questions were drawn for {MAP_MACRO}"
    return ""


def depends_on_sets(metric: Entry) -> bool:
    """Return whether a metric depends on label sets, not on original labels alone."""
    return metric.about.get("judged_on") != ORIGINAL_LABELS

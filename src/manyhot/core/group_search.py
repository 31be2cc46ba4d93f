"""Groups of images in which an outcome is more frequent than elsewhere, corrected for the search itself.

A group is any set of images that is defined without the outcome: by pixels, metadata or clusters. An outcome
is compared within strata, such as the images of a class, so that a group is not reported just because it
contains many images of difficult classes. All groups and outcomes are tested together: the outcomes are
permuted within strata, and a group is judged by how often the largest statistic of the whole search is as
large as its own.

References
----------
Cochran 1954, doi 10.2307/3001616, and Mantel and Haenszel 1959 for the comparison within strata. Westfall
and Young 1993, Resampling-Based Multiple Testing, for the largest statistic under permutation, which
controls the family-wise error rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.clusters import permuted_in_clusters
from manyhot.core.threads import one_blas_thread

FAMILY_WISE = 0.05
"""Family-wise error rate: the chance that any group of a search is reported if outcomes are unrelated to
groups."""

_AT_ONCE = 200
"""Permutations that are in memory at a time."""

_SPARSE = 0.02
"""Share of images with the event below which sums are made of these images alone."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What may be more frequent in a group.

    Attributes
    ----------
    event : ndarray of bool, shape (n,)
        Whether it happens on each image.
    counts : ndarray of bool, shape (n,)
        The images that count.
    stratum : ndarray of int, shape (n,)
        The stratum of each image. Images are compared only with images of the same stratum.
    """

    event: Bools
    counts: Bools
    stratum: Ints


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of an outcome in groups, and their expected values, as arrays of shape (m,).

    Attributes
    ----------
    n, n_outside : ndarray of int
        Number of counted images inside and outside each group.
    events, events_outside : ndarray of int
        Those with the event.
    expected, variance : ndarray of float
        Mean and variance of `events` if the events of each stratum are distributed at random among its
        images.
    """

    n: Ints
    n_outside: Ints
    events: Ints
    events_outside: Ints
    expected: Floats
    variance: Floats

    def statistic(self, events: AnyFloats | None = None) -> Floats:
        """Return the excess of events over expectation in standard deviations, shape (m,) or (m, r).

        The statistic is the signed root of the deviance of a Poisson count, scaled to the variance within
        strata. For rare events, it exaggerates less than the difference divided by its standard deviation
        would.
        """
        e, v = self.expected, self.variance
        if events is None:
            o = self.events.astype(np.float64)
        else:
            o, e, v = events.astype(np.float64), e[:, None], v[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            deviance = 2 * (np.where(o > 0, o * np.log(o / e), 0.0) - (o - e)) * (e / v)
            found = np.sign(o - e) * np.sqrt(np.maximum(deviance, 0.0))
        return np.where((v > 0) & (e > 0), found, -np.inf)


def count_in_groups(groups: Bools, outcome: Outcome) -> Counts:
    """Return the counts of an outcome in each group; `groups` has shape (m, n)."""
    inside = groups[:, outcome.counts].astype(np.float32)
    event = outcome.event[outcome.counts]
    codes, stratum = np.unique(outcome.stratum[outcome.counts], return_inverse=True)
    size = np.bincount(stratum, minlength=len(codes)).astype(np.float64)
    rate = np.bincount(stratum, event, len(codes)) / np.maximum(size, 1)
    member = np.zeros((len(stratum), len(codes)), np.float32)
    member[np.arange(len(stratum)), stratum] = 1
    of_stratum = (inside @ member).astype(np.float64)
    spread = rate * (1 - rate) / np.maximum(size - 1, 1)
    n = np.rint(of_stratum.sum(axis=1)).astype(np.int64)
    events = np.rint(inside @ event.astype(np.float32)).astype(np.int64)
    return Counts(
        n,
        len(event) - n,
        events,
        int(event.sum()) - events,
        of_stratum @ rate,
        (of_stratum * (size - of_stratum)) @ spread,
    )


@dataclass(frozen=True, eq=False)
class GroupSearch:
    """All groups against all outcomes.

    Attributes
    ----------
    counts : tuple of Counts
        For each outcome.
    statistic : ndarray of float, shape (outcomes, m)
        Minus infinity for groups that are too small.
    p : ndarray of float, shape (outcomes, m)
        Probability that the largest statistic of the whole search is at least as large when outcomes are
        permuted.
    tested : ndarray of bool, shape (outcomes, m)
        Whether enough images are inside and outside each group.
    critical : float
        The value that the largest statistic of the whole search exceeds with probability `FAMILY_WISE`.
    """

    counts: tuple[Counts, ...]
    statistic: Floats
    p: Floats
    tested: Bools
    critical: float


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of n images.

    Attributes
    ----------
    inside : ndarray of bool, shape (m, n)
        Which images each group contains.
    searched : ndarray of bool, shape (m,)
        Groups whose definition depends on the outcomes of some images.
    seen : ndarray of bool, shape (n,)
        The images whose outcomes were used. Searched groups are only tested on other images.
    cluster : ndarray of int, shape (n,), optional
        The cluster of each image, if images depend on each other. Outcomes are then permuted as in
        `manyhot.core.clusters.permuted_in_clusters`.
    among : sequence of ndarray of bool, shape (n,), or None, optional
        For each group, the images that are compared: its own and those with which they are compared; None
        for all images. Groups with the same images have the same array.
    """

    inside: Bools
    searched: Bools
    seen: Bools
    cluster: Ints | None = None
    among: Sequence[Bools | None] = ()

    def parts(self, outcome: Outcome) -> Iterator[tuple[Ints, Outcome]]:
        """Yield the groups that are tested on the same images, with the outcome on these images."""
        among = self.among or (None,) * len(self.inside)
        keys = [(bool(searched), id(own)) for searched, own in zip(self.searched, among, strict=True)]
        for key in sorted(dict.fromkeys(keys), key=lambda key: key[0]):
            at = np.array([i for i, own in enumerate(keys) if own == key])
            yield at, replace(outcome, counts=self.counted(at[0], outcome))

    def counted(self, group: int, outcome: Outcome) -> Bools:
        """Return the images on which a group is tested, shape (n,)."""
        counts = outcome.counts & ~self.seen if self.searched[group] else outcome.counts
        among = self.among[group] if self.among else None
        return counts if among is None else counts & among

    def count(self, outcome: Outcome) -> Counts:
        """Return the counts of an outcome in each group, on the images on which it is tested."""
        parts = [(at, count_in_groups(self.inside[at], of)) for at, of in self.parts(outcome)]
        order = np.argsort(np.concatenate([at for at, _ in parts]))
        fields = (
            np.concatenate([getattr(c, name) for _, c in parts])[order] for name in Counts.__annotations__
        )
        return Counts(*fields)


def search_groups(
    groups: Groups,
    outcomes: Sequence[Outcome],
    rng: np.random.Generator,
    *,
    permutations: int = 1000,
    min_images: int = 25,
) -> GroupSearch:
    """Compare every outcome inside and outside every group.

    Parameters
    ----------
    permutations : int
        Number of permutations. The smallest possible p is 1 / (permutations + 1).
    min_images : int
        Minimum number of counted images inside and outside a group.

    Notes
    -----
    The outcomes are permuted independently of each other. If they are positively related, like the errors of
    a model, the largest statistic is overestimated, so the test is conservative.
    """
    m = len(groups.inside)
    counts = tuple(groups.count(outcome) for outcome in outcomes)
    large = np.array([(c.n >= min_images) & (c.n_outside >= min_images) for c in counts]).reshape(-1, m)
    own = np.array([c.statistic() for c in counts]).reshape(-1, m)
    statistic = np.where(large, own, -np.inf)
    most = np.full(permutations, -np.inf)
    with one_blas_thread():  # products are small, and threads that wait for a busy core take much longer
        for outcome, count, able in zip(outcomes, counts, large, strict=True):
            for at, of in groups.parts(outcome):
                some = at[able[at]]
                if len(some) and of.event[of.counts].any():
                    own_counts = Counts(**{name: values[some] for name, values in vars(count).items()})
                    largest = _largest(groups.inside[some], of, own_counts, groups.cluster, permutations, rng)
                    most = np.maximum(most, largest)
    ordered = np.sort(most)
    above = permutations - np.searchsorted(ordered, statistic, side="left")
    p = np.where(np.isfinite(statistic), (1 + above) / (permutations + 1), np.nan)
    critical = float(np.quantile(most, 1 - FAMILY_WISE, method="higher")) if permutations else np.inf
    return GroupSearch(counts, statistic, p, large, critical)


def _largest(
    inside: Bools,
    outcome: Outcome,
    count: Counts,
    cluster: Ints | None,
    permutations: int,
    rng: np.random.Generator,
) -> Floats:
    """Return the largest statistic of all groups for each permutation of one outcome."""
    kept = np.flatnonzero(outcome.counts)
    kept = kept[np.argsort(outcome.stratum[kept], kind="stable")]
    if cluster is None and (len(inside) == 1 or (len(inside) == 2 and (inside[0] != inside[1])[kept].all())):
        first = _sums_of_one(inside[0, kept], outcome.event[kept], outcome.stratum[kept], permutations, rng)
        sums = np.stack([first, outcome.event[kept].sum() - first])[: len(inside)]
        largest: Floats = count.statistic(sums).max(axis=0)
        return largest
    members = inside[:, kept].astype(np.float32)
    found = []
    for start in range(0, permutations, _AT_ONCE):
        times = min(_AT_ONCE, permutations - start)
        if cluster is None:
            drawn = _permuted(outcome.event[kept], outcome.stratum[kept], times, rng)
        else:
            drawn = permuted_in_clusters(
                outcome.event[kept], outcome.stratum[kept], cluster[kept], times, rng
            )
        found.append(count.statistic(_sums(members, drawn)).max(axis=0))
    return np.concatenate(found)


def _sums_of_one(inside: Bools, event: Bools, stratum: Ints, times: int, rng: np.random.Generator) -> Ints:
    """Return the events in one group for each permutation, shape (times,), without permuting any image.

    Where raters left some cells empty, each class and its absence are compared on images of their own.
    """
    _, of = np.unique(stratum, return_inverse=True)
    size = np.bincount(of)
    good, n = (np.bincount(of[which], minlength=len(size)) for which in (event, inside))
    sums: Ints = rng.hypergeometric(good, size - good, n, (times, len(size))).sum(axis=1)
    return sums


def _permuted(event: Bools, stratum: Ints, times: int, rng: np.random.Generator) -> Bools:
    """Return the event permuted within strata, shape (times, n); images are sorted by stratum."""
    made = np.empty((times, len(event)), bool)
    starts = np.flatnonzero(np.append(True, stratum[1:] != stratum[:-1]))
    for start, stop in zip(starts, np.append(starts[1:], len(stratum)), strict=True):
        k, size = int(event[start:stop].sum()), int(stop - start)
        if k in (0, size):
            made[:, start:stop] = k > 0
            continue
        places = np.argpartition(rng.random((times, size), np.float32), k, axis=1)[:, :k]
        part = np.zeros((times, size), bool)
        np.put_along_axis(part, places, True, axis=1)
        made[:, start:stop] = part
    return made


def _sums(inside: Floats32, drawn: Bools) -> Floats32:
    """Return the events in each group, shape (m, times)."""
    if drawn[0].mean() >= _SPARSE:
        return inside @ drawn.T.astype(np.float32)
    from scipy.sparse import csr_array

    found: Floats32 = (csr_array(drawn.astype(np.float32)) @ inside.T).T
    return found


def explain_away(groups: Groups, outcome: Outcome, order: Ints, critical: float) -> list[tuple[int, int]]:
    """Return pairs of a group and the group that explains it; -1 if no group explains it.

    Parameters
    ----------
    order : ndarray of int
        The groups to consider, best explanation first.
    critical : float
        The value up to which a group's statistic counts as explained. The statistic is computed by comparing
        only images that belong to the same earlier explanations.
    """
    first: list[int] = []
    found = []
    stratum = outcome.stratum
    for group in order.tolist():
        counts = groups.counted(group, outcome)
        within = count_in_groups(groups.inside[group : group + 1], Outcome(outcome.event, counts, stratum))
        if not first or within.statistic()[0] > critical:
            first.append(group)
            found.append((group, -1))
            both = np.stack([stratum, groups.inside[group]])
            stratum = np.unique(both, axis=1, return_inverse=True)[1].ravel()
        else:
            found.append((group, _most_alike(groups.inside, group, first)))
    return found


def _most_alike(groups: Bools, group: int, among: list[int]) -> int:
    own, others = groups[group], groups[among]
    both = (others & own).sum(axis=1) / np.maximum((others | own).sum(axis=1), 1)
    return among[int(both.argmax())]

import numpy as np
import pytest

from manyhot.core import resampled_statistics, resampling
from manyhot.core.estimates import Cells, Ratio
from manyhot.core.ratio_intervals import intervals_in_cells, ratio_intervals
from manyhot.core.resampled_statistics import MeansOf, Ratios, ValueColumns
from manyhot.core.resampling import Bootstrap
from resamples import means_over_few_strata, means_over_strata

N = 700


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    masks = np.stack([np.ones(N, bool), rng.random(N) < 0.5, np.arange(N) < 60])
    num = [rng.random(N) < 0.7, rng.integers(0, 5, N) / 4, rng.random(N).astype(np.float32)]
    return masks, num, rng.random(N) < 0.9, rng.integers(0, 6, N)


def samples(data, given):
    masks, num, den, stratum = data
    columns = num if given is ValueColumns else np.stack(num, axis=1, dtype=np.float32, casting="unsafe")
    num = ValueColumns(num) if given is ValueColumns else columns
    dens, den_of = den[:, None].astype(np.float32), np.zeros(3, int)
    bootstrap = Bootstrap(masks, 300, seed=3)
    yield bootstrap.ratios(num, dens, den_of)
    yield means_over_few_strata(bootstrap, num, dens, den_of, stratum)
    yield means_over_strata(bootstrap, num, den, stratum)


def test_columns_are_a_matrix(data):
    for by_columns, by_matrix in zip(samples(data, ValueColumns), samples(data, np.ndarray), strict=True):
        np.testing.assert_array_equal(by_columns, by_matrix)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (resampled_statistics, "_IMAGES", 64),
        (resampled_statistics, "_KEPT", 0),
        (resampling, "_KEPT", 0),
        (resampling, "_CHUNK_BYTES", 7 * N),
        (resampling, "THREADS", 1),
    ],
)
def test_blocks_do_not_change_values(data, monkeypatch, module, name, value):
    expected = list(samples(data, ValueColumns))
    monkeypatch.setattr(module, name, value)
    for found, other in zip(samples(data, ValueColumns), expected, strict=True):
        np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize("kept", [0, 10**9])
def test_columns_of_types_in_any_order_are_those_of_numpy(data, monkeypatch, kept):
    monkeypatch.setattr(resampled_statistics, "_KEPT", kept)
    masks, (flag, share, real), den, _ = data
    num = [share, flag, real, ~flag, 1 - share, real**2, flag & den]
    found = Bootstrap(masks, 300, seed=3).ratios(ValueColumns(num), den[:, None], np.zeros(len(num), int))
    counts = resampling.draw_counts(N, 300, np.random.default_rng([3, N])).astype(float)
    for mask, of_slice in zip(masks, found, strict=True):
        by_hand = (counts * mask) @ np.stack(num, axis=1) / ((counts * mask) @ den)[:, None]
        np.testing.assert_allclose(of_slice, by_hand, rtol=1e-6)


@pytest.mark.parametrize("n", [60, N])
def test_values_do_not_depend_on_other_columns(n):
    """To the last digit: one column alone, with its copies, and among others with other strata."""
    rng = np.random.default_rng(1)
    masks = np.stack([np.ones(n, bool), rng.random(n) < 0.5])
    columns = [(rng.random(n) ** 9 * scale).astype(np.float32) for scale in (1, 1e-3, 300)] * 17
    bootstrap, den = Bootstrap(masks, 200, seed=3), rng.random(n) < 0.9
    strata = [rng.integers(0, 5, n) for _ in range(2)]

    def found(some, kinds):
        num = ValueColumns([columns[c] for c in some])
        every, dens = np.arange(len(some)), np.zeros(len(some), int)
        means_of = [MeansOf(every, dens, None if kind is None else strata[kind]) for kind in kinds]
        ratios = Ratios.of(bootstrap.cells, 200, num, ValueColumns([den]), means_of)
        bootstrap.resample(ratios)
        over = means_over_strata(bootstrap, num, den, strata[0])
        return {kind: m.samples for kind, m in zip(kinds, ratios.means, strict=True)} | {"many": over}

    whole = found(range(51), (None, 0, 1))
    for some, kinds in (((0,), (None,)), ((2,), (0,)), (range(3, 20), (1, None)), ((1, 50), (0, None))):
        for kind, samples in found(some, kinds).items():
            np.testing.assert_array_equal(samples, whole[kind][:, :, [*some]])


def test_few_strata_of_some_slices_are_those_of_all(data):
    masks, num, den, stratum = data
    arguments = (ValueColumns(num), den[:, None].astype(np.float32), np.zeros(3, int), stratum)
    bootstrap = Bootstrap(masks, 300, seed=3)
    wanted = [MeansOf(np.arange(3), *arguments[2:], [2])]
    some = Ratios.of(bootstrap.cells, 300, *arguments[:2], wanted)
    bootstrap.resample(some)
    (found,) = some.means
    np.testing.assert_array_equal(found.samples[2], means_over_few_strata(bootstrap, *arguments)[2])
    assert np.isnan(found.samples[:2]).all()


@pytest.mark.parametrize("n_slices", [1, 8, 9, 16, 17, 30])
def test_cells_are_the_distinct_columns_of_masks(n_slices):
    masks = np.random.default_rng(n_slices).random((n_slices, 500)) < 0.9
    cells = Cells.of(masks)
    np.testing.assert_array_equal(cells.member[:, cells.cell], masks)
    distinct = np.unique(masks, axis=1)
    np.testing.assert_array_equal(cells.member, distinct)
    for k, (start, stop) in enumerate(zip(cells.edges[:-1], cells.edges[1:], strict=True)):
        np.testing.assert_array_equal(cells.order[start:stop], np.flatnonzero(cells.cell == k))


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("strata", [False, True])
def test_intervals_in_cells_are_those_in_slices(data, column, strata):
    masks, num, den, stratum = data
    values = num[column] & den if column == 0 else (num[column] * den).astype(float)
    ratio = Ratio(values, den, den, stratum if strata else None)
    wanted = np.array([True, False, True])
    found = np.array(intervals_in_cells(ratio, masks, Cells.of(masks), wanted))
    np.testing.assert_allclose(found[:, wanted], ratio_intervals(ratio, masks[wanted]), rtol=1e-12)
    assert np.isnan(found[:, ~wanted]).all()

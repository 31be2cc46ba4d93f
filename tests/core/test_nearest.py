"""Nearest vectors against a plain loop, and what must not change the answer."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manyhot.core import nearest as module
from manyhot.core.nearest import CELLS_AT_ONCE, NOBODY, nearest, nearest_by_class
from manyhot.errors import InputError

few = settings(max_examples=60, deadline=None)


def cosines(a, vectors):
    """Return the cosines with a vector, in float64 from what float32 holds; None without a direction."""
    a, vectors = (v.astype(np.float32).astype(np.float64) for v in (a, vectors))
    with np.errstate(invalid="ignore"):
        own, norms = np.sqrt((a * a).sum()), np.sqrt((vectors * vectors).sum(1))
        found = ((a * vectors).sum(1) / (own * norms)).astype(np.float32)
    return [c if 0 < own < np.inf and 0 < n < np.inf else None for c, n in zip(found, norms, strict=True)]


def plain(queries, index, k, own=None, allowed=lambda query, row: True):
    """Search by a loop over all pairs; return rows and similarities."""
    answers = []
    for i, a in enumerate(queries):
        found = [
            (-c, row)
            for row, c in enumerate(cosines(a, index))
            if allowed(i, row) and (own is None or own[i] != row) and c is not None
        ]
        best = sorted(found)[:k]
        answers.append([(row, -c) for c, row in best] + [(NOBODY, np.nan)] * (k - len(best)))
    together = np.array(answers, dtype=float).reshape(len(queries), k, 2)
    return together[..., 0].astype(np.int64), together[..., 1].astype(np.float32)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.rows, expected[0])
    np.testing.assert_array_equal(found.similarity, expected[1])
    assert found.rows.dtype == np.int64
    assert found.similarity.dtype == np.float32


def random_vectors(n, size, seed=0, dtype=np.float16):
    return np.random.default_rng(seed).standard_normal((n, size)).astype(dtype)


@st.composite
def problems(draw):
    """Vectors of small whole numbers: equal ones, parallel ones and zeros are common."""
    size = draw(st.integers(1, 6))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    vectors = [
        draw(hnp.arrays(np.int8, (draw(st.integers(1, n)), size), elements=st.integers(-2, 2))).astype(dtype)
        for n in (8, 20)
    ]
    own = draw(hnp.arrays(np.int64, len(vectors[0]), elements=st.integers(-1, len(vectors[1]) - 1)))
    return *vectors, draw(st.integers(1, 25)), own, draw(st.integers(1, 100))


@few
@given(problems())
def test_nearest_is_what_a_loop_finds(problem):
    queries, index, k, own, cells = problem
    found = nearest(queries, index, k, own=own, cells=cells)
    assert_same(found, plain(queries, index, k, own))
    np.testing.assert_array_equal(found.blank_queries, np.flatnonzero((queries == 0).all(1)))
    np.testing.assert_array_equal(found.blank_index, np.flatnonzero((index == 0).all(1)))


@few
@given(problems(), st.data())
def test_by_class_is_what_a_loop_finds(problem, data):
    queries, index, k, own, cells = problem
    classes = data.draw(hnp.arrays(np.int32, len(index), elements=st.integers(-1, 3)))
    pairs = st.tuples(st.integers(0, len(queries) - 1), st.integers(0, 4))
    wanted = np.array(data.draw(st.lists(pairs, max_size=12)), np.int32).reshape(-1, 2)
    found = nearest_by_class(queries, wanted, index, classes, k, own=own, cells=cells)
    query = wanted[:, 0]
    expected = plain(queries[query], index, k, own[query], lambda i, row: bool(classes[row] == wanted[i, 1]))
    assert_same(found, expected)


@few
@given(problems(), st.randoms(use_true_random=False))
def test_a_permutation_of_the_index_permutes_the_answer(problem, random):
    queries, _, k, _, cells = problem
    index = random_vectors(20, queries.shape[1])
    order = np.array(random.sample(range(20), 20))
    here, there = nearest(queries, index, k, cells=cells), nearest(queries, index[order], k)
    moved = np.where(there.rows == NOBODY, NOBODY, order[there.rows])
    np.testing.assert_array_equal(here.similarity, there.similarity)
    for a, b, values in zip(here.rows, moved, here.similarity, strict=True):
        # Equals go by row, so that those of the last place, of which some may be left out, depend on it.
        above = values > values[min(k, 20) - 1]
        assert set(zip(values[above], a[above], strict=True)) == set(
            zip(values[above], b[above], strict=True)
        )
        if k >= 20:
            assert set(a) == set(b)


@pytest.mark.parametrize("size", [1, 7, 64, 513])
@pytest.mark.parametrize("shift", [0, 3], ids=["spread", "crowded"])
def test_the_answer_has_the_same_bits_whatever_the_blocks(size, shift):
    queries, index = random_vectors(40, size, 1) + shift, random_vectors(1500, size, 2) + shift
    index[700:800] = index[:100]
    expected = nearest(queries, index, 10)
    assert_same(expected, plain(queries, index, 10))
    for cells in (50, 999, 5_000, 40_000):
        assert_same(nearest(queries, index, 10, cells=cells), (expected.rows, expected.similarity))
    one = [nearest(queries[i : i + 1], index, 10) for i in range(len(queries))]
    np.testing.assert_array_equal(np.concatenate([found.rows for found in one]), expected.rows)


def test_similarities_closer_than_float32_products_tell_apart():
    # All within 1e-6 of each other: products of 2,048 numbers are off by up to 2.4e-4.
    rng = np.random.default_rng(3)
    base = rng.standard_normal(2048).astype(np.float32)
    index = (base + 1e-3 * rng.standard_normal((400, 2048))).astype(np.float32)
    queries = index[:3]
    own = np.arange(3)
    for cells in (CELLS_AT_ONCE, 300):
        assert_same(nearest(queries, index, 5, own=own, cells=cells), plain(queries, index, 5, own))


def test_equal_vectors_are_in_the_order_of_their_rows_and_memory_stays_bounded(monkeypatch):
    index = np.repeat(random_vectors(1, 16), 3000, axis=0)
    longest = []
    settle = module._Shortlist.settle
    monkeypatch.setattr(
        module._Shortlist,
        "settle",
        lambda self, *arguments: (longest.append(len(self.query)), settle(self, *arguments)),
    )
    found = nearest(index[:4], index, 5, own=np.arange(4), cells=1000)
    assert found.rows.tolist() == [[1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5], [0, 1, 2, 4, 5]]
    assert (found.similarity == 1).all()
    assert max(longest) <= 16 * 5 * 4 + 1000


def test_more_neighbours_than_there_are():
    queries, index = random_vectors(2, 4), random_vectors(3, 4, 1)
    found = nearest(queries, index, 5)
    assert (found.rows[:, 3:] == NOBODY).all()
    assert np.isnan(found.similarity[:, 3:]).all()
    assert_same(found, plain(queries, index, 5))
    assert (nearest(queries, index[:0], 2).rows == NOBODY).all()
    assert nearest(queries[:0], index, 2).rows.shape == (0, 2)


def test_no_query_meets_a_class_that_it_does_not_want():
    queries, index = random_vectors(3, 8), random_vectors(40, 8, 1)
    classes, wanted = np.arange(40) % 4, np.array([[0, 1], [2, 1], [2, 9]])
    index[classes != 1] = np.nan  # would be seen
    done = []
    found = nearest_by_class(
        queries, wanted, index, classes, 3, progress=lambda done_, of: done.append((done_, of))
    )
    assert not len(found.blank_index)
    assert (classes[found.rows[:2]] == 1).all()
    assert (found.rows[2] == NOBODY).all()
    assert done == [(20, 20)]


def test_vectors_without_direction_are_named_and_have_no_neighbours():
    queries, index = random_vectors(4, 8), random_vectors(30, 8, 1)
    queries[1], queries[2, 3] = 0, np.nan
    index[5], index[6, 0], index[7, 1] = 0, np.inf, -np.inf
    for cells in (CELLS_AT_ONCE, 7):
        found = nearest(queries, index, 30, cells=cells)
        assert (found.blank_queries.tolist(), found.blank_index.tolist()) == ([1, 2], [5, 6, 7])
        assert_same(found, plain(queries, index, 30))


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-18, 1e18, 1e30])
def test_vectors_whose_squares_float32_does_not_hold(scale):
    queries, index = (random_vectors(n, 16, n, np.float32) * np.float32(scale) for n in (3, 50))
    index[::2] /= scale
    assert_same(nearest(queries, index, 4), plain(queries, index, 4))


def test_input_is_left_alone():
    arrays = [random_vectors(5, 8, dtype=np.float32), random_vectors(30, 8, 1, np.float32)]
    for array in arrays:
        array.flags.writeable = False
    nearest(*arrays, 3)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_a_mapped_file_gives_the_same_and_changes_to_it_stay(tmp_path, mode):
    np.save(tmp_path / "index.npy", random_vectors(300, 32))
    index = np.load(tmp_path / "index.npy", mmap_mode=mode)
    if mode != "r":
        index[3] = 1
    queries = np.array(index[:10])
    expected = nearest(queries, np.array(index), 5)
    assert_same(nearest(queries, index, 5, cells=500), (expected.rows, expected.similarity))
    assert nearest(index[20:30], index, 1).rows[:, 0].tolist() == list(range(20, 30))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is mapped")
def test_what_was_read_of_a_file_is_no_memory_of_this_process(tmp_path):
    def mapped():
        part = Path("/proc/self/smaps").read_text().partition(str(tmp_path))[2]
        return int(part.partition("Rss:")[2].split()[0])

    np.save(tmp_path / "index.npy", random_vectors(20_000, 64))
    index = np.load(tmp_path / "index.npy", mmap_mode="r")
    assert np.isfinite(np.asarray(index).sum(dtype=np.float64))
    assert mapped() >= 2500
    nearest(index[:5], index, 3, cells=100_000)
    assert mapped() <= 100


@pytest.mark.skipif("MANYHOT_MINIMAL" in os.environ, reason="scikit-learn is not in the minimal install")
def test_scikit_learn_finds_the_same():
    from sklearn.neighbors import NearestNeighbors

    queries, index = random_vectors(50, 96), random_vectors(2000, 96, 1)
    theirs = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(index.astype(np.float64))
    distance, rows = theirs.kneighbors(queries.astype(np.float64))
    found = nearest(queries, index, 7)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.similarity, 1 - distance, rtol=0, atol=1e-7)


A, B = np.ones((2, 3), np.float16), np.ones((4, 3), np.float16)
ERRORS = {
    "not a matrix": (
        lambda: nearest(A[0], B, 1),
        "The vectors of the queries are not a matrix of floating-point numbers.\n"
        "  got:     shape (3,) of float16\n"
        "  allowed: one row per vector, as float16 or float32",
    ),
    "not floating": (
        lambda: nearest(A, B.astype(int), 1),
        "The vectors of the index are not a matrix of floating-point numbers.\n"
        "  got:     shape (4, 3) of int64\n"
        "  allowed: one row per vector, as float16 or float32",
    ),
    "length": (
        lambda: nearest(A, B[:, :2], 1),
        "The vectors of queries and index differ in length.\n"
        "  got:     3 and 2\n"
        "  allowed: vectors of the same length\n"
        "  do:      take both from the same model",
    ),
    "k": (lambda: nearest(A, B, 0), "k must be at least 1.\n  got:     0"),
    "k, by class": (
        lambda: nearest_by_class(A, np.array([[0, 0]]), B, np.zeros(4, int), 0),
        "k must be at least 1.\n  got:     0",
    ),
    "length, by class": (
        lambda: nearest_by_class(A, np.array([[0, 0]]), B[:, :2], np.zeros(4, int), 1),
        "The vectors of queries and index differ in length.\n"
        "  got:     3 and 2\n"
        "  allowed: vectors of the same length\n"
        "  do:      take both from the same model",
    ),
    "own": (
        lambda: nearest(A, B, 1, own=np.array([0, 4])),
        "The row numbers of the queries in the index are invalid.\n"
        "  got:     shape (2,), 0 to 4\n"
        "  allowed: one number for each of 2 queries, from -1 to 3",
    ),
    "classes": (
        lambda: nearest_by_class(A, np.array([[0, 0]]), B, np.zeros(3, int), 1),
        "The index has different numbers of classes and vectors.\n"
        "  got:     shape (3,)\n"
        "  allowed: shape (4,)",
    ),
    "pairs": (
        lambda: nearest_by_class(A, np.array([0, 0]), B, np.zeros(4, int), 1),
        "Each row of `pairs` must contain a query and a class.\n  got:     shape (2,)",
    ),
    "pair": (
        lambda: nearest_by_class(A, np.array([[0, 0], [2, 0]]), B, np.zeros(4, int), 1),
        "A query does not exist or a class is negative.\n"
        "  where:   row 1 of `pairs`\n"
        "  got:     [2, 0]\n"
        "  allowed: queries 0 to 1, classes of at least 0",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message

from dataclasses import replace

import numpy as np
import pytest

from manyhot.core import class_states
from manyhot.core.class_states import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES, LabelSets
from manyhot.errors import InputError
from manyhot.testing import random_case


def test_state_of_equals_a_dictionary(monkeypatch):
    rng = np.random.default_rng(0)
    labels = random_case(rng, n=50, c=37).labels
    known = {
        (int(row), int(c)): int(s)
        for row, c, s in zip(labels.rows, labels.classes, labels.state, strict=True)
    }
    classes = rng.integers(-1, 37, (50, 9))
    expected = [[known.get((i, int(c)), NOT_ASKED) for c in row] for i, row in enumerate(classes)]
    assert labels.state_of(classes).tolist() == expected
    monkeypatch.setattr(class_states, "_MOST_CELLS", 0)
    assert labels.state_of(classes).tolist() == expected


def test_sizes_count_what_each_state_means():
    labels = LabelSets(
        5,
        np.array([0, 3, 3, 4]),
        np.array([0, 2, 4, 1], np.int32),
        np.array([YES, UNCLEAR, NO, NO], np.uint8),
        np.array([0, NO_LABEL, 1], np.int32),
        np.array([True, True, False]),
        True,
    )
    assert labels.size.tolist() == [1, 0, 0]
    assert labels.accepted.tolist() == [2, 0, 0]
    assert labels.scored.tolist() == [True, False, False]


@pytest.mark.parametrize("voted", [False, True])
def test_a_label_set_is_known_to_be_empty_if_every_class_has_an_answer(voted):
    """Against a loop over the states of all cells; cells without votes have no answer."""
    rng, n, c = np.random.default_rng(0), 400, 3
    states = rng.choice([NOT_ASKED, NO, UNCLEAR, YES], (n, c), p=[0.1, 0.7, 0.1, 0.1])
    usable, votes = rng.random(n) < 0.9, rng.integers(0, 9, (n, c))
    rows, classes = np.nonzero(states)
    labels = LabelSets(
        c,
        np.searchsorted(rows, np.arange(n + 1)),
        classes.astype(np.int32),
        states[rows, classes].astype(np.uint8),
        np.full(n, NO_LABEL, np.int32),
        usable,
        True,
        n_votes=votes[rows, classes].astype(np.float32) if voted else None,
    )
    expected = [
        bool(usable[i])
        and all(states[i, j] in (NO, UNCLEAR) and (votes[i, j] > 0 or not voted) for j in range(c))
        for i in range(n)
    ]
    assert labels.empty.tolist() == expected
    assert 0 < sum(expected) < (labels.usable & (labels.size == 0)).sum()
    whole = replace(labels, complete=True)
    assert whole.empty.tolist() == [u and YES not in row for u, row in zip(usable, states, strict=True)]
    # Raters who choose one class per image find one in each, and lists do not say what was asked.
    assert not replace(labels, exclusive=True).empty.any()
    assert not LabelSets.from_lists([[0], []], c).empty.any()


def test_take_keeps_everything_of_an_image():
    labels = random_case(np.random.default_rng(1)).labels
    rows = np.array([5, 5, 79, 0])
    taken = labels.take(rows)
    everything = np.tile(np.arange(labels.n_classes), (len(labels), 1))
    assert taken.state_of(everything[:4]).tolist() == labels.state_of(everything)[rows].tolist()
    assert taken.label.tolist() == labels.label[rows].tolist()
    assert taken.usable.tolist() == labels.usable[rows].tolist()


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(InputError) as error:
        LabelSets.from_lists([[0, 3], [5]], 5)
    assert str(error.value) == (
        "A label set contains a class that does not exist.\n  got:     5\n  allowed: 0 to 4"
    )

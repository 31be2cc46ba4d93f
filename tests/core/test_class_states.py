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

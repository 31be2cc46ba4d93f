"""Which probabilities of unclear classes a method can have."""

import pyarrow as pa
import pytest

import manyhot as mh
from manyhot.errors import InputError

N_YES = {0: 2, 1: 5, 2: 0, 3: 3}
"""How many of five raters answered yes about each class."""


def votes(n_raters=5):
    rows = [(c, r, "yes" if r < n else "no") for c, n in N_YES.items() for r in range(n_raters)]
    columns = dict(zip(("class_id", "rater_id", "answer"), map(list, zip(*rows, strict=True)), strict=True))
    columns["rater_id"] = [f"r{r}" for r in columns["rater_id"]]
    return {"image_id": ["a.jpg"] * len(rows), **columns}


def states(n_raters=5, **options):
    done = mh.aggregate(pa.table(votes(n_raters)), **options)
    (row,) = done.labels.table.to_pylist()
    return dict(zip(row["classes"], row["state"], strict=True))


def test_a_majority_has_no_probabilities_in_between():
    with pytest.raises(InputError) as raised:
        states(method="majority(maybe='half')", unclear_from=0.35)
    assert str(raised.value) == (
        "With a majority, the probability of a class is 0, 0.5 or 1, so no class would be unclear.\n"
        "  where:   `unclear_from`\n  got:     0.35, with a threshold of 0.5\n"
        "  allowed: up to 0.5, with a threshold above 0.5: ties are then unclear\n"
        "  do:      set `method` to yes-share(maybe='half'): the probability is then the share of yes, and "
        "the same classes are valid at a threshold of 0.5"
    )


def test_the_method_that_the_message_names_has_the_same_valid_classes():
    majority = states(method="majority")
    assert majority == {c: "yes" if n > 2.5 else "no" for c, n in N_YES.items()}
    share = states(method="yes-share", unclear_from=0.35)
    assert share == {c: "yes" if n > 2.5 else "unclear" if n / 5 >= 0.35 else "no" for c, n in N_YES.items()}


@pytest.mark.parametrize("unclear_from", [0.35, 0.5])
def test_ties_can_be_unclear(unclear_from):
    found = states(4, method="majority", threshold=0.501, unclear_from=unclear_from)
    assert found == {0: "unclear", 1: "yes", 2: "no", 3: "yes"}


def test_levels_that_do_not_ask_for_unclear_classes():
    assert states(method="majority", unclear_from=0.5) == states(method="majority")

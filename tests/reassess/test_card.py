"""Data cards: a small one worked out by hand, and what the hub makes of the front matter."""

import importlib.util
import math
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.evaluate.describe import Description, describe_tables
from manyhot.reassess.card import MOST_RATERS, card_text
from manyhot.tables import Labels, schema, votes_from_table

CLASSES = from_keys("abcde")
START = datetime(2026, 3, 9, 22, 16, 8, tzinfo=UTC)


def labels(**columns):
    table = {
        "image_id": ["0.jpg", "1.jpg", "2.jpg", "3.jpg"],
        "label": pa.array([0, 2, 3, None], pa.int32()),
        "rated": [True, True, True, False],
        "usable": [True, True, True, False],
        "classes": [[0, 1], [1, 2], [3], [4]],
        "state": [["yes", "yes"], ["yes", "unclear"], ["no"], ["yes"]],
        "method": ["golden-bayes"] * 4,
    }
    return Labels(pa.table(table | columns), 5, CLASSES.hash, asked_known=True, name="mine")


def to_votes(columns):
    return votes_from_table(pa.table(columns), name="votes", n_classes=5)


@pytest.fixture
def votes():
    """Three raters: the first two on all five pairs, the third on two."""
    pairs = [("0.jpg", 0), ("0.jpg", 1), ("1.jpg", 1), ("1.jpg", 2), ("2.jpg", 3)]
    rows = [(*p, r) for r in ("ann|e", "bob") for p in pairs] + [(*p, "cy") for p in pairs[:2]]
    image, c, rater = zip(*rows, strict=True)
    times = [START + timedelta(hours=i) for i in range(11)] + [None]
    return to_votes(
        {
            "image_id": image,
            "class_id": pa.array(c, pa.int32()),
            "rater_id": rater,
            "answer": ["yes"] * 12,
            "answered_at": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


AGREEMENT = pa.Table.from_pylist(
    [
        {"measure": "fleiss_kappa", "value": 0.412012, "lo": 0.41, "hi": 0.41406, "n": 5, "n_skipped": 0},
        {"measure": "golden_accuracy", "value": math.nan, "lo": None, "hi": None, "n": 0, "n_skipped": 5},
    ],
    schema("agreement"),
)

CARD = """\
---
pretty_name: "mine"
license: "cc-by-4.0"
task_categories:
- image-classification
task_ids:
- multi-label-image-classification
size_categories:
- "n<1K"
tags:
- multi-label
---

# mine: label sets

The label sets contain all classes in each image, not only one. There are 3 labels on 2 of 4 images.

## Who

3 raters gave 12 answers: 2 to 5, median 5 each.

| rater | answers |
| --- | --- |
| 1 | 5 |
| 2 | 5 |
| 3 | 2 |

Raters are identified by numbers instead of names; those with the most answers come first.

## When

First answer 2026-03-09 22:16 UTC, last answer 2026-03-10 08:16 UTC. The times of 1 answers are not recorded.

## Protocol

| what | how |
| --- | --- |
| proposer | top-k(k=20) |
| questions per image | 1 to 2, median 2 |
| answers per question | 2 to 3, median 2 |
| method | golden-bayes |
| threshold | 0.8 |

## Agreement

| measure | value | 95 % interval | n |
| --- | --- | --- | --- |
| fleiss\\_kappa | 0.4120 | 0.4100 to 0.4141 | 5 |
| golden\\_accuracy | undefined | none | 0 |

## Counts

| what | n |
| --- | --- |
| images | 4 |
| not usable, left out | 1 |
| seen by raters | 3 |
| (image, class) pairs asked about | 5 |
| pairs asked about that are valid | 3 |
| pairs asked about that are unclear | 1 |
| labels in total | 3 |
| images without a valid class | 0 |
| images with no class found valid, but without answers about all classes | 1 |
| images with two or more valid classes | 1 |
| images with an original label | 3 |
| images with an original label that is not in the label set | 2 |

| labels per image | images | share |
| --- | --- | --- |
| 0 | 1 | 33.33% |
| 1 | 1 | 33.33% |
| 2 | 1 | 33.33% |

## Licence and citation

| what |  |
| --- | --- |
| licence of the labels | cc-by-4.0 |
| citation | not stated |
| home | not stated |
"""


def test_a_card_by_hand(votes):
    made = card_text(
        describe_tables(labels(), classes=CLASSES),
        votes=votes,
        agreement=AGREEMENT,
        protocol={"proposer": "top-k(k=20)", "threshold": "0.8"},
        licence="cc-by-4.0",
    )
    assert made == CARD


def test_a_card_of_labels_alone():
    table = labels(rated=pa.nulls(4, pa.bool_()), method=pa.nulls(4, pa.string()))
    made = card_text(describe_tables(table, classes=CLASSES))
    said = ["Raters: not recorded.", "Times of answers: not recorded.", "Not measured."]
    assert all(f"\n\n{line}\n" in made for line in said)
    assert "| proposer | not recorded |\n" in made
    assert "| method | not recorded |\n" in made
    assert "| seen by raters | not recorded |\n" in made
    assert "| licence of the labels | not stated |\n" in made
    assert "license" not in made


def test_a_card_of_lists_does_not_say_that_they_are_complete():
    table = pa.table({"image_id": ["a"], "usable": [True], "classes": [[0, 1]], "state": [["yes", "yes"]]})
    text = card_text(describe_tables(Labels(table, 5, CLASSES.hash, name="mine")))
    assert "The label sets list classes of each image. Whether it also shows others is not recorded." in text
    assert "all classes in each image" not in text


def test_raters_are_named_on_request_alone(votes):
    described = describe_tables(labels(), classes=CLASSES)
    assert "bob" not in card_text(described, votes=votes)
    named = card_text(described, votes=votes, named=True)
    assert "| ann\\|e | 5 |\n| bob | 5 |\n| cy | 2 |\n\n## When" in named


def test_many_raters():
    n = MOST_RATERS + 2
    columns = {"image_id": ["a"] * n, "class_id": pa.array([0] * n, pa.int32()), "answer": ["no"] * n}
    many = to_votes(columns | {"rater_id": [f"r{i:03}" for i in range(n)]})
    made = card_text(describe_tables(labels(), classes=CLASSES), votes=many)
    assert f"{n} raters gave {n} answers: 1 each.\n" in made
    assert f"\n| {MOST_RATERS} | 1 |\n\nAnd 2 more, with fewer answers.\n" in made
    assert "Times of answers: not recorded." in made


def test_no_votes_at_all():
    columns = {
        name: pa.array([], schema("votes").field(name).type)
        for name in ("image_id", "class_id", "rater_id", "answer")
    }
    empty = card_text(describe_tables(labels(), classes=CLASSES), votes=to_votes(columns))
    assert "Raters: not recorded." in empty
    assert "Times of answers: not recorded." in empty


@pytest.mark.parametrize(
    ("n", "name"),
    [
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (50_000, "10K<n<100K"),
        (1_281_167, "1M<n<10M"),
        (10_000_000, "n>10M"),
    ],
)
def test_sizes_as_the_hub_sorts_them(n, name):
    described = describe_tables(labels(), classes=CLASSES)
    at = described.datasets.column_names.index("images")
    sized = described.datasets.set_column(at, "images", pa.array([n]))
    tables = {**described.tables, "datasets": sized}
    assert f'\n- "{name}"\n' in card_text(Description(**tables))


def test_markup_in_names_stays_text():
    hostile = 'a "b": |c\n---\nlicense: mit <img src=x> [x](y)'
    made = card_text(describe_tables(labels(), classes=CLASSES, dataset=hostile))
    heading = next(line for line in made.splitlines() if line.startswith("# "))
    assert heading == '# a "b": \\|c --- license: mit \\<img src=x\\> \\[x\\](y): label sets'
    assert made.split("---\n")[1].startswith('pretty_name: "a \\"b\\": |c\\n')


def test_the_hub_reads_the_front_matter(require, votes):
    require(importlib.util.find_spec("huggingface_hub"), "huggingface_hub, which the extra hub installs")
    from huggingface_hub import DatasetCard

    name = 'a "b": |c\nlicense: mit'
    made = card_text(
        describe_tables(labels(), classes=CLASSES, dataset=name), votes=votes, licence="cc-by-4.0"
    )
    data = DatasetCard(made).data.to_dict()
    assert data == {
        "pretty_name": name,
        "license": "cc-by-4.0",
        "task_categories": ["image-classification"],
        "task_ids": ["multi-label-image-classification"],
        "size_categories": ["n<1K"],
        "tags": ["multi-label"],
    }


HOSTILE = (
    "\U0001f600 photos \U0001f468\u200d\U0001f33e",
    "a\n---\nlicense: mit\n---\n# b",
    "a\u2028b\x85c\ufeffd\x00e\x7ff",
    "!!python/object/apply:os.system [ls]",
    "&anchor *anchor {a: b} # c",
    "\\\"'`%@",
    "\u202egnp.exe \x1b[2J",
    "<script>alert(1)</script><!-- &lt;b&gt; <http://a.example>",
    "[x](javascript:alert(1)) ![y](http://a.example/z.png) [z]: /w",
    "**a** __b__ ~~c~~ `d` $e$ *f* _g_ ``h | i``",
    "a | b \\| c || d\r\n| e | f |",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_front_matter_is_yaml_that_says_what_was_given(require, hostile):
    require(importlib.util.find_spec("yaml"), "PyYAML, which `make docs` installs")
    import yaml

    made = card_text(describe_tables(labels(), classes=CLASSES, dataset=hostile), licence=hostile)
    opening, front, _ = made.split("---\n", 2)
    assert opening == ""
    assert yaml.safe_load(front) == {
        "pretty_name": hostile,
        "license": hostile,
        "task_categories": ["image-classification"],
        "task_ids": ["multi-label-image-classification"],
        "size_categories": ["n<1K"],
        "tags": ["multi-label"],
    }


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_text_in_markdown(hostile):
    """By a reader of Markdown: the same blocks as with harmless names, and texts alone in them."""
    found = [markdown(name) for name in (hostile, "harmless")]
    kinds = [[token.type for token in tokens] for tokens in found]
    assert kinds[0] == kinds[1]
    inner = [child for token in found[0] for child in token.children or ()]
    assert {child.type for child in inner} <= {"text", "text_special"}
    shown = [token.content for token in found[0] if token.type == "inline"]
    assert all(line.isprintable() for line in shown)


def markdown(name):
    """Return what a reader of Markdown makes of a card in which everything is called like this."""
    row = {"image_id": ["0.jpg"], "class_id": pa.array([0], pa.int32()), "answer": ["yes"]}
    card = card_text(
        describe_tables(labels(method=[name] * 4), classes=CLASSES, dataset=name),
        votes=to_votes(row | {"rater_id": [name]}),
        agreement=AGREEMENT,
        protocol={"proposer": name, "threshold": name},
        licence=name,
        named=True,
    )
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return reader.parse(card.split("---\n", 2)[2])


def test_names_of_files_in_other_encodings():
    made = card_text(describe_tables(labels(), classes=CLASSES), licence="a\udcffb")
    assert '\nlicense: "a?b"\n' in made
    assert "\n| licence of the labels | a?b |\n" in made


@pytest.mark.parametrize(
    ("microseconds", "said"),
    [
        (2**62, "148108-07-06 14:00 UTC"),
        (253_402_300_800_000_000, "10000-01-01 00:00 UTC"),
        (-1, "1969-12-31 23:59 UTC"),
    ],
)
def test_times_that_python_has_no_dates_for(microseconds, said):
    times = pa.array([microseconds], pa.timestamp("us", "UTC"))
    row = {"image_id": ["0.jpg"], "class_id": pa.array([0], pa.int32()), "answer": ["yes"], "rater_id": ["x"]}
    made = card_text(describe_tables(labels(), classes=CLASSES), votes=to_votes(row | {"answered_at": times}))
    assert f"\nFirst answer {said}, last answer {said}.\n" in made


def test_several_data_sets_have_several_cards():
    described = [describe_tables(labels(), classes=CLASSES, dataset=name) for name in ("a", "b")]
    with pytest.raises(InputError) as error:
        card_text(Description.concat(described))
    assert (
        str(error.value)
        == "A data card describes one data set.\n  got:     a, b\n  do:      make one card for each data set"
    )


def test_another_table_for_the_agreement():
    with pytest.raises(InputError) as error:
        card_text(describe_tables(labels(), classes=CLASSES), agreement=pa.table({"image_id": ["a"]}))
    assert str(error.value).startswith("The agreement table lacks the column 'measure'.\n")

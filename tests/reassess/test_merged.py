"""Label sets merged from sources: the rule by a plain loop, what a file says about sources, and bad input."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot import tables
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.answers import VotesReading
from manyhot.run import Run
from manyhot.tables import Labels

N_CLASSES = 6
CLASSES = from_keys(list("abcdef"), "six")


def label_set(name, rows, *, n_classes=N_CLASSES, **columns):
    """Return label sets from rows of an image and its states by class."""
    table = {
        "image_id": [image for image, _ in rows],
        "usable": [True] * len(rows),
        "classes": [sorted(states) for _, states in rows],
        "state": [[states[c] for c in sorted(states)] for _, states in rows],
        **columns,
    }
    return Labels(pa.table(table, _schema(table)), n_classes, asked_known=True, name=name)


def _schema(columns):
    known = {field.name: field for field in tables.schema("labels")}
    return pa.schema([known[name] for name in columns])


def draw(seed, n=120):
    """Return three random sources that cover different images; the second leaves some of them out."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, N_CLASSES, n)
    sources = []
    for number, name in enumerate(("first", "second", "third")):
        images = np.sort(rng.choice(n, n - 30, replace=False))
        rows = []
        for image in images:
            asked = rng.choice(N_CLASSES, rng.integers(1, 5), replace=False)
            rows.append((f"{image:03d}.jpg", {int(c): str(rng.choice(tables.STATES)) for c in asked}))
        usable = rng.random(len(images)) < (0.8 if number == 1 else 1)
        rated = rng.random(len(images)) < (0.7 if number == 0 else 1)
        columns = {"usable": usable.tolist(), "rated": rated.tolist()}
        if number != 2:
            columns["label"] = label[images].tolist()
        sources.append(label_set(name, rows, **columns))
    return sources


POINTS = {"yes": 1, "unclear": 0.5, "no": 0}


def answers_by_loop(sources):
    """Return what each source says, by image and class."""
    said = {}
    for source in sources:
        for row in source.table.to_pylist():
            for class_id, state in zip(row["classes"], row["state"], strict=True):
                if row["usable"] and row["rated"] is not False:
                    said.setdefault((row["image_id"], class_id), {})[source.name] = state
    return said


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_is_that_of_a_plain_loop(seed):
    sources = draw(seed)
    said = answers_by_loop(sources)
    merged = aggregate(sources=sources)
    rows = {(r["image_id"], r["class_id"]): r for r in merged.source_answers.to_pylist()}
    assert rows.keys() == said.keys()
    by_image = {}
    for (image, class_id), answers in said.items():
        by_image.setdefault(image, set()).update(answers)
        row = rows[image, class_id]
        p = sum(POINTS[a] for a in answers.values()) / len(answers)
        assert row["p"] == pytest.approx(p)
        assert row["state"] == ("yes" if p > 0.5 else "no" if p < 0.5 else "unclear")
        assert row["conflict"] == ({"yes", "no"} <= set(answers.values()))
        for state in POINTS:
            assert row[state] == [s.name for s in sources if answers.get(s.name) == state]
    for (image, class_id), answers in said.items():
        not_asked = [s.name for s in sources if s.name in by_image[image] and s.name not in answers]
        assert rows[image, class_id]["not_asked"] == not_asked


@pytest.mark.parametrize("seed", range(3))
def test_label_sets_are_the_rows_of_the_answers(seed):
    sources = draw(seed)
    said, merged = answers_by_loop(sources), aggregate(sources=sources)
    rows = {(r["image_id"], r["class_id"]): r for r in merged.source_answers.to_pylist()}
    originals = {
        r["image_id"]: r["label"] for s in sources[:2] for r in s.table.to_pylist() if r["label"] is not None
    }
    listed = merged.labels.table.to_pylist()
    assert [r["image_id"] for r in listed] == sorted({i for s in sources for i in s.image_id.to_pylist()})
    for row in listed:
        image, label = row["image_id"], originals.get(row["image_id"])
        asked = {c for i, c in said if i == image}
        kept = {label} - asked - {None}  # an original label that no source was asked about
        assert row["label"] == label
        assert set(row["classes"]) == asked | kept
        assert row["rated"] == bool(asked)
        found = zip(row["classes"], row["state"], row["p"], row["n_votes"], strict=True)
        for class_id, state, p, n_votes in found:
            if class_id in kept:
                assert (state, p, n_votes) == ("yes", 1, 0)
                continue
            assert (state, n_votes) == (rows[image, class_id]["state"], len(said[image, class_id]))
            assert p == pytest.approx(rows[image, class_id]["p"])
        assert row["sources"] == sorted({name for c in asked for name in said[image, c]})
        assert row["conflicts"] == sorted(c for c in asked if rows[image, c]["conflict"])
        usable_in = [r["usable"] for s in sources for r in s.table.to_pylist() if r["image_id"] == image]
        assert row["usable"] == (any(usable_in) and (bool(asked) or label is not None))


def test_counts_of_sources_are_those_of_a_loop():
    sources = draw(5)
    said, merged = answers_by_loop(sources), aggregate(sources=sources)
    for source, row in zip(sources, merged.sources.to_pylist(), strict=True):
        own = {pair: answers for pair, answers in said.items() if source.name in answers}
        images = {image for image, _ in own}
        others = {image for (image, _), answers in said.items() if set(answers) - {source.name}}
        assert row["source"] == source.name
        assert row["images"] == len(source)
        assert row["unusable"] == source.table["usable"].to_pylist().count(False)
        assert (row["rated"], row["alone"]) == (len(images), len(images - others))
        assert row["classes"] == len({class_id for _, class_id in own})
        assert row["questions"] == len(own)
        for state in POINTS:
            assert row[state] == sum(answers[source.name] == state for answers in own.values())
        assert row["shared"] == sum(len(answers) > 1 for answers in own.values())
        conflicts = [{"yes", "no"} <= set(a.values()) and a[source.name] != "unclear" for a in own.values()]
        assert row["conflicts"] == sum(conflicts)
        assert (row["asked"], row["licence"], row["citation"]) == (None, None, None)


def small():
    """Return two sources: they agree on a, tie on b, and only one was asked about c."""
    first = label_set("first", [("a.jpg", {0: "yes"}), ("b.jpg", {1: "yes"})], label=[0, 2])
    second = label_set("second", [("a.jpg", {0: "yes", 3: "no"}), ("b.jpg", {1: "no"})], label=[0, 2])
    return first, second


def test_a_tie_is_unclear_and_a_conflict():
    merged = aggregate(sources=small())
    rows = merged.labels.table.to_pylist()
    assert [r["classes"] for r in rows] == [[0, 3], [1, 2]]
    assert [r["state"] for r in rows] == [["yes", "no"], ["unclear", "yes"]]
    assert [r["p"] for r in rows] == [[1, 0], [0.5, 1]]
    assert [r["n_votes"] for r in rows] == [[2, 1], [2, 0]]
    assert [r["conflicts"] for r in rows] == [[], [1]]
    assert merged.labels.table["method"].to_pylist() == ["source-share"] * 2
    assert merged.notes == (
        "first answers yes and never no: unlisted classes count as not asked",
        "original labels that no source was asked about stay in the label sets, with n_votes 0: 1",
    )


def test_another_rule_can_be_chosen():
    merged = aggregate(sources=small(), method="majority", threshold=0.5)
    assert merged.labels.table["state"].to_pylist() == [["yes", "no"], ["yes", "yes"]]
    assert merged.version != aggregate(sources=small()).version


def test_the_version_depends_on_answers_and_rule_alone(tmp_path):
    first, second = small()
    version = aggregate(sources=[first, second]).version
    assert len(version) == 12
    assert aggregate(sources=[second, first]).version == version
    mh.write_labels(second, tmp_path / "other.parquet")
    assert aggregate(sources=[first, tmp_path / "other.parquet"]).version == version
    changed = label_set("second", [("a.jpg", {0: "no", 3: "no"}), ("b.jpg", {1: "no"})], label=[0, 2])
    assert aggregate(sources=[first, changed]).version != version


def test_files_and_what_they_say(tmp_path):
    merged = aggregate(sources=draw(2))
    written = merged.write(tmp_path / "set.parquet", run=Run("manyhot aggregate …"))
    names = ["set.parquet", "set-answers.parquet", "set-sources.csv", "set-held-out.csv"]
    assert [path.name for path in written] == names
    table = tables.read(written[0], "labels")
    about = tables.metadata(table)
    assert about["set_version"] == merged.version
    assert json.loads(about["sources"]) == merged.sources.to_pylist()
    assert json.loads(about["held_out"]) == merged.held_out.to_pylist()
    assert (about["method"], about["threshold"], about["unclear_from"]) == ("source-share", "0.501", "0.5")
    assert mh.read_labels(written[0]).table.equals(merged.labels.table)
    assert tables.read(written[1], "source_answers").equals(merged.source_answers)
    assert tables.metadata(tables.read(written[1], "source_answers"))["set_version"] == merged.version
    assert pl.read_csv(written[2]).height == 3
    assert pl.read_csv(written[3]).height == merged.held_out.num_rows == 3 * 3 * 4
    assert merged.to_json()["version"] == merged.version
    assert merged.to_json()["conflicts"] == sum(merged.source_answers["conflict"].to_pylist())


def test_a_merged_set_is_evaluated_and_merged_again(tmp_path):
    sources = draw(3)
    merged = aggregate(sources=sources)
    (path, *_) = merged.write(tmp_path)
    ids = merged.labels.image_id.to_pylist()
    scores = np.random.default_rng(0).random((len(ids), N_CLASSES))
    results = mh.evaluate(path, {"net": scores}, rows=ids, metrics=["real1"], resamples=0)
    states = merged.labels.table.select(["classes", "state", "usable"]).to_pylist()
    hits = [
        r["state"][r["classes"].index(best)] == "yes" if best in r["classes"] else False
        for r, best in zip(states, scores.argmax(1).tolist(), strict=True)
        if r["usable"] and "yes" in r["state"]
    ]
    assert results.value("real1") == pytest.approx(np.mean(hits))
    assert aggregate(sources=[path, sources[0]]).sources["source"].to_pylist() == ["labels", "first"]


def test_joined_sources_answer_once(tmp_path):
    first, second = small()
    third = label_set("third", [("b.jpg", {1: "yes", 4: "no"})])
    for source in (first, second, third):
        mh.write_labels(source, tmp_path / f"{source.name}.parquet")
    together = f"{tmp_path / 'second.parquet'}+{tmp_path / 'third.parquet'}"
    merged = aggregate(sources=[tmp_path / "first.parquet", together])
    assert merged.sources["source"].to_pylist() == ["first", "second+third"]
    rows = {(r["image_id"], r["class_id"]): r for r in merged.source_answers.to_pylist()}
    assert rows["b.jpg", 1]["no"] == ["second+third"]  # the first that answers counts
    assert rows["b.jpg", 4]["no"] == ["second+third"]


def test_ids_that_are_written_differently_are_matched():
    first, second = small()
    table = second.table
    ids = pa.array([f"val/{i}" for i in second.image_id.to_pylist()])
    moved = Labels(table.set_column(0, "image_id", ids), N_CLASSES, asked_known=True, name="second")
    merged = aggregate(sources=[first, moved])
    assert merged.labels.table.equals(aggregate(sources=[first, second]).labels.table)
    assert merged.notes[0].startswith("second: ")


def test_images_without_answers_come_from_an_images_table():
    images = mh.Images(
        pa.table({"image_id": ["b.jpg", "a.jpg", "c.jpg"], "label": pa.array([2, 0, 5], pa.int32())})
    )
    merged = aggregate(sources=small(), images=images)
    assert merged.labels.table["classes"].to_pylist() == [[1, 2], [0, 3], [5]]
    assert merged.labels.table["rated"].to_pylist() == [True, True, False]
    version = aggregate(sources=small()).version
    assert merged.version != version
    assert aggregate(sources=small(), images=mh.Images(images.table[:2])).version == version


def test_yeses_alone_are_answers_of_choices_of_one_class():
    first, second = small()
    chosen = Labels(first.table, N_CLASSES, exclusive=True, name="chosen")
    more = label_set("more", [("a.jpg", {0: "no", 1: "yes"}), ("b.jpg", {0: "no", 2: "yes"})])
    exclusive = Labels(more.table, N_CLASSES, exclusive=True, name="more")
    assert aggregate(sources=[chosen, exclusive]).sources["no"].to_pylist() == [0, 0]
    assert aggregate(sources=[second, more]).sources["no"].to_pylist() == [2, 2]


def test_zeros_of_an_array_are_noes():
    first, _ = small()
    array = mh.as_labels(np.eye(N_CLASSES, dtype=int)[:2])
    named = array.table.set_column(array.table.column_names.index("image_id"), "image_id", first.image_id)
    merged = aggregate(sources=[first, replace(array, table=named)])
    assert merged.sources["no"].to_pylist() == [0, 2 * (N_CLASSES - 1)]


def test_sources_that_always_agree_are_named():
    rows = [(f"{i}.jpg", {0: "yes" if i % 2 else "no", 1: "no"}) for i in range(10)]
    copy = [*rows, ("more.jpg", {0: "yes"})]
    merged = aggregate(sources=[label_set("first", rows), label_set("copy", copy)])
    assert merged.notes[-1] == (
        "first and copy agree on all 20 pairs that both answer: if they are not independent, join them with "
        "+, so that they count as one source"
    )


# Bad input.


def complaint(error, sources, **options):
    with pytest.raises(error) as raised:
        aggregate(sources=sources, **options)
    return str(raised.value)


def test_one_source_is_no_merge():
    first, _ = small()
    assert complaint(InputError, [first]) == (
        "A merge requires at least two sources.\n"
        "  where:   `sources`\n"
        "  got:     one\n"
        "  allowed: label sets in any format, campaigns, benchmarks, imagenet-real, imagenet-multilabel, "
        "tsipras, imagenet-mistakes\n"
        "  do:      pass another source, too; to correct label sets with answers: manyhot aggregate CAMPAIGN "
        "--labels FILE"
    )


def test_the_same_source_twice():
    first, _ = small()
    again = Labels(first.table.select(first.table.column_names[::-1]), N_CLASSES, name="again")
    assert complaint(InputError, [first, again]) == (
        "The same source is passed twice.\n"
        "  where:   `sources`\n"
        "  got:     first and again, with the same 2 answers\n"
        "  do:      pass one of them"
    )


def test_label_sets_of_other_images():
    first, second = small()
    other = label_set("other", [("x.jpg", {0: "yes"}), ("y.jpg", {1: "no"})])
    assert complaint(MatchError, [first, second, other]) == (
        "A source has no images in common with the other sources.\n"
        "  where:   other\n"
        "  got:     2 images, such as x.jpg, y.jpg\n"
        "  allowed: ids such as a.jpg, b.jpg\n"
        "  do:      pass label sets of the same images"
    )


def test_images_that_are_not_in_the_images_table():
    images = mh.Images(pa.table({"image_id": ["a.jpg", "c.jpg"]}))
    assert complaint(MatchError, small(), images=images) == (
        "Some votes are about images that are not in the images table.\n"
        "  where:   merged\n"
        "  got:     1 of 2, such as b.jpg\n"
        "  allowed: ids such as a.jpg, c.jpg\n"
        "  do:      pass the images of the votes, or remove these votes"
    )


def test_sources_that_disagree_on_the_original_label():
    first, _ = small()
    second = label_set("second", [("a.jpg", {0: "no"}), ("b.jpg", {1: "no"})], label=[0, 4])
    assert complaint(InputError, [first, second]) == (
        "Two sources have different original labels of the same images.\n"
        "  where:   first and second\n"
        "  got:     1 of 2 images differ, such as b.jpg: 2 and 4\n"
        "  do:      check that both have the same class list and data set"
    )


def test_another_class_list():
    first, _ = small()
    other = label_set("other", [("a.jpg", {0: "yes"})], n_classes=5)
    assert complaint(MatchError, [first, other]) == (
        "Two sources have different class lists.\n"
        "  where:   other\n"
        "  got:     5 classes, class list unknown\n"
        "  allowed: 6 classes, class list unknown, as in first\n"
        "  do:      pass sources with the same classes, or the class list of all of them as `classes`"
    )


def test_sources_with_the_same_classes_in_another_order_are_joined_by_name():
    rows = [("a.jpg", {0: "yes", 1: "no"}), ("b.jpg", {4: "yes", 5: "no"})]
    reverse = from_keys(CLASSES.keys[::-1], "reverse")
    first = replace(label_set("first", rows), class_hash=CLASSES.hash, class_list=CLASSES)
    turned = [(image, {5 - c: state for c, state in states.items()}) for image, states in rows]
    turned.append(("c.jpg", {5: "yes"}))
    second = replace(label_set("second", turned), class_hash=reverse.hash, class_list=reverse)
    merged = aggregate(sources=[first, second])
    assert merged.to_json()["conflicts"] == 0
    assert merged.labels.class_list.keys == CLASSES.keys
    table = merged.labels.table.to_pylist()
    assert {r["image_id"]: dict(zip(r["classes"], r["state"], strict=True)) for r in table} == {
        **dict(rows),
        "c.jpg": {0: "yes"},
    }
    assert [line for line in merged.lines() if line.startswith("kappa")] == [
        "kappa: Cohen's, over the answers yes and no; pairs that a source calls unclear are left out"
    ]


@pytest.mark.parametrize("column", [{"rated": [False, False]}, {"usable": [False, False]}])
def test_a_source_without_answers(column):
    first, _ = small()
    nothing = label_set("nothing", [("a.jpg", {0: "yes"}), ("b.jpg", {1: "no"})], **column)
    assert complaint(InputError, [first, nothing]) == (
        "A source has no answers.\n"
        "  where:   nothing\n"
        "  got:     2 images, and raters were not asked about any class in them\n"
        "  allowed: label sets of usable images that raters saw\n"
        "  do:      leave the source out"
    )


def test_empty_label_sets_alone_are_no_source():
    first, _ = small()
    nothing = label_set("nothing", [("a.jpg", {}), ("b.jpg", {})])
    assert complaint(InputError, [first, nothing]).startswith("A source has no answers.\n")


def test_a_source_without_pairs_in_common_is_named():
    first, _ = small()
    other = label_set("other", [("a.jpg", {5: "yes"}), ("b.jpg", {5: "no"})])
    notes = aggregate(sources=[first, other]).notes
    lonely = "shares no (image, class) pair with another source, so its answers are unconfirmed"
    assert {f"first {lonely}", f"other {lonely}"} <= set(notes)


def test_votes_and_sources_together_or_neither():
    votes = pa.table({"image_id": ["a.jpg"], "class_id": [0], "rater_id": ["x"], "answer": ["yes"]})
    assert complaint(UsageError, small(), votes=votes, format="crowd-kit") == (
        "Label sets and votes cannot be merged.\n"
        "  got:     `votes` and `format`\n"
        "  do:      pass `sources` only, or votes only"
    )
    assert complaint(UsageError, ()) == (
        "There is nothing to aggregate.\n  do:      pass votes, or label sets as `sources`"
    )


def test_a_benchmark_of_two_data_sets_is_no_source(tmp_path, monkeypatch, mirror):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    first, _ = small()
    assert complaint(InputError, [first, "imagenet"]) == (
        "A source must be a single data set.\n"
        "  where:   imagenet\n"
        "  got:     imagenet-val, imagenetv2-matched-frequency\n"
        "  do:      pass one of them"
    )


def test_what_a_terminal_says_about_conflicts():
    """Between two sources, each conflict is a tie; of three, two outvote one."""
    yes, no = (label_set(name, [("1.jpg", {0: name})]) for name in ("yes", "no"))
    again = label_set("again", [("1.jpg", {0: "no", 1: "no"})])
    what = "  1  pairs on which one source says yes and another no"
    assert f"{what}; all are ties, and unclear\n" in str(aggregate(sources=[yes, no]))
    assert f"{what}, 0 of them unclear\n" in str(aggregate(sources=[yes, no, again]))


# The card.


def test_the_card_names_the_sources_and_their_licences(tmp_path):
    (path, *_) = aggregate(sources=draw(4)).write(tmp_path)
    card = mh.data_card(path, dataset="mine").text
    assert "## Sources" in card
    assert "## Who" not in card
    assert "Raters and dates are those of the sources." in card
    assert "built locally from the sources" in card
    titles = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert titles == [
        *("Motivation and composition", "Sources", "Protocol", "Agreement", "Counts", "Uses"),
        *("Licence and citation", "Maintenance"),
    ]
    assert "| first | not recorded | not recorded |" in card
    assert "| method | source-share |" in card
    assert f"| version | {aggregate(sources=draw(4)).version} |" in card
    assert "| first | all others | kappa |" in card
    assert "without permission. No licence is stated for the merged labels.\n\n" in card
    assert "Licence of the merged labels: cc0-1.0." in mh.data_card(path, licence="cc0-1.0").text


def test_a_card_with_damaged_metadata_is_that_of_other_label_sets(tmp_path):
    first, _ = small()
    about = first.about() | {"sources": "[1,", "held_out": "[]"}
    tables.write(first.table, tmp_path / "labels.parquet", "labels", about=about)
    assert "## Who" in mh.data_card(tmp_path / "labels.parquet").text


def test_classes_outside_the_class_list_are_noted(tmp_path):
    for name, tags in {"one": "cat|old", "two": "cat|dog"}.items():
        (tmp_path / f"{name}.csv").write_text(f"image,tags\na,{tags}\nb,dog\n")
    sources, reading = [tmp_path / "one.csv", tmp_path / "two.csv"], VotesReading(classes=["cat", "dog"])
    assert aggregate(sources=sources, reading=reading).notes[0] == (
        "one: 1 class of the labels is not in the class list, and is left out: old; 0 of 2 images with valid "
        "classes keep none"
    )

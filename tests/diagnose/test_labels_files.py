"""Label issues of published models against a plain loop over the arrays, and of files of one's own."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import (
    cli,
    find_label_issues,
    init_campaign,
    read_findings,
    read_images,
    read_labels,
    read_predictions,
    tables,
)
from manyhot.data import catalog
from manyhot.data.inputs import Reading
from manyhot.diagnose.label_issues_table import LabelIssues
from manyhot.errors import InputError
from manyhot.run import Run
from manyhot.tables.array_inputs import as_labels


@pytest.fixture(autouse=True)
def from_the_mirror(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if "mirror" in request.fixturenames:
        monkeypatch.setenv("MANYHOT_MIRROR", str(request.getfixturevalue("mirror")))


def find(source, out="label-issues.parquet", *, predictions=(), images=None, call="", **options):
    """Find issues and write them, as the command does."""
    LabelIssues.check_out(out, [source, *predictions])
    found = find_label_issues(source, predictions, reading=Reading(images=images), **options)
    return found, found.write(out, run=Run(call))


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


@pytest.mark.slow
def test_published_models(mirror):
    names = ["resnet18", "resnet34", "resnet50"]
    found, written = find(
        "imagenet-val", "out.parquet", models=names, no_confirmed_labels=True, min_doubtful=0.6
    )
    assert written == [Path("out.parquet")]
    files = catalog.fetch("imagenet-val-predictions")
    rows = read_images(files["imagenet-validation-original.json"])
    best = [read_predictions(files[f"{name}.npy"], rows=rows).classes[:, 0].tolist() for name in names]
    ids, label = rows.image_id.to_pylist(), rows.label.to_pylist()
    doubtful, missing = {}, {}
    for i, image in enumerate(ids):
        votes = [b[i] for b in best]
        others = {c: votes.count(c) for c in votes if c != label[i]}
        score = 1 - votes.count(label[i]) / 3
        if score >= 0.6:
            doubtful[image] = score
        missing |= {(image, c): n / 3 for c, n in others.items()}
    listed = found.of_kind("doubtful-label").to_pydict()
    assert dict(zip(listed["image_id"], listed["score"], strict=True)) == pytest.approx(doubtful)
    listed = found.of_kind("missing-label").to_pydict()
    pairs = zip(listed["image_id"], listed["class_b"], strict=True)
    assert dict(zip(pairs, listed["score"], strict=True)) == pytest.approx(missing)
    assert (found.n, found.n_skipped, found.models) == (50_000, 0, tuple(names))
    # Where ReaL's raters were asked about a class, the score lies between their probability and the models'.
    settled, _ = find("imagenet-val", "votes.parquet", models=names)
    real = catalog.fetch("imagenet-real", only=["scores.npz", "real.json"])
    asked = {}
    for row in read_labels(real["scores.npz"]).table.to_pylist():
        if row["rated"]:  # what nobody looked at is no vote
            asked |= {(row["image_id"], c): p for c, p in zip(row["classes"], row["p"], strict=True)}
    said = settled.of_kind("missing-label").to_pydict()
    keys = list(zip(said["image_id"], said["class_b"], strict=True))
    assert said["people"] == pytest.approx([asked.get(key) for key in keys])
    assert sum(key in asked for key in keys) > 10_000
    sides = zip(said["score"], said["people"], said["models"], strict=True)
    assert all(min(p, m) - 1e-9 <= s <= max(p, m) + 1e-9 for s, p, m in sides if p is not None)
    doubted = settled.of_kind("doubtful-label").to_pydict()
    keys = zip(doubted["image_id"], doubted["class_a"], strict=True)
    gone = [asked.get(key) for key in keys]
    told = [(x, p) for x, p in zip(doubted["people"], gone, strict=True) if p is not None]
    assert len(told) > 5_000
    assert [x for x, _ in told] == pytest.approx([1 - p for _, p in told], abs=1e-6)


@pytest.fixture
def own():
    """Write the images, label sets and predictions of six images, and an images table beside predictions."""
    label = [0, 1, 2, 3, 1, 2]
    labels = as_labels([[0], [1], [2, 0], [3], [1], [2]], n_classes=4, label=label)
    tables.write_labels(labels, "labels.parquet")
    p = np.full((6, 4), 0.1, np.float32)
    p[np.arange(6), [0, 1, 2, 3, 0, 2]] = 0.7
    given = tables.Predictions(labels.image_id, "net", scores=p, score_kind="probability", n_classes=4)
    Path("run").mkdir()
    tables.write_predictions(given, "run/net.parquet")
    images = pa.table({"image_id": labels.image_id, "label": pa.array(label, pa.int32())})
    tables.write(images, "run/images.parquet", "images")
    return labels


def test_a_folder_of_predictions(own):
    found, (path,) = find("run", call="manyhot diagnose labels run")
    table = read_findings(path)
    assert table.equals(found.table)
    assert table["kind"].to_pylist() == ["doubtful-label", "missing-label"]
    assert table["image_id"].to_pylist() == ["4", "4"]
    about = tables.metadata(tables.read(path, "findings"))
    assert (about["models"], about["call"]) == ("net", "manyhot diagnose labels run")
    assert set(json.loads(about["inputs"])) == {"images.parquet", "net.parquet"}
    voted, _ = find("run", "voted.parquet", confirmed_labels="labels.parquet")
    # Nobody was asked whether class 0 is in image 4, so that the model still speaks for it.
    assert voted.of_kind("missing-label")["image_id"].to_pylist() == ["2", "4"]
    assert voted.of_kind("missing-label")["people"].to_pylist() == [1.0, None]
    assert voted.count("doubtful-label") == 0


def test_label_sets_with_predictions(own):
    found, _ = find("labels.parquet", predictions=["run/net.parquet"])
    assert found.of_kind("missing-label")["people"].to_pylist() == [1.0, None]
    alone, _ = find("labels.parquet", "b.parquet", predictions=["run/net.parquet"], no_confirmed_labels=True)
    assert alone.of_kind("doubtful-label")["image_id"].to_pylist() == ["4"]


def test_a_campaign_before_and_after_its_votes(own):
    Path("classes.txt").write_text("pug\nhusky\neskimo\ntabby")
    campaign = init_campaign(
        "pets", images="run/images.parquet", classes="classes.txt", predictions=["run/net.parquet"]
    ).campaign
    found, _ = find("pets")
    assert found.of_kind("doubtful-label")["image_id"].to_pylist() == ["4"]
    labels = tables.Labels(own.table.drop_columns(["label"]), 4, campaign.class_hash)
    tables.write_labels(labels, "pets/labels.parquet")
    found, (path,) = find("pets", "pets/findings.parquet")
    assert found.of_kind("missing-label")["image_id"].to_pylist() == ["2", "4"]
    inputs = set(json.loads(tables.metadata(tables.read(path, "findings"))["inputs"]))
    assert inputs == {"images.parquet", "labels.parquet", "net.parquet"}


def test_bad_input(own):
    def run(*words, **options):
        return message(InputError, lambda: find(*words, **options))

    assert run("nothing") == (
        "There is no such data set, campaign or file.\n"
        "  got:     nothing\n"
        "  allowed: imagenet, tsipras, imagenet-x, multilabel, errors, imagenet-val, "
        "imagenetv2-matched-frequency, imagenet-multilabel, imagenet-val-main; the folder of a campaign or "
        "of predictions; label sets or images in a file"
    )
    assert run("labels.parquet") == (
        "There are no predictions.\n  where:   labels.parquet\n  do:      pass them as `predictions`"
    )
    assert run("labels.parquet", "labels.parquet", predictions=["run"]) == (
        "The output would overwrite an input.\n"
        "  where:   labels.parquet\n"
        "  got:     labels.parquet\n"
        "  do:      choose another path for the output"
    )
    assert run("run", models=["resnet*"]) == (
        "No model has such a name.\n  got:     resnet*\n  allowed: net\n  do:      did you mean 'net'?"
    )
    assert run("run", index="folder") == (
        "Finding similar images requires embeddings.\n"
        "  got:     index folder alone\n"
        "  do:      pass embeddings of the images, too"
    )
    assert run("run", confirmed_labels="labels.parquet", no_confirmed_labels=True) == (
        "Confirmed labels cannot be both passed and ignored.\n"
        "  got:     labels.parquet\n"
        "  do:      leave one of them out"
    )
    tables.write_labels(tables.Labels(own.table.drop_columns(["label"]), 4, name="sets"), "sets.parquet")
    assert not Path("label-issues.parquet").exists()
    given = {"predictions": ["run"], "images": "run/images.parquet"}
    found, _ = find("sets.parquet", **given)
    assert found.of_kind("missing-label")["people"].to_pylist() == [1.0, None]


def test_label_sets_alone(own):
    tables.write_labels(tables.Labels(own.table.drop_columns(["label"]), 4, name="sets"), "sets.parquet")
    found, written = find("sets.parquet", "out", predictions=["run/net.parquet"])
    assert [p.name for p in written[:2]] == ["findings.parquet", "findings.csv"]
    listed = found.table.select(["kind", "image_id", "class_a", "class_b"]).to_pylist()
    assert [tuple(row.values()) for row in listed] == [
        ("doubtful-label", "2", 0, None),
        ("doubtful-label", "4", 1, None),
        ("missing-label", "4", None, 0),
    ]
    done = CliRunner().invoke(
        cli.app, ["diagnose", "labels", "sets.parquet", "--predictions", "run/net.parquet", "--out", "o"]
    )
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["2", "0", "–", "doubtful-label", "0.90"] in lines
    assert ["4", "–", "0", "missing-label", "0.70"] in lines


def test_the_command(own):
    done = CliRunner().invoke(cli.app, ["diagnose", "labels", "run"])
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["6", "labelled", "images,", "1", "model"],
        ["issue", "number"],
        ["doubtful-label", "1", "a", "label", "may", "be", "wrong"],
        ["missing-label", "1", "another", "class", "may", "be", "there,", "too"],
        ["merge-classes", "0", "two", "classes", "may", "be", "one"],
        [],
        ["first", "2", "of", "2,", "highest", "score", "first"],
        ["image", "label", "suggested", "kind", "score"],
        ["4", "1", "0", "doubtful-label", "0.90"],
        ["4", "1", "0", "missing-label", "0.70"],
        done.stdout.splitlines()[10].split(),  # see test_first_findings.py
        [],
        ["wrote", "label-issues/findings.parquet"],
        ["wrote", "label-issues/findings.csv"],
        ["wrote", "label-issues/report/index.html"],
    ]
    done = CliRunner().invoke(cli.app, ["diagnose", "labels", "run", "--json"])
    told = json.loads(done.stdout)
    assert told["counts"] == {"doubtful-label": 1, "missing-label": 1, "merge-classes": 0}
    assert (told["n"], told["n_skipped"], told["models"]) == (6, 0, ["net"])


@pytest.mark.parametrize("column", [None, [None] * 6, [0, None, 2, 3, None, 2]])
def test_original_labels_of_the_label_sets_beside_images(own, column):
    """The images table may have no original labels, or only some, in another order."""
    images = {"image_id": own.image_id.to_pylist()[::-1], "uri": [f"{i}.jpg" for i in range(6)]}
    if column is not None:
        images["label"] = pa.array(column[::-1], pa.int32())
    tables.write(pa.table(images), "photos.parquet", "images")
    given = {"predictions": ["run/net.parquet"], "no_confirmed_labels": True}
    expected, _ = find("labels.parquet", "a.parquet", **given)
    found, _ = find("labels.parquet", "b.parquet", images="photos.parquet", **given)
    # Image 4 has the original label 1 and is predicted as 0.
    assert expected.of_kind("doubtful-label")["class_a"].to_pylist() == [1]
    for kind in ("doubtful-label", "missing-label"):
        assert found.of_kind(kind).equals(expected.of_kind(kind))
    assert (found.n, found.n_skipped) == (expected.n, expected.n_skipped)


def test_other_original_labels_in_the_images_table(own):
    images = pa.table({"image_id": ["4"], "label": pa.array([0], pa.int32())})
    tables.write(images, "photos.parquet", "images")
    given = {"predictions": ["run/net.parquet"], "images": "photos.parquet"}
    assert message(InputError, lambda: find("labels.parquet", **given)) == (
        "Two files have different original labels for an image.\n"
        "  where:   photos, image 4\n"
        "  got:     0 and 1\n"
        "  do:      check that both files have the same class list and data set"
    )


def test_classes_that_a_list_of_independent_classes_lacks_are_not_checked(tmp_path):
    """A tagger that lists classes from 0.5 on gives all others at most 0.5, not 0."""
    rng, names, n = np.random.default_rng(0), list("abcdefgh"), 300
    given = rng.random((n, 8)) < 0.2
    given[np.arange(n), rng.integers(0, 8, n)] = True
    p = 1 / (1 + np.exp(-(3 * given - 1.7 + 1.2 * rng.normal(size=given.shape))))
    p[np.arange(n), p.argmax(1)] = np.maximum(p.max(1), 0.5)  # each image has a class
    sets = {f"{i}.jpg": [names[j] for j in np.flatnonzero(row)] for i, row in enumerate(given)}
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    reading = Reading(scores="probability")

    def found(name, scores, least):
        lines = (
            {"image": f"{i}.jpg", "tags": [names[j] for j in at], "scores": row[at].tolist()}
            for i, row in enumerate(scores)
            for at in [np.flatnonzero(row >= least)]
        )
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return find_label_issues(tmp_path / "sets.json", tmp_path / f"{name}.jsonl", reading=reading)

    def cells(issues, kind, column):
        rows = issues.of_kind(kind).to_pylist()
        return {(int(r["image_id"][:-4]), r[column]) for r in rows}

    every, tags = found("every", p, 0), found("tags", p, 0.5)
    likely = {(int(i), int(j)) for i, j in zip(*np.nonzero(p >= 0.5), strict=True)}
    assert 0 < len(cells(every, "doubtful-label", "class_a")) < 10
    assert cells(tags, "doubtful-label", "class_a") <= likely  # there were 84
    assert cells(tags, "missing-label", "class_b") <= cells(every, "missing-label", "class_b") & likely
    note = (
        "tags lists only some classes of each image, so the probabilities of all others are unknown, and "
        "only listed classes are checked; to check all classes, pass scores of all classes"
    )
    assert note in tags.notes
    assert not any("lists only some classes" in other for other in every.notes)
    # If the probabilities of all classes add up to 1, those that are not listed are unlikely.
    softmax = p**4 / (p**4).sum(1, keepdims=True)
    top = found("top", softmax, 0.1)
    assert not any("lists only some classes" in other for other in top.notes)
    assert not cells(top, "doubtful-label", "class_a") <= {
        (int(i), int(j)) for i, j in zip(*np.nonzero(softmax >= 0.1), strict=True)
    }

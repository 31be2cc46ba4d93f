"""The first findings: on the terminal, as CSV, and as a gallery of exactly their images."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.report.gallery_files import read_gallery_link

N = 14
CLASSES = ("cat", "dog", "cup")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write label sets, photographs, and probabilities that are wrong on each image, the last ones surest."""
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    ids = [f"i{i:02}" for i in range(N)]
    sure = 0.5 + 0.03 * np.arange(N)
    scores = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    best = np.tile([1, 0], (N, 1))
    given = tables.Predictions(pa.array(ids), "net", best, scores, score_kind="probability", n_classes=3)
    tables.write_predictions(given, "net.parquet")
    Path("classes.txt").write_text("\n".join(CLASSES))
    lines = [f"{i},cat,cat" for i in ids]
    Path("labels.csv").write_text("\n".join(["image_id,label,classes", *lines]))
    for i in ids:
        image.new("RGB", (8, 8), "orange").save(f"{i}.png")
    lines = [f"{i},{tmp_path / i}.png,cat" for i in ids]
    Path("images.csv").write_text("\n".join(["image_id,uri,label", *lines]))
    return ids


GIVEN = ("labels.csv", "--predictions", "net.parquet", "--classes", "classes.txt")


def run(command, *options):
    words = ["diagnose", command, *GIVEN, *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["manyhot", *words])
        done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    return [line.split() for line in done.stdout.splitlines()]


def first_of(lines, ids):
    """Return the lines of the first ten findings: those of the highest score."""
    start = lines.index(next(line for line in lines if line[:2] == ["first", "10"]))
    assert lines[start][:4] == ["first", "10", "of", f"{N},"]
    rows = lines[start + 2 : start + 12]
    assert [row[0] for row in rows] == ids[::-1][:10]
    assert {tuple(row[1:3]) for row in rows} == {("cat", "dog")}
    return lines[start + 12 :]


@pytest.mark.parametrize("command", ["errors", "labels"])
def test_a_gallery_shows_exactly_the_first(own, command):
    options = ["--no-confirmed-labels", "--min-missing", "1"] if command == "labels" else []
    lines = run(command, "--images", "images.csv", "--out", "diag", *options)
    first_of(lines, own)
    assert "diag/gallery/index.html" in [line[-1] for line in lines if line]
    page = Path("diag/report/index.html").read_text(encoding="utf-8")
    assert page.count('href="../gallery/index.html#image=') >= 10
    assert '<p><a href="../gallery/index.html">See the ' in page
    assert set(read_gallery_link(Path("diag")).ids) == set(own[::-1][:10])
    table = pl.read_csv("diag/findings.csv")
    assert table.height == N
    assert table["name_b"].unique().to_list() == ["dog"]


def test_examples_of_a_class_are_images_with_this_label(own):
    """All findings are on cats; the dogs shown next to them are none of the findings."""
    ids = [*own, *(f"dog{i}" for i in range(12))]
    for i in range(12):
        Path(f"dog{i}.png").write_bytes(Path("i00.png").read_bytes())
    best = np.array([[1, 0]] * len(ids))
    scores = np.tile(np.array([0.9, 0.1], np.float32), (len(ids), 1))
    given = tables.Predictions(pa.array(ids), "net", best, scores, score_kind="probability", n_classes=3)
    tables.write_predictions(given, "net.parquet")
    label = ["cat"] * N + ["dog"] * 12
    rows = [f"{i},{Path(i).absolute()}.png,{c}" for i, c in zip(ids, label, strict=True)]
    Path("images.csv").write_text("\n".join(["image_id,uri,label", *rows]))
    rows = [f"{i},{c},{c}" for i, c in zip(ids, label, strict=True)]
    Path("labels.csv").write_text("\n".join(["image_id,label,classes", *rows]))
    run("errors", "--images", "images.csv", "--out", "diag")
    index = json.loads(Path("diag/gallery/data/index.js").read_text().partition("(")[2][:-3])
    details = json.loads(Path("diag/gallery/data/0.js").read_text().partition("(")[2][:-3])["images"]
    assert index["shown"] == 10
    assert index["members"] == {"0": N, "1": 12}
    assert set(read_gallery_link(Path("diag")).ids) == set(index["ids"][:10]) <= set(own)
    for detail in details[:10]:
        shown = {c: [index["ids"][row] for row in rows] for c, rows in detail["similar"].items()}
        assert [len(shown[c]) for c in "01"] == [4, 4]
        assert all(i in own for i in shown["0"])
        assert all(i.startswith("dog") for i in shown["1"])
    assert "net is right on 0 of 10 images" in Path("diag/gallery/index.html").read_text()


@pytest.mark.parametrize("command", ["errors", "labels"])
def test_the_photographs_are_those_that_predict_lists(own, command):
    """The folder of the predictions contains their images table."""
    Path("predictions").mkdir()
    Path("net.parquet").rename("predictions/net.parquet")
    pl.read_csv("images.csv").drop("label").write_parquet("predictions/images.parquet")
    options = ["--no-confirmed-labels", "--min-missing", "1"] if command == "labels" else []
    words = ["diagnose", command, "labels.csv", "--predictions", "predictions", "--classes", "classes.txt"]
    done = CliRunner().invoke(cli.app, [*words, "--out", "diag", *options])
    assert done.exit_code == 0, done.output
    assert "--images FILE" not in done.stdout
    assert set(read_gallery_link(Path("diag")).ids) == set(own[::-1][:10])


@pytest.mark.parametrize("command", ["errors", "labels"])
def test_without_photographs_the_command_for_a_gallery_is_printed(own, command):
    options = ["--no-confirmed-labels", "--min-missing", "1"] if command == "labels" else []
    rest = first_of(run(command, "--out", "diag", *options), own)
    assert " ".join(rest[0]) == (
        "to get a gallery of these images, pass a table with their photographs: manyhot diagnose "
        f"{' '.join([command, *GIVEN, '--out', 'diag', *options])} --images FILE"
    )
    assert not Path("diag/gallery").exists()


@pytest.mark.parametrize("command", ["errors", "labels"])
def test_a_table_of_images_without_places_is_not_asked_for_again(own, command):
    pl.read_csv("images.csv").drop("uri").write_csv("placeless.csv")
    options = ["--no-confirmed-labels", "--min-missing", "1"] if command == "labels" else []
    rest = first_of(run(command, "--images", "placeless.csv", "--out", "diag", *options), own)
    assert " ".join(rest[0]) == (
        "there is no gallery of these images, because the images table has no column uri with the locations "
        "of the photographs; the images.parquet that manyhot predict writes has this column"
    )


@pytest.mark.parametrize("command", ["errors", "labels"])
@pytest.mark.parametrize("name", ["one.parquet", "one.csv"])
def test_a_name_of_a_file_is_that_file(own, command, name):
    before = {p.name for p in Path().iterdir()}
    run(command, "--images", "images.csv", "--out", name)
    made = {p.name for p in Path().iterdir()} - before
    assert made == ({name, "one-counts.csv"} if command == "errors" else {name})


def test_a_photograph_that_cannot_be_read_leaves_the_findings(own):
    for path in Path().glob("*.png"):
        path.unlink()
    lines = run("errors", "--images", "images.csv", "--out", "diag")
    assert ["wrote", "diag/findings.csv"] in lines
    (line,) = [" ".join(line) for line in lines if line[:3] == ["there", "is", "no"]]
    assert line.startswith("there is no gallery of these images. ")

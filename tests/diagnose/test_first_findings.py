"""The first findings: on the terminal, as CSV, and as a gallery of exactly their images."""

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

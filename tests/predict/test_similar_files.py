"""Similar images from folders that predict wrote."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.errors import InputError, OutputError
from manyhot.files import sha256
from manyhot.predict.embeddings import Embedded
from manyhot.predict.similar import neighbours_of, similar
from manyhot.run import Run


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes what predict leaves for one model in a folder of the working one."""
    monkeypatch.chdir(tmp_path)

    def write(folder, model="timm/one", n=12, *, size=8, label=True, embeddings=True, seed=0):
        rng = np.random.default_rng(seed)
        ids = pa.array([f"{folder}{i}.jpg" for i in range(n)])
        classes = np.argsort(rng.random((n, 3)), axis=1)
        predictions = tables.Predictions(ids, model, classes, n_classes=3, class_hash="aaaa")
        name = tables.predictions_file_name(model)
        tables.write_predictions(predictions, Path(folder) / name)
        images = {"image_id": ids, "uri": ids}
        if label:
            images["label"] = pa.array(np.arange(n) % 3, pa.int32())
        tables.write(pa.table(images), Path(folder) / "images.parquet", "images")
        vectors = rng.standard_normal((n, size)).astype(np.float16)
        if embeddings:
            (Path(folder) / "embeddings").mkdir(exist_ok=True)
            np.save(Path(folder) / "embeddings" / f"{name.removesuffix('.parquet')}.npy", vectors)
        return Embedded(predictions, vectors, tables.Images(pa.table(images)))

    return write


def test_a_folder_against_itself(write):
    index = write("a")
    done = []
    run = Run("manyhot similar a", lambda *told: done.append(told))
    found = similar("a", neighbours=3, run=run)
    written = found.write("out/similar.parquet", run=run)
    assert written == [Path("out/similar.parquet")]
    table = tables.read(written[0], "similar")
    assert table.equals(found.table)
    assert table.equals(similar(index, neighbours=3).table)
    assert done[-1] == ("similar images", 12 * 3 * 4, 12 * 3 * 4)
    about = tables.metadata(table)
    assert (about["model"], about["call"], json.loads(about["notes"])) == (
        "timm/one",
        "manyhot similar a",
        list(found.notes),
    )
    assert json.loads(about["inputs"]) == {
        file: sha256(f"a/{file}")
        for file in ("timm--one.parquet", "embeddings/timm--one.npy", "images.parquet")
    }


def test_queries_from_another_folder(write):
    index, queries = write("a"), write("b", n=5, seed=1)
    found = similar("a", queries="b", among="any", neighbours=2)
    assert found.table.equals(similar(index, queries, among="any", neighbours=2).table)
    (path,) = found.write("similar.parquet")
    assert len(json.loads(tables.metadata(tables.read(path, "similar"))["inputs"])) == 6


def test_arrays_with_the_images_of_their_rows(write):
    index, queries = write("a"), write("b", n=5, seed=1)
    for name, side in (("index", index), ("queries", queries)):
        np.save(f"{name}.npy", side.vectors)
    label = index.images.label.to_pylist()
    rows = "".join(f"{i},{c}\n" for i, c in zip(index.image_id.to_pylist(), label, strict=True))
    Path("rows.csv").write_text("image_id,label\n" + rows)
    arrays = {"rows": "rows.csv", "query_rows": queries.image_id.to_pylist()}
    found = similar("index.npy", "queries.npy", among="any", neighbours=2, **arrays)
    assert found.table.equals(similar(index, queries, among="any", neighbours=2).table)
    assert found.inputs == {name: sha256(name) for name in ("index.npy", "rows.csv")} | {
        "queries/queries.npy": sha256("queries.npy")
    }
    own = similar("index.npy", among="label", rows="rows.csv")
    assert own.table.equals(similar(index, among="label").table)
    mixed = similar("a", "queries.npy", among="any", query_rows=arrays["query_rows"])
    assert mixed.table.equals(similar(index, queries, among="any").table)
    with pytest.raises(InputError, match="The embeddings have no predicted classes"):
        similar("index.npy", rows="rows.csv")
    with pytest.raises(InputError, match="The rows of an array of embeddings have no image ids"):
        similar("index.npy", among="any")


def test_the_same_files_give_the_same_bytes(write):
    write("a")
    for out in ("1.parquet", "2.parquet"):
        similar("a").write(out)
    assert Path("1.parquet").read_bytes() == Path("2.parquet").read_bytes()


@pytest.mark.parametrize("name", ["timm/two", "timm--two"])
def test_one_of_several_models(write, name):
    write("a")
    two = write("a", "timm/two", seed=2)
    found = similar("a", embeddings_model=name)
    assert found.table.equals(similar(two).table)


def test_images_without_a_table_have_no_labels_and_need_none(write):
    write("a")
    Path("a/images.parquet").unlink()
    assert len(similar("a", among="any").table) == 12
    with pytest.raises(InputError, match="The images of the index have no labels"):
        similar("a")


def test_nothing_is_written_after_an_error(write):
    write("a", label=False)
    with pytest.raises(InputError):
        similar("a")
    assert not Path("similar.parquet").exists()


def test_an_unwritable_place(write):
    write("a")
    Path("file").write_text("")
    with pytest.raises(OutputError):
        similar("a").write("file/similar.parquet")


def message_of(**options):
    with pytest.raises(InputError) as error:
        similar("a", **options)
    return str(error.value)


def test_no_such_folder(write):
    assert message_of() == (
        "The folder does not exist.\n"
        "  where:   a\n"
        "  allowed: a folder written by manyhot predict --embeddings"
    )
    Path("a").write_text("")
    assert message_of().startswith("This is a file, not a folder.")


def test_no_embeddings(write):
    write("a", embeddings=False)
    assert message_of() == (
        "The folder contains no embeddings.\n"
        "  where:   a\n"
        "  allowed: files in embeddings/ with the names of the predictions\n"
        "  do:      run manyhot predict --embeddings on these images"
    )


def test_several_models(write):
    write("a")
    write("a", "timm/two")
    assert message_of() == (
        "The folder contains embeddings of several models.\n"
        "  where:   a\n"
        "  got:     timm/one, timm/two\n"
        "  allowed: one of them\n"
        "  do:      choose one, such as `embeddings_model`=timm/one"
    )


def test_neighbours_by_one_of_several_models(write):
    write("a")
    two = write("a", "timm/two", seed=1)
    with pytest.raises(InputError) as error:
        neighbours_of("a", None)
    assert str(error.value) == (
        "The folder contains embeddings of several models.\n"
        "  where:   a\n"
        "  got:     timm/one, timm/two\n"
        "  allowed: one of them\n"
        "  do:      choose one, such as `embeddings_model`=timm/one"
    )
    table, _ = neighbours_of("a", None, model="timm/two")
    assert table.equals(similar(two, neighbours=10, among="any").table)


def test_another_model(write):
    write("a")
    assert message_of(embeddings_model="timm/ones") == (
        "The folder contains no embeddings of 'timm/ones'.\n"
        "  where:   a\n"
        "  allowed: timm/one\n"
        "  do:      did you mean 'timm/one'?"
    )
    assert message_of(embeddings_model="x") == (
        "The folder contains no embeddings of 'x'.\n"
        "  where:   a\n"
        "  allowed: timm/one\n"
        "  do:      name one of these, or predict with this model: manyhot predict --embeddings"
    )


def test_queries_by_another_model(write):
    write("a")
    write("b", "timm/two")
    assert message_of(queries="b") == (
        "The folder contains no embeddings of 'timm/one'.\n"
        "  where:   b\n"
        "  allowed: timm/two\n"
        "  do:      did you mean 'timm/two'?"
    )


def test_lengths_differ(write):
    write("a")
    np.save("a/embeddings/timm--one.npy", np.ones((11, 8), np.float16))
    assert message_of() == (
        "The number of embeddings differs from the number of predictions.\n"
        "  where:   a\n"
        "  got:     timm/one: 11 rows\n"
        "  allowed: 12 rows, one per row of the predictions\n"
        "  do:      run manyhot predict --embeddings on these images"
    )


def test_dimensions_differ(write):
    write("a")
    write("b", size=6)
    assert message_of(queries="b") == (
        "The embeddings of the queries and of the index differ in length.\n"
        "  where:   b\n"
        "  got:     6 numbers per image\n"
        "  allowed: 8, as in a\n"
        "  do:      run manyhot predict --embeddings on both with the same weights of the model"
    )


@pytest.mark.parametrize("content", ["cut", b"", b"no array"])
def test_broken_embeddings(write, content):
    write("a")
    path = Path("a/embeddings/timm--one.npy")
    path.write_bytes(path.read_bytes()[:-7] if content == "cut" else content)
    lines = message_of().splitlines()
    assert lines[:2] == [
        "The file is not a complete array of embeddings.",
        "  where:   a/embeddings/timm--one.npy",
    ]
    assert lines[3:] == ["  do:      run manyhot predict --embeddings on these images"]


def test_the_command(write):
    """Former names of options are understood, and no table of another kind is written over."""
    write("a")
    write("b", n=5, seed=1)

    def run(*arguments):
        return CliRunner().invoke(cli.app, ["similar", "a", *arguments])

    done = run("-k", "2", "--classes", "any", "--queries", "b")
    assert (done.exit_code, done.output.splitlines()[-2:]) == (
        0,
        ["5 images, 5 rows, 0 without neighbours", "wrote similar.parquet"],
    )
    assert done.stderr.splitlines() == [
        "Note: --classes is called --among now.",
        "Note: -k is called --neighbours now.",
    ]
    about = tables.metadata(tables.read("similar.parquet", "similar"))
    assert (about["model"], len(json.loads(about["inputs"]))) == ("timm/one", 6)
    assert json.loads(run("--json").stdout) == {
        "images": 12,
        "rows": 36,
        "empty": 0,
        "notes": [],
        "written": ["similar.parquet"],
    }
    before = Path("a/images.parquet").read_bytes()
    done = run("--out", "a/images.parquet")
    assert isinstance(done.exception, InputError)
    assert Path("a/images.parquet").read_bytes() == before

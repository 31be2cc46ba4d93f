"""Of several files of predictions one that is broken or does not fit is skipped; alone it is an error."""

import functools
import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import manyhot as mh
from manyhot import (
    Predictions,
    build_gallery,
    cli,
    diagnose_calibration,
    diagnose_companions,
    diagnose_errors,
    diagnose_robustness,
    evaluate,
    find_label_issues,
    find_label_kinds,
    init_campaign,
    propose,
    tables,
    write_predictions,
)
from manyhot.classes import class_list
from manyhot.data.benchmarks import BENCHMARKS, Benchmark, BenchmarkData, Fetched
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, OrderError
from manyhot.tables import Images, Labels

N, C = 300, 10
IDS = [f"{i:03}.png" for i in range(N)]
LABEL = np.arange(N) % C


def dense(name, seed, n_classes=C, shift=0, ids=IDS):
    """Write probabilities of a model that is right four times of five, of classes moved by `shift`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(N, n_classes))
    right = rng.random(N) < 0.8
    logits[np.flatnonzero(right), (LABEL[right] + shift) % n_classes] += 6
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    model = Predictions(
        pa.array(ids), name, scores=p.astype(np.float32), score_kind="probability", n_classes=n_classes
    )
    return write_predictions(model, Path("models") / f"{name}.parquet")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Labels, and models: two good ones, one broken, one over other classes, one whose classes start at 1."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"{i},{y},{y} {(y + 1) % C}" if k % 3 else f"{i},{y},{y}"
        for k, (i, y) in enumerate(zip(IDS, LABEL, strict=True))
    ]
    Path("labels.csv").write_text("image_id,label,classes\n" + "\n".join(rows) + "\n")
    table = "image_id,label\n" + "".join(f"{i},{y}\n" for i, y in zip(IDS, LABEL, strict=True))
    Path("images.csv").write_text(table)
    Path("again.csv").write_text(Path("labels.csv").read_text())
    Path("classes.txt").write_text("\n".join(f"c{i}" for i in range(C)) + "\n")
    Path("models").mkdir()
    for i, name in enumerate("ab"):
        dense(name, i)
    dense("classes", 2, n_classes=12)
    dense("order", 3, shift=1)
    whole = Path("models/a.parquet").read_bytes()
    Path("models/broken.parquet").write_bytes(whole[: len(whole) // 2])


def files(*names):
    return [Path("models") / f"{name}.parquet" for name in names]


def evaluated(given, labels="labels.csv", **more):
    judged = evaluate(labels, given, resamples=20, reading=Reading(classes="classes.txt", **more))
    judged.write("o")
    notes = [f"{n.dataset}: {n.model}: {n.text}" for n in judged.model_notes if n.kind == "skipped"]
    assert list(judged.notes)[len(judged.notes) - len(notes) :] == notes
    return judged.results, notes


def originals(given):
    """On the original labels alone; the first model that can be read tells how many classes there are."""
    judged = evaluate("images.csv", given, resamples=20)
    return judged.results, [n.text for n in judged.model_notes if n.kind == "skipped"]


def errors(given):
    found = diagnose_errors("labels.csv", given, reading=Reading(classes="classes.txt"))
    return found.table, found.notes


def issues(given):
    found = find_label_issues("labels.csv", given, reading=Reading(classes="classes.txt"))
    return found.table, found.notes


def calibration(given):
    reading = Reading(classes="classes.txt")
    found = diagnose_calibration("labels.csv", given, reading=reading, methods=["temperature"], resamples=0)
    return found.calibration, found.notes


def companions(given):
    found = diagnose_companions("labels.csv", given, reading=Reading(classes="classes.txt"))
    return found.table, found.notes


def robustness(given):
    reading = Reading(classes="classes.txt")
    found = diagnose_robustness(["labels.csv", "again.csv"], given, resamples=20, reading=reading)
    return found.tables["robustness"], found.notes


def confused(given):
    found = find_label_kinds("labels.csv", given, reading=Reading(classes="classes.txt"))
    written = found.write("kinds.parquet")
    about = tables.metadata(pq.read_table(written[0]))
    assert json.loads(about.get("notes", "[]")) == list(found.notes)
    return found.table, found.notes


def shown(given):
    Path("photos").mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save("photos/a.png")
    table = "image_id,label,uri\n" + "".join(
        f"{i},{y},photos/a.png\n" for i, y in zip(IDS[:3], LABEL, strict=False)
    )
    Path("shown.csv").write_text(table)
    reading = Reading(images="shown.csv", classes="classes.txt")
    made = build_gallery("labels.csv", given, out="g", reading=reading).gallery
    return pa.table({"models": made.models}), made.notes


def proposed(given):
    """Of a campaign, into whose folder files are put."""
    if not Path("camp").exists():
        init_campaign("camp", images="images.csv", predictions=files("a"), classes="classes.txt")
    for file in Path("camp/predictions").iterdir():
        file.unlink()
    for file in given:
        (Path("camp/predictions") / file.name).write_bytes(file.read_bytes())
    found = propose("camp")
    (written, _) = found.write("camp")
    assert json.loads(tables.metadata(pq.read_table(written))["notes"]) == list(found.notes)
    return found.table, [n.replace("camp/predictions", "models") for n in found.notes]


COMMANDS = {
    f.__name__: f
    for f in (
        evaluated,
        originals,
        errors,
        issues,
        calibration,
        companions,
        robustness,
        confused,
        shown,
        proposed,
    )
}
ORDERED = ("evaluated", "errors", "calibration", "companions", "robustness")
"""Those that look at the order of rows and classes."""

BAD = [
    (name, bad)
    for name in COMMANDS
    for bad in ("broken", "classes", "order")
    if bad != "order" or name in ORDERED
]


@functools.cache
def without_bad_files(name):
    """Return what a command finds without a bad file, and its notes; all tests have the same files."""
    return COMMANDS[name](files("a", "b"))


@pytest.mark.parametrize(("name", "bad"), BAD)
def test_a_file_that_does_not_fit_is_skipped_and_named(name, bad):
    without, before = without_bad_files(name)
    found, notes = COMMANDS[name](files("a", bad, "b"))
    assert pl.from_arrow(found).equals(pl.from_arrow(without))
    more = [n for n in notes if n not in before]
    assert more
    for note in more:
        place, reason = note.split("skipped: ")
        assert place == "" if name == "originals" else f"models/{bad}.parquet: " in place
        assert {
            "broken": "The file is not a complete Parquet file (got: ",
            "classes": " has a different number of classes from " if name != "originals" else "classes",
            "order": "The predictions of order do not match the labels in the present order; the "
            "likely cause is ",
        }[bad] in reason
        assert reason.endswith(")")


@pytest.mark.parametrize("bad", ["broken", "classes", "order"])
@pytest.mark.parametrize(
    "call", [evaluate, diagnose_errors, diagnose_calibration, diagnose_companions, diagnose_robustness]
)
def test_strict_raises_the_error_of_the_file_alone(call, bad):
    labels = ["labels.csv", "again.csv"] if call is diagnose_robustness else "labels.csv"
    said = []
    for given in (files(bad), files("a", bad, "b")):
        with pytest.raises(InputError) as error:
            call(labels, given, reading=Reading(classes="classes.txt", strict=True))
        said.append(str(error.value))
    assert said[0] == said[1]
    assert bad in said[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_only_file_is_an_error(name):
    with pytest.raises(InputError) as error:
        COMMANDS[name](files("broken"))
    assert str(error.value).startswith("The file is not a complete Parquet file.\n")
    assert str(error.value).endswith("\n  do:      create or download it again")


@pytest.mark.parametrize("name", ORDERED)
def test_where_none_is_left_the_first_is_an_error(name):
    with pytest.raises(OrderError) as error:
        COMMANDS[name](files("order", "classes"))
    assert error.value.details["where"] == "models/order.parquet"
    with pytest.raises(MatchError):
        COMMANDS[name](files("classes", "order"))


def test_the_whole_note():
    _, (note,) = evaluated(files("a", "order", "b"))
    assert note == (
        "labels: models/order.parquet: skipped: The predictions of order do not match the labels in the "
        "present order; the likely cause is predicted classes given as indices that start at 1 (got: top-1 "
        "accuracy 0.0100; do: pass the order of the rows (`rows`) or columns (`classes`) of the file, or "
        "`trust_order` if the present order is correct)"
    )


def test_two_models_of_one_name_are_an_error_all_the_same():
    """Which of them is meant nobody can say."""
    Path("models/c.parquet").write_bytes(Path("models/a.parquet").read_bytes())
    with pytest.raises(MatchError) as error:
        evaluated(files("a", "b", "c"))
    assert str(error.value) == (
        "Two models have the same name.\n  where:   models/c.parquet\n  got:     a\n"
        "  do:      rename the file; if the file itself names its model: manyhot convert FILE NEW.parquet "
        "--model NAME"
    )


def test_the_command_says_it_last_and_goes_on():
    words = ["evaluate", "--labels", "labels.csv", "--predictions", "models", "--classes", "classes.txt"]
    words += ["--resamples", "20", "--out", "o"]
    done = CliRunner().invoke(cli.app, words, env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    lines = done.stderr.splitlines()[-3:]
    assert [line.split(": skipped: ")[0] for line in lines] == [
        f"Note: labels: models/{name}.parquet" for name in ("broken", "classes", "order")
    ]
    told = tables.metadata(pq.read_table("o/results.parquet"))
    assert set(json.loads(told["inputs"])) == {"labels.csv", "classes.txt", "a.parquet", "b.parquet"}
    notes = [n for n in json.loads(told["notes"]) if n["kind"] == "skipped"]
    assert [n["model"] for n in notes] == [f"models/{n}.parquet" for n in ("broken", "classes", "order")]
    page = Path("o/report/index.html").read_text()
    assert "models/order.parquet" in page
    assert "the likely cause is predicted classes given as indices that start at 1" in page
    trusted = CliRunner().invoke(cli.app, [*words, "--trust-order"])
    assert trusted.exit_code == 0
    assert "models/order.parquet" not in trusted.stderr


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark of two data sets without published models, over the classes of ImageNet."""
    known = class_list()
    fetched = []
    for name, ids in (("one", IDS), ("two", [f"x{i}" for i in IDS])):
        table = {"image_id": ids, "label": pa.array(LABEL, pa.int32()), "usable": [True] * N}
        table |= {"classes": [[int(y)] for y in LABEL], "state": [["yes"]] * N}
        labels = Labels(pa.table(table), len(known), known.hash, True, name)
        images = Images(pa.table({"image_id": ids, "label": pa.array(LABEL, pa.int32())}), name)
        about = BenchmarkData(name, ("imagenet-real", "scores.npz"), "imagenet-val-predictions", "rows")
        fetched.append(Fetched(about, labels, images, images, (), {}))
    sets = {f.about.name: f for f in fetched}
    monkeypatch.setattr(BenchmarkData, "fetch", lambda self, progress=None: sets[self.name])
    monkeypatch.setitem(BENCHMARKS, "small", Benchmark(tuple(f.about for f in fetched)))
    for i, (name, ids) in enumerate((("a", IDS), ("b", IDS), ("c", sets["two"].labels.image_id))):
        dense(name, i, n_classes=len(known), ids=ids)
    dense("order", 3, n_classes=len(known), shift=1)
    dense("elsewhere", 4, n_classes=len(known), ids=[f"y{i}" for i in IDS])


def test_own_models_whose_ids_are_written_differently(benchmark):
    """Each data set of a benchmark notes how its own images were matched."""
    known = class_list()
    expected = evaluate("small", files("a", "c"), metrics=["top1"], resamples=0)
    dense("a", 0, n_classes=len(known), ids=[f"v/{i.removesuffix('png')}jpg" for i in IDS])
    dense("c", 2, n_classes=len(known), ids=[f"w/x{i}" for i in IDS])
    found = evaluate("small", files("a", "c"), metrics=["top1"], resamples=0)
    assert repr(found.results.to_pylist()) == repr(expected.results.to_pylist())
    matched = [(n.dataset, n.model, n.n) for n in found.model_notes if n.kind == "matched"]
    assert matched == [("one", "a", N), ("two", "c", N)]
    with pytest.raises(MatchError):
        evaluate("small", files("a"), metrics=["top1"], reading=Reading(match="exact"))


def test_own_models_of_a_benchmark(benchmark):
    given = files("a", "broken", "b", "elsewhere", "order", "c")
    found = evaluate("small", given, metrics=["top1"], resamples=0)
    found.write("o")
    rows = found.results.to_pylist()
    judged = {(r["dataset"], r["model"]) for r in rows}
    assert judged == {("one", "a"), ("one", "b"), ("two", "c")}
    assert found.own == ("a", "b", "c")
    told = tables.metadata(pq.read_table("o/results.parquet"))
    assert set(json.loads(told["inputs"])) == {"a.parquet", "b.parquet", "c.parquet"}
    skipped = {n.model: n.text for n in found.model_notes if n.kind == "skipped"}
    assert list(skipped) == [f"models/{name}.parquet" for name in ("broken", "elsewhere", "order")]
    assert skipped["models/elsewhere.parquet"] == (
        "skipped: elsewhere has no predictions for images of the benchmark's data sets (got: ids such as "
        "y000.png; "
        "allowed: 000.png (one) or x000.png (two); do: pass the row order as `rows`, or run predict on "
        "one of these data sets)"
    )
    for alone, kind in (("broken", InputError), ("elsewhere", MatchError), ("order", OrderError)):
        with pytest.raises(kind):
            evaluate("small", files(alone))
    with pytest.raises(MatchError):
        evaluate("small", files("order", "elsewhere"))


def test_models_of_a_benchmark_are_chosen_by_name_and_a_data_set_is_judged_alone(benchmark):
    given = files("a", "b", "c")
    found = evaluate("small", given, models=["a", "c"], metrics=["top1"], resamples=0)
    assert {r["model"] for r in found.results.to_pylist()} == {"a", "c"}
    alone = evaluate("two", given, metrics=["top1"], resamples=0)
    assert {(r["dataset"], r["model"]) for r in alone.results.to_pylist()} == {("two", "c")}
    with pytest.raises(InputError, match="No model has such a name"):
        evaluate("small", given, models=["d"])
    with pytest.raises(InputError, match="has its own labels"):
        evaluate("small", given, reading=Reading(dataset="mine"))


def test_commands_print_what_was_skipped():
    """Each as its notes, in JSON too where it prints JSON."""
    shown(files("a"))
    init_campaign("camp2", images="images.csv", predictions=files("a", "b"), classes="classes.txt")
    Path("camp2/predictions/broken.parquet").write_bytes(b"PAR1")
    given = ["--predictions", "models", "--classes", "classes.txt"]
    for words in (
        ["kinds", "labels.csv", *given],
        ["gallery", "labels.csv", *given, "--images", "shown.csv"],
        ["propose", "camp2"],
        ["diagnose", "errors", "labels.csv", *given],
        ["diagnose", "labels", "labels.csv", *given],
        ["diagnose", "calibration", "labels.csv", *given, "--resamples", "0"],
        ["diagnose", "companions", "labels.csv", *given],
        ["diagnose", "robustness", "labels.csv", "again.csv", *given, "--resamples", "20"],
    ):
        done = CliRunner().invoke(cli.app, words, env={"COLUMNS": "100"})
        assert done.exit_code == 0, done.output
        assert "broken.parquet: skipped: The file is not a complete Parquet file (got: " in done.stderr, words


@pytest.mark.parametrize("names", [["scores"], ["old/scores", "new/scores"]])
def test_folders_tell_files_apart_that_are_called_alike(tmp_path, monkeypatch, names):
    monkeypatch.chdir(tmp_path)
    scores = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    ids = [f"{i}.jpg" for i in range(40)]
    labels = pl.DataFrame({"image_id": ids} | {c: scores[:, i] > 0.6 for i, c in enumerate("abc")})
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        np.save(f"{name}.npy", scores)
    Path("rows.txt").write_text("\n".join(ids))
    files = [f"{name}.npy" for name in names]
    found = mh.evaluate(labels, files, rows="rows.txt", metrics=["map_micro"], scores="probability")
    assert sorted(set(found.results["model"].to_pylist())) == sorted(names)

"""Comparing, describing, ranking and reporting from files, as commands do."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from forking import commands
from manyhot import (
    Reading,
    compare,
    describe,
    evaluate,
    leaderboard,
    read_labels,
    read_results,
    report_folder,
)
from manyhot.cli import app
from manyhot.errors import InputError, MatchError, OutputError
from manyhot.evaluate.terminal import drop_lines
from manyhot.run import Run
from manyhot.tables import metadata

HEAD = "dataset,model,metric,slice,value,lo,hi,n,n_skipped\n"


def write(path, dataset, values, metric="top1"):
    rows = (f"{dataset},{m},{metric},all,{v},,,100,0\n" for m, v in values.items())
    path.write_text(HEAD + "".join(rows))
    return path


def compared(results, out, *, call="", **options):
    """Compare and write; return the comparison and the paths."""
    made = compare(results, **options)
    return made, made.write(out, run=Run(call))


@pytest.fixture
def two(tmp_path):
    a = write(tmp_path / "a.csv", "a", {"resnet50": 0.8, "vgg16": 0.7, "alexnet": 0.6})
    b = write(tmp_path / "b.csv", "b", {"resnet50": 0.7, "vgg16": 0.5, "alexnet": 0.55})
    return a, b


def test_tables_are_written_and_drawn_when_asked(two, tmp_path):
    _, written = compared(two, tmp_path / "out")
    names = {p.name for p in written}
    assert {"results.parquet", "results.csv", "drops.parquet", "drops.csv", "fits.csv", "ranks.csv"} <= names
    drops = pl.read_csv(tmp_path / "out" / "drops.csv")
    assert drops.filter(pl.col("model").is_null())["drop"].item() == pytest.approx(0.35 / 3)
    assert not (tmp_path / "out" / "report").exists()
    drawn = {
        p.relative_to(tmp_path / "out" / "report").as_posix() for p in report_folder(tmp_path / "out").written
    }
    assert {"index.html", "tables/drops.md", "tables/leaderboard-a.tex", "tables/ranks.csv"} <= drawn
    figures = {p for p in drawn if p.startswith("figures/")}
    assert {f"figures/drops-a-b{end}" for end in (".svg", "-dark.svg", ".png", ".csv")} <= figures
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert 'href="figures/drops-a-b.svg"' in page


def test_the_same_files_give_the_same_bytes(two, tmp_path):
    for name in ("one", "two"):
        compared(two, tmp_path / name, call="manyhot compare")
        report_folder(tmp_path / name)
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_figures_that_are_no_more_go(two, tmp_path):
    compared(two, tmp_path / "out")
    report_folder(tmp_path / "out")
    assert list((tmp_path / "out" / "report" / "figures").glob("drops-a-b*"))
    compared([two[0], write(tmp_path / "c.csv", "c", {"resnet50": 0.3, "vgg16": 0.2})], tmp_path / "out")
    report_folder(tmp_path / "out")
    assert not list((tmp_path / "out" / "report" / "figures").glob("drops-a-b*"))


def test_a_comparison_can_be_compared_again(tmp_path, two):
    compared(two, tmp_path / "one")
    again, _ = compared([tmp_path / "one"], tmp_path / "two")
    assert again.drops.equals(compare(two).drops)


def test_photographs_stay_when_a_report_is_drawn_anew(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (40, 30), "orange").save(tmp_path / "a.jpg")
    (tmp_path / "labels.csv").write_text("image_id,label,classes\na.jpg,0,0 1\n")
    (tmp_path / "images.csv").write_text(f"image_id,uri\na.jpg,{tmp_path / 'a.jpg'}\n")
    (tmp_path / "one.csv").write_text("image_id,classes\na.jpg,0 4 5 6 8\n")
    reading = Reading(images=tmp_path / "images.csv")
    evaluate(tmp_path / "labels.csv", [tmp_path / "one.csv"], reading=reading).write(tmp_path / "out")
    first = (tmp_path / "out" / "report" / "index.html").read_text()
    assert 'id="pictures"' in first
    report_folder(tmp_path / "out")
    again = (tmp_path / "out" / "report" / "index.html").read_text()
    start, end = again.index('id="pictures"'), again.index("</section>", again.index('id="pictures"'))
    assert again[start:end] in first
    (tmp_path / "out" / "pictures.json").write_text("[{}]")
    with pytest.raises(InputError) as error:
        report_folder(tmp_path / "out")
    assert str(error.value) == (
        "The file does not contain the pictures of a report.\n"
        f"  where:   {tmp_path / 'out' / 'pictures.json'}\n"
        "  got:     'thumbnail'\n"
        "  do:      run manyhot evaluate again, or delete the file to get a report without pictures"
    )


def test_what_an_earlier_run_made_and_this_one_does_not_goes(two, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,label,classes\na.jpg,0,0 1\nb.jpg,1,1\n")
    out = tmp_path / "out"
    describe(labels).write(out)
    assert (out / "set_sizes.parquet").exists()
    compared(two, out)
    assert not list(out.glob("set_sizes.*"))
    assert (out / "drops.parquet").exists()


def test_nothing_to_compare_writes_nothing(tmp_path):
    alone = write(tmp_path / "a.csv", "a", {"resnet50": 0.8})
    with pytest.raises(InputError) as error:
        compared([alone], tmp_path / "out")
    assert str(error.value) == (
        "There is nothing to compare.\n"
        f"  where:   {alone}\n"
        "  got:     data sets a\n"
        "  allowed: two models on one data set, or two data sets with an accuracy and a model in common"
    )
    assert not (tmp_path / "out").exists()


def test_one_model_on_two_data_sets_has_a_drop(tmp_path):
    """As two weeks of one camera; the interval is that of two independent shares (Newcombe 1998)."""
    rng = np.random.default_rng(0)
    made = []
    for name, n, wrong in (("before", 800, 62), ("after", 600, 103)):
        truth = rng.integers(0, 3, n)
        scores = np.full((n, 3), 0.1, np.float32)
        scores[np.arange(n), np.where(np.arange(n) < wrong, (truth + 1) % 3, truth)] = 0.8
        reading = Reading(scores="probability", dataset=name)
        evaluate(truth, {"net": scores}, reading=reading).write(tmp_path / name)
        made.append(tmp_path / name)
    found = compare(*made)
    mean, alone = (r for r in found.drops.to_pylist() if r["metric_x"] == r["metric_y"] == "top1")
    assert (mean["model"], alone["model"], mean["n_models"]) == (None, "net", 1)
    share_x, share_y = 738 / 800, 497 / 600
    assert mean["drop"] == alone["drop"] == pytest.approx(share_x - share_y)
    half = 1.96 * np.sqrt(share_x * (1 - share_x) / 800 + share_y * (1 - share_y) / 600)
    assert (alone["hi"] - alone["lo"]) / 2 == pytest.approx(half, rel=0.1)
    assert (mean["lo_models"], found.ranks.num_rows, found.fits.num_rows) == (None, 0, 0)
    lines = [*found.lines()]
    assert lines[0] == "before → after: points lost"
    assert not any("in common" in line for line in lines)
    assert found.write(tmp_path / "both")


def test_families_from_a_file(two, tmp_path):
    (tmp_path / "families.csv").write_text("model,family\nresnet50,x\nvgg16,x\nalexnet,x\n")
    made, _ = compared(two, tmp_path / "out", families=tmp_path / "families.csv")
    assert set(made.results.models["family"].to_pylist()) == {"x"}
    (tmp_path / "families.csv").write_text("model,kind\nresnet50,x\n")
    with pytest.raises(InputError) as error:
        compared(two, tmp_path / "out", families=tmp_path / "families.csv")
    assert str(error.value).splitlines()[0::3] == [
        "The file is not a table of families.",
        "  allowed: a CSV file with the columns model and family",
    ]
    with pytest.raises(InputError, match="The file does not exist"):
        compared(two, tmp_path / "out", families=tmp_path / "no.csv")


def test_a_folder_of_results_with_its_labels(tmp_path):
    ids = [f"{c}{i}" for i in range(10) for c in "abcd"]
    rows = zip(ids, ["0,0 1", "1,1", "2,2 7 9", "3,"] * 10, strict=True)
    (tmp_path / "labels.csv").write_text(
        "image_id,label,classes\n" + "".join(f"{i}.jpg,{row}\n" for i, row in rows)
    )
    for name, first in (("one", "0 1 2 3"), ("two", "0 1 7 2"), ("three", "1 1 7 2")):
        rows = zip(ids, first.split() * 10, strict=True)
        text = "image_id,classes\n" + "".join(f"{i}.jpg,{c} 4 5 6 8\n" for i, c in rows)
        (tmp_path / f"{name}.csv").write_text(text)
    models = [tmp_path / f"{n}.csv" for n in ("one", "two", "three")]
    evaluate(tmp_path / "labels.csv", models, reading=Reading(dataset="mine")).write(tmp_path / "a")
    _, written = compared([tmp_path / "a"], tmp_path / "out")
    assert {"datasets.parquet", "set_sizes.parquet"} <= {p.name for p in written}
    row = pl.read_parquet(tmp_path / "out" / "drops.parquet").filter(
        pl.col("model").is_null(), metric_y="real1"
    )
    assert row["lo"].item() is not None  # the samples of the folder give an interval over images
    again = report_folder(tmp_path / "a", title="Mine")
    assert "<title>Mine</title>" in again.written[0].read_text()


def test_python_forms(two, tmp_path):
    made = compare(two)
    assert made.mean_drop("top1")[0] == pytest.approx(0.35 / 3)
    assert compare([read_results(two[0]), two[1]]).drops.equals(made.drops)
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,label,classes\na.jpg,0,0 1\nb.jpg,1,1\n")
    assert describe(read_labels(labels)).datasets["multi"].to_pylist() == [1]
    assert leaderboard(two).ranked["model"].to_pylist() == ["resnet50", "vgg16", "alexnet"]


def test_figures_of_labels_alone(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,label,classes\na.jpg,0,0 1\nb.jpg,1,1\n")
    written = describe(labels).write(tmp_path / "out")
    names = {p.relative_to(tmp_path / "out").as_posix() for p in written}
    assert {"set_sizes.csv", "set_sizes.parquet", "figures/set-sizes.svg", "figures/set-sizes.png"} <= names
    assert not {"rejected.csv", "rejected.parquet"} & names  # without rows: every original label is valid
    drawn = pl.read_csv(tmp_path / "out" / "figures" / "set-sizes.csv")
    assert dict(drawn.select("size", "images").iter_rows()) == {0: 0, 1: 1, 2: 1}


def test_a_folder_without_results(tmp_path):
    with pytest.raises(InputError) as error:
        report_folder(tmp_path)
    assert str(error.value) == (
        "The folder contains no results.\n"
        f"  where:   {tmp_path}\n"
        "  allowed: a folder with results.parquet, written by manyhot evaluate or manyhot compare"
    )


def test_an_output_folder_that_is_a_file(two, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError):
        compared(two, tmp_path / "out")


def manyhot(*arguments, cwd, code=0):
    return commands.run(*arguments, code=code, cwd=cwd)


def test_commands(two, tmp_path):
    done = manyhot("compare", "a.csv", "b.csv", "--out", "out", cwd=tmp_path)
    assert done.stdout.splitlines()[0] == "a → b: points lost, means over models"
    assert done.stdout.splitlines()[2].split() == ["top1", "11.67", "–", "–", "3", "100", "→", "100"]
    told = json.loads(manyhot("compare", "a.csv", "b.csv", "--out", "out", "--json", cwd=tmp_path).stdout)
    assert told["drops"][0]["n_models"] == 3
    assert told["written"][0].replace("\\", "/") == "out/results.parquet"
    ranked = manyhot("leaderboard", "out", "--dataset", "b", "--to", "markdown", cwd=tmp_path).stdout
    assert ranked.splitlines()[2].startswith("| 1 | resnet50 | 70.00 |")
    manyhot("leaderboard", "out", "--top", 1, "--out", "top.csv", cwd=tmp_path)
    manyhot("leaderboard", "out", "--dataset", "b", "--out", "top.md", cwd=tmp_path)
    assert (tmp_path / "top.md").read_text() == ranked
    assert pl.read_csv(tmp_path / "top.csv")["model"].to_list() == ["resnet50"]
    assert done.stdout.splitlines()[-1].startswith("wrote ")
    assert "files to out" in manyhot("report", "out", cwd=tmp_path).stdout
    (tmp_path / "labels.csv").write_text("image_id,label,classes\na.jpg,0,0 1\nb.jpg,1,1\n")
    assert manyhot("describe", "labels.csv", cwd=tmp_path).stdout.splitlines()[:6] == [
        "labels: 2 images, 3 labels",
        "two or more labels        1  of 2 images with any (50.0%, 95 % interval 2.6% to 97.4%)",
        "no valid class            0  of 2 (0.0%, 95 % interval 0.0% to 65.8%)",
        "original label not valid  0  of 2 (0.0%, 95 % interval 0.0% to 65.8%)",
        "original label valid      2  of 2 images with any (100.00%, 95 % interval 34.24% to 100.00%)",
        "",
    ]


def test_commands_say_what_is_wrong(two, tmp_path):
    done = manyhot("compare", "a.csv", "no.csv", cwd=tmp_path, code=3)
    assert done.stderr == (
        "Error: The file does not exist.\n"
        "  where:   no.csv\n"
        "  allowed: results as a file or folder, or timm-results, timm-results-2022-03, openclip-results, "
        "testbed-results, peychev-results, clip-benchmark\n"
    )
    done = manyhot("compare", "imagenet", cwd=tmp_path, code=3)
    assert done.stderr.endswith(
        "  do:      evaluate the benchmark first: manyhot evaluate imagenet --out imagenet\n"
    )
    done = manyhot("leaderboard", "timm-result", cwd=tmp_path, code=3)
    assert done.stderr.endswith("  do:      did you mean 'timm-results'?\n")
    done = manyhot("evaluate", "timm-results", cwd=tmp_path, code=2)
    assert done.stderr.endswith("  do:      these are results already: manyhot compare timm-results\n")
    done = manyhot("leaderboard", "a.csv", "--out", "top.pdf", cwd=tmp_path, code=3)
    assert done.stderr == (
        "Error: Cannot write this kind of file.\n  where:   top.pdf\n  allowed: .csv, .json, .md, .tex\n"
    )
    done = manyhot("leaderboard", "a.csv", "--by", "mla", cwd=tmp_path, code=3)
    assert done.stderr == ("Error: There are no values of mla on a.\n  where:   a.csv\n  allowed: a: top1\n")


def test_a_folder_of_two_runs_is_noticed(two, tmp_path):
    """As an interrupted run leaves it: new results, tables of the one before."""
    compared(two, tmp_path / "one")
    compared((*two[:1], write(tmp_path / "c.csv", "c", {"resnet50": 0.3, "vgg16": 0.2})), tmp_path / "two")
    (tmp_path / "one" / "drops.parquet").write_bytes((tmp_path / "two" / "drops.parquet").read_bytes())
    with pytest.raises(InputError) as error:
        report_folder(tmp_path / "one")
    assert str(error.value) == (
        "The folder contains tables of two runs: one was interrupted, or both ran at the same time.\n"
        f"  where:   {tmp_path / 'one' / 'drops.parquet'}\n"
        "  do:      run the command again with another folder"
    )


def test_the_output_may_not_be_an_input(two, tmp_path):
    out = tmp_path / "one"
    compared(two, out)
    before = {p: p.read_bytes() for p in out.glob("*.*")}
    other = write(tmp_path / "c.csv", "c", {"resnet50": 0.3, "vgg16": 0.2})
    for sources in ([out], [out / "results.csv", other], [out / "results.parquet", other]):
        with pytest.raises(InputError) as error:
            compared(sources, tmp_path / "x" / ".." / "one")
        assert str(error.value) == (
            "The output would overwrite an input.\n"
            f"  where:   {tmp_path / 'x' / '..' / 'one'}\n"
            f"  got:     {sources[0]}\n"
            "  do:      choose another path for the output"
        )
    assert before == {p: p.read_bytes() for p in out.glob("*.*")}


def test_no_command_writes_over_its_input(two, tmp_path):
    before = two[0].read_bytes()
    for words in (("convert", "a.csv", "a.csv"), ("leaderboard", "a.csv", "--out", "./a.csv")):
        assert manyhot(*words, cwd=tmp_path, code=3).stderr == (
            "Error: The output would overwrite an input.\n"
            f"  where:   {'a.csv'}\n"
            "  got:     a.csv\n"
            "  do:      choose another path for the output\n"
        )
    assert two[0].read_bytes() == before


def test_an_order_of_equals_is_printed(tmp_path):
    write(tmp_path / "a.csv", "a", {"resnet50": 0.8, "vgg16": 0.7, "alexnet": 0.6})
    write(tmp_path / "b.csv", "b", {"resnet50": 0.5, "vgg16": 0.5, "alexnet": 0.5})
    done = manyhot("compare", "a.csv", "b.csv", "--out", "out", cwd=tmp_path)
    assert [line.split() for line in done.stdout.splitlines() if "top1" in line] == [
        ["top1", "20.00", "–", "–", "3", "100", "→", "100"],
        ["a", "top1", "b", "top1", "all", "0.000", "–", "–", "3"],
        ["a", "top1", "b", "top1", "–", "0", "of", "3", "–"],
    ]


def test_data_sets_with_one_or_no_model_in_common(two, tmp_path):
    write(tmp_path / "c.csv", "c", {"resnet50": 0.3, "other": 0.2})
    write(tmp_path / "d.csv", "d", {"other": 0.2, "another": 0.1})
    done = manyhot("compare", "a.csv", "b.csv", "c.csv", "d.csv", "--out", "out", cwd=tmp_path)
    assert "a → c: points lost\n" in done.stdout
    assert "a and d have no models in common and are not compared.\n" in done.stdout


def test_a_file_where_the_report_would_be(two, tmp_path):
    compared(two, tmp_path / "out")
    (tmp_path / "out" / "report").write_text("")
    assert manyhot("report", "out", cwd=tmp_path, code=6).stderr == (
        "Error: The report's folder cannot be created, because a file has the same name.\n"
        f"  where:   {'out/report'}\n"
        "  do:      move or rename the file\n"
    )


def test_a_folder_of_published_tables(two, tmp_path):
    assert manyhot("compare", ".", cwd=tmp_path, code=3).stderr == (
        "Error: The folder contains no results.parquet.\n"
        "  where:   .\n"
        "  got:     a.csv, b.csv\n"
        "  do:      pass its files: ./*.csv\n"
    )


def test_describe_knows_what_there_is(tmp_path):
    assert manyhot("describe", "imagenet-vall", cwd=tmp_path, code=3).stderr == (
        "Error: There is no such data set, campaign or file.\n"
        "  got:     imagenet-vall\n"
        "  allowed: imagenet, tsipras, imagenet-x, multilabel, errors, imagenet-val, "
        "imagenetv2-matched-frequency, imagenet-multilabel, imagenet-val-main; the folder of a campaign or "
        "of predictions; label sets or images in a file\n"
        "  do:      did you mean 'imagenet-val'?\n"
    )


def test_a_report_of_an_earlier_run_goes(two, tmp_path):
    out = tmp_path / "out"
    compared(two, out)
    report_folder(out)
    assert (out / "report" / "tables" / "drops.md").exists()
    compared(two, out)
    assert not [p for p in (out / "report").rglob("*.*") if p.is_file()]


def test_labels_of_one_name_are_not_merged(tmp_path):
    (tmp_path / "labels.csv").write_text("image_id,label,classes\na.jpg,0,0 1\n")
    with pytest.raises(MatchError) as error:
        describe(tmp_path / "labels.csv", tmp_path / "labels.csv")
    assert str(error.value) == (
        "Two data sets have the same name.\n"
        "  got:     labels\n"
        "  do:      describe them separately, or rename one"
    )


def test_notes_of_a_page_name_the_option_of_the_command_that_made_it(tmp_path, monkeypatch):
    """From Python they name the argument."""
    monkeypatch.chdir(tmp_path)
    states = ["1,0", "0,1", "1,1", "0,1"] * 8
    rows = [f"{i}.jpg,{state}" for i, state in enumerate(states)]
    for name in ("labels", "a", "b"):
        digits = (
            rows if name == "labels" else [f"{r[:-3]}{0.5 + i},{3.25 - i % 3}" for i, r in enumerate(rows)]
        )
        Path(f"{name}.csv").write_text("\n".join(["image_id,cat,dog", *digits]) + "\n")
    note = "declare their kind with "
    words = ["compare", "a.csv", "b.csv", "--labels", "labels.csv", "--out", "compared"]
    assert CliRunner().invoke(app, words).exit_code == 0
    compared(["a.csv", "b.csv"], "in-python", labels="labels.csv")
    for folder, name in (("compared", "--scores"), ("in-python", "`scores`")):
        report_folder(folder)
        assert f"{note}{name}" in Path(folder, "report", "index.html").read_text()


def test_one_path_is_not_its_letters(two):
    assert leaderboard(str(two[0])).ranked["model"].to_pylist() == ["resnet50", "vgg16", "alexnet"]
    assert compare(list(two)).mean_drop("top1")[0] == pytest.approx(0.35 / 3)


def test_notes_and_metrics_of_all_results_are_kept(two, tmp_path):
    (tmp_path / "labels.csv").write_text("image_id,label,classes\na.jpg,0,0 1\nb.jpg,1,1\nz.jpg,1,1\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text("image_id,classes\na.jpg,0 4 5 6 8\nb.jpg,1 2 3 4 5\n")
    models = [tmp_path / f"{n}.csv" for n in ("one", "two")]
    for run in ("first", "second"):
        evaluate(tmp_path / "labels.csv", models, reading=Reading(dataset=run)).write(tmp_path / run)
    made, _ = compared([tmp_path / "first", tmp_path / "second"], tmp_path / "out")
    notes = json.loads(made.results.about["notes"])
    assert {n["dataset"] for n in notes} == {"first", "second"}
    assert set(json.loads(metadata(pq.read_schema(tmp_path / "out" / "drops.parquet"))["inputs"])) == {
        "first/results.parquet",
        "second/results.parquet",
    }


def test_metrics_of_the_same_images_differ_and_lose_nothing():
    """top1 → real1 lost −20.23 points."""
    ends = {"dataset_x": "a", "dataset_y": "a", "slice_x": "all", "slice_y": "all", "n_models": 24}
    row = {**ends, "metric_x": "top1", "metric_y": "real1", "n_x": 800, "n_y": 800, "drop": -0.2}
    row |= {"lo": -0.21, "hi": -0.18, "lo_models": -0.23, "hi_models": -0.17}
    assert [" ".join(line.split()) for line in drop_lines([row])] == [
        "a: differences in points, means over models",
        "metric difference 95 % over images 95 % over families models images",
        "real1 minus top1 20.00 18.00 to 21.00 17.00 to 23.00 24 800 → 800",
    ]
    lost = {**row, "dataset_y": "b", "metric_y": "top1", "drop": 0.2, "lo": 0.18, "hi": 0.21}
    assert next(iter(drop_lines([lost]))) == "a → b: points lost, means over models"


def test_results_in_memory_that_cannot_be_joined_have_no_names_in_the_message():
    y, scores = np.eye(3, dtype=int)[np.arange(60) % 3], np.random.default_rng(0).random((60, 3))
    first = evaluate(y, {"a": scores}, dataset="x", resamples=0, trust_order=True)
    second = evaluate(y[:30], {"b": scores[:30]}, dataset="x", resamples=0, trust_order=True)
    with pytest.raises(MatchError, match="evaluated in different ways") as caught:
        compare(first, second)
    assert "where" not in str(caught.value)

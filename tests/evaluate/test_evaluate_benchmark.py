"""The published benchmarks from end to end: the facts that others have computed come out."""

import functools
import re
from pathlib import Path

import polars as pl
import pytest

from evaluated import evaluated
from manyhot import compare, evaluate
from manyhot.errors import UnknownNameError
from manyhot.evaluate.describe import describe
from manyhot.run import Run


def read(table, folder):
    return pl.read_parquet(folder / f"{table}.parquet")


@pytest.fixture(scope="module")
def imagenet(mirror):
    """Return a reader of the tables of an evaluated benchmark."""
    return functools.partial(read, folder=evaluated("imagenet", mirror))


@pytest.fixture(scope="module")
def tsipras(mirror):
    return functools.partial(read, folder=evaluated("tsipras", mirror))


def mean_drop(tables, **where):
    (row,) = tables("drops").filter(pl.col("model").is_null(), **where).to_dicts()
    return row


def losses_by_model(results, first, second):
    """Return what each model loses between two selections of the results, which publications confirm."""
    both = results.filter(**first).join(results.filter(**second), on="model", how="inner")
    return both["value"] - both["value_right"]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["top1", "real1"])
def test_mean_drop_over_67_models(imagenet, metric):
    row = mean_drop(imagenet, metric_x=metric, dataset_y="imagenetv2-matched-frequency", metric_y=metric)
    datasets = ({"dataset": row[f"dataset_{end}"], "slice": "all", "metric": metric} for end in "xy")
    lost = losses_by_model(imagenet("results"), *datasets)
    assert row["n_models"] == len(lost) == 67
    assert row["drop"] == pytest.approx(lost.mean(), abs=1e-12)
    assert row["lo"] < row["drop"] < row["hi"]
    assert row["lo_models"] < row["drop"] < row["hi_models"]


@pytest.mark.slow
def test_the_mean_of_drops_is_that_of_its_models(imagenet):
    rows = imagenet("drops").filter(metric_x="real1", dataset_y="imagenetv2-matched-frequency")
    models = rows.drop_nulls("model")
    assert models.height == 67
    assert rows.filter(pl.col("model").is_null())["drop"].item() == pytest.approx(models["drop"].mean())


def test_real_labels_by_way_of_scores_are_those_of_real_json(imagenet):
    results = imagenet("results").filter(dataset="imagenet-val", model="resnet50", slice="all")
    values = dict(results.select("metric", "value").iter_rows())
    assert (round(values["top1"], 5), round(values["top5"], 5), round(values["real1"], 5)) == (
        0.76130,
        0.92862,
        0.82958,
    )
    # What was asked about is known now.
    assert 0 < values["real1_unasked"] < 1


def test_what_is_known_about_the_data_sets(imagenet):
    cards = {r["dataset"]: r for r in imagenet("datasets").to_dicts()}
    val, v2 = cards["imagenet-val"], cards["imagenetv2-matched-frequency"]
    # 0.8 keeps 32,442 of the pairs asked about; the other 25,111 labels are of images that nobody rated.
    assert val["confirmed"] == 32_442
    assert (val["rated"], val["asked"], val["labels"], val["empty"]) == (24_889, 184_962, 57_553, 3_163)
    assert (v2["rated"], v2["asked"], v2["empty"]) == (10_000, None, 129)
    assert val["licence"] == "Apache-2.0"
    assert "Beyer" in val["citation"]


def test_sensitivity_of_the_drop(imagenet):
    table = imagenet("sensitivity").filter(metric="real1")
    assert table["analysis"].to_list() == [
        "as published",
        "sizes of y",
        "sizes of x",
        "rated at x",
        "rated, sizes of y",
        *["threshold at x"] * 5,
    ]
    published = table.filter(analysis="as published").to_dicts()[0]
    # 7,443 of 46,837 and 4,788 of 9,871 label sets that are not empty.
    assert published["multi_x"] == pytest.approx(7443 / 46837)
    assert published["multi_y"] == pytest.approx(4788 / 9871)
    rated = table.filter(analysis="rated at x").to_dicts()[0]
    assert (rated["n_x"], rated["multi_x"]) == (21_726, pytest.approx(7443 / 21726))
    # A threshold of 0.8 is the published one, so those around it must lie close.
    around = table.filter(pl.col("threshold").is_in([0.7, 0.9]))["value_x"].to_list()
    assert around == pytest.approx([published["value_x"]] * 2, abs=0.01)


def test_pairs_that_change_order_are_those_of_the_values(imagenet):
    swaps = imagenet("swaps").filter(metric_x="top1", metric_y="real1", dataset_x="imagenet-val")
    ranks = imagenet("ranks").filter(metric_x="top1", metric_y="real1", dataset_x="imagenet-val")
    assert swaps.height == ranks["n_swapped"].item()
    assert swaps["beyond_noise"].sum() == ranks["n_beyond_noise"].item()
    assert (swaps["difference_x"] > 0).all()
    assert (swaps["difference_y"] < 0).all()


@pytest.mark.slow
def test_the_posters_figure(tsipras):
    """Top-1 by original labels of resnet50, on all images, on the 10,000, by number of objects."""
    rows = tsipras("results").filter(model="resnet50", metric="top1")
    values = {r["slice"]: (round(r["value"], 6), r["n"]) for r in rows.to_dicts()}
    assert values["all"] == (0.7613, 50_000)
    assert values["annotation=*"] == (0.7638, 10_000)
    assert values["n_objects=1"] == (0.762866, 4_605)
    assert values["n_objects>=2"] == (0.656308, 2_156)


@pytest.mark.slow
def test_the_effect_of_several_objects_over_64_networks(tsipras):
    slices = {"slice_x": "annotation=*", "slice_y": "n_objects>=2"}
    row = mean_drop(tsipras, **slices)
    networks = tsipras("results").filter(~pl.col("model").str.starts_with("fv_"), metric="top1")
    lost = losses_by_model(networks, *({"slice": name} for name in slices.values()))
    assert row["n_models"] == len(lost) == 64
    assert row["drop"] == pytest.approx(lost.mean(), abs=1e-12)
    drops = tsipras("drops").filter(**slices).drop_nulls("model")["drop"]
    assert sorted(drops) == pytest.approx(sorted(lost), abs=1e-12)


def test_what_a_benchmark_compares_is_compared_again(tsipras, tmp_path):
    again = compare(tsipras.keywords["folder"])
    drops = pl.DataFrame(pl.from_arrow(again.drops))
    kept = (
        "dataset_x",
        "metric_x",
        "slice_x",
        "dataset_y",
        "metric_y",
        "slice_y",
        "model",
        "drop",
        "n_models",
    )
    assert drops.select(kept).equals(tsipras("drops").select(kept))


def test_a_benchmark_of_models_that_it_leaves_out_nothing_of(mirror, monkeypatch):
    """Fisher vectors are left out of comparisons, if there are any."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = evaluate("tsipras", models=["resnet50", "vgg16"], metrics=["top1"], resamples=0)
    assert found.comparison.drops["n_models"].to_pylist()[0] == 2


def test_a_benchmarks_name_wins_over_a_folder_called_like_it(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet" / "report").mkdir(parents=True)
    description = describe("imagenet")
    assert description.datasets["dataset"].to_pylist() == ["imagenet-val", "imagenetv2-matched-frequency"]


def shown_models(**options):
    """Return the events that an evaluation reports, and its result."""
    lines = list[str]()
    run = Run(on_event=lambda kind, values: lines.append(values["text"]))
    return lines, lambda: evaluate("imagenet", metrics=["top1"], resamples=0, run=run, **options)


def test_the_models_of_a_data_set_are_shown_when_it_is_judged(mirror, monkeypatch):
    """The smaller data set first; the result keeps its order, and nothing is shown twice."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    lines, judge = shown_models(models=["resnet50", "vgg16"])
    found = judge()
    titles = [line for line in lines if "models" in line]
    assert [title.partition(":")[0] for title in titles] == [V2, V1]
    assert found.results["dataset"].unique().to_pylist() == [V1, V2]
    rest = [*found.stream(Run(on_event=lambda kind, values: None)).lines()]
    quiet = [*evaluate("imagenet", metrics=["top1"], resamples=0, models=["resnet50", "vgg16"]).lines()]
    assert sorted([*lines, *rest]) == sorted(quiet)
    assert not set(titles) & set(rest)


def test_no_models_are_shown_before_an_error(mirror, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    lines, judge = shown_models(models=["resnet50", "vgg16"], compare_with="absent")
    with pytest.raises(UnknownNameError):
        judge()
    assert lines == []


# What docs/guides/evaluate/comparison.md says came out.

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "guides" / "evaluate" / "comparison.md").read_text(encoding="utf-8")
V1, V2 = "imagenet-val", "imagenetv2-matched-frequency"


def shown(*heads):
    """Return the rows of the page's table that has these heads."""
    head = f"| {' | '.join(heads)} |"
    rows = PAGE.split(f"{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip(" `") for cell in row.strip("| ").split(" | ")] for row in rows]


def numbers(text):
    return [float(n.replace(",", "")) for n in re.findall(r"-?[\d,]*\d(?:\.\d+)?", text)]


def percent(row, *names):
    """Return what rounds to the points shown; another processor may round the last digit otherwise."""
    return pytest.approx([100 * row[name] for name in names], abs=0.0101)


def test_drops_in_the_docs(imagenet):
    rows = shown("metric", "points", "95 % over images", "95 % over families")
    assert len(rows) == 5
    for metric, *said in rows:
        row = mean_drop(imagenet, metric_x=metric, dataset_x=V1, dataset_y=V2)
        assert numbers(" ".join(said)) == percent(row, "drop", "lo", "hi", "lo_models", "hi_models"), metric


def test_objects_in_the_docs(tsipras):
    rows = shown("images", "slice", "n", "top-1 of resnet50", "mean of 64 networks")
    networks = tsipras("results").filter(~pl.col("model").str.starts_with("fv_"), metric="top1")
    for _, name, *said in rows:
        values = networks.filter(slice=name)
        resnet = values.filter(model="resnet50").row(0, named=True)
        assert values.height == 64
        mean = f"{values['value'].mean():.4f}"
        assert said == [f"{resnet['n']:,}", f"{round(resnet['value'], 6):g}", mean], name
    row = mean_drop(tsipras, slice_x="annotation=*", slice_y="n_objects>=2")
    begin = f"**{row['drop'] * 100:.3f} points** lower than on all 10,000 examined images (95 % interval "
    _, _, sentence = " ".join(PAGE.split()).partition(begin)
    told = sentence.partition("families")[0]
    assert numbers(told) == percent(row, "lo", "hi", "lo_models", "hi_models")


def test_sensitivity_in_the_docs(imagenet):
    rows = shown("analysis", "what it does", "drop of `top1`", "drop of `real1`")
    assert len(rows) == 7
    table = imagenet("sensitivity").filter(pl.col("threshold").is_null())
    for analysis, _, *said in rows[:-1]:
        for metric, text in zip(("top1", "real1"), (t for t in said if t != "–"), strict=False):
            (row,) = table.filter(metric=metric, analysis=analysis).to_dicts()
            assert numbers(text) == percent(row, "drop", "lo_models", "hi_models"), (analysis, metric)
    drops = imagenet("sensitivity").filter(metric="real1", analysis="threshold at x")["drop"]
    assert rows[-1][-1] == f"{100 * drops.min():.2f} to {100 * drops.max():.2f}"


def test_valid_errors_in_the_docs(imagenet):
    results = imagenet("results").filter(slice="all")
    for dataset, model, *said in shown("data set", "model", "top-1", "valid errors", "95 %", "n"):
        own = {r["metric"]: r for r in results.filter(dataset=dataset, model=model).to_dicts()}
        errors = own["valid_errors"]
        wanted = [own["top1"]["value"], errors["value"], errors["lo"], errors["hi"], errors["n"]]
        assert numbers(" ".join(said)) == pytest.approx(wanted, abs=1e-4), model


def test_orders_in_the_docs(imagenet):
    text = PAGE.split("Kendall's tau  pairs in another order  beyond noise\n", 1)[1].split("```", 1)[0]
    rows = [re.split(r" {2,}", line) for line in text.splitlines() if line != "…"]
    assert len(rows) == 4
    for x, y, *said in rows:
        (dataset_x, metric_x), (dataset_y, metric_y) = x.split(), y.split()
        (row,) = (
            imagenet("ranks")
            .filter(dataset_x=dataset_x, metric_x=metric_x, dataset_y=dataset_y, metric_y=metric_y)
            .to_dicts()
        )
        pairs = f"{row['n_swapped']} of {row['n_pairs']:,}"
        assert said == [f"{row['tau']:.3f}", pairs, str(row["n_beyond_noise"])], (x, y)
    swap = imagenet("swaps").filter(metric_y="asma", beyond_noise=True).row(0, named=True)
    assert (
        f"{swap['model_a']} is {100 * swap['difference_x']:.2f} points above {swap['model_b']} under `top1`, "
        f"and {-100 * swap['difference_y']:.2f} points below it under `asma`"
    ) in " ".join(PAGE.split())


def test_lines_in_the_docs(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    compare("timm-results").write(tmp_path)
    fits = pl.read_parquet(tmp_path / "fits.parquet").filter(models="all", metric_x="top1", metric_y="top1")
    for _, y, scale, *said in shown("from", "to", "scale", "slope", "95 % over families", "R²"):
        (row,) = fits.filter(dataset_y=y.partition("`")[0], scale=scale).to_dicts()
        wanted = [row[name] for name in ("slope", "slope_lo", "slope_hi", "r2")]
        assert numbers(" ".join(said)) == pytest.approx(wanted, abs=1e-3), (y, scale)

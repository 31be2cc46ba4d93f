"""Numbers and findings that others published: timm's tables, classified mistakes; and our own results."""

import json

import polars as pl
import pyarrow as pa
import pytest

import manyhot
from manyhot import read_labels, tables
from manyhot.classes import class_list
from manyhot.data.inputs import Reading
from manyhot.formats import detect, read_findings, read_results
from manyhot.formats.timm_files import with_pretraining

RESULTS = "aa4b5850c1543fa488abf260f18390eda46cf85d/results/"
EARLIER = "c9f208f7f8d5917f9a900ef2f96d9aa2ffb9264e/results/"


@pytest.fixture(scope="module")
def timm(published):
    """Return a function that reads one of timm's tables."""
    return lambda name, of=RESULTS: read_results(published(f"{of}{name}.csv"))


def value(results, model, metric):
    frame = pl.from_arrow(results.table)
    return frame.row(by_predicate=(pl.col("model") == model) & (pl.col("metric") == metric), named=True)


@pytest.mark.parametrize(
    ("name", "dataset", "n", "n_skipped"),
    [
        ("results-imagenet", "imagenet-val", 50_000, 0),
        ("results-imagenet-real", "imagenet-val", 46_837, 3_163),
        ("results-imagenetv2-matched-frequency", "imagenetv2-matched-frequency", 10_000, 0),
        ("results-imagenet-a", "imagenet-a", 7_500, 0),
        ("results-imagenet-a-clean", "imagenet-val-a-classes", 10_000, 0),
        ("results-imagenet-r", "imagenet-r", 30_000, 0),
        ("results-imagenet-r-clean", "imagenet-val-r-classes", 10_000, 0),
        ("results-sketch", "imagenet-sketch", 50_889, 0),
    ],
)
def test_every_table_of_timm(timm, name, dataset, n, n_skipped):
    results = timm(name)
    frame = pl.from_arrow(results.table)
    assert frame["model"].n_unique() == 1_556
    assert frame["model"].str.extract(r"^(.*)@\d+$").n_unique() == 1_266
    metrics = ["real1", "real5"] if "real" in name else ["top1", "top5"]
    assert frame["metric"].unique(maintain_order=True).to_list() == metrics
    assert len(frame) == 2 * 1_556
    assert frame.select("dataset", "slice", "n", "n_skipped").unique().rows() == [
        (dataset, "all", n, n_skipped)
    ]
    assert ((frame["lo"] < frame["value"]) & (frame["value"] < frame["hi"])).all()
    # All are shares of n images; rounded twice, some miss a whole count by more than 5e-6 n.
    count = frame["value"] * n
    assert ((count - count.round()).abs() <= 6e-6 * n).all()
    assert len(results.models) == 1_556


def test_numbers_of_timm(timm):
    # Read off the files of the release.
    best = "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k@448"
    val = value(timm("results-imagenet"), best, "top1")
    assert val["value"] == pytest.approx(0.90056, abs=1e-12)
    assert value(timm("results-imagenet"), best, "top5")["value"] == pytest.approx(0.99054, abs=1e-12)
    assert value(timm("results-imagenet-real"), best, "real1")["value"] == pytest.approx(0.91144, abs=1e-12)
    assert value(timm("results-sketch"), "vit_so400m_patch14_siglip_378.webli_ft_in1k@378", "top1")[
        "value"
    ] == pytest.approx(0.71489, abs=1e-12)
    # Wilson's interval of 45,028 of 50,000, worked out by hand.
    assert (val["lo"], val["hi"]) == pytest.approx((0.897906, 0.903152), abs=1e-6)


def test_models_of_timm(timm):
    models = pl.from_arrow(timm("results-imagenet-real").models)
    giant = models.row(by_predicate=pl.col("model") == "eva_giant_patch14_336.clip_ft_in1k@336", named=True)
    assert (giant["params"], giant["img_size"], giant["family"]) == (1013.01, 336, "vit")
    assert models["params"].null_count() == 0


def test_drop_from_imagenet_to_v2(timm):
    # The mean drop over 1,556 models and its 5 and 95 % quantiles, from the published differences.
    frames = [
        pl.from_arrow(timm(name).table).filter(pl.col("metric") == "top1").select("model", "value")
        for name in ("results-imagenet", "results-imagenetv2-matched-frequency")
    ]
    joined = frames[0].join(frames[1], on="model")
    drop = (joined["value"] - joined["value_right"]) * 100
    assert len(drop) == 1_556
    assert drop.mean() == pytest.approx(10.85, abs=0.005)
    assert drop.quantile(0.05) == pytest.approx(8.9, abs=0.05)
    assert drop.quantile(0.95) == pytest.approx(12.7, abs=0.05)


def test_tables_of_2022(timm):
    results = timm("results-imagenet", EARLIER)
    assert len(results.models) == 590
    assert value(results, "beit_large_patch16_512@512", "top1")["value"] == pytest.approx(0.886, abs=1e-12)
    assert pl.from_arrow(results.models)["pretraining"].null_count() == 590


def test_tables_of_timm_say_what_their_metrics_are(timm):
    told = json.loads(timm("results-imagenet-real").about["metrics"])
    assert told["real1"] == {
        "label": "ReaL",
        "definition": "Share of images whose top class is in the label set. "
        "Images with an empty label set are skipped, as in the paper.",
        "better": "higher",
        "unit": "share",
    }
    assert set(told) == {"real1", "real5"}


HEAD = "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation\n"


NO_SHARE = "This is not an accuracy in percent.\n  where:   {}, model m\n  got:     "


NOT_WHOLE = (
    "The accuracy and the error of a model do not add up to 100 percent.\n  where:   {{}}, model m@224\n"
    "  got:     {0} {1}, {0}_err {2}\n  allowed: {0} and {0}_err that add up to 100\n"
    "  do:      create or download it again"
)


def timm_csv(path, *rows):
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows))
    return path


def test_table_of_another_name(tmp_path, message):
    path = timm_csv(tmp_path / "mine.csv", "resnet50,224,80.0,20.0,95.0,5.0,25.56,0.95,bicubic")
    names = (
        "imagenet-sketch, imagenet-val-r-classes, imagenet-r, imagenet-val-a-classes, imagenet-a, "
        "imagenetv2-matched-frequency, imagenet-val, imagenet, imagenet-real, imagenet-a-clean, "
        "imagenet-r-clean, sketch"
    )
    do = (
        "  do:      rename it to results-NAME.csv, or pass dataset=NAME in Python; for another data "
        "set, write a results table, which has a column n"
    )
    assert message(lambda: read_results(path)) == (
        "The file name does not contain the data set of these results.\n"
        f"  where:   {path}\n  got:     mine.csv\n  allowed: {names}\n{do}"
    )
    assert message(lambda: read_results(path, dataset="pets")) == (
        "The number of images of this data set is unknown.\n"
        f"  where:   {path}\n  got:     pets\n  allowed: {names}\n{do}"
    )
    assert value(read_results(path, dataset="imagenet-val"), "resnet50@224", "top1")["n"] == 50_000
    assert value(read_results(path, dataset="imagenet-real"), "resnet50@224", "real1")["n"] == 46_837


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            "m,224,101.0,0,99,0,1,1,bicubic",
            NO_SHARE + "top1 101.0\n  allowed: 0 to 100",
        ),
        (
            "m,224,80,0,nan,0,1,1,bicubic",
            NO_SHARE + "top5 nan\n  allowed: 0 to 100",
        ),
        (
            "m,224,high,0,90,0,1,1,bicubic",
            NO_SHARE + "top1 high\n  allowed: 0 to 100",
        ),
        (
            "m,224,80,0,90,0,1,1,bicubic\nm,224,80,0,90,0,1,1,bicubic",
            "A model occurs twice in the table.\n  where:   {}\n  got:     m@224",
        ),
        (
            "m,224,0.80212,0.19788,0.94604,0.05396,1,1,bicubic",
            "These look like fractions, not percents.\n  where:   {}, model m@224\n"
            "  got:     top1 0.80212, top1_err 0.19788\n  allowed: top1 and top1_err that add up to 100\n"
            "  do:      multiply accuracies and errors by 100",
        ),
        (
            "m,224,80.2,80.2,94.6,5.4,1,1,bicubic",
            NOT_WHOLE.format("top1", "80.2", "80.2"),
        ),
        (
            "m,224,80.2,19.8,94.6",
            NOT_WHOLE.format("top5", "94.6", "None"),
        ),
        (
            "m,224,94.6,5.4,80.2,19.8,1,1,bicubic",
            "The top-5 accuracy of a model is below its top-1 accuracy.\n  where:   {}, model m@224\n"
            "  got:     top5 80.2, top1 94.6\n  allowed: top5 of at least top1",
        ),
        (
            "m,224,80,20,90,10,1,1,bicubic\n,224,80,20,90,10,1,1,bicubic",
            "A model has no name.\n  where:   {}, row 1\n  allowed: text in each row",
        ),
    ],
)
def test_strange_rows_of_timm(tmp_path, message, row, said):
    path = timm_csv(tmp_path / "results-imagenet.csv", row)
    assert message(lambda: read_results(path)) == said.format(path)


def test_table_without_top_5(tmp_path, message):
    path = tmp_path / "results-imagenet.csv"
    path.write_text("model,top1,top1_err\nm,80,20\n")
    assert message(lambda: read_results(path)) == (
        f"The table lacks the column 'top5'.\n  where:   {path}\n  got:     model, top1, top1_err"
    )


@pytest.fixture
def evaluated(tmp_path):
    """Return the folder of an evaluation."""
    results = manyhot.evaluate(
        [[0], [1]], {"a": [[0], [1]], "b": [[1], [1]]}, resamples=5, reading=Reading(n_classes=2)
    )
    results.write(tmp_path / "out")
    return tmp_path / "out", results


def test_own_results(evaluated):
    folder, results = evaluated
    for path in (folder / "results.parquet", folder / "results.csv"):
        again = read_results(path)
        assert pl.from_arrow(again.table).equals(results.to_polars())
        assert not len(again.pairs)
        assert detect(path).name == "results-table"
    assert (
        json.loads(read_results(folder / "results.parquet").about["metrics"])["real1"]["better"] == "higher"
    )
    whole = read_results(folder)
    assert len(whole.pairs) == len(results.pairs) > 0


def test_results_of_one_data_set(tmp_path, message):
    path = tmp_path / "r.csv"
    path.write_text(
        "dataset,model,metric,slice,value,n,n_skipped\nd,m,top1,all,0.5,4,0\ne,m,top1,all,0.25,4,0\n"
    )
    assert read_results(path, dataset="e").table["value"].to_pylist() == [0.25]
    assert read_results(path).table["lo"].to_pylist() == [None, None]
    assert message(lambda: read_results(path, dataset="f")) == (
        f"The results are on other data sets.\n  where:   {path}\n  got:     f\n  allowed: d, e"
    )
    path.write_text("model,metric,slice,value,n,n_skipped\nm,top1,all,0.5,4,0\n")
    assert read_results(path, dataset="mine").datasets == ["mine"]
    assert message(lambda: read_results(path)) == (
        f"The results table lacks the column 'dataset'.\n  where:   {path}\n"
        "  got:     model, metric, slice, value, n, n_skipped, lo, hi\n"
        "  allowed: dataset, model, metric, slice, value, lo, hi, n, n_skipped, estimator, n_audited, alone"
    )


def test_a_number_of_images_that_no_table_can_hold(tmp_path, message):
    path = tmp_path / "r.csv"
    path.write_text("dataset,model,metric,value,n\nd,m,top1,0.5,99999999999999999999999\n")
    assert message(lambda: read_results(path)) == (
        f"A number is too large.\n  where:   {path}, column n\n  got:     99999999999999999999999\n"
        "  allowed: 64-bit integers"
    )


def test_results_are_no_labels(evaluated, message):
    folder, _ = evaluated
    text = message(lambda: read_labels(folder / "results.csv"))
    assert text.startswith(
        f"The file does not contain labels.\n  where:   {folder / 'results.csv'}\n"
        "  got:     results (results-table)\n"
    )
    assert message(lambda: read_labels(folder / "results.csv", format="results-table")).startswith(
        "The format 'results-table' does not contain labels.\n"
        f"  where:   {folder / 'results.csv'}\n  got:     results-table, which contains results\n"
        "  allowed: campaign ("
    )


@pytest.mark.parametrize(
    ("name", "n", "categories", "severities"),
    [
        (
            "vit3b",
            378,
            {
                "fine-grained": 241,
                "fine-grained, out of vocabulary": 54,
                "spurious correlation": 52,
                "non-prototypical": 30,
                "fine-grained, several labels": 1,
            },
            {"major": 154, "minor": 150, "borderline": 74},
        ),
        (
            "greedy_soups",
            249,
            {
                "fine-grained": 172,
                "fine-grained, out of vocabulary": 26,
                "spurious correlation": 32,
                "non-prototypical": 19,
            },
            {"major": 89, "minor": 111, "borderline": 49},
        ),
    ],
)
def test_published_mistakes(release, name, n, categories, severities):
    folder = release("imagenet-mistakes", f"{name}_mistakes.json")
    found = pl.from_arrow(read_findings(folder / f"{name}_mistakes.json"))
    assert len(found) == found["image_id"].n_unique() == n
    assert dict(found["category"].value_counts().rows()) == categories
    assert dict(found["severity"].value_counts().rows()) == severities
    assert found.select("kind", "model").unique().rows() == [("mistake", name)]
    assert found["class_b"].is_between(0, len(class_list()) - 1).all()


MISTAKE = {"top_prediction": 192, "failure category": "Fine-grained error", "failure severity": "Minor"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"failure category": "typo"},
            "There is no such category.\n  where:   {}, image a.JPEG\n  got:     typo\n"
            "  allowed: Fine-grained error; Fine-grained error with OOV; Fine-grained with OOV; "
            "Fine-grained with Multilabel Options; Spurious Correlation; Non-prototypical",
        ),
        (
            {"failure severity": "typo"},
            "There is no such severity.\n  where:   {}, image a.JPEG\n  got:     typo\n"
            "  allowed: Major, Minor, Borderline",
        ),
        (
            {"top_prediction": 1000},
            "This is not a class.\n  where:   {}, image a.JPEG\n  got:     1000\n  allowed: 0 to 999",
        ),
        (
            {"failure category": []},
            "There is no such category.\n  where:   {}, image a.JPEG\n  got:     []\n"
            "  allowed: Fine-grained error; Fine-grained error with OOV; Fine-grained with OOV; "
            "Fine-grained with Multilabel Options; Spurious Correlation; Non-prototypical",
        ),
        (
            {"top_prediction": "9" * 5000},
            "This is not a class.\n  where:   {}, image a.JPEG\n  got:     '" + "9" * 78 + "…\n"
            "  allowed: 0 to 999",
        ),
    ],
)
def test_strange_mistakes(tmp_path, message, change, said):
    path = tmp_path / "vit3b_mistakes.json"
    path.write_text(json.dumps({"a.JPEG": MISTAKE | change}))
    assert message(lambda: read_findings(path)) == said.format(path)


def test_one_image_under_two_paths(tmp_path, message):
    path = tmp_path / "vit3b_mistakes.json"
    path.write_text(json.dumps({"a.JPEG": MISTAKE, "x/a.JPEG": MISTAKE}))
    assert message(lambda: read_findings(path)) == (
        f"An image is listed more than once.\n  where:   {path}\n  got:     1 id, such as a.JPEG\n"
        "  allowed: each image_id once\n  do:      retain one row per image"
    )


def test_own_findings(tmp_path):
    found = pa.table({"kind": ["mistake"], "image_id": ["a"], "severity": ["minor"]})
    tables.write(found, tmp_path / "findings.parquet", "findings")
    assert read_findings(tmp_path / "findings.parquet").column_names == ["kind", "image_id", "severity"]


def test_pretraining_of_models_whose_names_tell_none(published, tmp_path):
    """timm's own table of pretraining, for names without a tag."""
    source = published("c9f208f7f8d5917f9a900ef2f96d9aa2ffb9264e/results/results-imagenet.csv")
    (tmp_path / "results-imagenet.csv").write_bytes(source.read_bytes())
    results = read_results(tmp_path / "results-imagenet.csv")
    assert results.models["pretraining"].null_count == 590
    told = with_pretraining(results, published("results/model_metadata-in1k.csv"))
    rows = zip(told.models["model"].to_pylist(), told.models["pretraining"].to_pylist(), strict=True)
    known = dict(rows)
    assert known["tf_efficientnet_l2_ns@800"] == "jft"  # jft300m-ns
    assert known["beit_large_patch16_512@512"] == "in-21k/22k"  # in21k-selfsl
    assert known["resnext101_32x8d@224"] == "in-1k"
    assert known["ig_resnext101_32x48d@224"] == "ig-1b"
    assert told.models["pretraining"].null_count < 120


@pytest.mark.parametrize(("name", "n"), [("vit3b", 378), ("greedy_soups", 249)])
def test_mistakes_as_labels(release, name, n):
    path = release("imagenet-mistakes", f"{name}_mistakes.json") / f"{name}_mistakes.json"
    labels = read_labels(path, format="imagenet-mistakes-labels")
    mistakes = json.loads(path.read_text(encoding="utf-8"))
    wanted = {image.rpartition("/")[2]: [m["top_prediction"]] for image, m in mistakes.items()}
    rows = labels.table.to_pylist()
    assert len(rows) == n
    assert {row["image_id"]: row["classes"] for row in rows} == wanted
    assert {tuple(row["state"]) for row in rows} == {("no",)}
    assert labels.asked_known
    assert labels.name == f"mistakes of {name}"

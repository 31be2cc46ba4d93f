"""Published results of many models: made tables, and the files themselves."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import linregress

from manyhot import compare
from manyhot.errors import InputError
from manyhot.formats import detect, read_results


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_openclip_has_a_column_for_each_data_set(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "name,pretrained,params (M),ImageNet 1k,Caltech-101,ImageNet v2\n"
        "ViT-B-32,openai,151,0.6332,0.9,0.5593\nb,x,1,0.5,0.8,\n",
    )
    assert detect(path, ("results",)).name == "openclip-results"
    rows = read_results(path).table.to_pylist()
    assert [(r["dataset"], r["model"], r["metric"], r["value"], r["n"]) for r in rows] == [
        ("imagenet-val", "ViT-B-32/openai", "top1", 0.6332, 50_000),
        ("imagenet-val", "b/x", "top1", 0.5, 50_000),
        ("imagenetv2-matched-frequency", "ViT-B-32/openai", "top1", 0.5593, 10_000),
    ]
    z, p, n = 1.959964, 0.6332, 50_000  # Wilson 1927
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    assert (rows[0]["lo"], rows[0]["hi"]) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_the_testbed_is_in_percent(tmp_path):
    path = write(tmp_path / "a.csv", "model,val,imagenetv2-matched-frequency,pgd\na,76.13,63.33,1\n")
    found = read_results(path, dataset="imagenetv2-matched-frequency").table.to_pylist()
    assert [(r["model"], r["value"], r["n"]) for r in found] == [("a", 0.6333, 10_000)]


def test_clip_benchmark_has_a_row_for_each_data_set(tmp_path):
    path = write(
        tmp_path / "a.csv",
        "acc1,acc5,dataset,model,pretrained\n0.5,0.9,imagenet1k,a,x\n0.4,0.8,fer2013,a,x\n",
    )
    rows = read_results(path).table.to_pylist()
    assert [(r["dataset"], r["metric"], r["value"]) for r in rows] == [
        ("imagenet-val", "top1", 0.5),
        ("imagenet-val", "top5", 0.9),
    ]


def test_holes_are_models_that_were_not_evaluated(tmp_path):
    """Empty cells, blanks, whole columns without a value, and columns that a table lacks."""
    path = write(
        tmp_path / "a.csv",
        "name,pretrained,ImageNet 1k,ImageNet v2,ImageNet-A\na,openai,0.5,  ,\nb,laion2b_e16,,0.4,\n",
    )
    found = read_results(path)
    rows = [(r["dataset"], r["model"], r["value"]) for r in found.table.to_pylist()]
    assert rows == [
        ("imagenet-val", "a/openai", 0.5),
        ("imagenetv2-matched-frequency", "b/laion2b_e16", 0.4),
    ]
    assert found.models["family"].to_pylist() == ["openai", "laion"]


def test_families_of_zero_shot_models_are_their_training_data(published):
    """85 of 121 models are vision transformers: families of architectures would say little."""
    models = pl.from_arrow(read_results(published("openclip_results.csv")).models)
    counts = dict(models["family"].value_counts().iter_rows())
    assert (counts["laion"], counts["datacomp"], counts["openai"], counts["webli"]) == (41, 34, 12, 9)
    assert sum(counts.values()) == 121
    assert counts["nllb"] == 4  # whose pretraining is only called v1: the architecture
    by_tag = models.with_columns(tag=pl.col("model").str.split("/").list.last())
    assert set(by_tag.filter(family="laion")["tag"].str.extract(r"(laion)").to_list()) == {"laion"}


@pytest.mark.parametrize(
    ("cell", "got"),
    [("63.3", "ImageNet 1k 63.3"), ("-0.1", "ImageNet 1k -0.1"), ("none", "ImageNet 1k none")],
)
def test_values_that_are_no_shares_are_refused(tmp_path, cell, got):
    path = write(tmp_path / "a.csv", f"name,pretrained,ImageNet 1k\na,x,{cell}\n")
    with pytest.raises(InputError) as error:
        read_results(path)
    assert str(error.value).splitlines() == [
        "This is not an accuracy.",
        f"  where:   {path}, model a/x",
        f"  got:     {got}",
        "  allowed: 0 to 1, or nothing if the model was not evaluated",
    ]


def test_a_model_that_occurs_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "name,pretrained,ImageNet 1k\na,x,0.5\na,x,0.6\n")
    with pytest.raises(InputError, match="A model occurs twice in the table"):
        read_results(path)


def test_a_data_set_that_the_table_lacks_is_named(tmp_path):
    path = write(tmp_path / "a.csv", "name,pretrained,ImageNet 1k\na,x,0.5\n")
    with pytest.raises(InputError) as error:
        read_results(path, dataset="imagenet-r")
    assert str(error.value).splitlines()[-1] == "  allowed: imagenet-val"


def test_zero_shot_models_lose_as_much_as_published(published):
    """open_clip's own table: a mean drop of 6.376 points over 121 models."""
    path = published("openclip_results.csv")
    frame = pl.read_csv(path)
    drop = 100 * (frame["ImageNet 1k"] - frame["ImageNet v2"]).mean()
    found = compare(path).mean_drop("top1", y="imagenetv2-matched-frequency")[0]
    assert 100 * found == pytest.approx(drop, abs=1e-3)
    assert round(100 * found, 3) == 6.376


def test_top1_and_multi_label_accuracy_are_on_a_line(published):
    """Peychev et al.: R² .9963 over 962 networks."""
    path = published("stats-imagenet/non_problematic_stats_all.csv")
    frame = pl.read_csv(path, infer_schema_length=None)
    line = linregress(frame["imagenet_top1_val_acc"], frame["imagenet_mla_val_acc"])
    (fit,) = (row for row in compare(path).fits.to_pylist() if row["scale"] == "plain")
    assert (fit["n"], fit["metric_x"], fit["metric_y"]) == (962, "top1", "mla")
    assert fit["slope"] == pytest.approx(line.slope, rel=1e-4)
    assert round(fit["r2"], 4) == round(line.rvalue**2, 4) == 0.9963


def test_the_testbed_agrees_with_predictions(published):
    """resnet50: 76.130 % on the validation set, as one of the 67 models has it, and 63.33 on V2."""
    rows = pl.from_arrow(read_results(published("robustness_top1s.csv")).table).filter(model="resnet50")
    values = dict(rows.select("dataset", "value").iter_rows())
    assert round(100 * values["imagenet-val"], 3) == 76.13
    assert round(100 * values["imagenetv2-matched-frequency"], 2) == 63.33
    assert round(100 * values["imagenet-a"], 2) == 0.0


def test_clip_benchmark_is_read_whole(published):
    rows = pl.from_arrow(
        read_results(
            published("CLIP_benchmark/48de38c1689fa6d8b4dd53e3370c669c3bb18117/benchmark/benchmark.csv")
        ).table
    )
    assert rows.filter(dataset="imagenet-val", metric="top1").height == 13
    assert rows["dataset"].n_unique() == 10


def test_a_model_without_a_name_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "name,pretrained,ImageNet 1k\na,x,0.5\nb,,0.6\n")
    with pytest.raises(InputError) as error:
        read_results(path)
    assert str(error.value).splitlines() == [
        "A model has no name.",
        f"  where:   {path}, row 1",
        "  allowed: name and pretrained in each row",
    ]

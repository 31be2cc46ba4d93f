"""`manyhot benchmarks`: our numbers against NumPy alone, and what is said of those that differ."""

import csv
import importlib.util
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from manyhot import cli, run_benchmarks
from manyhot.diagnose.benchmarks import run_benchmarks as module
from manyhot.diagnose.benchmarks.run_benchmarks import published_entries, select_entries
from saved_by_hand import save_counts, save_multilabel
from skipping import missing

ROOT = Path(__file__).parents[3]
REAL = "reassessed-imagenet/bcd006fe12e929f055e0ec7fe39dbf4d64a6881a/real.json"
PEOPLE = ("northcutt-2021-mnist", "vasudevan-2022*")


class Files:
    """The published files, read with NumPy and JSON alone."""

    def __init__(self, mirror):
        self.archive = zipfile.ZipFile(mirror)
        self.names = self.archive.namelist()

    def bytes(self, ending):
        (name,) = (n for n in self.names if n.endswith(ending))
        return self.archive.read(name)

    def json(self, ending):
        return json.loads(self.bytes(ending))

    def array(self, ending):
        return np.load(io.BytesIO(self.bytes(ending)))

    def rows(self, ending):
        return list(csv.DictReader(io.StringIO(self.bytes(ending).decode())))


@pytest.fixture(scope="module")
def files(mirror):
    return Files(mirror)


@pytest.fixture
def computed(mirror, monkeypatch):
    """Return a function that computes numbers, by name and subject."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))

    def run(*names):
        found = run_benchmarks(only=names).benchmarks.to_pylist()
        return {(row["name"], row["subject"]): row for row in found}

    return run


# Independent values.


def test_answers_of_people(computed, files):
    found = computed(*PEOPLE)
    given = [row["mturk"].get("given", 0) for row in files.json("mturk/mnist_mturk.json")]
    row = found["northcutt-2021-mnist", "mnist"]
    assert (row["value"], row["n"]) == (sum(n < 3 for n in given), len(given))
    mistakes = files.json("vit3b_mistakes.json").values()
    major = np.mean([m["failure severity"] == "Major" for m in mistakes])
    row = found["vasudevan-2022-major", "vit3b"]
    assert (row["value"], row["n"]) == (pytest.approx(100 * major), 378)
    z, p, n = 1.959964, major, 378  # Wilson 1927
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    assert (row["lo"], row["hi"]) == pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-4)


def test_counts_of_answers(computed, files, require):
    save_counts(files.bytes("cifar10h-counts.npy"))
    counts, label = files.array("cifar10h-counts.npy"), files.array("cifar10_test_set_original_labels.npy")
    row = computed("peterson-2019")["peterson-2019", None]
    assert row["value"] == pytest.approx(100 * counts[np.arange(10_000), label].sum() / counts.sum())
    assert row["n"] == counts.sum()


def test_tables_of_others(computed, files):
    found = computed("hendrycks-2020", "yun-2019", "ilharco-2021-average", "radford-2021")
    rows = {row["model"]: row for row in files.rows("robustness_top1s.csv")}
    assert found["yun-2019", "resnet50_cutmix"]["value"] == pytest.approx(
        100 - float(rows["resnet50_cutmix"]["val"])
    )
    openclip = {
        f"{r['name']}/{r['pretrained']}": list(r.values()) for r in files.rows("openclip_results.csv")
    }
    values = list(map(float, openclip["ViT-B-32/openai"][5:]))
    assert found["ilharco-2021-average", "ViT-B-32/openai"]["value"] == pytest.approx(np.mean(values))
    assert found["radford-2021", "ViT-B-32/openai"]["value"] == pytest.approx(100 * values[0])
    # Errors of each corruption relative to AlexNet's mean errors: hendrycks/robustness, ImageNet-C/test.py.
    alexnet = {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    }
    augmix = rows["resnet50_augmix"]
    ratios = [
        np.mean([1 - float(augmix[f"imagenet-c.{c}.{s}_on-disk"]) / 100 for s in range(1, 6)]) / of
        for c, of in alexnet.items()
    ]
    assert found["hendrycks-2020", "resnet50_augmix"]["value"] == pytest.approx(
        100 * np.mean(ratios), abs=0.01
    )


@pytest.mark.slow
def test_predictions_and_label_sets(computed, files):
    found = computed(
        *("torchvision-top*", "hu-2018", "wightman-2024-real", "taori-2020-v2", "recht-2019"),
        *("kisel-2025-*", "anzaku-202*"),
    )
    pairs = files.json("imagenet-validation-original.json")["image_filenames"]
    keys = sorted({key for _, key in pairs})
    label = np.array([keys.index(key) for _, key in pairs])
    real = files.json(REAL)
    sets = [set(real[int(name.rpartition("/")[2][15:23]) - 1]) for name, _ in pairs]
    v2 = np.array([keys.index(key) for _, key in files.json("imagenetv2-b-33.json")["image_filenames"]])

    def first(model, folder="imagenet-validation-original"):
        return files.array(f"{folder}/{model}.npy")[:, 0]

    for name, model in (("torchvision-top1", "resnet50"), ("torchvision-top1", "vgg16")):
        assert found[name, model]["value"] == pytest.approx(100 * np.mean(first(model) == label))
    five = files.array("imagenet-validation-original/resnet50.npy")
    top5 = np.mean((five == label[:, None]).any(axis=1))
    assert found["torchvision-top5", "resnet50"]["value"] == pytest.approx(100 * top5)
    assert found["hu-2018", "senet154"]["value"] == pytest.approx(100 * np.mean(first("senet154") != label))
    right = [top in own for top, own in zip(first("resnet101"), sets, strict=True) if own]
    row = found["wightman-2024-real", "resnet101"]
    assert (row["value"], row["n"]) == (pytest.approx(100 * np.mean(right)), 46_837)
    assert found["taori-2020-v2", "resnet50"]["value"] == pytest.approx(
        100 * np.mean(first("resnet50", "imagenetv2-b-33") == v2)
    )
    models = [
        n.rpartition("/")[2][:-4] for n in files.names if "/imagenetv2-b-33/" in n and n.endswith("npy")
    ]
    losses = [
        np.mean(first(m) == label) - np.mean(first(m, "imagenetv2-b-33") == v2)
        for m in models
        if not m.startswith("fv_")
    ]
    assert found["recht-2019", "smallest"]["value"] == pytest.approx(100 * min(losses))
    assert found["recht-2019", "largest"]["value"] == pytest.approx(100 * max(losses))
    sizes = np.array([len(own) for own in sets])
    assert found["kisel-2025-real", "several"]["value"] == pytest.approx(100 * np.mean(sizes > 1))
    assert found["kisel-2025-real", "none"]["value"] == pytest.approx(100 * np.mean(sizes == 0))
    assert found["anzaku-2025", "imagenet-val"]["value"] == pytest.approx(100 * np.mean(sizes[sizes > 0] > 1))
    lists = files.json("imagenetv2_refined_labels.json")
    counts = np.array([len(own) for own in lists.values()])
    assert found["anzaku-2023", "several"]["value"] == pytest.approx(100 * np.mean(counts > 1))


# The whole.


@pytest.fixture(scope="module")
def whole(mirror, require, tmp_path_factory):
    """The tables that the docs show, of all commands that make them, without their reports."""
    import manyhot

    if importlib.util.find_spec("imagenet_x") is None:
        missing("the Python package imagenet-x (pip install --group published)")
    folder = tmp_path_factory.mktemp("numbers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHOT_MIRROR", str(mirror))
        save_multilabel(require)
        save_counts(Files(mirror).bytes("cifar10h-counts.npy"))
        run_benchmarks().write(folder / "benchmarks")
        difficulty = manyhot.diagnose_difficulty("imagenet-val").tables
        drops = manyhot.evaluate("imagenet").comparison.drops
        ratios = manyhot.evaluate("imagenet-x").error_ratios
    made = {"difficulty": difficulty, "imagenet": {"drops": drops}, "imagenet-x": {"error_ratios": ratios}}
    for place, named in made.items():
        (folder / place).mkdir()
        for name, table in named.items():
            pq.write_table(table, folder / place / f"{name}.parquet")
    return folder


@pytest.mark.slow
def test_no_number_differs(whole):
    table = pl.read_parquet(whole / "benchmarks" / "benchmarks.parquet")
    assert set(table.filter(verdict="not computed")["name"]) == {"vasudevan-2022-imagenet-m"}
    assert table.filter(verdict="different").is_empty()
    assert table.filter(pl.col("verdict") == "close")["reason"].str.len_chars().min() > 0
    assert table.height == sum(len(entry.values) for entry in published_entries())


@pytest.mark.slow
def test_the_numbers_of_the_docs(whole):
    spec = importlib.util.spec_from_file_location("build_numbers", ROOT / "tools" / "build_numbers.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    committed = ROOT / "docs" / "numbers"
    for name, made in (("benchmarks", tool.numbers(whole)), ("findings", tool.findings(whole))):
        assert made == (committed / f"{name}.csv").read_text(encoding="utf-8"), (
            f"docs/numbers/{name}.csv: run tools/build_numbers.py"
        )


# What is said.


@pytest.mark.parametrize(
    ("published", "unit", "value", "shown"),
    [
        ("89.8", "%", 89.848, "89.8"),
        ("0.741227", "", 0.7412274995, "0.741227"),
        ("76.13", "%", 76.125, "76.125"),  # equal, but Python rounds it to 76.12
        ("76.13", "%", 76.136, "76.136"),
        ("21", "%", 21.62, "21.6"),
        ("15", "%", 14.886, "15"),
        ("0.6930", "", 0.69304, "0.6930"),
        ("7354", "", 7354, "7354"),
        ("54", "", 55, "55"),
        ("68", "", None, "–"),
    ],
)
def test_our_value_has_the_published_digits_unless_it_differs(published, unit, value, shown):
    assert module.shown_value({"published": published, "unit": unit, "value": value}) == shown


@pytest.mark.parametrize(
    ("rows", "farthest"),
    [
        ([("a", "equal", 0.04), ("b", "close", 0.013)], "b"),
        ([("a", "close", -0.02), ("b", "close", 0.013)], "a"),
        ([("b", "equal", 0.04), ("a", "equal", -0.04 + 1e-13)], "a"),
        ([("b", "not computed", None), ("a", "equal", 0.04)], "b"),
        ([("a", "not computed", None), ("b", "close", 0.01)], "b"),
    ],
)
def test_the_farthest_number_is_not_equal_if_one_is_not(rows, farthest):
    own = [{"name": "n", "subject": s, "verdict": v, "difference": d} for s, v, d in rows]
    for order in (own, own[::-1]):
        (summary,) = module.summaries(order)
        assert summary.farthest["subject"] == farthest


def test_a_number_that_differs(monkeypatch, mirror):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    (entry,) = select_entries(["northcutt-2021-mnist"])
    changed = replace(entry, values={"mnist": "16"})
    monkeypatch.setattr(module, "select_entries", lambda only: (changed,))
    found = run_benchmarks()
    assert found.exit_code == 1
    assert list(found.lines())[-2:] == [
        "1 number of 1 publication: 1 different",
        "different: northcutt-2021-mnist of mnist, 16, ours 15",
    ]
    (row,) = found.benchmarks.to_pylist()
    assert (row["difference"], row["verdict"], row["reason"]) == (-1, "different", "")


def test_numbers_without_data_are_said(monkeypatch, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(tmp_path))
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))
    found = run_benchmarks(only=["yun-2019", "peterson-2019", "vasudevan-2022-imagenet-m"])
    assert found.exit_code == 0
    assert {row["verdict"] for row in found.benchmarks.to_pylist()} == {"not computed"}
    assert {row["value"] for row in found.benchmarks.to_pylist()} == {None}
    assert [note.partition(" (")[0].removeprefix("not computed: ") for note in found.notes] == [
        "vasudevan-2022-imagenet-m: No file of the catalogue lists the images of ImageNet-M",
        "peterson-2019: cifar10h-counts.npy must be downloaded by hand",
        "yun-2019: robustness_top1s.csv is not in the cache and could not be read from the mirror",
    ]


def test_files_that_are_not_there_are_looked_for_once(monkeypatch, tmp_path):
    from manyhot.diagnose.benchmarks import measures

    asked = []

    def fetch_file(name, file):
        asked.append(file)
        raise measures.InputError("not there")

    monkeypatch.setattr(measures.catalog, "fetch_file", fetch_file)
    run_benchmarks(only=["touvron-2019", "yun-2019"])
    assert asked == ["robustness_top1s.csv"]


def test_the_list_computes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(tmp_path))
    done = CliRunner().invoke(cli.app, ["benchmarks", "--list", "--only", "recht-2019"])
    assert done.exit_code == 0
    assert "recht-2019" in done.stdout
    assert "2 numbers of 1 publication: 2 not computed" in done.stdout
    assert "Note" not in done.stdout


def test_an_unknown_name_on_the_terminal():
    done = CliRunner().invoke(cli.app, ["benchmarks", "--only", "nobody-2020"])
    assert "allowed: names or patterns such as 'torchvision*'; --list lists them" in str(done.exception)


def test_the_command_fails_if_a_number_differs(monkeypatch, mirror):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    names = ["benchmarks", "--only", "northcutt-2021-mnist"]
    assert CliRunner().invoke(cli.app, names).exit_code == 0
    (entry,) = select_entries(["northcutt-2021-mnist"])
    monkeypatch.setattr(module, "select_entries", lambda only: (replace(entry, values={"mnist": "16"}),))
    assert CliRunner().invoke(cli.app, names).exit_code == 1


def test_tables_and_provenance(mirror, monkeypatch, tmp_path):
    from manyhot import tables

    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    run_benchmarks(only=["northcutt-2021-mnist"]).write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["benchmarks.csv", "benchmarks.parquet"]
    about = tables.metadata(tables.read(tmp_path / "benchmarks.parquet", "benchmarks"))
    assert json.loads(about["inputs"]).keys() == {"label-errors/mnist_mturk.json"}

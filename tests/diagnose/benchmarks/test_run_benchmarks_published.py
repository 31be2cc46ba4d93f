"""What is declared of published numbers, against the files and packages that publish them."""

import csv
import io
import re
import zipfile
from dataclasses import replace

import pytest

from manyhot.commands import COMMANDS
from manyhot.diagnose.benchmarks.measures import PUBLISHED_MEASURES
from manyhot.diagnose.benchmarks.run_benchmarks import BASES, published_entries, select_entries
from manyhot.errors import InputError

ENTRIES = {entry.name: entry for entry in published_entries()}


@pytest.fixture(scope="module")
def table(mirror):
    """Return a function that reads a CSV file of the archive, by the end of its address."""

    def read(ending):
        with zipfile.ZipFile(mirror) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(ending))
            return list(csv.DictReader(io.StringIO(archive.read(name).decode())))

    return read


def test_at_least_25_publications_have_numbers():
    assert len({entry.publication for entry in ENTRIES.values()}) >= 25
    assert len(ENTRIES) == len(published_entries())


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_all_that_it_must(name):
    entry = ENTRIES[name]
    assert entry.measure in PUBLISHED_MEASURES
    assert entry.basis in BASES
    assert entry.unit in ("", "%", "points")
    assert re.match(r"https://[\w.-]+/", entry.address)
    assert 1990 < entry.year < 2030
    assert entry.place
    assert entry.read_at
    assert entry.quantity
    assert entry.of
    assert all(map(float, entry.values.values()))
    # What may differ says why, and what may not has nothing to say.
    assert (entry.tolerance is not None) == bool(entry.reason)
    words = entry.command.split()
    assert (words[0], words[1]) in {("manyhot", c.split()[0]) for c in COMMANDS}


@pytest.mark.parametrize(
    ("published", "value", "verdict"),
    [
        ("76.13", 76.134, "equal"),
        ("76.13", 76.125, "equal"),  # half a unit of the last digit, however it is rounded
        ("76.13", 76.1249, "close"),
        ("76.13", 76.179, "close"),
        ("76.13", 76.181, "different"),
        ("54", 54, "equal"),
        ("54", 54.4, "equal"),
        ("54", 55, "different"),
        ("0.694739", 0.6947394, "equal"),
    ],
)
def test_verdicts_follow_the_printed_digits(published, value, verdict):
    assert replace(ENTRIES["hu-2018"], tolerance=0.05).verdict(published, value) == verdict
    strict = replace(ENTRIES["hu-2018"], tolerance=None).verdict(published, value)
    assert strict == ("equal" if verdict == "equal" else "different")


def test_names_and_patterns_select():
    names = [entry.name for entry in select_entries(["recht-2019", "hendrycks-2020*"])]
    assert names == ["recht-2019", "hendrycks-2020", "hendrycks-2020-top1"]
    assert select_entries([]) == published_entries()


def test_an_unknown_name():
    with pytest.raises(InputError) as error:
        select_entries(["recht-2018"])
    assert str(error.value) == (
        "No published numbers have this name.\n"
        "  got:     recht-2018\n"
        "  allowed: names or patterns such as 'torchvision*'; `list_only` lists them\n"
        "  do:      did you mean 'recht-2019' or 'hu-2018' or 'chollet-2017'?"
    )


# The numbers themselves, where a file or an installed package publishes them.


@pytest.mark.parametrize(
    ("names", "column"),
    [
        (("taori-2020", "taori-2020-others"), "val"),
        (("taori-2020-v2", "taori-2020-v2-others"), "imagenetv2-matched-frequency"),
    ],
)
def test_numbers_of_imagenet_testbed(names, column, table):
    rows = {row["model"]: row[column] for row in table("robustness_top1s.csv")}
    declared = {m: v for name in names for m, v in ENTRIES[name].values.items()}
    assert len(declared) == 45  # all networks that both publish
    for model, value in declared.items():
        assert abs(float(value) - float(rows[model])) < 1e-4, model


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("peychev-2023-mla", "mla_all"),
        ("peychev-2023-errors", "num_all_top1_errors"),
        ("peychev-2023-collapsed", "num_collapsed_mappings"),
        ("peychev-2023-several-labels", "num_ambiguous"),
        ("peychev-2023-alexnet", "num_all_top1_errors"),
    ],
)
def test_numbers_of_peychev(name, column, table):
    rows = {r["model_dir_id"]: r for r in table("stats-imagenet/non_problematic_stats_all.csv")}
    for model, value in ENTRIES[name].values.items():
        assert abs(float(value) - float(rows[f"torchvision--{model}"][column])) < 1e-6, model
    assert {row["num_all_samples"] for row in rows.values()} == set(
        ENTRIES["peychev-2023-images"].values.values()
    )


def test_numbers_of_timm(table):
    rows = {
        row["model"]: row["top1"]
        for row in table("aa4b5850c1543fa488abf260f18390eda46cf85d/results/results-imagenet-real.csv")
    }
    for model, value in ENTRIES["wightman-2024-real"].values.items():
        names = (f"{model}.tv_in1k", f"legacy_{model.replace('se_', 'se')}.in1k")
        assert value in [rows.get(name) for name in names], model


def test_numbers_of_openclip_and_clip_benchmark(table):
    rows = {f"{r['name']}/{r['pretrained']}": r for r in table("docs/openclip_results.csv")}
    values = ENTRIES["ilharco-2021-average"].values
    assert values == {model: row["Average perf. on 38 datasets"] for model, row in rows.items()}
    zero_shot = {
        f"{r['model']}/{r['pretrained']}": float(r["acc1"])
        for r in table("benchmark/benchmark.csv")
        if (r["dataset"], r["task"]) == ("imagenet1k", "zeroshot_classification")
    }
    declared = ENTRIES["cherti-2022"].values
    assert declared.keys() == zero_shot.keys()
    assert all(abs(float(v) - 100 * zero_shot[m]) < 1e-6 for m, v in declared.items())


def test_numbers_of_torchvision():
    models = pytest.importorskip("torchvision.models")
    spelled = {"googlenet/inceptionv1": "googlenet", "inceptionv3": "inception_v3"}
    names = [n for n in ENTRIES if n.startswith("torchvision")]
    checked = 0
    for name in names:
        metric = "acc@5" if "top5" in name else "acc@1"
        for model, value in ENTRIES[name].values.items():
            weights = models.get_model_weights(spelled.get(model, model)).IMAGENET1K_V1
            assert float(value) == weights.meta["_metrics"]["ImageNet-1K"][metric], model
            checked += 1
    assert checked == 47

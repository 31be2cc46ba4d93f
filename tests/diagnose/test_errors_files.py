"""Sorted errors of published models against a plain loop over the files, and of files of one's own."""

import collections
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from manyhot import cli, diagnose_errors, init_campaign, read_findings, tables
from manyhot.classes import class_list
from manyhot.data import catalog
from manyhot.data.inputs import Reading
from manyhot.diagnose.evidence import COLLAPSED, listed_ids
from manyhot.diagnose.sorted_errors import SortedErrors
from manyhot.errors import InputError
from manyhot.formats.tsipras import read_superclasses
from manyhot.predict.embeddings import Embedded
from manyhot.predict.similar import similar
from manyhot.run import Run
from manyhot.tables.array_inputs import as_labels

LARGEST, RELATED = 120, 250


@pytest.fixture(autouse=True)
def from_the_mirror(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if "mirror" in request.fixturenames:
        monkeypatch.setenv("MANYHOT_MIRROR", str(request.getfixturevalue("mirror")))


def sort(
    source, out="findings.parquet", *, predictions=(), classes=None, trust_order=False, call="", **options
):
    """Sort errors and write them, as the command does."""
    SortedErrors.check_out(out, [source, *predictions])
    reading = Reading(classes=classes, trust_order=trust_order)
    found = diagnose_errors(source, predictions, reading=reading, **options)
    return found, found.write(out, run=Run(call))


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


# Published data, by plain loops that share nothing with the code but the class list.


@pytest.fixture(scope="module")
def raw(mirror):
    """Return label sets, original labels, counts of pairs, and classes beneath each node of the hierarchy."""
    real = catalog.fetch("imagenet-real", only=["real.json"], mirror=mirror)["real.json"]
    name = "imagenet-validation-original.json"
    listed = json.loads(catalog.fetch_file("imagenet-val-predictions", name, mirror=mirror).read_text())
    keys = sorted({key for _, key in listed["image_filenames"]})
    label = {image: keys.index(key) for image, key in listed["image_filenames"]}
    sets = {f"ILSVRC2012_val_{i:08d}.JPEG": s for i, s in enumerate(json.loads(real.read_text()), 1)}
    together = collections.Counter(
        pair for s in sets.values() for pair in itertools.combinations(sorted(s), 2)
    )
    known = class_list()
    paths = [
        {key, *(h.split()[0] for h in ups)} for key, ups in zip(known.keys, known.hypernyms, strict=True)
    ]
    beneath = collections.Counter(node for path in paths for node in path)
    collapsed = {(known.keys.index(a), known.keys.index(b)) for a, b in COLLAPSED}
    alone = collections.Counter(c for s in sets.values() for c in s)
    n = sum(map(bool, sets.values()))

    def is_company(a, b):
        """Whether b is valid on two images of a, not clearly on few of them, and clearly not by chance."""
        ab = together[min(a, b), max(a, b)]
        if ab < 2 or binomtest(ab, alone[a]).proportion_ci(method="wilson").high < 0.1:
            return False
        only = np.array([ab, alone[a] - ab, alone[b] - ab]) / n
        slopes = np.array([1 / ab - 1 / alone[a] - 1 / alone[b], -1 / alone[a], -1 / alone[b]]) * n
        half = 1.959964 * np.sqrt(max((slopes**2 @ only - (slopes @ only) ** 2) / n, 0))
        return n * ab / (alone[a] * alone[b]) * np.exp(-half) >= 1.5

    return sets, label, is_company, paths, beneath, collapsed


def kind_of(image, said, raw):
    """Return the kind of one error, and the classes one of which decides."""
    sets, label, is_company, paths, beneath, collapsed = raw
    valid = sets[image] or [label[image]]
    if said in sets[image]:
        return "valid-label", [None]

    def group(v):
        return min(beneath[node] for node in paths[v] & paths[said])

    company = [v for v in valid if is_company(v, said)]
    if any(group(v) <= RELATED for v in valid if v not in company):
        company = []
    for kind, fitting in (
        ("collapsed-pair", [v for v in valid if (v, said) in collapsed]),
        ("fine-grained", [v for v in valid if group(v) <= LARGEST]),
        ("co-occurrence", company),
    ):
        if fitting:
            return kind, fitting
    return "model-failure", [None]


def test_errors_of_a_published_model(raw, mirror):
    found, written = sort(
        "imagenet-val",
        models=["resnet50"],
        rules=[
            "valid-label",
            "collapsed-pair",
            "fine-grained",
            "co-occurrence",
            "model-failure",
        ],
    )
    assert written == [Path("findings.parquet"), Path("findings-counts.csv")]
    table = read_findings("findings.parquet")
    assert len(table) == 11935 == found.models[0].n_errors  # as accepted-errors.md has it
    columns = [table[c].to_pylist() for c in ("image_id", "class_b", "kind", "class_a")]
    for image, said, kind, because in zip(*columns, strict=True):
        expected, classes = kind_of(image, said, raw)
        assert (kind, because in classes) == (expected, True), image


@pytest.mark.parametrize(("model", "n", "accepted"), [("vit3b", 378, 85), ("greedy_soups", 249, 67)])
def test_published_mistakes_that_real_accepts(model, n, accepted, raw, mirror):
    mistakes = read_findings(catalog.fetch_file("imagenet-mistakes", f"{model}_mistakes.json"))
    assert len(mistakes) == n
    tables.write_predictions(
        tables.Predictions(
            mistakes["image_id"].combine_chunks(),
            model,
            mistakes["class_b"].to_numpy()[:, None],
            n_classes=1000,
        ),
        "own.parquet",
    )
    found, _ = sort("imagenet-val", predictions=["own.parquet"], trust_order=True)
    by_hand = sum(
        said in raw[0][image]
        for image, said in zip(mistakes["image_id"].to_pylist(), mistakes["class_b"].to_pylist(), strict=True)
    )
    assert found.count("valid-label") == by_hand == accepted


def test_images_that_experts_called_non_prototypical(mirror):
    found, _ = sort("imagenet-val", models=["alexnet"])
    assert found.count("non-prototypical") > 0
    assert list(found.skipped_rules) == ["out-of-vocabulary"]
    listed = {
        i
        for model in ("vit3b", "greedy_soups")
        for i in listed_ids(catalog.fetch_file("imagenet-mistakes", f"{model}_mistakes.json"))
    }
    assert len(listed_ids(catalog.fetch_file("imagenet-mistakes", "vit3b_mistakes.json"))) == 30
    table = found.table.filter(pa.compute.equal(found.table["kind"], "non-prototypical"))
    assert set(table["image_id"].to_pylist()) <= listed


def test_a_benchmark_of_two_data_sets(mirror):
    found, _ = sort("imagenet", models=["alexnet", "resnet50"])
    assert [(m.dataset, m.model) for m in found.models] == [
        ("imagenet-val", "alexnet"),
        ("imagenet-val", "resnet50"),
        ("imagenetv2-matched-frequency", "alexnet"),
        ("imagenetv2-matched-frequency", "resnet50"),
    ]
    assert found.skipped_rules["non-prototypical"] == (
        "imagenetv2-matched-frequency: no list of non-prototypical images is given"
    )
    counts = pl.read_csv("findings-counts.csv")
    assert (
        counts.filter(dataset="imagenet-val")["errors"].sum()
        == found.models[0].n_errors + found.models[1].n_errors
    )
    said = message(InputError, lambda: sort("imagenet-val", models=["renset50"])).splitlines()
    assert said[:2] == ["No model has such a name.", "  got:     renset50"]
    assert said[-1] == "  do:      did you mean 'resnet50'?"


def test_superclasses_of_tsipras(mirror):
    found, _ = sort("imagenet-val", models=["alexnet"], superclasses="tsipras")
    table = found.table.filter(pa.compute.equal(found.table["kind"], "fine-grained"))
    dogs = set(read_superclasses(catalog.fetch_file("tsipras", "superclasses.npy"), 1000, None)["Dogs"])
    pairs = [*zip(table["class_a"].to_pylist(), table["class_b"].to_pylist(), strict=True)]
    assert any(a in dogs for a, _ in pairs)
    assert all((a in dogs) == (b in dogs) for a, b in pairs)


# Files of one's own.


@pytest.fixture
def own(tmp_path):
    """Write label sets of six images and one model's confident predictions."""
    sets = [[0], [1], [2, 0], [3], [1], [2, 0]]
    labels = as_labels(sets, n_classes=4, label=[0, 1, 2, 3, 1, 2])
    tables.write_labels(labels, "labels.parquet")
    classes = np.array([[0, 1], [2, 1], [0, 2], [1, 3], [0, 1], [2, 0]])
    p = np.array([[0.9, 0.1], [0.8, 0.1], [0.95, 0.0], [0.6, 0.3], [0.99, 0.0], [0.7, 0.1]], np.float32)
    given = tables.Predictions(labels.image_id, "net", classes, p, score_kind="probability", n_classes=4)
    tables.write_predictions(given, "net.parquet")
    Path("superclasses.json").write_text('{"animals": [1, 2]}')
    return labels


def test_own_files(own):
    found, written = sort(
        "labels.parquet",
        "out/errors.parquet",
        predictions=["net.parquet"],
        superclasses="superclasses.json",
        min_confidence=0.7,
        call="manyhot diagnose errors",
    )
    assert written == [Path("out/errors.parquet"), Path("out/errors-counts.csv")]
    table = tables.read(written[0], "findings")
    assert table["kind"].to_pylist() == ["fine-grained", "valid-label", "model-failure"]
    about = tables.metadata(table)
    assert (about["event"], about["min_confidence"], about["call"]) == (
        "label",
        "0.7",
        "manyhot diagnose errors",
    )
    assert json.loads(about["skipped_rules"]) == found.skipped_rules
    assert set(json.loads(about["inputs"])) == {"labels.parquet", "net.parquet", "superclasses.json"}
    counts = pl.read_csv(written[1])
    assert counts.filter(kind="valid-label").row(0, named=True) == {
        "dataset": "labels",
        "model": "net",
        "kind": "valid-label",
        "errors": 1,
        "share": pytest.approx(1 / 3),
        "lo": pytest.approx(-np.log(0.95) / 3),  # the limit of a Poisson mean of one error
        "hi": pytest.approx(binomtest(1, 3).proportion_ci(method="wilson").high),
        "n_sorted": 3,
        "n_errors": 4,
        "n": 6,
        "n_skipped": 0,
    }


def test_the_same_files_give_the_same_bytes(own):
    for out in ("1.parquet", "2.parquet"):
        sort("labels.parquet", out, predictions=["net.parquet"])
    assert Path("1.parquet").read_bytes() == Path("2.parquet").read_bytes()


def test_a_campaign(own):
    names = ["pug", "husky", "eskimo", "tabby"]
    Path("classes.txt").write_text("\n".join(names))
    tables.write(
        pa.table({"image_id": own.image_id, "label": own.table["label"]}), "images.parquet", "images"
    )
    campaign = init_campaign(
        "pets", images="images.parquet", classes="classes.txt", predictions=["net.parquet"]
    ).campaign
    assert message(InputError, lambda: sort("pets")) == (
        "The campaign has no label sets yet.\n"
        "  where:   pets\n"
        "  do:      make them from its votes: manyhot aggregate pets"
    )
    labels = tables.Labels(own.table.drop_columns(["label"]), 4, campaign.class_hash)
    tables.write_labels(labels, "pets/labels.parquet")
    Path("superclasses.json").write_text('{"dogs": ["husky", "eskimo"]}')
    found, (table, _) = sort("pets", "pets/findings.parquet", superclasses="superclasses.json")
    assert [m.dataset for m in found.models] == ["pets"]
    assert found.table["kind"].to_pylist() == [
        "fine-grained",
        "valid-label",
        "model-failure",
        "model-failure",
    ]
    assert set(json.loads(tables.metadata(tables.read(table, "findings"))["inputs"])) == {
        "labels.parquet",
        "images.parquet",
        "net.parquet",
        "superclasses.json",
    }
    refused = message(InputError, lambda: sort("pets", "pets/labels.parquet"))
    assert refused == (
        "The output would overwrite an input.\n"
        "  where:   pets/labels.parquet\n"
        "  got:     pets/labels.parquet\n"
        "  do:      choose another path for the output"
    )


def test_a_folder_of_predictions_has_original_labels_alone(own):
    Path("run").mkdir()
    Path("net.parquet").rename("run/net.parquet")
    images = pa.table({"image_id": own.image_id, "label": own.table["label"]})
    tables.write(images.slice(0, 5), "run/images.parquet", "images")
    found, (table, _) = sort("run", rules=["valid-label", "model-failure"])
    assert found.table["image_id"].to_pylist() == ["1", "2", "3", "4"]
    assert found.table["state"].to_pylist() == [None] * 4
    assert found.skipped_rules == {
        "valid-label": "no rater was asked about a class other than the original labels"
    }
    assert [m.counts for m in found.models] == [{"model-failure": 4}]
    inputs = json.loads(tables.metadata(tables.read(table, "findings"))["inputs"])
    assert set(inputs) == {"images.parquet", "net.parquet"}
    given = tables.Predictions(own.image_id, "net", np.array([[0], [2], [0], [1], [0], [2]]))
    tables.write_predictions(given, "run/net.parquet")
    assert message(InputError, lambda: sort("run")) == (
        "The number of classes is not known.\n  where:   run\n  do:      pass the class list as `classes`"
    )
    Path("classes.txt").write_text("pug\nhusky\neskimo\ntabby")
    found, _ = sort("run", classes="classes.txt")
    assert found.table["image_id"].to_pylist() == ["1", "2", "3", "4"]
    tables.write(images.select(["image_id"]), "run/images.parquet", "images")
    assert message(InputError, lambda: sort("run", classes="classes.txt")) == (
        "The images have no original labels.\n"
        "  where:   run\n"
        "  allowed: an images table with the column 'label', or label sets\n"
        "  do:      pass label sets, or original labels (manyhot predict --labels); or let people label a "
        "sample: manyhot audit"
    )


def test_embeddings(own):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 8)).astype(np.float16)
    folder = Path("predicted")
    (folder / "embeddings").mkdir(parents=True)
    given = tables.predictions_from_table(tables.read("net.parquet", "predictions"), model="net")
    tables.write_predictions(given, folder / "net.parquet")
    np.save(folder / "embeddings" / "net.npy", vectors)
    images = pa.table({"image_id": own.image_id, "label": own.table["label"]})
    tables.write(images, folder / "images.parquet", "images")
    rules = ["out-of-vocabulary(rarity=0.0)", "model-failure"]
    found, _ = sort(
        "labels.parquet",
        predictions=["net.parquet"],
        superclasses="superclasses.json",
        embeddings=folder,
        rules=rules,
    )
    assert found.skipped_rules == {}
    near = similar(Embedded(given, vectors, tables.Images(images)), neighbours=10, among="any").table
    by_step = diagnose_errors(own, given, superclasses={"animals": [1, 2]}, similar=near, rules=rules)
    assert found.table["kind"].to_pylist() == by_step.table["kind"].to_pylist()
    assert found.count("out-of-vocabulary") > 0
    # The same images in another folder are their own nearest, by another name.
    other = Path("index")
    (other / "embeddings").mkdir(parents=True)
    names = pa.array([f"t{i}" for i in range(6)])
    tables.write_predictions(replace(given, image_id=names), other / "net.parquet")
    np.save(other / "embeddings" / "net.npy", vectors)
    tables.write(images.set_column(0, "image_id", names), other / "images.parquet", "images")
    apart, _ = sort(
        "labels.parquet",
        predictions=["net.parquet"],
        superclasses="superclasses.json",
        embeddings=folder,
        index=other,
        rules=rules,
    )
    near = similar(
        Embedded(replace(given, image_id=names), vectors, tables.Images(pa.table({"image_id": names}))),
        Embedded(given, vectors),
        neighbours=10,
        among="any",
    ).table
    assert [n[0] for n in near["neighbours"].to_pylist()] == names.to_pylist()
    nearest = tables.Images(images.set_column(0, "image_id", names))
    by_step = diagnose_errors(
        own, given, superclasses={"animals": [1, 2]}, similar=near, neighbours=nearest, rules=rules
    )
    assert apart.table["kind"].to_pylist() == by_step.table["kind"].to_pylist()


def test_bad_files(own):
    Path("x-counts.csv").write_text("image_id,class_0\n0,1\n")

    def run(*given, **options):
        return message(InputError, lambda: sort(*given, **options))

    assert run("labels.parquet") == (
        "There are no predictions.\n  where:   labels.parquet\n  do:      pass them as `predictions`"
    )
    assert run("net.parquet") == (
        "These are predictions without a data set to evaluate them on.\n"
        "  where:   net.parquet\n"
        "  do:      pass the folder written by manyhot predict, or label sets and `predictions`"
    )
    assert run("nowhere") == (
        "There is no such data set, campaign or file.\n"
        "  got:     nowhere\n"
        "  allowed: imagenet, tsipras, imagenet-x, multilabel, errors, imagenet-val, "
        "imagenetv2-matched-frequency, imagenet-multilabel, imagenet-val-main; the folder of a campaign or "
        "of predictions; label sets or images in a file"
    )
    assert run("labels.parquet", "labels.parquet", predictions=["net.parquet"]) == (
        "The output would overwrite an input.\n"
        "  where:   labels.parquet\n"
        "  got:     labels.parquet\n"
        "  do:      choose another path for the output"
    )
    assert run("labels.parquet", "x.parquet", predictions=["x-counts.csv"]).splitlines()[:2] == [
        "The output would overwrite an input.",
        "  where:   x-counts.csv",
    ]
    assert run("labels.parquet", predictions=["net.parquet"], index="folder") == (
        "Finding similar images requires embeddings.\n"
        "  got:     index folder alone\n"
        "  do:      pass embeddings of the images, too"
    )
    assert run("labels.parquet", predictions=["net.parquet"], embeddings_model="net") == (
        "Finding similar images requires embeddings.\n"
        "  got:     only the model net\n"
        "  do:      pass embeddings of the images, too"
    )
    assert run("labels.parquet", predictions=["net.parquet"], models=["vgg*"]) == (
        "No model has such a name.\n  got:     vgg*\n  allowed: net"
    )
    assert not Path("findings.parquet").exists()


def test_listed_ids(own):
    Path("list.csv").write_text("image_id\n1\n3\n")
    assert listed_ids("list.csv") == ["1", "3"]
    table = pa.table(
        {
            "kind": ["mistake"] * 3,
            "image_id": ["1", "2", "3"],
            "category": ["non-prototypical", "x", "non-prototypical"],
        }
    )
    tables.write(table, "found.parquet", "findings")
    assert listed_ids("found.parquet") == ["1", "3"]
    tables.write(table.drop_columns(["category"]), "all.parquet", "findings")
    assert listed_ids("all.parquet") == ["1", "2", "3"]


# The command.


def run_command(*words):
    return CliRunner().invoke(cli.app, ["diagnose", "errors", *words])


def test_the_command_prints_shares_with_their_n(own):
    done = run_command("labels.parquet", "--predictions", "net.parquet", "--min-confidence", "0.7")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "labels: errors against the original label, and shares of each kind",
        # Wilson's intervals of three errors; one case has the limit of a Poisson mean, -log(0.95) / 3.
        "model  images  errors  above 0.7  valid-label          unclear             co-occurrence       "
        "model-failure",
        "net         6       4          3  33.3% (1.7 to 79.2)  0.0% (0.0 to 56.1)  0.0% (0.0 to 56.1)  "
        "66.7% (20.8 to 98.3)",
        "",
        "rule collapsed-pair skipped: no collapsed pairs are known",
        "rule fine-grained skipped: without a class list there is no hierarchy, no superclasses are given, "
        "and no classes are confused clearly more often than others",
        "rule out-of-vocabulary skipped: without a class list there is no hierarchy, no superclasses are "
        "given, and no classes are confused clearly more often than others; no embeddings are given",
        "rule non-prototypical skipped: no list of non-prototypical images is given",
        "",
        "first 3 of 3, highest confidence first",
        "image  label  predicted  kind           confidence",
        "    4      1          0  model-failure        0.99",
        "    2      2          0  valid-label          0.95",
        "    1      1          2  model-failure        0.80",
        done.stdout.splitlines()[14],  # see test_first_findings.py
        "",
        "wrote errors/findings.parquet",
        "wrote errors/findings.csv",
        "wrote errors/findings-counts.csv",
        "wrote errors/report/index.html",
    ]
    former = run_command("labels.parquet", "--predictions", "net.parquet", "--above", "0.7")
    assert former.stderr.splitlines()[0] == "Note: --above is called --min-confidence now."
    assert former.stdout == done.stdout


def test_no_errors_are_no_zero(own):
    done = run_command("labels.parquet", "--predictions", "net.parquet", "--min-confidence", "0.999")
    assert done.stdout.splitlines()[2].split() == ["net", "6", "4", "0", "–", "–", "–", "–"]
    counts = pl.read_csv("errors/findings-counts.csv")
    assert counts["share"].is_nan().all()


def test_as_json(own):
    done = run_command("labels.parquet", "--predictions", "net.parquet", "--json")
    told = json.loads(done.stdout)
    assert told["models"][0]["counts"] == {
        "valid-label": 1,
        "unclear": 0,
        "co-occurrence": 0,
        "model-failure": 3,
    }
    assert told["written"] == [
        "errors/findings.parquet",
        "errors/findings.csv",
        "errors/findings-counts.csv",
        "errors/report/index.html",
    ]
    assert set(told["skipped_rules"]) == {
        "collapsed-pair",
        "fine-grained",
        "out-of-vocabulary",
        "non-prototypical",
    }

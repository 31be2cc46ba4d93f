"""The published label sets of ImageNet's validation images merged, by plain loops over the files."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import manyhot as mh
from forking import commands
from manyhot.classes import class_list
from manyhot.data import catalog
from manyhot.reassess.aggregate import aggregate
from saved_by_hand import save_multilabel

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]

SOURCES = ("imagenet-real", "imagenet-multilabel+imagenet-mistakes", "tsipras")


@pytest.fixture(scope="module")
def published(mirror, require):
    """Let the catalogue take its files from the archive, and Shankar et al.'s labels from the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHOT_MIRROR", str(mirror))
        save_multilabel(require)
        yield


@pytest.fixture(scope="module")
def merged(published, tmp_path_factory):
    """Return the merged label set and its file."""
    done = aggregate(sources=SOURCES)
    (path, *_) = done.write(tmp_path_factory.mktemp("merged") / "merged.parquet")
    return done, path


@pytest.fixture(scope="module")
def said(published):
    """Return what each source says, by image and class, read from the files without manyhot's readers."""
    real, answers = {}, {}
    with np.load(catalog.fetch_file("imagenet-real", "scores.npz")) as file:
        for (image, class_id), score in zip(file["info"].tolist(), file["tensor"].tolist(), strict=True):
            real[image, int(class_id)] = "yes" if score >= 0.8 else "no"
    answers["imagenet-real"] = real
    experts = {}
    path = catalog.fetch_file("imagenet-multilabel", "multilabel.csv")
    for row in pl.read_csv(path, infer_schema=False).rows(named=True):
        if row["is_problematic"] == "True":
            continue
        lists = {"yes": "proposed_labels", "unclear": "unclear_multi_labels", "no": "wrong_multi_labels"}
        for state, column in lists.items():
            for class_id in (row[column] or "").replace(",", " ").split():
                experts.setdefault((row["id"], int(class_id)), state)
    for name in ("vit3b", "greedy_soups"):
        mistakes = json.loads(catalog.fetch_file("imagenet-mistakes", f"{name}_mistakes.json").read_text())
        for image, mistake in mistakes.items():
            experts.setdefault((image.rpartition("/")[2], mistake["top_prediction"]), "no")
    answers[SOURCES[1]] = experts
    labels = mh.read_labels(
        catalog.fetch_file("tsipras", "annotations_classify_task.pkl"), format="tsipras-selected"
    )
    rows = [
        (r["image_id"], c, p)
        for r in labels.table.to_pylist()
        for c, p in zip(r["classes"], r["p"], strict=True)
    ]
    answers["tsipras"] = {(image, c): "yes" for image, c, p in rows if p > 0.5}
    return answers


def test_each_pair_is_what_the_files_say(merged, said):
    done, _ = merged
    rows = done.source_answers.to_pylist()
    assert len(rows) == len(set().union(*said.values()))
    points = {"yes": 1, "unclear": 0.5, "no": 0}
    for row in rows:
        pair = row["image_id"], row["class_id"]
        of = {name: answers[pair] for name, answers in said.items() if pair in answers}
        for state in points:
            assert row[state] == [name for name in SOURCES if of.get(name) == state]
        p = sum(points[answer] for answer in of.values()) / len(of)
        assert abs(row["p"] - p) < 1e-12
        assert row["conflict"] == ({"yes", "no"} <= set(of.values()))
        assert row["state"] == ("yes" if p > 0.5 else "no" if p < 0.5 else "unclear")


def test_published_counts(merged):
    done, _ = merged
    real, experts, tsipras = done.sources.to_pylist()
    # Beyer et al.: 24,889 images in 184,962 questions. Shankar et al.: 18,692 images are not problematic.
    assert (real["images"], real["rated"], real["questions"]) == (50_000, 24_889, 184_962)
    assert (experts["images"], experts["unusable"], experts["rated"]) == (20_000, 1_308, 18_692)
    assert (tsipras["images"], tsipras["no"]) == (6_761, 0)
    assert (experts["licence"], tsipras["licence"]) == ("none stated, Apache-2.0", "MIT")
    table = pl.DataFrame(done.labels.table)
    alone = table.filter(pl.col("sources").list.len() == 0)
    assert alone["classes"].to_list() == [[label] for label in alone["label"]]


def test_real_and_real_json_are_one_source_that_says_less(published):
    """ReaL's real.json has 3,163 empty lists, and says yes alone."""
    path = catalog.fetch_file("imagenet-real", "real.json")
    done = aggregate(sources=["imagenet-real", path])
    says_yes = done.sources.to_pylist()[1]
    assert (says_yes["rated"], says_yes["no"]) == (50_000 - 3_163, 0)
    states = pl.DataFrame(done.labels.table)["state"]
    assert states.list.contains("yes").not_().sum() == 3_163
    assert done.source_answers["conflict"].to_pylist().count(True) == 0


def test_mistakes_are_noes_of_the_experts_that_made_the_labels(published):
    """All 456 pairs that the mistakes share with version 3 of Shankar's labels are wrong there, too."""
    done = aggregate(sources=["imagenet-multilabel", "imagenet-mistakes"])
    assert done.notes[-2].startswith(
        "imagenet-multilabel and imagenet-mistakes agree on all 456 pairs that both answer: "
    )


def test_timm_reads_the_merged_set(merged, tmp_path):
    """timm's own RealLabelsImagenet reads real.json, and finds a network's accuracy as manyhot does."""
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm.data.real_labels")
    done, path = merged
    mh.convert(path, tmp_path / "real.json", to="real")
    ids = done.labels.image_id.to_pylist()
    reader = timm.RealLabelsImagenet(ids, real_json=str(tmp_path / "real.json"))
    rows = done.labels.table.select(["classes", "state"]).to_pylist()
    sets = [{c for c, s in zip(r["classes"], r["state"], strict=True) if s == "yes"} for r in rows]
    assert [set(reader.real_labels[image]) for image in ids] == sets
    top = network(ids)
    for block in np.array_split(top, 50):
        scores = torch.zeros(len(block), 1000)
        scores.scatter_(1, torch.from_numpy(block), torch.arange(5, 0, -1).float().expand(len(block), 5))
        reader.add_result(scores)
    results = mh.evaluate(path, {"net": top.tolist()}, rows=ids, metrics=["real1", "real5"], resamples=0)
    assert reader.get_accuracy(k=1) / 100 == pytest.approx(results.value("real1"))
    assert reader.get_accuracy(k=5) / 100 == pytest.approx(results.value("real5"))


def network(ids):
    """Return the top five classes of resnet50, in the order of the ids."""
    rows = "imagenet-validation-original.json"
    files = catalog.fetch("imagenet-val-predictions", only=["resnet50.npy", rows])
    place = {image: i for i, image in enumerate(mh.read_images(files[rows]).image_id.to_pylist())}
    return np.load(files["resnet50.npy"])[[place[image] for image in ids]].astype(np.int64)


@pytest.mark.parametrize("name", ["rows.parquet", "human_accuracy.json"])
def test_the_layout_of_tfds_comes_back(merged, tmp_path, name):
    done, path = merged
    mh.convert(path, tmp_path / name, to="tfds-multilabel")
    back = mh.read_labels(tmp_path / name)
    assert pairs(back) == pairs(done.labels)
    assert back.table["usable"].to_pylist() == done.labels.table["usable"].to_pylist()
    has_label = name.endswith(".parquet")
    labels = back.table["label"].to_pylist() if has_label else None
    assert labels == (done.labels.table["label"].to_pylist() if has_label else None)


def pairs(labels):
    """Return the state of each pair."""
    frame = pl.DataFrame(labels.table).select("image_id", "classes", "state").explode("classes", "state")
    return set(frame.drop_nulls().rows())


def test_the_command(published, merged, tmp_path):
    arguments = [a for source in SOURCES for a in ("--sources", source)]
    ran = commands.run("aggregate", *arguments, "--out", tmp_path / "again.parquet", env=dict(os.environ))
    done, _ = merged
    assert f"version    {done.version}  of the answers and the rule, source-share\n" in ran.stdout
    assert mh.read_labels(tmp_path / "again.parquet").table.equals(done.labels.table)
    assert "none stated, Apache-2.0" in mh.data_card(tmp_path / "again.parquet").text


def test_committed_figures_are_those_of_the_set(merged):
    """benchmarks/merged_labels.csv, from which the docs are made: held-out sources, sizes and resnet50."""
    done, _ = merged
    committed = pl.read_csv(REPO / "benchmarks" / "merged_labels.csv")
    short = {SOURCES[1]: "experts"}
    found = {
        (f"{short.get(r['source'], r['source'])} by {short.get(r['others'], r['others'])}", r["measure"]): r
        for r in done.held_out.to_pylist()
        if r["value"] is not None
    }
    held_out = committed.filter(pl.col("part") == "held-out").rows(named=True)
    assert found.keys() == {(row["what"], row["measure"]) for row in held_out}
    for row in held_out:
        one = found[row["what"], row["measure"]]
        assert [one[name] for name in ("value", "lo", "hi")] == pytest.approx(
            [row[name] for name in ("value", "lo", "hi")], rel=1e-5
        )
        assert one["n"] == row["n"]
    states = done.labels.table["state"].to_pylist()
    sizes = np.array([row.count("yes") for row in states])
    sets = committed.filter((pl.col("part") == "rule") & (pl.col("what") == "source-share"))
    assert dict(sets.select("measure", "value").rows()[:4]) == {
        "labels": sizes.sum(),
        "unclear": sum(row.count("unclear") for row in states),
        "two or more": (sizes > 1).sum(),
        "empty": (sizes == 0).sum(),
    }
    ids = done.labels.image_id.to_pylist()
    rows = zip(done.labels.table["classes"].to_pylist(), states, strict=True)
    valid = [{c for c, s in zip(*row, strict=True) if s == "yes"} for row in rows]
    hits = [best in valid[i] for i, best in enumerate(network(ids)[:, 0].tolist()) if valid[i]]
    accuracy = committed.row(
        by_predicate=(pl.col("what") == "resnet50") & (pl.col("measure") == "real1 by merged"), named=True
    )
    assert (np.mean(hits), len(hits)) == (pytest.approx(accuracy["value"], abs=1e-6), accuracy["n"])
    # Without the 3,163 empty sets of ReaL, resnet50 has 82.958 %.
    real = committed.row(
        by_predicate=(pl.col("what") == "resnet50") & (pl.col("measure") == "real1 by ReaL"), named=True
    )
    assert round(100 * real["value"], 3) == 82.958


def test_precision_and_recall_on_golden_questions(published):
    """By a plain loop over the experts' answers: the majority of five is the truth."""
    files = catalog.fetch("imagenet-real", only=["golden.npz"])
    with np.load(files["golden.npz"]) as file:
        truth, info = file["tensor"][..., 2].sum(0) >= 3, file["info"]
    done = aggregate(sources=SOURCES, golden=files["golden.npz"])
    rows = {(r["image_id"], r["class_id"]): r["state"] == "yes" for r in done.source_answers.to_pylist()}
    valid = np.array([rows[image, int(class_id)] for image, class_id in info.tolist()])
    precision, recall = truth[valid].mean(), valid[truth].mean()
    lines = list(done.lines())
    assert any(f"precision        {precision:.4f}" in line for line in lines)
    assert any(f"recall           {recall:.4f}" in line for line in lines)
    committed = pl.read_csv(REPO / "benchmarks" / "merged_labels.csv")
    golden = committed.filter((pl.col("part") == "golden") & (pl.col("what") == "merged"))
    assert golden["value"].to_list() == pytest.approx([precision, recall], abs=1e-6)


def test_disagreements_that_were_sorted_are_those_drawn(merged):
    done, _ = merged
    conflicts = pl.DataFrame(done.source_answers).filter("conflict").sort("image_id", "class_id")
    drawn = np.sort(np.random.default_rng(0).choice(len(conflicts), 200, replace=False))
    sorted_once = pl.read_csv(REPO / "benchmarks" / "merged_disagreements.csv")
    assert sorted_once["class"].to_list() == [class_list().names[c] for c in conflicts["class_id"][drawn]]
    kinds = {"near classes", "another object", "part, content or setting", "original label alone"}
    assert set(sorted_once["kind"]) == kinds | {"same thing or nested"}

"""Votes to label sets in files: ReaL made again, and a small campaign by hand."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm, t
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, tables
from manyhot.core.dawid_skene import dawid_skene
from manyhot.data import catalog
from manyhot.data.convert import convert
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.reassess.answers import VotesReading
from manyhot.run import Run
from manyhot.tables import Predictions, votes_from_table
from manyhot.tables.vote_labels import answers_of
from manyhot.tables.votes import votes_with_ids_like


@pytest.fixture(scope="module")
def published_cache(mirror):
    """Let the catalogue take its files from the archive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHOT_MIRROR", str(mirror))
        yield


@pytest.fixture(scope="module")
def real(published_cache, tmp_path_factory):
    """Return what `manyhot aggregate imagenet-real --method golden-bayes` makes, and the files."""
    folder = tmp_path_factory.mktemp("real")
    done = mh.aggregate("imagenet-real", method="golden-bayes")
    return done, done.write(folder / "labels.parquet", run=Run("manyhot aggregate …"))


@pytest.fixture(scope="module")
def released(published_cache):
    """Return ReaL's released scores, in the order of its questions."""
    with np.load(catalog.fetch_file("imagenet-real", "scores.npz")) as file:
        return file["tensor"], file["info"]


def images_that_differ(votes, p, scores):
    return len(np.unique(votes.image[(p >= 0.8) != (scores >= 0.8)]))


# ReaL.


def test_golden_bayes_is_the_released_scores(real, released):
    done, _ = real
    scores, info = released
    assert done.votes.image_id.to_pylist() == info[:, 0].tolist()
    assert done.votes.class_id.tolist() == info[:, 1].astype(int).tolist()
    assert np.abs(done.p - scores).max() < 1e-12


def test_the_labels_file_is_real_json(real):
    _, written = real
    assert [p.name for p in written] == [
        "labels.parquet", "labels-raters.parquet", "labels-raters.csv", "labels-curve.csv",
        "labels-matrices.parquet",
    ]  # fmt: skip
    frame = pl.from_arrow(tables.read(written[0], "labels"))
    sets = json.loads(catalog.fetch_file("imagenet-real", "real.json").read_text())
    assert frame["image_id"].to_list() == [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 50_001)]
    kept = frame.explode("classes", "state", empty_as_null=True).filter(pl.col("state") == "yes")
    ours = dict(kept.group_by("image_id").agg(pl.col("classes").sort()).rows())
    differ = [i for i, s in zip(frame["image_id"], sets, strict=True) if ours.get(i, []) != sorted(s)]
    assert differ == []
    unrated = frame.filter(~pl.col("rated"))
    assert len(unrated) == 25_111
    assert unrated["classes"].to_list() == [[label] for label in unrated["label"]]
    assert unrated["method"].unique().to_list() == ["original label"]
    assert set(unrated["n_votes"].explode(empty_as_null=True)) == {0}
    assert set(frame.filter("rated")["n_votes"].explode(empty_as_null=True)) == {5}


def test_the_metadata_tells_how_the_labels_were_made(real):
    _, written = real
    about = tables.metadata(pq.read_schema(written[0]))
    assert about["method"] == "golden-bayes"
    assert [json.loads(about[k]) for k in ("threshold", "iterations", "converged")] == [0.8, 0, True]
    assert json.loads(about["prior"]) == pytest.approx([1 - 248 / 1135, 248 / 1135])
    assert {"raters.npz", "golden.npz", "raters_golden.npz"} < set(json.loads(about["inputs"]))


def test_precision_and_recall_of_real(real):
    done, _ = real
    rows = {t: next(r for r in done.curve.to_pylist() if r["threshold"] >= t) for t in (0.5, 0.8, 0.95)}
    found = [(round(rows[t]["precision"], 3), round(rows[t]["recall"], 3)) for t in (0.5, 0.8, 0.95)]
    # As the reference has them for the released scores.
    assert found == [(0.842, 0.819), (0.898, 0.778), (0.922, 0.714)]
    assert rows[0.8]["precision_lo"] < 0.898 < rows[0.8]["precision_hi"]
    assert (rows[0.8]["n_yes"], rows[0.8]["n_questions"], rows[0.8]["n_images"]) == (248, 1135, 155)


def test_raters_of_real(real):
    done, _ = real
    raters = {r["rater_id"]: r for r in done.raters.to_pylist()}
    assert len(raters) == 85
    assert [i for i, r in raters.items() if r["flags"]] == ["145"]  # 99 % yes
    # Obuchowski's variance over the 155 golden images, in loops over the files, with the normal distribution;
    # Student's t has the number of images with truths of one kind, whichever is smaller.
    with np.load(catalog.fetch_file("imagenet-real", "golden.npz")) as file:
        yes, image = file["tensor"][..., 2].sum(0) >= 3, file["info"][:, 0]
    fewest = min(len(np.unique(image[yes])), len(np.unique(image[~yes])))
    wider = t.ppf(0.975, fewest - 1) / norm.ppf(0.975)
    for rater, ends in {"145": (-0.058025, 0.032640), "177": (0.713644, 0.838935)}.items():
        found = (raters[rater]["informedness_lo"], raters[rater]["informedness_hi"])
        middle, half = np.mean(ends), wider * np.diff(ends)[0] / 2
        assert found == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert (raters["189"]["votes"], raters["111"]["votes"], raters["189"]["golden"]) == (6, 9, 0)
    assert raters["189"]["golden_accuracy"] is None
    assert raters["189"]["sensitivity"] == pytest.approx(
        np.mean([r["sensitivity"] for r in raters.values() if r["golden"]])
    )


def test_dawid_skene_comes_near(real, released):
    done, _ = real
    # ReaL has one share of yes for all classes.
    found = dawid_skene(replace(answers_of(done.votes), group=None))
    assert np.corrcoef(found.p, released[0])[0, 1] >= 0.984
    assert images_that_differ(done.votes, found.p, released[0]) <= 2_990
    assert found.converged


def test_agreement_of_real(published_cache, tmp_path):
    found = mh.agreement("imagenet-real", resamples=400)
    written = found.write(tmp_path)
    assert found.value("fleiss_kappa") == pytest.approx(0.412012, abs=1e-6)
    assert found.value("golden_accuracy") == pytest.approx(0.861821, abs=1e-6)
    assert round(found.value("golden_sensitivity"), 3) == 0.513
    assert round(found.value("golden_specificity"), 3) == 0.959
    assert found.value("always_no") == 887 / 1135
    rows = {r["measure"]: r for r in found.agreement.to_pylist()}
    assert (rows["golden_accuracy"]["n"], rows["golden_accuracy"]["n_skipped"]) == (78, 7)
    # Raters and images of the golden files redrawn 4,000 times in a loop; raters alone: 0.48 to 0.55.
    assert rows["golden_sensitivity"]["lo"] == pytest.approx(0.4590, abs=0.012)
    assert rows["golden_sensitivity"]["hi"] == pytest.approx(0.5685, abs=0.012)
    # The package krippendorff on the same votes, and plain loops over 38,187 sheets of sets.
    for measure, value in {
        "pairwise": 0.791401, "alpha_nominal": 0.412012, "alpha_ordinal": 0.517219,
        "alpha_jaccard": 0.479785, "alpha_masi": 0.461439,
    }.items():  # fmt: skip
        assert rows[measure]["value"] == pytest.approx(value, abs=1e-6)
    assert (rows["alpha_masi"]["n"], rows["alpha_masi"]["n_skipped"]) == (38_187, 0)
    assert found.notes == (
        "accuracy alone is misleading: a rater who always answers no has an accuracy of 0.7815 on these "
        "1,135 golden questions; see sensitivity and specificity",
        "raters cannot be flagged as too fast, which needs the columns 'shown_at' and 'answered_at'",
    )
    accuracies = [r["golden_accuracy"] for r in found.raters.to_pylist() if r["golden"]]
    assert (round(min(accuracies), 3), round(max(accuracies), 3)) == (0.258, 0.910)
    assert not any(found.rater_pairs["copies"].to_pylist())
    names = ("agreement", "class_agreement", "raters", "rater_pairs", "confusion")
    assert [p.name for p in written] == [f"{n}.{s}" for n in names for s in ("parquet", "csv")]
    for name in names:
        assert tables.read(tmp_path / f"{name}.parquet", name).num_rows


# A small campaign.

VOTES = {
    "image_id": ["a.jpg"] * 6 + ["b.jpg"] * 3,
    "class_id": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "rater_id": ["x", "y", "z"] * 3,
    "answer": ["yes", "yes", "no", "no", "yes", "maybe", "no", "no", "no"],
}
IMAGES = {"image_id": ["c.jpg", "b.jpg", "a.jpg", "d.jpg"], "label": [3, 2, 0, None]}
GOLDEN = {
    "image_id": ["a.jpg", "a.jpg", "b.jpg", "c.jpg"],
    "class_id": [0, 1, 2, 3],
    "expert_id": ["e"] * 4,
    "answer": ["yes", "no", "no", "yes"],
}


@pytest.fixture
def campaign(tmp_path):
    folder = tmp_path / "campaign"
    folder.mkdir()
    tables.write(pa.table(VOTES), folder / "votes.parquet", "votes", about={"n_classes": "5"})
    tables.write(pa.table(GOLDEN), folder / "golden.parquet", "golden", about={"n_classes": "5"})
    tables.write(pa.table(IMAGES), folder / "images.parquet", "images")
    return folder


def test_a_campaign_by_hand(campaign):
    done = mh.aggregate(campaign, method="yes-share", threshold=0.6, unclear_from=0.3)
    done.write(campaign)
    rows = mh.read_labels(campaign / "labels.parquet").table.to_pylist()
    assert [r["image_id"] for r in rows] == IMAGES["image_id"]
    told = {
        r["image_id"]: [r[k] for k in ("label", "rated", "usable", "classes", "state", "n_votes", "method")]
        for r in rows
    }
    assert told == {
        "c.jpg": [3, False, True, [3], ["yes"], [0], "original label"],
        "b.jpg": [2, True, True, [2], ["no"], [3], "yes-share"],
        "a.jpg": [0, True, True, [0, 1], ["yes", "unclear"], [3, 3], "yes-share"],
        # Nobody knows anything about it.
        "d.jpg": [None, False, False, [], [], [], "original label"],
    }
    assert rows[2]["p"] == pytest.approx([2 / 3, 1 / 3])
    assert done.labels.asked_known
    assert done.notes == (
        "1 golden questions with the true answer yes have no votes and are left out of recall",
    )
    assert [r["n_above"] for r in done.curve.to_pylist()] == [3, 2, 1]


@pytest.mark.parametrize("longer", ["images", "votes"])
def test_ids_are_those_of_the_images_if_votes_write_them_with_other_folders(campaign, longer):
    """As in the same campaign whose ids are all alike, which another test checks by hand."""
    proposals = {"image_id": ["a.jpg", "a.jpg", "b.jpg", "c.jpg"], "class_id": [0, 1, 2, 3]}
    more = {"score": [0.5] * 4, "n_models": pa.array([1] * 4, pa.int32()), "source": ["top1"] * 4}
    tables.write(pa.table(proposals | more), campaign / "proposals.parquet", "proposals")
    alike = mh.aggregate(campaign, method="yes-share")

    def moved(table):
        return table | {"image_id": [f"cat/{name}" for name in table["image_id"]]}

    votes, golden, images = VOTES, GOLDEN, IMAGES
    if longer == "votes":
        votes, golden = moved(VOTES), moved(GOLDEN)
    else:
        images = moved(IMAGES)
        tables.write(pa.table(moved(proposals) | more), campaign / "proposals.parquet", "proposals")
    about = {"n_classes": "5"}
    tables.write(pa.table(votes), campaign / "votes.parquet", "votes", about=about)
    tables.write(pa.table(golden), campaign / "golden.parquet", "golden", about=about)
    tables.write(pa.table(images), campaign / "images.parquet", "images")
    done = mh.aggregate(campaign, method="yes-share")
    assert done.labels.image_id.to_pylist() == images["image_id"]
    assert done.votes.images.to_pylist() == sorted(images["image_id"])[:2]
    # Of the four questions, only that about c.jpg has no answer, and c.jpg is not rated.
    unanswered = "1 of 4 proposed questions have no answers; 0 of 2 rated images have such questions"
    assert any(note.startswith(unanswered) for note in done.notes)
    example = "b.jpg with cat/b.jpg" if longer == "images" else "cat/b.jpg with b.jpg"
    assert done.notes[0] == (
        f"votes: 2 images are matched without regard to leading folders, such as {example}"
    )
    ids = alike.labels.table.column_names.index("image_id")
    assert done.labels.table.remove_column(ids).equals(alike.labels.table.remove_column(ids))
    counts = ["threshold", "n_above", "n_right", "n_yes"]
    assert len(done.curve)  # golden answers are matched, too
    assert done.curve.select(counts).equals(alike.curve.select(counts))


def test_rated_images_are_evaluated_if_votes_write_ids_with_folders():
    """By hand: the first of eight images is a dog by its votes, and a cat by its label."""
    names = [f"{'cat' if i < 4 else 'dog'}/{i}.jpg" for i in range(8)]
    images = pa.table(
        {
            "image_id": [name[4:] for name in names],
            "label": pa.array([0] * 4 + [1] * 4, pa.int32()),
        }
    )
    votes = pa.table(
        {
            "image_id": [names[0]] * 4,
            "class_id": [0, 0, 1, 1],
            "rater_id": ["x", "y"] * 2,
            "answer": ["no", "no", "yes", "yes"],
        }
    )
    labels = mh.aggregate(votes, images=images, reading=VotesReading(classes=["cat", "dog"])).labels
    predicted = np.array([[0.2, 0.8] if i == 0 or i >= 4 else [0.9, 0.1] for i in range(8)], np.float32)
    net = Predictions(pa.array(names), "net", scores=predicted, score_kind="probability", n_classes=2)
    rows = mh.evaluate(labels, net, metrics=["real1"], resamples=0).results.to_pylist()
    found = {row["slice"]: (row["value"], row["n"]) for row in rows}
    assert found["all"] == (1.0, 8)  # by its original label alone, the first would be wrong
    assert (found["rated=true"], found["rated=false"]) == ((1.0, 1), (1.0, 7))


def test_decisions_have_the_ids_of_the_images():
    votes = VOTES | {"image_id": [f"x/{name}" for name in VOTES["image_id"]], "round": [0] * 8 + [1]}
    read = votes_from_table(pa.table(votes), name="votes", n_classes=5)
    renamed, like = votes_with_ids_like(read, pa.array(["b.jpg", "a.jpg"]), other_name="images")
    assert (like.n, renamed.images.to_pylist()) == (2, ["a.jpg", "b.jpg"])
    assert renamed.refined.rows["image_id"].to_pylist() == ["b.jpg"]
    again = read.with_refined().image_id.to_pylist()
    assert renamed.with_refined().image_id.to_pylist() == [name.removeprefix("x/") for name in again]


def test_tables_of_any_library_and_files(campaign):
    given = [
        pa.table(VOTES),
        pl.DataFrame(VOTES),
        pl.DataFrame(VOTES).to_pandas(),
        campaign,
        campaign / "votes.parquet",
    ]
    for votes in given:
        done = mh.aggregate(votes, method="majority(maybe='half')", classes=5)
        assert done.p.tolist() == [1, 0.5, 0]
        assert (done.threshold, done.labels.n_classes) == (0.5, 5)
    done = mh.aggregate(pa.table(VOTES), pa.table(GOLDEN), min_precision=1.0, method="yes-share")
    assert done.threshold == pytest.approx(2 / 3)
    assert done.notes[-1] == (
        "the threshold was chosen on the golden questions on which precision and recall are measured; "
        "expect lower values on other questions"
    )
    assert (
        len(done.notes) == len(mh.aggregate(pa.table(VOTES), pa.table(GOLDEN), method="yes-share").notes) + 1
    )
    done = mh.aggregate(campaign, campaign, min_recall=1.0, method="yes-share")
    assert done.threshold == pytest.approx(2 / 3)


def test_an_original_label_without_answers_is_not_refuted():
    """Not asked is not no: before anybody is asked about it, an original label stays as it is."""
    votes = pa.table(
        {
            "image_id": ["a", "a", "b", "b", "c"],
            "class_id": [1, 1, 0, 0, 1],
            "rater_id": ["x", "y", "x", "y", "x"],
            "answer": ["no", "no", "no", "no", "yes"],
        }
    )
    images = pa.table({"image_id": ["a", "b", "c", "d"], "label": pa.array([0, 0, 0, 1], pa.int32())})
    found = mh.aggregate(votes, images=images, method="majority")
    rows = found.labels.table.select(["image_id", "rated", "classes", "state", "n_votes"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a", True, [1, 0], ["no", "yes"], [2, 0]),
        ("b", True, [0], ["no"], [2]),
        ("c", True, [1, 0], ["yes", "yes"], [1, 0]),
        ("d", False, [1], ["yes"], [0]),
    ]
    assert found.notes[-1] == (
        "2 rated images have no answer about their original label. The label is kept, with n_votes 0, "
        "because not asked is not no"
    )
    (card,) = mh.describe(found.labels).datasets.to_pylist()
    assert (card["labelled"], card["label_unasked"], card["rejected"], card["rated"]) == (4, 2, 1, 3)


def test_proposed_questions_without_answers_are_counted(campaign):
    """Of the six questions, b.jpg has two without answers and c.jpg, which nobody has seen, one."""
    pairs = [("a.jpg", 0), ("a.jpg", 1), ("b.jpg", 2), ("b.jpg", 0), ("b.jpg", 1), ("c.jpg", 3)]
    proposals = {
        "image_id": [image for image, _ in pairs],
        "class_id": pa.array([c for _, c in pairs], pa.int32()),
        "score": pa.array([0.5] * 6, pa.float32()),
        "n_models": pa.array([1] * 6, pa.int32()),
        "source": ["test"] * 6,
    }
    tables.write(pa.table(proposals), campaign / "proposals.parquet", "proposals", about={"n_classes": "5"})
    assert (
        "3 of 6 proposed questions have no answers; 1 of 2 rated images have such questions, so their label "
        "sets may lack classes"
    ) in mh.aggregate(campaign, method="yes-share").notes


def test_one_rater_only():
    one = {k: v[::3] for k, v in VOTES.items()}
    done = mh.aggregate(pa.table(one), method="dawid-skene")
    assert done.p[0] > done.p[1:].max()
    found = mh.agreement(pa.table(one))
    rows = found.agreement.to_pylist()
    assert {r["n"] for r in rows} == {0}
    assert all(np.isnan(r["value"]) for r in rows)
    assert found.notes == (
        "no question was answered by two raters, so agreement cannot be measured",
        "there are no golden answers, so raters are compared with the majority of the other raters",
        "raters cannot be flagged as too fast, which needs the columns 'shown_at' and 'answered_at'",
    )


def test_golden_answers_that_are_all_no():
    golden = pa.table(GOLDEN | {"answer": ["no"] * 4})
    found = mh.agreement(pa.table(VOTES), golden, resamples=10)
    assert np.isnan(found.value("golden_sensitivity"))
    assert found.value("golden_specificity") == pytest.approx((2 / 3 + 1 / 3 + 1) / 3)
    assert "no golden question has the true answer yes, so sensitivity is undefined" in found.notes


def test_the_time_that_raters_take():
    shown = [1_000_000 * i for i in (0, 0, 0, 0, 0, 0, 100, 100, 100)]
    answered = [1_000_000 * i for i in (8, 4, 2, 10, 6, 2, 105, 101, 101)]
    times = {
        n: pa.array(v, pa.timestamp("us", "UTC")) for n, v in (("shown_at", shown), ("answered_at", answered))
    }
    raters = mh.agreement(pa.table(VOTES | times)).raters.to_pylist()
    # x: two answers in 10 s and one in 5 s; y: 6 s and 1 s; z: 2 s and 1 s.
    assert [(r["rater_id"], r["seconds"], r["pages"]) for r in raters] == [
        ("x", 5, 2),
        ("y", 2, 2),
        ("z", 1, 2),
    ]


def test_confusion_by_hand():
    rows = mh.agreement(pa.table(VOTES), pa.table(GOLDEN)).confusion.to_pylist()
    together = {(r["truth"], r["answer"]): (r["n"], r["share"]) for r in rows if r["rater_id"] is None}
    assert together[("yes", "yes")] == (2, pytest.approx(2 / 3))
    assert together[("no", "no")] == (4, pytest.approx(4 / 6))
    assert together[("no", "maybe")] == (1, pytest.approx(1 / 6))
    assert len(rows) == 6 * 4


# Bad input: whole messages, and nothing is written.

BAD = [
    (
        {"method": "golden-bayes"},
        InputError,
        "This method needs golden answers: experts' answers to questions that raters also answered.\n"
        "  got:     none\n"
        "  do:      pass golden answers as `golden`, or use dawid-skene, which needs no golden answers",
    ),
    (
        {"min_precision": 0.9},
        InputError,
        "`min_precision` needs golden answers: experts' answers to some of the questions.\n"
        "  do:      pass golden answers (`golden`) or a threshold",
    ),
    (
        {"min_precision": 0.9, "threshold": 0.5},
        InputError,
        "Only one of these options may set the threshold.\n  got:     threshold and min_precision\n"
        "  allowed: one of them",
    ),
    (
        {"threshold": 80},
        InputError,
        "`threshold` is out of range.\n  got:     80\n  allowed: above 0 to 1",
    ),
    (
        {"unclear_from": 0.9},
        InputError,
        "The minimum probability of an unclear class is above the threshold.\n  where:   "
        "`unclear_from`\n  got:     0.9\n"
        "  allowed: 0 to 0.8, the threshold",
    ),
    (
        {"original_classes": "0-5"},
        InputError,
        "This is not a list of classes.\n  where:   `original_classes`\n  got:     0-5\n"
        "  allowed: class ids and ranges from 0 to 4, such as 0-397 or 0-9,20",
    ),
    (
        {"method": "dawid"},
        UnknownNameError,
        "There is no aggregator 'dawid'.\n"
        "  allowed: majority, yes-share, source-share, golden-bayes, dawid-skene, one-coin, auto\n"
        "  do:      did you mean 'dawid-skene'?",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "message"), BAD)
def test_bad_options(campaign, options, kind, message):
    with pytest.raises(kind) as error:
        mh.aggregate(campaign / "votes.parquet", **options)
    assert str(error.value) == message


def test_votes_on_images_that_do_not_exist(campaign):
    tables.write(pa.table({"image_id": ["b.jpg"]}), campaign / "images.parquet", "images")
    with pytest.raises(MatchError) as error:
        mh.aggregate(campaign)
    assert str(error.value) == (
        "Some votes are about images that are not in the images table.\n  where:   votes\n"
        "  got:     1 of 2, such as a.jpg\n  allowed: ids such as b.jpg\n"
        "  do:      pass the images of the votes, or remove these votes"
    )


def test_golden_questions_that_nobody_was_asked(campaign):
    golden = pa.table({k: v[3:] for k, v in GOLDEN.items()})
    with pytest.raises(InputError) as error:
        mh.aggregate(pa.table(VOTES), golden, min_recall=0.9)
    assert str(error.value) == (
        "No golden question was answered by raters, so no threshold can be chosen.\n"
        "  do:      have raters answer golden questions, too, or pass a threshold"
    )


def test_golden_answers_over_another_class_list():
    votes = tables.votes_from_table(pa.table(VOTES), name="v", n_classes=5, class_hash="aa")
    golden = tables.golden_from_table(pa.table(GOLDEN), name="g", n_classes=6, class_hash="bb")
    with pytest.raises(MatchError) as error:
        mh.agreement(votes, golden)
    assert str(error.value) == (
        "Votes and golden answers have different class lists.\n  where:   v and g\n"
        "  got:     6 classes, list bb\n  allowed: 5 classes, list aa\n"
        "  do:      read both with the same class list"
    )


def test_golden_labels_of_a_class_without_votes_name_it(tmp_path):
    (tmp_path / "v.csv").write_text("image_id,rater,label\na,x,cat\na,y,dog\nb,x,cat\nb,y,unsure\n")
    (tmp_path / "g.csv").write_text("filename,labels\na,cat\nb,unsure\n")
    with pytest.raises(MatchError) as error:
        mh.aggregate(tmp_path / "v.csv", tmp_path / "g.csv")
    assert ", with unsure\n  allowed: 2 classes, list " in str(error.value)


def test_votes_and_golden_answers_are_converted(campaign, tmp_path):
    for name, columns in (("votes", VOTES), ("golden", GOLDEN)):
        (path,) = convert(campaign / f"{name}.parquet", tmp_path / f"{name}.csv").written
        convert(path, tmp_path / f"{name}.parquet")
        table = tables.read(tmp_path / f"{name}.parquet", name)
        assert sorted(map(tuple, pl.from_arrow(table).select(*columns).rows())) == sorted(
            zip(*columns.values(), strict=True)
        )


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            "labels.csv",
            "Cannot write this kind of file.\n  where:   {out}\n  allowed: a .parquet file, or a folder",
        ),
        (
            "votes.parquet",
            "The output would overwrite an input.\n  where:   {out}\n  got:     {out}\n"
            "  do:      choose another path for the output",
        ),
    ],
)
def test_places_that_are_not_written_to(campaign, out, message):
    before = (campaign / "votes.parquet").read_bytes()
    done = CliRunner().invoke(cli.app, ["aggregate", str(campaign), "--out", str(campaign / out)])
    assert str(done.exception) == message.format(out=campaign / out)
    assert (campaign / "votes.parquet").read_bytes() == before


# The command line.


def run(*arguments):
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done


def test_a_campaign_is_aggregated_again(campaign):
    """New answers have come in: all files are replaced, but not those that are read."""
    first = sorted(mh.aggregate(campaign).write(campaign / "labels.parquet"))
    again = ["aggregate", str(campaign), "--out", str(campaign)]
    done = CliRunner().invoke(cli.app, [*again, "--method", "majority"])
    assert done.exit_code == 0, done.output
    assert sorted(campaign.glob("labels*")) == first
    assert tables.metadata(tables.read(first[-1], "labels").schema)["method"] == "majority"
    history = campaign / "labels-matrices.parquet"
    done = CliRunner().invoke(cli.app, [*again, "--history", str(history)])
    assert "The output would overwrite an input." in str(done.exception)


def test_command_lines(campaign, tmp_path):
    out = tmp_path / "labels.parquet"
    done = run("aggregate", campaign, "--out", out, "--method", "yes-share", "--resamples", 10)
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "votes           9  of 3 raters on 3 questions about 2 images",
        "labels          2  on 2 of 4 images, 0 with two or more",
        "not rated       2  images, which have their original label",
        "threshold     0.5  yes-share, in closed form",
    ]
    assert lines[4].startswith("precision  1.0000  ")
    assert lines[-5:] == [
        f"wrote {tmp_path}/labels{e}"
        for e in (".parquet", "-raters.parquet", "-raters.csv", "-curve.csv", "-matrices.parquet")
    ]
    told = json.loads(run("aggregate", campaign, "--out", out, "--method", "one-coin", "--json").stdout)
    assert (told["votes"], told["method"], told["threshold"], told["converged"]) == (9, "one-coin", 0.8, True)
    assert told["written"][0] == str(out)


def test_agreement_on_the_command_line(campaign):
    lines = run("agreement", campaign).output.splitlines()
    assert lines[0].split() == ["measure", "value", "95", "%", "interval", "n", "left", "out"]
    assert any(line.startswith("always_no") for line in lines)
    assert any("accuracy alone is misleading" in line for line in lines)
    told = json.loads(run("agreement", campaign, "--json").stdout)
    assert [r["measure"] for r in told["agreement"]][:2] == ["pairwise", "fleiss_kappa"]
    assert len(told["raters"]) == 3


def test_numbers_of_classes_without_their_list_are_noted(tmp_path):
    rows = [f"{i}.jpg,{i % 3},{rater},yes" for i in range(6) for rater in "abc"]
    (tmp_path / "votes.csv").write_text("\n".join(["image_id,class_id,rater_id,answer", *rows]))
    text = (
        "the names of the classes are unknown, and their number is assumed to be 1,000: pass their list as "
        "`classes`"
    )
    assert mh.aggregate(tmp_path / "votes.csv").notes[0] == text
    assert mh.agreement(tmp_path / "votes.csv").notes[0] == text
    done = mh.aggregate(tmp_path / "votes.csv", classes=["cat", "dog", "cup"])
    assert text not in done.notes
    assert done.labels.n_classes == 3


def test_agreement_by_class_is_named_and_the_lowest_is_printed(tmp_path):
    """Raters agree on dogs on all images, and on cats by chance: two raters, answers as 0 and 2."""
    rng = np.random.default_rng(0)
    cat, dog = rng.integers(0, 2, (2, 30)), np.ones((2, 30), int)
    rows = [
        f"{i}.jpg,{name},r{rater},{answer}"
        for name, matrix in (("dog", dog), ("cat", cat))
        for rater, answers in enumerate(matrix)
        for i, answer in enumerate(answers)
    ]
    (tmp_path / "votes.csv").write_text("\n".join(["image_id,class,rater_id,answer", *rows]))
    found = mh.agreement(tmp_path / "votes.csv")
    table = {row["name"]: row for row in found.class_agreement.to_pylist()}
    assert table["dog"]["ac1"] == 1
    assert table["dog"]["fleiss_kappa"] is None
    yes, equal = cat.mean(), (cat[0] == cat[1]).mean()
    by_chance = 2 * yes * (1 - yes)
    assert table["cat"]["pairwise"] == pytest.approx(equal)
    assert table["cat"]["ac1"] == pytest.approx((equal - by_chance) / (1 - by_chance))
    lines = [*found.lines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("class, lowest AC1 first"))
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["cat", "dog"]
    assert found.to_json()["class_agreement"] == found.class_agreement.to_pylist()


def test_ties_contradict_no_class_that_excludes_others(tmp_path):
    chosen = {"a": "healthy healthy", "b": "rust blight", "c": "rust rust", "d": "healthy rust"}
    rows = [f"{i}.jpg,{r},{c}" for i, both in chosen.items() for r, c in zip("xy", both.split(), strict=True)]
    (tmp_path / "v.csv").write_text("\n".join(["filename,annotator,label", *rows]))
    for method in ("majority", "auto"):
        notes = mh.aggregate(tmp_path / "v.csv", method=method).notes
        assert not any("contradict" in note for note in notes)
    raters = {"ax": "no", "ay": "no", "bx": "yes", "by": "no"}  # b is unclear
    answers = [f"{i}.jpg,{c},{r},{a}" for (i, r), a in raters.items() for c in ("healthy", "rust")]
    (tmp_path / "v.csv").write_text("\n".join(["image_id,class,rater_id,answer", *answers]))
    notes = mh.aggregate(tmp_path / "v.csv", method="yes-share", threshold=0.6, unclear_from=0.3).notes
    assert any(
        n.startswith("0 label sets contain healthy and another class, and 1 label set is") for n in notes
    )


@pytest.mark.parametrize("name", ["No Finding", "no_findings", "normal", "None"])
def test_label_sets_that_contradict_a_class_that_excludes_others_are_counted(name, tmp_path):
    answers = {("a", name): 1, ("a", "Mass"): 1, ("b", name): 1, ("b", "Mass"): 0}
    answers |= {("c", name): 0, ("c", "Mass"): 0, ("d", name): 0, ("d", "Mass"): 1}
    rows = [f"{image}.jpg,{c},{rater},{yes}" for (image, c), yes in answers.items() for rater in "xy"]
    (tmp_path / "votes.csv").write_text("\n".join(["image_id,class,rater_id,answer", *rows]))
    note = (
        f"1 label set contains {name} and another class, and 1 label set is empty; if {name} means that no "
    )
    notes = mh.aggregate(tmp_path / "votes.csv", method="yes-share").notes
    assert sum(n.startswith(note) for n in notes) == 1
    (tmp_path / "votes.csv").write_text((tmp_path / "votes.csv").read_text().replace(name, "Edema"))
    notes = mh.aggregate(tmp_path / "votes.csv", method="yes-share").notes
    assert not any("another class" in n for n in notes)

"""How many answers decide a question, without and with a pilot."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import norm, t
from typer.testing import CliRunner

from manyhot import Labels, cli, tables, write_labels
from manyhot.core import audit_plans as published
from manyhot.errors import InputError, UsageError
from manyhot.reassess.audit import audit
from manyhot.reassess.plan_audit import plan_audit as plan

N, CLASSES = 3000, 5
Z = norm.ppf(0.975)


def message(kind, make, *arguments, **options):
    with pytest.raises(kind) as error:
        make(*arguments, **options)
    return str(error.value)


def rows(done):
    return {(r["question"], r["design"], r["estimator"]): r for r in done.plan.to_pylist()}


def relative(*key):
    """Return the published variances of three models."""
    return next((s, w) for n, *k, s, w in published.VARIANCES if (n, *k) == (3, *key))


def half_widths(n, spread, whole, effective, of=50_000, pilot=1e7):
    """Return the median of half the width of intervals with n of the images, by Student's t."""
    df = 2 * np.maximum(effective * n, 10)
    times = t.ppf(0.975, df) * np.sqrt(f_distribution.ppf(0.5, df, 2 * pilot))
    return times * np.sqrt(np.maximum(spread / n - whole / of, 0))


def smallest(half, *about, of=50_000, **more):
    """Return the smallest number of images with such a half-width."""
    n = np.arange(1, of)
    return int(n[half_widths(n, *about, of=of, **more) <= half][0])


def test_width_of_a_plain_sample_is_that_of_the_textbook():
    found = rows(plan(width=0.02, accuracy=0.8, n_images=20_000, questions=2, raters=3, seconds=4))
    s2 = published.PLAIN_ACCURACY * 0.8 * 0.2
    n = smallest(0.02, s2, s2, published.EFFECTIVE["accuracy"], of=20_000)
    assert n == pytest.approx(s2 / ((0.02 / Z) ** 2 + s2 / 20_000), rel=0.005)
    row = found["accuracy", "uniform", "sample"]
    assert (row["images"], row["questions"], row["answers"]) == (n, 2 * n, 6 * n)
    assert row["hours"] == pytest.approx(6 * n * 4 / 3600)
    assert row["half_width"] == pytest.approx(0.02, rel=1e-3)


@pytest.mark.parametrize("proposed_by", ["models", "labels"])
def test_width_by_design(proposed_by):
    found = rows(plan(width=0.02, accuracy=0.8, proposed_by=proposed_by))
    s2 = published.PLAIN_ACCURACY * 0.8 * 0.2
    for design in ("uniform", "active"):
        spread, whole = relative("accuracy", proposed_by, design)
        n = smallest(0.02, spread * s2, whole * s2, published.EFFECTIVE["accuracy"])
        assert found["accuracy", design, "ppi++"]["images"] == n


def test_difference_of_a_pair():
    found = rows(plan(difference=0.03, differing=0.3, power=0.9))
    s2 = published.PLAIN_DIFFERENCE * 0.3
    error = 0.03 / (Z + norm.ppf(0.9))
    at_median, whole = relative("difference", "models", "pair")
    spread = 0.3 * whole  # all of the variance is on the share of the images on which the two differ
    assert at_median == pytest.approx(published.DIFFERING * whole, rel=0.02)
    row = found["difference", "differences", "ppi++"]
    apart = np.arange(1, 5000, 0.01)
    wide = half_widths(apart, spread * s2, whole * s2, published.EFFECTIVE["difference"]) > Z * error
    apart = apart[~wide][0]
    assert row["images"] == int(np.ceil(apart + min(4.5 * 0.7 / 0.3 * np.sqrt(apart), 2 * apart)))
    assert row["power"] == pytest.approx(0.9, abs=0.002)
    assert row["detectable"] == pytest.approx(0.03, rel=2e-3)
    assert row["images"] * 1.5 < found["difference", "uniform", "sample"]["images"]


def test_a_drop_is_a_difference_of_two_independent_values():
    found = rows(plan(drop=0.04, accuracy=0.8))["accuracy", "uniform", "sample"]
    s2 = published.PLAIN_ACCURACY * 0.8 * 0.2
    error = 0.04 / (Z + norm.ppf(0.8)) / np.sqrt(2)
    assert found["images"] == smallest(Z * error, s2, s2, published.EFFECTIVE["accuracy"])
    assert found["questions"] == pytest.approx(2 * found["images"] * published.QUESTIONS[3])


def test_ranks_are_the_mean_power_over_the_pairs():
    found = rows(plan(ranks=0.7))["difference", "uniform", "sample"]
    s2 = published.PLAIN_DIFFERENCE * published.DIFFERING
    error = half_widths(found["images"], s2, s2, published.EFFECTIVE["difference"]) / Z
    effects = np.array(published.EFFECTS) * np.sqrt(s2)
    share = np.mean(norm.cdf(effects / error - Z) + norm.cdf(-effects / error - Z))
    assert found["share"] == pytest.approx(share)
    assert 0.7 <= share < 0.702


def test_what_hours_decide():
    done = plan(hours=10, questions=2, raters=1, seconds=5)
    assert {r["images"] for r in done.plan.to_pylist()} == {3600}
    assert {r["question"] for r in done.plan.to_pylist()} == {"accuracy", "difference"}


def test_a_plan_answers_one_question():
    assert message(UsageError, plan, width=0.02, drop=0.1) == (
        "A plan answers one question.\n"
        "  got:     `width` and `drop`\n"
        "  allowed: `width`, `difference`, `drop`, `ranks`, `hours`\n"
        "  do:      pass one of them"
    )
    assert "got:     none" in message(UsageError, plan)
    assert message(UsageError, plan, ranks=0.5, n_models=2) == (
        "Ranks require at least three models.\n"
        "  got:     2\n"
        "  do:      pass more models, or ask for a `difference`"
    )


def test_notes_say_when_it_does_not_matter_and_when_it_does_not_suffice():
    (few, *_) = plan(width=0.1).notes[::-1]
    assert few == (
        "95 images are few: intervals require at least about 10 images on which people and proposals "
        "disagree, and their coverage was tested only for 250 or more images"
    )
    assert plan(width=0.1).notes[1] == (
        "a plain sample of 95 images is about as good as the best design: label sets proposed by models "
        "save only 0% of the "
        "images"
    )
    assert plan(width=0.005, n_images=1000).notes[1:] == (
        "a plain sample of 959 images is about as good as the best design: label sets proposed by models "
        "save only 4% of "
        "the images",
        "a sample saves little: 921 of 1,000 images are needed",
    )
    assert plan(width=0.02).notes == (
        "without a pilot, widths assume data like ImageNet: on CIFAR-10 and PASCAL VOC, the median "
        "interval was 0.4 to 1.1 times as wide as planned, so have people label a pilot of 250 images "
        "first",
    )
    few = plan(hours=1, questions=10, raters=2).notes[1]
    assert few == (
        "with 36 images, accuracy: uniform sample may have no interval; with 95 images, most audits have one"
    )


def test_terminal():
    done = CliRunner().invoke(cli.app, ["plan", "--difference", "0.02", "--raters", "3"])
    assert done.exit_code == 0
    first, head, best, *_, last = done.stdout.splitlines()
    assert first == (
        "a difference of 2 points between two models on 50,000 images, detected with a power of 80%; "
        "variances: 3 of 67 published models and ReaL's answers"
    )
    assert head.split()[:6] == ["design", "estimator", "images", "questions", "answers", "hours"]
    assert head.split()[6:] == ["95", "%", "detects"]
    assert best.startswith("difference: differences  ppi++")
    n = rows(plan(difference=0.02, raters=3))["difference", "differences", "ppi++"]["images"]
    assert last == (
        f"next: manyhot audit predictions --size {n} --design differences --models A --models B --raters 3 "
        "--out audit"
    )


def test_tables_and_figure(tmp_path):
    plan(difference=0.02).write(tmp_path)
    curve = tables.read(tmp_path / "plan_curve.parquet", "plan_curve").to_pylist()
    uniform = [r for r in curve if (r["design"], r["estimator"]) == ("uniform", "sample")]
    assert [r["images"] for r in uniform][:: len(uniform) - 1] == [50, 5000]
    s2 = published.PLAIN_DIFFERENCE * published.DIFFERING
    for r in uniform:
        z = 0.02 * Z / half_widths(r["images"], s2, s2, published.EFFECTIVE["difference"])
        assert r["power"] == pytest.approx(norm.cdf(z - Z) + norm.cdf(-z - Z))
    svg = (tmp_path / "figures/plan-curve.svg").read_text()
    assert "<title>How many images a question needs</title>" in svg
    about = tables.metadata(tables.read(tmp_path / "plan.parquet", "plan"))
    assert (about["goal"], about["value"]) == ("difference", "0.02")
    done = CliRunner().invoke(cli.app, ["plan", "--width", "0.02", "--json"])
    assert {"plan", "plan_curve", "goal", "source", "command", "notes"} <= set(json.loads(done.stdout))


@pytest.fixture
def pilot(tmp_path, monkeypatch):
    """Draw an audit of three models whose truth is known, and write people's label sets of the sample."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, N)
    single = np.where(rng.random(N) < 0.9, truth, rng.integers(0, CLASSES, N))
    names = pa.array([f"{n:04}.png" for n in range(N)])
    best = np.stack(
        [np.where(rng.random(N) < p, truth, rng.integers(0, CLASSES, N)) for p in (0.9, 0.8, 0.7)], 1
    )
    (tmp_path / "predictions").mkdir()
    pq.write_table(
        pa.table({"image_id": names, "label": pa.array(single, pa.int32())}), "predictions/images.parquet"
    )
    (tmp_path / "classes.txt").write_text("\n".join("abcde") + "\n")
    for m, name in enumerate(("one", "two", "three")):
        other = (best[:, m] + 1) % CLASSES
        predictions = tables.Predictions(names, name, np.stack([best[:, m], other], 1), n_classes=CLASSES)
        tables.write_predictions(predictions, f"predictions/{name}.parquet")
    done = audit("predictions", classes="classes.txt", size=400, design="active", out="pilot", seed=0)
    scored = rng.random(N) < 0.95
    people(done, truth, scored)
    place = np.array([int(i[:4]) for i in done.sample.drawn.to_pylist()])
    return done.sample.sample, best[place], truth[place], scored[place], single[place]


def people(done, truth, scored, n=None):
    drawn = done.sample.drawn.to_pylist()[:n]
    at = [int(i[:4]) for i in drawn]
    table = pa.table(
        {
            "image_id": drawn,
            "usable": [True] * len(at),
            "rated": [True] * len(at),
            "classes": pa.array([[truth[i]] for i in at], pa.list_(pa.int32())),
            "state": [["yes" if scored[i] else "no"] for i in at],
        }
    )
    write_labels(Labels(table, CLASSES, done.campaign.class_hash, True, "people"), "pilot/labels.parquet")


def smallest_by_pilot(half, residuals, w, free):
    """Return the number of images, of the model for which it is largest, from residuals of the pilot."""
    parts = w[:, None] * residuals**2
    s2, effective = parts.sum(0), parts.sum(0) ** 2 / (w @ residuals**4)
    pilot = parts.sum(0) ** 2 / (parts**2).sum(0)
    s2 = s2 * len(w) / (len(w) - free)
    return max(smallest(half, s, s, e, of=N, pilot=p) for s, e, p in zip(s2, effective, pilot, strict=True))


def test_a_pilot_gives_the_variance_of_its_answers(pilot):
    """The plain variance per image, by the equation of the ratio, weighted by 1 / probability."""
    sample, best, truth, scored, _ = pilot
    w = 1 / sample.probability
    w /= w.sum()
    hit = (best == truth[:, None]) * scored[:, None]
    accuracy = (w @ hit) / (w @ scored)
    y = (hit - accuracy * scored[:, None]) / (w @ scored)
    done = rows(plan("pilot", width=0.02))
    n = smallest_by_pilot(0.02, y - w @ y, w, 1)
    assert done["accuracy", "uniform", "sample"]["images"] == n
    pair = y[:, :1] - y[:, 1:2]
    done = rows(plan("pilot", difference=0.05, models=["one", "two"]))
    error = 0.05 / (Z + norm.ppf(0.8))
    n = smallest_by_pilot(Z * error, pair - w @ pair, w, 1)
    assert done["difference", "uniform", "sample"]["images"] == n


def test_a_pilot_gives_the_variance_with_proposals(pilot):
    sample, best, truth, scored, single = pilot
    w = 1 / sample.probability
    w /= w.sum()
    hit = (best == truth[:, None]) * scored[:, None]
    y = (hit - (w @ hit) / (w @ scored) * scored[:, None]) / (w @ scored)
    # Of two others, at least half have the same top class if one has.
    others = np.array([[np.count_nonzero(r == c) >= 2 for c in r] for r in best], float)
    for proposed_by, f in (("models", others), ("labels", (best == single[:, None]).astype(float))):
        cov = [np.cov(y[:, m], f[:, m], aweights=w, ddof=0) for m in range(3)]
        residuals = y - w @ y - (f - w @ f) * [c[0, 1] / c[1, 1] for c in cov]
        n = smallest_by_pilot(0.02, residuals, w, 2)
        done = rows(plan("pilot", width=0.02, proposed_by=proposed_by))
        assert done["accuracy", "uniform", "ppi++"]["images"] == n


def test_a_pilot_says_how_wide_the_interval_may_be(pilot):
    """Widths that come are those that were estimated times the root of a variable with an F distribution."""
    (row,) = [r for k, r in rows(plan("pilot", width=0.02)).items() if k[1:] == ("uniform", "ppi++")]
    low, high = (row[f"half_width_{end}"] / row["half_width"] for end in ("low", "high"))
    assert 0.8 < low < 1 < high < 1.25
    found = [low**2, high**2]
    of_audit, of_pilot = np.meshgrid(np.geomspace(20, 2e4, 400), np.geomspace(20, 2e4, 400))
    ends = f_distribution.ppf([[[0.1]], [[0.9]]], of_audit, of_pilot) / f_distribution.ppf(
        0.5, of_audit, of_pilot
    )
    assert np.abs(ends - np.reshape(found, (2, 1, 1))).max(0).min() < 2e-3
    done = CliRunner().invoke(cli.app, ["plan", "pilot", "--width", "0.02"])
    head, line = done.stdout.splitlines()[1:3]
    assert head.endswith("95 % (8 of 10 audits)")
    assert re.search(r"± 2\.00 \(1\.\d\d to 2\.\d\d\)$", line)
    assert rows(plan(width=0.02))["accuracy", "uniform", "ppi++"]["half_width_low"] is None


def test_a_pilot_knows_its_questions_and_models(pilot):
    done = plan("pilot", difference=0.05, models=["one", "two"])
    asked = len(tables.read("pilot/proposals.parquet", "proposals")) / 400
    row = done.plan.to_pylist()[0]
    assert row["questions"] == pytest.approx(row["images"] * asked)
    assert row["n_images"] == N
    assert re.search(r"--design differences --models one --models two .*--out audit-2$", done.command)
    assert done.source == "400 audited images of pilot"
    assert len(plan("pilot", ranks=0.5).plan) == 3


def test_a_pilot_of_one_model(pilot):
    """Its probabilities alone say where a single model may be wrong, and these predictions have none."""
    done = rows(plan("pilot", width=0.02, models=["one"], proposed_by="labels"))
    assert list(done) == [("accuracy", "uniform", "ppi++"), ("accuracy", "uniform", "sample")]


def test_a_pilot_of_one_model_with_probabilities(pilot):
    top = [row[0] for row in tables.read("predictions/one.parquet", "predictions")["classes"].to_pylist()]
    scores = np.full((N, CLASSES), 0.05, np.float32)
    scores[np.arange(N), top] = 0.8
    images = pa.array([f"{n:04}.png" for n in range(N)])
    dense = tables.Predictions(images, "one", scores=scores, score_kind="probability", n_classes=CLASSES)
    tables.write_predictions(dense, "pilot/predictions/one.parquet")
    done = rows(plan("pilot", width=0.02, models=["one"], proposed_by="labels"))
    # With equal probabilities, the design draws all images with equal probabilities, too.
    active, uniform = (done["accuracy", design, "ppi++"]["images"] for design in ("active", "uniform"))
    assert active == uniform


def test_a_pilot_may_have_stopped_early(pilot, tmp_path):
    labels = tables.read("pilot/labels.parquet", "labels")
    first = labels.slice(0, 20)
    tables.write(first, "pilot/labels.parquet", "labels", about={"n_classes": "5"})
    assert message(UsageError, plan, "pilot", width=0.02, accuracy=0.8) == (
        "A pilot already determines this value.\n  got:     `accuracy`\n  do:      leave it out, or plan "
        "without a pilot"
    )
    assert message(InputError, plan, "pilot", width=0.02) == (
        "The pilot has too few images with answers to plan from.\n"
        "  where:   pilot\n"
        "  got:     20 of 400 images of the sample\n"
        "  allowed: at least 30\n"
        "  do:      have people label more images, or plan without a pilot"
    )
    tables.write(labels.slice(0, 60), "pilot/labels.parquet", "labels", about={"n_classes": "5"})
    (note,) = [n for n in plan("pilot", width=0.02).notes if n.startswith("the pilot")]
    assert note == (
        "the pilot is too small for a reliable width of accuracy: uniform ppi++, accuracy: active ppi++: the "
        "variance comes from only 5 of its 60 images, and 10 are needed. In 8 of 10 such audits, the width "
        "of the interval is within the range in brackets. To plan reliably, use a pilot of about 150 images"
    )


def test_a_campaign_that_is_no_audit(pilot, tmp_path):
    (tmp_path / "pilot/audit_sample.parquet").unlink()
    assert message(InputError, plan, "pilot", width=0.02) == (
        "The campaign is not an audit.\n"
        "  where:   pilot\n"
        "  got:     no audit_sample.parquet in it\n"
        "  allowed: a folder that manyhot audit made\n"
        "  do:      plan without a pilot, or draw one: manyhot audit LABELS --size 250 --out pilot"
    )


def test_a_plan_for_images_that_nobody_answered(pilot):
    """The number of images, the differing share and the questions are counted in plain loops."""
    best = {
        name: tables.read(f"predictions/{name}.parquet", "predictions")["classes"].to_pylist()
        for name in ("one", "two", "three")
    }
    label = pq.read_table("predictions/images.parquet")["label"].to_pylist()
    top = {name: [row[0] for row in rows] for name, rows in best.items()}
    pairs = (("one", "two"), ("one", "three"), ("two", "three"))
    differing = max(sum(a != b for a, b in zip(top[m], top[n], strict=True)) / N for m, n in pairs)
    asked = zip(*best.values(), label, strict=True)  # about the top five classes and the label
    questions = sum(len({*one[:5], *two[:5], *three[:5], own}) for one, two, three, own in asked) / N
    found = plan("predictions", difference=0.05, classes="classes.txt")
    assert found.plan.equals(plan(difference=0.05, n_images=N, differing=differing, questions=questions).plan)
    assert found.source == (
        "3 of 67 published models and ReaL's answers; predictions: 3,000 images, and 3 models whose top "
        f"classes differ on up to {differing:.0%} of the images"
    )
    assert found.command.startswith("manyhot audit predictions --size ")
    two = plan("predictions", difference=0.05, models=["one", "two"], classes="classes.txt")
    assert "--models one --models two" in two.command
    own = plan(
        "predictions", difference=0.05, classes="classes.txt", differing=0.2, questions=1, n_images=500
    )
    assert own.plan.equals(plan(difference=0.05, differing=0.2, questions=1, n_images=500).plan)
    assert message(
        UsageError, plan, "predictions", difference=0.05, models=["one"], classes="classes.txt"
    ) == (
        "A difference requires two models.\n"
        "  got:     one alone\n"
        "  do:      pass another model, or ask for a `width`"
    )
    alone = plan("predictions", hours=5, models=["one"], classes="classes.txt").plan
    assert set(alone["question"].to_pylist()) == {"accuracy"}


@pytest.mark.parametrize(
    ("option", "bad", "allowed"),
    [
        ("width", "0.5", "above 0 to below 0.5"),
        ("width", "0.7", "above 0 to below 0.5"),
        ("difference", "1.0", "above 0 to below 1"),
        ("drop", "0.0", "above 0 to below 1"),
        ("ranks", "-1.0", "above 0 to below 1"),
        ("hours", "-1.0", "above 0"),
        ("power", "0.5", "above 0.5 to below 1"),
        ("n_images", "99", "100 or more"),
        ("n_models", "1", "2 or more"),
        ("accuracy", "1.0", "above 0 to below 1"),
        ("differing", "1.2", "above 0 to 1"),
        ("questions", "0.0", "above 0"),
        ("raters", "0", "1 or more"),
        ("seconds", "0.0", "above 0"),
    ],
)
def test_ranges_on_the_command_line(option, bad, allowed):
    goal = [] if option in ("width", "difference", "drop", "ranks", "hours") else ["--width", "0.02"]
    name = f"--{option.replace('_', '-')}"
    done = CliRunner().invoke(cli.app, ["plan", *goal, name, bad])
    assert str(done.exception) == f"{name} is out of range.\n  got:     {bad}\n  allowed: {allowed}"
    helped = " ".join(CliRunner().invoke(cli.app, ["plan", "--help"]).output.replace("│", "").split())
    assert allowed in helped


def test_a_plan_for_photographs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for n in range(150):
        Path(f"photos/{n}.jpg").touch()
    found = plan("photos", width=0.05)
    assert found.plan.equals(plan(width=0.05, n_images=150).plan)
    assert found.source == "3 of 67 published models and ReaL's answers; photos: 150 images"
    assert found.command.startswith("manyhot audit predictions --size ")
    Path("photos.csv").write_text("image_id\na.jpg\nb.jpg\n")
    assert plan("photos.csv", width=0.05).plan["n_images"].to_pylist() == [2, 2, 2]
    assert message(InputError, plan, "photo", width=0.05).startswith(
        "There is no such data set, campaign or file.\n  got:     photo\n"
    )


def test_planned_widths_are_those_that_come():
    """Of 300 plans a line, from a pilot, or on ReaL's answers: the median interval is within 10 % as wide."""
    path = Path(__file__).parents[2] / "benchmarks" / "audit_plans.jsonl"
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert {line["data"] for line in lines} == {"real", "multilabelfy", "cifar10h", "voc"}
    promised = [line for line in lines if line["data"] == "real" or line["source"] != "published"]
    assert len(promised) == 2 * 3 * 2 * 2 + 2 * 3 * 2 * 2 + 2 * 2 * 2
    for line in promised:
        assert line["draws"] == 300
        assert abs(line["median"] - 1) < 0.1, line
        assert line["without"] <= (0.2 if line["data"] == "cifar10h" else 0.1), line


PAGE = Path(__file__).parents[2] / "docs" / "guides" / "evaluate" / "plan-an-audit.md"


def test_the_figure_of_the_page_is_that_of_the_command(tmp_path):
    plan(difference=0.02, raters=2).write(tmp_path)
    drawn = (tmp_path / "figures" / "plan-curve.svg").read_text(encoding="utf-8")
    assert drawn == (PAGE.parents[2] / "images" / "plan-curve.svg").read_text(encoding="utf-8")

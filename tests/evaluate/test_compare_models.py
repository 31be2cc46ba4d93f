"""Two and more models on label sets: differences, sentences, verdicts and Markdown."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import compute as pc
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from forking import commands
from manyhot import Predictions, Reading, compare, evaluate
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.evaluate.pairwise import differences, noise_line, pair_lines, points_text, to_best
from manyhot.evaluate.slice_differences import markdown
from manyhot.evaluate.write import write_page
from manyhot.report.text import metric
from manyhot.tables import write_labels, write_predictions
from manyhot.tables.array_inputs import as_labels
from report_pages import parse

N, C = 400, 6


def right_on(rng, share):
    """Return predictions whose best class is 0 on about this share of images."""
    best = np.where(rng.random(N) < share, 0, 1)
    return np.stack([best, 1 - best], axis=1)


@pytest.fixture(scope="module")
def models():
    rng = np.random.default_rng(8)
    return {"old": right_on(rng, 0.5), "new": right_on(rng, 0.7), "other": right_on(rng, 0.68)}


SETS = [[0]] * N
READING = Reading(n_classes=C, trust_order=True, dataset="mine")


def compared(models, *names, **options):
    return compare({n: models[n] for n in names}, labels=SETS, metrics=["real1"], reading=READING, **options)


def test_the_difference_of_two_models_is_that_of_a_paired_test(models):
    (found,) = differences(compared(models, "old", "new", resamples=2000).results, "mine")
    change = (models["new"][:, 0] == 0).astype(float) - (models["old"][:, 0] == 0)
    error = change.std() / np.sqrt(N)
    assert found.difference == pytest.approx(change.mean())
    assert found.p == pytest.approx(2 * norm.sf(change.mean() / error))
    assert found.interval == pytest.approx(
        (change.mean() - 1.96 * error, change.mean() + 1.96 * error), abs=4e-3
    )
    assert (found.reference, found.model, found.n) == ("old", "new", N)


def test_models_are_chosen_by_patterns(models):
    made = compare(models, labels=SETS, models=["o*r", "new"], metrics=["real1"], reading=READING)
    (found,) = differences(made.results, "mine")
    assert {found.reference, found.model} == {"new", "other"}


def test_the_sentence_names_the_better_model(models):
    made = compared(models, "old", "new")
    (found,) = differences(made.results, "mine")
    lo, hi = (100 * end for end in found.interval)
    doubt = f"95 % interval {lo:.2f} to {hi:.2f}, p < 0.001, n 400"
    size = f"{100 * found.difference:.2f} points of real1 ({doubt})"
    assert made.answers == [f"new is better than old by {size}."]
    assert compared(models, "new", "old").answers == [f"old is worse than new by {size}."]
    assert next(made.lines()) == "mine: new compared with old (differences are new minus old)"
    assert list(made.lines())[-1] == made.answers[0]
    assert "slope" not in str(made)


def test_frames_of_two_models_have_a_row_for_each_metric(models):
    made = compare({n: models[n] for n in ("old", "new")}, labels=SETS, reading=READING)
    rows = made.to_polars().to_dicts()
    assert rows == made.to_json()["differences"] == made.to_pandas().to_dict("records")
    assert [row["metric"] for row in rows] == [line.split()[0] for line in made.lines()][2:-1]
    change = (models["new"][:, 0] == 0).mean() - (models["old"][:, 0] == 0).mean()
    (row,) = (row for row in rows if row["metric"] == "real1")
    assert (row["model_a"], row["model_b"], row["n"]) == ("old", "new", N)
    assert row["difference"] == pytest.approx(change) == pytest.approx(row["b"] - row["a"])


def test_frames_of_several_models_have_the_differences_to_the_best(models):
    made = compared(models, *models)
    best, others = to_best(made.results, "mine")
    frame, pairs = made.to_polars(), made.results.pairs.to_pylist()
    rows = {frozenset((row["model_a"], row["model_b"])): row for row in pairs}
    assert len(rows) == 3
    for name in ("p", "p_adjusted"):  # one number for one pair
        assert frame[name].to_list() == [rows[frozenset((best, d.model))][name] for d in others]
    assert "p (Holm, 3 pairs)" in list(made.lines())[1]
    assert made.to_polars()["model_a"].to_list() == [best] * 2 == ["new"] * 2


def test_several_models_without_intervals_are_shown_with_the_reason(models):
    """Nothing was shown, without a note."""
    made = compared(models, "old", "new", "other", resamples=0)
    accuracy = {name: (top[:, 0] == 0).mean() for name, top in models.items()}
    best = max(accuracy, key=accuracy.get)
    lines = list(made.lines())
    others = [name for name in sorted(accuracy, key=accuracy.get, reverse=True) if name != best]
    assert lines[0] == f"mine: differences to the best by real1, {best}"
    assert [line.split()[0] for line in lines[1:5]] == ["model", best, *others]
    assert f" {100 * (accuracy[others[0]] - accuracy[best]):+.2f} " in lines[3]
    assert lines[5] == f"No interval of the difference for {others[0]}, {others[1]}, as without resamples."
    assert not made.answers
    alone = compared(models, "old", "new", "other", compare_with="none")
    assert any(line.endswith(": no pairs of models were compared.") for line in alone.lines())


def test_the_json_of_several_models_has_the_rows_that_are_shown(models):
    """It had none, also not on slices."""
    sets = [[0], [0, 2]] * (N // 2)
    made = compare(models, labels=sets, metrics=["real1"], slices=["n_labels"], reading=READING)
    rows = made.to_json()["differences"]
    assert rows == made.to_polars().to_dicts()
    images = {"all": slice(None), "n_labels=1": slice(0, None, 2), "n_labels=2": slice(1, None, 2)}
    assert [row["slice"] for row in rows] == [
        "all",
        "all",
        "n_labels=1",
        "n_labels=1",
        "n_labels=2",
        "n_labels=2",
    ]
    for row in rows:
        a, b = ((models[row[m]][images[row["slice"]], 0] == 0).mean() for m in ("model_a", "model_b"))
        assert row["difference"] == pytest.approx(b - a)
        assert row["lo"] < row["difference"] < row["hi"]


def test_the_best_of_many_models_are_shown():
    label = np.arange(60) % 3
    right = {f"m{i:02}": np.where(np.arange(60) < 60 - i, label, (label + 1) % 3) for i in range(18)}
    scores = {name: np.eye(3)[top] for name, top in right.items()}
    results = compare(scores, labels=[[k] for k in label.tolist()], resamples=20).results
    shown = [line.split()[0] for line in pair_lines(results)]
    assert [name for name in shown if name in right] == [f"m{i:02}" for i in range(15)]


def test_without_a_difference_the_sentence_says_that_none_can_be_shown(models):
    (answer,) = compared(models, "new", "other").answers
    assert answer.startswith("No difference between new and other can be shown: ")
    assert answer.endswith("n 400).")


def test_a_lower_value_is_better_for_a_loss():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (N, C))
    good, bad = y + rng.normal(0, 0.3, (N, C)), y + rng.normal(0, 2, (N, C))
    made = compare(good, bad, labels=y, metrics=["ranking_loss"], reading=Reading(trust_order=True))
    assert made.answers[0].startswith("B is worse than A by ")
    assert next(iter(differences(made.results, "labels"))).difference > 0
    assert compare(
        good, bad, labels=y, metrics=["ranking_loss"], fail_if_worse=1, reading=Reading(trust_order=True)
    ).exit_code


@pytest.mark.parametrize(
    ("names", "margin", "code", "verdict"),
    [
        (("new", "old"), 5, 7, "Failed: old loses more than 5.00 points of real1 (95 % interval "),
        (
            ("new", "old"),
            20,
            0,
            "Passed: a loss of more than 20.00 points of real1 is possible but not shown (95 % interval ",
        ),
        (("old", "new"), 0, 0, "Passed: new does not lose more than 0.00 points of real1 (95 % interval -"),
    ],
)
def test_a_model_is_worse_if_its_whole_interval_is(models, names, margin, code, verdict):
    made = compared(models, *names, fail_if_worse=margin)
    assert made.exit_code == code
    assert list(made.lines())[-1].startswith(verdict)
    (found,) = differences(made.results, "mine")
    assert (code == 7) == (found.loss[0] > margin)


def test_without_an_interval_it_is_not_decided(models, tmp_path):
    made = compared(models, "new", "old", fail_if_worse=1, resamples=0, summary=tmp_path / "pr.md")
    assert (made.is_worse, made.exit_code, made.to_json()["is_worse"]) == (None, 3, None)
    line = (
        "Not decided: whether old loses more than 1.00 points of real1, because the difference has no "
        "interval, as without resamples."
    )
    assert list(made.lines())[-1] == line
    title, sentence, table = (tmp_path / "pr.md").read_text().split("\n\n", 2)
    assert title == f"### {made.results.datasets[0]}: {line}"
    assert sentence.startswith("old has -20.75 points of real1 compared with new, without an interval")
    assert table.startswith("| metric | new | old |")


def test_a_gate_that_cannot_decide_names_the_reason_and_shows_the_classes():
    rng = np.random.default_rng(0)
    hot = np.zeros((300, 2), int)
    hot[:20, 0] = hot[50:55, 1] = 1
    a, b = (np.clip(hot * gain + rng.uniform(0, 0.5, hot.shape), 0, 1) for gain in (0.6, 0.3))
    options = {"metrics": ["f1_macro"], "classes": ["cat", "dog"]}
    made = compare(
        {"a": a, "b": b}, labels=hot, fail_if_worse=5, reading=Reading(scores="probability"), **options
    )
    assert made.exit_code == 3
    (line,) = [line for line in made.lines() if line.startswith("Not decided: ")]
    assert line == (
        "Not decided: whether b loses more than 5.00 points of f1_macro, because the difference has no "
        "interval: too few positives (8 effective, at least 30 needed)."
    )  # (1/20 + 1/5)**2 / (1/20**3 + 1/5**3) = 7.7
    assert any(line.startswith("cat") for line in made.lines())


def test_a_verdict_needs_two_models(models):
    with pytest.raises(UsageError) as error:
        compared(models, "old", "new", "other", fail_if_worse=1)
    assert str(error.value) == (
        "`fail_if_worse` needs two models: the reference, and the model that may be worse.\n"
        "  where:   mine\n"
        "  got:     3: old, new, other"
    )


def test_models_within_noise_of_the_best(models):
    made = compared(models, "old", "new", "other")
    best, found = to_best(made.results, "mine")
    assert best == "new"
    right = {name: (m[:, 0] == 0).astype(float) for name, m in models.items()}
    p = {}
    for a, b in itertools.combinations(right, 2):
        change = right[a] - right[b]
        p[a, b] = 2 * norm.sf(abs(change.mean()) / (change.std() / np.sqrt(N)))
    # Holm by hand, over all pairs: the best was chosen on the same images.
    adjusted, largest = {}, 0.0
    for i, pair in enumerate(sorted(p, key=p.get)):
        largest = adjusted[frozenset(pair)] = max(largest, min(1, (3 - i) * p[pair]))
    assert {d.model: d.p_adjusted for d in found} == pytest.approx(
        {name: adjusted[frozenset((name, "new"))] for name in ("old", "other")}
    )
    assert {d.n_compared for d in found} == {3}
    line = noise_line(best, found)
    assert line == (
        "Within noise of the best, new: other "
        "(paired differences of real1, Holm's correction for all 3 compared pairs)."
    )
    assert line in list(made.lines())
    assert line in list(evaluate(SETS, models, metrics=["real1"], reading=READING).lines())


def test_a_best_model_beyond_noise():
    rng = np.random.default_rng(3)
    models = {f"m{share}": right_on(rng, share) for share in (0.3, 0.5, 0.9)}
    (line,) = compared(models, *models).answers
    assert line.startswith("m0.9 is better than all others beyond noise (")


def test_only_images_that_all_models_predict_count(tmp_path):
    ids = [f"{i}.jpg" for i in range(40)]
    labels = as_labels([[0]] * 40, n_classes=3)
    labels = labels.__class__(labels.table.set_column(0, "image_id", pa.array(ids)), 3, name="mine")
    top = np.zeros((40, 1), int)
    part = [
        Predictions(pa.array(ids[i:j]), m, top[i:j], n_classes=3) for m, i, j in (("a", 0, 30), ("b", 10, 40))
    ]
    made = compare(part, labels=labels, metrics=["real1"], reading=Reading(trust_order=True))
    assert made.results.values_at["mine", "real1", "all"]["a"].n == 20
    assert made.notes == (
        "mine: 20 of 40 labelled images are compared: those with predictions from all models (10 have no "
        "prediction by a, 10 have no prediction by b)",
    )
    with pytest.raises(MatchError) as error:
        compare([part[0], Predictions(pa.array(ids[30:]), "c", top[:10], n_classes=3)], labels=labels)
    assert str(error.value) == (
        "No labelled image has predictions from all models.\n  where:   mine\n  got:     a: 30 of 40, c: 10 "
        "of 40\n  do:      if each model predicted images of its own, as in an A/B test, give their files "
        "the same name, evaluate each on its images, and compare the results: manyhot compare RESULTS RESULTS"
    )


def test_models_on_images_of_their_own_are_compared_under_one_name(tmp_path):
    """As in an A/B test; under two names there is nothing to compare, and the error says why."""
    rng = np.random.default_rng(0)
    for names in (("v1", "v2"), ("net", "net")):
        written = [tmp_path / names[0] / str(half) for half in (0, 1)]
        for half, (name, folder) in enumerate(zip(names, written, strict=True)):
            ids = pa.array([str(i) for i in range(60 * half, 60 * half + 60)])
            labels = as_labels(rng.integers(3, size=60)[:, None].tolist(), n_classes=3)
            table = labels.table.set_column(0, "image_id", ids)
            top = rng.permuted(np.tile(np.arange(3), (60, 1)), axis=1)
            data = replace(labels, table=table, name=f"d{half}")
            found = evaluate(
                data, [Predictions(ids, name, top, n_classes=3)], metrics=["real1"], resamples=100
            )
            found.write(folder)
        made = compare(written)
        if len(set(names)) == 1:
            assert len(made.drops)
            continue
        with pytest.raises(InputError, match="give their files the same name"):
            made.write(tmp_path / "compared")


def test_only_images_without_labels_are_counted_as_such():
    labels = as_labels([[0]] * 20, n_classes=3)
    top = np.zeros((40, 1), int)
    part = [
        Predictions(pa.array([str(i) for i in range(*ends)]), m, top[: ends[1] - ends[0]], n_classes=3)
        for m, ends in (("a", (0, 15)), ("b", (10, 25)))
    ]
    notes = compare(part, labels=labels, metrics=["real1"], reading=Reading(trust_order=True)).notes
    assert [note.partition(": ")[2] for note in notes[1:]] == [
        "5 of 15 predicted images have no labels and were left out"
    ]


def test_one_model_is_no_comparison(models):
    with pytest.raises(InputError) as error:
        compared(models, "old")
    assert str(error.value) == (
        "A comparison needs two models or more.\n  where:   mine\n  got:     old\n"
        "  do:      pass another model; to compare one model on two versions of labels, run manyhot evaluate "
        "on each, and pass both results without `labels`"
    )


def test_results_of_other_images_are_not_compared():
    ids = [f"{i}.jpg" for i in range(40)]
    labels = as_labels([[0]] * 40, n_classes=3)
    labels = labels.__class__(labels.table.set_column(0, "image_id", pa.array(ids)), 3, name="mine")
    top = np.zeros((40, 1), int)
    part = [
        Predictions(pa.array(ids[i:j]), m, top[i:j], n_classes=3) for m, i, j in (("a", 0, 30), ("b", 10, 40))
    ]
    made = compare(evaluate(labels, part, metrics=["real1"], resamples=10, reading=Reading(trust_order=True)))
    assert (
        list(made.lines())[-1]
        == "a and b were evaluated on different images (30 and 30) and are not compared."
    )
    (row,) = made.results.pairs.to_pylist()  # a page, drawn without samples, sees there that none is defined
    assert np.isnan([row["difference"], row["lo"], row["hi"], row["p"]]).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models):
    """Write label sets, and the predictions of two models under the same name in two folders."""
    folder = tmp_path_factory.mktemp("models")
    ids = pa.array([f"{i:03}.jpg" for i in range(N)])
    labels = as_labels(SETS, n_classes=C)
    labels = labels.__class__(labels.table.set_column(0, "image_id", ids), C, name="mine")
    write_labels(labels, folder / "labels.parquet")
    for name in ("old", "new"):
        (folder / name).mkdir()
        net = Predictions(ids, "net", models[name], n_classes=C)
        write_predictions(net, folder / name / "net.parquet")
    return folder


def test_files_of_one_name_are_told_apart_by_their_folders(folder):
    done = commands.run(
        *("compare", "new/net.parquet", "old/net.parquet", "--labels", "labels.parquet", "--trust-order"),
        *("--metric", "real1", "--fail-if-worse", 5, "--summary", "pr.md", "--out", "out"),
        cwd=folder,
        code=7,
    )
    lines = done.stdout.splitlines()
    minus = "differences are old/net minus new/net"
    assert lines[0] == f"mine: old/net compared with new/net ({minus})"
    assert lines[3].startswith("old/net is worse than new/net by ")
    assert lines[4].startswith("Failed: old/net loses more than 5.00 points of real1 (95 % interval ")
    text = (folder / "pr.md").read_text()
    sentence = lines[3].replace("<", r"\<")
    assert text.startswith(f"### mine: {lines[4]}\n\n{sentence}\n\n| metric | new/net | old/net |")
    pairs = pl.read_csv(folder / "out" / "pairs.csv")
    assert pairs.select("model_a", "model_b", "n").rows() == [("new/net", "old/net", N)]
    # As on the terminal: old is worse than new, the first model.
    assert pairs["difference"][0] < 0 > pairs["hi"][0]
    values = pl.read_csv(folder / "out" / "results.csv").filter(pl.col("slice") == "all")
    new, old = (values.filter(model=m, metric="real1")["value"][0] for m in ("new/net", "old/net"))
    assert pairs["difference"][0] == pytest.approx(old - new)
    stored = pl.read_parquet(folder / "out" / "pairs.parquet")
    assert stored["difference"].to_list() == pytest.approx(pairs["difference"].to_list())


def test_a_comparison_as_json(folder):
    done = commands.run(
        *("compare", "new/net.parquet", "old/net.parquet", "--labels", "labels.parquet", "--trust-order"),
        *("--metric", "real1", "--json", "--out", "json"),
        cwd=folder,
    )
    found = json.loads(done.stdout)
    (row,) = found["differences"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["lo"] < row["difference"] < row["hi"]
    assert (row["metric"], row["model_a"], row["n"]) == ("real1", "new/net", N)
    assert found["answers"][0].startswith("old/net is worse")


def test_pairs_of_earlier_versions_are_a_minus_b(models):
    made = compared(models, "old", "new")
    (now,) = differences(made.results, "mine")
    pairs, at = made.results.pairs, made.results.pairs.column_names.index
    assert pairs["difference"].to_pylist() == pytest.approx([now.difference])
    then = pairs
    for new, old in {"difference": "difference", "lo": "hi", "hi": "lo"}.items():
        then = then.set_column(at(new), new, pc.negate(pairs[old]))
    for table in (then, then.rename_columns({"model_a": "model_b", "model_b": "model_a"})):
        (found,) = differences(replace(made.results, pairs=table), "mine")
        assert (found.difference, found.lo, found.hi, found.p) == (now.difference, now.lo, now.hi, now.p)


def test_a_folder_of_a_comparison_can_be_drawn_and_compared_again(folder, models):
    made = compare(
        folder / "new" / "net.parquet",
        folder / "old" / "net.parquet",
        labels=folder / "labels.parquet",
        reading=Reading(trust_order=True),
    )
    made.write(folder / "again")
    assert compare(folder / "again").answers == made.answers
    commands.run("report", "again", cwd=folder)


def test_predictions_without_labels(folder):
    with pytest.raises(UsageError) as error:
        compare(folder / "new" / "net.parquet", folder / "old" / "net.parquet")
    assert str(error.value) == (
        "These are predictions, not results.\n"
        f"  where:   {folder / 'new' / 'net.parquet'}\n"
        "  do:      pass label sets for them as `labels`"
    )
    for passed in (np.eye(3), {"a": np.eye(3)}):
        with pytest.raises(UsageError) as error:
            compare(passed, np.eye(3))
        assert str(error.value) == (
            "These are predictions, not results.\n"
            f"  where:   {type(passed).__name__}\n"
            "  do:      pass label sets for them as `labels`"
        )
    with pytest.raises(UsageError) as error:
        compare("timm-results", metrics=["real1"])
    assert str(error.value) == (
        "Options for predictions can only be used with label sets.\n"
        "  got:     `metrics`\n"
        "  do:      pass `labels`, or leave the options out"
    )


def test_a_file_that_cannot_be_read_is_an_error(folder):
    (folder / "broken.npy").write_bytes(b"no array")
    with pytest.raises(InputError) as error:
        compare(folder / "broken.npy", folder / "new" / "net.parquet", labels=folder / "labels.parquet")
    assert error.value.details["where"] == (folder / "broken.npy")


def test_names_in_markdown_are_shown_as_they_are(models):
    hostile = {"a|b": models["old"], "<img src=x>\n# c": models["new"]}
    with pytest.raises(InputError):  # a line break in a name
        compare(hostile, labels=SETS, reading=READING)
    hostile = {"a|b": models["old"], "<img src=x>": models["new"]}
    made = compare(hostile, labels=SETS, metrics=["real1"], reading=READING)
    text = markdown(made.results)
    minus = r"difference (\<img src=x\> − a\|b)"
    assert rf"| metric | a\|b | \<img src=x\> | {minus} | 95 % | p | n |" in text
    assert "<img" not in text.replace(r"\<img", "")


WORKFLOW = Path(__file__).parents[2] / "examples" / "github-actions" / "compare-models.yml"


@pytest.mark.parametrize(("candidate", "code"), [("old", 7), ("new", 0)])
def test_the_example_workflow_runs(tmp_path, models, candidate, code):
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(WORKFLOW.read_text())
    steps = {s["name"]: s for s in workflow["jobs"]["compare"]["steps"] if "name" in s}
    np.save(tmp_path / "baseline.npy", models["new"])
    np.save(tmp_path / "candidate.npy", models[candidate])
    ids = [f"{i}.jpg" for i in range(N)]
    (tmp_path / "images.txt").write_text("".join(f"{i}\n" for i in ids))
    (tmp_path / "classes.txt").write_text("".join(f"class{c}\n" for c in range(C)))
    (tmp_path / "labels.csv").write_text("image_id,classes\n" + "".join(f"{i},class0\n" for i in ids))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "manyhot").write_text(f'#!/bin/sh\nexec {sys.executable} -m manyhot "$@"\n')
    (tmp_path / "bin" / "manyhot").chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    for name, expected in (("Compare", code), ("Show the comparison in the pull request's checks", 0)):
        run = subprocess.run(["bash", "-e", "-c", steps[name]["run"]], cwd=tmp_path, env=env)
        assert run.returncode == expected
    text = (tmp_path / "summary.md").read_text()
    # 400 images on which the models agree do not exclude a loss of 0.5 points.
    verdict = "Failed: candidate loses more" if code else "Passed: a loss of more than 0.50 points"
    assert verdict in text
    assert "| metric | baseline | candidate |" in text


def test_two_models_are_compared_on_each_class(tmp_path):
    rng = np.random.default_rng(0)
    hot = rng.random((300, 3)) < [0.4, 0.4, 0.02]
    weak = rng.normal(size=hot.shape) + hot
    strong = weak + hot * [2.0, 0.0, 2.0]
    found = compare({"weak": weak, "strong": strong}, labels=hot, classes=["cat", "dog", "owl"])
    rows = {row["key"]: row for row in found.classes.to_pylist()}
    assert rows["cat"]["difference_lo"] > 0
    assert rows["owl"]["difference_lo"] is None
    assert rows["dog"]["difference"] == 0
    lines = list(found.lines())
    assert "average precision by class: intervals uncorrected, p corrected by Holm over 1 class" in lines
    n, n_owl = hot[:, 1].sum(), hot[:, 2].sum()
    assert [line.split()[:2] for line in lines[-7:-4]] == [
        ["cat", f"{hot[:, 0].sum()}"],
        ["dog", f"{n}"],
        ["owl", f"{n_owl}"],
    ]
    assert [" ".join(line.split()[-3:]) for line in lines[-6:-4]] == ["not tested –"] * 2
    assert lines[-4:] == [
        "strong is better on cat.",
        "2 of 3 classes have the 30 images that a test needs. Not tested: owl.",
        "Not tested, because both models have the same value: dog.",
        "strong has the higher AP on 2 of the 3 classes, and weak on 0; the APs are equal on 1 (a count, "
        "untested classes included, not a test).",
    ]
    # Tables without rows, such as ranks and fits of two models, are not written, and those of an earlier run
    # are removed; the page is drawn without them.
    for name in ("drops.csv", "drops.parquet"):
        (tmp_path / name).touch()
    written = found.write(tmp_path)
    tables = {"class_differences", "models", "pairs", "results", "samples"}
    assert {path.stem for path in written} == {path.stem for path in tmp_path.iterdir()} == tables
    assert write_page(tmp_path, beside=False).exists()
    assert compare(tmp_path).answers == found.answers


def test_of_many_classes_few_can_be_tested(tmp_path):
    rng = np.random.default_rng(0)
    hot = rng.random((300, 80)) < [0.4] * 3 + [0.02] * 76 + [0.0]
    hot[0, :79] = True
    a, b = rng.normal(size=(2, *hot.shape)) + hot
    found = compare({"a": a, "b": b}, labels=hot)
    of_a, of_b = (np.array([average_precision_score(hot[:, c], s[:, c]) for c in range(79)]) for s in (a, b))
    few = sorted(range(3, 79), key=lambda c: -hot[:, c].sum())[:5]
    no_difference, *lines = list(found.lines())[-5:]
    assert no_difference == "No difference can be shown on any of the 3 classes tested."
    assert lines == [
        "Only 3 of 79 classes have the 30 images that a test needs. Not tested: "
        f"{', '.join(map(str, few))} and 71 more.",
        "1 class is on no image.",
        f"b has the higher AP on {(of_b > of_a).sum()} of the 79 classes, and a on {(of_a > of_b).sum()} "
        "(a count, untested classes included, not a test).",
        "All 79 classes are in class_differences.csv.",
    ]
    found.write(tmp_path)
    assert pl.read_csv(tmp_path / "class_differences.csv").filter(pl.col("n_positives") > 0).height == 79


def test_the_page_says_on_which_classes_and_how_intervals_are_computed(tmp_path):
    rng = np.random.default_rng(0)
    hot = rng.random((300, 3)) < [0.4, 0.4, 0.3]
    weak = (rng.normal(size=hot.shape) + hot).astype(np.float32)
    strong = (weak + hot * [2.0, 0.0, 0.0]).astype(np.float32)
    # Everywhere on the page, differences are the second model minus the first, as on the terminal.
    models = {"strong": strong, "weak": weak}
    found = compare(models, labels=hot, classes=["cat", "dog", "owl"], metrics=None)
    found.write(tmp_path)
    page = parse(write_page(tmp_path, beside=False).read_text(encoding="utf-8"))
    by_metric, by_class = page.one("div", "verdict").all("table")
    assert by_metric.one("thead").text == "Metric strong weak Difference 95 % interval p n"
    assert by_class.one("thead").text == "Class Images strong weak Difference 95 % interval p (Holm)"
    row, *untested = by_class.one("tbody").all("tr")
    n = hot[:, 0].sum()
    values = [100 * average_precision_score(hot[:, 0], model[:, 0]) for model in (strong, weak)]
    cells = [cell.text for cell in (row.one("th"), *row.all("td"))]
    loss = values[0] - values[1]
    assert cells[:5] == ["cat", f"{n}", f"{values[0]:.2f} %", f"{values[1]:.2f} %", f"−{loss:.2f}"]
    assert [row.all("td")[4].text for row in untested] == ["not tested"] * 2
    note = page.one("div", "verdict").all("p", "about")[-1].text
    assert note == (
        "Lowest p first; intervals uncorrected, p corrected by Holm over 1 class. strong is better on cat. "
        "Not tested, because both models have the same value: dog, owl. weak has the higher AP on 0 of the 3 "
        "classes, and strong on 1; the APs are equal on 2 (a count, untested classes included, not a test)."
    )
    assert page.one("h1").text == "strong and weak"
    answer = page.one("div", "verdict").one("p", "answer").text
    assert answer.startswith("weak is worse than strong by ")
    assert "points of mAP (macro)" in answer
    assert answer.replace("mAP (macro)", "map_macro") in found.lines()
    made = page.one("section", id="made").text
    assert " of mAP (macro) and mAP (micro) are computed by the jackknife" in made
    assert "mAP (images) are percentiles of a bootstrap" in made


def test_the_page_does_not_subtract_values_on_different_images(tmp_path):
    # One list has one class per image, so that variable top-k skips its 40 images with two labels.
    long = np.where(np.arange(100)[:, None] % 3 > 0, [0, 1], [1, 0])
    sets = [[0]] * 60 + [[0, 1]] * 40
    names = ["real1", "variable_topk"]
    reading = Reading(n_classes=2)
    compare({"short": long[:, :1], "long": long}, labels=sets, metrics=names, reading=reading).write(tmp_path)
    page = parse(write_page(tmp_path, beside=False).read_text(encoding="utf-8"))
    real1, topk = page.one("div", "verdict").one("tbody").all("tr")
    assert [cell.text for cell in real1.all("td")][:3] == ["80.00 %", "80.00 %", "+0.00"]
    assert [cell.text for cell in topk.all("td")] == ["66.67 %", "80.00 %", "–", "–", "–", "60 / 100"]


def test_models_without_a_common_metric_name_the_way_out(tmp_path):
    ids = [f"{i}.jpg" for i in range(40)]
    labels = tmp_path / "l.csv"
    pl.DataFrame({"image": ids, "labels": ["cat", "dog"] * 20}).write_csv(labels)
    pl.DataFrame({"image": ids, "cat": [0.6, 0.1] * 20, "dog": [0.4, 0.9] * 20}).write_csv(
        tmp_path / "dense.csv"
    )
    top = ["cat"] * 39 + ["dog"]
    tags = [json.dumps({"image": i, "tags": [t], "scores": [0.9]}) for i, t in zip(ids, top, strict=True)]
    (tmp_path / "tags.jsonl").write_text("\n".join(tags))
    files = [tmp_path / "dense.csv", tmp_path / "tags.jsonl"]
    with pytest.raises(InputError, match="There is nothing to compare") as error:
        compare(*files, labels=labels).write(tmp_path / "out")
    assert error.value.details["where"] is None
    do = error.value.details["do"]
    assert do.startswith(
        "pass `metrics` that all models have, such as real1, which needs only the top class ("
    )
    assert "dense has map_" in do
    assert "tags has real1" in do
    found = compare(*files, labels=labels, metrics=["real1"])
    assert differences(found.results, "l")[0].difference == pytest.approx(21 / 40 - 1)


def test_predictions_and_results_of_predicting_are_named_by_the_caller():
    class Result:
        predictions = Predictions(pa.array(["0", "1"]), "net", scores=np.eye(2, dtype=np.float32))

    better = Predictions(pa.array(["0", "1"]), "net", scores=np.eye(2, dtype=np.float32)[::-1])
    found = compare({"old": Result(), "new": better}, labels=[[1], [0]], reading=Reading(n_classes=2))
    assert found.results.table["model"].unique().to_pylist() == ["old", "new"]


def test_results_of_two_calls_say_which_command_compares_their_models(folder):
    for name in ("old", "new"):
        commands.run(
            *("evaluate", "labels.parquet", "--predictions", f"{name}/net.parquet"),
            *("--metric", "real1", "--trust-order", "--out", f"results-{name}"),
            cwd=folder,
        )
        commands.run(
            *("evaluate", "labels.parquet", "--predictions", f"{name}/net.parquet"),
            *("--metric", "real1", "--seed", 3, "--out", f"seed-{name}"),
            cwd=folder,
        )
    with pytest.raises(MatchError) as error:
        compare(folder / "seed-old", folder / "seed-new")
    assert error.value.details["allowed"] == (
        "one version of each model; models have the names of their files and, in one call, of the folders of "
        "files of one name"
    )
    assert str(error.value).endswith(
        "  do:      compare the models from their predictions: manyhot compare old/net.parquet "
        "new/net.parquet --labels labels.parquet --metric real1 --seed 3"
    )
    with pytest.raises(MatchError) as error:
        compare(folder / "results-old", folder / "results-new")
    assert "compare models from their predictions, with `labels`" in str(error.value)


def test_numbers_of_images_that_differ_between_metrics_are_explained():
    """Images without a valid class count for mAP of classes, and not for that of images."""
    rng = np.random.default_rng(0)
    hot = (rng.random((80, 3)) < 0.5).astype(int)
    hot[:8] = 0
    models = {name: hot + rng.normal(0, 1, hot.shape) for name in ("one", "two")}
    for metrics in (["map_macro", "map_image"], ["map_macro"]):
        lines = list(compare(models, labels=hot, metrics=metrics, resamples=20).lines())
        skipped = int((~hot.any(axis=1)).sum())
        line = (
            "n: out of 80 images, a metric skips those without a valid class and those on which it is "
            f"undefined: map_image {skipped}"
        )
        assert (line in lines) == ("map_image" in metrics)
        assert any(text.startswith("average precision by class") for text in lines)


def test_percent_have_two_decimals_and_other_numbers_four():
    assert points_text(metric("top1"), 1.23456) == "1.23 points"
    assert points_text(metric("brier"), 0.123456) == "0.1235"


def test_what_the_intervals_of_equal_models_mean():
    rng = np.random.default_rng(0)
    hot = rng.random((300, 3)) < 0.4
    scores = rng.random(hot.shape)
    models = {"a": scores, "b": scores.copy(), "c": rng.random(hot.shape)}
    line = (
        "On these images, b and a are equal by every metric; the intervals around 0 show by how much they "
        "may differ on other images."
    )
    for other in "bc":
        pair = {name: models[name] for name in ("a", other)}
        found = compare(pair, labels=hot, scores="probability", metrics=["map_macro", "f1_micro"])
        assert (line in found.lines()) == (other == "b")


def test_models_that_the_names_put_into_one_family_are_noted():
    rng, label = np.random.default_rng(0), np.arange(120) % 3
    scores = {f"m{i:02}": rng.normal(size=(120, 3)) + np.eye(3)[label] * i for i in range(6)}
    both = [
        evaluate(label, scores, scores="logit", metrics=["top1"], dataset=name, resamples=20)
        for name in ("old", "new")
    ]
    assert compare(*both).notes == (
        "all 6 models are of one family according to their names, m, so there are no intervals over "
        "families; if their architectures differ, pass the family of each model as `families`",
    )
    assert compare(*both, families=dict.fromkeys(scores, "mine")).notes == ()

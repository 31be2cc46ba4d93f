"""Models compared on slices of the images: against paired tests of the slice's images alone."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_rel

from forking import commands
from manyhot import Reading, compare, evaluate
from manyhot.errors import InputError, UsageError
from manyhot.evaluate.slice_differences import by_slice, slice_sentences, sliced
from manyhot.evaluate.write import write_page
from report_pages import parse

N = 600
IDS = [f"{i}.jpg" for i in range(N)]


@pytest.fixture(scope="module")
def data():
    """Return images at night and by day, and two models of which the second is better at night."""
    rng = np.random.default_rng(3)
    night = rng.random(N) < 0.4
    right = {"old": rng.random(N) < 0.6, "new": rng.random(N) < np.where(night, 0.85, 0.6)}
    images = {"image_id": IDS, "time": np.where(night, "night", "day"), "lamps": rng.integers(0, 9, N)}
    return night, right, pd.DataFrame(images)


def predicted(right):
    return {
        name: pd.DataFrame(np.stack([r, ~r], 1).astype(float), IDS, ["cat", "dog"])
        for name, r in right.items()
    }


def labels():
    return pd.DataFrame(np.tile([1, 0], (N, 1)), IDS, ["cat", "dog"])


def compared(data, slices, right=None, **options):
    _, models, images = data
    reading = Reading(images=images, dataset="mine", trust_order=True)
    return compare(
        predicted(right or models),
        labels=labels(),
        metrics=["real1"],
        slices=slices,
        reading=reading,
        **options,
    )


def paired(right, mask):
    """Return the difference on some images, and its standard error."""
    change = right["new"][mask].astype(float) - right["old"][mask]
    return change.mean(), change.std() / np.sqrt(mask.sum())


def test_a_slice_is_compared_as_its_images_alone(data):
    night, right, _ = data
    day, dark = by_slice(compared(data, ["time"], resamples=2000).results, "mine")
    assert (day.slice, dark.slice) == ("time=day", "time=night")
    for found, mask in ((day, ~night), (dark, night)):
        change, error = paired(right, mask)
        assert found.difference == pytest.approx(change)
        assert found.n == mask.sum()
        assert found.interval == pytest.approx((change - 1.96 * error, change + 1.96 * error), abs=8e-3)
    # Holm's method: the smaller of two p counts twice.
    p = [2 * norm.sf(abs(change) / error) for change, error in (paired(right, ~night), paired(right, night))]
    assert (day.p, dark.p) == pytest.approx((p[0], p[1]))
    assert (day.p_adjusted, dark.p_adjusted) == pytest.approx((p[0], 2 * p[1]))


def test_it_is_said_where_a_model_is_better_and_whether_that_depends_on_the_column(data):
    lines = list(compared(data, "time").lines())
    at = lines.index("mine: real1 on each slice, intervals uncorrected")
    assert [line.split()[0] for line in lines[at + 1 : at + 4]] == ["slice", "time=day", "time=night"]
    assert lines[at + 4 : at + 6] == [
        "new is better on time=night.",
        "No difference can be shown on time=day.",
    ]
    (day, day_error), (dark, dark_error) = (paired(data[1], mask) for mask in (~data[0], data[0]))
    z = (dark - day) / np.hypot(day_error, dark_error)
    found = re.fullmatch(r"The difference depends on time \(Cochran's Q (.+), p < 0\.001\)\.", lines[at + 6])
    assert float(found[1]) == pytest.approx(z**2, rel=0.03)  # of two slices, Q is the square of z
    assert 2 * norm.sf(abs(z)) < 0.001


def test_the_slices_of_the_best_models_are_shown_in_the_order_of_numbers():
    names = [f"m{i}" for i in range(7)]
    right = {name: np.arange(N) < 60 * (i + 3) for i, name in enumerate(names)}
    images = pd.DataFrame({"image_id": IDS, "lamps": np.array([1, 2, 10])[np.arange(N) % 3]})
    reading = Reading(images=images, dataset="mine", trust_order=True)
    options = {"metrics": ["real1"], "slices": ["lamps"], "resamples": 0}
    made = evaluate(labels(), predicted(right), reading=reading, **options)
    lines = list(made.lines())
    at = lines.index("mine: real1 on each slice, best 5 of 7 models")
    assert lines[at + 1].split() == ["slice", *names[:1:-1], "images"]
    assert [line.split()[0] for line in lines[at + 2 : at + 5]] == ["lamps=1", "lamps=2", "lamps=10"]


def test_of_many_slices_the_sentences_name_ten_and_say_why_none_is_tested(data):
    found = compared(data, "time").results
    day, _ = by_slice(found, "mine")
    open_pairs = [replace(day, slice=f"s={i}", p=0.5, p_adjusted=0.5) for i in range(12)]
    better = replace(day, slice="s=99", p=0.01, p_adjusted=0.01, difference=0.2)
    names = ", ".join(f"s={i}" for i in range(10))
    lines = list(slice_sentences(found, [better, *open_pairs]))
    assert lines[1] == f"No difference can be shown on {names} and 2 more."
    (line,) = slice_sentences(found, [replace(day, p=None, p_adjusted=None, lo=None, hi=None)])
    assert line.startswith("No slice can be tested, because no difference has an interval there: ")


def test_without_evidence_nothing_depends_on_a_column(data):
    rng = np.random.default_rng(5)
    right = {"old": rng.random(N) < 0.6, "new": rng.random(N) < 0.8}
    lines = list(compared(data, "time", right).lines())
    assert any(line.startswith("It cannot be shown that the difference depends on time (") for line in lines)


@pytest.mark.parametrize(("lower_is_better", "better"), [(False, "old"), (True, "new")])
def test_the_difference_says_which_model_is_better(data, lower_is_better, better):
    """Not an end of the interval, which is computed in another way than p and may lie beyond 0."""
    found = compared(data, "time").results
    day, dark = by_slice(found, "mine")
    lower = replace(day.metric, lower_is_better=lower_is_better)
    p = {"p": 0.049, "p_adjusted": 0.049}
    pairs = [
        replace(day, difference=-0.05, lo=-0.101, hi=0.001, metric=lower, **p),
        replace(dark, p=0.5, p_adjusted=0.5),
    ]
    assert next(slice_sentences(found, pairs)) == f"{better} is better on time=day."


def test_slices_that_may_share_images_are_not_tested_against_each_other(data):
    _, _, images = data
    tags = images.assign(tags=[["a", "b"] if i % 3 else ["a"] for i in range(N)])
    found = compared((*data[:2], tags), ["tags", "lamps>=2", "lamps>=4"])
    assert sliced(found.results, "mine") == ["tags=a", "tags=b", "lamps>=2", "lamps>=4"]
    assert not [line for line in found.lines() if "depend" in line]


def test_default_slices_are_compared_on_request(data):
    night, models, images = data
    sets = labels()
    sets.loc[night, "dog"] = 1
    reading = Reading(images=images, dataset="mine", trust_order=True)
    found = compare(predicted(models), labels=sets, metrics=["real1"], slices="n_labels", reading=reading)
    one, two = by_slice(found.results, "mine")
    assert (one.slice, two.slice) == ("n_labels=1", "n_labels=2")
    assert (one.n, two.n) == ((~night).sum(), night.sum())
    assert two.difference == 0  # both classes are right
    lines = list(evaluate(sets, predicted(models), slices="n_labels", reading=reading).lines())
    assert any(line.startswith("n_labels=2 ") for line in lines)


def test_with_more_models_each_slice_has_its_best(data):
    night, right, _ = data
    lines = list(compared(data, "time", {**right, "also": ~night | right["new"]}).lines())
    at = lines.index("mine: the best model by real1 on each slice, and which others are within noise")
    rows = {line.split()[0]: line.split()[1:] for line in lines[at + 2 : at + 4]}
    assert rows["time=day"] == ["also", "100.00%", "0", "2", str((~night).sum())]
    assert rows["time=night"][0] in ("new", "also")
    assert rows["time=night"][2:4] == ["1", "1"]


def test_a_slice_without_differences_is_not_better_for_anyone(data):
    _, right, images = data
    rare = images.assign(time=["fog"] * 3 + images["time"].tolist()[3:])
    same = {"old": right["old"], "new": right["new"].copy()}
    same["new"][:3] = same["old"][:3]
    made = compared((*data[:2], rare), "time", same)
    found = {pair.slice: pair for pair in by_slice(made.results, "mine")}
    assert (found["time=fog"].difference, found["time=fog"].n) == (0, 3)
    assert not any("better" in line and "fog" in line for line in made.lines())


def test_rows_of_slices_are_in_the_frame_the_json_the_page_and_the_summary(data, tmp_path):
    found = compared(data, "time", summary=tmp_path / "summary.md")
    assert found.to_polars()["slice"].to_list() == ["all", "time=day", "time=night"]
    assert [row["slice"] for row in found.to_json()["differences"]] == ["all", "time=day", "time=night"]
    assert "| time=night |" in (tmp_path / "summary.md").read_text()
    found.write(tmp_path / "out")
    page = parse(write_page(tmp_path / "out", beside=False).read_text())
    assert "time=night" in page.text
    assert "The difference depends on time" in page.text


def test_slices_need_labels_and_columns(data, tmp_path):
    with pytest.raises(InputError, match="no slice 'weather'"):
        compared(data, "weather")
    compared(data, ()).write(tmp_path / "out")
    with pytest.raises(UsageError, match="can only be used with label sets"):
        compare(tmp_path / "out", slices="time")


def test_the_command_prints_slices(data, tmp_path):
    _, right, images = data
    images.to_csv(tmp_path / "images.csv", index=False)
    labels().rename_axis("image_id").to_csv(tmp_path / "labels.csv")
    for name, frame in predicted(right).items():
        frame.rename_axis("image_id").to_csv(tmp_path / f"{name}.csv")
    words = "old.csv new.csv --labels labels.csv --images images.csv --slice time --metric real1 --json"
    done = commands.run("compare", *words.split(), cwd=tmp_path)
    rows = json.loads(done.stdout)["differences"]
    assert [row["slice"] for row in rows] == ["all", "time=day", "time=night"]


def test_slices_that_share_clusters_are_compared_within_clusters(tmp_path):
    """Two cameras photograph each part: 45 parts are hard on both, and 12 on the second camera only."""
    n = 300
    hard, extra = np.arange(n) < 45, (np.arange(n) >= 45) & (np.arange(n) < 57)
    ids = [f"{i}_{camera}.jpg" for camera in (1, 2) for i in range(n)]
    right = {"old": np.ones(2 * n, bool), "new": ~np.concatenate([hard, hard | extra])}
    images = pd.DataFrame({"image_id": ids, "part": [*range(n)] * 2, "camera": np.repeat(["a", "b"], n)})
    scores = {
        name: pd.DataFrame(np.stack([r, ~r], 1).astype(float), ids, ["cat", "dog"])
        for name, r in right.items()
    }
    found = compare(
        scores,
        labels=pd.DataFrame(np.tile([1, 0], (2 * n, 1)), ids, ["cat", "dog"]),
        metrics=["real1"],
        slices=["camera"],
        clusters="part",
        reading=Reading(images=images, dataset="mine", trust_order=True),
    )
    (line,) = (line for line in found.lines() if "depends on camera" in line)
    expected = ttest_rel((~hard).astype(float), ~(hard | extra))
    assert expected.pvalue < 0.001
    q = f"{expected.statistic**2:.2f}"
    assert line == f"The difference depends on camera (Cochran's Q over clusters {q}, p < 0.001)."
    found.write(tmp_path)
    assert line in compare(tmp_path).lines()  # read again


def test_a_slice_with_few_positives_of_a_class_is_untested_for_that_reason():
    """The models differ on nearly all images of the slice, but cow has only 3 positives there."""
    rng, n = np.random.default_rng(0), 400
    y, ids = (rng.random((n, 3)) < 0.4).astype(int), [f"{i}.jpg" for i in range(n)]
    y[:, 2] = np.isin(np.arange(n), [*range(60), 200, 201, 202])
    images = pd.DataFrame({"image_id": ids, "land": np.where(np.arange(n) < 200, "AT", "PT")})
    frame = {"index": ids, "columns": ["cat", "dog", "cow"]}
    scores = {m: pd.DataFrame(2 * y + rng.normal(0, s, y.shape), **frame) for m, s in (("a", 1), ("b", 2))}
    found = compare(
        scores,
        labels=pd.DataFrame(y, **frame),
        metrics=["map_macro"],
        slices=["land"],
        reading=Reading(images=images, scores="logit", dataset="mine"),
    )
    lines = [*found.lines()]
    assert "Not tested, because map_macro has no interval there: land=PT." in lines
    assert not any("the same for any choice of images" in line for line in lines)
    why = "no interval of map_macro on land=PT: too few positives (3 effective, at least 30 needed)"
    assert sum(why in note for note in found.notes) == 1

"""Conditions on the columns of an images table select the images that pandas selects."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Reading, diagnose_classes, diagnose_sets, evaluate
from manyhot.errors import InputError, UsageError
from manyhot.tables.image_conditions import images_with, note_on_placeholder, some_values

pd = pytest.importorskip("pandas")
metrics = pytest.importorskip("sklearn.metrics")

N, CLASSES = 200, ["forest", "urban", "water"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Label sets and columns in one file, scores in another, with the same ids in another order."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    hot = rng.random((N, 3)) < 0.4
    hot[~hot.any(1), 0] = True
    scores = (rng.normal(size=hot.shape) + 1.5 * hot).astype(np.float32)
    table = pd.DataFrame(
        {
            "image_id": [f"{i:03}.png" for i in range(N)],
            "labels": [str([c for c, is_valid in zip(CLASSES, row, strict=True) if is_valid]) for row in hot],
            "split": rng.choice(["train", "val", "test"], N),
            "cloud": rng.integers(0, 100, N),
            "site": rng.choice(["a", ""], N),
        }
    )
    table.to_csv("meta.csv", index=False)
    frame = pd.DataFrame(scores, index=pd.Index(table["image_id"], name="image_id"), columns=CLASSES)
    frame.iloc[rng.permutation(N)].to_csv("net.csv")
    return table, hot, scores


CASES = {
    "split=test": lambda t: t["split"] == "test",
    "split=val split=test": lambda t: t["split"].isin(["val", "test"]),
    "split=test cloud<=50": lambda t: (t["split"] == "test") & (t["cloud"] <= 50),
    "split=val split=test cloud>=20 cloud<=80": lambda t: t["split"].ne("train") & t["cloud"].between(20, 80),
    "site=*": lambda t: t["site"] == "a",
    "site=": lambda t: t["site"] == "",
    "site=a site=": lambda t: t["site"].isin(["a", ""]),
}


@pytest.mark.parametrize("where", CASES)
@pytest.mark.parametrize("images", [None, "meta.csv"])
def test_the_images_that_pandas_selects(data, where, images):
    table, hot, scores = data
    inside = CASES[where](table).to_numpy()
    reading = Reading(where=where.split(), images=images, scores="logit")
    found = evaluate("meta.csv", ["net.csv"], metrics=["map_macro", "f1_macro"], reading=reading)
    rows = {r["metric"]: r for r in found.results.to_pylist() if r["slice"] == "all"}
    assert rows["map_macro"]["value"] == pytest.approx(
        metrics.average_precision_score(hot[inside], scores[inside])
    )
    assert rows["f1_macro"]["value"] == pytest.approx(
        metrics.f1_score(hot[inside], scores[inside] >= 0, average="macro")
    )
    assert {r["n"] + r["n_skipped"] for r in rows.values()} == {inside.sum()}
    (note,) = [n.text for n in found.model_notes if "included" in n.text]
    assert note.startswith(f"{inside.sum()} of {N} images are included: ")
    assert not [n for n in found.model_notes if n.kind.endswith("_unmatched")]


def test_alternatives_and_conditions_are_told_apart(data):
    where = ["split=val", "cloud>=20", "split=test"]
    found = evaluate("meta.csv", ["net.csv"], resamples=0, reading=Reading(where=where, scores="logit"))
    assert any(n.text.endswith(": split=val or split=test, and cloud>=20") for n in found.model_notes)


def test_every_command_takes_conditions(data):
    table, hot, scores = data
    inside = (table["split"] == "val").to_numpy()
    reading = Reading(where="split=val", scores="logit")
    by_class = diagnose_classes("meta.csv", ["net.csv"], reading=reading).class_results.to_pylist()
    expected = [metrics.average_precision_score(hot[inside, c], scores[inside, c]) for c in range(3)]
    assert [row["ap"] for row in by_class] == pytest.approx(expected)
    assert f"{inside.sum()} of {N} images are included" in " ".join(
        diagnose_sets("meta.csv", ["net.csv"], reading=reading).notes
    )


def test_slices_and_clusters_of_the_file_of_label_sets_need_it_as_images(data):
    table, _, _ = data
    options = {"slices": ["cloud>=20"], "clusters": "split", "metrics": ["f1_macro"]}
    with pytest.raises(InputError, match="pass a table with the column"):
        evaluate("meta.csv", ["net.csv"], reading=Reading(scores="logit"), **options)
    reading = Reading(images="meta.csv", scores="logit")
    found = evaluate("meta.csv", ["net.csv"], reading=reading, **options)
    assert any("over 3 clusters of split with 200 images" in note.text for note in found.model_notes)
    (row,) = [r for r in found.results.to_pylist() if r["slice"] == "cloud>=20"]
    assert row["n"] + row["n_skipped"] == (table["cloud"] >= 20).sum()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("split=tst", "No image has split=tst.\n  where:   `where`\n  allowed: "),
        (
            "splt=test",
            "There is no condition 'splt=test' on images.\n  where:   `where`\n",
        ),
        ("split", "There is no condition 'split' on images.\n"),
        ("cloud<50", "There is no condition 'cloud<50' on images.\n"),
        (
            "cloud>50",
            "There is no condition 'cloud>50' on images.\n  where:   `where`\n"
            "  got:     the columns split, labels, cloud, site\n"
            "  allowed: COLUMN=VALUE, COLUMN=*, COLUMN=, COLUMN>=VALUE or COLUMN<=VALUE\n"
            "  do:      write cloud>=50",
        ),
        (
            "0<=cloud<=50",
            "There is no condition '0<=cloud<=50' on images.\n  where:   `where`\n"
            "  got:     the columns split, labels, cloud, site\n"
            "  allowed: COLUMN=VALUE, COLUMN=*, COLUMN=, COLUMN>=VALUE or COLUMN<=VALUE\n"
            "  do:      pass the ends of a range as two conditions, COLUMN>=LOW and COLUMN<=HIGH",
        ),
        ("cloud>=0,cloud<=50", "There is no condition 'cloud>=0,cloud<=50' on images.\n"),
        ("split>=4", "The condition 'split>=4' compares values that are neither numbers nor dates.\n"),
    ],
)
def test_what_is_refused(data, where, message):
    with pytest.raises(InputError) as error:
        evaluate("meta.csv", ["net.csv"], reading=Reading(where=where, scores="logit"))
    assert str(error.value).startswith(message)


REDSHIFTS = (
    "{} includes 50 images whose z is -999 (25.0% of all images; the others have 0.01 to 0.2): if it means "
    "that there is no value, leave these cells empty, or also require z>=0.01"
)


def redshifts(missing):
    """Return 150 redshifts from 0.01 to 0.2, and `missing` in place of 50 others."""
    return np.concatenate([np.full(50, missing), np.linspace(0.01, 0.2, 150)])


@pytest.mark.parametrize(
    ("asked", "n", "note"),
    [
        (["z<=0.1"], 121, REDSHIFTS.format("z<=0.1")),  # 50 and the 71 of 150 that pandas counts
        (["z>=0", "z<=0.1"], 71, ""),
        (["z>=0.1"], 79, ""),
    ],
)
def test_a_number_that_may_mean_no_value(data, asked, n, note):
    """The redshift -999 was among the nearest, without a note."""
    table, _, _ = data
    z = pd.Series(redshifts(-999.0))
    pd.DataFrame({"image_id": table["image_id"], "z": z}).to_csv("z.csv", index=False)
    assert n == np.logical_and.reduce([table.assign(z=z).eval(spec) for spec in asked]).sum()
    options = {"metrics": ["f1_macro"], "resamples": 0}
    for where, slices in ((asked, []), ([], [",".join(asked)])):
        reading = Reading(images="z.csv", where=where, scores="logit")
        found = evaluate("meta.csv", ["net.csv"], slices=slices, reading=reading, **options)
        rows = [r for r in found.results.to_pylist() if r["slice"] == (slices or ["all"])[0]]
        assert {r["n"] + r["n_skipped"] for r in rows} == {n}
        assert [t.text for t in found.model_notes if " includes " in t.text] == ([note] if note else [])


@pytest.mark.parametrize(
    ("values", "spec", "is_noted"),
    [
        (redshifts(-999.0), "z<=0.1", True),
        (redshifts(99.0), "z>=0.1", True),
        (redshifts(99.0), "z<=99", False),  # all images meet it, whatever 99 means
        (redshifts(0.0), "z<=0.1", False),  # a redshift of 0 is as near to the others as they are
        (np.repeat([-999.0, 1.0, 2.0, 3.0], 50), "z<=1", False),  # codes, of which any may be meant
        (np.concatenate([np.full(4, -999.0), redshifts(-999.0)[50:]]), "z<=0.1", False),  # rare
    ],
)
def test_which_numbers_may_mean_no_value(values, spec, is_noted):
    (mask,) = images_with(spec, pa.array(values)).values()
    assert bool(note_on_placeholder(spec, pa.array(values), mask)) == is_noted
    text = pa.array([f"{v:.6f}" for v in values])  # a column of numbers as texts
    assert bool(note_on_placeholder(spec, text, mask)) == is_noted


def test_conditions_that_exclude_one_another(data):
    where = ["cloud>=60", "cloud<=40"]
    with pytest.raises(InputError) as error:
        evaluate("meta.csv", ["net.csv"], reading=Reading(where=where, scores="logit"))
    assert str(error.value) == (
        "No image meets all conditions.\n  where:   `where`\n  got:     cloud>=60 and cloud<=40"
    )


def test_a_benchmark_has_no_columns():
    with pytest.raises(UsageError, match="A benchmark has its own labels"):
        evaluate("imagenet", reading=Reading(where="split=test"))


COLUMNS = {
    "tags": pa.array([["a", "b"], [], ["b"], None], pa.large_list(pa.large_string())),
    "huge": pa.array([2**53 + 1, 2**53, 999, None], pa.int64()),
    "seen": pa.array([True, False, None, True]),
    "zero": pa.array([65.0, 0.5, None, float("nan")]),
    "size": pa.array([65.0, 0.5, None, 1e6], pa.float32()),
    "snow": pa.array([True, False, None, True]),
}


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        ("tags=b", [0, 2]),
        ("tags=a", [0]),
        (f"huge>={2**53 + 1}", [0]),
        ("huge>=1000", [0, 1]),
        ("huge<=999.5", [2]),
        ("zero=*", [0, 1]),
        ("size>=1e6", [3]),
        ("snow=true", [0, 3]),
        ("snow=True", [0, 3]),
        ("snow=False", [1]),
    ],
)
def test_columns_of_any_type(spec, rows):
    (mask,) = images_with(spec, COLUMNS[spec.split("=")[0].rstrip("<>")]).values()
    assert np.flatnonzero(mask).tolist() == rows


@pytest.mark.parametrize("column", COLUMNS)
def test_values_in_messages_are_written_as_in_conditions(column):
    for value in some_values(COLUMNS[column]).split(", "):
        (mask,) = images_with(f"{column}={value}", COLUMNS[column]).values()
        assert mask.any(), value


DAY, NEXT = datetime(2026, 11, 8, 23, 59), datetime(2026, 11, 9)


@pytest.mark.parametrize(
    "values",
    [
        ["2026-11-07", "2026-11-08", "2026-11-09T00:00:00Z", "", None],
        pa.array([date(2026, 11, 7), date(2026, 11, 8), date(2026, 11, 9), None, None]),
        pa.array([datetime(2026, 11, 7), DAY, NEXT, None, None]),
        pa.array([datetime(2026, 11, 7), DAY, NEXT, None, None], pa.timestamp("ms", "UTC")),
    ],
)
def test_dates_are_compared_by_day(values):
    values = pa.array(values)
    (later,) = images_with("taken>=2026-11-08", values).values()
    (earlier,) = images_with("taken<=2026-11-08", values).values()
    assert later.tolist() == [False, True, True, False, False]
    assert earlier.tolist() == [True, True, False, False, False]


INSTANTS = [datetime(2026, 1, day, hour, tzinfo=UTC) for hour in (1, 13, 23) for day in (31, 30)]
ZONES = {"utc": [0] * 6, "berlin": [1] * 6, "mixed": [0, -8] * 3}
WRITTEN = {
    name: [
        t.astimezone(timezone(timedelta(hours=h))).isoformat() for t, h in zip(INSTANTS, hours, strict=True)
    ]
    for name, hours in ZONES.items()
}


@pytest.mark.parametrize("column", ZONES)
@pytest.mark.parametrize("bound", ["31T13:00:00Z", "31 05:00:00-08:00", "31T14:00+0100"])
def test_times_are_compared_as_points_in_time(column, bound):
    values = pa.array([*WRITTEN[column], None, ""])
    (mask,) = images_with(f"taken<=2026-01-{bound}", values).values()
    assert mask.tolist() == [*(t <= INSTANTS[2] for t in INSTANTS), False, False]
    local = pa.array(["2026-01-31 12:59:59", "2026-01-31 13:00"])
    (mask,) = images_with("taken>=2026-01-31T13:00", local).values()
    assert mask.tolist() == [False, True]


def test_days_of_several_time_zones_are_refused():
    """A day in Los Angeles begins eight hours after that of UTC."""
    with pytest.raises(InputError) as error:
        images_with("taken<=2026-01-30", pa.array(WRITTEN["mixed"]))
    assert str(error.value) == (
        "A date is ambiguous for 'taken', whose times have several time zones.\n"
        "  where:   taken<=2026-01-30\n"
        "  got:     times in the time zones +0000, -0800\n"
        "  allowed: one time zone, or a time with a time zone\n"
        "  do:      pass a time, such as taken<=2026-11-08T00:00:00Z, or write the column in one time zone"
    )
    for column, n in (("utc", 3), ("berlin", 2)):  # as it is written: 23:00Z is the next day in Berlin
        (mask,) = images_with("taken<=2026-01-30", pa.array(WRITTEN[column])).values()
        assert mask.sum() == n
    summer = pa.array([datetime(2026, 1, 30, 23), datetime(2026, 7, 1)], pa.timestamp("s", "Europe/Berlin"))
    (mask,) = images_with("taken<=2026-01-31", summer).values()  # two offsets, one zone
    assert mask.tolist() == [True, False]
    with pytest.raises(InputError, match="with and without a time zone"):
        images_with("taken<=2026-01-31T12:00", pa.array(WRITTEN["utc"]))


def test_months_are_compared():
    for values in (["2025-12", "2026-01", "2026-02", ""], ["2025-12-31", "2026-01-31", "2026-02-01", None]):
        (mask,) = images_with("month<=2026-01", pa.array(values)).values()
        assert mask.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ("taken>=2026-03-15", ["01.03.2026", ""]),
        ("taken<=15.03.2026", ["01.03.2026"]),
        ("taken>=2026-03-15", ["3/1/2026"]),
        ("taken<=3-15-2026", ["2026-03-01"]),
    ],
)
def test_dates_with_the_year_last_are_refused_with_how_to_write_them(spec, values):
    with pytest.raises(InputError) as error:
        images_with(spec, pa.array(values))
    assert str(error.value) == (
        f"The condition '{spec}' compares values that are neither numbers nor dates.\n"
        f"  got:     a column of string, such as {values[0]}\n"
        "  allowed: a column of numbers and a number, or a column of dates or times and a date such as "
        "2026-11-08\n"
        "  do:      write dates as year-month-day, in the column and in the condition"
    )


@pytest.mark.parametrize("values", [["08.11.2026"], [20261108], [["2026-11-08"]], ["2026-11-08", "later"]])
def test_what_is_no_date_is_refused(values):
    with pytest.raises(InputError, match="neither numbers nor dates"):
        images_with("taken>=2026-11-08", pa.array(values))

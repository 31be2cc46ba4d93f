"""Tables in which people write the same id, class or rater differently, or different ones alike."""

import random
import unicodedata

import pytest

from manyhot import aggregate, evaluate, read_images, read_labels, read_votes
from manyhot.data.inputs import Reading
from manyhot.formats import read_classes

IDS = [f"Übersicht {i:03d}.jpg" for i in range(12)]


def nfd(text):
    return unicodedata.normalize("NFD", text)


SPELLINGS = {"nfd": nfd, "space": lambda text: f"{text} ", "both": lambda text: f" {nfd(text)}"}


def write(path, header, rows, separator=";"):
    lines = [header, *rows]
    path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
    return path


def votes_file(path, image=str, name=str, rater=str):
    rows = [
        (image(i) if r == "Ben" else i, name(c) if r == "Ben" else c, rater(r) if n % 2 else r, a)
        for r, a in (("Anna", "yes"), ("Ben", "no"), ("Jörg", "yes"))
        for n, i in enumerate(IDS)
        for c in ("Käfer", "Thrips")
    ]
    return write(path, ("image", "class", "rater", "answer"), rows)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("column", ["image", "name", "rater"])
def test_votes_in_other_spellings_are_about_the_same_things(tmp_path, column, spelling):
    votes = read_votes(votes_file(tmp_path / "v.csv", **{column: SPELLINGS[spelling]}))
    assert (len(votes), votes.n_questions, votes.n_raters) == (72, 24, 3)
    assert votes.images.to_pylist() == IDS
    assert votes.rater_id.to_pylist() == ["Anna", "Ben", "Jörg"]
    assert votes.class_list.keys == ("Käfer", "Thrips")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_image_is_called_as_in_its_first_row(tmp_path, spelling, suffix):
    pl = pytest.importorskip("polars")
    rows = [(nfd(i), "Käfer") for i in IDS] + [(SPELLINGS[spelling](i), "Thrips") for i in IDS]
    path = tmp_path / f"l.{suffix}"
    if suffix == "csv":
        write(path, ("image", "label"), rows)
    else:
        pl.DataFrame(rows, schema=["image", "label"], orient="row").write_parquet(path)
    labels = read_labels(path)
    assert labels.image_id.to_pylist() == [nfd(i) for i in IDS]
    assert labels.table["classes"].to_pylist() == [[0, 1]] * len(IDS)


def test_values_of_images_in_other_spellings_are_equal(tmp_path):
    rows = [("a.jpg", "Köln"), ("b.jpg", nfd("Köln")), ("c.jpg", "Köln "), ("d.jpg", "Bonn")]
    images = read_images(write(tmp_path / "m.csv", ("image_id", "Ort"), rows))
    assert images.table["Ort"].to_pylist() == ["Köln", "Köln", "Köln", "Bonn"]


def test_a_duplicate_in_another_spelling_is_refused_as_a_duplicate(tmp_path, message):
    plain, other = (
        write(tmp_path / "l.csv", ("image", "Käfer", "Thrips"), [("é.jpg", 1, 0), (second, 0, 1)])
        and message(lambda: read_labels(tmp_path / "l.csv"))
        for second in ("é.jpg", nfd("é.jpg "))
    )
    assert plain == other
    assert "more than once" in plain


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            {"image": lambda i: i[:-4]},
            "12 of 24 images have the name of another one, with another extension or letter case, such as "
            "Übersicht 000.jpg and Übersicht 000, and count as different images; if they are the same, write "
            "each name in one way",
        ),
        (
            {"image": lambda i: i[:-4] + ".JPG"},
            "12 of 24 images have the name of another one, with another extension or letter case, such as "
            "Übersicht 000.jpg and Übersicht 000.JPG, and count as different images; if they are the same, "
            "write each name in one way",
        ),
        (
            {"name": str.lower},
            "names that differ only in case or underscores are read as different classes: Käfer and "
            "käfer, Thrips and thrips; if they are the same class, write them in the same way",
        ),
        (
            {"rater": lambda r: r.lower() if r == "Anna" else f"{r[0]}  {r[1:]}" if r == "Ben" else r},
            "4 of 5 raters have the name of another one, in another letter case or with other spaces, such "
            "as 'Anna' and 'anna', and count as different raters; if they are the same, write each name in "
            "one way",
        ),
    ],
)
def test_votes_about_similar_names_have_a_note(tmp_path, change, note):
    assert note in aggregate(votes_file(tmp_path / "v.csv", **change), method="majority").notes


def test_labels_of_similar_images_have_a_note(tmp_path):
    rows = [("a.jpg", "cat"), ("a.png", "dog"), ("b", "cat")]
    assert not any("another extension" in n for n in read_labels(_labels(tmp_path, rows)).notes)
    (note,) = read_labels(_labels(tmp_path, [*rows, ("A.JPG", "dog"), ("b.jpg", "dog")])).notes
    assert note.startswith("2 of 5 images have the name of another one")


def _labels(folder, rows):
    return write(folder / "l.csv", ("image", "label"), rows)


def test_sources_about_similar_images_have_a_note(tmp_path):
    files = []
    for name, ids in (("anna", IDS), ("ben", [i if n % 2 else i[:-4] for n, i in enumerate(IDS)])):
        rows = [(i, n % 2, n % 3 == 0) for n, i in enumerate(ids)]
        files.append(write(tmp_path / f"{name}.csv", ("image", "Käfer", "Thrips"), rows))
    (note,) = [n for n in aggregate(sources=files).notes if "another extension" in n]
    assert note.startswith("6 of 18 images")


CODES = ["0012", "12", "0013", "0014"]


@pytest.fixture
def coded():
    rng = random.Random(1)
    labels = [rng.choice(CODES) for _ in range(80)]
    predicted = [c if rng.random() < 0.6 else rng.choice(CODES) for c in labels]
    return labels, predicted, sum(a == b for a, b in zip(labels, predicted, strict=True)) / 80


@pytest.mark.parametrize("classes", [None, CODES])
@pytest.mark.parametrize("dense", [False, True])
def test_numbers_with_leading_zeros_are_names(tmp_path, coded, classes, dense):
    labels, predicted, accuracy = coded
    write(tmp_path / "l.csv", ("image", "label"), [(f"{i}.jpg", c) for i, c in enumerate(labels)])
    if dense:
        rows = [(f"{i}.jpg", *(0.9 if c == p else 0.1 for c in CODES)) for i, p in enumerate(predicted)]
        write(tmp_path / "p.csv", ("image", *CODES), rows)
    else:
        rows = [(f"{i}.jpg", c) for i, c in enumerate(predicted)]
        write(tmp_path / "p.csv", ("image", "prediction"), rows)
    found = evaluate(
        tmp_path / "l.csv",
        tmp_path / "p.csv",
        metrics=["top1"],
        resamples=0,
        reading=Reading(classes=classes),
    )
    row = next(row for row in found.results.to_pylist() if row["metric"] == "top1")
    assert (row["value"], row["n"]) == (pytest.approx(accuracy), 80)


@pytest.mark.parametrize("classes", [None, CODES])
@pytest.mark.parametrize("column", ["class", "class_id"])
def test_votes_about_numbers_with_leading_zeros(tmp_path, column, classes):
    rows = [("a.jpg", c, r, "yes") for c in CODES for r in ("Anna", "Ben")]
    path = write(tmp_path / "v.csv", ("image", column, "rater", "answer"), rows, ",")
    votes = read_votes(path, classes=classes)
    assert sorted(votes.class_list.keys[c] for c in votes.class_id) == sorted(CODES)
    assert votes.class_list.keys == tuple(sorted(CODES) if classes is None else CODES)


def test_numbers_without_leading_zeros_are_still_numbers(tmp_path):
    labels = read_labels(_labels(tmp_path, [("a.jpg", 12), ("b.jpg", 10), ("c.jpg", 0)]))
    assert labels.table["classes"].to_pylist() == [[12], [10], [0]]
    assert labels.class_list is None


def test_a_class_without_a_name_is_called_by_its_key(tmp_path):
    rows = [("Käfer", "beetle"), ("Blattlaus", ""), ("Thrips", "  ")]
    classes = read_classes(write(tmp_path / "k.csv", ("key", "name"), rows))
    assert classes.names == ("beetle", "Blattlaus", "Thrips")
    (tmp_path / "open.csv").write_text('/m/011k07,Tortoise\n/m/0120dh,""\n')
    assert read_classes(tmp_path / "open.csv").names == ("Tortoise", "/m/0120dh")


@pytest.mark.parametrize("ids", ['""', "ID", "id"])
@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_are_no_ids_beside_names_of_images(tmp_path, ids, first, message):
    rows = [(n + first, f"IMG_{n * 7 % 12}.jpg", n % 2, n % 3 == 0) for n in range(12)]
    path = write(tmp_path / "l.csv", (ids, "Aufnahme", "Laus", "Thrips"), rows)
    assert message(lambda: read_labels(path)) == (
        "The ids of images only number the rows, but another column contains names of images.\n"
        f"  where:   {path}, column {ids.strip(chr(34))!r}\n"
        f"  got:     {first}, {first + 1}, … beside IMG_0.jpg, IMG_7.jpg, … in 'Aufnahme'\n"
        "  do:      rename 'Aufnahme' to image_id, or drop it if the numbers are the same in all files"
    )
    for column in ("Bild", "Foto", "Datei", "Dateiname"):
        labels = read_labels(
            write(path, (ids, column, "Laus", "Thrips"), [(a, b, c, int(d)) for a, b, c, d in rows])
        )
        assert labels.image_id.to_pylist() == [row[1] for row in rows]
    write(path, (ids, "Aufnahme", "Laus", "Thrips"), [(a + 5, b, c, int(d)) for a, b, c, d in rows])
    assert read_labels(path).image_id.to_pylist() == [str(row[0] + 5) for row in rows]


def test_a_text_that_is_no_time(tmp_path, message):
    header = ("image_id", "class_id", "rater_id", "answer", "shown_at", "answered_at")
    rows = [
        ("a.jpg", 0, "Anna", "yes", "2026-12-01T10:00:00Z", "2026-12-01T10:00:05Z"),
        ("b.jpg", 0, "Anna", "yes", "2026-12-01T10:00:05Z", "01.12.2026 10:00"),
    ]
    write(tmp_path / "v.csv", header, rows, ",")
    assert message(lambda: read_votes(tmp_path / "v.csv")) == (
        "The column 'answered_at' of the votes table contains a value that is not a time.\n"
        "  where:   v, row 1\n  got:     01.12.2026 10:00\n"
        "  allowed: times with their zone, such as 2021-03-09T22:16:08Z\n"
        "  do:      write the times like this, or drop the column"
    )
    rows = [(*row[:4], "2026-12-01T10:00:00Z", "2026-12-01 10:00") for row in rows]
    write(tmp_path / "v.csv", header, rows, ",")  # as Excel writes times
    assert message(lambda: read_votes(tmp_path / "v.csv")) == (
        "The column 'answered_at' of the votes table contains times without a time zone.\n"
        "  where:   v, row 0\n  got:     2026-12-01 10:00, one of 2 such times\n"
        "  allowed: times with their zone, such as 2021-03-09T22:16:08Z\n"
        "  do:      add the zone, as in 2026-12-01 10:00Z for UTC, or drop the column"
    )
    write(tmp_path / "v.csv", header, [(*row[:5], f"{row[5]}Z") for row in rows], ",")
    assert len(read_votes(tmp_path / "v.csv")) == 2

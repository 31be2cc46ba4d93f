"""What a gallery holds, and the files it is written to."""

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from gallery_cases import (
    FIRST,
    HOSTILE,
    IDS,
    LABEL,
    NAMES,
    VERDICTS,
    dots,
    images_table,
    images_table_of,
    model,
    one_class,
    small_gallery,
)
from manyhot.errors import InputError, MatchError, OutputError
from manyhot.report.gallery import SIMILAR, make_gallery, verdict
from manyhot.report.gallery_files import LARGE, PART, SMALL, remove_gallery, write_gallery
from manyhot.report.pictures import NOT_ASKED, UNRECORDED, LabelRow, in_files
from noted_photographs import ENDINGS, PROFILE, SECRET, TURNED, write_photograph

image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return small_gallery(tmp_path_factory.mktemp("photos"), image)


@pytest.fixture(scope="module")
def folder(gallery, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "gallery"
    write_gallery(gallery, out)
    return out


def called(path):
    """Return the name and the data of a script that makes one call."""
    text = path.read_text(encoding="ascii")
    start, _, rest = text.partition("(")
    assert rest.endswith(");\n")
    return start.removeprefix("manyhotGallery."), json.loads(rest[:-3])


def test_verdicts(gallery):
    assert [s.verdicts[0] for s in gallery.shots] == VERDICTS
    assert gallery.shots[10].verdicts[1] == "none"
    assert gallery.shots[11].verdicts[1] == "valid"


@pytest.mark.parametrize(
    ("best", "row", "said"),
    [
        (None, LabelRow(0), "none"),
        (1, LabelRow(None, (), "", UNRECORDED), "unknown"),
        (1, LabelRow(0, (), "", UNRECORDED), "wrong"),
        (0, LabelRow(0, (), "", UNRECORDED), "right"),
        (1, LabelRow(None, ((1, "yes"),), "", NOT_ASKED, True), "right"),
        (1, LabelRow(None, ((1, "yes"),), "", UNRECORDED, False), "unknown"),
        (1, LabelRow(0, ((1, "yes"),), "", NOT_ASKED, False), "wrong"),
        (0, LabelRow(0, ((0, "unclear"),), "", NOT_ASKED, False), "right"),
        (2, LabelRow(None, ((1, "yes"),), "", UNRECORDED, True), "wrong"),
        (0, LabelRow(0, ((1, "yes"),), "", UNRECORDED, True), "refuted"),
        (0, LabelRow(0, ((1, "yes"),), "", NOT_ASKED, True), "right"),
        (2, LabelRow(0, ((1, "yes"),), "", NOT_ASKED, True), "unasked"),
        (1, LabelRow(0, ((0, "yes"), (1, "no")), "", NOT_ASKED, True), "wrong"),
        (2, LabelRow(0, ((0, "yes"),), "", NOT_ASKED, False), "wrong"),
        (0, LabelRow(0, ((0, "unclear"),), "", NOT_ASKED, True), "unclear"),
    ],
)
def test_verdict_by_what_is_known(best, row, said):
    assert verdict(best, row) == said


def test_label_sets_and_guesses(gallery):
    shot = gallery.shots[4]
    assert shot.label_set == ((2, "yes"), (3, "unclear"))
    assert [c for c, _ in shot.seen[0]] == [3, 4, 5]
    assert [p for _, p in shot.seen[0]] == pytest.approx([0.7, 0.18, 0.12])
    assert shot.states[3] == "unclear"
    assert gallery.shots[2].n_rejected == 1
    assert gallery.shots[7].remark == "No rater has seen this image."
    assert not gallery.shots[7].is_rated
    assert gallery.shots[10].seen[1] == ()


def test_kinds_of_errors_belong_to_their_model(gallery):
    assert gallery.shots[2].kinds == ("fine-grained", "")
    assert gallery.shots[0].kinds == ("", "")


def test_fixed_choice_is_of_the_class_and_never_the_image_itself(gallery):
    for i, shot in enumerate(gallery.shots):
        assert set(shot.similar) == set(shot.states)
        for c, rows in shot.similar.items():
            others = [j for j, label in enumerate(LABEL) if label == c and j != i]
            assert sorted(rows) == others, "classes this small are shown whole"


def test_fixed_choice_is_spread_over_the_data_set():
    ids = [f"{i}.jpg" for i in range(1000)]
    images = images_table_of(ids)
    shots = make_gallery(images, None, [one_class(ids)]).shots
    for i in (0, 1, 200, 999):
        rows = shots[i].similar[0]
        assert len(rows) == SIMILAR
        assert i not in rows
        assert max(rows) - min(rows) >= 400


def test_nearest_images_where_there_are_any(gallery, tmp_path):
    near = pa.table(
        {
            "image_id": [IDS[0], IDS[0], IDS[1]],
            "class_id": pa.array([0, 1, None], pa.int32()),
            "neighbours": [[IDS[9], IDS[0], "elsewhere.jpg", IDS[1]], [], [IDS[3]]],
        }
    )
    made = small_gallery(tmp_path, image, similar=near, similar_by="first")
    assert made.shots[0].similar[0] == (9, 1), "in their order, without the image itself"
    assert made.shots[0].similar[1] == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"findings": [pa.table({"kind": ["x"], "image_id": ["other.jpg"], "model": ["first"]})]},
            "The findings share no image or model with the gallery.\n"
            "  got:     findings on other.jpg\n"
            "  allowed: images such as plain.jpg\n"
            "  do:      pass findings of the same images and models",
        ),
        (
            {"similar": pa.table({"image_id": ["o"], "class_id": [0], "neighbours": [["p"]]})},
            "The similar images share no image or model with the gallery.\n"
            "  got:     similar images on o\n"
            "  allowed: images such as plain.jpg\n"
            "  do:      pass similar images of the same images and models",
        ),
    ],
)
def test_what_belongs_to_other_images_is_refused(given, message, tmp_path):
    with pytest.raises(MatchError) as error:
        small_gallery(tmp_path, image, **given)
    assert str(error.value) == message


def test_without_labels_and_names(tmp_path):
    made = make_gallery(images_table(IDS), None, [model("first", FIRST)])
    assert made.names[0] == "class 0"
    assert made.shots[1].verdicts == ("wrong",), "the one label is all that is known"
    assert not made.shots[1].is_rated


def test_the_index_tells_what_filters_need(folder):
    name, index = called(folder / "data" / "index.js")
    assert name == "index"
    assert index["ids"] == IDS
    assert index["labels"] == LABEL
    assert index["sets"][1] == [0, 1]
    assert [index["verdicts"][int(j[0])] for j in index["judged"]] == VERDICTS
    assert [s[0] for s in index["sure"]] == [round(p * 10_000) for _, p in FIRST]
    assert index["sure"][10][1] is None
    assert index["absent"] == [9]
    assert index["names"] == {str(i): n for i, n in enumerate(NAMES)}
    assert index["kinds"] == ["fine-grained", "valid-label"]


def test_a_part_holds_the_rest(folder):
    name, part = called(folder / "data" / "0.js")
    assert (name, part["number"], len(part["images"])) == ("part", 0, 12)
    assert part["images"][9]["photo"] == "not an image of a known format"
    assert part["images"][1]["photo"] == [400, 300]


def test_photographs_in_two_sizes(folder):
    assert not (folder / "photos" / "9.jpg").exists()
    for i in (0, 1):
        with image.open(folder / "photos" / f"{i}.jpg") as large:
            assert max(large.size) <= LARGE
        with image.open(folder / "thumbs" / f"{i}.jpg") as small:
            assert small.size == (SMALL, SMALL)


@pytest.mark.parametrize("ending", ENDINGS)
def test_of_what_is_written_in_a_file_a_gallery_has_the_colour_profile_alone(gallery, tmp_path, ending):
    path = write_photograph(tmp_path / f"a.{ending}")
    write_gallery(gallery, tmp_path / "g", photographs=in_files([str(path)] * len(gallery)))
    for place in (tmp_path / "g/photos/0.jpg", tmp_path / "g/thumbs/0.jpg"):
        assert SECRET not in place.read_bytes()
        with image.open(place) as found:
            assert not {"comment", "exif", "photoshop", "xmp"} & set(found.info)
            assert found.info.get("icc_profile") == (PROFILE if ending in TURNED else None)


def test_no_name_of_the_data_set_is_markup_or_an_address(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert HOSTILE not in page
    assert "<title>Small &amp; &lt;script&gt;window.owned=1&lt;/script&gt;: gallery</title>" in page
    assert {p.stem for p in (folder / "photos").iterdir()} <= {str(i) for i in range(12)}
    assert page.count("<script") == 2
    assert "//" not in page.replace("<!--", "")


def digests(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_same_input_gives_the_same_bytes(gallery, folder, tmp_path):
    write_gallery(gallery, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(folder)


def test_an_earlier_gallery_is_replaced(gallery, tmp_path):
    write_gallery(gallery, tmp_path / "g")
    (tmp_path / "g" / "photos" / "77.jpg").write_bytes(b"old")
    (tmp_path / "g" / "data" / "7.js").write_text("old")
    written = write_gallery(gallery, tmp_path / "g")
    assert not (tmp_path / "g" / "photos" / "77.jpg").exists()
    assert not (tmp_path / "g" / "data" / "7.js").exists()
    assert all(p.is_file() for p in written)


def test_a_run_that_is_stopped_leaves_the_earlier_gallery_whole(gallery, folder, tmp_path):
    out = tmp_path / "g"
    write_gallery(gallery, out)

    def stop(*_):
        raise KeyboardInterrupt

    other = replace(gallery, title="other")
    with pytest.raises(KeyboardInterrupt):
        write_gallery(other, out, progress=stop)
    assert digests(out) == digests(folder)
    assert not list(out.glob(".*"))
    with pytest.raises(KeyboardInterrupt):
        write_gallery(other, tmp_path / "new", progress=stop)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("full", ["index.js", "0.js", "gallery.js", "index.html", "3.jpg"])
def test_a_full_disk_leaves_the_earlier_gallery_whole(gallery, folder, tmp_path, monkeypatch, full):
    out = tmp_path / "g"
    write_gallery(gallery, out)
    save, write = image.Image.save, Path.write_text

    def refuse(path):
        if path.name == full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def saving(self, path, *args, **options):
        refuse(Path(path))
        return save(self, path, *args, **options)

    def writing(self, *args, **options):
        refuse(self)
        return write(self, *args, **options)

    monkeypatch.setattr(image.Image, "save", saving)
    monkeypatch.setattr(Path, "write_text", writing)
    with pytest.raises(OutputError) as error:
        write_gallery(replace(gallery, title="other"), out)
    assert str(error.value) == (
        f"The disk is full; this file was not written.\n  where:   {out / 'index.html'}\n"
        "  do:      free some space or choose another `out`"
    )
    assert digests(out) == digests(folder)
    assert not list(out.glob(".*"))


def test_of_two_runs_at_once_the_last_to_end_stands_whole(gallery, tmp_path):
    out, other, begun = tmp_path / "g", replace(gallery, title="other", shots=gallery.shots[:3]), []

    def meanwhile(*_):
        if not begun:
            begun.append(True)
            write_gallery(other, out)

    write_gallery(gallery, out, progress=meanwhile)
    write_gallery(gallery, tmp_path / "alone")
    assert digests(out) == digests(tmp_path / "alone")


@pytest.mark.parametrize("own", ["photos/mine.jpg", "gallery.js", "data/index.js"])
def test_another_folder_is_left_alone(gallery, tmp_path, own):
    mine = tmp_path / own
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"mine")
    with pytest.raises(OutputError) as error:
        write_gallery(gallery, tmp_path)
    assert str(error.value) == (
        f"The folder contains something other than a gallery.\n  where:   {tmp_path}\n"
        f"  got:     {own.partition('/')[0]}\n  do:      choose another folder with `out`"
    )
    assert mine.read_bytes() == b"mine"


def test_what_lies_beside_a_gallery_stays(gallery, tmp_path):
    out = tmp_path / "g"
    write_gallery(gallery, out)
    (out / "notes.txt").write_text("mine")
    write_gallery(gallery, out)
    remove_gallery(out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]
    remove_gallery(out)
    assert (out / "notes.txt").read_text() == "mine"


def test_photographs_that_were_moved(gallery, tmp_path):
    uris = [f"gone/{i}" for i in IDS]
    moved = make_gallery(images_table(uris), None, [model("first", FIRST)])
    with pytest.raises(InputError) as error:
        write_gallery(moved, tmp_path / "g")
    assert str(error.value) == (
        "None of the 12 photographs can be shown.\n  where:   gone/plain.jpg\n"
        "  got:     the file does not exist\n"
        "  do:      pass their current addresses as `images`, an images table with the columns "
        "image_id and uri"
    )
    assert not (tmp_path / "g").exists()


def test_photographs_come_in_any_order(gallery, folder, tmp_path):
    read = list(in_files([s.uri for s in gallery.shots]))
    write_gallery(gallery, tmp_path / "g", photographs=reversed(read))
    assert digests(tmp_path / "g") == digests(folder)


def test_a_file_in_the_way(gallery, tmp_path):
    (tmp_path / "gallery").write_text("mine")
    with pytest.raises(OutputError) as error:
        write_gallery(gallery, tmp_path / "gallery")
    assert str(error.value) == (
        "The gallery's folder cannot be created, because a file has the same name.\n"
        f"  where:   {tmp_path / 'gallery'}\n  do:      move or rename the file"
    )


def test_data_come_in_parts(tmp_path):
    ids = [f"{i}.jpg" for i in range(2 * PART + 1)]
    made = make_gallery(images_table_of(ids), None, [one_class(ids)], title="parts")
    write_gallery(made, tmp_path / "g", photographs=dots(image, len(ids)))
    sizes = [len(called(tmp_path / "g" / "data" / f"{n}.js")[1]["images"]) for n in range(3)]
    assert sizes == [PART, PART, 1]
    assert {p.name for p in (tmp_path / "g" / "data").iterdir()} == {"index.js", "0.js", "1.js", "2.js"}

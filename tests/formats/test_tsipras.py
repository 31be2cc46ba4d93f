"""MadryLab's pickles: what they tell, and that no pickle runs."""

import io
import os
import pickle
import pickletools
import struct
from collections import Counter

import numpy as np
import polars as pl
import pytest

from manyhot import read_images, read_labels
from manyhot.errors import InputError
from manyhot.formats import detect
from manyhot.formats.pandas_pickle import MAX_PICKLE_BYTES, load_frame

FILES = ("annotations_classify_task.pkl", "image_info.pkl")


@pytest.fixture(scope="module")
def folder(release):
    return release("ImageNetMultiLabel", *FILES)


@pytest.fixture(scope="module")
def joined(folder):
    return pl.from_arrow(read_images(folder / FILES[0]).table)


def test_image_info(folder):
    images = read_images(folder / "image_info.pkl")
    counts = dict(pl.from_arrow(images.table)["annotation"].value_counts().rows())
    assert counts == {"fu": 6_761, "easy": 2_923, "mis": 150, "amb": 166}
    assert detect(folder / "image_info.pkl").name == "tsipras"


def test_classify_task_with_the_images_that_were_not_asked_about(joined):
    assert len(joined) == joined["image_id"].n_unique() == 10_000
    asked = joined.filter(pl.col("n_objects").is_not_null())
    assert asked["annotation"].unique().to_list() == ["fu"]
    assert dict(asked["n_objects"].value_counts().rows()) == {1: 4605, 2: 1562, 3: 451, 4: 99, 5: 27, 6: 17}
    assert (asked["main_label"] != asked["label"]).sum() == 2_109
    assert (asked["n_raters"].min(), asked["n_raters"].max()) == (6, 9)
    assert asked["n_raters"].mean() == pytest.approx(8.8, abs=0.05)
    assert joined.filter(pl.col("annotation") != "fu")["n_raters"].null_count() == 3_239


def test_classify_task_alone(folder, tmp_path, joined):
    path = tmp_path / FILES[0]
    path.write_bytes((folder / FILES[0]).read_bytes())
    alone = pl.from_arrow(read_images(path).table)
    assert len(alone) == 6_761
    assert alone.equals(joined.filter(pl.col("annotation") == "fu").select(alone.columns))


def test_main_objects_as_labels(folder, joined):
    labels = read_labels(folder / FILES[0])
    table = pl.from_arrow(labels.table)
    asked = joined.filter(pl.col("annotation") == "fu").sort("image_id")
    assert len(labels) == 6_761
    assert not labels.asked_known
    rows = table.sort("image_id")
    assert rows["label"].to_list() == asked["label"].to_list()
    assert rows["classes"].to_list() == [[c] for c in asked["main_label"]]
    assert rows["n_votes"].to_list() == [[n] for n in asked["n_raters"]]
    assert table["state"].to_list() == [["yes"]] * 6_761
    # The plurality of raters names another main object than the original label on 2,109 images.
    assert (table["classes"].list.first() != table["label"]).sum() == 2_109


def test_selected_classes_as_label_sets(folder):
    """Recomputed from the lists of the pickle, a list of classes for each rater."""
    labels = read_labels(folder / FILES[0], format="tsipras-selected")
    rows = {row["image_id"]: row for row in labels.table.to_pylist()}
    frame = load_frame(folder / FILES[0])
    sizes = Counter()
    for image, raters in zip(frame.index, frame.columns["selected"], strict=True):
        counts, row = Counter(c for one in raters for c in one), rows[image]
        assert dict(zip(row["classes"], row["p"], strict=True)) == {
            c: np.float32(n / len(raters)) for c, n in counts.items()
        }
        valid = {c for c, n in counts.items() if 2 * n >= len(raters)}
        assert {c for c, s in zip(row["classes"], row["state"], strict=True) if s == "yes"} == valid
        assert set(row["n_votes"]) == {len(raters)}
        sizes[len(valid)] += 1
    assert sizes == {0: 389, 1: 3663, 2: 2054, 3: 495, 4: 109, 5: 36, 6: 15}
    assert (len(labels), labels.asked_known) == (6_761, False)


def test_selected_classes_at_another_share(folder):
    labels = read_labels(folder / FILES[0], format="tsipras-selected(share=1)")
    states = [(p, s) for r in labels.table.to_pylist() for p, s in zip(r["p"], r["state"], strict=True)]
    assert {s for p, s in states if p == 1} == {"yes"}
    assert {s for p, s in states if p < 1} == {"no"}


def test_selected_classes_need_the_right_pickle_and_share(folder):
    path = folder / "image_info.pkl"
    with pytest.raises(InputError) as error:
        read_labels(path, format="tsipras-selected")
    assert str(error.value) == (
        "The pickle contains a different table.\n"
        f"  where:   {path}\n"
        "  got:     annotation\n"
        "  allowed: the columns of annotations_classify_task.pkl\n"
        "  do:      pass that file"
    )
    with pytest.raises(InputError) as error:
        read_labels(folder / FILES[0], format="tsipras-selected(share=2)")
    assert str(error.value) == (
        "The share of raters is out of range.\n"
        f"  where:   {folder / FILES[0]}\n"
        "  got:     2\n"
        "  allowed: above 0, up to 1"
    )


def test_counts_of_images_are_no_labels(folder):
    with pytest.raises(InputError) as error:
        read_labels(folder / "image_info.pkl")
    assert str(error.value) == (
        "The pickle contains a different table.\n"
        f"  where:   {folder / 'image_info.pkl'}\n"
        "  got:     annotation\n"
        "  allowed: the columns of annotations_classify_task.pkl\n"
        "  do:      pass that file"
    )


def test_labels_are_those_of_the_validation_set(joined, published):
    val = read_images(published("imagenet-validation-original.json"))
    known = dict(zip(val.image_id.to_pylist(), val.label.to_pylist(), strict=True))
    asked = joined.filter(pl.col("label").is_not_null())
    assert [known[name] for name in asked["image_id"]] == asked["label"].to_list()


def test_rows_keep_the_order_of_the_stream(folder, joined):
    # Independent of our reader: the names stand in the stream in the order of the rows.
    stream = pickletools.genops((folder / "image_info.pkl").read_bytes())
    names = [arg for op, arg, _ in stream if op.name == "SHORT_BINUNICODE" and arg.startswith("ILSVRC2012")]
    assert names == joined["image_id"].to_list()


@pytest.mark.parametrize("name", ["annotations_contains_task.pkl", "model_predictions.pkl"])
def test_files_that_cannot_be_had(tmp_path, message, name):
    assert message(lambda: read_images(tmp_path / name)) == (
        f"The file does not exist.\n  where:   {tmp_path / name}\n"
        "  got:     the file is too large for the archive of the catalogue; no format reads it"
    )


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


REFUSED = (
    "The pickle was not read, because it contains a name that could run code.\n"
    "  where:   {}\n"
    "  got:     {}\n"
    "  allowed: a pandas.DataFrame of numbers and strings\n"
    "  do:      use the published file, whose checksum is in the catalogue"
)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    ("bomb", "named"),
    [
        (Calls(os.system, "touch ran"), f"{os.name}.system"),
        (Calls(eval, "open('ran', 'w')"), "{builtins}.eval"),
        (Calls(getattr, "", "join"), "{builtins}.getattr"),
        ([{"deep": (Calls(exec, "open('ran', 'w')"),)}], "{builtins}.exec"),
        (Calls(np.frombuffer, b"12345678"), "numpy.frombuffer"),
        (Calls(io.BytesIO), "_io.BytesIO"),
    ],
    ids=["os.system", "eval", "getattr", "nested exec", "numpy", "io"],
)
def test_hostile_pickles(tmp_path, monkeypatch, message, protocol, bomb, named):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "image_info.pkl"
    path.write_bytes(pickle.dumps(bomb, protocol))
    builtins = "__builtin__" if protocol < 3 else "builtins"
    assert message(lambda: read_images(path)) == REFUSED.format(path, named.format(builtins=builtins))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("attribute", ["__class__.__base__", "DataFrame.__init__.__globals__", "os.system"])
def test_dotted_names(tmp_path, message, attribute):
    path = tmp_path / "image_info.pkl"
    name = f"\x8c{chr(len(attribute))}{attribute}".encode("latin-1")
    path.write_bytes(b"\x80\x04\x8c\x11pandas.core.frame" + name + b"\x93.")
    assert message(lambda: read_images(path)) == REFUSED.format(path, f"pandas.core.frame.{attribute}")


def broken(path, got):
    return (
        f"The file is not a complete pickle of a table.\n  where:   {path}\n  got:     {got}\n"
        "  do:      fetch it again"
    )


@pytest.mark.parametrize(
    ("stream", "got"),
    [
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", "an allocation"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "an allocation"),
        (b"\x80\x04Nr\xff\xff\xff\x7f.", "TypeError: a NoneType, not a DataFrame"),
        (b"\x80\x04\x8a\x08" + struct.pack("<q", 2**62) + b".", "TypeError: a int, not a DataFrame"),
        (b"\x80\x04" + b"(" * 100_000 + b".", "a stack"),
        (b"\x80", "a cut"),
        (b"\x80\x04P1\n.", "a persistent id"),
        (b"\x80\x04\x82\x01.", "an extension"),
    ],
    ids=["bytes", "text", "memo", "number", "marks", "cut", "persistent", "extension"],
)
def test_streams_that_ask_for_too_much(tmp_path, message, stream, got):
    path = tmp_path / "image_info.pkl"
    path.write_bytes(stream)
    said = message(lambda: read_images(path))
    if got.startswith("TypeError"):
        assert said == broken(path, got)
    assert said.startswith(f"The file is not a complete pickle of a table.\n  where:   {path}\n  got:     ")
    assert said.endswith("\n  do:      fetch it again")


def test_array_of_a_forged_shape(folder, tmp_path, message):
    # Ten thousand names that claim to be 65,535.
    stream = (folder / "image_info.pkl").read_bytes()
    forged = stream.replace(b"M\x10'\x85", b"M\xff\xff\x85", 1)
    assert forged != stream
    path = tmp_path / "image_info.pkl"
    path.write_bytes(forged)
    assert message(lambda: read_images(path)) == broken(
        path, "ValueError: cannot reshape array of size 10000 into shape (65535,)"
    )


@pytest.mark.parametrize("keep", [0.001, 0.1, 0.5, 0.999])
def test_truncated_pickles(folder, tmp_path, message, keep):
    stream = (folder / "image_info.pkl").read_bytes()
    path = tmp_path / "image_info.pkl"
    path.write_bytes(stream[: int(len(stream) * keep)])
    assert message(lambda: read_images(path)).startswith(
        f"The file is not a complete pickle of a table.\n  where:   {path}\n"
    )


def test_a_huge_file(tmp_path, message):
    path = tmp_path / "image_info.pkl"
    with path.open("wb") as file:
        file.write(b"\x80")
        file.truncate(MAX_PICKLE_BYTES + 1)
    assert message(lambda: read_images(path)) == (
        "The pickle was not read, because it is larger than any published pickle.\n"
        f"  where:   {path}\n  got:     8 MiB\n  allowed: up to 8 MiB"
    )


LATER = (
    "The pickle was not read, because its version of pandas or NumPy is later than in the published "
    "files.\n  where:   {}\n  got:     {}, which the published files do not contain\n  allowed: a "
    "pandas.DataFrame as it was written in 2020\n  do:      use the published file, whose checksum is in the "
    "catalogue"
)


def test_a_frame_of_todays_pandas_is_another_thing(tmp_path, message):
    pandas = pytest.importorskip("pandas", "3")
    path = tmp_path / "image_info.pkl"
    pandas.DataFrame({"annotation": ["fu"]}, index=["a"]).to_pickle(path)
    assert message(lambda: read_images(path)) == LATER.format(path, "pandas.DataFrame")


@pytest.mark.parametrize(
    "name",
    ["pandas._libs.internals._unpickle_block", "numpy._core.multiarray._reconstruct"],
)
def test_names_of_later_releases(tmp_path, message, name):
    path = tmp_path / "image_info.pkl"
    module, _, attribute = name.rpartition(".")
    path.write_bytes(b"\x80\x04c" + f"{module}\n{attribute}\n.".encode())
    assert message(lambda: read_images(path)) == LATER.format(path, name)


def test_an_image_that_no_table_can_hold(folder, tmp_path, message):
    path = tmp_path / "image_info.pkl"
    stream = (folder / "image_info.pkl").read_bytes()
    path.write_bytes(stream.replace(b"val_00047683.JPEG", b"val_\xed\xa0\x8047683.JPEG"))
    assert message(lambda: read_images(path)) == broken(
        path,
        "UnicodeEncodeError: 'utf-8' codec can't encode character '\\ud800' in position 15: "
        "surrogates not allowed",
    )


def test_pickles_of_two_releases(folder, tmp_path, message):
    for name in FILES:
        stream = (folder / name).read_bytes()
        if name == "image_info.pkl":
            stream = stream.replace(b"ILSVRC2012_val_00047683.JPEG", b"ILSVRC2012_val_99999999.JPEG")
        (tmp_path / name).write_bytes(stream)
    assert message(lambda: read_images(tmp_path / FILES[0])) == (
        f"The images of the two pickles are from different releases.\n  where:   {tmp_path / FILES[1]}\n"
        "  got:     1 images missing\n  allowed: at least the 6,761 images of annotations_classify_task.pkl"
    )


def test_an_annotation_that_does_not_exist(folder, tmp_path, message):
    path = tmp_path / "image_info.pkl"
    path.write_bytes((folder / "image_info.pkl").read_bytes().replace(b"\x8c\x03amb", b"\x8c\x03abc"))
    assert message(lambda: read_images(path)) == (
        f"This is not an annotation.\n  where:   {path}\n  got:     'abc'\n  allowed: fu, easy, mis, amb"
    )

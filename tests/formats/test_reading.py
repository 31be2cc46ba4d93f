"""Files that are cut or damaged: the whole message, whatever library notices."""

import errno
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import read_findings, read_images, read_labels, read_predictions
from manyhot.formats import read_classes
from manyhot.formats.prediction_folders import prediction_files
from manyhot.formats.reading import reading
from manyhot.tables import Images, Labels, write_labels

ROWS = Images(pa.table({"image_id": ["a.jpg", "b.jpg", "c.jpg"]}))

TFDS = {
    "file_name": ["a.JPEG", "b.JPEG"],
    **{f"{answer}_multi_labels": [[1], [2]] for answer in ("correct", "wrong", "unclear")},
}
HF = {"image_id": ["a", "b"], "label": [0, 1]}
FEATURES = {"features": {"image_id": {}, "label": {"names": ["x", "y"], "_type": "ClassLabel"}}}
TIMM = {"filename": ["a", "b"], "index": [[1], [2]], "prob": [[0.5], [0.5]]}
OWN = {"image_id": ["a", "b"], "usable": [True, True], "classes": [[1], [2]], "state": [["yes"], ["no"]]}


def check(said, kind, path, got=""):
    """Check a message whose third line is in the words of a library, which change from release to release."""
    lines = said.splitlines()
    assert lines[:2] == [f"The file is not a complete {kind} file.", f"  where:   {path}"]
    assert lines[2].startswith("  got:     ")
    assert got in lines[2]
    assert said.replace("\n", "").isprintable()
    assert lines[3:] == ["  do:      create or download it again"]


def parquet(path, columns):
    """Write a table, uncompressed so that a test finds its pages."""
    table = pa.table(columns)
    if "label" in columns:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": FEATURES})})
    pq.write_table(table, path, compression="snappy", use_dictionary=False)
    return path


@pytest.mark.parametrize("columns", [TFDS, HF, TIMM, OWN], ids=["tfds", "hf", "timm", "own"])
@pytest.mark.parametrize("read", [read_labels, read_predictions])
def test_truncated_parquet_is_called_so(tmp_path, message, columns, read):
    path = parquet(tmp_path / "t.parquet", columns)
    path.write_bytes(path.read_bytes()[:-50])
    check(message(lambda: read(path)), "Parquet", path, "footer")


@pytest.mark.parametrize(
    ("columns", "read"),
    [(TFDS, read_labels), (HF, read_labels), (TIMM, read_predictions), (OWN, read_labels)],
    ids=["tfds", "hf", "timm", "own"],
)
def test_parquet_with_damaged_pages(tmp_path, message, columns, read):
    path = parquet(tmp_path / "t.parquet", columns)
    content = bytearray(path.read_bytes())
    content[4:40] = bytes([0xFF]) * 36
    path.write_bytes(content)
    check(message(lambda: read(path)), "Parquet", path)


@pytest.mark.parametrize(
    ("what", "got"),
    [
        ("cut", "File is not a zip file"),
        ("empty", "File is not a zip file"),
        ("encrypted", "File 'tensor.npy' is encrypted, password required for extraction"),
        ("method 99", "That compression method is not supported"),
        (
            "huge",
            "Unable to allocate",
        ),
        ("no such character", "characters in 'info' that do not exist"),
    ],
)
def test_broken_scores(tmp_path, message, what, got):
    path = tmp_path / "scores.npz"
    info = np.array([["ILSVRC2012_val_00000001.JPEG", "1"]])
    if what == "no such character":
        info.view(np.uint32)[0, 0] = 0x110000
    np.savez(path, tensor=np.array([0.5]), info=info)
    content = bytearray(path.read_bytes())
    if what in ("cut", "empty"):
        content = content[: len(content) // 2 if what == "cut" else 0]
    elif what in ("encrypted", "method 99"):
        patch(content, 0 if what == "encrypted" else 2, 1 if what == "encrypted" else 99)
    elif what == "huge":
        content = huge()
    path.write_bytes(content)
    check(message(lambda: read_labels(path)), "NumPy", path, got)


def patch(content, offset, value):
    """Set a field of all headers in an archive: flags, or 2 bytes later the method of compression."""
    for signature, field in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + field + offset] = value


def huge():
    """Return an archive whose arrays say that they have ten million million rows."""
    header, made = io.BytesIO(), io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(made, "w") as archive:
        for name in ("tensor", "info"):
            archive.writestr(f"{name}.npy", header.getvalue())
    return made.getvalue()


def test_an_array_of_forged_size(tmp_path, message):
    path = tmp_path / "m.npy"
    with path.open("wb") as file:
        about = {"descr": "<i8", "fortran_order": False, "shape": (10**13, 5)}
        np.lib.format.write_array_header_1_0(file, about)
    check(message(lambda: read_predictions(path, rows=ROWS)), "NumPy", path, "Unable to allocate")


def test_an_archive_under_the_name_of_an_array(tmp_path):
    np.savez(tmp_path / "m.npz", classes=np.array([[0], [1], [2]]))
    path = (tmp_path / "m.npz").rename(tmp_path / "m.npy")
    assert read_predictions(path, rows=ROWS).classes.tolist() == [[0], [1], [2]]
    np.save(path, np.array([[0], [1], [2]]))
    path = path.rename(tmp_path / "m.npz")
    assert read_predictions(path, rows=ROWS).classes.tolist() == [[0], [1], [2]]


JSON = {
    "multilabelfy": ("m.json", '{{"a.jpeg": ["1"], "{0}": ["2"]}}', read_labels),
    "tfds": (
        "t.json",
        '{{"initial_annots": {{"ILSVRC2012_val_00000001.JPEG": {{"correct": []}}, "{0}": {{}}}}, '
        '"problematic_images": {{}}}}',
        read_labels,
    ),
    "mistakes": (
        "x_mistakes.json",
        '{{"a.JPEG": {{"top_prediction": 1, "failure category": "Fine-grained error", "failure severity": '
        '"Minor"}}, "{0}": {{}}}}',
        read_findings,
    ),
    "timm": ("m.json", '{{"a.JPEG": {{"index": [1], "prob": [1]}}, "{0}": {{}}}}', read_predictions),
    "timm lines": ("m.json", '{{"filename": "a", "index": [1], "{0}": [1], "index": [2]}}', read_predictions),
    "imagenetv2": ("v2.json", '{{"image_filenames": [], "seed": 1, "{0}": 2}}', read_images),
}
FIRST = {
    "multilabelfy": "a.jpeg",
    "tfds": "ILSVRC2012_val_00000001.JPEG",
    "mistakes": "a.JPEG",
    "timm": "a.JPEG",
    "timm lines": "index",
    "imagenetv2": "seed",
}


@pytest.mark.parametrize("kind", JSON)
def test_keys_that_stand_twice(tmp_path, message, kind):
    name, text, read = JSON[kind]
    path = tmp_path / name
    path.write_text(text.format(FIRST[kind]))
    assert message(lambda: read(path)) == (
        f"The JSON contains a key twice.\n  where:   {path}\n  got:     {FIRST[kind]!r}\n"
        "  allowed: each key once\n  do:      create it again, or remove one of the two"
    )


@pytest.mark.parametrize("kind", [kind for kind in JSON if kind != "timm lines"])
def test_half_characters(tmp_path, message, kind):
    name, text, read = JSON[kind]
    path = tmp_path / name
    path.write_text(text.format("\\ud800" + "x" * 30))
    said = message(lambda: read(path)).splitlines()
    surrogate = "A string contains a lone surrogate, which is half of a character."
    assert said[:2] == [surrogate, f"  where:   {path}"]
    assert said[2].endswith("\\ud800" + "x" * 19 + "'")
    assert said[3:] == [
        "  allowed: characters that UTF-8 can encode",
        "  do:      create or download it again",
    ]


def test_pairs_of_surrogates_are_one_character(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"\\ud83d\\ude00.jpeg": ["1"]}')
    assert read_labels(path).image_id.to_pylist() == ["\U0001f600.jpeg"]


@pytest.mark.parametrize("digits", [39, 5000])
@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("[[1], [{}]]", read_labels),
        ('{{"a.jpeg": ["1"], "b.jpeg": [{}]}}', read_labels),
        ('{{"a": {{"index": [{}], "prob": [1]}}}}', read_predictions),
        ('{{"filename": "a", "index": [{}], "prob": [1]}}', read_predictions),
    ],
)
def test_numbers_without_end(tmp_path, message, text, read, digits):
    path = tmp_path / "m.json"
    path.write_text(text.format("9" * digits))
    assert message(lambda: read(path)) == (
        f"A number is too long.\n  where:   {path}\n  got:     999999999999… of {digits:,} digits\n"
        "  allowed: up to 38 digits"
    )


def test_text_of_many_digits(tmp_path, message):
    path = tmp_path / "m.json"
    path.write_text('{"a.jpeg": ["%s"]}' % ("1" * 6000))
    assert message(lambda: read_labels(path)) == (
        f"This is not a class.\n  where:   {path}, image a.jpeg\n  got:     '{'1' * 78}…\n  allowed: 0 to 999"
    )


@pytest.mark.parametrize(
    ("text", "read", "said"),
    [
        (
            "",
            read_labels,
            "The file is not complete JSON.\n  where:   {}\n"
            "  got:     Expecting value: line 1 column 1 (char 0)\n  do:      create or download it again",
        ),
        ("[[1], 2]", read_labels, "The file is not a list of lists of classes.\n  where:   {}"),
        (
            '{"image_filenames": [[1, []]]}',
            read_images,
            "The file has no list `image_filenames` of names and WordNet ids.\n  where:   {}",
        ),
    ],
)
def test_json_of_another_shape(tmp_path, message, text, read, said):
    path = tmp_path / "m.json"
    path.write_text(text)
    assert message(lambda: read(path)) == said.format(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "c.txt",
            b"caf\xe9\n",
            "The file was not read, because it is not in UTF-8.\n  where:   {}, line 1\n"
            "  got:     byte 0xe9; as Latin-1 or Windows-1252, the text is …café…\n"
            "  allowed: text in UTF-8\n"
            "  do:      save it as UTF-8, for example as 'CSV UTF-8' in Excel, or with iconv "
            "-f CP1252 -t UTF-8",
        ),
        ("c.csv", b"key,name\na,b\n,c\n", "A class has no key.\n  where:   {}, row 1"),
    ],
)
def test_class_lists_that_are_no_text(tmp_path, message, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    assert message(lambda: read_classes(path)) == said.format(path)


def test_a_null_in_a_list_of_our_own(tmp_path, message):
    path = tmp_path / "l.parquet"
    pq.write_table(pa.table(OWN | {"classes": [[None], [2]]}), path)
    assert message(lambda: read_labels(path)) == (
        "A list of classes contains an empty value.\n"
        "  where:   l, image a\n  allowed: whole numbers, 0 to 999"
    )


@pytest.mark.parametrize("key", ["schema", "n_classes"])
def test_damaged_metadata(tmp_path, message, key):
    path = write_labels(Labels(pa.table(OWN), 3), tmp_path / "l.parquet")
    table = pq.read_table(path)
    told = table.schema.metadata | {f"manyhot.{key}".encode(): b"3x"}
    pq.write_table(table.replace_schema_metadata(told), path)
    assert message(lambda: read_labels(path)) == (
        f"The metadata of the file has a {key!r} that is not a number.\n  where:   {path}\n  got:     '3x'\n"
        "  do:      create or download it again"
    )


def test_ids_that_are_no_text(tmp_path, message):
    path = tmp_path / "l.parquet"
    ids = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"b"]).buffers())
    pq.write_table(pa.table(OWN | {"image_id": ids}), path, use_dictionary=False)
    check(message(lambda: read_labels(path)), "Parquet", path, "UTF8")


def test_files_that_may_not_be_read(tmp_path, message):
    path = tmp_path / "l.csv"

    def refuse():
        with reading(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    assert message(refuse) == f"The file cannot be read.\n  where:   {path}\n  got:     Permission denied"


def test_broken_files_among_predictions_are_not_passed_over(tmp_path):
    for name in ("a.parquet", "b.npz", "c.npy"):
        (tmp_path / name).write_bytes(b"PK")
    assert [path.name for path in prediction_files([tmp_path])] == ["a.parquet", "b.npz", "c.npy"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "image_id,class_id,rank\na,1.9,1\n",
            "These are not classes.\n  where:   {}, column classes\n"
            "  got:     Float value 1.900000 was truncated converting to int32\n  allowed: whole numbers",
        ),
        (
            "image_id,class_id,rank\na,4294967297,1\n",
            "These are not classes.\n  where:   {}, column classes\n"
            "  got:     Integer value 4294967297 not in range: -2147483648 to 2147483647\n"
            "  allowed: whole numbers",
        ),
        (
            "image_id,class_id,score\na,1,high\n",
            "The column 'scores' does not contain numbers.\n  where:   {}\n  got:     list<item: string>",
        ),
        (
            "image_id,class_id,score,no\0te\na,1,0.5,1\n",
            "The name of a column contains a NUL.\n  where:   {}\n  got:     'no\\x00te'",
        ),
    ],
)
def test_predictions_that_are_no_numbers(tmp_path, message, text, said):
    path = tmp_path / "p.csv"
    path.write_text(text)
    assert message(lambda: read_predictions(path)) == said.format(path)

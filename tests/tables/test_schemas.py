import signal
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import tables
from manyhot.errors import InputError, OutputError
from manyhot.files import atomic_write


def votes(**changes):
    columns = {"image_id": ["a.jpg"], "class_id": [3], "rater_id": ["r"], "answer": ["yes"]} | changes
    return pa.table({k: v for k, v in columns.items() if v is not None})


def test_round_trip_keeps_types_and_tells_its_origin(tmp_path):
    path = tables.write(votes(), tmp_path / "v.parquet", "votes", call="a test", inputs={"x": "00"})
    read = tables.read(path, "votes")
    assert read.schema.field("class_id").type == pa.int32()
    assert tables.metadata(read) | {"version": ""} == {
        "table": "votes",
        "schema": "1",
        "version": "",
        "call": "a test",
        "inputs": '{"x": "00"}',
    }


def test_same_input_same_bytes(tmp_path):
    a, b = (tables.write(votes(), tmp_path / n, "votes").read_bytes() for n in ("a", "b"))
    assert a == b


@pytest.mark.parametrize("in_pieces", [False, True])
def test_scores_have_no_dictionary(tmp_path, in_pieces):
    """It would save nothing, and reading would take four times as long."""
    kinds = {"image_id": pa.string(), "classes": pa.list_(pa.int32()), "scores": pa.list_(pa.float32())}
    rows = [{"image_id": "a.jpg", "classes": [3, 1], "scores": [0.5, 0.25]}]
    table, path = pa.Table.from_pylist(rows, pa.schema(kinds)), tmp_path / "p.parquet"
    if in_pieces:
        tables.write_stream([table], path, "predictions")
    else:
        tables.write(table, path, "predictions")
    columns = pq.ParquetFile(path).metadata.row_group(0).to_dict()["columns"]
    has_one = {c["path_in_schema"].split(".")[0]: "RLE_DICTIONARY" in c["encodings"] for c in columns}
    assert has_one == {"image_id": True, "classes": True, "scores": False}
    assert pq.read_table(path).to_pylist() == rows


def test_missing_column():
    with pytest.raises(InputError) as error:
        tables.check(votes(answer=None), "votes", where="v.csv")
    assert str(error.value) == (
        "The votes table lacks the column 'answer'.\n"
        "  where:   v.csv\n"
        "  got:     image_id, class_id, rater_id\n"
        "  allowed: image_id, class_id, rater_id, answer, main, page_id, shown_at, answered_at, round"
    )


def test_unknown_column_names_the_near_one():
    with pytest.raises(InputError) as error:
        tables.check(votes(shown_in=["x"]), "votes")
    assert str(error.value) == (
        "The votes table has no column 'shown_in'.\n"
        "  allowed: image_id, class_id, rater_id, answer, main, page_id, shown_at, answered_at, round\n"
        "  do:      did you mean 'shown_at'?"
    )


def test_wrong_type():
    with pytest.raises(InputError) as error:
        tables.check(votes(class_id=["dog"]), "votes", where="v")
    assert str(error.value) == (
        "The column 'class_id' of the votes table has the wrong type.\n"
        "  where:   v\n"
        "  got:     string (Failed to parse string: 'dog' as a scalar of type int32)\n"
        "  allowed: int32"
    )


def test_null_where_none_may_be():
    with pytest.raises(InputError) as error:
        tables.check(votes(rater_id=pa.array([None], pa.string())), "votes")
    assert str(error.value) == (
        "The column 'rater_id' of the votes table contains an empty value.\n  where:   votes, row 0\n  got: "
        "    null"
    )


def test_unknown_answer():
    with pytest.raises(InputError) as error:
        tables.check(votes(answer=["perhaps"]), "votes")
    assert str(error.value) == (
        "The column 'answer' of the votes table contains a value that is not allowed.\n"
        "  got:     perhaps\n"
        "  allowed: no, maybe, yes"
    )


def test_unknown_table():
    with pytest.raises(InputError) as error:
        tables.schema("vote")
    assert str(error.value).startswith("There is no table 'vote'.\n  allowed: classes, images, predictions,")


def test_images_keep_columns_of_ones_own():
    table = tables.check(pa.table({"image_id": ["a"], "camera": ["x"]}), "images")
    assert table.column_names == ["image_id", "camera"]


def test_truncated_parquet(tmp_path):
    path = tables.write(votes(), tmp_path / "v.parquet", "votes")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError) as error:
        tables.read(path, "votes")
    text = str(error.value)
    assert text.startswith(f"The file is not a complete Parquet file.\n  where:   {path}\n  got:     ")
    assert text.endswith("\n  do:      create or download it again")


def test_another_table(tmp_path):
    path = tables.write(votes(), tmp_path / "v.parquet", "votes")
    with pytest.raises(InputError) as error:
        tables.read(path, "labels")
    assert str(error.value) == (
        f"The file contains a different table.\n  where:   {path}\n  got:     votes\n  allowed: labels"
    )


def test_a_later_schema(tmp_path):
    path = tmp_path / "v.parquet"
    pq.write_table(votes().replace_schema_metadata({"manyhot.schema": "9", "manyhot.version": "3.1"}), path)
    with pytest.raises(InputError) as error:
        tables.read(path, "votes")
    assert str(error.value) == (
        "The file was written by a later version of manyhot.\n"
        f"  where:   {path}\n"
        "  got:     schema 9 of manyhot 3.1\n"
        "  allowed: schema 1 and earlier\n"
        "  do:      upgrade manyhot"
    )


def test_full_disk_leaves_what_was_there(tmp_path):
    # /dev/full refuses each write as a full disk does.
    target = tmp_path / "results.csv"
    target.write_text("old")

    def fill():
        with atomic_write(target) as part:
            part.unlink()
            part.symlink_to("/dev/full")
            with part.open("w") as file:
                file.write("new" * 100_000)

    with pytest.raises(OutputError) as error:
        fill()
    assert str(error.value) == (
        "The disk is full; this file was not written.\n"
        f"  where:   {target}\n"
        "  do:      free some space or choose another `out`"
    )
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as error:
        tables.write(votes(), tmp_path / "file" / "v.parquet", "votes")
    assert str(error.value) == (
        "Cannot write the file: Not a directory.\n"
        f"  where:   {tmp_path / 'file' / 'v.parquet'}\n"
        "  do:      choose a folder with write permission"
    ) or "File exists" in str(error.value)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_write_leaves_nothing_under_the_final_name(tmp_path, sign):
    code = """
        import signal, sys, time
        from manyhot.files import atomic_write
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
        with atomic_write(sys.argv[1]) as part:
            part.write_text("half")
            print("writing", flush=True)
            time.sleep(30)
    """
    target = tmp_path / "out.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        process.stdout.readline()
        process.send_signal(sign)
        process.wait(60)
    assert not target.exists()
    if sign == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


OLD = {
    "pairs": {"diff": "difference"},
    "companions": {"diff": "difference"},
    "swaps": {"diff_x": "difference_x", "diff_y": "difference_y"},
    "curve": {"kept": "n_above", "right": "n_right"},
    "localisation": {"more": "excess", "more_lo": "excess_lo", "more_hi": "excess_hi"},
    "shortcuts": {
        "more": "excess",
        "fall": "score_drop",
        "found_both": "predicted_both",
        "found_main_only": "predicted_main_only",
        "found_companion_only": "predicted_companion_only",
        "found_neither": "predicted_neither",
    },
}
"""Names of columns in files of earlier versions, and what they are now."""


@pytest.mark.parametrize("name", OLD)
def test_files_of_earlier_versions_are_read(tmp_path, name):
    now = tables.schema(name).empty_table()
    before = now.rename_columns([{n: o for o, n in OLD[name].items()}.get(c, c) for c in now.column_names])
    assert set(OLD[name]) <= set(before.column_names)
    pq.write_table(before, tmp_path / "old.parquet")
    assert tables.read(tmp_path / "old.parquet", name).column_names == now.column_names

"""Records of the command line, and what counts as a difference between two; no command runs."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.append(str(TOOLS))
behaviour = importlib.import_module("behaviour")
comparing = importlib.import_module("behaviour_compare")
inputs = importlib.import_module("behaviour_inputs")


@pytest.fixture
def two(tmp_path):
    """Return a function that writes a file to two records and compares them: the exit code and lines."""

    def write(folder, name, content):
        path = tmp_path / folder / "case" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            pq.write_table(pa.table(content), path)
        else:
            path.write_text(content, encoding="utf-8")

    def compared(old, new, *changes, name="files/a.parquet", new_name=None):
        for folder, content, file in (("old", old, name), ("new", new, new_name or name)):
            write(folder, file, content)
            about = {"machine": {}, "left out": {}}
            (tmp_path / folder / "record.json").write_text(json.dumps(about))
        return compare(tmp_path, *changes)

    return compared


def compare(folder, *changes, only=()):
    capture = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text: capture.append(str(text)))
        code = comparing.compare(folder / "old", folder / "new", changes, only)
    return code, capture


def change(**entry):
    return comparing.Change(**{"reason": "meant", **entry})


NOTHING = "no difference that is not meant"
ONE = "1 differences that are not meant"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at 2026-11-27T20:50:32.123+00:00.", "at TIME."),
        ("manyhot 0.1.0.dev0", "manyhot VERSION"),
        ("torch 2.13.0", "torch 2.13.0"),
        ('{"call": "manyhot convert \\"a\\" b", "n": 1}', '{"call": "CALL", "n": 1}'),
        ("net: 16 images in 3.5 s, 1,114/s while predicting", "net: 16 images in N s, N/s while predicting"),
        ("  seconds of all threads: read 0.1, decode 2", "  seconds of all threads:"),
        ("a\nnet: 168 of 1,540 images, 21/s, 0:00:18 left\nb", "a\nb"),
        ("a\nnet: 40 images, 4/s\nb", "a\nb"),
        ("a\ncorrupting: 12 of 1,120, 0:09:02 left\nb", "a\nb"),
        ("Matplotlib is building the font cache; this may take a moment.\nb", "b"),
        ("168 of 540 images have two labels", "168 of 540 images have two labels"),
        ("https://a.org/join/KTx0_-a", "https://a.org/join/SECRET"),
        ("b/events.out.tfevents.1795.vm.1.0", "b/events.out.tfevents"),
        ("a" * 64, "SHA256"),
        ("0.12 of 4.5 s", "0.12 of 4.5 s"),
    ],
)
def test_what_differs_between_two_runs_is_replaced(text, expected):
    assert behaviour.clean(text) == expected


def test_a_table_is_recorded_without_its_metadata_and_with_clean_text(tmp_path):
    table = pa.table({"uri": ["/tmp/x/a.png", None, "/tmp/x/a.png"], "n": [1, 2, 3]})
    pq.write_table(table.replace_schema_metadata({"call": "manyhot"}), tmp_path / "a.parquet")

    behaviour.keep(
        tmp_path / "a.parquet", tmp_path / "b.parquet", lambda text: text.replace("/tmp/x", "WORK")
    )

    recorded = pq.read_table(tmp_path / "b.parquet")
    assert recorded.to_pydict() == {"uri": ["WORK/a.png", None, "WORK/a.png"], "n": [1, 2, 3]}
    assert recorded.schema.metadata is None


def test_an_arrow_file_is_a_table_too(tmp_path):
    table = pa.table({"n": [1, 2]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)

    behaviour.keep(tmp_path / "a.arrow", tmp_path / "b.arrow", str)

    assert comparing.read(tmp_path / "b.arrow") == {"n": ("int64", ["1", "2"])}


def safetensors(note, values):
    header = json.dumps({"w": {"shape": [2]}, "__metadata__": {"version": note}}).encode()
    return len(header).to_bytes(8, "little") + header + values


def test_other_files_are_recorded_by_their_digest(tmp_path):
    digests = []
    for content in (safetensors("1", b"ab"), safetensors("two", b"ab"), safetensors("1", b"ac")):
        (tmp_path / "a.safetensors").write_bytes(content)
        behaviour.keep(tmp_path / "a.safetensors", tmp_path / "out.safetensors", str)
        digests.append((tmp_path / "out.safetensors.sha256").read_text())
    assert digests[0] == digests[1] != digests[2]

    (tmp_path / "a.sqlite").write_bytes(b"when")
    behaviour.keep(tmp_path / "a.sqlite", tmp_path / "out.sqlite", str)
    assert (tmp_path / "out.sqlite.sha256").read_text() == ""


def test_lines_are_read_into_commands(tmp_path):
    recorder = behaviour.Recorder(tmp_path / "out", tmp_path / "src", tmp_path)
    recorder.folders |= {"voc": Path("/there is/voc"), "a": Path("/b")}

    code, variables, arguments = recorder.command(
        "3: A_B=1 C={voc} predict {voc}/photos --to \"x(y='z: {a}')\""
    )
    assert (code, variables) == (3, {"A_B": "1", "C": "/there is/voc"})
    assert arguments == ["-m", "manyhot", "predict", "/there is/voc/photos", "--to", "x(y='z: /b')"]
    assert recorder.command("python {repo}/a.py") == (0, {}, [f"{behaviour.REPO}/a.py"])
    assert recorder.clean(f"{tmp_path}/a and {tmp_path}/src/b") == "WORK/a and WORK/src/b"


CASES = {
    name: behaviour.Case(name, "", needs)
    for name, needs in {"a": (), "b": ("a",), "c": ("voc", "b"), "d": ("c",)}.items()
}


def test_the_cases_that_others_need_are_recorded_too(monkeypatch, tmp_path):
    monkeypatch.setattr(behaviour, "INPUTS", {"voc": ("here", None)})
    monkeypatch.setattr(behaviour, "SHARED", tmp_path)
    (tmp_path / "here").write_text("")
    assert list(behaviour.chosen(CASES, ["d"])[0]) == ["a", "b", "c", "d"]
    assert list(behaviour.chosen(CASES, ["[ab]"])[0]) == ["a", "b"]
    assert behaviour.chosen(CASES, ())[1] == {}
    with pytest.raises(SystemExit, match=re.escape("no case is called e or f*; there are: a, b, c, d")):
        behaviour.chosen(CASES, ["e", "f*"])


def test_cases_without_their_input_are_left_out_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(behaviour, "INPUTS", {"voc": ("nowhere", None)})
    monkeypatch.setattr(behaviour, "SHARED", tmp_path)
    cases, left_out = behaviour.chosen(CASES, ())
    assert list(cases) == ["a", "b"]
    assert left_out == dict.fromkeys("cd", f"{tmp_path}/nowhere is absent")


def test_all_cases_name_what_they_need():
    cases = behaviour.Case.read()
    assert not set(cases) & {*inputs.INPUTS, "repo", "cache"}
    for case in cases.values():
        assert set(case.needs) <= {*cases, *inputs.INPUTS}
        named = set(re.findall(r"\{([\w-]+)\}", case.lines)) - {"repo", "cache"}
        assert named <= set(case.needs), case.name


def test_listed_changes_can_be_read_and_have_reasons():
    assert all(entry.reason for entry in comparing.Change.read())


def test_what_is_equal_is_no_difference(two):
    values = {"x": [1.0, float("nan"), None], "y": [[1], [], [2, 3]]}
    assert two(values, values) == (0, [NOTHING])


def test_a_value_in_a_table(two):
    code, lines = two({"x": [0.1, 0.2, float("nan")]}, {"x": [0.1, 0.30000000000000004, float("nan")]})
    assert code == 1
    assert lines == ["case: files/a.parquet: x: 1 of 3 values: [1] 0.2 → 0.30000000000000004", ONE]


def test_types_columns_and_their_order(two):
    assert two({"x": [1]}, {"x": [1.0]})[1][0] == "case: files/a.parquet: x: type int64 → double"
    assert (
        two({"x": [1], "y": [2]}, {"y": [2], "x": [1]})[1][0] == "case: files/a.parquet: order: x, y → y, x"
    )
    assert two({"x": [1], "y": [2]}, {"x": [1], "z": [2]})[1][:-1] == [
        "case: files/a.parquet: y: is no longer there",
        "case: files/a.parquet: z: is new",
    ]


def test_rows_that_came_and_went(two):
    assert two({"x": [1, 2, 3]}, {"x": [1, 4]})[1][0] == (
        "case: files/a.parquet: x: 3 → 2 values: - 2; - 3; + 4"
    )


def test_csv_json_and_text(two):
    assert two("x,y\n1,2\n", "x,y\n1,2.0\n", name="files/a.csv")[1][0] == (
        "case: files/a.csv: y: 1 of 1 values: [0] 2 → 2.0"
    )
    old, new = ('{"a": [{"b": 1}, {"b": 2}], "c": {}}', '{"a": [{"b": 1}, {"b": "2"}], "c": {}}')
    assert two(old, new, name="files/b.json")[1][1] == "case: files/b.json: a[].b: 1 of 2 values: [1] 2 → '2'"
    assert two("a\nb\n", "a\nc\n", name="outputs/01.stdout")[1][2] == (
        "case: outputs/01.stdout: lines: 1 of 2 values: [1] b → c"
    )


def test_the_same_values_in_another_form(two):
    text = "case: files/a.json: form: the same values, written in another form"
    assert two('{"a": 1}', '{"a":1}', name="files/a.json")[1][0] == text


PAGE = (
    '<p class="a">Loss of <b>{}</b></p><script type="application/json" id="data">{}</script><style>{}</style>'
)


def test_the_text_data_and_markup_of_a_page(two):
    old = PAGE.format("one", '{"x": [1, 2]}', "p {}")
    new = PAGE.format("two", '{"x": [1, 3]}', "p { color: red }")
    assert two(old, new, name="files/index.html")[1] == [
        "case: files/index.html: text: 1 of 2 values: [1] one → two",
        "case: files/index.html: data data.x[]: 1 of 2 values: [1] 2 → 3",
        "case: files/index.html: markup: 1 of 5 values: [4] p {} → p { color: red }",
        "3 differences that are not meant",
    ]


def test_long_values_are_cut_around_what_differs(two):
    same = "a" * 200
    assert two(f"{same}bc", f"{same}d{same}", name="files/a.txt")[1][0] == (
        f"case: files/a.txt: lines: 1 of 1 values: [0] …{'a' * 30}bc → …{'a' * 30}d{'a' * 68}…"
    )


def test_differences_that_are_meant_are_listed_with_their_reason(two):
    code, lines = two({"x": [1], "y": [1]}, {"x": [2], "y": [2]}, change(file="*/a.*", part="[xy]"))
    assert (code, lines) == (0, ["meant, 2: *: */a.*: [xy]: meant", NOTHING])

    code, lines = two({"x": [1], "y": [1]}, {"x": [2], "y": [2]}, change(case="case", part="x"))
    assert (code, len(lines)) == (1, 3)
    assert lines[0] == "case: files/a.parquet: y: 1 of 1 values: [0] 1 → 2"


def test_a_change_that_matches_nothing_is_stale(two):
    assert two({"x": [1]}, {"x": [1]}, change(part="x")) == (
        0,
        ["stale, nothing differs there: *: *: x", NOTHING],
    )


def test_keys_of_json_are_named_as_they_are_printed(two):
    old, new = (json.dumps([{"a": [{"b.c": n}]}]) for n in (1, 2))
    entry = change(part="[].a[].b.c")
    assert two(old, new, entry, name="files/a.json")[0] == 0


def test_values_are_compared_under_new_names(two):
    renamed = change(part="x", to="z")
    assert two({"x": [1]}, {"z": [1]}, renamed) == (0, ["meant, 1: *: *: x → z: meant", NOTHING])
    assert two({"x": [1]}, {"z": [2]}, renamed)[1][0] == "case: files/a.parquet: z: 1 of 1 values: [0] 1 → 2"


def test_files_are_compared_under_new_names(two):
    renamed = change(file="files/a.csv", to="files/b.csv")
    code, lines = two("x\n1\n", "x\n2\n", renamed, name="files/a.csv", new_name="files/b.csv")
    assert code == 1
    assert lines[0] == "case: files/b.csv: x: 1 of 1 values: [0] 1 → 2"


def test_files_that_came_and_went(two):
    code, lines = two("a", "a", name="files/a.txt", new_name="files/b.txt")
    assert code == 1
    assert lines[:2] == ["case: files/a.txt: is no longer there", "case: files/b.txt: is new"]


def test_cases_of_one_record_alone(two, tmp_path):
    two({"x": [1]}, {"x": [1]})
    for folder, name in (("old", "gone"), ("new", "come")):
        (tmp_path / folder / name).mkdir()
    assert compare(tmp_path) == (
        1,
        ["gone: not recorded", "note: come: only in the new record, not compared", ONE],
    )
    assert compare(tmp_path, only=["c*"]) == (
        0,
        ["note: come: only in the new record, not compared", NOTHING],
    )


def test_records_of_two_machines_are_noted(two, tmp_path):
    two({"x": [1]}, {"x": [1]})
    about = {"machine": {"numpy": "2.1"}, "left out": {}}
    (tmp_path / "new" / "record.json").write_text(json.dumps(about))
    assert compare(tmp_path)[1][0] == "note: other machines or versions: [('numpy', '2.1')]"

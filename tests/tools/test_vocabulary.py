"""The lint of names, words and phrases, on made-up files, and on the pages that it holds already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from scripts import load

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load(REPO / "tools" / "vocabulary.py")


@pytest.fixture
def lint(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that lints a checkout of these files."""
    monkeypatch.setattr(tool, "REPO", tmp_path)

    def run(files: dict[str, str], *parts: str) -> list[str]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return tool.check([tmp_path], parts=parts)

    return run


# names


def test_a_name_without_content_is_listed_with_its_kind(lint: Callable[..., list[str]]) -> None:
    code = """
    class Known:
        found: int

        def told(self, asked, _kept=1):
            known = asked
            return known
    """
    package = {"src/manyhot/words.py": "", "src/manyhot/a.py": code}
    assert lint(package, "names") == [
        "src/manyhot/a.py:1: the class 'Known' does not say what it is",
        "src/manyhot/a.py:2: the field 'found' does not say what it is",
        "src/manyhot/a.py:4: the function 'told' does not say what it is",
        "src/manyhot/a.py:4: the parameter '_kept' does not say what it is",
        "src/manyhot/words.py:1: the module 'words' does not say what it is",
    ]


def test_columns_are_names(lint: Callable[..., list[str]]) -> None:
    package = {
        "src/manyhot/tables/definitions.py": '_optional("found", 1)\n_optional("images", "found")\n',
        "src/manyhot/feature.py": 'Column("given")\nprint("given")\n',
    }
    assert lint(package, "names") == [
        "src/manyhot/feature.py:1: the column 'given' does not say what it is",
        "src/manyhot/tables/definitions.py:1: the column 'found' does not say what it is",
    ]


def test_a_public_name_has_one_meaning(lint: Callable[..., list[str]]) -> None:
    package = {
        "src/manyhot/a.py": "class Job: ...\nLIMIT = 3\ndef _own(): ...\n",
        "src/manyhot/b.py": "LIMIT = 3\ndef _own(): ...\n\nclass Job: ...\n",
        "src/manyhot/c.py": "import manyhot.a\n\nclass Job(manyhot.a.Job): ...\n",
    }
    found = lint(package, "names")
    assert [line.partition(" means")[0] for line in found] == [
        "src/manyhot/a.py:1: 'Job'",
        "src/manyhot/b.py:4: 'Job'",
        "src/manyhot/c.py:3: 'Job'",
    ]
    assert found[0].endswith("means something else in manyhot.b, manyhot.c")


def test_files_out_of_the_paths_are_not_listed(tool: ModuleType, lint: Callable[..., list[str]]) -> None:
    lint({"src/manyhot/a.py": "def told(): ...\n", "src/manyhot/b.py": "def said(): ...\n"})
    (only,) = tool.check([tool.REPO / "src/manyhot/b.py"])
    assert only == "src/manyhot/b.py:1: the function 'said' does not say what it is"


# phrases


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("Recall hangs\non a companion.", [(1, "hangs on")]),
        ("One.\n\nOf these, two are valid.", [(3, "Of")]),
        ("Two of these are valid.", []),
        ("The rule rests.", [(1, "rests")]),
        ("The claim rests on 40 images, and the rest is noise.", []),
        ("No noes are recorded.", [(1, "noes")]),
        ("Rows are judged as they lie.", [(1, "as they lie")]),
        ("Say `hangs on` in code.", []),
        ("A file holds one key a line.", [(1, "one key a line")]),
        ("Some files hold one key per line; not every one is a line.", []),
        ("The best class is right.", [(1, "The best class")]),
        ("The 20 best classes of an image.", []),
        ("Refuse files of another kind.", [(1, "Refuse f")]),
        ("This is no number, and the value less that of y.", [(1, "is no number"), (1, "less that of")]),
        ("```text\nhangs on\n```\nThe note tells what ran.", [(4, "tells what")]),
    ],
)
def test_phrases_of_a_page(lint: Callable[..., list[str]], text: str, listed: list[tuple[int, str]]) -> None:
    found = [line.partition(": say ")[0] for line in lint({"docs/a.md": text}, "phrases")]
    assert found == [f"docs/a.md:{line}: {phrase!r}" for line, phrase in listed]


def test_strings_of_code_are_read_and_comments_are_not(lint: Callable[..., list[str]]) -> None:
    code = '''
    def f(rule):
        """A first line.

        It hangs on the rule.
        """
        # it hangs on nothing
        raise ValueError(f"The rule {rule} rests: no noes"
                         " are recorded.")
    '''
    assert lint({"src/manyhot/a.py": code}, "phrases") == [
        "src/manyhot/a.py:4: 'hangs on': say depends on",
        "src/manyhot/a.py:7: 'noes': say no answers, or answers no",
        "src/manyhot/a.py:7: 'rests': say is skipped",
    ]


def test_templates_and_scripts_are_read(lint: Callable[..., list[str]]) -> None:
    found = lint(
        {"a.html": "<p>\n{{ n }} rests</p>", "a.js": 'say("Of these");', "a.css": "rests"}, "phrases"
    )
    assert [line.partition(": say")[0] for line in found] == ["a.html:2: 'rests'", "a.js:1: 'Of'"]


def test_words_of_the_domain(lint: Callable[..., list[str]]) -> None:
    files = {
        "docs/a.md": "Each annotator\nanswers a Task.",
        "docs/losses.md": "The target of a loss, no ground truth.",
        "src/manyhot/a.py": '"""A worker."""\nMESSAGE = "a worker"\n',
    }
    assert [line.partition(": say ")[0] for line in lint(files, "phrases")] == [
        "docs/a.md:1: 'annotator'",
        "docs/a.md:2: 'Task'",
        "docs/losses.md:1: 'ground truth'",
        "src/manyhot/a.py:1: 'worker'",
    ]


def test_the_command_prints_and_fails(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("It hangs on you.\n", encoding="utf-8")
    assert tool.main([str(page)]) == 1
    assert capsys.readouterr().out == f"{page}:1: 'hangs on': say depends on\n"
    assert tool.main(["--names", str(page)]) == 0
    assert capsys.readouterr().out == ""


# the repository


def test_the_house_speaks_plainly(tool: ModuleType) -> None:
    paths = tool.files(REPO / name for name in tool.READ)
    assert len(paths) > 300
    assert tool.check(paths) == []

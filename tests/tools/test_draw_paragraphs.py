"""Paragraphs are drawn from everything that people read, the same ones for a seed."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "draw_paragraphs.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("draw_paragraphs", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_kinds_are_drawn_and_a_seed_draws_the_same(tool):
    drawn = tool.draw(1)
    assert len(drawn) == 30
    assert {kind for kind, _ in drawn} == {"docs", "help", "messages", "pages"}
    assert drawn == tool.draw(1) != tool.draw(2)


def test_an_error_is_one_paragraph(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "REPO", tmp_path)
    path = tmp_path / "a.py"
    path.write_text(
        '"""A module that is not read."""\n\n'
        "def f(x):\n"
        '    """Return something that takes more than eight words to say."""\n'
        '    raise InputError("The file holds no known sort of table.", got=f"{x} of all", do="give one")\n'
    )
    assert [text for _, text in tool._messages(path)] == [
        "The file holds no known sort of table. | … of all | give one"
    ]
    assert [text for _, text in tool._docstrings(path)] == [
        "Return something that takes more than eight words to say."
    ]

"""Draw paragraphs for a fresh reader: ``python tools/draw_paragraphs.py SEED``.

Prints thirty paragraphs of docs, help, messages and pages, drawn by the seed, each with its file and line.
"""

from __future__ import annotations

import argparse
import ast
import functools
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
LEAST_WORDS = 8
"""Shorter ones are headings, labels and fragments."""

Paragraph = tuple[str, str]
"""Where it stands, and its text."""


@functools.cache
def paragraphs() -> dict[str, list[Paragraph]]:
    """Return the paragraphs of each kind."""
    package = REPO / "src" / "manyhot"
    code = sorted(package.rglob("*.py"))
    pages = sorted([*package.rglob("*.html"), *package.rglob("*.js")])
    docs = [p for p in sorted((REPO / "docs").rglob("*.md")) if "_build" not in p.parts]
    of_code = [(list(_docstrings(path)), list(_messages(path))) for path in code]  # parsed once
    return {
        "docs": [p for path in [REPO / "README.md", *docs] for p in _prose(path)],
        "help": [p for help, _ in of_code for p in help],
        "messages": [p for _, messages in of_code for p in messages],
        "pages": [p for path in pages for p in _markup(path)],
    }


def draw(seed: int, n: int = 30) -> list[tuple[str, Paragraph]]:
    """Return `n` paragraphs, the same number of each kind as far as it goes, in random order."""
    rng = random.Random(seed)
    pool = paragraphs()
    share = [n // len(pool) + (i < n % len(pool)) for i in range(len(pool))]
    drawn = [
        (kind, p)
        for (kind, found), k in zip(pool.items(), share, strict=True)
        for p in rng.sample(found, min(k, len(found)))
    ]
    rng.shuffle(drawn)
    return drawn


def _where(path: Path, line: int) -> str:
    return f"{path.relative_to(REPO).as_posix()}:{line}"


def _long(text: str) -> bool:
    return len(re.findall(r"[A-Za-z]{2,}", text)) >= LEAST_WORDS


def _prose(path: Path) -> Iterator[Paragraph]:
    """Yield the paragraphs of a page of docs, without code blocks, tables and headings."""
    text = re.sub(
        r"^( *)```.*?^\1```$", lambda m: "\n" * m[0].count("\n"), path.read_text(), flags=re.M | re.S
    )
    line = 1
    for block in re.split(r"(\n\s*\n)", text):
        if _long(block) and not re.match(r"\s*(?:\||#|<|:::|%|\(|---)", block):
            yield _where(path, line), " ".join(block.split())
        line += block.count("\n")


@functools.lru_cache(maxsize=1)
def _nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def _docstrings(path: Path) -> Iterator[Paragraph]:
    """Yield what the docstrings of public functions and classes say: it is the help, too."""
    for node in _nodes(path):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        for text in _blocks(ast.get_docstring(node) or ""):
            if _long(text):
                yield _where(path, node.lineno), " ".join(text.split())


def _blocks(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring; each entry of a numpydoc section is one."""
    for block in docstring.split("\n\n"):
        _, _, body = block.partition("\n")
        if not re.match(r"-+$", body.partition("\n")[0]):
            yield block
            continue
        text = body.partition("\n")[2]
        if not re.search(r"^ |\S : ", text, re.MULTILINE):  # Notes and References are prose
            yield text
            continue
        for entry in re.split(r"\n(?=\S)", text):
            name, _, text = entry.partition("\n")
            if text.startswith(" "):
                yield f"{name.split(' : ')[0]}: {text}"
            elif " : " not in name:
                yield entry


def _messages(path: Path) -> Iterator[Paragraph]:
    """Yield errors, whole, and other sentences in strings."""
    nodes = _nodes(path)
    docs = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    inside = {id(p) for n in nodes if isinstance(n, ast.JoinedStr) for p in ast.walk(n) if p is not n}
    for node in nodes:
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
            parts = [text_of(a) for a in [*node.args, *(k.value for k in node.keywords)]]
            text = " | ".join(part for part in parts if part)
            inside |= {id(p) for p in ast.walk(node)}
        elif isinstance(node, ast.JoinedStr) or (is_text and id(node) not in docs):
            if id(node) in inside:
                continue
            text = text_of(node)
        else:
            continue
        if _long(text):
            yield _where(path, node.lineno), " ".join(text.split())


def text_of(node: ast.AST) -> str:
    """Return the text of a string or of an f-string, with … for its values."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _markup(path: Path) -> Iterator[Paragraph]:
    """Yield the sentences of a page template, or of the strings of a script."""
    text = path.read_text()
    if path.suffix == ".js":
        found = ((m.start(), m[2]) for m in re.finditer(r"([\"'`])((?:(?!\1).)*)\1", text))
    else:
        plain = re.sub(
            r"<(script|style).*?</\1>|{#.*?#}|{%.*?%}", lambda m: " " * len(m[0]), text, flags=re.S
        )
        found = ((m.start(), m[1]) for m in re.finditer(r">([^<>]+)<", plain))
    for at, words in found:
        words = re.sub(r"\$?{{?.*?}}?", "…", words)
        if _long(words) and " " in words.strip():
            yield _where(path, text.count("\n", 0, at) + 1), " ".join(words.split())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seed", type=int)
    for kind, (where, text) in draw(parser.parse_args(arguments).seed):
        print(f"[{kind}] {where}\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

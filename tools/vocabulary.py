"""List names, words and phrases that the house style does not use, and what to say instead.

    python tools/vocabulary.py [--names] [--phrases] [PATH ...]

Prints ``file:line: what`` and exits with 1 if there is anything. Without paths it reads the package, the docs
and the two pages beside them; without a part it checks both.

- names: modules, functions, classes, parameters, fields and table columns called by a word without content,
  and public names with several meanings. `tools/measure.py` counts the same ones.
- phrases: translated English in docstrings, messages, help, page templates, scripts and docs, and words for
  which the domain has others, in docs and docstrings. Blocks and spans of code in Markdown are left out.
"""

from __future__ import annotations

import argparse
import ast
import functools
import gc
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import measure

REPO = Path(__file__).resolve().parents[1]
READ = ("src/manyhot", "docs", "README.md", "CONTRIBUTING.md")
SUFFIXES = (".py", ".md", ".html", ".js")

WORDS = {
    r"tasks?": "question, or campaign",
    r"workers?|annotators?": "rater",
    r"ground[- ]truth": "label set, or original label",
    r"targets?": "label, label set or class; a target is what a loss is given",
}
"""Words for which the domain has others, in docs and docstrings."""

EXEMPT = {
    "tasks?": r"formats|label_studio|propos|limits|crowd_kit|hub|machines|ray",
    "workers?|annotators?": r"formats|crowd_kit|label_studio|machines|ray|decode|images|loader|app/|hosting"
    r"|diagnose/corruptions|patchml/|predict/(?:engines/|in_memory|predict)",
    "ground[- ]truth": r"formats|label_studio|golden|patchml|localis|class-votes",
    "targets?": r"train|loss|transfer|mitiga|core/|formats|testing|study|studies|extending"
    r"|data/convert",
}
"""Files in which a word is right: targets of losses, files to write, threads, other programs' own terms."""

PHRASES = {
    r"\bh[au]ngs? (?:up)?on\b": "depends on",
    r"\bnoes\b": "no answers, or answers no",
    r"\brests\b(?! on\b)|\brules? (?:that )?rest\b": "is skipped",
    r"\bas (?:they|it) lies?\b": "unchanged, or in the order of the file",
    r"\btell(?:s|ing)? (?:what|how|why|where|by which|its|their)\b": "says, shows or describes",
    r"\bOf\b": "the subject first, as in 'Three of the images have …'",
    r"\b[Nn]obody (?:labelled|looked at|knows which)\b": "no rater has seen the image, or unknown",
    r"\bmore or fewer hold\b": "several or none of the classes can be valid",
    r"\bLeast informedness\b": "minimum informedness",
    r"\bof an? (?:page|rater|model|class|pair|image) at most\b": "maximum number of … per …",
    r"\bat a time at most\b": "at most … at a time",
    r"\bfor good once\b": "cannot be changed after",
    r"\blabel sets far better\b": "predict label sets much better",
    r"\branked otherwise\b": "ranked differently",
    r"\bare given hold for\b": "also apply to",
    r"\bneither called\b": "not declared as",
    r"\b(?:called|known) by (?:WordNet id|name|position)\b": "named after, or looked up by",
    r"\b(?:do|does) not answer any ?more\b": "no longer responds",
    r"\b[Hh]ow often who\b": "rate limits",
    r"\b[Bb]y which names the app\b": "host names and proxies",
    r"\bthat there (?:is|are) not\b": "that does not exist",
    r"\bof who has\b": "of a client with",
    r"\breader of the numbers\b": "reader",
    r"\bValues that take long\b": "values that are slow to compute",
    r"\bdata, campaigns or files in\b": "a full sentence",
    r"\banswers alike\b": "share of equal answers",
    r"\bNo image of \w+ is in\b": "… has no predictions for images of …",
    r"\b\d+ numbers match\b": "rows match",
    r"\bstands? nowhere\b": "is not recorded",
    r"\bgone meanwhile\b": "deleted in the meantime",
    r"\bends nothing\b": "does not stop the run",
    r"\band (?:says|said) so\b|\bis said so\b": "and reports it",
    r"\b(?:images|pictures|rows|answers|requests) a second\b": "… per second",
    r"\bhow alike\b": "how similar",
    r"\bturned round\b": "reversed",
    r"\bturned the other way\b": "reversed",
    r"\bworth a look\b": "should be reviewed",
    r"\bso many\b(?= (?:images|classes|models|cores|raters|rows)\b)": "this many",
    r"\bbeside the usual\b": "in addition to the defaults",
    r"\bgo(?:es)? on where it was\b": "resumes",
    r"\bcomes? on request\b": "is optional",
    r"\bdeals? (?:the )?parts\b": "distributes parts",
    r"\bas far as (?:they|it) knows?\b": "where known",
    r"\bpays? for itself\b": "is worth it",
    r"\bis written over\b|\bwritten over\b": "overwritten",
    r"\bdraws? (?:the report|it) anew\b|\banew\b": "again",
    r"\bwhat is known about\b": "properties of, or metadata of",
    r"\bno more than that\b": "only",
    r"\bas alike as\b": "as similar as",
    r"\b(?:[Tt]he|[Ii]ts|model's) best class\b": "top class",
    r"\bone (?:key|class|label|row|number|table) an? (?:line|row|image|model|file|class)\b": "one … per …",
    r"\bis no (?:number|probability|share|integer|label)\b": "is not a …",
    r"\bless (?:that|those) of\b": "minus",
    r"\b[Gg]ive the class list\b": "pass the class list",
    r"\bRefuse [a-z]": "raise an error if",
    r"\bpeople (?:looked at|went over)\b": "raters checked",
    r"\bby a later manyhot\b": "by a later version of manyhot",
}
"""Translated English, as patterns, and what to say instead."""


@dataclass(frozen=True)
class Text:
    """A piece of text, the line on which it starts, and whether it is a docstring or a page of docs."""

    line: int
    text: str
    is_docs: bool


def texts(path: Path, nodes: Sequence[ast.AST] | None = None) -> Iterator[Text]:
    """Yield what people read in a file; `nodes` are those of a file that was parsed already."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _strings([*ast.walk(ast.parse(source))] if nodes is None else nodes)
    elif path.suffix == ".md":
        yield Text(1, without_code(source), True)
    else:
        yield Text(1, source, False)


def without_code(markdown: str) -> str:
    """Blank fenced blocks and spans of code, so that lines keep their numbers."""
    fenced = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
    blank = fenced.sub(lambda block: "\n" * block[0].count("\n"), markdown)
    return re.sub(r"`[^`]+`", lambda span: "`" + "\n" * span[0].count("\n"), blank)


def _strings(nodes: Sequence[ast.AST]) -> Iterator[Text]:
    docs = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    inside = {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in ast.walk(n)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
            yield Text(node.lineno, "".join(map(str, parts)), False)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield Text(node.lineno, node.value, id(node) in docs)


@functools.cache
def _pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern whose spaces may be line breaks."""
    return re.compile(text.replace(" ", r"\s+"), flags)


_PHRASES = {_pattern(text): say for text, say in PHRASES.items()}
_STARTS = re.sub(r"(^|\|)\\b", r"\1", "|".join([*PHRASES, f"(?i:(?:{'|'.join(WORDS)})\\b)"]))
ANY = _pattern(rf"\b(?:{_STARTS})")
"""What most texts have nothing of: one pattern over all texts takes a twelfth of the time of each over each.

It asks once whether a word starts, and case counts as in each: *of* is in a fifth of all texts, *Of* in none.
"""


def phrases(path: Path, nodes: Sequence[ast.AST] | None = None) -> Iterator[tuple[int, str]]:
    """Yield the line of each word and phrase in a file, and what to say instead."""
    name = path.as_posix()
    words = {_pattern(rf"\b(?:{w})\b", re.IGNORECASE): w for w in WORDS if not re.search(EXEMPT[w], name)}
    for piece in texts(path, nodes):
        if not ANY.search(piece.text):
            continue
        for pattern, say in (
            _PHRASES | ({p: WORDS[w] for p, w in words.items()} if piece.is_docs else {})
        ).items():
            for match in pattern.finditer(piece.text):
                shown = " ".join(match[0].split())
                yield piece.line + piece.text.count("\n", 0, match.start()), f"{shown!r}: say {say}"


def names(package: Path, code: measure.Code) -> Iterator[tuple[Path, int, str]]:
    """Yield the file and line of each name without content, or with several meanings."""
    for kind, module, name, line in (*measure.empty_names(code), *_columns(code)):
        yield package / code.files[module], line, f"the {kind} {name!r} does not say what it is"
    for several in measure.ambiguous(code).values():
        for name, places in several.items():
            for module, own in places:
                if "/migrations/" in code.files[module]:  # Alembic prescribes the names in each
                    continue
                line = getattr(code.defined.get((module, own)), "lineno", 1)
                also = ", ".join(m for m, _ in places if m != module)
                yield package / code.files[module], line, f"{name!r} means something else in {also}"


def _columns(code: measure.Code) -> Iterator[tuple[str, str, str, int]]:
    """Yield columns without content: first strings in calls of ``Column`` or, in `tables/`, in any call."""
    for module, call in measure.every(code, ast.Call):
        first = call.args[0] if call.args else None
        if not isinstance(first, ast.Constant) or first.value not in measure.EMPTY:
            continue
        function = ast.unparse(call.func)
        typed = function.partition(".")[0].isupper()  # REAL("value", …) or REAL.nullable("value", …)
        declares = typed or "/tables/" in f"/{code.files[module]}" or function.endswith("Column")
        if declares:
            yield "column", module, first.value, call.lineno


def files(paths: Iterable[Path]) -> list[Path]:
    """Return the files to read, without what the documentation is built into."""
    inside = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
    return sorted({f for f in inside if f.suffix in SUFFIXES and f.is_file() and "_build" not in f.parts})


def check(paths: Iterable[Path], *, parts: Iterable[str] = ("names", "phrases")) -> list[str]:
    """Return a line for each finding in files and in folders."""
    read, package = files(paths), REPO / "src" / "manyhot"
    gc.disable()  # looking for garbage among the trees of all files takes longer than the check
    nodes: dict[Path, Sequence[ast.AST]] = {}
    found = []
    if "names" in parts and any(path.suffix == ".py" for path in read):
        code = measure.read_code(package)
        nodes = {package / code.files[module]: of_file for module, of_file in code.nodes.items()}
        found += [entry for entry in names(package, code) if entry[0] in set(read)]
    if "phrases" in parts:
        found += [(path, *at) for path in read for at in phrases(path, nodes.get(path))]
    gc.enable()
    return [f"{_short(path)}:{line}: {what}" for path, line, what in sorted(found)]


def _short(path: Path) -> str:
    return path.relative_to(REPO).as_posix() if path.is_relative_to(REPO) else path.as_posix()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--names", action="store_true", help="check names only")
    parser.add_argument("--phrases", action="store_true", help="check words and phrases only")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders to check")
    options = parser.parse_args(arguments)
    parts = [part for part in ("names", "phrases") if getattr(options, part)] or ["names", "phrases"]
    paths = [path.resolve() for path in options.paths] or [REPO / name for name in READ]
    findings = check(paths, parts=parts)
    print(*findings, sep="\n", end="\n" * bool(findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

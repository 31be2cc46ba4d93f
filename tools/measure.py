"""Print measures of the structure of `src/manyhot`, which is read but not imported.

    python tools/measure.py [--only ROW ...] [--time] [--json FILE]

Names are resolved through imports, including those in functions and under ``TYPE_CHECKING``. A *definition*
is a function, class or constant at the top level of a file; a class includes its methods. The rows:

- size: docs are strings used as statements; functions go from ``def`` to their end, without docstrings.
- words: in strings inside ``raise X(...)`` and ``…Error(...)``, and in docstrings of public names, constants
  included. *Each line once* counts equal lines as one, so removing repetitions alone keeps it.
- repeats: the parameters of a command's function are listed again by each function, dataclass or ``__init__``
  that shares at least `SHARED` names with it, or with the previous list, and that it refers to, directly or
  through helpers in its file, or whose name is the same up to ``_files``; other commands' functions are
  excluded. All lines of signature and Parameters of these lists count, once each: 0 if every command is
  declared once. A twin is such a list, or has a function of the same name without ``_files``. Defaults are
  literals of parameters, fields and constants other than None, True, False and "".
- imports: pairs of files. The files of a circle import one another, directly or not; parent packages that
  Python imports itself do not count. Against the order are imports of later rooms or others of equal rank.
- touched: proxies, since no static analysis knows what a change will touch. A file mentions the feature in a
  name, an import or a string that is a name. An option's places are parameters, fields, entries of Parameters
  and calls that pass it, in the classes of the objects that the command's function takes, in what *path*
  reaches before ``core``, and in other functions named evaluate.
- path: the shortest way of ``resamples`` from the command's function to ``core.resampling``, along calls that
  pass it or an object with that field; the classes of such objects and re-exporting packages are on the way.
- meanings: public names defined in several modules, and names of files. Definitions that refer to one
  another, files that import one another and assignments of equal text share a meaning.
- empty: modules, classes, functions, parameters and fields named as in `EMPTY`, but for outer underscores.
- time: user and system seconds of a fresh process, median of ten; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
ORDER = (
    "errors < files < extras < registry < classes < run < console < core < tables < result < command "
    "< formats, report < data < predict < evaluate < reassess < diagnose < train < study < testing < cli"
)
"""Rooms, the one that all may import first. An ORDER in `tests/test_architecture.py` replaces it."""

EMPTY = ("told", "found", "known", "wanted", "given", "kept", "said", "words", "numbers")
FEATURE = "companions"
OPTIONS = {"resamples": frozenset({"resamples"}), "slice": frozenset({"slice", "slices"})}
SHARED = 5
Function = ast.FunctionDef | ast.AsyncFunctionDef
Name = tuple[str, str]  # module and name of a definition; module and "" of a file
Way = tuple[Name, ...]
Rows = Iterator[tuple[str, float | None, Iterable[str]]]  # a label, a figure, and the places that it counts


@dataclass(frozen=True, eq=False)
class Code:
    """A package: files, text and nodes by module, definitions, and what names mean in each module."""

    root: str
    files: dict[str, str]
    text: dict[str, str]
    nodes: dict[str, list[Any]]
    defined: dict[Name, Any]
    names: dict[str, dict[str, str]]


def read_code(package: Path) -> Code:
    code = Code(package.name, {}, {}, {}, {}, {})
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        code.files[module], code.text[module] = path.relative_to(package).as_posix(), path.read_text("utf-8")
        tree = ast.parse(code.text[module])
        code.nodes[module] = nodes = list(ast.walk(tree))
        code.names[module] = _imported(nodes)
        for node in tree.body:
            named = [node.name] if isinstance(node, Function | ast.ClassDef) else _targets(node)
            code.defined.update({(module, name): node for name in named})
    return code


def every(code: Code, kind: Any) -> Iterator[tuple[str, Any]]:
    return ((module, n) for module, nodes in code.nodes.items() for n in nodes if isinstance(n, kind))


def _targets(node: Any) -> list[str]:
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [t.id for t in targets if isinstance(t, ast.Name)]


def _imported(nodes: Iterable[ast.AST]) -> dict[str, str]:
    every = [(n, a) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names]
    return {a.asname or a.name: f"{getattr(n, 'module', '')}.{a.name}".strip(".") for n, a in every}


def _string(node: Any) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _dotted(node: Any) -> str:
    if isinstance(node, ast.Attribute):
        return f"{front}.{node.attr}" if (front := _dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


@cache
def meant(code: Code, module: str, dotted: str, by: Way = ()) -> tuple[Name | None, Way]:
    """Return the definition that a name in a module means, if any, and the files that hand it on."""
    first, _, rest = dotted.partition(".")
    if (module, first) in code.defined:
        return (module, first), by
    home = target = f"{code.names[module].get(first, '')}.{rest}".strip(".")
    while home and home not in code.nodes:
        home = home.rpartition(".")[0]
    if first not in code.names[module] or home in ("", target) or (home, "") in by:
        return None, ()
    return meant(code, home, target[len(home) + 1 :], (*by, (home, "")))


@cache
def references(code: Code, name: Name) -> frozenset[Name]:
    """Return the definitions that a definition refers to, or the files that a file imports."""
    if not name[1]:
        return frozenset((b, "") for a, b in imports(code) if a == name[0])
    nodes = list(ast.walk(code.defined[name]))
    local = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    local = (local | {n.arg for n in nodes if isinstance(n, ast.arg)}) - _imported(nodes).keys()
    used = {d for n in nodes if (d := _dotted(n)) and d.split(".")[0] not in local}
    return frozenset(target for d in used if (target := meant(code, name[0], d)[0]) and target != name)


def signature(node: Any) -> list[tuple[str, Any, ast.expr | None]]:
    """Return the name, the node and the default of each parameter of a function or field of a class."""
    if isinstance(node, ast.ClassDef):
        fields = [s for s in node.body if isinstance(s, ast.AnnAssign)]
        return [(name, s, s.value) for s in fields for name in _targets(s)]
    of, plain = node.args, [*node.args.posonlyargs, *node.args.args]
    defaults = [None] * (len(plain) - len(of.defaults)) + of.defaults + of.kw_defaults
    return [(a.arg, a, value) for a, value in zip(plain + of.kwonlyargs, defaults, strict=True)]


@cache
def parameters(code: Code, name: Name) -> dict[str, Any]:
    """Return the parameters of a function, a dataclass or a class with ``__init__``, without underscores."""
    node = code.defined[name]
    if isinstance(node, ast.ClassDef):
        marks = "".join(ast.unparse(mark) for mark in (*node.decorator_list, *node.bases))
        if "dataclass" in marks or "NamedTuple" in marks:
            return {field.strip("_"): s for field, s, _ in signature(node) if field[0] != "_"}
        node = next((s for s in node.body if isinstance(s, Function) and s.name == "__init__"), node)
    listed = signature(node) if isinstance(node, Function) else []
    return {key.strip("_"): a for key, a, _ in listed if key not in ("self", "cls")}


def lineage(code: Code, name: Name) -> list[Name]:
    """Return a class and its base classes in the package."""
    bases = getattr(code.defined[name], "bases", ())
    found = [target for base in bases if (target := meant(code, name[0], _dotted(base))[0])]
    return [name, *(member for base in found for member in lineage(code, base))]


def inherited(code: Code, name: Name) -> dict[str, tuple[str, Any]]:
    """Return the parameters of a definition and of its base classes, each with the module that it is in."""
    return {k: (n[0], p) for n in lineage(code, name)[::-1] for k, p in parameters(code, n).items()}


def documented(node: Any) -> list[str]:
    """Return the lines of a docstring's Parameters and Attributes that are not blank."""
    doc = (ast.get_docstring(node) or "") if isinstance(node, Function | ast.ClassDef) else ""
    section = r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\w[\w ]*\n---|\Z)"
    return [line for text in re.findall(section, doc, re.M | re.S) for line in re.findall(r".*\S", text)]


def list_lines(code: Code, name: Name) -> int:
    """Return the lines of a definition's list of parameters and of its docs."""
    node = code.defined[name]
    fields = sum(s.end_lineno - s.lineno + 1 for s in parameters(code, name).values())
    head = max(1, node.body[0].lineno - node.lineno) if isinstance(node, Function) else fields
    return head + len(documented(node))


@cache
def commands(code: Code) -> dict[str, Name]:
    """Return the function of each command, marked ``command``, in a loop or in the index."""
    marked = [(m, mark, f.name) for m, f in every(code, Function) for mark in f.decorator_list]
    loops = {(m, _dotted(n.target)): getattr(n.iter, "elts", []) for m, n in every(code, ast.For)}
    for m, n in every(code, ast.Call):
        if isinstance(n.func, ast.Call) and n.args:
            marked += [(m, n.func, _dotted(e)) for e in loops.get((m, _dotted(n.args[0])), n.args[:1])]
    named = {}
    for module, mark, function in marked:
        called, arguments = (mark.func, mark.args) if isinstance(mark, ast.Call) else (mark, [])
        group, _, verb = _dotted(called).rpartition(".")
        texts = [verb, *map(_string, arguments)]
        if "command" in texts[:2] and (target := meant(code, module, function)[0]):
            name = "".join(texts[texts.index("command") + 1 :][:1]) or function.strip("_").replace("_", "-")
            named[f"{group.replace('app', '')} {name}".strip()] = target
    for _, n in every(code, ast.AnnAssign):
        if _dotted(n.target) == "COMMANDS" and isinstance(n.value, ast.Dict):
            for key, value in zip(n.value.keys, n.value.values, strict=True):
                home, _, function = _string(value.args[-1]).partition(":")
                named[_string(key)] = (home, function)
    return named


def chain(code: Code, command: Name) -> list[Name]:
    """Return the function of a command and the definitions that repeat its parameters."""
    own, others = parameters(code, command).keys(), set(commands(code).values())
    members, steps = [command], [(command, command)]
    for at, member in steps:  # which grows
        stem = at[1].strip("_").removesuffix("_files")
        alike = {d for d in code.defined if at == member and d[1] in (stem, f"{stem}_files")}
        for name in sorted((references(code, at) | alike) - others):
            names = parameters(code, name).keys()
            repeats = max(len(names & own), len(names & parameters(code, member).keys())) >= SHARED
            helps = name[0] == at[0] and isinstance(code.defined[name], Function)
            step = (name, name if repeats else member)
            if (repeats or helps) and step not in steps:
                steps.append(step)
                members += [name] if repeats else []
    return members


def holders(
    code: Code, module: str, node: Any, option: frozenset[str], by: frozenset[Name] = frozenset()
) -> set[Name]:
    """Return the classes named in an expression that have a field for an option, or for an object with it."""
    targets = {meant(code, module, d)[0] for n in (ast.walk(node) if node else ()) if (d := _dotted(n))}
    classes = {t for t in targets - by if t and isinstance(code.defined[t], ast.ClassDef)}
    fields = {c: inherited(code, c) for c in classes}
    return {
        c
        for c, own in fields.items()
        if option & own.keys()
        or any(holders(code, m, p.annotation, option, by | {c}) for m, p in own.values())
    }


def passed(code: Code, name: Name, option: frozenset[str]) -> Iterator[tuple[Name, Way, bool]]:
    """Yield what a definition passes an option or an object with it to, re-exports, and whether itself."""
    nodes = list(ast.walk(code.defined[name]))
    args = [n for n in nodes if isinstance(n, ast.arg)]
    assigned = [n for n in nodes if isinstance(n, ast.Assign) and holders(code, name[0], n.value, option)]
    alone = {a.arg for a in args if a.arg.strip("_") in option}
    objects = {a.arg for a in args if holders(code, name[0], a.annotation, option)}
    objects |= {target for n in assigned for target in _targets(n)}
    for call in (n for n in nodes if isinstance(n, ast.Call)):
        values = [*call.args, *(k.value for k in call.keywords)]
        called = call.args[0] if call.args and _dotted(call.func).endswith("partial") else call.func
        target, by = meant(code, name[0], _dotted(called))
        listed = inherited(code, target) if target else {}
        takes = any(key in option or holders(code, m, p.annotation, option) for key, (m, p) in listed.items())
        if target and takes and any(_holds(v, alone | objects, option) for v in values):
            yield target, by, any(_holds(v, alone, option) for v in values)


def _holds(node: ast.AST, names: set[str], option: frozenset[str]) -> bool:
    """Return whether an expression has one of the names, not just for another attribute, or an option's."""
    if isinstance(node, ast.Attribute) and (node.attr in option or isinstance(node.value, ast.Name)):
        return node.attr in option
    parts = () if isinstance(node, ast.Name) else ast.iter_child_nodes(node)
    return getattr(node, "id", "") in names or any(_holds(part, names, option) for part in parts)


def ways(code: Code, option: frozenset[str]) -> dict[Name, list[Name]]:
    """Return what an option of evaluate reaches, up to the first of `core`, each with the way to it."""
    reached: dict[Name, list[Name]] = {d: [] for name, d in commands(code).items() if name == "evaluate"}
    queue = list(reached)
    for name in queue:  # which grows
        for target, by, _ in passed(code, name, option):
            if target not in reached:
                reached[target] = [*reached[name], name, *by]
                queue += [target] if not target[0].startswith(f"{code.root}.core.") else []
    return reached


def option_places(code: Code, option: frozenset[str]) -> Iterator[str]:
    reached = [name for name in ways(code, option) if not name[0].startswith(f"{code.root}.core.")]
    alike = [d for d in code.defined if d[1] == "evaluate"]
    alike = [d for d in alike if {t for t, *_ in passed(code, d, option)} & set(reached)]
    own = [(n[0], p.annotation) for n in reached[:1] for p in parameters(code, n).values()]
    classes = sorted({c for module, part in own for c in holders(code, module, part, option)})
    declaring = [n for c in classes for n in lineage(code, c) if option & parameters(code, n).keys()]
    for name in dict.fromkeys(declaring + reached + alike):
        heads = [line.partition(":")[0] for line in documented(code.defined[name]) if line[0] != " "]
        kinds = ["parameter"] * bool(option & parameters(code, name).keys())
        kinds += ["doc" for head in heads if option & set(re.findall(r"\w+", head))]
        kinds += [f"call of {target[1]}" for target, _, alone in passed(code, name, option) if alone]
        yield from (f"{code.files[name[0]]} {name[1]} {kind}" for kind in kinds)


def measure_size(code: Code) -> Rows:
    starts = {m: [line.strip()[:1] for line in text.splitlines()] for m, text in code.text.items()}
    lines = {m: ["comment" if s == "#" else "code" if s else "blank" for s in of] for m, of in starts.items()}
    doc = {id(n): n.end_lineno - n.lineno + 1 for _, n in every(code, ast.Expr) if _string(n.value)}
    for m, n in every(code, ast.Expr):
        span = slice(n.lineno - 1, n.end_lineno)
        lines[m][span] = ["doc"] * doc.get(id(n), 0) or lines[m][span]
    kinds = Counter(kind for of in lines.values() for kind in of)
    functions = {f"{code.files[m]}:{f.lineno} {f.name}": f for m, f in every(code, Function)}
    lengths = {k: f.end_lineno - f.lineno + 1 - doc.get(id(f.body[0]), 0) for k, f in functions.items()}
    heights = {code.files[m]: len(of) for m, of in lines.items()}
    sizes, short = sorted(lengths.values()), sum(n <= 25 for n in lengths.values())
    yield "files", len(heights), ()
    yield "lines", kinds.total(), ()
    for kind in ("code", "doc", "comment", "blank"):
        yield f"{kind}, % of lines", round(100 * kinds[kind] / kinds.total(), 1), ()
    yield "lines of a function, median", statistics.median(sizes), ()
    yield "lines of a function, 90 % have at most", sizes[-(-9 * len(sizes) // 10) - 1], ()
    yield "functions of at most 25 lines, %", round(100 * short / len(sizes), 1), ()
    for what, most, of in (("files", 500, heights), ("files", 800, heights), ("functions", 80, lengths)):
        over = [f"{name} {n}" for name, n in of.items() if n > most]
        yield f"{what} over {most} lines", len(over), over


def measure_words(code: Code) -> Rows:
    calls = [n.exc for _, n in every(code, ast.Raise) if isinstance(n.exc, ast.Call)]
    calls += [n for _, n in every(code, ast.Call) if _dotted(n.func).endswith("Error")]
    specs = {id(c) for _, n in every(code, ast.FormattedValue) for c in getattr(n.format_spec, "values", ())}
    parts = {id(n): _string(n) for call in calls for n in ast.walk(call) if id(n) not in specs}
    docs = [doc for _, tree in every(code, ast.Module) for doc in _docstrings(tree)]
    lines = {line.strip() for doc in docs for line in doc.splitlines()}
    of = {"errors": parts.values(), "public docstrings": docs, "public docstrings, each line once": lines}
    for label, texts in of.items():
        words = [word for text in texts for word in re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text)]
        yield f"words in {label}", len(words), ()


def _docstrings(node: Any) -> Iterator[str]:
    """Yield the docstrings of a module or a definition, and of what is public in it, constants included."""
    before = ["docstring"]
    for child in node.body:
        if isinstance(child, ast.Expr) and _string(child.value) and any(name[0] != "_" for name in before):
            yield _string(child.value)
        before = _targets(child)
        if getattr(child, "name", "_")[0] != "_" and not isinstance(node, Function):
            yield from _docstrings(child)


def measure_repeats(code: Code) -> Rows:
    chains = {name: chain(code, function) for name, function in commands(code).items()}
    lines = {name: list_lines(code, name) for names in chains.values() for name in names}
    more = {name for names in chains.values() for name in names[1:]}
    sized = {k: ", ".join(f"{n[1]} {lines[n]}" for n in names) for k, names in chains.items() if names[1:]}
    again = [f"{name}: {lists}" for name, lists in sized.items()]
    functions = [name for name, node in code.defined.items() if isinstance(node, Function)]
    files = [name for name in functions if name[1].endswith("_files")]
    stems = {name[1] for name in functions}
    twins = [n for n in files if n[1][0] != "_" and (n in more or n[1].removesuffix("_files") in stems)]
    listed = [entry for _, n in every(code, Function | ast.ClassDef) for entry in signature(n)]
    listed += [(name, node, getattr(node, "value", None)) for (_, name), node in code.defined.items()]
    texts = [f"{key.strip('_').lower()}={d.value!r}" for key, _, d in listed if isinstance(d, ast.Constant)]
    defaults = Counter(text for text in texts if not text.endswith(("=None", "=True", "=False", "=''")))
    resamples = Counter({d: n for d, n in defaults.items() if d.startswith("resamples=")})
    yield "commands", len(chains), ()
    yield "commands whose parameters are listed again", len(again), again
    yield "lists beyond the commands' own", len(more), ()
    yield "lines of these lists and their docs", sum(lines[name] for name in more), ()
    yield "of these, of public definitions", sum(lines[name] for name in more if name[1][0] != "_"), ()
    yield "functions *_files", len(files), map(".".join, files)
    yield "of these, twins", len(twins), map(".".join, twins)
    yield "places with a default of resamples", resamples.total(), _ranked(resamples)
    yield "defaults in several places", sum(n > 1 for n in defaults.values()), _ranked(defaults)


def _ranked(counts: Mapping[str, int]) -> list[str]:
    return [f"{name} ×{n}" for name, n in Counter(counts).most_common()]


@cache
def imports(code: Code) -> dict[tuple[str, str], bool]:
    """Return which module imports which, and whether for the type checker alone."""
    tests = [n for _, n in every(code, ast.If) if "TYPE_CHECKING" in ast.unparse(n.test)]
    typing = {id(n) for test in tests for part in test.body for n in ast.walk(part)}
    pairs: dict[tuple[str, str], bool] = {}
    for module, node in every(code, ast.Import | ast.ImportFrom):
        for name in _imported(ast.walk(node)).values():
            target = name if name in code.nodes else name.rpartition(".")[0]
            if target in code.nodes and target != module:
                pairs[module, target] = pairs.get((module, target), True) and id(node) in typing
    return pairs


def circles(pairs: Collection[tuple[str, str]]) -> list[list[str]]:
    """Return the sets of modules that import one another, directly or not."""
    reach = {a: {b for start, b in pairs if start == a} for a, _ in pairs}
    for by, a in product(reach, repeat=2):
        reach[a] |= reach[by] if by in reach[a] else set()
    sets = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in reach if a in reach[a]}
    return sorted(sorted(circle) for circle in sets)


def measure_imports(code: Code) -> Rows:
    pairs, file, test = imports(code), code.files, REPO / "tests" / "test_architecture.py"
    tree: Any = ast.parse(test.read_text(encoding="utf-8") if test.is_file() else "")
    order = next((ast.literal_eval(n.value) for n in tree.body if _targets(n) == ["ORDER"]), ORDER)
    groups = order.split("<") if isinstance(order, str) else order
    ranks = {name: rank for rank, group in enumerate(groups) for name in re.findall(r"\w+", str(group))}
    ranks |= {"_version": -1, "__init__": len(groups), "__main__": len(groups)}
    room = {m: path.split("/")[0].removesuffix(".py") for m, path in file.items()}
    across = [(a, b) for a, b in pairs if room[a] != room[b]]
    against = sorted((a, b) for a, b in across if ranks.get(room[a], 99) <= ranks.get(room[b], -9))
    homeless = Counter(name for name in room.values() if name not in ranks)
    yield "imports between rooms", len(across), ()
    for label, some in (("", [p for p in pairs if not pairs[p]]), (", with imports for types", pairs)):
        sets = circles(some)
        yield f"circles{label}", len(sets), [" ↔ ".join(file[m] for m in circle) for circle in sets]
    yield "imports against the order", len(against), [f"{file[a]} → {file[b]}" for a, b in against]
    yield "of these, for types alone", sum(pairs[p] for p in against), ()
    yield "files in no room of the order", homeless.total(), _ranked(homeless)


def measure_touched(code: Code) -> Rows:
    texts: dict[str, set[str]] = defaultdict(set)
    for m, n in every(code, ast.AST):
        texts[code.files[m]] |= {v for v in vars(n).values() if isinstance(v, str)}
    mention = re.compile(rf"([\w.:]*[._: ])?{FEATURE}([._:]\w+)*", re.IGNORECASE)
    files = [file for file, held in texts.items() if any(map(mention.fullmatch, held))]
    yield f"files that mention {FEATURE}", len(files), files
    for name, option in OPTIONS.items():
        places = list(option_places(code, option))
        yield f"files of evaluate --{name}", len({p.split(" ")[0] for p in places}) or None, ()
        yield f"places of evaluate --{name}", len(places) or None, places
    marks = [mark for _, f in every(code, Function) for mark in f.decorator_list if getattr(mark, "args", 0)]
    metrics = sorted(_string(mark.args[1]) for mark in marks if _string(mark.args[0]) == "metric")
    strings = [(code.files[m], _string(n)) for m, n in every(code, ast.Constant)]
    of = {name: sorted({file for file, text in strings if text == name}) for name in metrics}
    median = statistics.median(map(len, of.values())) if of else None
    yield "files with a metric's name, median", median, [f"{k}: {', '.join(held)}" for k, held in of.items()]


def measure_path(code: Code) -> Rows:
    option, end = OPTIONS["resamples"], f"{code.root}.core.resampling"
    way = next(([*way, name] for name, way in ways(code, option).items() if name[0] == end), [])
    stops = [name for name in way if name[1]]
    parts = [(n[0], p.annotation) for n in stops for p in parameters(code, n).values()]
    stops += sorted({c for m, part in parts for c in holders(code, m, part, option)} - set(stops))
    files = sorted({code.files[module] for module, _ in (*way, *stops)})
    folders = sorted({file.split("/")[0] for file in files})
    for label, places in {"definitions": map(".".join, stops), "files": files, "folders": folders}.items():
        yield f"{label} on the way of evaluate --resamples", len(listed := [*places]) or None, listed


def measure_meanings(code: Code) -> Rows:
    for kind, several in ambiguous(code).items():
        counts = {name: meanings(code, places) for name, places in several.items()}
        ranked = sorted(several, key=lambda name: -counts[name])
        shown = [f"{name} ×{counts[name]}: {', '.join(m for m, _ in several[name])}" for name in ranked]
        yield f"public {kind} with two meanings", len(shown), shown


def ambiguous(code: Code) -> dict[str, dict[str, list[Name]]]:
    """Return the public names with several meanings and where they are defined, by kind."""
    kinds: dict[str, dict[str, list[Name]]] = defaultdict(lambda: defaultdict(list))
    for name, node in code.defined.items():
        kind = "classes" if hasattr(node, "bases") else "functions" if hasattr(node, "args") else "constants"
        kinds[kind][name[1]].append(name)
    for module, file in code.files.items():
        if not file.endswith("__init__.py"):
            kinds["files"][module.rpartition(".")[2]].append((module, ""))
    several = {k: [n for n in of if n[0] != "_" and meanings(code, of[n]) > 1] for k, of in kinds.items()}
    return {kind: {name: kinds[kind][name] for name in of} for kind, of in several.items()}


def meanings(code: Code, names: list[Name]) -> int:
    """Return how many groups of definitions there are that neither refer to one another nor say the same."""
    values = {name: getattr(code.defined.get(name), "value", None) for name in names}
    texts = {name: ast.unparse(value) if value else name for name, value in values.items()}
    group = {name: name for name in names}
    for a, b in combinations(names, 2):
        if texts[a] == texts[b] or a in references(code, b) or b in references(code, a):
            group = {name: group[a] if first == group[b] else first for name, first in group.items()}
    return len(set(group.values()))


def measure_empty(code: Code) -> Rows:
    empty = list(empty_names(code))
    yield "names that say nothing", len(empty), _ranked(Counter(e[2].strip("_").lower() for e in empty))
    kinds = {"module": "modules", "class": "classes", "function": "functions"}
    for kind, plural in (kinds | {"parameter": "parameters", "field": "fields"}).items():
        places = [f"{code.files[m]}:{line} {name}" for k, m, name, line in empty if k == kind]
        yield f"of these, {plural}", len(places), places


def empty_names(code: Code) -> Iterator[tuple[str, str, str, int]]:
    """Yield the kind, the module, the name and the line of each name that says nothing."""
    named = [("module", m, m.rpartition(".")[2], 1) for m in code.files]
    for m, n in every(code, Function | ast.ClassDef):
        kinds = ("function", "parameter") if isinstance(n, Function) else ("class", "field")
        named += [(kinds[0], m, n.name, n.lineno)]
        named += [(kinds[1], m, key, part.lineno) for key, part, _ in signature(n)]
    yield from (entry for entry in named if entry[2].strip("_").lower() in EMPTY)


def measure_time(code: Code) -> Rows:
    env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "PYTHONDONTWRITEBYTECODE": ""}
    own = ("-m", code.root)
    for arguments in ("-c", ""), ("-c", f"import {code.root}"), (*own, "--version"), (*own, "--help"):
        spent = []
        for _ in range(11):
            subprocess.run([sys.executable, *arguments], env=env, check=True, stdout=subprocess.DEVNULL)
            spent.append(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]))
        seconds = [round(after - before, 3) for before, after in pairwise(spent)]
        yield f"CPU s of python {' '.join(arguments)}", statistics.median(seconds), map(str, seconds)


ROWS = {name.removeprefix("measure_"): row for name, row in globals().items() if name.startswith("measure_")}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--time", action="store_true", help="the row time too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and places there")
    options = parser.parse_args(arguments)
    code, tree = read_code(REPO / "src" / "manyhot"), {}
    for row in options.only or [name for name in ROWS if name != "time" or options.time]:
        print(row)
        tree[row] = {label: {"value": n, "places": [*places]} for label, n, places in ROWS[row](code)}
        for label, cell in tree[row].items():
            print(f"  {label:<48}" + ("–" if cell["value"] is None else f"{cell['value']:,}").rjust(8))
            shown = "; ".join(cell["places"][:12] + ["…"] * (len(cell["places"]) > 12))
            print(textwrap.indent(textwrap.fill(shown, 104), " " * 6), end="\n" * bool(shown))
    if options.json:
        options.json.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

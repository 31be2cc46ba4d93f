"""The documentation says all that there is, and what it says runs.

Each failure names what to add, and where.
"""

import ast
import doctest
import functools
import importlib
import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import typer
import typer.testing
from typer.testing import CliRunner

import forking
import manyhot
from manyhot import cli, errors, registry, tables
from manyhot._version import __version__
from manyhot.commands import COMMANDS
from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS
from manyhot.data.inputs import Reading
from manyhot.diagnose.shortcut_marks import step_without
from manyhot.predict.several import names_of
from manyhot.tables.array_inputs import as_labels, as_predictions
from manyhot.train.mitigate.mitigation_result import STEP_IF_NOT_GONE
from saved_by_hand import save_multilabel

REPO = Path(__file__).resolve().parent.parent
DOCS = REPO / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
PATHS = {p.stem: p for p in PAGES}
"""Pages by the name of their file, which no two share."""
BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/demo/README.md")
PROSE = [*PAGES, *(REPO / name for name in BESIDE)]
SHELLS = ("console", "sh", "bash", "shell")


def _load_generated():
    spec = importlib.util.spec_from_file_location("docs_generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generated = _load_generated()
MARKER = generated.MARKER
GENERATORS = {
    name
    for name, value in vars(generated).items()
    if isinstance(value, types.FunctionType) and value.__module__ == generated.__name__ and name[0] != "_"
}


@functools.cache
def page(name):
    """Return a page as it is built, generated parts included."""
    text = PATHS[name].read_text(encoding="utf-8")
    return MARKER.sub(lambda found: getattr(generated, found[1])(), text)


@functools.cache
def section(name, heading):
    """Return what stands under a heading in backticks, up to the next heading."""
    found = re.search(rf"^#+ `?{re.escape(heading)}`?$(.*?)(?=^#|\Z)", page(name), re.MULTILINE | re.DOTALL)
    return found[1] if found else None


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, the line before it, and where it starts."""

    path: Path
    line: int
    language: str
    before: str
    body: str

    @property
    def is_run(self):
        return self.language in ("python", "pycon") and not self.before.startswith("% not run")

    @property
    def is_setup(self):
        """Whether it makes the data of its page: it stands at the end, and runs first."""
        return self.before.startswith("% setup")


def fences(path, text=None):
    text = path.read_text(encoding="utf-8") if text is None else text
    found = []
    for match in re.finditer(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        found.append(Fence(path, text.count("\n", 0, match.start()) + 1, match[1], before, match[2]))
    return found


def in_order(path):
    """Return the blocks of a page in the order in which they run."""
    return sorted(fences(path), key=lambda fence: not fence.is_setup)


def shell_lines(path):
    """Yield the command lines in a page's shell blocks, as words, with their place."""
    for fence in fences(path, page(path.stem) if path in PAGES else None):
        if fence.language in SHELLS:
            for line in fence.body.replace("\\\n", " ").splitlines():
                words = shlex.split(line.strip().removeprefix("$ "), comments=True)
                if words:
                    yield words, f"{path.relative_to(REPO)}: {line.strip()}"


# Everything registered is described.


@pytest.mark.parametrize("name", registry.names("metric"))
def test_every_metric_is_defined(name):
    text = section("metrics", name)
    assert text, (
        f"metrics.md: add a section '### `{name}`': formula, what n counts, options, source, deviation"
    )
    assert "- Computed over" in text, f"metrics.md, `{name}`: say over which images, as '- Computed over …'"
    for option in registry.options_of(registry.get("metric", name)):
        assert f"`{option}`" in text, f"metrics.md, `{name}`: describe the option `{option}`"


@pytest.mark.parametrize("name", registry.names("format"))
def test_every_format_is_described(name):
    entry, text = registry.get("format", name), section("formats", name)
    assert text, f"formats.md: add a section '### `{name}`': what it holds, how it is recognised, an example"
    assert "- Recognised by" in text, f"formats.md, `{name}`: say how it is recognised, '- Recognised by …'"
    for suffix in entry.about["suffixes"]:
        assert suffix.strip(".") in text.lower(), f"formats.md, `{name}`: name the suffix {suffix}"


@pytest.mark.parametrize("name", registry.names("proposer"))
def test_every_rule_is_described(name):
    text = section("proposals", name)
    assert text, f"proposals.md: add a section '### `{name}`': what it proposes, options, source"
    for option in registry.options_of(registry.get("proposer", name)):
        assert f"`{option}`" in text, f"proposals.md, `{name}`: describe the option `{option}`"


@pytest.mark.parametrize("name", registry.names("loss"))
def test_every_loss_is_described(name):
    text = section("losses", name)
    assert text, f"losses.md: add a section '### `{name}`': formula, options, source, deviation"
    for option in registry.options_of(registry.get("loss", name)):
        assert f"`{option}`" in page("losses"), f"losses.md, `{name}`: describe the option `{option}`"


@pytest.mark.parametrize("name", registry.names("rule"))
def test_every_rule_that_sorts_errors_is_described(name):
    text = section("error-analysis", name)
    assert text, (
        f"error-analysis.md: add a section '### `{name}`': what fits, what it shows, source, deviation"
    )
    for option in registry.options_of(registry.get("rule", name)):
        assert f"`{option}`" in text, f"error-analysis.md, `{name}`: describe the option `{option}`"


@pytest.mark.parametrize("kind", [kind for kind in registry.BUILT_IN if kind != "command"])
def test_every_registered_name_is_in_the_docs(kind):
    text = "".join(page(p.stem) for p in PAGES)
    for name in registry.names(kind):
        assert f"`{name}`" in text, f"docs: describe the {kind} `{name}`, in backticks"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.startswith("diagnose ")])
def test_every_diagnosis_is_in_a_guide(name):
    """Or in an explanation; the reference, which is generated, lists all commands anyhow."""
    text = "".join(
        p.read_text(encoding="utf-8")
        for p in PAGES
        if p.parent.parent.name == "guides" or p.parent.name == "explanation"
    )
    assert f"manyhot {name}" in text, f"docs/guides/diagnose: say what `manyhot {name}` is for, in a section"


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_and_column_is_described(name):
    assert name in generated.ROWS, (
        f"docs/generated.py: say in ROWS what a row of {name!r} is and what writes it"
    )
    text = section("tables", name)
    assert text, f"tables.md: keep the line '<!-- generated: tables -->', which gives '## {name}'"
    for column in tables.TABLES[name]:
        assert f"| `{column.name}` |" in text


def test_no_table_is_described_that_does_not_exist():
    assert generated.ROWS.keys() <= tables.TABLES.keys(), "docs/generated.py: drop it from ROWS"


def test_every_metadata_key_is_described(tmp_path):
    labels = as_labels([[0], [1]], n_classes=2)
    results = manyhot.evaluate(
        [[0], [1]], {"a": [[0], [1]], "b": [[1], [1]]}, resamples=5, reading=Reading(n_classes=2)
    )
    (predictions,) = as_predictions({"a": [[0], [1]]}, n_classes=2)
    files = [
        (manyhot.write_labels(labels, tmp_path / "labels.parquet"), "labels"),
        (manyhot.write_predictions(predictions, tmp_path / "a.parquet"), "predictions"),
        *[(f, f.stem) for f in results.write(tmp_path) if f.suffix == ".parquet"],
    ]
    for file, name in files:
        for key in tables.metadata(tables.read(file, name)):
            said = section("tables", "Metadata")
            assert f"`{key}`" in said, f"tables.md, Metadata: describe the key `{key}` of {name} files"


@pytest.mark.parametrize(
    "error",
    [e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__],
    ids=lambda e: e.__name__,
)
def test_every_error_is_described(error):
    assert f"`{error.__name__}` | {error.exit_code} |" in page("errors"), (
        "errors.md: keep the line '<!-- generated: errors -->'"
    )
    codes = section("errors", "Exit codes")
    assert f"\n| {error.exit_code} |" in codes, f"errors.md, Exit codes: add {error.exit_code}"


def test_every_exit_code_of_the_command_line_is_described():
    codes = set(re.findall(r"(\d+) [a-z]", cli.main.__doc__.partition("Codes:")[2]))
    described = set(re.findall(r"^\| (\d+) \|", section("errors", "Exit codes"), re.MULTILINE))
    assert codes == described, "errors.md, Exit codes, and the docstring of cli.main must list the same"


@pytest.mark.parametrize("name", catalog.catalog_names())
def test_every_catalogue_entry_is_listed(name):
    entry, text = catalog.catalog_entry(name), section("catalogue", name)
    assert text, "catalogue.md: keep the line '<!-- generated: catalogue -->'"
    plain = text.replace("<", "").replace(">", "")
    for said in (entry.licence, entry.citation, entry.home, *entry.notes):
        assert said in plain


def test_every_command_and_option_is_listed():
    for path, command in commands().items():
        text = section("cli", path)
        assert text, "cli.md: keep the line '<!-- generated: commands -->'"
        for option in options_of(command):
            assert f"`{option}`" in text, f"docs/generated.py: {path} {option} is lost on its way to cli.md"


def test_every_environment_variable_is_described():
    source = "".join(p.read_text(encoding="utf-8") for p in Path(manyhot.__file__).parent.rglob("*.py"))
    text = "".join(page(p.stem) for p in PAGES)
    for name in set(re.findall(r"\bMANYHOT_[A-Z_]+\b", source)):
        assert f"`{name}`" in text, f"catalogue.md or another page: say what `{name}` does"


def test_every_public_name_is_listed():
    for name in set(manyhot.__all__) - {"__version__"}:
        assert f"| `{name}` |" in page("python"), "python.md: keep '<!-- generated: public_names -->'"


def test_every_standing_slice_is_listed():
    columns = {"image_id": ["a", "b"], "label": [0, 1], "rated": [True, False], "usable": [True, True]}
    table = pa.table(columns | {"classes": [[0], [1]], "state": [["yes"], ["yes"]]})
    classes = manyhot.class_list()
    labels = manyhot.Labels(table, len(classes), classes.hash, name="made up")
    predictions = manyhot.Predictions(labels.image_id, "model", np.array([[0], [1]]), n_classes=len(classes))
    results = manyhot.evaluate(labels, predictions, metrics=["real1"], resamples=0)
    for name in results.results["slice"].unique().to_pylist():
        assert f"`{name}`" in section("intervals", "Slices"), f"intervals.md, Slices: add `{name}`"


def test_generated_parts_and_markers_fit():
    found = [m for p in PAGES for m in MARKER.finditer(p.read_text(encoding="utf-8"))]
    used = {m["name"] for m in found}
    assert used == GENERATORS, "docs: each public function of generated.py stands in a page, and no other"
    for name, text in ((m["name"], m["text"]) for m in found if m["text"]):
        current = getattr(generated, name)().strip()
        assert text == current, (
            f"docs: replace the part {name} by what python docs/generated.py {name} prints"
        )


def test_every_page_is_in_the_contents():
    listed = re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    there = [p.relative_to(DOCS).with_suffix("").as_posix() for p in PAGES]
    missing = {*there} - {"index"} - {*listed}
    assert not missing, f"docs/index.md: add {missing} to a toctree"
    assert len(PATHS) == len(PAGES), "docs: two pages have the same file name"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_no_sentence_is_lost_as_a_comment(path):
    """MyST reads a line that begins with a percent sign as a comment."""
    lines = path.read_text(encoding="utf-8").split("\n")
    lost = [
        f"{i}: {b}" for i, (a, b) in enumerate(itertools.pairwise(lines), 2) if a.strip() and b[:1] == "%"
    ]
    assert not lost, "wrap the line elsewhere"


@pytest.mark.parametrize("path", [p for p in PAGES if p.stem != "changelog"], ids=lambda p: p.stem)
def test_every_page_has_one_title(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# .+$", text, re.MULTILINE)) == 1 == text.startswith("# ")


# What is shown runs.


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if any(f.is_run for f in fences(p))], ids=lambda p: p.stem)
def test_python_blocks_run(path, tmp_path, tmp_path_factory):
    """A page's blocks run in one namespace, one folder and a process of their own.

    First that which makes the data of the page, marked ``% setup``, then all others from top to bottom.
    """
    parts = []
    for fence in filter(lambda f: f.is_run, in_order(path)):
        run = "execute" if fence.language == "python" else "check"
        parts.append(f"{run}({fence.body!r}, '{path.name}:{fence.line}')")
    script = _CHECKER + "\n".join(parts)
    done = forking.commands.start(folder=tmp_path_factory.mktemp("told"), cwd=tmp_path, script=script).wait()
    assert done.returncode == 0, (
        f"{path.relative_to(REPO)}: a block fails; mend it, or put '% not run: why' before it\n"
        f"{done.stdout}{done.stderr}"
    )


_CHECKER = """
import doctest, sys, warnings
warnings.simplefilter("error")
names = {"__name__": "docs"}
def execute(body, where):
    exec(compile(body, where, "exec"), names)
def check(body, where):
    test = doctest.DocTestParser().get_doctest(body, {}, where, where, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    test.globs = names
    if runner.run(test, clear_globs=False).failed:
        sys.exit(1)
"""


def test_blocks_that_do_not_run_say_why():
    for path in PAGES:
        for fence in fences(path):
            if fence.before.startswith("% not run"):
                assert re.match(r"% not run: \w+", fence.before), f"{path.name}:{fence.line}: say why"


def with_examples():
    """Return the modules that have examples in their docstrings."""
    package = Path(manyhot.__file__).parent
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text if ">>> " in text else "")
        docs = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, _DOCUMENTED)]
        if any(">>> " in d for d in docs):
            name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            yield name.removesuffix(".__init__")


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("module", [*with_examples()])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_example_notebook_runs(tmp_path):
    script = REPO / "examples" / "notebook.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "real1" in done.stdout
    assert not list(tmp_path.iterdir()), "examples/notebook.py: leave nothing behind"


def test_numbers_of_the_tour_are_those_of_the_command(mirror):
    shown = PATHS["tour"].read_text(encoding="utf-8")
    (block,) = [f.body for f in fences(PATHS["tour"], shown) if "imagenet-val: 67 models" in f.body]
    for dataset in BENCHMARKS["imagenet"].datasets:
        part = block.partition(f"{dataset.name}: ")[2].partition("…")[0]
        rows = re.findall(r"^ *\d+ +(\w+) +(.+%.*)", part, re.MULTILINE)
        assert len(rows) >= 3, f"tour.md: show some models of {dataset.name}"
        columns = part.splitlines()[1].split()[1:]
        wanted = [f"{model}.npy" for model, _ in rows]
        fetch = functools.partial(catalog.fetch, mirror=mirror)
        files = fetch(dataset.predictions, only=[dataset.rows, *wanted])
        entry, file = dataset.labels
        labels = manyhot.read_labels(fetch(entry, only=[file, *dataset.beside])[file])
        images = manyhot.read_images(files[dataset.rows])
        models = [manyhot.read_predictions(files[name], rows=images) for name in wanted]
        found = manyhot.evaluate(labels, models, metrics=columns, reading=Reading(images=images)).to_polars()
        found = found.filter(slice="all").with_columns(n=pl.col("n").map_elements("{:,}".format, pl.String))
        for model, values in rows:
            own = [found.filter(model=model, metric=c).to_dicts()[0] for c in columns]
            halves = [100 * max(r["value"] - r["lo"], r["hi"] - r["value"]) for r in own]
            got = " ".join(f"{r['value']:.2%} ±{half:.2f}" for r, half in zip(own, halves, strict=True))
            assert values.split() == got.split(), f"tour.md, {dataset.name}, {model}: write {got}"
        assert part.splitlines()[2].split() == ["images", *(r["n"] for r in own)]


def outputs():
    """Return the blocks of text that show what a command prints, by page and command.

    A block of text right beneath a block of commands is what these print.
    """
    found = {}
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for commands, shown in itertools.pairwise(fences(path, text)):
            end = commands.line + commands.body.count("\n") + 1
            if (commands.language, shown.language) == ("console", "text") and not any(
                lines[end : shown.line - 1]
            ):
                found.setdefault((path.stem, commands.body), []).append(shown.body)
    return found


SHOWN = outputs()


def test_outputs_are_found():
    """The pages that show what commands print, so that a block which is not found is missed here."""
    assert {page for page, _ in SHOWN} == {
        "evaluation",
        "comparison",
        "own-data",
        "plan-an-audit",
        "audited",
        "operating-points",
        "aggregation",
        "merged-labels",
        "agreement",
        "next-questions",
        "accepted-errors",
        "proposals",
        "error-analysis",
        "difficulty",
        "label-issues",
        "calibration",
        "robustness",
        "corruptions",
        "companions",
        "patchml",
        "explanations",
        "shortcuts",
    }


WRITING = (
    "own-data",
    "audited",
    "evaluation",
    "operating-points",
    "calibration",
    "patchml",
    "corruptions",
    "explanations",
    "shortcuts",
)
"""Pages whose commands read what a block of Python writes: the data of the page, or a block above them."""


def write_what_is_read(name, commands):
    """Run the blocks of Python of a page down to the commands."""
    names = {}
    for block in in_order(PATHS[name]):
        if block.is_run:
            exec(block.body, names)
        elif block.body == commands:
            return


@pytest.mark.slow
@pytest.mark.parametrize(("name", "commands"), SHOWN)
def test_output_shown_is_that_of_the_commands(name, commands, mirror, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name in WRITING:
        write_what_is_read(name, commands)
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    output = ""
    for line in commands.replace("\\\n", " ").splitlines():
        done = CliRunner().invoke(cli.app, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
        output += done.output
    for block in SHOWN[name, commands]:
        printed = iter(line.rstrip() for line in output.splitlines())
        for line in block.splitlines():
            # In the order of the output, and with its columns; an ellipsis stands for what is left out.
            assert line.strip() in ("", "…") or line.rstrip() in printed, f"{name}.md: {line}"


def test_simulation_shown_is_that_of_the_command():
    script = REPO / "benchmarks" / "simulated_raters.py"
    # The committed cells: computing them takes hours.
    command = [sys.executable, script, "--draws", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    text = PATHS["aggregation"].read_text(encoding="utf-8")
    for line in done.stdout.splitlines():
        assert f"\n{line.rstrip()}\n" in text, f"aggregation.md: write {line}"


@pytest.mark.slow
def test_agreement_shown_is_that_of_the_benchmark(mirror, require):
    save_multilabel(require)
    script = REPO / "benchmarks" / "sorting.py"
    environment = {**os.environ, "MANYHOT_MIRROR": str(mirror)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, env=environment
    )
    text = PATHS["error-analysis"].read_text(encoding="utf-8")
    assert len(done.stdout.splitlines()) > 20
    for line in done.stdout.splitlines():
        assert f"\n{line.rstrip()}\n" in text, f"error-analysis.md: write {line}"


@pytest.mark.slow
def test_precision_shown_is_that_of_the_benchmark(mirror):
    script = REPO / "benchmarks" / "issues.py"
    environment = {**os.environ, "MANYHOT_MIRROR": str(mirror)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, env=environment
    )
    text = PATHS["label-issues"].read_text(encoding="utf-8")
    assert len(done.stdout.splitlines()) > 15
    for line in done.stdout.splitlines():
        assert f"\n{line.rstrip()}\n" in text, f"label-issues.md: write {line}"


# The gallery.


def test_gallery_shows_what_is_there():
    text = PATHS["figures"].read_text(encoding="utf-8")
    sections = text.split("\n## ")[1:]
    shown = [re.findall(r"!\[[^\]]{20,}\]\(../../(images/gallery/[^)]+)\)", s) for s in sections]
    assert sections
    assert all(len(pictures) == 1 for pictures in shown), "figures.md: one picture a section, with its text"
    assert all("```console\nmanyhot " in s for s in sections), "figures.md: a command beneath each"
    there = {f"images/gallery/{p.name}" for p in (DOCS / "images" / "gallery").iterdir()}
    assert there == {picture for (picture,) in shown}, "run tools/build_gallery.py anew"
    assert sum((DOCS / picture).stat().st_size for picture in there) < 1_500_000


@pytest.mark.parametrize("path", sorted((DOCS / "images" / "gallery").glob("*.svg")), ids=lambda p: p.stem)
def test_pictures_of_the_gallery_load_nothing(path):
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    assert root.findtext("{*}title")
    strange = {e.tag.partition("}")[2] for e in root.iter()} & {"script", "image", "foreignObject", "use"}
    assert not strange


# Every command line parses.


program = functools.cache(typer.main.get_command)  # whose making takes longer than most that it is asked here


def commands():
    root = program(cli.app)
    found = {"manyhot": root} | {f"manyhot {name}": command for name, command in root.commands.items()}
    for name, group in list(found.items())[1:]:
        found |= {f"{name} {inner}": c for inner, c in getattr(group, "commands", {}).items()}
    return found


def options_of(command):
    shown = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    return [o for p in shown for o in [*p.opts, *p.secondary_opts]]


class ParsedError(Exception):
    """Raised in place of the work of a command."""


@pytest.fixture
def parse(monkeypatch):
    """Return a function that gives a command line to the program, which stops where the work would begin."""

    def stop(*_, **__):
        raise ParsedError

    def check(function, _, values):
        """Look up the names that a declared command is given."""
        for option, kind in (("rule", "proposer"), ("method", "aggregator")):
            if function.declaration.name in ("propose", "aggregate", "next") and values.get(option):
                registry.get(kind, values[option])
        ranked_by = [values["by"]] if function.declaration.name == "leaderboard" and values["by"] else ()
        for spec in [*(values.get("metrics") or ()), *ranked_by]:
            registry.get("metric", spec)
        models = values.get("model") or ()
        models = [models] if isinstance(models, str) else models
        for name in names_of(models) if function.declaration.name == "predict" else models:
            family = re.match(r"(\w+)[/:]", name)
            if function.declaration.name == "detect":
                registry.get("detector", name)
            else:
                registry.get("model", family[1] if family else name)
        raise ParsedError

    monkeypatch.setattr(typer.testing, "_get_command", program)

    monkeypatch.setattr("manyhot.cli.build._arguments", check)
    monkeypatch.setattr(catalog, "fetch", stop)
    monkeypatch.setattr("manyhot.study.study_file.read_opening", stop)

    def run(words):
        result = CliRunner().invoke(cli.app, words[1:])
        if isinstance(result.exception, ParsedError) or result.exit_code == 0:
            return None
        return result.output if isinstance(result.exception, SystemExit) else repr(result.exception)

    return run


@pytest.mark.parametrize("path", PROSE, ids=lambda p: str(p.relative_to(REPO)))
def test_command_lines_parse(path, parse):
    for words, where in shell_lines(path):
        if words[0] == "manyhot":
            problem = parse(words)
            assert problem is None, f"{where}\n{problem}"


NEXT_STEPS = {name: registry.get("chapter", name).about["next"] for name in registry.names("chapter")}
NEXT_STEPS |= {
    "shortcuts, marked": step_without("dog", "ball", "ball"),
    "mitigation, not gone": STEP_IF_NOT_GONE,
}


@pytest.mark.parametrize("name", NEXT_STEPS)
def test_the_next_step_of_each_chapter_is_a_command(name, parse):
    text, command = NEXT_STEPS[name]
    assert text.endswith(".")
    model = command.replace("--model NAME", "--model efficientnet-lite0")
    assert parse(model.split()) is None


def test_command_lines_in_the_makefile_parse(parse):
    for line in (REPO / "Makefile").read_text(encoding="utf-8").splitlines():
        if "/manyhot " in line:
            assert parse(["manyhot", *shlex.split(line.partition("/manyhot ")[2])]) is None, line


@pytest.mark.parametrize("path", PROSE, ids=lambda p: str(p.relative_to(REPO)))
def test_commands_and_options_named_in_the_text_exist(path):
    known = commands()
    text = page(path.stem) if path in PAGES else path.read_text(encoding="utf-8")
    for named in re.findall(r"`(manyhot [^`\n]+)`", text):
        words = shlex.split(named)
        command = " ".join(words[:2]) if not words[1].startswith("-") else "manyhot"
        command = " ".join(words[:3]) if " ".join(words[:3]) in known else command
        assert command in known, f"{path.relative_to(REPO)}: there is no `{command}`"
        allowed = {*options_of(known[command]), "--help", "-h"}
        strange = {w.partition("=")[0] for w in words if w.startswith("-")} - allowed
        assert not strange, f"{path.relative_to(REPO)}: `{named}` has no {', '.join(strange)}"


@pytest.mark.parametrize("path", PROSE, ids=lambda p: str(p.relative_to(REPO)))
def test_make_targets_exist(path):
    targets = set(re.findall(r"^(\w+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[1] for words, _ in shell_lines(path) if words[0] == "make"}
    named |= set(re.findall(r"`make (\w+)`", path.read_text(encoding="utf-8")))
    assert named <= targets, f"{path.relative_to(REPO)}: the Makefile has no {', '.join(named - targets)}"


def test_the_two_commands_open_readme_and_index():
    for path in (REPO / "README.md", DOCS / "index.md"):
        lines = [" ".join(words) for words, _ in shell_lines(path)]
        for command in ("make demo", "make test"):
            assert command in lines, f"{path.relative_to(REPO)}: show `{command}` in a block ```sh"


@pytest.mark.parametrize("path", PROSE, ids=lambda p: str(p.relative_to(REPO)))
def test_local_links_exist(path):
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8")):
        base = REPO if path.name == "CHANGELOG.md" else path.parent
        assert (base / link).exists(), f"{path.relative_to(REPO)}: {link} does not exist"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_tests_tools_and_benchmarks_named_in_the_text_exist(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"`(?:python )?((?:tests|tools|benchmarks|studies)/[a-z0-9_/.-]+\.[a-z]+)", text)
    for name in dict.fromkeys(named):
        assert (REPO / name).is_file(), f"{path.relative_to(REPO)}: there is no {name}"


def test_what_the_architecture_names_is_there():
    src = Path(manyhot.__file__).parent
    text = PATHS["architecture"].read_text(encoding="utf-8")
    for name in re.findall(r"`([\w./-]+(?:/|\.py|\.js))`", text):
        assert any((folder / name).exists() for folder in (src, REPO)), f"architecture.md: there is no {name}"


# The files around the docs agree with the package.


def citation():
    text = (REPO / "CITATION.cff").read_text(encoding="utf-8")
    return dict(re.findall(r'^([\w-]+): *"?(.*?)"?$', text, re.MULTILINE)), text


def test_citation_file():
    fields, text = citation()
    required = {"cff-version", "message", "title", "authors"}
    allowed = required | {"type", "abstract", "version", "license", "keywords", "doi", "date-released", "url"}
    assert required <= set(fields) <= allowed | {"repository-code", "preferred-citation", "references"}
    assert fields["cff-version"] == "1.2.0"
    assert (fields["title"], fields["license"]) == ("manyhot", "Apache-2.0")
    assert '\nauthors:\n  - name: "The manyhot developers"\n' in text
    assert fields["version"] == __version__, f"CITATION.cff: write version: {__version__}"


def test_citation_file_is_yaml(require):
    require(importlib.util.find_spec("yaml"), "PyYAML, which `make docs` installs")
    import yaml

    assert yaml.safe_load(citation()[1])["authors"] == [{"name": "The manyhot developers"}]


def test_changelog_tells_of_this_version():
    text = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    section = "## Unreleased" if ".dev" in __version__ else f"## {__version__}"
    assert f"\n{section}" in text, f"CHANGELOG.md: add a section '{section}'"


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(require, tmp_path):
    for module in ("sphinx", "furo", "myst_parser"):
        require(importlib.util.find_spec(module), f"{module}, which `make docs` installs")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-d", str(tmp_path / "trees"), str(DOCS)]
    environment = os.environ | {"PYTHONWARNINGS": "default"}  # Sphinx's own are not ours to fail on
    done = subprocess.run([*command, str(tmp_path / "html")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "html").rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|link)[^>]+(?:src|href)="(?:https?:)?//[^"]+', html)
        assert not loaded, f"{path.name} loads {loaded[0]}"
    css = "".join(p.read_text(encoding="utf-8") for p in (tmp_path / "html").rglob("*.css"))
    assert not re.findall(r"url\(['\"]?(?:https?:)?//", css)

"""Plug-ins: a broken one is skipped and named, and what a function of one does wrong is named, too."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot import plug_ins, registry
from manyhot.classes import from_keys
from manyhot.core.aggregation import Aggregate
from manyhot.core.ensembles import Pairs
from manyhot.core.error_kinds import RuleMatch
from manyhot.core.estimates import Pooled, mean_over
from manyhot.errors import InputError, MatchError, PlugInError, UnknownNameError
from manyhot.plug_ins import PlugInWarning
from manyhot.predict.doctor import doctor
from manyhot.predict.network import Network
from manyhot.registry import get, names, register
from manyhot.testing import check_metric, random_case, random_ensemble, random_errors, random_votes

Y = np.eye(3, dtype=int)[np.arange(99) % 3]
SCORES = (Y + np.random.default_rng(0).normal(size=Y.shape)).astype(np.float32)
METRIC = """
from manyhot import register
from manyhot.core.estimates import mean_over

@register("metric", {name!r}, better="higher")
def f(case):
    "Mine."
    return mean_over(case.hit[:, 0], case.labels.scored)
"""


@pytest.fixture(autouse=True)
def own_entries(monkeypatch):
    for kind in registry.BUILT_IN:
        names(kind)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(registry, "_loaded", set(registry._loaded))
    monkeypatch.setattr(plug_ins, "_plug_ins", list(plug_ins._plug_ins))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a plug-in of one module: its code is executed, and it has metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))
    installed = []

    def write(name, code, version="1"):
        installed.append(name)
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "m.py").write_text(code)
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(f"[manyhot]\n{name} = {name}.m\n")
        registry._loaded.discard("plug-ins")

    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] in installed]:
        del sys.modules[module]


def load():
    """Load the plug-ins, and return the warnings about them."""
    registry._loaded.discard("plug-ins")
    registry._loaded.discard("metric")
    with pytest.warns(PlugInWarning) as warned:
        names("metric")
    return [str(w.message) for w in warned if issubclass(w.category, PlugInWarning)]


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import tensorflow_of_none", "ModuleNotFoundError: No module named 'tensorflow_of_none'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def x(:", "SyntaxError: invalid syntax ("),
        ("from manyhot import InputError", "ImportError: cannot import name 'InputError' from 'manyhot' ("),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_skipped(install, code, reason):
    install("a_broken", f"{METRIC.format(name='early')}\n{code}" if "(:" not in code else code)
    install("b_healthy", METRIC.format(name="healthy"), "0.2")
    (text,) = load()
    start = "The plug-in a_broken 1 (entry point a_broken = a_broken.m) could not be loaded and is skipped: "
    assert text.startswith(start + reason)
    assert text.endswith("Do: upgrade or uninstall it, for example: pip uninstall a_broken")
    for _ in range(2):  # the second call is as the first
        assert mh.evaluate(Y, SCORES, metrics=["healthy"], resamples=0).value("healthy") > 0
        unknown = message(UnknownNameError, lambda: get("metric", "early"))
        assert unknown.startswith(
            f"There is no metric 'early'; the plug-in a_broken 1 could not be loaded: {reason}"
        )
    assert get("metric", "healthy").version == "b_healthy 0.2"


def test_a_name_that_is_taken_is_left_out(install):
    install("plug_one", METRIC.format(name="my_f2"))
    install("plug_two", METRIC.format(name="my_f2") + METRIC.format(name="top1") + METRIC.format(name="new"))
    assert load() == [
        "The plug-in plug_two 1 (entry point plug_two = plug_two.m) registers names that are taken. They "
        "are left out: the metric 'my_f2' (of plug_one 1), the metric 'top1' (built in). Do: upgrade or "
        "uninstall it, for example: pip uninstall plug_two"
    ]
    assert get("metric", "my_f2").version == "plug_one 1"
    assert get("metric", "top1").function.__module__ == "manyhot.core.accuracy"
    assert get("metric", "new").version == "plug_two 1"
    checks = {check.name: check for check in doctor().checks if check.kind == "plug-in"}
    assert (checks["plug_one 1"].state, checks["plug_one 1"].there) == ("metric: my_f2", True)
    assert checks["plug_two 1"].state == (
        "metric: new; without names that are taken: the metric 'my_f2' (of plug_one 1), the metric 'top1' "
        "(built in)"
    )


def test_built_in_names_win_over_plug_ins_that_are_loaded_first(install, tmp_path):
    install("plug_one", METRIC.format(name="top1"))
    code = (
        "import warnings; warnings.simplefilter('error', DeprecationWarning); from manyhot import registry; "
        "registry.names('proposer'); print(registry.get('metric', 'top1').function.__module__)"
    )
    paths = f"{tmp_path}:{Path(mh.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": paths}
    )
    assert done.stdout == "manyhot.core.accuracy\n"
    assert "the metric 'top1' (built in)" in done.stderr


def test_other_names_of_plug_ins_do_not_make_built_in_ones_ambiguous():
    register("metric", "mine", better="higher", also=("mAP", "ours"))(lambda case: None)
    assert get("metric", "mAP").name == "map_macro"
    assert get("metric", "ours").name == "mine"


def test_what_a_plug_in_prints_is_not_part_of_the_output(install, capsys):
    install("prints", "print('hello')")
    registry._loaded.discard("metric")
    names("metric")
    assert (capsys.readouterr().out, doctor().checks[-1].state) == ("", "registers nothing")


def test_doctor_lists_broken_plug_ins(install):
    install("a_broken", "1 / 0")
    check = doctor().checks[-1]
    assert (check.kind, check.name, check.there) == ("plug-in", "a_broken 1", False)
    assert check.state == "cannot be loaded: ZeroDivisionError: division by zero"
    assert check.do == "pip install --upgrade a_broken, or pip uninstall a_broken"


@pytest.mark.parametrize(
    ("kind", "about", "expected"),
    [
        (
            "metric",
            {"better": "lowest"},
            "The value of 'better' is not allowed.\n  where:   the metric 'x'\n  got:     'lowest'\n"
            "  allowed: higher or lower",
        ),
        (
            "metric",
            {},
            "The key 'better' is missing.\n  where:   the metric 'x'\n  allowed: better= higher or lower",
        ),
        (
            "proposer",
            {"lable": "X"},
            "There is no key 'lable' of a proposer.\n  where:   the proposer 'x'\n  got:     lable\n"
            "  allowed: monotone, models, learns",
        ),
        (
            "loss",
            {"ends": "relu"},
            "The value of 'ends' is not allowed.\n  where:   the loss 'x'\n  got:     'relu'\n"
            "  allowed: softmax or sigmoid",
        ),
        (
            "aggregator",
            {},
            "The key 'threshold' is missing.\n  where:   the aggregator 'x'\n"
            "  allowed: threshold= a number above 0, up to 1",
        ),
        (
            "writer",
            {"holds": ("labels",), "suffixes": ".q", "keeps": ()},
            "The value of 'suffixes' is not allowed.\n  where:   the writer 'x'\n  got:     '.q'\n"
            "  allowed: a tuple of suffixes such as ('.json',), or 'folder'",
        ),
    ],
)
def test_what_is_declared_is_checked(kind, about, expected):
    assert message(InputError, lambda: register(kind, "x", **about)) == expected


def test_formats_hold_something():
    text = message(InputError, lambda: register("format", "x", holds="bananas", suffixes=(".q",)))
    assert text.endswith(
        "allowed: labels or predictions or images or classes or results or findings or proposals or votes "
        "or golden or objects"
    )


@pytest.mark.parametrize("name", ["bad name(1)@", "a b", "x@3", ""])
def test_names_are_words(name):
    text = message(InputError, lambda: register("metric", name, better="higher"))
    assert text.startswith("This cannot be the name of a metric.")


def failing(make, kind="metric", **about):
    about = {"better": "higher"} if kind == "metric" else about
    register(kind, "mine", **about)(make)
    return get(kind, "mine")


def fails(case, *more):
    return 1 / 0


@pytest.mark.parametrize("kind", ["metric", "aggregator", "proposer", "rule", "chapter"])
def test_a_function_that_raises_is_named(kind):
    entry = failing(fails, kind, **({"threshold": 0.5} if kind == "aggregator" else {}))
    with pytest.raises(PlugInError) as error:
        entry(None)
    assert str(error.value).splitlines()[0] == f"The {kind} 'mine' fails."
    line = fails.__code__.co_firstlineno + 1
    assert error.value.details["where"] == f"{fails.__module__}:fails ({__file__}, line {line})"
    assert error.value.details["got"] == "ZeroDivisionError: division by zero"
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_errors_of_manyhot_pass_unchanged():
    def refuses(case):
        raise InputError("The option 'recall' is out of range.", got=7)

    assert message(InputError, lambda: failing(refuses)(None)).startswith("The option 'recall'")


CASE = random_case(np.random.default_rng(0))
N = len(CASE.labels)


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (0.5, "float 0.5"),
        (None, "None"),
        (mean_over(np.ones(3), np.ones(3, bool)), "`scored` of shape (3,)"),
        (mean_over(np.ones((N, 2)), np.ones((N, 1), bool)), f"`scored` of shape ({N}, 1)"),
    ],
)
def test_a_metric_returns_an_estimate(result, got):
    entry = failing(lambda case: result)
    with pytest.raises(PlugInError, match="The metric 'mine' returns something invalid") as error:
        entry(CASE)
    assert error.value.details["got"] == got


def test_the_functions_of_pooled_estimates_are_named():
    text = failing(lambda case: Pooled(lambda w: "x", case.labels.scored))(CASE)
    assert "str 'x' as the value of a Pooled" in message(PlugInError, lambda: text.value(None))
    raising = failing(lambda case: Pooled(fails, case.labels.scored))(CASE)
    assert "ZeroDivisionError" in message(PlugInError, lambda: raising.value(None))


def fails_on_few(weights):
    """Raise an exception on a slice, after a value for all images."""
    return 0.5 if weights is None or np.sum(weights) > 0.9 * len(Y) else 1 / 0


@pytest.mark.parametrize(
    "function", [fails, lambda case: Pooled(fails_on_few, case.labels.scored)], ids=["all", "slice"]
)
def test_a_metric_that_fails_is_left_out_of_an_evaluation(function):
    labels = Y.copy()
    labels[:30, 0] = labels[:30, 1] = 1  # a slice of label sets with two or three classes
    expected = mh.evaluate(labels, SCORES, metrics=["map_macro"], resamples=20)
    failing(function)
    found = mh.evaluate(labels, SCORES, metrics=["mine", "map_macro"], resamples=20)
    assert str(found.results.to_pylist()) == str(expected.results.to_pylist())  # NaN differs from itself
    (note,) = [n.text for n in found.model_notes if "mine" in n.text]
    assert note.startswith("mine left out: The metric 'mine' fails (where: ")
    assert f"{__file__}, line " in note
    assert "got: ZeroDivisionError: division by zero" in note
    text = message(PlugInError, lambda: mh.evaluate(labels, SCORES, metrics=["mine"], resamples=0))
    assert text.startswith("The metric 'mine' fails.")


def test_a_metric_cannot_change_its_input():
    def sorts(case):
        case.scores.sort(axis=1)
        return mean_over(case.hit[:, 0], case.labels.scored)

    failing(sorts)
    before = SCORES.copy()
    text = message(PlugInError, lambda: mh.evaluate(Y, SCORES, metrics=["mine"], resamples=0))
    assert text.startswith("The metric 'mine' fails.")
    assert "read-only" in text
    np.testing.assert_array_equal(SCORES, before)
    for array in (CASE.hit, CASE.state, CASE.top, CASE.labels.size, CASE.labels.scored, CASE.labels.usable):
        assert not array.flags.writeable


ANSWERS, GOLDEN, *_ = random_votes(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (np.zeros(3), "ndarray array([0., 0., 0.])"),
        (Aggregate(np.zeros(3)), "`p` of shape (3,)"),
        (Aggregate(np.full(ANSWERS.n_questions, 2.0)), "`p` of 2"),
        (Aggregate(np.full(ANSWERS.n_questions, -1.0)), "`p` of -1"),
        (Aggregate(np.full(ANSWERS.n_questions, np.inf)), "`p` of inf"),
        (Aggregate(np.full(ANSWERS.n_questions, np.nan)), "`p` that contains NaN"),
    ],
)
def test_an_aggregator_returns_probabilities(result, got):
    entry = failing(lambda answers, golden=None: result, "aggregator", threshold=0.5)
    with pytest.raises(PlugInError) as error:
        entry(ANSWERS, GOLDEN)
    assert error.value.details["got"] == got


ENSEMBLE = random_ensemble(np.random.default_rng(0))


def pairs(image, class_id, score):
    return Pairs(
        np.array(image), np.array(class_id, np.int32), np.array(score), np.ones(len(image), np.int32)
    )


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (None, "None"),
        (pairs([0, 0], [1, 1], [0.5, 0.5]), "image 0, class 1 again"),
        (pairs([1, 0], [1, 1], [0.5, 0.5]), "image 0, class 1 after a later pair"),
        (pairs([0], [99], [0.5]), "`class_id` 99"),
        (pairs([9999], [0], [0.5]), "`image` 9999"),
        (pairs([0], [0], [np.nan]), "`score` of nan"),
    ],
)
def test_a_proposer_returns_pairs(result, got):
    with pytest.raises(PlugInError) as error:
        failing(lambda ensemble: result, "proposer")(ENSEMBLE)
    assert error.value.details["got"] == got


def test_a_rule_returns_a_match():
    errors = random_errors(np.random.default_rng(0))
    short = RuleMatch(np.zeros(2, bool), np.zeros(2, np.int32))
    assert "got:     None" in message(PlugInError, lambda: failing(lambda e: None, "rule")(errors))
    register("rule", "short")(lambda e: short)
    assert "`fits` of shape (2,)" in message(PlugInError, lambda: get("rule", "short")(errors))


def test_a_format_returns_what_it_holds(tmp_path):
    def reads(path, *, classes):
        return pa.table({"image_id": ["a"]})

    register("format", "mine", holds="labels", suffixes=(".zz",), matches=lambda path: True)(reads)
    (tmp_path / "x.zz").write_text("hi")
    text = message(PlugInError, lambda: mh.read_labels(tmp_path / "x.zz"))
    assert text.startswith("The format 'mine' returns something invalid.")
    assert str(tmp_path / "x.zz") in text
    assert "allowed: Labels, because it holds labels" in text


def test_a_test_for_a_format_that_raises_is_named(tmp_path):
    register("format", "mine", holds="labels", suffixes=(".zz",), matches=fails)(
        lambda path, *, classes: None
    )
    (tmp_path / "x.zz").write_text("hi")
    text = message(PlugInError, lambda: mh.read_labels(tmp_path / "x.zz"))
    assert text.startswith("The format 'mine' fails.")
    assert "ZeroDivisionError" in text


def test_predictions_need_no_source(tmp_path):
    def reads(path, *, classes, rows, scores):
        eye = np.eye(2, dtype=np.float32)
        return mh.Predictions(pa.array(["0", "1"]), "m", scores=eye, score_kind="logit", n_classes=2)

    register("format", "mine", holds="predictions", suffixes=(".zz",), matches=lambda path: True)(reads)
    (tmp_path / "x.zz").write_text("hi")
    labels = mh.as_labels([[0], [1]], n_classes=2)
    assert mh.evaluate(labels, tmp_path / "x.zz", metrics=["real1"], resamples=0).value("real1") == 1


def test_notes_name_why_a_metric_is_not_a_number():
    def one_nan(case):
        values = case.hit[:, 0].astype(float)
        values[4] = np.nan
        return mean_over(values, case.labels.scored)

    def top_three(case):
        return mean_over(case.hit[:, :3].sum(axis=1), case.labels.scored)

    register("metric", "one_nan", better="higher")(one_nan)
    register("metric", "hits3", better="higher")(top_three)
    y = (np.random.default_rng(0).random((200, 6)) < 0.5).astype(int)
    found = mh.evaluate(y, y + np.random.default_rng(1).normal(size=y.shape), metrics=["one_nan", "hits3"])
    text = "\n".join(str(note) for note in found.notes)
    assert "one_nan is nan for 1 image (first: model, image 4), and so is its value over all images" in text
    assert "hits3: the metric is registered without a `unit`, so it should be a share" in text
    assert "does not change the value" not in text


def test_check_metric_refuses_them():
    register("metric", "hits3", better="higher")(
        lambda case: mean_over(case.hit[:, :3].sum(axis=1), case.labels.scored)
    )
    register("metric", "nans", better="higher")(
        lambda case: mean_over(np.full(len(case.top), np.nan), case.labels.scored)
    )
    assert "which is not a share: register it with `unit`" in message(
        AssertionError, lambda: check_metric("hits3")
    )
    assert "nans is NaN or infinite for image" in message(AssertionError, lambda: check_metric("nans"))


def test_check_metric_says_that_a_difference_may_be_rounding():
    def mass_outside(case):
        values, out = case.labels.yes_matrix(), np.zeros(len(case.top))
        for first, p in case.probability_blocks():
            inside = values[first : first + len(p)]
            out[first : first + len(p)] = (p * ~inside).sum(axis=1, dtype=np.float32)
        return mean_over(out, case.labels.scored)

    register("metric", "mass_outside", better="lower", needs="probabilities", exclusive=True)(mass_outside)
    text = message(AssertionError, lambda: check_metric("mass_outside"))
    assert "may be rounding: sum in float64" in text


def loaded(install, name, code):
    """Install and load a plug-in that works."""
    install(name, code)
    registry._loaded.discard("metric")
    names("metric")
    return next(p for p in plug_ins.plug_ins() if p.distribution == name)


def test_results_of_two_versions_of_a_metric_are_not_compared(install, tmp_path):
    plug_in = loaded(install, "metric_lib", METRIC.format(name="mym"))
    for model, version in (("a", "1"), ("b", "1"), ("c", "2")):
        plug_in.version = version
        scores = SCORES + np.random.default_rng(ord(model)).normal(size=Y.shape).astype(np.float32)
        mh.evaluate(Y, {model: scores}, metrics=["mym"]).write(tmp_path / model)
    metrics = json.loads(mh.read_results(tmp_path / "c").about["metrics"])
    assert metrics["mym"]["package"] == "metric_lib 2"
    mh.compare([tmp_path / "a", tmp_path / "b"])  # of the same version
    text = message(MatchError, lambda: mh.compare([tmp_path / "a", tmp_path / "c"]))
    assert "got:     plug-ins metric_lib 1 and metric_lib 2\n" in text


MODEL = """
import numpy as np
from manyhot import register
from manyhot.classes import from_keys
from manyhot.predict.network import Network

@register("model", "mine", classes="c")
def mine():
    return Network("mine", from_keys(("r", "g"), "c"), forward=lambda x: np.tile([2.0, 1.0], (len(x), 1)))
"""


def test_a_run_of_another_version_of_a_model_is_not_resumed(install, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    plug_in = loaded(install, "model_lib", MODEL)
    (tmp_path / "photos").mkdir()
    pil.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.png")
    mh.predict(tmp_path / "photos", ["mine"], out=tmp_path / "out")
    mh.predict(tmp_path / "photos", ["mine"], out=tmp_path / "out")
    digest = hashlib.sha256(MODEL.encode()).hexdigest()[:16]
    plug_in.version = "2"
    text = message(MatchError, lambda: mh.predict(tmp_path / "photos", ["mine"], out=tmp_path / "out"))
    assert "which differs in code" in text
    assert f"got:     model_lib 1, m.py {digest}\n  allowed: model_lib 2, m.py {digest}\n" in text


def test_labels_say_which_package_aggregated_them(install):
    code = """
import numpy as np
from manyhot import register
from manyhot.core.aggregation import Aggregate

@register("aggregator", "mine", threshold=0.5)
def mine(answers, golden=None):
    return Aggregate(np.ones(answers.n_questions))
"""
    loaded(install, "votes_lib", code)
    votes = pa.table({"image_id": ["a"], "class_id": [0], "rater_id": ["x"], "answer": ["yes"]})
    assert mh.aggregate(votes, method="mine").metadata["package"] == "votes_lib 1"
    assert "package" not in mh.aggregate(votes, method="yes-share").metadata


def test_a_chapter_that_fails_leaves_a_note_on_the_page(tmp_path):
    register("chapter", "broken")(fails)
    scores = Y + np.random.default_rng(1).normal(size=Y.shape)
    mh.diagnose_classes(Y, scores, scores="logit").write(tmp_path)
    from manyhot.diagnose.page import write_diagnosis

    page = write_diagnosis(tmp_path).read_text()
    assert "ZeroDivisionError: division by zero" in page
    assert "Recall" in page


@pytest.mark.parametrize(
    ("value", "kind"), [([np.inf, 1.0], "infinite"), ([np.nan, 1.0], "NaN"), ([1j, 1.0], "complex")]
)
def test_scores_of_models_are_finite_and_real(value, kind, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    pil.new("RGB", (9, 9)).save(tmp_path / "a.png")
    network = Network("mine", from_keys(("r", "g"), "c"), forward=lambda x: np.tile(value, (len(x), 1)))
    register("model", "odd")(lambda: network)
    text = message(InputError, lambda: mh.predict(tmp_path, ["odd"], out=tmp_path / "out"))
    assert text.startswith(f"The network returns {kind} scores.")

import subprocess
import sys
import threading

import pytest

from manyhot import registry
from manyhot.errors import InputError, UnknownNameError
from manyhot.registry import get, names, options_of, register


@pytest.fixture(autouse=True)
def own_entries(monkeypatch):
    for kind in registry.BUILT_IN:  # first: what a module registers while it is imported would be lost
        names(kind)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_register_returns_the_function_unchanged():
    def mine(case, *, limit=3):
        """Mine."""
        return limit

    assert register("metric", "mine", better="higher")(mine) is mine
    assert get("metric", "mine").function(None) == 3
    assert get("metric", "mine(limit=5)").function(None) == 5
    assert get("metric", "mine(limit=5)").name == "mine(limit=5)"
    assert get("metric", "mine(limit=5)").summary == "Mine."
    assert options_of(get("metric", "mine")) == ["limit"]


def test_at_binds_k():
    assert get("metric", "recall@7").function.keywords == {"k": 7}


def test_a_name_is_taken_once():
    def other(case):
        """Other."""

    assert message(InputError, lambda: register("metric", "top1", better="higher")(other)) == (
        "The metric 'top1' is registered twice.\n"
        "  where:   manyhot.core.accuracy and tests.test_registry\n"
        "  do:      choose another name for one of them"
    ).replace("tests.test_registry", other.__module__)


def test_near_misses():
    text = message(UnknownNameError, lambda: get("metric", "topp1"))
    assert text.splitlines()[0] == "There is no metric 'topp1'."
    assert text.splitlines()[1].startswith("  allowed: top1, top5, real1, ")
    assert text.splitlines()[2].startswith("  do:      did you mean 'top1'")


@pytest.mark.parametrize(
    ("typed", "registered"),
    [
        ("mAP", "map_macro"),
        ("map", "map_macro"),
        ("MAP(masked=True)", "map_macro(masked=True)"),
        ("hamming_loss", "hamming"),
        ("exact_match", "subset_accuracy"),
        ("F1-macro", "f1_macro"),
        ("f1 macro(threshold=0.3)", "f1_macro(threshold=0.3)"),
        ("Precision@1", "precision@1"),
        ("top-1", "top1"),
        ("AUC", "auroc_macro"),
    ],
)
def test_other_names(typed, registered):
    assert get("metric", typed).name == registered
    assert registry.canonical("metric", typed) == registered


def test_a_name_of_several_entries_is_ambiguous():
    assert message(UnknownNameError, lambda: get("metric", "f1")) == (
        "The metric 'f1' is ambiguous.\n"
        "  do:      did you mean 'f1@k' or 'f1_samples' or 'f1_micro' or 'f1_macro'?"
    )
    assert message(UnknownNameError, lambda: get("metric", "Accuracy")) == (
        "The metric 'Accuracy' is ambiguous.\n  do:      did you mean 'top1' or 'real1' or 'subset_accuracy'?"
    )
    assert registry.canonical("metric", "f1") == "f1"


def test_near_misses_include_other_names():
    text = message(UnknownNameError, lambda: get("metric", "acuracy"))
    assert text.splitlines()[2] == "  do:      did you mean 'top1' or 'real1' or 'subset_accuracy'?"
    text = message(UnknownNameError, lambda: get("metric", "haming_los"))
    assert text.splitlines()[2].startswith("  do:      did you mean 'hamming'")
    assert registry.canonical("metric", "nothing") == "nothing"


def test_unknown_option():
    assert message(InputError, lambda: get("metric", "asma(exakt=True)")) == (
        "The metric 'asma' has no option 'exakt'.\n  got:     asma(exakt=True)\n  allowed: exact"
    )


@pytest.mark.parametrize("spec", ["asma(True)", "asma(exact=", "asma(exact=__import__('os'))", "asma(**{})"])
def test_only_literals(spec):
    assert message(InputError, lambda: get("metric", spec)) == (
        f"This is not a valid call string of a metric.\n  got:     {spec}\n  allowed: asma(option=literal, …)"
    )


def test_unknown_kind():
    assert message(InputError, lambda: get("metrics", "x")) == (
        "There is no kind 'metrics' in the registry.\n"
        "  allowed: metric, format, model, detector, aggregator, choice-aggregator, "
        "proposer, rule, loss, chapter, command, table, writer"
    )


def test_an_option_of_another_kind():
    def mine(case, *, name="", exact=False):
        """Mine."""

    register("metric", "mine", better="higher")(mine)
    assert message(InputError, lambda: get("metric", "mine(name=3)")) == (
        "The option 'name' must be a string.\n  got:     mine(name=3)\n  allowed: name='…'"
    )
    assert message(InputError, lambda: get("metric", "mine(exact=3)")) == (
        "The option 'exact' needs a flag.\n  got:     mine(exact=3)\n  allowed: exact=True or exact=False"
    )


def test_plug_ins_are_loaded_through_the_entry_point(monkeypatch):
    loaded = []

    class Point:
        def load(self):
            loaded.append("plug-in")

    monkeypatch.setattr(registry, "_loaded", set())
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [Point()])
    names("metric")
    names("format")
    assert loaded == ["plug-in"]


def test_flags_are_true_or_false():
    assert message(InputError, lambda: get("metric", "asma(exact='no')")) == (
        "The option 'exact' needs a flag.\n  got:     asma(exact='no')\n  allowed: exact=True or exact=False"
    )


def test_names_stand_in_one_order_whatever_was_imported_first():
    code = "import manyhot.core.ranking; from manyhot.registry import names; print(*names('metric'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == registry.names("metric")
    assert done.stdout.startswith("top1 top5 real1 ")


def test_another_thread_may_register_meanwhile(monkeypatch):
    """Threads import modules of figures, which register them, while models are judged."""
    entry = registry.entries("rule")[0]
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    ended, interval = threading.Event(), sys.getswitchinterval()

    def work():
        while not ended.is_set():
            for n in range(50):
                registry._entries["rule", f"another{n}"] = entry
            for n in range(50):
                del registry._entries["rule", f"another{n}"]

    thread = threading.Thread(target=work)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(1000):
            assert registry.entries("metric")
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)

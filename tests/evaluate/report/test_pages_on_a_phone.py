"""Pages of all kinds at the width of a phone: only tables and wide drawings scroll, in their own box."""

import numpy as np
import pytest

import manyhot as mh
from manyhot.evaluate.write import write_page
from page_sizes import opener, size

pytest.importorskip("vl_convert")

CLASSES = [f"a class with a long name {c}" for c in range(30)]

SCROLLED = """all => all.filter(e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
.filter(e => e.scrollWidth > e.clientWidth + 1 && !e.matches(".box, .panel")).map(e => e.className)"""

TOO_WIDE = (
    "all => all.filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.closest('.fig').id)"
)


def two_models():
    """Return label sets by class name, the scores of two models, and original labels."""
    rng = np.random.default_rng(0)
    valid = rng.random((400, 30)) < 0.3
    valid[np.arange(400), rng.integers(0, 30, 400)] = True
    noise = {"a_model_with_a_long_name_and_no_spaces_in_it": 1.3, "another_one": 0.9}
    scores = {n: (valid + w * rng.normal(size=valid.shape)).astype(np.float32) for n, w in noise.items()}
    return valid, scores, valid.argmax(axis=1)


def own_classes(out):
    valid, scores, _ = two_models()
    mh.evaluate(valid, scores, classes=CLASSES, scores="logit").write(out)


def original_labels(out):
    _, scores, label = two_models()
    mh.evaluate([CLASSES[c] for c in label], scores, classes=CLASSES, scores="logit").write(out)


def comparison(out):
    valid, scores, _ = two_models()
    mh.compare(scores, labels=valid, classes=CLASSES, scores="logit").write(out)
    write_page(out, beside=False)


def classes(out):
    valid, scores, _ = two_models()
    mh.diagnose_classes(valid, scores, classes=CLASSES, scores="logit").write(out)


def companions(out):
    valid, scores, _ = two_models()
    mh.diagnose_companions(valid, scores, classes=CLASSES, scores="logit").write(out)


def robustness(out):
    valid, scores, _ = two_models()
    half = {name: of[:200] for name, of in scores.items()}
    data = {"a first data set": (valid, scores), "a second one": (valid[:200], half)}
    mh.diagnose_robustness(data, classes=CLASSES, scores="logit").write(out)


@pytest.mark.parametrize(
    "write",
    [own_classes, original_labels, comparison, classes, companions, robustness],
    ids=lambda f: f.__name__,
)
def test_only_tables_and_drawings_scroll_sideways(write, chromium, tmp_path):
    write(tmp_path)
    check(chromium, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("write", [mh.evaluate, mh.diagnose_robustness], ids=lambda f: f.__name__)
def test_only_tables_and_drawings_of_imagenet_scroll_sideways(write, mirror, monkeypatch, chromium, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    write("imagenet", models=["resnet*", "vgg*"]).write(tmp_path)
    check(chromium, tmp_path)


def check(chromium, folder):
    with opener(chromium) as opened:
        page = opened(folder / "report" / "index.html", 390)
        assert size(page)[0] == 390
        assert page.locator("main *").evaluate_all(SCROLLED) == []
        assert page.locator(".fig .panel").evaluate_all(TOO_WIDE) == []

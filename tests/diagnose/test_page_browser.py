"""What a reader of the page of a diagnosis sees first, and that nothing is cut off."""

import pytest

from manyhot.diagnose.companions import diagnose_companions
from manyhot.diagnose.errors import diagnose_errors
from manyhot.diagnose.find_label_issues import find_label_issues
from manyhot.diagnose.robustness import diagnose_robustness
from page_sizes import cut, opener, size

pytest.importorskip("vl_convert")


@pytest.fixture
def opened(chromium):
    with opener(chromium) as opened:
        yield opened


def check(opened, path, title, answer):
    """Check title, first sentence and first figure of a page, and that a phone shows all of it."""
    page = opened(path, 1400)
    assert page.locator("h1").inner_text() == title
    assert page.locator("main p").first.inner_text().replace("\N{NO-BREAK SPACE}", " ") == answer
    assert page.locator("main .part").first.locator(".fig").count() >= 1
    phone = opened(path, 390)
    assert size(phone)[0] == 390
    assert cut(phone) == []


@pytest.mark.slow
def test_robustness(mirror, monkeypatch, opened, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    diagnose_robustness("imagenet").write(tmp_path)
    check(
        opened,
        tmp_path / "report" / "index.html",
        "Accuracy lost on other data",
        # On the images that both metrics count.
        "From ImageNet validation to ImageNetV2, 67 models on average lost 13.6 (12.7 to 14.3) points by "
        "Top-1, and 6.9 (6.3 to 7.6) points by ReaL: 49 % (45 to 52) of the loss of Top-1 is due to missing "
        "labels (9,871 images).",
    )


@pytest.mark.slow
def test_errors(mirror, monkeypatch, opened, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    diagnose_errors("imagenet-val", models=["resnet50"]).write(tmp_path)
    check(
        opened,
        tmp_path / "report" / "index.html",
        "What the errors are",
        # On the page *Error analysis*: 33.8, 30.9 and 30.4 %.
        "resnet50 makes 11,935 errors on 50,000 images of ImageNet validation (24 %), by the original label: "
        "these are 34 % fine-grained, 31 % model-failure and 30 % valid-label.",
    )


@pytest.mark.slow
def test_labels(mirror, monkeypatch, opened, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    find_label_issues("imagenet-val", no_confirmed_labels=True).write(tmp_path)
    check(
        opened,
        tmp_path / "report" / "index.html",
        "Which labels may be wrong or missing",
        # As on the page *Label issues*.
        "On 50,000 labelled images of ImageNet validation, 11,255 labels may be wrong (22.5 %) and 14,668 "
        "may be missing, and 13 pairs of classes may be one class, according to 67 models.",
    )


@pytest.mark.slow
def test_companions(mirror, monkeypatch, opened, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    diagnose_companions("imagenet-val", models=["resnet50"]).write(tmp_path)
    check(
        opened,
        tmp_path / "report" / "index.html",
        "Recall of classes with and without a companion",
        "Tested pairs of classes: 152. With its companion, the class is found more often in 0 and less "
        "often in 6 of these pairs (adjusted p below 0.05). The clearest difference is on ImageNet "
        "validation: notebook (computer) is found in 37 % of 41 images with mouse (computer), and in 85 % "
        "of 60 images without it (1 model).",
    )

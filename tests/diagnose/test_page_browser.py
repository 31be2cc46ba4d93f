"""What a reader of the page of a diagnosis sees first, and that nothing is cut off."""

import pytest

from manyhot.diagnose.companions import diagnose_companions
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
    assert page.locator("main p").first.inner_text() == answer
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
        "labels.",
    )


@pytest.mark.slow
def test_companions(mirror, monkeypatch, opened, tmp_path):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    diagnose_companions("imagenet-val", models=["resnet50"]).write(tmp_path)
    check(
        opened,
        tmp_path / "report" / "index.html",
        "Whose recall depends on what",
        "In 152 tested pairs of classes, the class is found more often with its companion in 0 and less "
        "often in 6 (adjusted p below 0.05). The clearest difference is on ImageNet validation: notebook "
        "(computer) is found in 37 % of 41 images with mouse (computer), and in 85 % of 60 without it "
        "(1 model).",
    )

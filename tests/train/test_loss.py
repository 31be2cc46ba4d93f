"""Losses in other training loops: against PyTorch's own, with unknown classes and soft labels; Lightning."""

import pickle
import re
from pathlib import Path

import pytest

import manyhot as mh
from manyhot.errors import InputError

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture
def logits():
    return torch.randn((6, 4), generator=torch.Generator().manual_seed(0), requires_grad=True)


def random(seed, shape=(6, 4)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_bce_is_that_of_torch_with_soft_labels_and_unknown_classes(logits):
    p, known = random(1), random(2) > 0.4
    ours, nan = mh.loss("bce"), torch.where(known, p, torch.nan)
    theirs = functional.binary_cross_entropy_with_logits(logits, p, weight=known.float())
    for value in (ours(logits, p, mask=known), ours(logits, nan), ours(logits, nan, mask=torch.ones(6, 4))):
        torch.testing.assert_close(value, theirs)
    ours(logits, nan).backward()
    assert (logits.grad[~known] == 0).all()
    assert logits.grad.isfinite().all()


def test_softmax_is_the_cross_entropy_of_torch(logits):
    label = torch.tensor([0, 3, 1, 1, 2, -1])
    ours = mh.loss("softmax")
    theirs = functional.cross_entropy(logits, label, ignore_index=-1, reduction="sum") / 6
    torch.testing.assert_close(ours(logits, label), theirs)
    sets = (random(3) > 0.5).float()
    sets[:, 0] = 1
    shared = sets / sets.sum(1, keepdim=True)
    torch.testing.assert_close(ours(logits, sets), functional.cross_entropy(logits, shared))


def test_options_and_label_sets_of_integers(logits):
    sets = (random(4) > 0.5).long()
    plain = mh.loss("asl(gamma_neg=0, gamma_pos=0, shift=0)")
    theirs = functional.binary_cross_entropy_with_logits(logits, sets.float())
    torch.testing.assert_close(plain(logits, sets), theirs)
    other = mh.loss("asl(gamma_neg=4)")
    assert other(logits, sets) < plain(logits, sets)
    assert pickle.loads(pickle.dumps(other))(logits, sets) == other(logits, sets)  # as several processes do
    assert repr(other) == "loss('asl(gamma_neg=4)')"


def test_what_is_refused(logits):
    with pytest.raises(InputError, match="stores values for each image"):
        mh.loss("role(k=1.5)")
    bce = mh.loss("bce")
    with pytest.raises(InputError, match=r"not between 0 and 1\.\n  got:     -1 to 1"):
        bce(logits, torch.tensor([[1.0, 0, -1, 0]] * 6))
    with pytest.raises(InputError, match="The targets and the logits differ in shape"):
        bce(logits, torch.zeros(6, 3))
    with pytest.raises(InputError, match="The mask and the logits differ in shape"):
        bce(logits, torch.zeros(6, 4), mask=torch.ones(6))
    with pytest.raises(InputError, match=r"out of range\.\n  got:     0 to 4"):
        bce(logits, torch.tensor([0, 4, 1, 1, 2, 0]))


@pytest.mark.filterwarnings("ignore")
def test_the_module_of_the_documentation_learns_in_lightning():
    lightning = pytest.importorskip("pytorch_lightning")
    page = (DOCS / "reference/losses.md").read_text()
    fences = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    namespace = {"mh": mh}
    exec(next(body for body in fences if "class Tagger(" in body), namespace)
    x = torch.randn((90, 16), generator=torch.Generator().manual_seed(1))
    y = torch.where(random(5, (90, 6)) < 0.3, torch.nan, (x[:, :6] > 0).float())
    module = namespace["Tagger"](16, 6)
    before = module.loss(module.network(x), y).item()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=30)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(max_epochs=5, accelerator="cpu", enable_model_summary=False, **quiet).fit(module, data)
    assert module.loss(module.network(x), y).item() < before

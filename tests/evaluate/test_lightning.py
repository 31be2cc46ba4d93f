"""The metric of torchmetrics in Lightning: the modules of the documentation, trained and validated."""

import re
from pathlib import Path

import numpy as np
import pytest

import manyhot as mh

torch = pytest.importorskip("torch")

# Lightning warns of few workers, few batches and of what it uses of PyTorch.
pytestmark = pytest.mark.filterwarnings("ignore")

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
NAMES, N = ["bicycle", "bus", "car", "dog", "person", "tree"], 90
RNG = np.random.default_rng(2)
INPUTS = RNG.normal(size=(N, 16)).astype(np.float32)
HOT = (INPUTS[:, :6] + RNG.normal(size=(N, 6)) > 0.7).astype(np.float32)


def block(page, of):
    """The block of a page that defines a class."""
    fences = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return next(body for body in fences if f"class {of}(" in body)


def modules():
    """The two modules of the documentation, which also note the logits of each validation."""
    namespace = {"mh": mh, "Evaluator": mh.Evaluator}
    for page, of in (
        ("guides/evaluate/own-data.md", "Classifier"),
        ("tutorial/tour.md", "Judged"),
    ):
        exec(block(page, of), namespace)
    return namespace["Classifier"], namespace["Judged"]


@pytest.fixture(autouse=True, scope="module")
def lightning():
    """Import Lightning here: it takes two seconds in each process that collects this file."""
    return pytest.importorskip("pytorch_lightning")


def noting(metrics):
    """Return what notes the logged values of each validation, and those of `evaluate` for the same scores."""
    from pytorch_lightning import Callback

    class Noting(Callback):
        def __init__(self):
            self.logged, self.expected = [], []

        def on_validation_end(self, trainer, module):
            if trainer.sanity_checking:
                return
            with torch.no_grad():
                scores = module.network(torch.tensor(INPUTS)).numpy()
            found = mh.evaluate(HOT, scores, classes=NAMES, scores="logit", metrics=metrics, resamples=0)
            self.expected.append([found.value(metric) for metric in metrics])
            self.logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})

    return Noting()


def loader(*more, **options):
    data = torch.utils.data.TensorDataset(torch.tensor(INPUTS), torch.tensor(HOT), *more)
    return torch.utils.data.DataLoader(data, batch_size=16, **options)


def trainer(callback, folder, **options):
    from pytorch_lightning import Trainer

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "default_root_dir": folder, "callbacks": [callback]}
    return Trainer(accelerator="cpu", devices=1, max_epochs=2, **quiet, **options)


def test_a_logged_metric_is_that_of_evaluate_in_each_epoch(tmp_path):
    torch.manual_seed(0)
    module, noted = modules()[0](NAMES), noting(["map_macro"])
    fitting = trainer(noted, tmp_path, num_sanity_val_steps=2)
    fitting.fit(module, loader(shuffle=True), loader())
    assert [logged["mAP"] for logged in noted.logged] == [
        pytest.approx(e[0], abs=1e-12) for e in noted.expected
    ]
    assert len(noted.logged) == 2
    assert noted.logged[0] != noted.logged[1]
    assert module.judge.evaluation.results["n"][0].as_py() == N  # of one epoch, without the sanity check
    (validated,) = fitting.validate(module, loader(), verbose=False)
    assert validated == {"mAP": pytest.approx(noted.expected[-1][0], abs=1e-12)}
    assert validated["mAP"] == noted.logged[1]["mAP"]


def test_a_dict_of_all_metrics_is_that_of_evaluate(tmp_path):
    torch.manual_seed(0)
    metrics = ["real1", "variable_topk", "map_macro"]
    module, noted = modules()[1](NAMES), noting(metrics)
    validating = loader(torch.arange(N))
    fitting = trainer(noted, tmp_path)
    fitting.fit(module, loader(), validating)
    for logged, expected in zip(noted.logged, noted.expected, strict=True):
        assert [logged[m] for m in metrics] == pytest.approx(expected, abs=1e-12)
    assert len(noted.logged) == 2
    (validated,) = fitting.validate(module, validating, verbose=False)
    assert [validated[m] for m in metrics] == pytest.approx(noted.expected[-1], abs=1e-12)


def test_several_metrics_are_logged_by_name(tmp_path):
    metrics = ["map_macro", "lrap"]

    class Several(modules()[0]):
        def __init__(self, classes):
            super().__init__(classes)
            evaluator = mh.Evaluator(classes=classes, metrics=metrics, scores="logit")
            self.judges = torch.nn.ModuleDict({m: evaluator.as_torch_metric(m) for m in metrics})

        def validation_step(self, batch, index):
            inputs, label_sets = batch
            for judge in self.judges.values():
                judge.update(self.network(inputs), label_sets)
            self.log_dict(dict(self.judges))

    module, noted = Several(NAMES), noting(metrics)
    trainer(noted, tmp_path).validate(module, loader(), verbose=False)
    assert [noted.logged[0][m] for m in metrics] == pytest.approx(noted.expected[0], abs=1e-12)

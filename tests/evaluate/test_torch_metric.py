"""The metric of torchmetrics: in a loop, in a collection and in Fabric."""

import copy
import pickle
import sys

import numpy as np
import pytest

from manyhot import Evaluator, evaluate
from manyhot.errors import InputError, MissingExtraError

RNG = np.random.default_rng(5)
N, C = 48, 6
HOT = RNG.random((N, C)) < 0.3
SCORES = (HOT + RNG.normal(size=(N, C))).astype(np.float32)
METRICS = ["real1", "variable_topk", "map_macro"]


@pytest.fixture
def torch():
    pytest.importorskip("torchmetrics")
    return pytest.importorskip("torch")


@pytest.fixture
def made(torch):
    def make(metrics=METRICS, **options):
        return Evaluator(n_classes=C, metrics=metrics, scores="logit").as_torch_metric(**options)

    return make


@pytest.fixture
def batches(torch):
    scores, labels = torch.tensor(SCORES), torch.tensor(HOT).int()
    return list(zip(scores.split(10), labels.split(10), strict=True))


def expected(scores=SCORES, hot=HOT, metrics=METRICS):
    found = evaluate(hot, scores, metrics=metrics, resamples=0)
    return {metric: pytest.approx(found.value(metric), abs=1e-12) for metric in metrics}


def plain(values):
    return {name: value.item() for name, value in values.items()}


def test_a_step_gives_its_batch_and_the_epoch_gives_all(made, batches):
    metric = made()
    for scores, labels in batches:
        assert plain(metric(scores, labels)) == expected(scores.numpy(), labels.numpy())
    assert plain(metric.compute()) == expected()
    assert metric.evaluation.value("map_macro") == metric.compute()["map_macro"]
    assert metric.evaluation.results["n"][0].as_py() == HOT.any(1).sum()
    metric.reset()
    metric.update(*batches[0])
    assert plain(metric.compute()) == expected(SCORES[:10], HOT[:10])


def test_the_average_precision_is_that_of_torchmetrics(made, batches, torch):
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MultilabelAveragePrecision

    collection = MetricCollection(
        {
            "ours": made(["map_macro"]),
            "more": made(["real1", "mla"]),
            "same": made(["variable_topk"]),
            "theirs": MultilabelAveragePrecision(C),
        }
    )
    for scores, labels in batches:
        collection.update(scores, labels)
    found = plain(collection.compute())
    assert found.keys() == {"map_macro", "real1", "mla", "variable_topk", "theirs"}
    assert found["map_macro"] == pytest.approx(found["theirs"], abs=1e-6)
    assert found["variable_topk"] == expected()["variable_topk"]
    assert found["real1"] == expected()["real1"]


def test_copies_pickles_and_saved_modules_go_on(made, batches, torch):
    metric = made()
    for batch in batches[:3]:
        metric.update(*batch)
    metric.persistent(True)
    saved = made()
    saved.load_state_dict(metric.state_dict())
    for other in (metric, metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), saved):
        for batch in batches[3:]:
            other.update(*batch)
        assert plain(other.compute()) == expected()


def test_the_settings_are_copied_without_images(made, batches):
    evaluator = Evaluator(n_classes=C, metrics=["real1"])
    evaluator.update(*batches[0])
    metric = evaluator.as_torch_metric()
    metric.update(*batches[1])
    assert plain(metric.compute()) == expected(SCORES[10:20], HOT[10:20], ["real1"])
    assert evaluator.compute().results["n"][0].as_py() == HOT[:10].any(1).sum()


def test_a_loop_of_fabric(made, torch):
    from lightning_fabric import Fabric
    from torch.utils.data import DataLoader, TensorDataset

    fabric = Fabric(accelerator="cpu", devices=1)
    data = TensorDataset(torch.tensor(SCORES), torch.tensor(HOT))
    loader = fabric.setup_dataloaders(DataLoader(data, batch_size=16))
    model, metric = torch.nn.Identity(), made().to(fabric.device)
    for epoch in range(2):
        for scores, labels in loader:
            metric.update(model(scores), labels)
        assert plain(metric.compute()) == expected(), epoch
        metric.reset()


def test_a_module_moves_its_metrics(made, batches, torch):
    class Judged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.val = made()

    module = Judged().half().double().to("cpu")  # its batches are bytes whatever the type of floats
    for scores, labels in batches:
        module.val.update(scores.bfloat16(), labels)
    assert plain(module.val.compute()) == expected(torch.tensor(SCORES).bfloat16().float().numpy())


def test_a_bad_batch_is_not_added(made, batches):
    metric = made()
    metric.update(*batches[0])
    with pytest.raises(InputError):
        metric.update(batches[1][0] * np.nan, batches[1][1])
    assert plain(metric.compute()) == expected(SCORES[:10], HOT[:10])


def test_without_torchmetrics(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(MissingExtraError) as error:
        Evaluator(n_classes=2).as_torch_metric()
    assert str(error.value).startswith(
        "A metric of torchmetrics needs torchmetrics, which cannot be imported.\n  got: "
    )
    assert str(error.value).endswith("\n  do:      pip install torchmetrics")


def test_one_of_the_metrics_is_a_scalar(made, batches):
    evaluator = Evaluator(n_classes=C, metrics=METRICS, scores="logit")
    metric = evaluator.as_torch_metric("mAP")  # another name of map_macro
    for batch in batches:
        metric.update(*batch)
    assert metric.compute().item() == expected()["map_macro"]
    with pytest.raises(InputError) as error:
        evaluator.as_torch_metric("lrap")
    assert str(error.value) == (
        "The evaluator does not compute this metric.\n"
        "  got:     lrap\n"
        "  allowed: real1, variable_topk, map_macro\n"
        "  do:      create the evaluator with this metric in `metrics`"
    )


@pytest.mark.parametrize(("metric", "better"), [("map_macro", True), ("coverage", False)])
def test_a_tracker_knows_the_best_epoch(made, batches, metric, better):
    from torchmetrics.wrappers import MetricTracker

    one = made([metric], metric=metric)
    assert one.higher_is_better is better
    assert copy.deepcopy(one).higher_is_better is better
    assert pickle.loads(pickle.dumps(one)).higher_is_better is better
    assert made().higher_is_better is None
    tracker = MetricTracker(one)
    for sign in (1, -1):
        tracker.increment()
        for scores, labels in batches:
            tracker.update(sign * scores, labels)
    value, epoch = tracker.best_metric(return_step=True)
    assert epoch == 0
    assert value == pytest.approx(float(tracker.compute_all()[0]))

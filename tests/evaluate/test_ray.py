"""Models judged on a local cluster: the same tables and notes to the last digit, whatever dies on the way."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from manyhot import evaluate
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MissingExtraError, UsageError
from manyhot.evaluate import columns, ray
from manyhot.predict.ray import import_ray
from manyhot.run import Run
from manyhot.tables import Labels, Predictions, write_labels, write_predictions

COUNTS = "48da312b193b82e6939ec20f23d1f09cbdd849c8/data/cifar10h-counts.npy"
PROBABILITIES = "cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy"
N, C, MODELS = 400, 6, 11


@pytest.fixture(scope="module")
def cluster(require):
    """A cluster with two workers, for all tests of this file."""
    require(importlib.util.find_spec("ray"), "ray")
    started = import_ray()
    started.init(
        address="local",
        num_cpus=2,
        object_store_memory=300 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def cifar10h(published):
    """Votes for real images, and probabilities of which four models are made."""
    p, counts = (np.load(published(name), allow_pickle=False)[:1000] for name in (PROBABILITIES, COUNTS))
    rng = np.random.default_rng(0)
    models = {}
    for i, power in enumerate((1, 0.5, 2, 0.25)):
        found = (p + rng.uniform(0, 0.03 * i, p.shape)) ** power
        models[f"m{i}"] = (found / found.sum(axis=1, keepdims=True)).astype(np.float32)
    return counts, models


def assert_same(found, expected):
    """Assert that all tables, notes and metadata of two evaluations are the same."""
    for name in ("results", "pairs", "samples"):
        assert_equal(getattr(found, name), getattr(expected, name), name)
    for name in ("confidence", "per_class", "posterior"):
        tables, others = getattr(found, name), getattr(expected, name)
        assert tables.keys() == others.keys()
        for table in tables:
            assert_equal(tables[table], others[table], table)
    assert found.model_notes == expected.model_notes
    assert found.metadata == expected.metadata


def assert_equal(table, other, name):
    """Assert that two tables have the same rows, with the same NaN, in the same order."""
    assert table.schema.equals(other.schema, check_metadata=True), name
    assert repr(table.to_pylist()) == repr(other.to_pylist()), name


def on_both(*inputs, **options):
    """Return the results of a cluster and of this process, which were compared."""
    expected, found = (evaluate(*inputs, engine=engine, **options) for engine in ("threads", "ray"))
    assert_same(found, expected)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("compare_with", [None, "vgg16"])
def test_published_models_on_slices(mirror, monkeypatch, compare_with):
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    reading = Reading(models=("vgg*", "resnet*"))
    options = {"slices": ["class=n01440764", "superclass"], "resamples": 200, "compare_with": compare_with}
    found = on_both("imagenetv2-matched-frequency", reading=reading, **options)
    assert len(found.results["model"].unique()) > 10
    assert len(found.pairs) > 100 if compare_with is None else 10


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_classes_draws_of_label_sets_and_pooled_metrics(cifar10h):
    """Also one metric alone, whose sums of one column BLAS would add in another order."""
    counts, models = cifar10h
    reading = Reading(scores="probability")
    options = {"posterior": 3, "map_resamples": 2, "resamples": 100}
    found = on_both(counts, models, reading=reading, **options)
    assert found.posterior["posterior_pairs"].num_rows > 100
    assert found.per_class["class_results"].num_rows == 40
    on_both(counts, models, reading=reading, metrics=["brier_set"], resamples=100)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_models_that_do_not_fit_are_skipped(folder):
    """As those that cannot be read; two of one name are refused."""
    (folder / "models" / "m02.parquet").write_bytes(b"nothing")
    write_model(folder, 4, classes=C + 1)
    found = on_both("labels.parquet", "models", resamples=50)
    assert [n.model for n in found.model_notes if n.kind == "skipped"] == [
        "models/m02.parquet",
        "models/m04.parquet",
    ]
    lists = {"m": np.tile(np.arange(3), (N, 1)), "n": np.eye(N, C, dtype=np.float32)}
    hot = np.eye(C, dtype=int)[np.arange(N) % C]
    clusters = {image_id: i // 10 for i, image_id in enumerate(ids().to_pylist())}
    on_both("labels.parquet", "models", resamples=50, clusters=clusters)
    some = on_both(hot, lists, metrics=["map_macro"], reading=Reading(scores="logit"), resamples=0)
    assert some.results["model"].unique().to_pylist() == ["n"]
    messages = []
    twice = [read_model(folder, 1), read_model(folder, 0), read_model(folder, 1)]
    for engine in ("threads", "ray"):
        with pytest.raises(InputError) as error:
            evaluate("labels.parquet", twice, engine=engine)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("Two models have the same name.")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Labels, and lists of scores of eleven models, of which one predicts fewer images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))
    label = np.random.default_rng(0).integers(0, C, N)
    table = {"image_id": ids(), "label": pa.array(label, pa.int32()), "usable": [True] * N}
    table |= {"classes": [[int(y)] for y in label], "state": [["yes"]] * N}
    write_labels(Labels(pa.table(table), C, "", True), "labels.parquet")
    (tmp_path / "models").mkdir()
    for i in range(MODELS):
        write_model(tmp_path, i)
    return tmp_path


def ids():
    return pa.array([f"{i:03d}.png" for i in range(N)])


def read_model(_folder, i, classes=C):
    label = np.random.default_rng(0).integers(0, C, N)
    rng = np.random.default_rng(100 + i)
    logits = rng.normal(size=(N, C)) + 2 * (np.arange(C) == label[:, None])
    best = np.argsort(-logits, axis=1)[:, :3]
    scores = np.take_along_axis(logits, best, 1).astype(np.float32)
    total = np.logaddexp.reduce(logits, axis=1).astype(np.float32)
    some = slice(0, N - 50) if i == 8 else slice(None)
    return Predictions(
        ids()[some], f"m{i:02d}", best[some].astype(np.int32), scores[some], total[some], "logit", classes
    )


def write_model(folder, i, classes=C):
    write_predictions(read_model(folder, i, classes), folder / "models" / f"m{i:02d}.parquet")


def workers_at_work():
    """Return the processes of this machine that judge models, from /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if title.startswith(b"ray::judged_batch") and parent in raylets():
            found.append(int(process.name))
    return found


def raylets():
    """Return the processes below this one, which started the cluster."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for file in children for pid in file.read_text().split()}


def killing(most):
    """Kill up to so many workers at work, in a thread, until the returned event is set."""
    killed, done = [], threading.Event()

    def kill():
        while len(killed) < most and not done.is_set():
            for pid in workers_at_work()[: most - len(killed)]:
                if pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    return killed, done, thread


NEEDS_PROC = pytest.mark.skipif(not Path("/proc").is_dir(), reason="absent: /proc, which tells of processes")


@NEEDS_PROC
@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed(cifar10h):
    """By SIGKILL, at work: another one judges its models."""
    counts, models = cifar10h
    options = {"posterior": 8, "resamples": 100, "reading": Reading(scores="probability")}
    expected = evaluate(counts, models, **options)
    killed, done, thread = killing(1)
    try:
        assert_same(evaluate(counts, models, engine="ray", **options), expected)
    finally:
        done.set()
        thread.join()
    assert len(killed) == 1


@NEEDS_PROC
@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_models_that_kill_their_workers(cifar10h):
    counts, models = cifar10h
    killed, done, thread = killing(1000)
    try:
        with pytest.raises(InputError) as error:
            evaluate(counts, {"deadly": models["m0"]}, engine="ray", posterior=100)
    finally:
        done.set()
        thread.join()
    assert str(error.value) == (
        "All Ray workers that evaluated these models died.\n"
        "  where:   deadly\n"
        "  got:     3 workers died\n"
        "  do:      give Ray's workers more memory, or evaluate these models without `engine`"
    )
    assert len(killed) == 3


RUN = """
import os, signal
from manyhot import evaluate
from manyhot.evaluate import columns
from manyhot.run import Run
columns._BATCH = 3
def progress(what, done, of):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)
evaluate("labels.parquet", "models", resamples=50, engine="ray", run=Run("manyhot evaluate", progress))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_without_a_cluster(folder, monkeypatch, require):
    """With the models of finished tasks, and ends with the same bytes."""
    require(importlib.util.find_spec("ray"), "ray")
    monkeypatch.setattr(columns, "_BATCH", 3)
    call = Run("manyhot evaluate")
    evaluate("labels.parquet", "models", resamples=50).write("expected", run=call)
    assert subprocess.run([sys.executable, "-c", RUN], check=False).returncode == -signal.SIGKILL
    assert len(list(folder.glob("cache/judged/*/*.npz"))) == 2
    evaluate("labels.parquet", "models", resamples=50, run=call).write("found", run=call)
    names = sorted(path.name for path in Path("expected").iterdir() if path.is_file())
    assert names
    for name in names:
        assert Path("found", name).read_bytes() == Path("expected", name).read_bytes(), name


def test_other_packages_on_a_worker(monkeypatch):
    here = ray._packages()
    ray._check_packages(here)
    with pytest.raises(InputError) as error:
        ray._check_packages({**here, "numpy": "1.0"})
    assert str(error.value) == (
        "A Ray worker has another version of numpy.\n"
        f"  where:   {ray.platform.node()}\n"
        f"  got:     {np.__version__}\n"
        "  allowed: 1.0\n"
        "  do:      install the same packages on all machines"
    )
    with pytest.raises(InputError, match=r"^A Ray worker has other metrics\."):
        ray._check_packages({**here, "metrics": "mine, top1"})


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as error:
        evaluate([[0], [1]], [[0, 1], [1, 0]], engine="ray", reading=Reading(n_classes=2))
    assert str(error.value) == (
        "The engine 'ray' needs ray, which cannot be imported.\n"
        "  got:     import of ray halted; None in sys.modules\n"
        '  do:      pip install "manyhot[ray]"'
    )


def test_an_audit_is_refused(monkeypatch):
    monkeypatch.setattr(ray, "on_ray", pytest.fail)
    with pytest.raises(UsageError) as error:
        evaluate("labels.parquet", "models", audited="audited.parquet", engine="ray")
    assert str(error.value) == (
        "An audit is evaluated in one process.\n"
        "  got:     `engine` ray with `audited`\n"
        "  do:      leave out `engine`"
    )

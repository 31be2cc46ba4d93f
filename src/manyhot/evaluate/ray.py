"""Judge the models of a data set on a Ray cluster: this process reads and writes, and workers judge.

Only this process reads predictions and writes files, as without Ray, so that the machines of a cluster share
no disk. The judge, with labels, slices and resamples, is sent once. A task judges a few models, and their
results are added to this process's judge in the order of the models. Ray repeats the task of a worker that
dies.
"""

from __future__ import annotations

import contextlib
import platform
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy

from manyhot._version import __version__
from manyhot.core.sets import Case
from manyhot.data.data_sets import Source
from manyhot.errors import InputError
from manyhot.evaluate.columns import models_at_once
from manyhot.evaluate.judge import Judge
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judged_batches import JudgedBatch, KeptBatches
from manyhot.evaluate.judging import Judging, OpenJudging
from manyhot.predict.ray import connected, import_ray
from manyhot.predict.ray.workers import ATTEMPTS, cannot_go_on
from manyhot.registry import entries
from manyhot.tables import Alignment, Predictions

OBJECT_STORE = 2 << 30
"""Bytes of the object store of a local cluster: resamples, and the predictions of three tasks."""

TASK_MODELS, TASK_BYTES = 16, 400_000_000
"""Maximum number of models of a task, and approximate maximum number of bytes of their predictions, such as
those of six models on 1.28 million images. With this many images, each task draws the resamples again, which
takes as long as judging several models."""


@contextlib.contextmanager
def on_ray() -> Iterator[OpenJudging]:
    """Connect to a Ray cluster in the background, and yield a function that opens the judging of a data set.

    Raises
    ------
    MissingExtraError, InputError
        As `manyhot.predict.ray.run_on_ray` does.
    """
    ray = import_ray()
    with connected(ray, None, OBJECT_STORE) as connect:

        @contextlib.contextmanager
        def opened(
            judge: Judge, options: JudgeOptions, source: Source, cache: KeptBatches | None
        ) -> Iterator[Judging]:
            connect()
            judging = OnRay(ray, judge, Judge(source, options), cache, source.n)
            try:
                yield judging
            finally:
                judging.close()

        yield opened


class OnRay:
    """Judges models in tasks of a Ray cluster.

    Parameters
    ----------
    judge : Judge
        Collects the results of the tasks.
    sent : Judge
        A judge without models, which is sent to the workers.
    n_models : int
        The number of models, if it is known; otherwise 0.
    """

    def __init__(self, ray: Any, judge: Judge, sent: Judge, cache: KeptBatches | None, n_models: int) -> None:
        self._ray, self._judge, self._cache = ray, judge, cache
        sent.draw()
        self._sent = ray.put(sent)
        left = (n_models or models_at_once()) - (len(cache.models) if cache else 0)
        self._most = max(1, min(TASK_MODELS, -(-left // (2 * self._cpus))))
        self._models: list[tuple[str, Any, list[str] | None]] = []
        self._bytes = 0
        self._running: dict[Any, list[Any]] = {}
        self._found: dict[Any, JudgedBatch | Exception] = {}
        self._tasks: deque[tuple[Any, list[tuple[str, list[str] | None]]]] = deque()
        self._task = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(judged_batch)

    @property
    def n_waiting(self) -> int:
        """The number of models that were added but not judged."""
        return len(self._models) + sum(len(models) for _, models in self._tasks)

    def add(self, predictions: Predictions, fitted: tuple[Case, Alignment], hashed: list[str] | None) -> None:
        """Send a model to the cluster, to be judged together with the next models."""
        arrays = (predictions.classes, predictions.scores, predictions.logsumexp)
        self._bytes += sum(array.nbytes for array in arrays if array is not None)
        self._bytes += predictions.image_id.nbytes
        self._models.append((predictions.model, self._ray.put(predictions), hashed))
        if len(self._models) >= self._most or self._bytes >= TASK_BYTES:
            self._submit()
        while self._tasks and self._tasks[0][0] not in self._running:
            self._restore()

    def finish(self) -> Iterator[None]:
        """Judge the waiting models, and yield each time some of them are done."""
        if self._models:
            self._submit()
        while self._tasks:
            self._restore()
            yield

    def close(self) -> None:
        """Cancel the tasks that are still running, as after an error."""
        for task in self._running:
            self._ray.cancel(task)

    @property
    def _cpus(self) -> int:
        """The number of cores of the cluster, which may grow later."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _submit(self) -> None:
        """Start a task, when at most one is waiting for a core."""
        while len(self._running) > self._cpus:
            self._wait(list(self._running))
        refs = [ref for _, ref, _ in self._models]
        task = self._task.remote(_packages(), [self._sent], refs)
        self._running[task] = refs  # which are freed when it is done
        self._tasks.append((task, [(name, hashed) for name, _, hashed in self._models]))
        self._models, self._bytes = [], 0

    def _wait(self, tasks: list[Any]) -> None:
        done, _ = self._ray.wait(tasks)
        for task in done:  # fetched at once, because its machine may be lost
            try:
                self._found[task] = self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                self._found[task] = error
            del self._running[task]

    def _restore(self) -> None:
        """Add the results of the first task to the judge, and keep them."""
        task, models = self._tasks[0]
        if task in self._running:
            self._wait([task])
        self._tasks.popleft()
        batch = self._found.pop(task)
        if isinstance(batch, Exception):
            raise self._error(batch, [name for name, _ in models]) from batch
        self._judge.restore(batch)
        if self._cache:
            for _, hashed in models:
                if hashed:
                    self._cache.add(hashed)
            self._cache.keep(batch)

    def _error(self, error: Any, models: list[str]) -> Exception:
        """Return what to raise for an error of Ray in a task of some models."""
        errors = self._ray.exceptions
        if isinstance(error, errors.RayTaskError):
            cause: Exception = error.cause  # what the task raised
            return cause
        if isinstance(error, errors.WorkerCrashedError | errors.OutOfMemoryError):
            return InputError(
                "All Ray workers that evaluated these models died.",
                where=", ".join(models),
                got=f"{ATTEMPTS} workers died",
                do="give Ray's workers more memory, or evaluate these models without `engine`",
            )
        return cannot_go_on(error)


def judged_batch(packages: dict[str, str], judge: list[Any], models: list[Any]) -> JudgedBatch:
    """Judge models on a worker, and return their results.

    Parameters
    ----------
    packages : dict of str to str
        The versions of packages and the metrics in the process that started the run.
    judge, models : list of ray.ObjectRef
        One judge, and the predictions of each model, which are in memory only while the model is judged.
    """
    import ray

    _check_packages(packages)
    own: Judge = ray.get(judge[0])
    for ref in models:
        predictions = ray.get(ref)
        own.add(predictions, *own.fit(predictions))
    own.resample()
    batch = own.batch()
    assert batch is not None
    return batch


def _packages() -> dict[str, str]:
    """Return what results depend on, besides the data: versions, and which metrics there are."""
    metrics = ", ".join(sorted(entry.name for entry in entries("metric")))
    return {"manyhot": __version__, "numpy": np.__version__, "scipy": scipy.__version__, "metrics": metrics}


def _check_packages(there: dict[str, str]) -> None:
    """Raise an error if results on this worker could differ from those of the run's own process."""
    here = _packages()
    for name, expected in there.items():
        if here[name] != expected:
            what = "other metrics" if name == "metrics" else f"another version of {name}"
            raise InputError(
                f"A Ray worker has {what}.",
                where=platform.node(),
                got=here[name],
                allowed=expected,
                do="install the same packages on all machines",
            )

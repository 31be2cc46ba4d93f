"""Ray workers on the machines of a cluster: their resources, their engines, and the parts they predict."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyhot._version import __version__
from manyhot.core.threads import cores
from manyhot.errors import InputError, ManyhotError
from manyhot.extras import required
from manyhot.predict.engines import Engine, build_engine, torch
from manyhot.predict.engines.openvino import engine_from_export
from manyhot.predict.models import find_model
from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings
from manyhot.predict.scoring import Keep, Scored, Scorer, Seconds, score_parts
from manyhot.predict.sources import ImageSource, SourcePart

ATTEMPTS = 3
"""Attempts at a part whose Ray workers die, and at starting a worker."""

WIDEST = 8
"""Cores of a worker. One process on two cores shares the network's weights in their cache: two processes took
7 % longer. But Python runs one thread at a time."""

ON_CPU = ("openvino", "onnx")

START_S = 60
"""Seconds to wait for Ray workers before engines are timed."""

NETWORKS = 2
"""Networks that a Ray worker keeps: one model ends while the next begins."""

_DO = "install the same packages, weights and files on all machines"


@dataclass(frozen=True)
class WorkerShare:
    """The resources of each Ray worker, and the number of workers."""

    cpus: int
    gpus: int
    count: int


def worker_share(
    machines: Sequence[Mapping[str, float]], network: Network, engine: str = "auto", limit: int | None = None
) -> WorkerShare:
    """Return one Ray worker per GPU if the network runs on GPUs, else one per `WIDEST` cores of a machine.

    Parameters
    ----------
    machines : sequence of Mapping of str to float
        The resources of each machine, with Ray's names.
    network : Network
        The network. If it runs without an engine, each worker has one core.
    engine : str
    limit : int, optional
        Maximum number of cores that all workers use together.
    """
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if network.forward is not None:
        return WorkerShare(1, 0, max(1, min(sum(cpus), limit or sum(cpus))))
    if gpus and not network.file and engine not in ON_CPU and torch.device() == "cuda":
        return WorkerShare(max(1, sum(cpus) // gpus), 1, gpus)
    wide = min([WIDEST, limit or cores(), *filter(None, cpus)])
    count = sum(machine // wide for machine in cpus)
    return WorkerShare(wide, 0, max(1, min(count, limit // wide if limit else count)))


@dataclass(frozen=True)
class RemoteModel:
    """The data with which a worker builds a network and its engine, and checks that they match the run.

    `network` has no weights. `exported` refers to the exported engine, if it can be sent, so that the worker
    does not convert the network again. `version` is the version of manyhot that started the run.
    """

    spec: str
    settings: PredictSettings
    network: Network
    keep: Keep
    engine: str = ""
    batch: int = 0
    workers: int = 1
    exported: Any = None
    version: str = __version__

    def build(self) -> tuple[Network, Engine]:
        """Build the network, and the engine that runs it.

        Raises
        ------
        InputError
            If the network cannot be built here, or if the network or the version of manyhot differs from that
            of the run.
        """
        if self.version != __version__:
            raise _another("version of manyhot", self.spec, __version__, self.version)
        try:
            network, engine = self._built()
        except Exception as error:
            # Weights, packages or files of the machine that started the run may be missing here.
            raise InputError(
                "A Ray worker cannot build the model.",
                where=f"{self.spec} on {platform.node()}",
                got=f"{type(error).__name__}: {' '.join(str(error).split())}",
                do=_DO,
            ) from error
        if (here := _described(network)) != (there := _described(self.network)):
            raise _another("model", self.spec, here, there)
        return network, engine

    def _built(self) -> tuple[Network, Engine]:
        torch = required("torch", "A Ray worker")
        torch.set_num_threads(1)  # as without Ray; another order of summation rounds differently
        options = replace(self.settings.engine_options, workers=self.workers, batch=self.batch)
        if self.exported is not None:
            import ray

            return self.network, engine_from_export(ray.get(self.exported), options)
        network = find_model(self.spec, self.settings.classes, **self.settings.model_options)
        return network, build_engine(self.engine, network, options)


def _described(network: Network) -> str:
    classes = f"{network.name}, {len(network.classes):,} classes {network.classes.hash}"
    recorded = [f"{key} {network.about[key]}" for key in ("weights", "code") if network.about.get(key)]
    return ", ".join([classes, *recorded])


def _another(what: str, spec: str, here: str, there: str) -> InputError:
    return InputError(
        f"A Ray worker has a different {what}.",
        where=f"{spec} on {platform.node()}",
        got=here,
        allowed=there,
        do=_DO,
    )


class Worker:
    """A separate process that scores parts. `folder` is its working folder, for relative paths."""

    def __init__(self, folder: str) -> None:
        self._built: OrderedDict[int, tuple[Network, Engine]] = OrderedDict()
        with contextlib.suppress(OSError):  # it may not exist on another machine
            os.chdir(folder)
        for name in ("torchvision.transforms.v2", "openvino"):  # 3 s, while an engine is still chosen
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    def start(self) -> None:
        """Return once this worker has started."""

    def score(self, number: int, model: RemoteModel, part: SourcePart) -> tuple[Scored, Seconds]:
        """Return the scores of a part from the model with the given index."""
        if number not in self._built:
            while len(self._built) >= NETWORKS:
                self._built.popitem(last=False)
            self._built[number] = model.build()
        self._built.move_to_end(number)
        scorer = Scorer(*self._built[number], model.keep)
        ((scored,),) = score_parts([[(part, scorer)]])
        return scored, scorer.seconds


@dataclass
class _Task:
    model: int
    part: SourcePart
    deaths: int = 0


class WorkerPool:
    """A pool of at most `most` workers that score the parts of a source. Workers that die are replaced.

    Ray's own tools are not sufficient, as a test with Ray 2.60 on two machines showed. `ray.util.ActorPool`
    assigns parts to workers that have no machine yet. If other jobs use some machines of the cluster, the
    last parts wait. Actors with `max_restarts` and `max_task_retries` repeat a part with the same actor. If
    the actor's machine is lost, three attempts fail within 4 s, although another machine is idle. Here, parts
    are only assigned to workers that have responded, and the part of a dead worker is assigned to any other
    worker.
    """

    def __init__(self, ray: Any, source: ImageSource, share: WorkerShare, most: int) -> None:
        self._ray, self._source, self._share = ray, source, share
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, _Task | None]] = {}  # workers, and parts of those that have started
        self._failed_starts = 0
        for _ in range(max(1, min(share.count, most))):
            self._start()

    def wait(self) -> None:
        """Wait until the workers have started."""
        self._ray.wait(list(self._busy), num_returns=len(self._busy), timeout=START_S)

    def scored(
        self, models: Sequence[RemoteModel], parts: Sequence[Sequence[SourcePart]]
    ) -> Iterator[tuple[int, Scored, Seconds]]:
        """Score the parts of each model, and yield the model's index and the scores of each part.

        Raises
        ------
        InputError
            If a part kills each worker that predicts it.
        ManyhotError
            If a worker raises an error, or if Ray cannot continue.
        """
        waiting = deque(_Task(i, part) for i, own in enumerate(parts) for part in own)
        sent = [self._ray.put(replace(model, workers=self._share.cpus)) for model in models]
        left = len(waiting)
        while left:
            self._hand_out(waiting, sent)
            task, answer = self._next()
            if task is None:
                continue
            if answer is not None:
                left -= 1
                self._hand_out(waiting, sent)  # before this part is written
                yield task.model, *answer
            elif task.deaths < ATTEMPTS:
                waiting.appendleft(task)
            else:
                raise self._deadly(task, models[task.model])

    def close(self) -> None:
        """Stop the workers."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self._kill(worker)

    def _start(self) -> None:
        options = {"num_cpus": self._share.cpus, "num_gpus": self._share.gpus}
        worker = self._ray.remote(**options)(Worker).remote(str(Path.cwd()))
        self._busy[worker.start.remote()] = worker, None

    def _kill(self, worker: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):  # those of a cluster that died are gone
            self._ray.kill(worker)

    def _hand_out(self, waiting: deque[_Task], models: Sequence[Any]) -> None:
        while waiting and self._idle:
            task, worker = waiting.popleft(), self._idle.pop()
            self._busy[worker.score.remote(task.model, models[task.model], task.part)] = worker, task

    def _next(self) -> tuple[_Task | None, Any]:
        """Wait for a worker; return its part, if it had one, and the scores, or None if it died."""
        errors = self._ray.exceptions
        (ref, *_), _ = self._ray.wait(list(self._busy))
        worker, task = self._busy.pop(ref)
        try:
            answer = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise error.cause from error  # whose text has the traceback on the worker
        except (errors.RayActorError, errors.ObjectLostError) as error:
            self._failed_starts += task is None
            if getattr(error, "actor_init_failed", False) or self._failed_starts >= ATTEMPTS:
                raise cannot_go_on(error) from error
            self._kill(worker)  # if only its machine cannot be reached
            self._start()
            if task is not None:
                task.deaths += 1
            return task, None
        except errors.RayError as error:
            raise cannot_go_on(error) from error
        self._failed_starts = 0
        self._idle.append(worker)
        return task, answer

    def _deadly(self, task: _Task, model: RemoteModel) -> InputError:
        part, names = task.part, [part.name for part in self._source.parts]
        first = next((item.uri for item, _ in part.items()), "no images")
        return InputError(
            "Each worker that processes one part of the source dies.",
            where=f"part {part.name} of {self._source.uri}, from {first} on",
            got=f"{task.deaths} workers died while running {model.network.name} on {model.engine}",
            do="reduce `workers`, so that each has more memory; to see the failure without Ray, run the part"
            f" with `shard`={names.index(part.name)}/{len(names)}",
        )


def cannot_go_on(error: Exception) -> ManyhotError:
    """Return the error for a failure of Ray itself, such as a machine without manyhot."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ManyhotError(
        "Ray cannot continue.",
        got=lines[-1] if lines else type(error).__name__,
        do="install the same packages and files on all machines, check Ray's logs,"
        " and run the same command again to resume",
    )

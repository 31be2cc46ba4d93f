"""Workers on a cluster: each takes parts, one that dies is replaced.

What runs on the machines of a cluster: a worker builds networks from recipes and scores parts.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import platform
import traceback
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manyhot._version import __version__
from manyhot.classes import ClassList
from manyhot.errors import InputError, ManyhotError
from manyhot.extras import required
from manyhot.predict.engines import Engine, Precision, build, torch
from manyhot.predict.engines.base import cores
from manyhot.predict.engines.openvino import restore
from manyhot.predict.find import find_model
from manyhot.predict.network import Network
from manyhot.predict.scoring import Keep, Scored, Seconds, score_parts
from manyhot.predict.sources import Part, Source

ATTEMPTS = 3
"""How often a part is begun when its workers die."""


AHEAD = 2
"""Parts at a worker: it begins the second when the first is done, and waits for nobody."""


WIDEST = 8
"""Cores of a worker. One process on two cores shares the network's weights in their cache: two processes took
7 % longer. But Python runs one thread at a time."""


ON_CPU = ("openvino", "onnx")


COME_S = 60
"""Seconds that workers may take to come before engines are timed all the same."""


@dataclass(frozen=True)
class Share:
    """Of a cluster for each worker, and how many workers there can be."""

    cpus: int
    gpus: int
    count: int


def share_of(
    machines: Sequence[Mapping[str, float]], network: Network, engine: str = "auto", limit: int | None = None
) -> Share:
    """Return a worker for each machine, on all of its cores as without Ray, or for every `WIDEST` of them.

    Where the network runs on GPUs, a worker for each of these, with its part of the cores.

    Parameters
    ----------
    machines : sequence of Mapping of str to float
        What Ray says that they have.
    network : Network
        One that runs itself does so in one thread.
    engine : str
    limit : int, optional
        Cores that all workers may take together.
    """
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if network.forward is not None:
        return Share(1, 0, max(1, min(sum(cpus), limit or sum(cpus))))
    if gpus and not network.file and engine not in ON_CPU and torch.device() == "cuda":
        return Share(max(1, sum(cpus) // gpus), 1, gpus)
    wide = min([WIDEST, limit or cores(), *filter(None, cpus)])
    count = sum(machine // wide for machine in cpus)
    return Share(wide, 0, max(1, min(count, limit // wide if limit else count)))


@dataclass
class _Task:
    model: int
    part: int
    deaths: int = 0


@dataclass(eq=False)
class _Member:
    """A worker, what it was given, oldest first, and whether it came."""

    handle: Any
    coming: Any
    given: deque[Any] = field(default_factory=deque)
    here: bool = False


class Pool:
    """Workers that score parts.

    Parameters
    ----------
    ray : module
    source : Source
    share : Share
        What a worker takes of the cluster, and how many there are at most.
    most : int
        How many parts there can be.
    """

    def __init__(self, ray: Any, source: Source, share: Share, most: int) -> None:
        self._ray, self._source, self._share = ray, source, share
        self._members = [self._new() for _ in range(max(1, min(share.count, most)))]
        self._tasks: dict[Any, _Task] = {}
        self._parts: dict[int, Any] = {}

    def wait(self) -> None:
        """Wait until the workers are there and leave the cores to others."""
        coming = [member.coming for member in self._members]
        self._ray.wait(coming, num_returns=len(coming), timeout=COME_S)

    def scored(
        self, recipes: Sequence[Recipe], missing: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, Scored, Seconds]]:
        """Yield the number of a model and what came of a part, as they come.

        Parameters
        ----------
        recipes : sequence of Recipe
            Of each model.
        missing : sequence of sequence of str
            The names of the parts that each model is to score.

        Raises
        ------
        InputError
            A part kills each worker that it is given to.
        ManyhotError
            A worker's own, or Ray cannot go on.
        """
        numbers = {part.name: i for i, part in enumerate(self._source.parts)}
        waiting = deque(_Task(m, numbers[name]) for m, names in enumerate(missing) for name in names)
        sent = [self._ray.put(replace(recipe, workers=self._share.cpus)) for recipe in recipes]
        while waiting or self._tasks:
            self._give(waiting, sent)
            lost: list[_Task] = []
            yield from self._come(lost)
            waiting.extendleft(reversed(lost))
            if lost and lost[0].deaths >= ATTEMPTS:
                raise self._deadly(lost[0], recipes[lost[0].model])

    def close(self) -> None:
        """Let the workers go."""
        with contextlib.suppress(self._ray.exceptions.RayError):  # those of a cluster that died are gone
            for member in self._members:
                self._ray.kill(member.handle)

    def _new(self) -> _Member:
        options = {"num_cpus": self._share.cpus, "num_gpus": self._share.gpus}
        handle = self._ray.remote(**options)(Worker).remote(str(Path.cwd()))
        return _Member(handle, handle.come.remote())

    def _give(self, waiting: deque[_Task], recipes: Sequence[Any]) -> None:
        """Give waiting parts to workers that are there, evenly."""
        for held in range(AHEAD):
            for member in self._members:
                if waiting and member.here and len(member.given) == held:
                    task = waiting.popleft()
                    if task.part not in self._parts:
                        self._parts[task.part] = self._ray.put(self._source.parts[task.part])
                    ref = member.handle.score.remote(task.model, recipes[task.model], self._parts[task.part])
                    member.given.append(ref)
                    self._tasks[ref] = task

    def _come(self, lost: list[_Task]) -> Iterator[tuple[int, Scored, Seconds]]:
        """Wait for a worker or a part, and yield what came; what a dead worker had is lost, oldest first."""
        coming = {member.coming: member for member in self._members if not member.here}
        (ref, *_), _ = self._ray.wait([*self._tasks, *coming])
        member = coming.get(ref) or next(m for m in self._members if ref in m.given)
        try:
            result = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise cannot_go_on(error) from error
            lost.extend(self._replaced(member))
            return
        except self._ray.exceptions.RayError as error:
            raise cannot_go_on(error) from error
        if ref in coming:
            member.here = True
            return
        member.given.remove(ref)
        task = self._tasks.pop(ref)
        if isinstance(result, Exception):
            raise result
        yield task.model, *result

    def _replaced(self, member: _Member) -> list[_Task]:
        """Replace a dead worker and return what it had. It was at the oldest."""
        self._members[self._members.index(member)] = self._new()
        lost = [self._tasks.pop(ref) for ref in member.given]
        if lost:
            lost[0].deaths += 1
        return lost

    def _deadly(self, task: _Task, recipe: Recipe) -> InputError:
        source, part = self._source, self._source.parts[task.part]
        first = next((item.uri for item, _ in part.items()), "no images")
        return InputError(
            "A part of the source kills each worker that predicts it.",
            where=f"part {part.name} of {source.uri}, from {first} on",
            got=f"{task.deaths} workers died, with {recipe.network.name} on {recipe.engine}",
            do="give workers more memory by fewer --workers; to see it die by itself, run it without Ray,"
            f" with --shard {task.part}/{len(source.parts)}",
        )


def cannot_go_on(error: Exception) -> ManyhotError:
    """Return an error of ours for what Ray itself trips over, such as a machine without manyhot."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ManyhotError(
        "Ray cannot go on.",
        got=lines[-1] if lines else type(error).__name__,
        do="each machine needs the same manyhot and what the models need; look into Ray's logs for more,"
        " and run the same command again: it goes on here",
    )


BUILT = 2
"""Networks that a worker keeps: one model ends where the next begins."""


@dataclass(frozen=True)
class Recipe:
    """How a worker comes to its network and engine.

    Attributes
    ----------
    spec : str
        As for `find_model`.
    classes : ClassList, optional
    network : Network
        Without what computes it.
    keep : Keep
    engine : str
    precision : Precision
    features : bool
    batch, workers : int
    exported : ray.ObjectRef, optional
        Of the engine, where it can be sent: the worker builds and converts nothing then.
    version : str
        Of manyhot where the run was started.
    """

    spec: str
    classes: ClassList | None
    network: Network
    keep: Keep
    engine: str = ""
    precision: Precision = Precision.f32
    features: bool = False
    batch: int = 0
    workers: int = 1
    exported: Any = None
    version: str = __version__

    def build(self) -> tuple[Network, Engine]:
        """Build the network, and the engine that runs it.

        Raises
        ------
        InputError
            It cannot be built here, or it or manyhot is another one.
        """
        if self.version != __version__:
            raise _another("manyhot", self.spec, __version__, self.version)
        try:
            network, engine = self._built()
        except Exception as error:
            # What is there where the run was started may be absent here: weights, packages, a file.
            said = " ".join(str(error).split())
            raise InputError(
                "A worker of Ray cannot build the model.",
                where=f"{self.spec} on {platform.node()}",
                got=f"{type(error).__name__}: {said}",
                do="give all machines the same packages, weights and files",
            ) from error
        if (here := _described(network)) != (there := _described(self.network)):
            raise _another("the model", self.spec, here, there)
        return network, engine

    def _built(self) -> tuple[Network, Engine]:
        torch = required("torch", "A worker of Ray")
        torch.set_num_threads(1)  # as threads without Ray have it; sums of another order round otherwise
        if self.exported is not None:
            import ray

            exported = ray.get(self.exported)
            engine = restore(exported, self.precision, self.features, self.workers, self.batch)
            return self.network, engine
        network = find_model(self.spec, self.classes)
        engine = build(
            self.engine,
            network,
            precision=self.precision,
            features=self.features,
            workers=self.workers,
            batch=self.batch,
        )
        return network, engine


def _described(network: Network) -> str:
    weights = network.about.get("weights", "")
    return f"{network.name}, {len(network.classes):,} classes {network.classes.hash}" + (
        f", weights {weights}" if weights else ""
    )


def _another(what: str, spec: str, here: str, there: str) -> InputError:
    return InputError(
        f"A worker of Ray has another one: {what}.",
        where=f"{spec} on {platform.node()}",
        got=here,
        allowed=there,
        do="give all machines the same packages, weights and files",
    )


class Worker:
    """Scores parts in a process of its own, with one network after the other.

    Parameters
    ----------
    folder : str
        The current one, for relative paths.
    """

    def __init__(self, folder: str) -> None:
        self._built: OrderedDict[int, tuple[Network, Engine]] = OrderedDict()
        with contextlib.suppress(OSError):  # another machine need not have it
            os.chdir(folder)
        for name in ("torchvision.transforms.v2", "openvino"):  # 3 s, while an engine is still chosen
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    def come(self) -> None:
        """Answer when this worker is there."""

    def score(self, model: int, recipe: Recipe, part: Part) -> tuple[Scored, Seconds] | Exception:
        """Return what came of a part, or the error that it ended with: Ray would wrap it, and print it."""
        try:
            network, engine = self._network(model, recipe)
            seconds = Seconds()
            (scored,) = score_parts([part], network, engine, recipe.keep, seconds=seconds)
        except Exception as error:
            return _picklable(error)
        return scored, seconds

    def _network(self, model: int, recipe: Recipe) -> tuple[Network, Engine]:
        if model not in self._built:
            while len(self._built) >= BUILT:
                self._built.popitem(last=False)
            self._built[model] = recipe.build()
        self._built.move_to_end(model)
        return self._built[model]


def _picklable(error: Exception) -> Exception:
    """Return an error that survives the way back; one that nobody foresaw with where it came from."""
    if not isinstance(error, ManyhotError):
        error.add_note(f"On a worker of Ray:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:
        return RuntimeError(f"{type(error).__name__} on a worker of Ray: {error}\n{traceback.format_exc()}")
    return error

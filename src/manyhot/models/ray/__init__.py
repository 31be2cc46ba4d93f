"""Models × parts of a source on Ray Data: workers score, this process writes.

Only this process writes files, so that runs are resumed and merged as they are without Ray, and a cluster
needs no disk that all of its machines see; what it reads must be in reach of all of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyhot.errors import InputError
from manyhot.models.engines import Choice, Engine, Precision
from manyhot.models.find import find_model
from manyhot.models.job import Done, Job, Notify, Settings, prepare
from manyhot.models.ray.cluster import connected, load, quietly, until_it_fails
from manyhot.models.ray.worker import Ledger, Recipe, Worker
from manyhot.models.scored import Scored, Seconds
from manyhot.models.sources import Source

NAME = "ray"

ATTEMPTS = 3
"""How often a part is begun when its workers die. Ray itself would go on for ever."""

BLOCKS = 10_000
"""Of the dataset. A block for each part is best, but Ray grows slow with hundreds of thousands of them."""


def engine_of(name: str) -> str | None:
    """Return which engine ``ray`` or ``ray:ENGINE`` runs on its workers; None for an engine without Ray."""
    head, _, inner = name.partition(":")
    return (inner or "auto") if head == NAME else None


def run_on_ray(
    source: Source,
    specs: Sequence[str],
    out: Path,
    settings: Settings,
    call: str = "",
    notify: Notify | None = None,
) -> list[Done]:
    """Predict the images of a source with each model, all parts of all models at once, on a cluster.

    The cluster is the one that ``RAY_ADDRESS`` names, or that runs on this machine; else one is started here,
    for as long as the run takes.

    Parameters
    ----------
    source : Source
    specs : sequence of str
        See `find_model`.
    out : Path
    settings : Settings
        Its engine is that of the workers; its workers are the processes, by default one a core.
    call : str
    notify : callable, optional

    Returns
    -------
    list of Done
        In the order of `specs`.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    InputError, SourceLostError
        As without Ray; or a part kills its workers, or there is no cluster at the address.
    OutputError
        The disk is full, or the folder cannot be written to.
    """
    ray = load()
    tell = notify or (lambda *_: None)
    with connected(ray, settings.workers) as connect:
        jobs, recipes = _prepared(ray, connect, source, specs, out, settings, tell)
        return _run(ray, source, jobs, recipes, settings.workers, call, tell)


def _run(
    ray: Any,
    source: Source,
    jobs: Sequence[Job],
    recipes: Sequence[Recipe],
    workers: int | None,
    call: str,
    tell: Notify,
) -> list[Done]:
    left = [len(job.missing) for job in jobs]
    done: dict[int, Done] = {}

    def finish(i: int) -> None:
        done[i] = jobs[i].finish(call)
        tell("done", {"model": jobs[i].network.name, "done": done[i]})

    for i, job in enumerate(jobs):
        job.start()
        if not left[i]:
            finish(i)
    for i, scored, seconds in _scored(ray, source, jobs, recipes, workers) if any(left) else ():
        jobs[i].write(scored)
        jobs[i].seconds.add(seconds)
        tell("progress", jobs[i].progress(jobs[i].n))
        left[i] -= 1
        if not left[i]:
            finish(i)
    return [done[i] for i in range(len(jobs))]


def _prepared(
    ray: Any,
    connect: Callable[[], None],
    source: Source,
    specs: Sequence[str],
    out: Path,
    settings: Settings,
    tell: Notify,
) -> tuple[list[Job], list[Recipe]]:
    """Return what is left of each model, without the network: there may be hundreds."""
    jobs: list[Job] = []
    recipes: list[Recipe] = []
    for spec in specs:
        network = find_model(spec, settings.classes)
        if any(job.network.name == network.name for job in jobs):
            raise InputError("A model is given twice.", got=spec, do="leave one out")
        connect()  # before engines are timed
        job = prepare(source, network, out, settings, tell)
        light = replace(network, module=None, forward=None)
        if job.choice is not None:
            recipe = Recipe(spec, settings.classes, light, job.keep, **_sent(ray, job.choice, settings))
            job = replace(job, choice=replace(job.choice, engine=_Elsewhere.of(job.choice.engine)))
        else:
            recipe = Recipe(spec, settings.classes, light, job.keep)
        recipes.append(recipe)
        jobs.append(replace(job, network=light))
    return jobs, recipes


def _sent(ray: Any, choice: Choice, settings: Settings) -> dict[str, Any]:
    export = getattr(choice.engine, "export", None)
    return {
        "engine": choice.engine.name,
        "precision": settings.precision,
        "features": settings.embeddings,
        "batch": choice.engine.batch,
        "exported": ray.put(export()) if export else None,
    }


@dataclass(frozen=True)
class _Elsewhere:
    """What is told of an engine that runs on workers."""

    name: str
    device: str
    precision: Precision
    workers: int
    batch: int

    @classmethod
    def of(cls, engine: Engine) -> _Elsewhere:
        """Return what is told of an engine."""
        return cls(engine.name, engine.device, engine.precision, engine.workers, engine.batch)

    def __call__(self, images: Any) -> Any:
        """Refuse: it is elsewhere."""
        raise NotImplementedError


def _scored(
    ray: Any, source: Source, jobs: Sequence[Job], recipes: Sequence[Recipe], workers: int | None
) -> Iterator[tuple[int, Scored, Seconds]]:
    """Yield the number of a model and what came of a part, as they come."""
    numbers = {part.name: i for i, part in enumerate(source.parts)}
    rows = [{"model": i, "part": numbers[p.name]} for i, job in enumerate(jobs) for p in job.missing]
    share = _share(ray.cluster_resources(), any(j.choice and j.choice.engine.device == "cuda" for j in jobs))
    blocks = min(len(rows), BLOCKS)
    size = max(1, min(blocks, workers or share.count))
    ledger = ray.remote(num_cpus=0)(Ledger).remote()
    given = (
        [replace(recipe, workers=share.cpus) for recipe in recipes],
        [ray.put(part) for part in source.parts],
        ledger,
        ATTEMPTS,
        source.uri,
        str(Path.cwd()),
    )
    with quietly(ray):
        results = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_args=given,
            batch_size=1,
            # One at a time: parts take seconds, and one that waits at a worker waits for nothing at the end.
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=share.cpus,
            num_gpus=share.gpus,
        )
        for row in until_it_fails(ray, results.iter_rows()):
            result = pickle.loads(row["result"])  # noqa: S301  # of our own workers
            if isinstance(result, Exception):
                raise result
            yield row["model"], *result


@dataclass(frozen=True)
class _Share:
    """Of a cluster for each worker, and how many workers there can be."""

    cpus: int
    gpus: int
    count: int


def _share(resources: Mapping[str, float], gpu: bool) -> _Share:
    """Return a core for each worker; where the engine runs on GPUs, one of these and its part of cores."""
    cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if not gpu or not gpus:
        return _Share(1, 0, cpus)
    return _Share(max(1, cpus // gpus), 1, gpus)

"""Models × parts of a source on Ray: workers score, this process writes.

Only this process writes files, so that runs are resumed and merged as they are without Ray, and a cluster
needs no disk that all of its machines see; what it reads must be in reach of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from manyhot.errors import InputError
from manyhot.models.engines import Choice, Engine, Precision
from manyhot.models.find import find_model
from manyhot.models.job import Done, Job, Notify, Settings, prepare
from manyhot.models.network import Network
from manyhot.models.ray.cluster import connected, load
from manyhot.models.ray.pool import Pool, share_of
from manyhot.models.ray.worker import Recipe
from manyhot.models.sources import Source

NAME = "ray"


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
        Its engine is that of the workers; its workers are the cores that they take together.
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
    for i, spec in enumerate(specs):  # before a cluster is started
        if spec in specs[:i]:
            raise _given_twice(spec)
    with connected(ray, settings.workers) as connect:
        run = _Run(ray, connect, source, out, settings, notify or (lambda *_: None))
        try:
            return run.done(specs, call)
        finally:
            run.close()


@dataclass
class _Run:
    """A source on a cluster."""

    ray: Any
    connect: Callable[[], None]
    source: Source
    out: Path
    settings: Settings
    tell: Notify
    pool: Pool | None = None

    def done(self, specs: Sequence[str], call: str) -> list[Done]:
        """Prepare all models, give their parts to workers, and write what comes."""
        jobs, recipes = self._prepared(specs)
        left = [len(job.missing) for job in jobs]
        done: dict[int, Done] = {}

        def finish(i: int) -> None:
            done[i] = jobs[i].finish(call)
            self.tell("done", {"model": jobs[i].network.name, "done": done[i]})

        for i, job in enumerate(jobs):
            job.start()
            if not left[i]:
                finish(i)
        missing = [[part.name for part in job.missing] for job in jobs]
        for i, scored, seconds in self.pool.scored(recipes, missing) if self.pool else ():
            jobs[i].write(scored)
            jobs[i].seconds.add(seconds)
            self.tell("progress", jobs[i].progress(jobs[i].n))
            left[i] -= 1
            if not left[i]:
                finish(i)
        return [done[i] for i in range(len(jobs))]

    def close(self) -> None:
        """Let the workers go."""
        if self.pool is not None:
            self.pool.close()

    def _prepared(self, specs: Sequence[str]) -> tuple[list[Job], list[Recipe]]:
        """Return what is left of each model, without the network: there may be hundreds."""
        jobs: list[Job] = []
        recipes: list[Recipe] = []
        for spec in specs:
            network = find_model(spec, self.settings.classes)
            if any(job.network.name == network.name for job in jobs):
                raise _given_twice(spec)
            self._call_workers(network, len(specs))
            job = prepare(self.source, network, self.out, self.settings, self.tell)
            light = replace(network, module=None, forward=None)
            recipe = Recipe(spec, self.settings.classes, light, job.keep)
            if job.choice is not None:
                recipe = replace(recipe, **_sent(self.ray, job.choice, self.settings))
                job = replace(job, choice=replace(job.choice, engine=_Elsewhere.of(job.choice.engine)))
            recipes.append(recipe)
            jobs.append(replace(job, network=light))
        return jobs, recipes

    def _call_workers(self, network: Network, models: int) -> None:
        """Have workers come while the first engine is chosen: it takes as long, and tells how wide."""
        if self.pool is not None:
            return
        self.connect()
        machines = [machine["Resources"] for machine in self.ray.nodes() if machine["Alive"]]
        share = share_of(machines, network, self.settings.engine, self.settings.workers)
        self.pool = Pool(self.ray, self.source, share, models * len(self.source.parts))
        if self.settings.engine == "auto":
            self.pool.wait()  # they would be in the way of what is timed


def _given_twice(spec: str) -> InputError:
    return InputError("A model is given twice.", got=spec, do="leave one out")


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

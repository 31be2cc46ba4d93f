"""Several alterations of a source with one network, in one pass: each image is decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manyhot.predict.run import ModelRun
from manyhot.predict.scoring import score_parts
from manyhot.predict.sources import PartsTogether, SourcePart
from manyhot.run import OnEvent


def predict_alterations(jobs: Sequence[Sequence[ModelRun]], tell: OnEvent) -> Iterator[ModelRun]:
    """Predict what remains of several alterations of a source with one network, and write the parts.

    No core waits between runs, because all share one queue. The images of runs in the same group are read
    and decoded once, and fill the batches of the engine together.

    Parameters
    ----------
    jobs : sequence of sequence of ModelRun
        Groups of runs that alter the same images.
    tell : callable
        Receives progress events.

    Yields
    ------
    ModelRun
        Each run, as soon as all its parts are written.

    Raises
    ------
    InputError, SourceLostError
        See `score_together`.
    OutputError
        If the disk is full, or the folder cannot be written to.
    """
    yield from (job for group in jobs for job in group if not job.missing)
    together = [pairs for group in jobs for pairs in _by_part(group)]
    queue = [pair for pairs in together for pair in pairs]
    if not queue:
        return
    last, (first, _) = {id(job): part for job, part in queue}, queue[0]
    assert first.choice is not None
    n = 0

    def progress(done: int) -> None:
        nonlocal n
        n += done
        tell("progress", first.progress(n))

    for job in {id(job): job for job, _ in queue}.values():
        job.start()
    scored = score_parts(
        [PartsTogether(tuple(part for _, part in pairs)) for pairs in together],
        first.network,
        first.choice.engine,
        first.keep,
        seconds=first.seconds,
        progress=progress,
    )
    for (job, part), own in zip(queue, scored, strict=True):
        job.write(own)
        if part is last[id(job)]:
            yield job


def _by_part(jobs: Sequence[ModelRun]) -> Iterator[list[tuple[ModelRun, SourcePart]]]:
    """Yield the missing parts of runs; those that alter the same part are one list."""
    found: dict[str, list[tuple[ModelRun, SourcePart]]] = {}
    for job in jobs:
        for part in job.missing:
            found.setdefault(part.name, []).append((job, part))
    yield from found.values()

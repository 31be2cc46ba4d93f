"""The training loop: batches, loss, step. A killed run resumes, and ends with the same weights.

Nothing depends on hidden state: order, crops, mixing and dropout are functions of the seed, the epoch, the
step and the row of an image. A checkpoint therefore holds the weights and a number of steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from manyhot.errors import InputError, ManyhotError, UnknownNameError, did_you_mean
from manyhot.extras import required
from manyhot.files import alone, atomic_write
from manyhot.predict.weights import Trained, write_trained
from manyhot.registry import Entry
from manyhot.run import QUIET, Run
from manyhot.train.batches import Batch
from manyhot.train.checkpoints import (
    CHECKPOINTS,
    EVERY_STEPS,
    MODEL,
    Checkpoints,
    Logs,
    check_identity,
    save_state,
    write_identity,
    write_skipped_images,
)
from manyhot.train.devices import check_same_step, keep_memory, share_buffers, started, summed
from manyhot.train.feeds import Fed
from manyhot.train.losses import loss_of, made_memory
from manyhot.train.networks import start_of
from manyhot.train.recipe import Recipe
from manyhot.train.targets import Targets, Teacher, teacher
from manyhot.train.trained_part import PartInputs, TrainingData, Validation, check_best, is_better, parts_of

FEATURES = "features"
"""The folder of features in that of a run, until it is done: outputs of the layers that are not trained."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingJob:
    """The data, settings and folder of a training run.

    Attributes
    ----------
    save_every : float
        Seconds between two checkpoints.
    validation : Validation, optional
    identity : Mapping of str to Any
        Identity of the run, which consists of its recipe, labels, classes and source.
    notes : list of str
        The first lines of the log.
    """

    data: TrainingData
    recipe: Recipe
    out: Path
    save_every: float
    validation: Validation | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    run: Run = QUIET
    notes: list[str] = field(default_factory=list)


def fit(job: TrainingJob) -> Path:
    """Train a network, or resume a killed run, and return the file of the network.

    Raises
    ------
    ManyhotError
        If the input is invalid, if the loss is not finite, or if the memory or the disk is full.
    """
    path = job.out / MODEL
    check_best(job.recipe.best, job.validation)
    if path.is_file() and os.environ.get("WORLD_SIZE", "1") == "1":
        with alone(job.out):  # without Fabric, whose import takes 4 of 9 CPU seconds
            check_identity(job.out, job.identity)
            _remove_progress(job.out)
            return path
    fabric = started(job.recipe.precision)
    if fabric.device.type == "cpu":
        keep_memory()
    with alone(job.out) if fabric.is_global_zero else contextlib.nullcontext():
        if fabric.is_global_zero:
            check_identity(job.out, job.identity)
        if not path.is_file():
            with _naming_settings(job.recipe):
                _Run(job, fabric).go(path)
        elif fabric.is_global_zero:
            _remove_progress(job.out)
        fabric.barrier()
    return path


def _remove_progress(out: Path) -> None:
    """Remove what only an unfinished run needs; a run that is killed while it does so leaves it."""
    for folder in (CHECKPOINTS, FEATURES):  # shared features are in another folder
        shutil.rmtree(out / folder, ignore_errors=True)


class _Unread(NamedTuple):
    """A step whose loss was not read yet."""

    own: Tensor
    mean: Tensor
    batch: Batch
    step: int
    lr: float


class _Run:
    """A running training job."""

    def __init__(self, job: TrainingJob, fabric: Any) -> None:
        self.job, self.fabric, self.recipe = job, fabric, job.recipe
        self.checkpoints = Checkpoints(job.out)
        torch.manual_seed(job.recipe.seed)
        self.start = start_of(job.recipe, job.data.classes)
        self.loss, self.taught, self.memory = self._loss_parts()
        self.parts = parts_of(
            PartInputs(
                data=job.data,
                recipe=job.recipe,
                start=self.start,
                fabric=fabric,
                validation=job.validation,
                on_progress=self._progress,
            )
        )
        self.plan = self.parts.feed.plan
        optimiser = optimiser_of(self.recipe, self.start.module, self.memory, self.loss)
        self.module, self.optimiser = fabric.setup(self.parts.trained, optimiser)
        self.average = averaged(self.start.module, self.recipe.ema)
        self.step, self.total = 0, 0.0
        self.unread: _Unread | None = None
        self.rows: list[dict[str, Any]] = []
        self.best: float | None = None
        self.note = self._resume()
        check_same_step(fabric, self.step, job.out)

    def _loss_parts(self) -> tuple[Any, Teacher, dict[str, Tensor]]:
        recipe = self.recipe
        loss = loss_of(recipe.named_loss)
        if loss.about.get("memory") and self.fabric.world_size > 1:
            raise InputError(
                "The loss keeps a state for each image, which processes cannot share.",
                got=f"{recipe.named_loss}, {self.fabric.world_size} processes",
                do="train in one process, or use another loss",
            )
        if loss.about.get("memory") and (recipe.mixup or recipe.cutmix):
            raise InputError(
                "The loss keeps a state for each image, but a mixed image consists of two.",
                got=f"{recipe.named_loss}, mixup {recipe.mixup}, cutmix {recipe.cutmix}",
                do="set `mixup` and `cutmix` to 0, or use another loss",
            )
        taught = self.job.data.taught or teacher(
            self.job.data.labels, recipe.teach, ends=loss.about["ends"], not_asked=recipe.not_asked
        )
        return loss, taught, made_memory(loss, taught, recipe.seed)

    def _progress(self, done: int, of: int) -> None:
        self.job.run.event("features", {"model": self.recipe.model, "images": done, "of": of})

    def _resume(self) -> str:
        """Resume from the last checkpoint, if there is one; return a note for the log."""
        state, note = self.checkpoints.read()
        if state is None:
            return note
        self.start.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        with torch.no_grad():
            for name, value in state["memory"].items():
                self.memory[name].copy_(value)
        self.step, self.total, self.best = state["step"], state["total"], state["best"]
        self.rows = json.loads(state["rows"])
        return note or f"resuming from step {self.step:,}"

    def go(self, path: Path) -> None:
        """Run the remaining steps, and write the network."""
        steps, plan = self.recipe.epochs * self.plan.steps, self.plan
        first = self.fabric.is_global_zero
        logs = Logs(
            self.job.out if first else None,
            self.recipe.model,
            steps * plan.batch,
            step=self.step,
            done=self.step * plan.batch,
            on_event=self.job.run.on_event,
        )
        saved = time.monotonic()
        with logs, contextlib.closing(self._steps()) as taken:
            for note in self._notes():
                logs.note(note)
            for lr in taken:
                logs.progress(self.step * plan.batch)
                if self.step % EVERY_STEPS == 0:
                    logs.points(self.step, {"train/loss": self._read_loss(), "train/lr": lr})
                if self.step % plan.steps == 0:
                    self._end_epoch(logs, lr)
                if first and time.monotonic() - saved >= self.job.save_every and self.step < steps:
                    self._save()
                    saved = time.monotonic()
            if first:
                self._finish(path)

    def _notes(self) -> Iterator[str]:
        """Yield the first lines of the log."""
        several = self.fabric.world_size > 1
        parts = "each part of a batch" if self.recipe.accumulate > 1 else ""
        cut = "the part of a batch in each process" if several else parts
        if cut and self.loss.about.get("whole_batch"):
            named = self.recipe.named_loss
            yield f"{named} is defined on whole batches, but is computed here on {cut}"
        yield from filter(None, (*self.job.notes, *self.start.notes, self.parts.note, self.note))

    def _steps(self) -> Generator[float, None, None]:
        """Take steps; yield the rate of each.

        A loss is read when the next step has begun, so that a GPU always has work.
        """
        first, within = divmod(self.step, self.plan.steps)
        for epoch in range(first, self.recipe.epochs):
            for fed in self.parts.feed.epoch(epoch, within if epoch == first else 0):
                lr = self.recipe.lr * rate(self.step / self.plan.steps, self.recipe)
                for group in self.optimiser.param_groups:
                    group["lr"] = lr * group.get("lr_scale", 1.0)
                self._seed()
                own = self._step(fed, epoch)
                self._read_loss()
                # All processes stop if the loss of one is not finite.
                mean = summed(self.fabric, own.clone()) / self.plan.world
                self.unread = _Unread(own, mean, fed.batch, self.step, lr)
                self.step += 1
                yield lr
            write_skipped_images(self.job.out, self.job.data.ids, self.parts.skipped, self.plan.rank)

    def _read_loss(self) -> float:
        """Return the loss of the last step, and add it to the total. Stop if it is not finite."""
        last, self.unread = self.unread, None
        if last is None:
            return math.nan
        loss = float(last.mean)
        if not math.isfinite(loss):
            self._stop(last)
        self.total += loss
        return loss

    def _seed(self) -> None:
        """Seed dropout.

        Without CUDA, `torch.manual_seed` stores a traceback, which takes as long as a small optimiser.
        """
        words = np.random.SeedSequence([self.recipe.seed, self.step, self.plan.rank, 2]).generate_state(1)
        torch.default_generator.manual_seed(int(words[0]))
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(int(words[0]))

    def _step(self, fed: Fed, epoch: int) -> Tensor:
        """Take a step on a batch, and return its loss."""
        batch, n = fed.batch, len(fed.x)
        targets = self.taught.batch(
            batch.rows, epoch, self.memory, boxes=batch.boxes, mirrored=batch.mirrored
        ).to(self.fabric.device)
        if fed.mix is not None:
            targets = targets.mixed(fed.mix.order.to(targets.p.device), fed.mix.share.to(targets.p.device))
        parts = self.recipe.accumulate
        cuts = [n * part // parts for part in range(parts + 1)]
        self.optimiser.zero_grad()
        total = torch.zeros((), device=self.fabric.device)
        for start, end in itertools.pairwise(cuts):
            with self.fabric.no_backward_sync(self.module, enabled=end < n):
                logits = self.module(fed.x[start:end])
                value = self.loss(logits, _part(targets, start, end)) * ((end - start) / n)
                self.fabric.backward(value)
            total += value.detach()
        if self.recipe.clip:
            self.fabric.clip_gradients(
                self.module, self.optimiser, max_norm=self.recipe.clip, error_if_nonfinite=False
            )
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.start.module)
        return total

    def _stop(self, last: _Unread) -> None:
        """Save the batch whose loss is not finite."""
        out, ids, loss = self.job.out, self.job.data.ids, float(last.own)
        name = "bad-batch.npz" if self.plan.rank == 0 else f"bad-batch-{self.plan.rank}.npz"
        if math.isfinite(loss):
            raise InputError(
                "The loss is not finite in another process.",
                where=f"step {last.step:,}, learning rate {last.lr:.3g}",
                do=f"see its message, and the batch that it saves in {out}",
            )
        rows = last.batch.rows.tolist()
        with atomic_write(out / name) as part, part.open("wb") as file:
            np.savez(
                file,
                images=last.batch.images.cpu().numpy(),
                image_id=np.array([ids[row] for row in rows]),
                step=last.step,
                lr=last.lr,
                loss=loss,
            )
        raise InputError(
            "The loss is not finite.",
            where=f"step {last.step:,}, learning rate {last.lr:.3g}",
            got=loss,
            do=f"inspect the batch in {out / name}; then start again in another folder with a lower lr, more "
            "warmup, clip=1" + ("" if self.recipe.precision == "32-true" else ", or precision 32-true"),
        )

    def _end_epoch(self, logs: Logs, lr: float) -> None:
        """Write the row of an epoch."""
        self._read_loss()
        loss = self.total / self.plan.steps
        share_buffers(self.fabric, self._judged_module())
        found = self._judged()
        epoch = self.step // self.plan.steps
        row = {
            "epoch": epoch,
            "step": self.step,
            "images": self.step * self.plan.batch,
            "lr": lr,
            "loss": loss,
        }
        self.rows.append(row | {f"val_{name}": value for name, value in found.items()})
        self.total = 0.0
        logs.epochs(self.rows)
        logs.points(self.step, {f"val/{name}": value for name, value in found.items()})
        name = self.recipe.best
        if name and is_better(name, found[name], self.best):
            self.best = found[name]
            if self.fabric.is_global_zero:
                save_state(dict(self._judged_module().state_dict()), self.checkpoints.best)

    def _judged(self) -> dict[str, float]:
        if self.job.validation is None or self.parts.validator is None:
            return {}
        logits, good = self.parts.validator(self._judged_module())
        self.parts.stages.train()
        first = self.fabric.is_global_zero  # which has the logits of all
        found = self.job.validation.judged(logits, good, self.recipe.best) if first else {}
        return found if self.plan.world == 1 else dict(self.fabric.broadcast(found))

    def _judged_module(self) -> Any:
        """Return the module that is evaluated and written."""
        return self.start.module if self.average is None else self.average.module

    def _save(self) -> None:
        self._read_loss()  # no checkpoint after a step whose loss is not finite
        write_identity(self.job.out, self.job.identity)
        self.checkpoints.write(
            {
                "step": self.step,
                "total": self.total,
                "rows": json.dumps(self.rows),
                "best": self.best,
                "module": self.start.module.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "memory": {name: value.detach() for name, value in self.memory.items()},
            }
        )

    def _finish(self, path: Path) -> None:
        write_identity(self.job.out, self.job.identity)
        weights = dict(self._judged_module().state_dict())
        if self.recipe.best:
            self._write(weights, self.job.out / "last.safetensors")
            weights = torch.load(self.checkpoints.best, map_location="cpu", weights_only=True)
        self._write(weights, path)
        _remove_progress(self.job.out)

    def _write(self, weights: Mapping[str, Tensor], path: Path) -> None:
        about = {"recipe": self.recipe.to_dict(), "n": self.plan.n, "call": self.job.run.call}
        trained = Trained(
            architecture=self.start.architecture,
            options=self.start.options,
            classes=self.job.data.classes,
            ends=self.loss.about["ends"],
            preprocessing=self.start.preprocessing.to_dict(),
            weights=weights,
            about=about,
        )
        write_trained(trained, path)


def _part(targets: Targets, start: int, end: int) -> Targets:
    weight = None if targets.weight is None else targets.weight[start:end]
    return dataclasses.replace(targets, p=targets.p[start:end], weight=weight, rows=targets.rows[start:end])


@contextlib.contextmanager
def _naming_settings(recipe: Recipe) -> Iterator[None]:
    """Name the settings to lower if memory is insufficient."""
    try:
        yield
    except ManyhotError:
        raise
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in text:
            raise
        raise InputError(
            "A step does not fit into memory.",
            where=f"batch {recipe.batch}, accumulate {recipe.accumulate}",
            got=text.partition("\n")[0] or type(error).__name__,
            do="raise `accumulate` to compute the batch in more parts, lower `batch` or `size`, or set "
            "`precision` to bf16-mixed",
        ) from error


def optimiser_of(recipe: Recipe, module: Any, memory: Mapping[str, Tensor], loss: Entry) -> Any:
    """Return the optimiser of the trained weights, without weight decay of biases and norms.

    Raises
    ------
    UnknownNameError
        If timm has no such optimiser.
    """
    timm: Any = required("timm.optim", "Training", '"manyhot[train]"')
    known = timm.list_optimizers()
    if recipe.optimiser not in known:
        raise UnknownNameError(
            f"timm has no optimiser {recipe.optimiser!r}.",
            allowed=", ".join(known),
            do=did_you_mean(recipe.optimiser, known, show=str),
        )
    optimiser = timm.create_optimizer_v2(
        module, recipe.optimiser, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
    )
    learned = [value for value in memory.values() if value.requires_grad]
    if learned:
        scale = loss.about.get("memory_lr", 1.0)
        optimiser.add_param_group({"params": learned, "weight_decay": 0.0, "lr_scale": scale})
    return optimiser


def rate(done: float, recipe: Recipe) -> float:
    """Return the learning rate after a number of epochs, as a share of its maximum.

    The cosine is that of Loshchilov & Hutter 2017 (https://doi.org/10.48550/arXiv.1608.03983), equation 5,
    without restarts. The warmup is linear, as in Goyal et al. 2017
    (https://doi.org/10.48550/arXiv.1706.02677).
    """
    if done < recipe.warmup:
        return max(done, 1e-3) / recipe.warmup
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return float(0.1 ** min(int(3 * done / recipe.epochs), 2))
    share = (done - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * share))


def averaged(module: Any, decay: float) -> Any:
    """Return the moving average of a module's weights, or None if the decay is 0.

    After n steps, the decay is at most (1 + n) / (10 + n), so that the average of a short run does not stay
    close to the initial weights.
    """
    if not decay:
        return None

    def move(averages: Any, values: Any, _: Any) -> None:
        n = int(average.n_averaged)  # on the CPU: the third argument would have to come from a GPU
        own = 1 - min(decay, (1 + n) / (10 + n))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, own)
        else:
            torch._foreach_copy_(averages, values)

    average = torch.optim.swa_utils.AveragedModel(
        module, multi_avg_fn=torch.no_grad()(move), use_buffers=True
    )
    return average

import pytest

import toys
from manyhot.run import Run
from manyhot.study import study as studies
from manyhot.study.runner import StepEvent
from manyhot.study.study_file import Opening
from manyhot.train import train as train_module


@pytest.fixture
def trainer(monkeypatch):
    """Networks are trained by nobody, in no time."""
    trainer = toys.Trainer()
    monkeypatch.setattr("os.fsync", lambda _: None)  # hundreds of small files a study: 25 s of 31
    monkeypatch.setattr(train_module, "train", trainer)
    return trainer


@pytest.fixture
def given(monkeypatch, tmp_path):
    """Run a study that is given as it is, not as a file; in a folder of its own."""
    opening = Opening("Do sets help?", "manyhot study toy.py", "a second", "they do")

    def run(study, **options):
        monkeypatch.setattr(studies, "read_study", lambda path: (study, opening))
        told = []

        def on_event(kind, values):
            if kind == "step":
                told.append(StepEvent(**values))

        toy, call = tmp_path / "toy.py", options.pop("call", "")
        done = studies.run_studies(toy, out=tmp_path / "out", run=Run(call, on_event=on_event), **options)
        return done.answers[0], told

    return run

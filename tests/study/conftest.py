import pytest

import toys
from manyhot.study import study as studies
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
        answer = studies.run_study(tmp_path / "toy.py", tmp_path / "out", on_step=told.append, **options)
        return answer, told

    return run

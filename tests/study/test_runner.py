"""The grid of runs: what is made once, made again, gone on with, and what fails."""

import dataclasses
import itertools
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import toys
from manyhot import tables
from manyhot.errors import InputError, MatchError, MissingExtraError, OutputError
from manyhot.study import Arm, Measurement, Net, RunMeasure, StudyDataSet
from manyhot.study.plan import open_study_folder, runs_of
from manyhot.study.runner import BuildRecord, Clock
from toys import study


def steps(told, kind="done"):
    return [(t.what, t.step) for t in told if t.kind == kind]


def changed(**given):
    """Return the study with some of its parts made of others of the same name."""
    toy = study()
    for kind in ("arms", "data_sets", "networks", "measures"):
        if kind in given:
            old = toy.measures if kind == "measures" else getattr(toy.grid, kind)
            given[kind] = tuple(next((n for n in given[kind] if n.name == o.name), o) for o in old)
    return study(**given)


def test_each_run_is_trained_and_measured_once(given, trainer):
    answer, told = given(study())
    assert len(trainer.calls) == 18
    assert answer.failed == 0
    assert len(steps(told)) == 2 + 18 + 18
    assert told[-1].done == told[-1].of == 18
    again, told = given(study())
    assert (len(trainer.calls), told) == (18, [])
    assert again.effects.equals(answer.effects)


def test_arms_come_after_those_that_they_want(given, trainer, tmp_path):
    runs = runs_of(study().grid, tmp_path)
    assert [r.arm for r in runs[:9]] == ["label"] * 3 + ["cleaned"] * 3 + ["sets"] * 3
    given(study())
    made = json.loads((tmp_path / "out/runs/voc/small/cleaned/seed-2/run.json").read_text())
    assert list(made["labels"]["parts"]["wants"]) == ["label/seed-0", "label/seed-1", "label/seed-2"]


def test_settings_of_networks_data_sets_arms_and_smoke(given, trainer):
    toy = study(data_sets=(StudyDataSet("voc", "", toys.make, {"size": 48, "epochs": 5}),))
    given(toy, only=["sets"])
    shared = {"model": "timm/test_resnet", "size": 48, "teach": "sets"}
    assert trainer.calls[0] == shared | {"epochs": 5, "seed": 0}
    assert [call["seed"] for call in trainer.calls] == [0, 1, 2]


def test_smoke_runs_are_small_have_two_seeds_and_a_folder_of_their_own(given, trainer, tmp_path):
    answer, _ = given(study(), smoke=True)
    assert {call["epochs"] for call in trainer.calls} == {1}
    assert answer.study.grid.seeds == (0, 1)
    assert (tmp_path / "out/data/voc/images.parquet").read_bytes() == b"pictures"
    assert '<p class="warning">This was a smoke run' in answer.page.read_text()
    with pytest.raises(MatchError) as error:
        given(study())
    assert str(error.value) == (
        f"The folder contains studies in smoke runs.\n  where:   {tmp_path / 'out'}\n"
        "  do:      choose another folder with `out`"
    )


def test_intervals_over_seeds_alone_are_named(given, trainer):
    """Without resamples there is no error over images, and not an error of 0."""

    def take(run):
        return [dataclasses.replace(m, replicates=None) for m in toys.take(run)]

    measures = (RunMeasure("bare", "Judged.", take, (toys.METRIC,)),)
    answer, _ = given(study(measures=measures))
    (doubt,) = answer.doubts
    assert doubt.startswith(
        "map: measured without resamples of the images, so intervals are computed over seeds alone"
    )
    assert f"Note: {doubt}." in answer.lines()
    assert doubt in answer.page.read_text()
    assert set(answer.effects["error_images"].to_pylist()) == {None}
    whole, _ = given(study(name="whole"))
    assert not whole.doubts
    assert None not in whole.effects["error_images"].to_pylist()


def test_undefined_values_are_counted(given, trainer):
    """Where nothing is known of a claim, the answer says how many runs were measured, and what they gave."""

    def take(run):
        return [Measurement("map", float("nan"), 0)]

    measures = (RunMeasure("judged", "Judged.", take, (toys.METRIC,)),)
    answer, _ = given(study(measures=measures))
    assert answer.doubts == ("map is undefined in 18 of 18 measurements (n 0)",)


def test_two_studies_at_once_share_a_folder_and_no_data_set(given, trainer, tmp_path):
    (tmp_path / "out/runs/voc").mkdir(parents=True)
    (tmp_path / "out/grid.json").write_text('{"smoke": false}')
    with FileLock(tmp_path / "out/runs/voc/.lock"):
        with pytest.raises(OutputError) as error:
            given(study())
        assert str(error.value) == (
            "Another run is using this folder.\n"
            f"  where:   {tmp_path / 'out/runs/voc'}\n"
            "  do:      wait until it ends, or choose another `out`"
        )
        assert trainer.calls == []
        given(study(), only=["cifar"])
    assert len(trainer.calls) == 9
    given(study())
    assert len(trainer.calls) == 18


def test_many_begin_in_a_new_folder_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for i in range(20):
            list(pool.map(lambda _, out=tmp_path / str(i): open_study_folder(out, False), range(8)))
            assert sorted(path.name for path in (tmp_path / str(i)).iterdir()) == [".lock", "grid.json"]


def test_a_folder_of_something_else_is_refused(given, trainer, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/campaign.json").write_text("{}")
    with pytest.raises(MatchError) as error:
        given(study())
    assert str(error.value) == (
        f"The folder contains files, but no studies.\n  where:   {tmp_path / 'out'}\n"
        "  do:      choose another folder with `out`"
    )


def test_seeds_can_be_fewer_or_more(given, trainer):
    assert given(study(seeds=(5, 1, 0)), seeds=2)[0].study.grid.seeds == (5, 1)
    assert given(study(seeds=(5, 1, 0)), seeds=5)[0].study.grid.seeds == (5, 1, 0, 2, 3)
    with pytest.raises(InputError) as error:
        given(study(), seeds=1)
    assert str(error.value) == "`seeds` is out of range.\n  got:     1\n  allowed: 2 or more"


def test_only_some_are_run_with_what_they_want(given, trainer):
    answer, told = given(study(), only=["voc", "cleaned"])
    assert {(what.split("/")[0], what.split("/")[2]) for what, step in steps(told) if step == "training"} == {
        ("voc", "label"),
        ("voc", "cleaned"),
    }
    assert answer.failed == 0
    assert {u.reason for u in answer.undone} == {"not chosen"}
    assert answer.sentences[0] == "Not run: sets against label in mAP."
    with pytest.raises(InputError) as error:
        given(study(), only=["coco"])
    assert str(error.value) == (
        "The grid has no data set, network or arm with this name.\n  got:     'coco'\n"
        "  allowed: cifar, voc, small, cleaned, label, sets"
    )


@pytest.mark.parametrize(
    ("change", "trained", "measured", "said"),
    [
        ({"measures": (RunMeasure("judged", "", toys.take, (toys.METRIC,), version=2),)}, 0, 18, "version"),
        ({"networks": (Net("small", "", {"model": "timm/test_vit"}),)}, 18, 18, "settings"),
        # Labels that were cleaned with these networks change with them.
        ({"arms": (Arm("label", "", toys.truth, {"teach": "label", "lr": 0.1}),)}, 12, 12, "settings"),
        ({"arms": (Arm("sets", "", toys.truth, {"teach": "sets"}, version=2),)}, 6, 6, "version"),
        ({"data_sets": (StudyDataSet("voc", "", lambda f, s: toys.make(f, True)),)}, 0, 0, ""),
        (
            {"data_sets": (StudyDataSet("voc", "", lambda f, s: toys.make(f, True), version=2),)},
            9,
            9,
            "version",
        ),
    ],
)
def test_a_change_makes_again_what_it_is_about_and_says_so(given, trainer, change, trained, measured, said):
    given(study())
    trainer.calls.clear()
    _, told = given(changed(**change))
    assert len(trainer.calls) == trained
    assert sum(step == "judged" for _, step in steps(told)) == measured
    assert [t.reason for t in told if t.kind == "again"][:1] == ([said] if said else [])


def test_the_same_answer_however_often_it_is_stopped(given, trainer, monkeypatch, tmp_path):
    """A study is stopped after each of its 38 steps in turn, and goes on; as one that was not."""
    wanted, _ = given(study())
    pages = {path.name: path.read_bytes() for path in wanted.written}
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    left = itertools.count(1)
    stopped = 0

    def stopping(act):
        def run(*args, **kwargs):
            made = act(*args, **kwargs)
            if next(left) % 2:
                raise KeyboardInterrupt
            return made

        return run

    from manyhot.train import train as train_module

    monkeypatch.setattr(train_module, "train", stopping(trainer))
    toy = changed(measures=(RunMeasure("judged", "Judged.", stopping(toys.take), (toys.METRIC,)),))
    while True:
        try:
            answer, _ = given(toy)
            break
        except KeyboardInterrupt:
            stopped += 1
    assert stopped > 30
    assert answer.effects.equals(wanted.effects)
    tables_of = {path.name: path.read_bytes() for path in answer.written if path.suffix != ".html"}
    assert tables_of == {name: pages[name] for name in tables_of}


def test_a_training_that_was_stopped_finds_its_checkpoints(given, trainer, monkeypatch):
    """Unless what it is trained on has changed meanwhile."""
    found = []

    def stopped(source, labels, out, **options):
        found.append(sorted(p.name for p in out.glob("*")))
        out.mkdir(parents=True, exist_ok=True)
        (out / "checkpoint").write_text("")
        raise KeyboardInterrupt

    from manyhot.train import train as train_module

    monkeypatch.setattr(train_module, "train", stopped)
    other = changed(networks=(Net("small", "", {"model": "timm/test_vit"}),))
    for toy in (study(), study(), other):
        with pytest.raises(KeyboardInterrupt):
            given(toy)
    assert found == [[], ["checkpoint"], []]


def test_what_fails_is_told_and_stops_nothing_else(given, trainer, tmp_path):
    def broken(run):
        if run.seed == 1:
            raise RuntimeError("no numbers\nhere")
        return toys.take(run)

    toy = changed(
        arms=(Arm("label", "", lambda run: run.folder / "absent.parquet"),),
        measures=(RunMeasure("judged", "Judged.", broken, (toys.METRIC,)),),
    )
    answer, told = given(toy)
    failed = {(t.what, t.step): t.reason for t in told if t.kind == "failed"}
    assert answer.failed == len(failed) == 14
    said = "the labels file of the arm does not exist: absent.parquet"
    assert failed["voc/small/label/seed-0", "labels"] == said
    assert failed["voc/small/cleaned/seed-0", "labels"] == "the arm label was not trained with seed 0"
    assert failed["voc/small/sets/seed-1", "judged"] == "RuntimeError: no numbers"
    trace = (tmp_path / "out/runs/voc/small/sets/seed-1/failed.txt").read_text()
    assert "no numbers\nhere" in trace
    page = answer.page.read_text()
    assert "voc/small/sets/seed-1 and cifar/small/sets/seed-1: judged: RuntimeError: no numbers" in page
    assert answer.sentences[0] == "Not run: sets against label in mAP."
    again, _ = given(study())
    assert again.failed == 0
    assert not (tmp_path / "out/runs/voc/small/sets/seed-1/failed.txt").exists()


def test_what_cannot_be_measured_across_runs_stops_nothing_else(given, trainer):
    def ranked(rows):
        if rows[0].seed == 2:
            raise KeyError("ap")
        return toys.agreement(rows)

    toy = study()
    across = dataclasses.replace(toy.measures[1], take=ranked)
    answer, told = given(study(measures=(toy.measures[0], across)))
    failed = [(t.what, t.step, t.reason) for t in told if t.kind == "failed"]
    assert failed == [(f"{name}, seed 2", "agree", "KeyError: 'ap'") for name in ("voc", "cifar")]
    assert (answer.failed, len(answer.effects)) == (2, 6)
    assert "voc, seed 2 and cifar, seed 2: agree: KeyError: &#39;ap&#39;" in answer.page.read_text()


def lacking(run):
    raise ModuleNotFoundError("No module named 'captum'", name="captum")


def refusing(run):
    raise MissingExtraError("This needs captum, which cannot be imported.", got="No module named 'captum'")


@pytest.mark.parametrize("lacks", [lacking, refusing])
def test_an_extra_that_is_not_installed_ends_the_study(given, trainer, lacks):
    """It would fail each run; once it is there, the study goes on."""
    with pytest.raises(MissingExtraError) as error:
        given(changed(measures=(RunMeasure("judged", "", lacks, (toys.METRIC,)),)))
    assert str(error.value).startswith(
        "This needs captum, which cannot be imported.\n  got:     No module named 'captum'"
    )
    assert given(study())[0].failed == 0


def test_a_data_set_that_cannot_be_made_fails_its_runs_alone(given, trainer):
    def absent(folder, smoke):
        raise InputError("The photographs are not there.", where=folder, got="nothing")

    answer, told = given(changed(data_sets=(StudyDataSet("voc", "", absent),)))
    failed = [t for t in told if t.kind == "failed"]
    assert len(failed) == 9
    assert {(t.step, t.reason) for t in failed} == {
        ("data set", "The photographs are not there. Got nothing.")
    }
    rows = answer.effects.to_pylist()
    assert [(r["claim"], r["dataset"]) for r in rows] == [
        ("sets", None),
        ("sets", "cifar"),
        ("cleaned", None),
        ("cleaned", "cifar"),
    ]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        (
            [Measurement("ap", 0.5, 3)],
            "The measure 'judged' returns a metric that it does not declare. Got ap.",
        ),
        ([Measurement("map", 0.5, 3)] * 2, "The measure 'judged' returns a value twice. Got map, all."),
    ],
)
def test_measures_that_do_not_keep_to_what_they_name(given, trainer, numbers, reason):
    _, told = given(changed(measures=(RunMeasure("judged", "", lambda run: numbers, (toys.METRIC,)),)))
    assert {t.reason for t in told if t.kind == "failed"} == {reason}


def test_resamples_of_different_numbers_are_refused(given, trainer):
    def uneven(run):
        return [Measurement("map", 0.5, 3, replicates=np.zeros(10 + (run.arm == "sets")))]

    with pytest.raises(InputError) as error:
        given(changed(measures=(RunMeasure("judged", "", uneven, (toys.METRIC,)),)))
    assert str(error.value) == (
        "The runs of a data set have different numbers of resamples.\n"
        "  where:   voc/small/sets/seed-0, judged, map\n  got:     11\n  allowed: 10\n"
        "  do:      use the same resamples of the images for all runs, and increase the measure's version"
    )


def test_a_file_of_numbers_can_be_read_without_us(given, trainer, tmp_path):
    given(study())
    found = tables.read(tmp_path / "out/runs/voc/small/sets/seed-0/measures/judged.parquet", "measured")
    assert found["metric"].to_pylist() == ["map", "map"]
    assert len(found["replicates"][0]) == 50
    assert found["replicates"][1].as_py() is None


def test_time_left_is_of_the_same_work_then_of_the_most_alike():
    clock = Clock()
    clock.left.update({("training", "voc", "a"): 3, ("training", "coco", "a"): 1, ("judged", "voc", "b"): 1})
    assert clock.seconds_left() is None
    clock.done(("training", "voc", "a"), 10)
    assert clock.seconds_left() == 2 * 10 + 10 + 10
    clock.done(("training", "coco", "a"), 30)
    clock.done(("training", "voc", "a"), None)
    assert clock.seconds_left() == 10 + 20


def test_a_broken_note_of_what_is_done_is_as_none(tmp_path):
    path = tmp_path / "run.json"
    for text in ("", "[1]", "{", '{"a": 3}'):
        path.write_text(text)
        assert BuildRecord.read(path).made == {}
    kept = BuildRecord(path)
    kept.note("labels", {"data": "x", "wants": {}}, seconds=1)
    assert BuildRecord.read(path).changed("labels", {"data": "y", "wants": {}}) == ("data",)
    assert BuildRecord.read(path).changed("training", {}) is None
    assert dataclasses.asdict(BuildRecord.read(path)) == dataclasses.asdict(kept)


@pytest.mark.slow
def test_a_study_that_is_killed_at_any_moment_goes_on(tmp_path):
    script = Path(toys.__file__).with_name("killing_studies.py")
    kills = []
    for name, *more in (("killed",), ("whole", "whole")):
        command = [sys.executable, script, tmp_path / name, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kills.append(int(done.stdout))
    assert 5 < kills[0] < 200
    assert kills[1] == 0
    for table in ("runs", "means", "effects"):
        one, other = (
            (tmp_path / name / f"results/toy/{table}.csv").read_bytes() for name in ("killed", "whole")
        )
        assert one == other
    models = [
        sorted(p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("model.safetensors"))
        for name in ("killed", "whole")
    ]
    assert models[0] == models[1]
    assert len(models[0]) == 6

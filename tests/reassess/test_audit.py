"""An audit: images drawn at random, as a campaign that opens in the app."""

import json
import shlex
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli, tables, write_labels
from manyhot.errors import InputError, OutputError
from manyhot.formats import read_golden
from manyhot.reassess import audit as audit_module
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.app.store import Vote
from manyhot.reassess.audit import audit
from manyhot.reassess.export_votes import export_votes
from manyhot.reassess.status import campaign_status
from manyhot.tables import Campaign
from manyhot.tables.audit_samples import draw_sample, read_audit_sample

N, CLASSES = 60, 4


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Write what manyhot predict writes: images without labels, and two models."""
    monkeypatch.chdir(tmp_path)
    Path("classes.txt").write_text("cat\ndog\ncow\nhen\n")
    names = [f"{n:02}.png" for n in range(N)]
    picture = tmp_path / "picture.png"
    Image.new("RGB", (40, 30), (60, 0, 0)).save(picture)
    write_images(names, {"uri": [str(picture)] * N})
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        top = np.stack([rng.permutation(CLASSES)[:2] for _ in names])
        predictions = tables.Predictions(pa.array(names), name, top, n_classes=CLASSES)
        tables.write_predictions(predictions, f"predictions/{name}.parquet")
    return tmp_path


def write_images(names, columns):
    Path("predictions").mkdir(exist_ok=True)
    pq.write_table(pa.table({"image_id": names} | columns), "predictions/images.parquet")


def draw(**more):
    return audit("predictions", classes="classes.txt", **{"size": 20, "out": "audit", "seed": 0} | more)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def message(kind, make, **more):
    with pytest.raises(kind) as error:
        make(**more)
    return str(error.value)


def answer_all(store, name):
    """Let a rater say yes to everything; return the images in the order in which they were shown."""
    who, shown, given = store.invited(store.invite(name)), [], 0
    while visits := store.queue(who).visits:
        shown.append(visits[0].name)
        for c in visits[0].shown:
            given += 1
            store.store(who, [Vote(f"{name}-{given:05d}", visits[0].key, c, 2)])
    return shown


@pytest.mark.parametrize("design", ["uniform", "size", "active", "differences"])
def test_the_folder_is_a_campaign_with_the_drawn_images(photos, design):
    done = draw(design=design)
    campaign, drawn = Campaign.read("audit"), read_audit_sample("audit/audit_sample.parquet")
    assert done.is_new
    assert campaign.n_images == len(drawn) == 20
    assert len(drawn.image_id) == N
    ids = sorted(drawn.drawn.to_pylist())
    assert tables.read("audit/images.parquet", "images")["image_id"].to_pylist() == ids
    assert set(tables.read("audit/proposals.parquet", "proposals")["image_id"].to_pylist()) == set(ids)
    for name in ("one", "two"):
        own = tables.read(f"audit/predictions/{name}.parquet", "predictions")
        whole = tables.read(f"predictions/{name}.parquet", "predictions")
        rows = [whole["image_id"].to_pylist().index(i) for i in ids]
        assert own["classes"].to_pylist() == whole["classes"].take(rows).to_pylist()


def test_questions_are_the_best_class_of_each_model(photos):
    draw(rule="union")
    asked = tables.read("audit/proposals.parquet", "proposals").to_pylist()
    pairs = {(r["image_id"], r["class_id"]) for r in asked}
    expected = set()
    for name in ("one", "two"):
        rows = tables.read(f"audit/predictions/{name}.parquet", "predictions").to_pylist()
        expected |= {(r["image_id"], r["classes"][0]) for r in rows}
    assert pairs == expected
    draw(rule="union(k=2)", out="more")
    more = tables.read("more/proposals.parquet", "proposals")
    assert len(more) > len(pairs)
    draw(out="default")  # at most five classes, and as many as are listed
    assert tables.read("default/proposals.parquet", "proposals").equals(more)


def test_classes_of_label_sets_are_asked_about_too(photos):
    """Label sets that models propose: a class that nobody asks about would count as not valid."""
    top = draw(out="top").sample.drawn.to_pylist()
    sets = "".join(f"{n:02}.png,{c},yes\n" for n in range(N) for c in (0, 3))
    Path("sets.csv").write_text(f"image_id,class_id,state\n{sets}")
    audit("sets.csv", ["predictions"], classes="classes.txt", size=20, out="audit", seed=0)
    asked = {
        folder: {
            (r["image_id"], r["class_id"])
            for r in tables.read(f"{folder}/proposals.parquet", "proposals").to_pylist()
        }
        for folder in ("top", "audit")
    }
    assert read_audit_sample("audit/audit_sample.parquet").drawn.to_pylist() == top
    assert asked["audit"] == asked["top"] | {(i, c) for i in top for c in (0, 3)}


def test_an_images_table_without_labels_and_arrays(photos):
    """Photographs and scores are enough: of an audit, nothing else is known."""
    names = [f"{n:02}.png" for n in range(N)]
    Path("images.csv").write_text(
        "image_id,uri\n" + "".join(f"{n},{photos / 'picture.png'}\n" for n in names)
    )
    Path("files.txt").write_text("\n".join(names))
    rng = np.random.default_rng(1)
    for name in ("one", "two"):
        np.save(f"{name}.npy", rng.random((N, CLASSES)).astype(np.float32))
    options = {"rows": "files.txt", "classes": "classes.txt", "scores": "probability"}
    made = audit(
        "images.csv", ["one.npy", "two.npy"], size=40, seed=0, out="audit", rule="union(k=4)", **options
    )
    assert (len(made.sample), made.n_questions) == (40, 160)
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer_all(annotation.store, "ann")
    export_votes("audit")
    write_labels(aggregate("audit", method="majority", resamples=0).labels, "audit/labels.parquet")
    found = mh.evaluate("images.csv", ["one.npy", "two.npy"], audited="audit", **options)
    # Every class was said to be there, of each of 40 images, and the estimate is of all 60.
    assert found.value("map_image", model="one") == pytest.approx(1)
    assert found.results["n_audited"].to_pylist()[0] == 40


def test_raters_answer_the_images_in_the_order_of_the_sample(photos):
    drawn = draw().sample.drawn.to_pylist()
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        assert answer_all(annotation.store, "ann") == drawn
    export_votes("audit")
    labels = aggregate("audit", method="majority", resamples=0).labels
    assert sorted(labels.image_id.to_pylist()) == sorted(drawn)
    write_labels(labels, "audit/labels.parquet")
    next_step = campaign_status("audit")
    assert (next_step.next_step, next_step.command) == (
        "estimate metrics over all images from people's label sets of the sample",
        "manyhot evaluate DATASET --audited audit --out audit/results",
    )
    mh.evaluate("predictions", audited="audit", classes="classes.txt").write("audit/results")
    next_step = campaign_status("audit")
    assert (next_step.next_step, next_step.command) == (
        "look at the report, and see how many more images a question needs",
        "python -m webbrowser audit/results/report/index.html\nmanyhot plan audit --width 0.02",
    )


def test_status_names_the_data_that_the_audit_was_drawn_from(photos):
    line = "audit a.csv --predictions predictions --seed=3 --classes classes.txt --size 20 --out 'my audit'"
    Path("a.csv").write_text("image_id,uri\n" + "".join(f"{n:02}.png,picture.png\n" for n in range(N)))
    assert CliRunner().invoke(cli.app, shlex.split(line)).exit_code == 0
    file = Path("my audit/campaign.json")  # in a test, the command line is that of pytest
    file.write_text(json.dumps(json.loads(file.read_text()) | {"call": f"manyhot {line}"}))
    with open_annotation("my audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        answer_all(annotation.store, "ann")
    export_votes("my audit")
    write_labels(aggregate("my audit", method="majority", resamples=0).labels, "my audit/labels.parquet")
    command = campaign_status("my audit").command
    assert command == (
        "manyhot evaluate a.csv --predictions predictions --classes classes.txt --audited 'my audit' "
        "--out 'my audit'/results"
    )
    assert CliRunner().invoke(cli.app, shlex.split(command)[1:]).exit_code == 0


def test_golden_images_are_outside_of_the_sample_and_answered_by_an_expert(photos):
    done = draw(golden_images=5)
    golden = tables.read("audit/golden/images.parquet", "images")["image_id"].to_pylist()
    assert len(golden) == done.n_golden == 5
    assert not set(golden) & set(done.sample.drawn.to_pylist())
    with open_annotation("audit/golden", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        assert sorted(answer_all(annotation.store, "expert")) == golden
    written = export_votes("audit/golden", golden="audit/golden.parquet").written
    assert [str(p) for p in written] == ["audit/golden/votes.parquet", "audit/golden.parquet"]
    assert sorted(set(read_golden("audit/golden.parquet").experts.images.to_pylist())) == golden
    settings = CampaignSettings(raters=1, qualify=2, golden_every=0, least_seconds=0)
    with open_annotation("audit", settings=settings) as annotation:
        shown = answer_all(annotation.store, "ann")
    assert set(shown[:2]) <= set(golden)
    assert shown[2:] == done.sample.drawn.to_pylist()
    export_votes("audit")
    labels = aggregate("audit", method="majority", resamples=0).labels
    assert sorted(labels.image_id.to_pylist()) == sorted(done.sample.drawn.to_pylist())


def test_golden_images_without_answers_are_not_asked_about(photos):
    done = draw(golden_images=5)
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        assert answer_all(annotation.store, "ann") == done.sample.drawn.to_pylist()


def test_the_draw_does_not_depend_on_the_models(photos):
    """The golden images and the order of the pages neither; with a uniform design, nothing does."""
    first = draw(golden_images=5)
    second = draw(golden_images=5, models=["one"], out="one")
    assert first.sample.drawn.equals(second.sample.drawn)
    images = [tables.read(f"{f}/golden/images.parquet", "images") for f in ("audit", "one")]
    assert images[0].equals(images[1])


def test_pages_come_in_an_order_that_does_not_depend_on_the_models():
    """Images that a design draws four times as often are, over many seeds, as late as the others."""
    likely = np.arange(100) < 50
    p = np.where(likely, 0.32, 0.08)
    ids = pa.array([f"{i:02}" for i in range(100)])
    place = []
    for seed in range(400):
        drawn = np.array(draw_sample(ids, p, "active", seed).drawn.to_pylist(), int)
        place.append(np.mean([n for n, i in enumerate(drawn) if likely[i]]) - (len(drawn) - 1) / 2)
    error = np.std(place, ddof=1) / 20
    assert abs(np.mean(place)) < 3 * error < 0.5


def test_golden_images_depend_on_the_sample_and_the_seed_alone(photos):
    """Whatever the design: from the images outside of the sample, with a seed of their own."""
    done = draw(golden_images=5, design="active", seed=4)
    drawn = set(done.sample.drawn.to_pylist())
    others = [name for name in (f"{i:02}.png" for i in range(N)) if name not in drawn]
    golden = sorted(others, key=lambda name: sha256(f"4:golden:{name}".encode()).digest())[:5]
    made = tables.read("audit/golden/images.parquet", "images")["image_id"].to_pylist()
    assert made == sorted(golden)


def test_examples_come_from_all_images(photos):
    write_images(
        [f"{n:02}.png" for n in range(N)], {"uri": ["picture.png"] * N, "label": [n % 4 for n in range(N)]}
    )
    draw()
    assert len(tables.read("audit/examples.parquet", "images")) == N
    with open_annotation("audit", settings=CampaignSettings(raters=1, least_seconds=0)) as annotation:
        (examples,) = annotation.store.examples([0]).values()
    assert len(examples) == N // 4


def test_the_same_again_changes_nothing(photos):
    draw()
    before = contents("audit")
    assert not draw().is_new
    assert contents("audit") == before


def test_each_audit_has_a_seed_of_its_own_and_keeps_it(photos):
    """A sample that is known before the draw, or shared with another audit, is not random."""
    first, other = draw(seed=None, golden_images=5), draw(seed=None, golden_images=5, out="other")
    assert first.sample.seed != other.sample.seed
    assert not first.sample.drawn.equals(other.sample.drawn)
    before = contents("audit")
    again = draw(seed=None, golden_images=5)
    assert (again.is_new, again.sample.seed) == (False, first.sample.seed)
    assert not draw(seed=first.sample.seed, golden_images=5).is_new
    assert contents("audit") == before
    assert read_audit_sample("audit/audit_sample.parquet").seed == first.sample.seed


def test_an_audit_that_numpy_drew_is_the_same_again(photos, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(audit_module, "_randomness", lambda *_: (3, "numpy"))
        assert draw(seed=None).is_new
    before = contents("audit")
    assert not draw(seed=None).is_new
    assert not draw(seed=3).is_new
    assert contents("audit") == before


@pytest.mark.parametrize("change", [{"size": 21}, {"seed": 1}, {"rule": "union"}, {"golden_images": 3}])
def test_another_audit_is_not_written_over(photos, change):
    draw()
    before = contents("audit")
    assert message(InputError, draw, **change) == (
        "The folder contains another campaign.\n"
        "  where:   audit\n"
        "  got:     made by: unknown; changed since: audit sample\n"
        "  allowed: the same images, classes and predictions, or a new folder\n"
        "  do:      choose another folder; a sample is never replaced, because one chosen from several "
        "samples is not random"
    )
    assert contents("audit") == before


def test_a_folder_with_other_files_is_refused(photos):
    Path("audit").mkdir()
    Path("audit/notes.txt").write_text("mine")
    assert message(InputError, draw) == (
        "The folder contains other files.\n"
        "  where:   audit\n"
        "  allowed: a new or empty folder\n"
        "  do:      choose another folder"
    )
    assert contents("audit") == {"notes.txt": b"mine"}


def test_a_run_that_is_stopped_leaves_nothing(photos, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(audit_module, "write_audit_sample", stop)
        with pytest.raises(KeyboardInterrupt):
            draw()
    assert not list(photos.glob("*audit*"))
    assert draw().is_new


@pytest.mark.parametrize("is_there", [False, True])
def test_two_runs_at_once_lose_nothing(photos, monkeypatch, is_there):
    if is_there:
        Path("audit").mkdir()
    write, first = audit_module.write_audit_sample, []

    def overtaken(*arguments, **options):
        if not first:
            first.append({})
            draw(seed=5)
            first[0] = whole()
        return write(*arguments, **options)

    def whole():
        return {name: data for name, data in contents("audit").items() if ".part/" not in name}

    monkeypatch.setattr(audit_module, "write_audit_sample", overtaken)
    assert message(OutputError, draw) == (
        "Another run has written to the folder in the meantime.\n"
        "  where:   audit\n"
        "  do:      choose another folder; what the other run wrote is unchanged"
    )
    assert contents("audit") == first[0]


def test_more_images_than_there_are(photos):
    assert message(InputError, draw, size=61) == (
        "`size` is larger than the number of images.\n  got:     61\n  allowed: 2 to 60"
    )
    assert message(InputError, draw, size=58, golden_images=5) == (
        "There are too few images outside the sample.\n"
        "  got:     5 images for golden questions\n"
        "  allowed: at most 2\n"
        "  do:      draw fewer images with `size` or `golden_images`"
    )


def test_rules_that_cannot_be_used(photos):
    assert message(InputError, draw, rule="real-search") == (
        "The rule learns from known label sets, which an audit does not have.\n"
        "  got:     real-search\n"
        "  allowed: a rule such as union or union(k=5)"
    )


def test_unknown_design_on_the_command_line(photos):
    line = ["audit", "predictions", "--classes", "classes.txt", "--size", "20", "--design", "best"]
    done = CliRunner().invoke(cli.app, line, env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "'uniform', 'size', 'confidence', 'active', 'differences'" in done.output


def test_terminal_and_json(photos):
    options = "--size 20 --golden-images 2 --raters 3 --seed 0"
    line = f"audit predictions --classes classes.txt {options}".split()
    done = CliRunner().invoke(cli.app, line)
    n = draw(golden_images=2, out="other").n_questions
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "drew the audit audit",
        "images      20  of 60, uniform, each with a probability of 0.333",
        f"questions   {n}  {n / 20:.2f} an image",
        f"hours      {n * 15 / 3600:.1f}  3 answers each, 5 seconds an answer",
        "let an expert answer 2 other images first:",
        "  manyhot annotate audit/golden --open",
        "  manyhot export audit/golden --golden audit/golden.parquet",
        "let people answer: manyhot annotate audit --raters 3",
        "wrote audit",
    ]
    assert done.stderr.splitlines() == [
        "Read images.parquet as images (images-table): 60 images; 00.png: no label.",
        "Note: the 60 images of predictions have no labels.",
        "Note: 20 images are a small sample: an interval requires about 10 images on which people and "
        "models disagree, so many metrics will have no interval. manyhot plan computes how many images a "
        "question requires.",
    ]
    done = CliRunner().invoke(cli.app, [*line, "--json"])
    answer = json.loads(done.stdout)
    assert {k: answer[k] for k in ("design", "images", "population", "new")} == {
        "design": "uniform",
        "images": 20,
        "population": 60,
        "new": False,
    }

"""What an audit refuses, and what it says."""

import html
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from audits import IDS, N_CLASSES, World, table_of
from manyhot import compare, evaluate
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.evaluate.audited import Audit
from manyhot.files import sha256
from manyhot.tables import Campaign, Images, Labels, Predictions, write
from manyhot.tables.audit_samples import draw_sample, write_audit_sample


def message(kind, make):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def drawn_of(n=120, seed=3):
    return draw_sample(IDS, np.full(400, n / 400), "uniform", seed)


def in_files(folder, world, drawn, sets=None, **about):
    """Write proposed and people's label sets and the sample, and return their paths."""
    metadata = {"n_classes": str(N_CLASSES), "asked_known": "false"}
    paths = [folder / f"{name}.parquet" for name in ("proposed", "people", "sample")]
    people = world.audited(drawn.drawn) if sets is None else sets
    write(people.table, paths[1], "labels", about=metadata, inputs=about.get("people"))
    write(world.proposed.table, paths[0], "labels", about=metadata, inputs=about.get("proposed"))
    write_audit_sample(drawn, paths[2])
    return paths


def test_files_give_what_tables_give(tmp_path):
    world, drawn = World(), drawn_of()
    proposed, people, sample = in_files(tmp_path, world, drawn)
    models = list(world.models.values())
    found = evaluate(proposed, models, audited=people, sample=sample)
    same = evaluate(world.proposed, models, audit=Audit(world.audited(drawn.drawn), drawn))
    assert found.to_polars().equals(same.to_polars())
    assert found.inputs == {p.name: sha256(p) for p in (people, sample)}
    expected = {"design": "uniform", "seed": 3, "n": 120, "n_images": 400}
    expected |= {"estimator": "ppi++", "population": False, "blind_stop": False, "proposed_by": "labels"}
    expected |= {"draws": 0}
    assert json.loads(found.metadata["audit"]) == expected


@pytest.mark.parametrize("estimator", ["ppi++", "difference", "sample"])
def test_a_sample_drawn_by_oneself_gives_what_a_recorded_one_gives(estimator):
    world, drawn = World(), drawn_of()
    models, people = list(world.models.values()), world.audited(drawn.drawn)
    own = evaluate(world.proposed, models, audited=people, sample="uniform", estimator=estimator)
    recorded = evaluate(world.proposed, models, audited=people, sample=drawn, estimator=estimator)
    columns = ["model", "metric", "slice", "value", "lo", "hi", "n"]
    for a, b in zip(own.to_polars()[columns].rows(), recorded.to_polars()[columns].rows(), strict=True):
        assert a == pytest.approx(b, nan_ok=True)
    rows = pc.index_in(drawn.drawn, IDS).to_numpy()
    hits = [world.models["good"].classes[i, 0] in world.sets[i] for i in rows]
    n, share = len(hits), np.mean(hits)
    if estimator == "sample":  # of 400 images: sampling without replacement
        assert own.value("real1", model="good") == pytest.approx(share)
        error = np.sqrt(share * (1 - share) / (n - 1) * (1 - n / 400))
        (row,) = (
            r
            for r in own.results.to_pylist()
            if (r["model"], r["metric"], r["slice"]) == ("good", "real1", "all")
        )
        # Student's t has fewer degrees of freedom than there are images, because few of them are wrong.
        assert 2 * 1.96 * error < row["hi"] - row["lo"] < 2 * 2.1 * error
    assert "120 of 400 images were audited (uniform sample, drawn by yourself, as declared with" in str(own)
    assert json.loads(own.metadata["audit"])["seed"] is None


@pytest.mark.parametrize("as_file", [True, False])
def test_a_table_of_strata_gives_what_the_recorded_sample_gives(tmp_path, as_file):
    world, hard = World(), np.arange(400) % 4 == 0
    strata = pa.array(np.where(hard, "hard", "easy").tolist())
    drawn = draw_sample(IDS, np.where(hard, 0.6, 0.2), "stratified", 3, strata)
    models, people = list(world.models.values()), world.audited(drawn.drawn)
    table = pa.table({"image_id": IDS, "stratum": strata}).take(np.arange(400)[::-1])
    own = table.to_pandas()
    if as_file:
        own.to_csv(tmp_path / "mine.csv", index=False)
    found = evaluate(world.proposed, models, audited=people, sample=tmp_path / "mine.csv" if as_file else own)
    same = evaluate(world.proposed, models, audited=people, sample=drawn)
    assert_frame_equal(found.to_polars(), same.to_polars(), rel_tol=1e-9)
    assert "120 of 400 images were audited (stratified sample, drawn by yourself, as declared with" in str(
        found
    )


def test_images_outside_the_data_set_are_no_sample_of_it():
    world, drawn = World(), drawn_of()
    few = replace(world.proposed, table=world.proposed.table.slice(0, 390))
    found = message(
        MatchError,
        lambda: evaluate(
            few, list(world.models.values()), audited=world.audited(drawn.drawn), sample="uniform"
        ),
    )
    n_out = pc.sum(pc.is_in(drawn.drawn, IDS.slice(390))).as_py()
    assert found.startswith(
        "Some audited images are not among the images that they were drawn from.\n  where:   proposed\n"
        f"  got:     {n_out} of 120 images, such as "
    )


def test_another_file_is_no_recorded_sample(tmp_path):
    (tmp_path / "mine.csv").write_text("image_id\na.jpg\n")
    world = World()
    found = message(
        InputError,
        lambda: evaluate(
            world.proposed, list(world.models.values()), audited=world.people, sample=tmp_path / "mine.csv"
        ),
    )
    assert found == (
        "The table does not say how the images were drawn.\n"
        "  where:   mine\n"
        "  got:     the columns image_id\n"
        "  allowed: the file audit_sample.parquet that manyhot audit wrote; a table of all images with a "
        "column probability, a column stratum, or both; or uniform\n"
        "  do:      add the probability with which each image was drawn (1 / weight), or pass `sample` "
        "uniform if you drew the images uniformly from all images"
    )


def test_an_unrated_image_is_not_answered():
    """The labels of a campaign list all its images; whether an image was rated may be unknown."""
    world, drawn = World(), drawn_of()
    asked = pc.is_in(IDS, drawn.drawn).to_pylist()
    sets = [s if a else [0] for s, a in zip(world.sets, asked, strict=True)]
    rated = [None if a and i % 2 else a for i, a in enumerate(asked)]
    table = table_of(sets).append_column("rated", pa.array(rated))
    found = world.evaluate(labels=Labels(table, N_CLASSES))[1]
    same = world.evaluate()[1].to_polars().drop("dataset")
    assert found.to_polars().drop("dataset").equals(same)


@pytest.mark.parametrize("given", ["audited", "sample"])
def test_half_an_audit_is_refused(given):
    other = {"audited": "sample", "sample": "audited"}[given]
    world = World()
    models = list(world.models.values())
    assert message(UsageError, lambda: evaluate(world.proposed, models, **{given: "file.parquet"})) == (
        "An audit requires people's label sets and the sample that was drawn.\n"
        f"  got:     `{given}` without `{other}`\n"
        f"  do:      pass `{other}`, too"
        + "; if the audited images are a uniform random sample of all images, `sample` uniform"
        * (given == "audited")
    )


def test_another_estimator_is_refused():
    world = World()
    assert message(InputError, lambda: world.evaluate(estimator="ppi")) == (
        "There is no such estimator.\n"
        "  where:   `estimator`\n"
        "  got:     ppi\n"
        "  allowed: ppi++, difference, sample"
    )


def test_a_sample_that_its_seed_does_not_draw_is_refused(tmp_path):
    world, drawn = World(), drawn_of()
    proposed, people, sample = in_files(tmp_path, world, drawn)
    table = pq.read_table(sample)
    metadata = table.schema.metadata | {b"manyhot.seed": b"4"}
    pq.write_table(table.replace_schema_metadata(metadata), sample)
    models = list(world.models.values())
    others = sorted(set(drawn.drawn.to_pylist()) - set(drawn_of(seed=4).drawn.to_pylist()))
    assert message(InputError, lambda: evaluate(proposed, models, audited=people, sample=sample)) == (
        "The audited images were not drawn with the recorded probabilities.\n"
        f"  where:   {sample}\n"
        f"  got:     120 images, of which {len(others)} were not drawn, such as {', '.join(others[:2])}\n"
        "  allowed: the 120 images that seed 4 draws, in this order\n"
        "  do:      pass the file that manyhot audit wrote, unchanged"
    )


def test_images_that_could_never_be_drawn_are_refused():
    world = World()
    drawn = draw_sample(IDS[:300], np.full(300, 0.4), "uniform", 3)
    audit = Audit(world.audited(drawn.drawn), drawn)
    assert message(MatchError, lambda: evaluate(world.proposed, world.models.values(), audit=audit)) == (
        "The audited images were not drawn from these images.\n"
        "  where:   proposed and the audit sample\n"
        "  got:     100 images could never be drawn, such as 0300.jpg, 0301.jpg\n"
        "  allowed: the 300 images of the sample\n"
        "  do:      pass the labels that the sample was drawn from, or select the images of the sample"
    )


def test_a_probability_of_0_is_refused(tmp_path):
    world, drawn = World(), drawn_of()
    proposed, people, sample = in_files(tmp_path, world, drawn)
    table = pq.read_table(sample)
    p = table["probability"].to_numpy().copy()
    p[5] = 0
    pq.write_table(table.set_column(1, "probability", pa.array(p)), sample)
    call = {"audited": people, "sample": sample}
    assert message(InputError, lambda: evaluate(proposed, list(world.models.values()), **call)) == (
        "The probability of auditing an image is out of range.\n"
        "  where:   image 5 of 400\n"
        "  got:     0\n"
        "  allowed: above 0 and at most 1\n"
        "  do:      give each image a positive probability; "
        "an audit says nothing about images that it never draws"
    )


def test_answers_about_images_outside_the_sample_are_refused():
    world, drawn = World(), drawn_of()
    extra = pa.array(sorted(set(IDS.to_pylist()) - set(drawn.drawn.to_pylist()))[:2], pa.string())
    labels = world.audited(pa.concat_arrays([drawn.drawn, extra]))
    assert message(MatchError, lambda: world.evaluate(labels=labels)) == (
        "People answered questions about images that are not in the sample.\n"
        "  where:   people\n"
        f"  got:     2 of 122 images, such as {extra[1]}, {extra[0]}\n"
        "  allowed: the 120 images that were drawn\n"
        "  do:      pass only the label sets of the drawn images: the other images had no chance of being "
        "drawn"
    )


def test_images_of_the_sample_without_an_answer_are_refused():
    world, drawn = World(), drawn_of()
    answered = drawn.drawn.take(pa.array([*range(40), *range(42, 120)]))
    assert message(MatchError, lambda: world.evaluate(labels=world.audited(answered))) == (
        "Some images of the sample have no answers.\n"
        "  where:   people\n"
        f"  got:     2 of 120 images without an answer, such as {drawn.drawn[40]}, {drawn.drawn[41]}\n"
        "  allowed: answers about all images, or about the first ones in the order of the sample\n"
        "  do:      answer questions about the remaining images, too: they may be the difficult ones"
    )


def test_proposals_made_from_the_same_answers_are_refused(tmp_path):
    world, drawn = World(), drawn_of()
    votes = {"votes.parquet": "a" * 64, "images.parquet": "b" * 64}
    made = {"proposed": {**votes, "model.parquet": "c" * 64}, "people": votes}
    proposed, people, sample = in_files(tmp_path, world, drawn, **made)
    call = {"audited": people, "sample": sample}
    assert message(InputError, lambda: evaluate(proposed, list(world.models.values()), **call)) == (
        "The proposed label sets were made from the answers about the audited images.\n"
        "  where:   proposed\n"
        "  got:     votes.parquet, from which the audited label sets were made, too\n"
        "  allowed: proposals made without these answers; otherwise, they look better than they are\n"
        "  do:      let models propose label sets, or use cross-fitting: manyhot.core.audit_cross_fitting"
    )


def test_proposals_made_from_the_audited_label_sets_are_refused(tmp_path):
    world, drawn = World(), drawn_of()
    _, people, _ = in_files(tmp_path, world, drawn)
    made = {"proposed": {"people.parquet": sha256(people)}}
    proposed, people, sample = in_files(tmp_path, world, drawn, **made)
    call = {"audited": people, "sample": sample}
    assert message(InputError, lambda: evaluate(proposed, list(world.models.values()), **call)).startswith(
        "The proposed label sets were made from the answers about the audited images.\n"
        "  where:   proposed\n"
        "  got:     people.parquet, from which"
    )


def test_proposals_of_the_same_images_and_other_votes_are_taken(tmp_path):
    world, drawn = World(), drawn_of()
    made = {"images.parquet": "b" * 64}
    paths = in_files(
        tmp_path,
        world,
        drawn,
        proposed={**made, "votes.parquet": "c" * 64},
        people={**made, "votes.parquet": "a" * 64},
    )
    assert len(evaluate(paths[0], list(world.models.values()), audited=paths[1], sample=paths[2]))


def test_other_classes_are_refused():
    world, drawn = World(), drawn_of()
    people = Labels(world.audited(drawn.drawn).table, N_CLASSES + 1, name="people")
    assert message(MatchError, lambda: world.evaluate(labels=people)) == (
        "The audited and the proposed label sets have different class lists.\n"
        "  where:   people\n"
        "  got:     7 classes, class list unknown\n"
        "  allowed: 6 classes, class list unknown\n"
        "  do:      pass label sets over the same classes, or the class list as `classes`"
    )


def test_too_few_answers_give_values_without_intervals_and_a_note():
    world = World()
    found = world.evaluate(20)[1]
    assert found.results.filter(pc.is_valid(found.results["estimator"]))["lo"].null_count > 0
    assert any(
        "no interval of real1" in n and n.endswith("the variance comes from fewer than 10 audited images")
        for n in found.notes
    )


def test_other_intervals_are_refused():
    assert message(UsageError, lambda: World().evaluate(map_resamples=10)) == (
        "Intervals of an audit come from its design.\n"
        "  got:     `map_resamples` with `audited`\n"
        "  do:      leave out `map_resamples`"
    )


def test_a_benchmark_is_refused():
    audit = Audit("people.parquet", "sample.parquet")
    assert message(UsageError, lambda: evaluate("imagenet", ["x.npy"], audit=audit)) == (
        "A benchmark already has people's label sets of all images.\n"
        "  got:     imagenet with `audited`\n"
        "  do:      pass proposed label sets of all images in a file, or leave out `audited` and `sample`"
    )


def test_metrics_that_cannot_be_audited_are_named():
    found = World().evaluate()[1]
    assert not any(m.endswith("_unasked") for m in found.results["metric"].unique().to_pylist())
    assert found.notes[3] == (
        "proposed, 2 models: real1_unasked, real5_unasked, mla_unasked, variable_topk_unasked, asma_unasked "
        "left out: in an audit, raters are asked about other classes"
    )


def test_fewer_than_30_audited_images_of_a_slice_give_no_interval():
    found = World().evaluate(120, metrics=["variable_topk"])[1].to_polars()
    few = found["n_audited"] < 30
    assert few.any()
    assert found.filter(few)["lo"].null_count() == few.sum()
    assert found.filter(~few)["lo"].null_count() == 0


def test_a_mean_over_set_sizes_needs_enough_images_of_each_size():
    found = World().evaluate(60)[1]
    text = "asma: one of the averaged groups has fewer than 10 audited images"
    assert any(n.text.endswith(text) for n in found.model_notes)
    is_mean = pc.equal(found.results["metric"], "asma")
    rows = found.results.filter(pc.and_(is_mean, pc.equal(found.results["slice"], "all")))
    assert rows["lo"].null_count == len(rows) == 2
    (pair,) = (r for r in found.pairs.to_pylist() if r["metric"] == "asma")
    assert np.isnan([pair["lo"], pair["hi"], pair["p"]]).all()


def test_a_mean_over_set_sizes_needs_images_of_each_size_in_a_slice():
    """The slice has images with one class alone, of which there are enough."""
    world = World()
    one = [len(s) == 1 for s in world.sets]
    images = Images(pa.table({"image_id": IDS, "one": pa.array(one)}))
    found = world.evaluate(200, images=images, slices=["one=true"], metrics=["asma"])[1].to_polars()
    rows = found.filter(slice="one=true")
    assert rows["n_audited"].min() > 30
    assert rows["lo"].null_count() == 2
    assert found.filter(slice="all")["lo"].null_count() == 0


@pytest.mark.parametrize(("empty", "has_interval"), [(0.05, True), (0.4, False)])
def test_a_mean_over_classes_needs_pairs_if_many_images_have_no_valid_class(monkeypatch, empty, has_interval):
    monkeypatch.setattr("manyhot.core.audit_strata.FEWEST_PAIRS", 10**6)
    found = World(empty=empty).evaluate(120, metrics=["mla", "real1"])[1]
    rows = found.to_polars().filter(slice="all", metric="mla")
    assert (rows["lo"].null_count() == 0) == has_interval
    text = (
        "no interval of mla: too few audited images to tell which classes have images without a valid class"
    )
    assert any(n.text == text for n in found.model_notes) != has_interval
    (pair,) = (r for r in found.pairs.to_pylist() if r["metric"] == "mla")
    assert np.isnan(pair["lo"]) != has_interval


def test_if_no_requested_metric_can_be_audited_it_is_an_error():
    assert message(InputError, lambda: World().evaluate(metrics=["real1_unasked"])) == (
        "real1_unasked cannot be audited: in an audit, raters are asked about other classes.\n"
        "  do:      leave it out of `metrics`"
    )


def test_the_terminal_shows_how_many_images_were_audited_and_the_difference_of_the_pair():
    found = World(empty=0.1).evaluate(estimator="difference")[1]
    lines = list(found.lines())
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["images", "(estimated)", "400"],
        ["skipped", "(estimated)", "0"],
        ["audited", "–", "108"],
    ]
    (pair,) = (r for r in found.pairs.to_pylist() if r["metric"] == "real1")
    points = f"bad is worse than good by {-100 * pair['difference']:.2f} points of real1"
    better = f"good is better than bad by {-100 * pair['difference']:.2f} points of real1"
    assert any(line.startswith((points, better)) for line in lines)


def test_notes_say_first_how_values_were_estimated_and_what_proposals_alone_say():
    found = World().evaluate(metrics=["real1"])[1]
    bias = [100 * (r["alone"] - r["value"]) for r in found.results.to_pylist() if r["slice"] == "all"]
    assert found.notes[:3] == (
        "proposed: values are estimates on people's label sets: 120 of 400 images were audited (uniform "
        "sample, seed 3; estimator ppi++); intervals are for the values on these images, with answers "
        "taken as they are",
        "proposed: the labels do not record which classes people were asked about, so unlisted classes count "
        "as not valid",
        f"proposed: on the proposed label sets alone, real1 would differ by {np.mean(bias):+.2f} points "
        f"(mean over 2 models; {min(bias):+.2f} to {max(bias):+.2f})",
    )


def test_the_report_says_it_at_the_top_and_does_not_describe_the_proposed_label_sets(tmp_path):
    found = World().evaluate()[1]
    found.write(tmp_path)
    page = html.unescape((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    overview = page[page.index('id="overview"') : page.index("</section>")]
    assert "Values are estimates on people's label sets: 120 of 400 images were audited" in overview
    assert "On the proposed label sets alone" in overview
    assert not (tmp_path / "set_sizes.parquet").exists()


def test_results_of_an_audit_are_compared_and_reported_again(tmp_path):
    world = World()
    world.evaluate()[1].write(tmp_path / "a")
    evaluate(world.people, list(world.models.values())).write(tmp_path / "b")
    compared = compare([tmp_path / "a", tmp_path / "b"])
    drops = {(r["metric_x"], r["dataset_x"], r["dataset_y"]): r for r in compared.drops.to_pylist()}
    assert drops["real1", "proposed", "people"]["lo"] is not None


def in_campaign(folder, world, drawn):
    """Write what manyhot audit and manyhot aggregate write: a campaign with the sample and label sets."""
    Campaign(folder, "numbers", "", N_CLASSES, len(drawn)).write()
    metadata = {"n_classes": str(N_CLASSES), "asked_known": "true"}
    write(world.audited(drawn.drawn).table, folder / "labels.parquet", "labels", about=metadata)
    keys = [str(i) for i in range(N_CLASSES)]
    classes = pa.table({"class_id": pa.array(range(N_CLASSES), pa.int32()), "key": keys, "name": keys})
    write(classes, folder / "classes.parquet", "classes")
    write(pa.table({"image_id": drawn.drawn}), folder / "images.parquet", "images")
    write_audit_sample(drawn, folder / "audit_sample.parquet")
    return folder


def test_a_campaign_holds_its_sample(tmp_path):
    world, drawn = World(), drawn_of()
    folder = in_campaign(tmp_path, world, drawn)
    models = list(world.models.values())
    found = evaluate(world.proposed, models, audited=folder)
    same = evaluate(world.proposed, models, audited=folder, sample=drawn)
    assert found.to_polars().equals(same.to_polars())
    assert set(found.inputs) == {"labels.parquet", "audit_sample.parquet"}


def test_golden_images_of_a_campaign_are_no_part_of_the_sample(tmp_path):
    world, drawn = World(), drawn_of()
    same = evaluate(world.proposed, list(world.models.values()), audited=in_campaign(tmp_path, world, drawn))
    others = pa.array(sorted(set(IDS.to_pylist()) - set(drawn.drawn.to_pylist()))[:5], pa.string())
    (tmp_path / "golden").mkdir()
    write(pa.table({"image_id": others}), tmp_path / "golden" / "images.parquet", "images")
    table = world.audited(pa.concat_arrays([drawn.drawn, others])).table
    about = {"n_classes": str(N_CLASSES), "asked_known": "true"}
    write(table, tmp_path / "labels.parquet", "labels", about=about)
    for audited in (tmp_path, tmp_path / "labels.parquet"):
        found = evaluate(world.proposed, list(world.models.values()), audited=audited)
        assert found.to_polars().equals(same.to_polars())


def test_without_labels_the_other_models_propose_label_sets(tmp_path):
    """For two models, each proposes its top class for the other."""
    world, drawn = World(), drawn_of()
    images = Images(pa.table({"image_id": IDS}), "photos")
    models = [replace(m, n_classes=N_CLASSES) for m in world.models.values()]
    found = evaluate(images, models, audited=world.audited(drawn.drawn), sample=drawn)
    good, bad = (m.classes[:, 0] for m in models)
    alone = found.to_polars().filter(slice="all", metric="real1")["alone"].to_list()
    assert alone == [np.mean(good == bad)] * 2
    assert "estimator ppi++, label sets proposed by the other models" in found.notes[0]
    assert json.loads(found.metadata["audit"])["proposed_by"] == "models"
    assert not any("mla" in n.text.split(": ")[0] for n in found.model_notes if n.kind == "no_interval")
    f, y = good == bad, np.array([g in s for g, s in zip(good, world.sets, strict=True)])
    rows = pc.index_in(drawn.drawn, IDS).to_numpy()
    weight = np.cov(y[rows], f[rows])[0, 1] / np.var(f[rows], ddof=1)
    value = y[rows].mean() + weight * (f.mean() - f[rows].mean())
    assert found.value("real1", model="good") == pytest.approx(value)


def test_models_propose_on_request_although_there_are_labels():
    found = World().evaluate(proposed_by="models")[1]
    assert found.to_polars().filter(metric="top1", slice="all")["value"].is_not_nan().all()
    assert "label sets proposed by the other models" in found.notes[0]


def test_models_are_read_twice_from_an_iterator():
    world, drawn = World(), drawn_of()
    options = {"audited": world.audited(drawn.drawn), "sample": drawn, "proposed_by": "models"}
    found = evaluate(world.proposed, iter(world.models.values()), **options)
    same = evaluate(world.proposed, list(world.models.values()), **options)
    assert found.to_polars().equals(same.to_polars())


def test_one_model_cannot_propose_for_itself():
    world = World()
    del world.models["bad"]
    assert message(InputError, lambda: world.evaluate(proposed_by="models")) == (
        "There are too few models to propose label sets for one another.\n"
        "  where:   proposed\n"
        "  got:     1 model\n"
        "  allowed: at least 2\n"
        "  do:      pass label sets of all images, such as original labels, or more models"
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"population": True}, "`population`"),
        ({"blind_stop": True}, "`blind_stop`"),
        ({"estimator": "sample"}, "`estimator`"),
        ({"proposed_by": "models", "population": True}, "`proposed_by` and `population`"),
    ],
)
def test_options_of_an_audit_need_one(options, names):
    world = World()
    assert message(UsageError, lambda: evaluate(world.people, list(world.models.values()), **options)) == (
        "Options of an audit require people's label sets.\n"
        f"  got:     {names} without `audited`\n"
        f"  do:      pass `audited`, or leave out {names}"
    )


def with_questions(folder, world, drawn, change=lambda table: table):
    """Write a campaign whose questions were drawn: the classes that people were asked about."""
    in_campaign(folder, world, drawn)
    labels = pq.read_table(folder / "labels.parquet")
    sizes = pc.list_value_length(labels["classes"]).to_numpy()
    ids = np.repeat(np.array(labels["image_id"].to_pylist()), sizes)
    columns = {
        "image_id": ids,
        "class_id": pc.list_flatten(labels["classes"]),
        "score": pa.array(np.full(len(ids), 0.5), pa.float32()),
        "n_models": pa.array(np.ones(len(ids)), pa.int32()),
        "source": ["class_design"] * len(ids),
    }
    about = {"n_classes": str(N_CLASSES), "question_probability": "score"}
    write(change(pa.table(columns)), folder / "proposals.parquet", "proposals", about=about)
    return folder


@pytest.mark.parametrize(("score", "shown"), [(0.0, "0"), (1.2, "1.2"), (np.nan, "nan"), (-0.1, "-0.1")])
def test_probabilities_of_questions_are_checked(tmp_path, score, shown):
    def change(table):
        scores = table["score"].to_numpy().copy()
        scores[[3, 5]] = score
        return table.set_column(2, "score", pa.array(scores, pa.float32()))

    world = World()
    folder = with_questions(tmp_path, world, drawn_of(), change)
    assert message(InputError, lambda: evaluate(world.proposed, world.models, audited=folder)) == (
        "The probability of asking a question is out of range.\n"
        f"  where:   {folder / 'proposals.parquet'}, row 3\n"
        f"  got:     {shown} and 1 more\n"
        "  allowed: above 0 and at most 1\n"
        "  do:      pass the file that manyhot audit wrote, unchanged"
    )


def test_questions_without_a_probability_are_refused(tmp_path):
    world = World()
    folder = with_questions(tmp_path, world, drawn_of(), lambda table: table.slice(2))
    first = pq.read_table(folder / "labels.parquet")[0:1].to_pylist()[0]
    assert message(InputError, lambda: evaluate(world.proposed, world.models, audited=folder)).startswith(
        "People answered questions that were not drawn.\n"
        f"  where:   {folder / 'proposals.parquet'}\n"
        "  got:     2 questions, such as class "
    )
    assert first["image_id"] in drawn_of().drawn.to_pylist()


def test_metrics_of_original_labels_alone_are_exact():
    """No answer changes them."""
    world, drawn = World(), drawn_of()
    p = np.random.default_rng(2).dirichlet(np.ones(N_CLASSES), 400).astype(np.float32)
    models = [Predictions(IDS, "dense", scores=p, score_kind="probability")]
    options = {"metrics": ["brier", "nll", "real1"], "trust_order": True}
    found = evaluate(world.proposed, models, audited=world.audited(drawn.drawn), sample=drawn, **options)
    plain = evaluate(world.people, models, **options)
    rows = {r["metric"]: r for r in found.results.to_pylist() if r["slice"] == "all"}
    for metric in ("brier", "nll"):
        assert rows[metric]["value"] == pytest.approx(plain.value(metric))
        assert (rows[metric]["n"], rows[metric]["n_skipped"]) == (400, 0)
        assert [rows[metric][c] for c in ("lo", "hi", "estimator", "n_audited", "alone")] == [None] * 5
    assert rows["real1"]["estimator"] == "ppi++"


def test_the_page_of_an_audit_does_not_advise_to_sort_errors_on_proposed_labels(tmp_path):
    world = World()
    models = list(world.models.values())
    for name, found in (("audit", world.evaluate()[1]), ("plain", evaluate(world.people, models))):
        found.write(tmp_path / name)
        page = (tmp_path / name / "report" / "index.html").read_text()
        assert ("sort the errors" in page) == (name == "plain")

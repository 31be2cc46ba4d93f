"""Label Studio: tasks out, answers in, and each kind of broken export.

The exports are written by hand after labelstud.io/guide/task_format and label_studio_sdk 2.1.2; what an
import makes of annotations after label_studio/tasks/serializers.py of HumanSignal/label-studio @ 00124457.
"""

import copy
import json
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhot.classes import class_list, from_keys
from manyhot.errors import MatchError
from manyhot.formats import detect, read_classes, read_golden, read_votes
from manyhot.formats.writing import save
from manyhot.tables import ANSWERS, Golden, Images, Labels, check, schema, votes_from_table

CLASSES = from_keys(["cat", "dog", "cup", "pot"], "four")


def result(question, *choices):
    return {
        "id": "qYlEy2tiQZ",
        "value": {"choices": [*choices]},
        "from_name": question,
        "to_name": "image",
        "type": "choices",
        "origin": "manual",
    }


def annotation(number, by, *results, **more):
    return {
        "id": number,
        "completed_by": by,
        "result": [*results],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-03-09T22:16:08.500000Z",
        "updated_at": "2026-03-09T22:16:08.728378Z",
        "draft_created_at": None,
        "lead_time": 4.25,
        "prediction": {},
        "result_count": 1,
        "task": 1,
        "parent_prediction": None,
        "parent_annotation": None,
    } | more


def task(number, image, asked, *annotations, **data):
    return {
        "id": number,
        "annotations": [*annotations],
        "file_upload": None,
        "drafts": [],
        "predictions": [],
        "data": {"image": image, "classes": [{"value": name} for name in asked], **data},
        "meta": {},
        "created_at": "2026-03-01T08:00:00.000000Z",
        "updated_at": "2026-03-09T22:16:08.746926Z",
        "inner_id": 1,
        "total_annotations": len(annotations),
        "cancelled_annotations": 0,
        "project": 83,
    }


EXPORT = [
    task(
        1,
        "/data/local-files/?d=val/a%20b.jpg",
        ["cat", "dog", "cup"],
        annotation(11, 7, result("classes", "cat"), result("maybe", "cup")),
        annotation(12, {"id": 8, "email": "r@example.org", "first_name": "R"}, lead_time=None),
        annotation(13, 9, was_cancelled=True),
        annotation(14, 5, result("classes", "dog"), ground_truth=True),
    ),
    task(
        2,
        "https://example.org/x/c.jpg?size=2#top",
        ["pot"],
        annotation(21, 7, result("classes", "pot"), created_at=None),
        image_id="c.jpeg",
    ),
    task(3, "s3://bucket/never.jpg", ["pot"]),
]
VOTES = [
    ("val/a b.jpg", 0, "7", "yes"),
    ("val/a b.jpg", 1, "7", "no"),
    ("val/a b.jpg", 2, "7", "maybe"),
    ("val/a b.jpg", 0, "8", "no"),
    ("val/a b.jpg", 1, "8", "no"),
    ("val/a b.jpg", 2, "8", "no"),
    ("c.jpeg", 3, "7", "yes"),
]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes an export, some of it changed."""

    def to(content):
        path = tmp_path / "export.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to


def changed(change):
    content = copy.deepcopy(EXPORT)
    change(content)
    return content


def votes(path, **options):
    return read_votes(path, classes=CLASSES, **options).to_table()


def test_answers_by_hand(write):
    path = write(EXPORT)
    assert detect(path).name == "label-studio"
    table = votes(path).sort_by([(c, "ascending") for c in ("page_id", "class_id")])
    columns = ("image_id", "class_id", "rater_id", "answer")
    assert [tuple(row[c] for c in columns) for row in table.to_pylist()] == VOTES
    assert table["page_id"].to_pylist() == ["11"] * 3 + ["12"] * 3 + ["21"]
    at = datetime(2026, 3, 9, 22, 16, 8, 500_000, UTC)
    assert table["answered_at"].to_pylist() == [at] * 6 + [None]
    assert table["shown_at"].to_pylist() == [at.replace(second=4, microsecond=250_000)] * 3 + [None] * 4
    read = read_votes(path, classes=CLASSES)
    assert read.left_out == ("1 annotations (cancelled)", "1 annotations (ground truth)")
    assert (read.n_classes, read.class_hash) == (4, CLASSES.hash)


def test_ground_truth_is_golden(write):
    golden = read_golden(write(EXPORT), classes=CLASSES)
    assert golden.to_table().to_pylist() == [
        {"image_id": "val/a b.jpg", "class_id": c, "expert_id": "5", "answer": answer}
        for c, answer in ((0, "no"), (1, "yes"), (2, "no"))
    ]


def test_several_annotators(write):
    made = [annotation(i, i, *[result("classes", "cat")] * (i % 2)) for i in range(4)]
    table = votes(write([task(1, "a.jpg", ["cat"], *made)]))
    assert table["rater_id"].to_pylist() == ["0", "1", "2", "3"]
    assert table["answer"].to_pylist() == ["no", "yes", "no", "yes"]


def test_pages_of_a_file_are_different_images(write):
    """The answers about a page do not replace those about another page by the same rater."""
    tasks = [
        task(n, f"/data/local-files/?d=1897/3.tif#page={n}", ["cat"], annotation(n, 7)) for n in range(1, 5)
    ]
    table = votes(write(tasks))
    assert table["image_id"].to_pylist() == [f"1897/3.tif#page={n}" for n in range(1, 5)]


def test_of_two_annotations_by_one_rater_the_later_counts(write, message):
    made = [
        annotation(2, 7, created_at="2026-03-09T23:00:00Z"),
        annotation(1, 7, result("classes", "cat"), created_at="2026-03-09T22:00:00Z"),
    ]
    path = write([task(1, "a.jpg", ["cat"], *made)])
    assert votes(path)["answer"].to_pylist() == ["no"]
    path = write([task(1, "a.jpg", ["cat"], *[one | {"created_at": None} for one in made])])
    assert message(lambda: votes(path), MatchError) == (
        "A rater answered a question twice.\n"
        "  where:   export, image a.jpg, class 0\n"
        "  got:     rater 7\n"
        "  allowed: one answer per rater and question, or a column `round` or `answered_at` that gives their "
        "order\n"
        "  do:      remove one of the answers"
    )


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/0a1b2c3d-cat.jpg", "cat.jpg"),
        ("/data/upload/cat-1.jpg", "cat-1.jpg"),
        ("https://example.org/0a1b2c3d-cat.jpg", "0a1b2c3d-cat.jpg"),
        ("s3://bucket/a/b%23.jpg", "a/b#.jpg"),
        ("/data/local-files/?d=a%2Fb%26c.jpg", "a/b&c.jpg"),
        ("C:\\images\\a.jpg", "images/a.jpg"),
        ("a.jpg", "a.jpg"),
    ],
)
def test_names_of_images(write, address, name):
    table = votes(write([task(1, address, ["cat"], annotation(1, 1))]))
    assert table["image_id"].to_pylist() == [name]


def test_projects_that_ask_in_other_words(write):
    content = [
        task(1, "", [], annotation(1, 1, result("tags", "cat"), result("quality", "good")), img="a.jpg")
    ]
    del content[0]["data"]["classes"], content[0]["data"]["image"]
    told = "label-studio(yes='tags', image='img', asked='*', skip='quality light')"
    table = votes(write(content), format=told)
    assert table["answer"].to_pylist() == ["yes", "no", "no", "no"]
    content[0]["data"]["shown"] = ["dog", "cat"]
    table = votes(write(content), format=told.replace("'*'", "'shown'"))
    assert list(zip(table["class_id"].to_pylist(), table["answer"].to_pylist(), strict=True)) == [
        (0, "yes"),
        (1, "no"),
    ]


def test_boxes_and_texts_beside_the_choices_are_passed_over(write):
    box = {"from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": {"x": 1}}
    table = votes(write([task(1, "a.jpg", ["cat"], annotation(1, 1, box, result("maybe", "cat")))]))
    assert table["answer"].to_pylist() == ["maybe"]


# Broken exports.


def first(content):
    return content[0]["annotations"][0]


def put(key, value):
    return lambda content: first(content).__setitem__(key, value)


def in_data(key, value):
    return lambda content: content[0]["data"].__setitem__(key, value)


ONE = "{path}, task 1, annotation 11"
BROKEN = {
    "unknown class": (
        put("result", [result("classes", "cow")]),
        f"A choice is not a class.\n  where:   {ONE}\n  got:     'cow'\n"
        "  allowed: the keys and names of the 4 classes of four\n"
        "  do:      pass the class list of the project as `classes`",
    ),
    "unknown class shown": (
        in_data("classes", [{"value": "cow"}]),
        "A choice is not a class.\n  where:   {path}, task 1\n  got:     'cow'\n"
        "  allowed: the keys and names of the 4 classes of four\n"
        "  do:      pass the class list of the project as `classes`",
    ),
    "a choice that is no text": (
        put("result", [result("classes", ["cat"])]),
        f"A choice is not a class.\n  where:   {ONE}\n  got:     ['cat']\n"
        "  allowed: the keys and names of the 4 classes of four\n"
        "  do:      pass the class list of the project as `classes`",
    ),
    "not shown": (
        put("result", [result("classes", "pot")]),
        f"A choice was not shown in its task.\n  where:   {ONE}\n  got:     pot",
    ),
    "yes and maybe": (
        put("result", [result("classes", "cat"), result("maybe", "cat")]),
        f"A class has both answers, yes and maybe.\n  where:   {ONE}\n  got:     cat\n"
        "  do:      correct the annotation in Label Studio and export the project again",
    ),
    "unknown question": (
        put("result", [result("quality", "good")]),
        f"A question of the project is unknown.\n  where:   {ONE}\n  got:     'quality'\n"
        "  allowed: 'classes' for yes, and 'maybe' for maybe\n"
        "  do:      pass its meaning in `format`: \"label-studio(yes='…', maybe='…', skip='…')\"",
    ),
    "no choices": (
        put("result", [{"from_name": "classes", "type": "rating", "value": {"rating": 3}}]),
        f"A result contains no choices.\n  where:   {ONE}\n  got:     type 'rating', value {{'rating': 3}}\n"
        "  allowed: type 'choices', and a value with a list 'choices'",
    ),
    "result of another kind": (
        put("result", {"classes": []}),
        f"The result of the annotation is not a list of objects.\n  where:   {ONE}",
    ),
    "nobody": (
        lambda content: first(content).pop("completed_by"),
        f"An annotation has no rater.\n  where:   {ONE}\n  got:     completed_by absent\n"
        "  allowed: the id of a user, or an object with an id\n"
        "  do:      export the project again, with its annotators",
    ),
    "somebody without an id": (
        put("completed_by", {"email": "r@example.org"}),
        f"An annotation has no rater.\n  where:   {ONE}\n"
        "  got:     completed_by {'email': 'r@example.org'}\n"
        "  allowed: the id of a user, or an object with an id\n"
        "  do:      export the project again, with its annotators",
    ),
    "a task twice": (
        lambda content: content[1].__setitem__("id", 1),
        "The file contains the same task twice.\n  where:   {path}, task 1\n"
        "  do:      remove one of the two, or export the project again",
    ),
    "an annotation twice": (
        lambda content: content[1]["annotations"][0].__setitem__("id", 11),
        "The file contains the same annotation twice.\n  where:   {path}, task 2, annotation 11\n"
        "  do:      remove one of the two, or export the project again",
    ),
    "an id that is none": (
        put("id", [1]),
        "The id of the annotation is not a number.\n"
        "  where:   {path}, task 1, annotation [1]\n  got:     [1]",
    ),
    "cancelled perhaps": (
        put("was_cancelled", "no"),
        f"'was_cancelled' is neither true nor false.\n  where:   {ONE}\n  got:     'no'",
    ),
    "no time": (
        put("created_at", "yesterday"),
        f"This is not a time.\n  where:   {ONE}\n  got:     created_at 'yesterday'\n"
        "  allowed: ISO 8601 with a time zone, such as 2021-03-09T22:16:08.728353Z",
    ),
    "a time without a zone": (
        put("created_at", "2021-03-09T22:16:08"),
        f"This is not a time.\n  where:   {ONE}\n  got:     created_at '2021-03-09T22:16:08'\n"
        "  allowed: ISO 8601 with a time zone, such as 2021-03-09T22:16:08.728353Z",
    ),
    "a time of another kind": (
        put("created_at", 5),
        f"This is not a time.\n  where:   {ONE}\n  got:     created_at 5\n"
        "  allowed: ISO 8601 with a time zone, such as 2021-03-09T22:16:08.728353Z",
    ),
    "before the calendar": (
        put("created_at", "0001-01-01T00:00:01Z"),
        f"This is not a time.\n  where:   {ONE}\n  got:     created_at '0001-01-01T00:00:01Z'\n"
        "  allowed: ISO 8601 with a time zone, such as 2021-03-09T22:16:08.728353Z",
    ),
    "after the calendar, in UTC": (
        put("created_at", "9999-12-31T23:59:59-14:00"),
        f"This is not a time.\n  where:   {ONE}\n  got:     created_at '9999-12-31T23:59:59-14:00'\n"
        "  allowed: ISO 8601 with a time zone, such as 2021-03-09T22:16:08.728353Z",
    ),
    "negative seconds": (
        put("lead_time", -1),
        f"The lead time is not a number of seconds.\n  where:   {ONE}\n  got:     -1\n  allowed: 0 or more",
    ),
    "no image": (
        lambda content: content[0]["data"].pop("image"),
        "The task has no image.\n  where:   {path}, task 1\n  got:     classes\n"
        "  allowed: a string in the field 'image_id' or 'image'\n"
        "  do:      pass the name of the field in `format`: \"label-studio(image='…')\"",
    ),
    "a folder for an image": (
        in_data("image", "https://example.org/"),
        "The task has no image.\n  where:   {path}, task 1\n  got:     'https://example.org/'",
    ),
    "no address": (
        in_data("image", "http://[1"),
        "This is not an address.\n  where:   {path}, task 1\n  got:     'http://[1'",
    ),
    "nothing shown": (
        lambda content: content[0]["data"].pop("classes"),
        "It is unknown which classes were shown, so a missing answer cannot count as no.\n"
        "  where:   {path}, task 1\n"
        "  got:     no list in the field 'classes' of the task's data\n  allowed: image\n"
        "  do:      pass the name of the field in `format`, or declare that all classes were shown: "
        "\"label-studio(asked='*')\"",
    ),
    "shown twice": (
        in_data("classes", ["cat", "cat"]),
        "The task shows a class twice.\n  where:   {path}, task 1",
    ),
    "no data": (
        lambda content: content[0].pop("data"),
        "The task has no data.\n  where:   {path}, task 1",
    ),
    "annotations by number": (
        lambda content: content[0].__setitem__("annotations", [11]),
        "The annotations of the task are not a list of objects.\n  where:   {path}, task 1",
    ),
    "no answers": (
        lambda content: content.__delitem__(slice(0, 2)),
        "The file has no annotation with answers.\n  where:   {path}\n"
        "  do:      annotate the tasks in Label Studio and export the project as JSON",
    ),
    "cancelled alone": (
        lambda content: content.__setitem__(
            slice(None), [task(1, "a", ["cat"], EXPORT[0]["annotations"][2])]
        ),
        "The file has no annotation with answers.\n  where:   {path}\n  got:     1 cancelled\n"
        "  do:      annotate the tasks in Label Studio and export the project as JSON",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_exports(write, message, what):
    change, text = BROKEN[what]
    path = write(changed(change))
    assert message(lambda: votes(path)) == text.replace("{path}", str(path))


def test_a_cut_export(write, message):
    path = write(json.dumps(EXPORT)[:-40])
    assert message(lambda: votes(path)).splitlines()[0] == "The file is not complete JSON."


def test_json_min_is_refused_by_name(write, message):
    row = {"image": "a.jpg", "id": 1, "classes": {"choices": ["cat"]}, "annotator": 1, "annotation_id": 1}
    path = write([row])
    assert message(lambda: votes(path)) == (
        "This is Label Studio's JSON-MIN, which does not mark cancelled annotations.\n"
        f"  where:   {path}, task 1\n"
        "  allowed: the export as JSON\n"
        "  do:      export the project as JSON"
    )


def test_another_kind_of_list(write, message):
    path = write("[1]")
    assert message(lambda: votes(path, format="label-studio")) == (
        f"The file is not a list of Label Studio tasks.\n  where:   {path}"
    )


# The way out.


@pytest.fixture
def labels():
    columns = {
        "image_id": ["a b.jpg", "c&d.jpg", "e.jpg", "f.jpg"],
        "usable": [True, True, True, False],
        "classes": [[0, 1, 2], [3], [], [0]],
        "state": [["yes", "no", "unclear"], ["no"], [], ["yes"]],
        "method": ["majority"] * 4,
    }
    return Labels(pa.table(columns), 4, CLASSES.hash, asked_known=True, name="mine")


def prediction(*results):
    keys = ("from_name", "to_name", "type", "value")
    return {"model_version": "majority", "result": [{k: r[k] for k in keys} for r in results]}


def test_labels_as_tasks(labels, tmp_path):
    saved = save(labels, tmp_path / "tasks.json", "label-studio", classes=CLASSES)
    assert saved.files == (tmp_path / "tasks.json", tmp_path / "tasks.xml")
    assert saved.left_out == (
        "unusable images",
        "method",
        "images without a class to ask about (1)",
    )
    assert json.loads(saved.files[0].read_text(encoding="utf-8")) == [
        {
            "data": {
                "image": "/data/local-files/?d=a%20b.jpg",
                "image_id": "a b.jpg",
                "classes": [{"value": "cat"}, {"value": "dog"}, {"value": "cup"}],
            },
            "predictions": [prediction(result("classes", "cat"), result("maybe", "cup"))],
        },
        {
            "data": {
                "image": "/data/local-files/?d=c%26d.jpg",
                "image_id": "c&d.jpg",
                "classes": [{"value": "pot"}],
            },
            "predictions": [prediction()],
        },
    ]


def test_the_configuration_fits_the_tasks(labels, tmp_path):
    """Each tag reads a field that the tasks have, and each result answers a tag that is there."""
    tasks, config = save(labels, tmp_path / "tasks.json", "label-studio", classes=CLASSES).files
    root = ElementTree.fromstring(config.read_text(encoding="utf-8"))
    tags = {tag.get("name"): tag for tag in root.iter() if tag.get("name")}
    assert {name: tag.tag for name, tag in tags.items()} == {
        "image": "Image",
        "classes": "Choices",
        "maybe": "Choices",
    }
    for one in json.loads(tasks.read_text(encoding="utf-8")):
        for tag in tags.values():
            assert tag.get("value").removeprefix("$") in one["data"]
            assert tag.get("toName", "image") == "image"
        for answer in one["predictions"][0]["result"]:
            assert tags[answer["from_name"]].get("choice") == "multiple"
            assert answer["to_name"] == "image"
            assert {*answer["value"]["choices"]} <= {c["value"] for c in one["data"]["classes"]}


def test_tasks_come_back_as_the_answers_they_were_made_of(labels, tmp_path, write):
    """As Label Studio does it: predictions accepted by one rater, exported."""
    tasks, _ = save(labels, tmp_path / "tasks.json", "label-studio", classes=CLASSES).files
    export = json.loads(tasks.read_text(encoding="utf-8"))
    for i, one in enumerate(export):
        one |= {"id": i, "annotations": [annotation(i, 1, *one["predictions"][0]["result"])]}
    table = votes(write(export)).to_pylist()
    assert [(r["image_id"], r["class_id"], r["answer"]) for r in table] == [
        ("a b.jpg", 0, "yes"),
        ("a b.jpg", 1, "no"),
        ("a b.jpg", 2, "maybe"),
        ("c&d.jpg", 3, "no"),
    ]


@pytest.fixture
def proposals():
    rows = [("a.jpg", 0, 0.2), ("a.jpg", 3, 0.9), ("b.jpg", 1, 0.5)]
    columns = dict(zip(("image_id", "class_id", "score"), zip(*rows, strict=True), strict=True))
    return check(pa.table(columns | {"n_models": [1, 2, 1], "source": ["top-k"] * 3}), "proposals")


def shown(path):
    tasks = json.loads(path.read_text(encoding="utf-8"))
    return {t["data"]["image"]: [c["value"] for c in t["data"]["classes"]] for t in tasks}, tasks


def test_proposals_as_tasks(proposals, tmp_path):
    to = "label-studio(prefix='https://example.org/')"
    saved = save(proposals, tmp_path / "t.json", to, holds="proposals", classes=CLASSES)
    assert saved.left_out == ("scores", "n_models")
    asked, tasks = shown(tmp_path / "t.json")
    assert asked == {"https://example.org/a.jpg": ["pot", "cat"], "https://example.org/b.jpg": ["dog"]}
    assert not any("predictions" in one for one in tasks)
    to = "label-studio(checked=0.5)"
    save(proposals, tmp_path / "t.json", to, holds="proposals", classes=CLASSES)
    chosen = [one["predictions"][0] for one in shown(tmp_path / "t.json")[1]]
    assert [p["result"][0]["value"]["choices"] for p in chosen] == [["pot"], ["dog"]]
    assert [p["model_version"] for p in chosen] == ["top-k"] * 2


def test_wrong_proposals(proposals, tmp_path, message):
    path = tmp_path / "t.json"

    def wrong(table, to="label-studio"):
        return message(lambda: save(table, path, to, holds="proposals", classes=CLASSES))

    assert wrong(proposals.set_column(1, "class_id", pa.array([0, 1000, 1], pa.int32()))) == (
        f"A class is out of range.\n  where:   {path}, image a.jpg\n  got:     1000\n  allowed: 0 to 3\n"
        "  do:      pass the class list of the proposals as `classes`"
    )
    assert wrong(pa.concat_tables([proposals, proposals])) == (
        f"A class is proposed twice.\n  where:   {path}, image a.jpg\n  got:     class 0"
    )
    assert wrong(proposals, "label-studio(checked='0.5')") == (
        "The option 'checked' needs a number.\n  got:     label-studio(checked='0.5')\n  allowed: checked=1"
    )
    assert wrong(proposals.slice(0, 0)) == f"No image has a class to ask about.\n  where:   {path}"
    assert not list(tmp_path.iterdir())


def test_classes_with_one_name_are_told_apart_by_key(tmp_path):
    from dataclasses import replace

    twins = replace(CLASSES, names=("crane", "dog", "crane", "pot"))
    table = {"image_id": ["a.jpg"], "usable": [True], "classes": [[0, 2]], "state": [["yes", "no"]]}
    labels = Labels(pa.table(table), 4, twins.hash)
    save(labels, tmp_path / "t.json", "label-studio", classes=twins)
    assert shown(tmp_path / "t.json")[0] == {"/data/local-files/?d=a.jpg": ["cat", "cup"]}


def test_names_of_imagenet_come_back(tmp_path, write):
    known = class_list()
    table = {"image_id": ["a.jpg"], "usable": [True], "classes": [[*range(1000)]], "state": [["no"] * 1000]}
    save(Labels(pa.table(table), 1000, known.hash), tmp_path / "t.json", "label-studio")
    (one,) = shown(tmp_path / "t.json")[1]
    one |= {"annotations": [annotation(1, 1, result("classes", known.names[134], known.names[517]))]}
    table = read_votes(write([one])).to_table()
    assert table["class_id"].to_pylist() == [*range(1000)]
    assert [c for c, a in enumerate(table["answer"].to_pylist()) if a == "yes"] == [134, 517]


# Answers, the way out and in again.

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=6
).filter(str.strip)
RATERS = st.one_of(NAMES, st.sampled_from(["0", "7", "007", "+7", "٧", "r@example.org"]))
START = datetime(2026, 3, 9, 22, 16, 8, 500_001, UTC)


@st.composite
def pages(draw):
    """Pages as raters answer them: each of one image and one rater, no question twice by one rater."""
    given = draw(
        st.lists(
            st.tuples(
                NAMES, RATERS, st.dictionaries(st.integers(0, 3), st.sampled_from(ANSWERS), min_size=1)
            ),
            min_size=1,
            max_size=8,
        )
    )
    timed = draw(st.sampled_from(["never", "answered", "both"]))
    numbered = draw(st.booleans())
    asked, rows = set(), []
    for number, (image, rater, answers) in enumerate(given):
        seconds = draw(st.integers(0, 10**14))
        answered = None if timed == "never" else START + timedelta(microseconds=draw(st.integers(0, 10**12)))
        for c, answer in answers.items():
            if (image, rater, c) not in asked:
                asked.add((image, rater, c))
                rows.append(
                    {"image_id": image, "class_id": c, "rater_id": rater, "answer": answer}
                    | ({"page_id": str(number)} if numbered else {})
                    | ({"answered_at": answered} if timed != "never" else {})
                    | ({"shown_at": answered - timedelta(microseconds=seconds)} if timed == "both" else {})
                )
    return rows


def sorted_rows(table):
    return table.sort_by([(n, "ascending") for n in ("image_id", "rater_id", "class_id")]).to_pylist()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages())
def test_votes_come_back_the_same(tmp_path, rows):
    fields = [f for f in schema("votes") if f.name in rows[0]]
    table = pa.Table.from_pylist(rows, pa.schema(fields))
    before = votes_from_table(table, name="mine", n_classes=4, class_hash=CLASSES.hash)
    saved = save(before, tmp_path / "v.json", "label-studio", holds="votes", classes=CLASSES)
    assert saved.left_out == ()
    after = read_votes(tmp_path / "v.json", classes=CLASSES)
    assert sorted_rows(after.to_table()) == sorted_rows(before.to_table())
    assert (after.n_classes, after.class_hash) == (4, CLASSES.hash)


def votes_of(rows, *columns):
    fields = [schema("votes").field(n) for n in ("image_id", "class_id", "rater_id", "answer", *columns)]
    table = pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), fields, strict=True)],
        schema=pa.schema(fields),
    )
    return votes_from_table(table, name="mine", n_classes=4, class_hash=CLASSES.hash)


def test_votes_as_annotations_by_hand(tmp_path):
    """Two raters were shown the same two classes, one of them a third one later."""
    rows = [
        ("a b.jpg", 1, "7", "maybe", "11", START - timedelta(seconds=4.25), START),
        ("a b.jpg", 0, "7", "yes", "11", START - timedelta(seconds=4.25), START),
        ("a b.jpg", 0, "ann", "no", "x", None, START),
        ("a b.jpg", 1, "ann", "no", "x", None, START),
        ("a b.jpg", 3, "7", "no", None, None, None),
    ]
    found = votes_of(rows, "page_id", "shown_at", "answered_at")
    tasks, _ = save(found, tmp_path / "v.json", "label-studio", holds="votes", classes=CLASSES).files
    choice = {"to_name": "image", "type": "choices"}
    said = {"was_cancelled": False, "ground_truth": False}
    at = "2026-03-09T22:16:08.500001Z"
    data = {"image": "/data/local-files/?d=a%20b.jpg", "image_id": "a b.jpg"}
    assert json.loads(tasks.read_text(encoding="utf-8")) == [
        {
            "data": data | {"classes": [{"value": "cat"}, {"value": "dog"}]},
            "annotations": [
                {
                    "id": 11,
                    "completed_by": 7,
                    "created_at": at,
                    "lead_time": 4.25,
                    "result": [
                        choice | {"from_name": "classes", "value": {"choices": ["cat"]}},
                        choice | {"from_name": "maybe", "value": {"choices": ["dog"]}},
                    ],
                    **said,
                },
                {
                    "id": "x",
                    "completed_by": {"id": "ann", "email": "ann"},
                    "created_at": at,
                    "result": [],
                    **said,
                },
            ],
        },
        {
            "data": data | {"classes": [{"value": "pot"}]},
            "annotations": [{"completed_by": 7, "result": [], **said}],
        },
    ]


def test_what_annotations_do_not_hold_is_said(tmp_path):
    late = START + timedelta(seconds=1)
    rows = [
        ("a.jpg", 0, "7", "yes", True, "1", late, START, 0),
        ("b.jpg", 0, "7", "yes", False, "1", START, None, 1),
        ("b.jpg", 1, "7", "yes", False, "1", START, None, 1),
    ]
    found = votes_of(rows, "main", "page_id", "shown_at", "answered_at", "round")
    saved = save(found, tmp_path / "v.json", "label-studio", holds="votes", classes=CLASSES)
    assert saved.left_out == ("main", "round", "page_id", "shown_at of 3 answers")
    after = read_votes(tmp_path / "v.json", classes=CLASSES).to_table()
    assert after.column_names == ["image_id", "class_id", "rater_id", "answer", "answered_at"]
    assert after["answered_at"].to_pylist() == [START, None, None]


def test_experts_come_back_as_experts(tmp_path):
    rows = [("a.jpg", 0, "e1", "yes"), ("a.jpg", 2, "e1", "no"), ("a.jpg", 0, "2", "no")]
    golden = Golden(votes_of(rows))
    saved = save(golden, tmp_path / "g.json", "label-studio-golden", holds="golden", classes=CLASSES)
    assert saved.left_out == ()
    back = read_golden(tmp_path / "g.json", classes=CLASSES)
    columns = ("image_id", "class_id", "expert_id", "answer")
    assert {tuple(r[c] for c in columns) for r in back.to_table().to_pylist()} == set(rows)


def test_labels_as_annotations_come_back_as_answers(labels, tmp_path):
    to = "label-studio(by='ann')"
    save(labels, tmp_path / "a.json", to, classes=CLASSES)
    assert not any("predictions" in one for one in shown(tmp_path / "a.json")[1])
    table = read_votes(tmp_path / "a.json", classes=CLASSES).to_table().to_pylist()
    assert [(r["image_id"], r["class_id"], r["rater_id"], r["answer"]) for r in table] == [
        ("a b.jpg", 0, "ann", "yes"),
        ("a b.jpg", 1, "ann", "no"),
        ("a b.jpg", 2, "ann", "maybe"),
        ("c&d.jpg", 3, "ann", "no"),
    ]


@pytest.mark.parametrize("by", ["''", "True", "0.5"])
def test_nobody_to_answer(labels, tmp_path, message, by):
    assert message(lambda: save(labels, tmp_path / "a.json", f"label-studio(by={by})", classes=CLASSES)) == (
        f"The value of the option 'by' is not a rater.\n  got:     {by}\n  allowed: a number or a name"
    )


def test_names_are_not_those_of_another_list(proposals, tmp_path, message):
    """Class 0 of four is no tench, though nobody gave the list."""
    told = proposals.replace_schema_metadata({"manyhot.classes": CLASSES.hash, "manyhot.n_classes": "4"})
    assert message(lambda: save(told, tmp_path / "t.json", "label-studio", holds="proposals")) == (
        "The names of the classes are unknown.\n  where:   t.json\n"
        f"  got:     class list {CLASSES.hash} of 4 classes\n  do:      pass the class list as `classes`"
    )
    other = from_keys(["a", "b", "c", "d"], "other")
    for found, holds in ((told, "proposals"), (votes_of([("a.jpg", 0, "7", "yes")]), "votes")):
        said = message(
            lambda f=found, h=holds: save(f, tmp_path / "t.json", "label-studio", holds=h, classes=other),
            MatchError,
        )
        assert said == (
            f"The {holds} have a different class list.\n"
            f"  where:   {'t.json' if holds == 'proposals' else 'mine'}\n"
            f"  got:     other: 4 classes, hash {other.hash}\n"
            f"  allowed: 4 classes, hash {CLASSES.hash}\n"
            f"  do:      pass the class list of the {holds} as `classes`"
        )
    assert not list(tmp_path.iterdir())


PROJECT = """<View>  <!-- {"data": {"image": "<x>"}} -->
  <Image name="img" value="$photo"/>
  <Choices name="tags" toName="img" choice="multiple">
    <Choice value="cat"/><Choice value="dog"/>
    <View><Choice value="cup"/></View>
    <Choice value="Topf &amp; Pfanne" alias="pot"/>
  </Choices>
</View>
"""
FITTING = "yes='tags', maybe='', image='photo', asked='*'"


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "config.xml"
    path.write_text(PROJECT)
    return path


def test_the_configuration_is_a_class_list(project):
    classes = read_classes(project)
    assert (classes.keys, classes.names) == (CLASSES.keys, ("cat", "dog", "cup", "Topf & Pfanne"))


CHOICES = '<Choices name="{}" toName="i">{}</Choices>'
CAT, DOG = '<Choice value="cat"/>', '<Choice value="dog"/>'
REFUSED = "The file is not a Label Studio labelling configuration.\n  where:   {path}\n"
HOSTILE = {
    "an entity": (
        '<!DOCTYPE a [<!ENTITY x "cat">]><View>' + CHOICES.format("t", '<Choice value="&x;"/>') + "</View>",
        REFUSED + "  got:     a declaration",
    ),
    "a file of the machine": (
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><View/>',
        REFUSED + "  got:     a declaration",
    ),
    "a document type in pieces": ("<!<!---->DOCTYPE a><View/>", REFUSED + "  got:     a declaration"),
    "an open comment": ("<View><!-- </View>", REFUSED + "  got:     a declaration"),
    "many open comments": ("<!--" * 250_000, REFUSED + "  got:     a declaration"),
    "a large file": ("<View>" + " " * (1 << 20) + "</View>", REFUSED + "  got:     1,048,589 bytes"),
    "cut": ("<View>", REFUSED + "  got:     no element found: line 1, column 6"),
    "classes in the tasks": (
        '<View><Choices name="t" toName="i" value="$classes"/></View>',
        "The configuration does not list classes.\n  where:   {path}\n  got:     no Choices with a Choice\n"
        "  allowed: one list of classes\n"
        "  do:      pass a file with one class per line, in the order of the classes",
    ),
    "two lists": (
        "<View>" + CHOICES.format("t", CAT) + CHOICES.format("u", DOG) + "</View>",
        "The questions of the configuration have different choices.\n  where:   {path}\n"
        "  got:     the questions 't', 'u'\n  allowed: one list of classes\n"
        "  do:      pass a file with one class per line, in the order of the classes",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_configurations(project, message, what):
    content, text = HOSTILE[what]
    project.write_text(content)
    assert message(lambda: read_classes(project)) == text.replace("{path}", str(project))


def test_all_that_does_not_fit_is_said_at_once(write, message):
    """The export of a project that manyhot did not set up took three attempts."""
    one = annotation(1, 1, result("tags", "cat", "pot"))
    path = write([task(1, "a.jpg", [], one) | {"data": {"image": "a.jpg"}}])
    assert message(lambda: read_votes(path)) == (
        f"The project has other questions, fields or classes.\n  where:   {path}\n"
        "  got:     the questions 'tags'; no list in the field 'classes' of the tasks' data; "
        "choices such as 'cat'\n"
        "  allowed: 'classes' for yes, and 'maybe' for maybe; a list of the classes shown; "
        "the 1,000 classes of imagenet1k\n"
        "  do:      pass `format`=\"label-studio(yes='tags', asked='*')\"; "
        "and the project's configuration, an .xml file, as `classes`"
    )
    table = votes(path, format="label-studio(yes='tags', asked='*')")
    assert table["answer"].to_pylist() == ["yes", "no", "no", "yes"]


def test_tasks_fit_an_existing_project(labels, project, tmp_path, write):
    """Each result answers a question of the project, and its export is read with the same options."""
    to = f"label-studio({FITTING}, to_name='img')"
    saved = save(labels, tmp_path / "tasks.json", to, classes=read_classes(project))
    assert {"unclear classes", "which classes were asked about"} <= set(saved.left_out)
    (image,) = (tag for tag in ElementTree.fromstring(PROJECT).iter("Image"))
    export = json.loads(saved.files[0].read_text(encoding="utf-8"))
    for i, one in enumerate(export):
        assert set(one["data"]) == {image.get("value")[1:], "image_id"}
        results = one["predictions"][0]["result"]
        assert all((r["from_name"], r["to_name"]) == ("tags", image.get("name")) for r in results)
        one |= {"id": i, "annotations": [annotation(i, 1, *results)]}
    read = read_votes(write(export), classes=read_classes(project), format=f"label-studio({FITTING})")
    yes = [r["class_id"] for r in read.to_table().to_pylist() if r["answer"] == "yes"]
    assert (len(read), yes) == (8, [0])
    assert read_classes(saved.files[1]).keys == ("cat", "dog", "cup", "Topf & Pfanne")


@pytest.mark.parametrize(
    ("uris", "prefix", "addresses"),
    [
        (
            ["img/cam 1/a b.jpg", "img/cam2/c&d.jpg"],
            "s3://x/",
            ["s3://x/cam%201/a%20b.jpg", "s3://x/cam2/c%26d.jpg"],
        ),
        (["gs://x/1/a b.jpg", "gs://x/2/c&d.jpg"], "", ["gs://x/1/a b.jpg", "gs://x/2/c&d.jpg"]),
        (["gs://x/1/a b.jpg", "gs://x/2/c&d.jpg"], "s3://y/", ["s3://y/1/a%20b.jpg", "s3://y/2/c%26d.jpg"]),
    ],
)
def test_images_keep_their_folders(labels, tmp_path, uris, prefix, addresses):
    images = Images(pa.table({"image_id": ["a b.jpg", "c&d.jpg"], "uri": uris}))
    to = f"label-studio(prefix={prefix!r})" if prefix else "label-studio"
    save(labels, tmp_path / "t.json", to, classes=CLASSES, images=images)
    tasks = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert [t["data"]["image"] for t in tasks] == addresses
    assert [t["data"]["image_id"] for t in tasks] == ["a b.jpg", "c&d.jpg"]

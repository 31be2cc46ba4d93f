"""Files of studies: what they open with, and parts that do not fit."""

import dataclasses

import pytest

import toys
from manyhot.errors import InputError
from manyhot.study import Arm, Net, StudyDataSet
from manyhot.study.study_file import check_study, read_opening, read_study
from toys import DOC, claim, study


def write(tmp_path, text):
    path = tmp_path / "toy.py"
    path.write_text(text)
    return path


def refused(act, *args):
    with pytest.raises(InputError) as error:
        act(*args)
    return str(error.value)


def test_a_study_is_read_with_its_opening_and_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path), str(toys.__file__).removesuffix("/toys.py")])
    (tmp_path / "beside_it.py").write_text("import toys\nstudy = toys.study()")
    found, opening = read_study(write(tmp_path, DOC + "from beside_it import study\n"))
    assert found.name == "toy"
    assert dataclasses.asdict(opening) == {
        "question": "Do sets help?",
        "command": "manyhot study toy.py",
        "time": "a second.",
        "result": "they do.",
    }


def test_planted_and_natural_data_are_not_averaged():
    voc, cifar = study().grid.data_sets
    data_sets = (voc, dataclasses.replace(cifar, planted=("map",)))
    assert refused(check_study, study(data_sets=data_sets), "toy.py") == (
        "The claim 'sets' averages planted and natural data.\n  where:   toy.py\n"
        "  got:     planted in cifar, natural in voc\n"
        "  allowed: one claim for each, with `data_sets`"
    )
    each = tuple(claim(name=name, data_sets=(name,)) for name in ("voc", "cifar"))
    check_study(study(data_sets=data_sets, claims=each))


def test_files_that_hold_no_study(tmp_path):
    path = tmp_path / "toy.py"
    assert refused(read_study, path) == f"The file does not exist.\n  where:   {path}"
    write(tmp_path, DOC)
    assert refused(read_study, path) == (
        f"The file defines no study.\n  where:   {path}\n  got:     no object of this name\n"
        "  do:      end the file with study = manyhot.study.Study(...)"
    )
    write(tmp_path, DOC + "study = 3\n")
    assert "  got:     a int\n" in refused(read_study, path)
    write(tmp_path, DOC + "\n1 / 0\n")
    assert refused(read_study, path) == (
        f"The file cannot be imported.\n  where:   {path}, line 13\n"
        "  got:     ZeroDivisionError: division by zero"
    )
    write(tmp_path, "study = (")
    assert refused(read_study, path) == (
        f"The file is not a Python file.\n  where:   {path}, line 1\n"
        "  got:     '(' was never closed (<unknown>, line 1)"
    )


def test_an_opening_that_lacks_parts(tmp_path):
    text = DOC.replace("Time: a second.", "").replace("Result: they", "They")
    path = write(tmp_path, text)
    assert refused(read_opening, path) == (
        f"The docstring of the file lacks some paragraphs.\n  where:   {path}\n"
        "  got:     no Time, no Result\n"
        "  allowed: Question: …, Command: …, Time: …, Result: …\n"
        "  do:      start a paragraph with each of these"
    )
    assert "  got:     no Question, no Command, no Time, no Result\n" in refused(
        read_opening, write(tmp_path, "")
    )


SEEDS = "A study needs at least two seeds, each listed once, because its intervals are computed over seeds."
NO_ARM = "The claim 'sets' names an arm that does not exist."
NO_METRIC = "The claim 'sets' names a metric that is not measured."
ARMS = "cleaned, label, sets"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": (3,)}, f"{SEEDS}\n  got:     3"),
        ({"seeds": (3, 3)}, f"{SEEDS}\n  got:     3, 3"),
        ({"seeds": ()}, f"{SEEDS}\n  got:     none"),
        ({"name": "a/b"}, "The name of a study is not a valid file name.\n  got:     'a/b'\n"
         "  allowed: letters, digits, '.', '_' and '-'"),
        ({"arms": ()}, "The study has no arm.\n  got:     none\n  allowed: one or more"),
        (
            {"networks": (Net("n", "", {}), Net("n", "", {}))},
            "A name of a network is taken.\n  got:     n\n  allowed: each name once, and not 'all'",
        ),
        (
            {"arms": (Arm("a", "", toys.truth, wants=("b",)),)},
            "The arm 'a' depends on an arm that does not exist.\n  got:     'b'\n  allowed: a",
        ),
        (
            {"arms": (Arm("a", "", toys.truth, wants=("b",)), Arm("b", "", toys.truth, wants=("a",)))},
            "Arms depend on each other.\n  got:     a, b\n  allowed: an arm without wants, to begin with",
        ),
        (
            {"without": (("voc", "large"),)},
            "The grid excludes a name that it does not contain.\n"
            "  got:     'large'\n  allowed: voc, cifar, small",
        ),
        (
            {"table": ("ap",)},
            "The study's table contains a metric that is not measured.\n  got:     'ap'\n  allowed: map, "
            "share",
        ),
        ({"claims": (claim(arm="soft"),)}, f"{NO_ARM}\n  got:     'soft'\n  allowed: {ARMS}, all"),
        ({"claims": (claim(against="soft"),)}, f"{NO_ARM}\n  got:     'soft'\n  allowed: {ARMS}"),
        ({"claims": (claim(metric="ap"),)}, f"{NO_METRIC}\n  got:     'ap'\n  allowed: map, share"),
        ({"claims": (claim(against="", than="ap"),)}, f"{NO_METRIC}\n  got:     'ap'\n  allowed: map, share"),
        (
            {"claims": (claim(data_sets=("coco",)),)},
            "The claim 'sets' names a data set that does not exist.\n"
            "  got:     'coco'\n  allowed: voc, cifar",
        ),
        (
            {"claims": (claim(networks=("large",)),)},
            "The claim 'sets' names a network that does not exist.\n  got:     'large'\n  allowed: small",
        ),
        (
            {"claims": (claim(against=""),)},
            "The claim 'sets' must compare with an arm (`against`), or with a metric or number (`than`).\n"
            "  got:     neither\n  allowed: one",
        ),
        ({"claims": (claim(margin=0),)}, "The claim 'sets' needs a margin above 0.\n  got:     0"),
        (
            {"claims": (claim(metric="share"),)},
            "The claim 'sets' must use the arm 'all' if its metric is measured across runs.\n"
            "  got:     sets",
        ),
        (
            {"arms": (Arm("a", "", toys.truth, {"epoch": 3}),), "claims": ()},
            "A recipe has no setting 'epoch'.\n  where:   toy.py, arm 'a'\n  got:     3\n",
        ),
        (
            {"data_sets": (StudyDataSet("d", "", toys.make, {"seed": 3}),), "claims": ()},
            "The seed is set by the grid.\n"
            "  where:   toy.py\n  got:     settings of 'd'\n  do:      remove it from the settings",
        ),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(given, message):
    text = refused(check_study, study(**given), "toy.py")
    what, _, rest = message.partition("\n")
    where = "" if "where:" in rest else "\n  where:   toy.py"
    assert text.startswith(f"{what}{where}\n{rest}")
    if "setting 'epoch'" not in what:
        assert text == f"{what}{where}\n{rest}"

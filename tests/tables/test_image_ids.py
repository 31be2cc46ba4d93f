"""Ids that two files write differently, against pairs by brute force, in plain Python."""

import contextlib
import random
import re
import unicodedata
from itertools import combinations

import pyarrow as pa
import pytest

from manyhot.errors import InputError, MatchError
from manyhot.tables.image_ids import (
    check_match,
    first_unique,
    ids_like,
    match_ids,
    missed_way,
    nearest_way,
    normal_ids,
)

LADDER = [way for n in (1, 2, 3) for way in combinations(("path", "stem", "case"), n)]
LADDER += [("number",), ("stem", "number")]


def column(ids):
    return pa.array(ids, pa.string())


def match(left, right, how="auto"):
    return match_ids(column(left), column(right), left_name="labels", right_name="resnet", match=how)


def pairs(left, right, how="auto"):
    found = match(left, right, how)
    assert found.left.tolist() == sorted(found.left.tolist())
    return {(left[i], right[j]) for i, j in zip(found.left, found.right, strict=True)}


def refusal(*args, **options):
    with pytest.raises(InputError) as error:
        match(*args, **options)
    return str(error.value)


# The reference.


def key(name, way):
    name = unicodedata.normalize("NFC", name)
    if "name" in way:
        name = name.split("/")[-1]
    if "stem" in way:
        folder, slash, base = name.rpartition("/")
        stem, _, ending = base.rpartition(".")
        if stem and re.fullmatch("[A-Za-z][A-Za-z0-9]{1,4}", ending):
            name = folder + slash + stem
    if "number" in way and (number := re.fullmatch(r"((?:.*/)?)0*([0-9]+)(\.0)?", name)):
        name = number[1] + number[2]
    return name.lower() if "case" in way else name


def ends(name):
    """Return what is left of a name without its first folder, without the first two, and so on."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(1, len(parts))]


def by_hand(left, right, way):
    """Return the pairs of ids for a way, by comparing each with each; None if they are ambiguous."""
    a, b = [key(n, way) for n in left], [key(n, way) for n in right]
    found = {(i, j) for i in range(len(a)) for j in range(len(b)) if a[i] == b[j]}
    if "path" in way:
        rest_a = [i for i in range(len(a)) if a[i] not in b]
        rest_b = [j for j in range(len(b)) if b[j] not in a]
        for i in rest_a:
            longest = next((e for e in ends(a[i]) if e in {b[j] for j in rest_b}), None)
            found |= {(i, j) for j in rest_b if b[j] == longest}
        for j in rest_b:
            longest = next((e for e in ends(b[j]) if e in {a[i] for i in rest_a}), None)
            found |= {(i, j) for i in rest_a if a[i] == longest}
    if len({i for i, _ in found}) < len(found) or len({j for _, j in found}) < len(found):
        return None
    return {(left[i], right[j]) for i, j in found}


def overlap(left, right, way):
    """Return how many ids of a side take part, ambiguous or not."""
    a, b = [key(n, way) for n in left], [key(n, way) for n in right]
    if "path" not in way:
        return max(sum(x in b for x in a), sum(y in a for y in b))
    rest_a, rest_b = {x for x in a if x not in b}, {y for y in b if y not in a}
    ended_a = {next((e for e in ends(x) if e in rest_b), None) for x in rest_a} - {None}
    ended_b = {next((e for e in ends(y) if e in rest_a), None) for y in rest_b} - {None}
    in_a = [x for x in a if x in b or x in ended_b or any(e in rest_b for e in ends(x))]
    in_b = [y for y in b if y in a or y in ended_a or any(e in rest_a for e in ends(y))]
    return max(len(in_a), len(in_b))


def auto_by_hand(left, right):
    """Return the pairs, or ``refused``."""
    least = min(len(left), len(right))
    exact = {(x, x) for x in left if x in right}
    unicode = by_hand(left, right, ())
    if len(exact) < least and unicode is not None and len(unicode) > len(exact):
        exact = unicode
    if len(exact) >= 0.1 * least:
        return exact
    is_ambiguous = False
    for way in LADDER:
        if overlap(left, right, way) < max(1, 0.5 * least):
            continue
        found = by_hand(left, right, way)
        if found is not None:
            return found
        is_ambiguous = True
    return "refused" if is_ambiguous and not exact else exact


def random_names(rng, n):
    folders = ["a", "b", "A", "val", "é", "e\u0301"]
    bases = ["1", "2", "x", "X", "x.y", "é", "e\u0301"]
    endings = ["", ".jpg", ".JPG", ".jpeg", ".png", ".7"]
    return [
        "/".join([*rng.choices(folders, k=rng.randrange(4)), rng.choice(bases) + rng.choice(endings)])
        for _ in range(n)
    ]


def changed(rng, names):
    """Return names as another tool may write them."""
    prefix = rng.choice(["", "", "data/", "/mnt/d/val/"])
    drop, ending, lower = rng.choice([0, 0, 1, 9]), rng.choice([None, "", ".jpg"]), rng.random() < 0.3
    done = []
    for name in names:
        name = prefix + "/".join(name.split("/")[min(drop, name.count("/")) :])
        if ending is not None:
            name = key(name, ("stem",)) + ending
        done.append(name.lower() if lower else name)
    return done


@pytest.mark.parametrize("part", range(4))
def test_against_each_with_each(part):
    for seed in range(60 * part, 60 * part + 60):
        check_against_each_with_each(random.Random(seed))


def check_against_each_with_each(rng):
    left = list(dict.fromkeys(random_names(rng, rng.randrange(1, 9))))
    right = random_names(rng, rng.randrange(3)) if rng.random() < 0.5 else []
    right = list(dict.fromkeys(changed(rng, rng.sample(left, rng.randrange(len(left) + 1))) + right))
    rng.shuffle(right)
    for how in ("path", "name", "stem", "case", "name+stem", "path+case", "path+stem+case", "name+stem+case"):
        expected = by_hand(left, right, how.split("+"))
        if expected is None:
            assert refusal(left, right, how).startswith("An id of ")
        else:
            assert pairs(left, right, how) == expected
    assert pairs(left, right, "exact") == {(x, x) for x in left if x in right}
    expected = auto_by_hand(left, right)
    if expected == "refused":
        assert "matches several ids of" in refusal(left, right)
    else:
        assert pairs(left, right) == expected


@pytest.mark.parametrize("seed", range(40))
def test_images_are_found_again(seed):
    """The ids of a tree are matched if they are written in another way, in another order and in part."""
    rng = random.Random(seed)
    names = {
        "/".join([*rng.choices("abc", k=2), f"{rng.randrange(30)}.{rng.choice(('jpg', 'JPEG'))}"])
        for _ in range(20)
    }
    stems = {key(n, ("stem", "case")): n for n in sorted(names)}
    left = list(stems.values())
    prefix, ending, change = rng.choice(["", "data/", "/x/y/"]), rng.choice([None, "", ".png"]), str.upper
    written = {}
    for name in left:
        other = prefix + (name if ending is None else key(name, ("stem",)) + ending)
        written[name] = change(other) if seed % 3 == 0 else other
    right = rng.sample(list(written.values()), max(1, len(left) // 2))
    found = pairs(left, right)
    assert found == {(name, other) for name, other in written.items() if other in right}


def test_the_ways_in_words():
    def text(left, right, how="auto"):
        return match(left, right, how).describe(column(left), column(right))

    assert text(["a/1.jpg", "b/1.jpg"], ["data/val/b/1.jpg", "data/val/a/1.jpg"]) == (
        "2 images are matched without regard to leading folders, such as data/val/a/1.jpg with a/1.jpg"
    )
    assert text(["x.JPEG"], ["x.jpg"]) == (
        "1 image is matched without regard to extensions, such as x.jpg with x.JPEG"
    )
    assert text(["v/x.JPEG"], ["X"]) == (
        "1 image is matched without regard to leading folders, extensions and letter case, "
        "such as X with v/x.JPEG"
    )
    assert text(["train/1.jpg"], ["val/1.jpg"], "name") == (
        "1 image is matched without regard to folders, such as val/1.jpg with train/1.jpg"
    )
    assert text(["1.jpg", "2.jpg"], ["2.jpg", "3.jpg"]) == ""


def test_unicode_forms_are_equal_although_most_ids_are():
    left, right = ["a.jpg", "b.jpg", "\u00e9.jpg"], ["e\u0301.jpg", "a.jpg"]
    assert pairs(left, right) == {("a.jpg", "a.jpg"), ("\u00e9.jpg", "e\u0301.jpg")}
    assert match(left, right).describe(column(left), column(right)) == (
        "1 image is matched without regard to Unicode forms and spaces at the ends, such as e\u0301.jpg with "
        "\u00e9.jpg"
    )
    assert pairs(left, right, "exact") == {("a.jpg", "a.jpg")}


def test_exact_ids_stay_as_they_are():
    """A tenth is enough: the rest of the two files are other images, even if names would match."""
    left = [f"a/{i}.jpg" for i in range(10)]
    right = ["a/0.jpg", *(f"b/a/{i}.jpg" for i in range(1, 10))]
    assert pairs(left, right) == {("a/0.jpg", "a/0.jpg")}
    assert len(pairs([*left, "c/1.jpg"], [*right, "d/1.jpg"])) == 10  # less than a tenth


def test_splits_are_not_matched_unless_asked():
    left, right = ["train/cat/1.jpg", "train/dog/2.jpg"], ["val/cat/1.jpg", "val/dog/2.jpg"]
    assert pairs(left, right) == set()
    assert pairs(left, right, "name") == set(zip(left, right, strict=True))
    assert nearest_way(column(left), column(right)) == (
        "if these are the same images, pass `match`=name: 2 images are matched without regard to folders, "
        "such as val/cat/1.jpg with train/cat/1.jpg"
    )
    assert nearest_way(column(["a"]), column(["b"])) == ""


def test_a_leading_folder_is_proposed_where_names_are_ambiguous():
    left, right = ["x/train/a/1.jpg", "x/train/b/1.jpg"], ["y/val/a/1.jpg", "y/val/b/1.jpg"]
    assert nearest_way(column(left), column(right)) == (
        "if these are the same images, pass `match`=x/train/: 2 images are matched without regard to leading "
        "folders, such as y/val/a/1.jpg with x/train/a/1.jpg"
    )
    assert pairs(left, right, "x/train/") == set(zip(left, right, strict=True))


def test_few_matches_are_no_match():
    """Numbers are names in any data set."""
    left, right = [f"{i}.jpg" for i in range(10)], ["3.png", *(f"x{i}.png" for i in range(9))]
    assert pairs(left, right) == set()
    assert pairs(left, right, "stem") == {("3.jpg", "3.png")}


def test_ambiguous_ids_are_refused():
    assert refusal(["1.jpg", "2.jpg"], ["val/1.jpg", "train/1.jpg", "train/2.jpg"]) == (
        "An id of labels matches several ids of resnet.\n"
        "  got:     val/1.jpg and train/1.jpg for 1.jpg\n"
        "  allowed: ids that differ in more than leading folders\n"
        "  do:      in both files, include in each id the folders that distinguish the images; or pass "
        "the leading "
        "folder to remove, such as `match`=val/; "
        "or pass `match`=exact"
    )
    assert refusal(["a/1.jpg", "b/1.jpg", "c/2.jpg", "d/2.jpg"], ["1", "2"], "name+stem") == (
        "An id of resnet matches several ids of labels.\n"
        "  got:     a/1.jpg and b/1.jpg for 1, and 1 more such ids\n"
        "  allowed: ids that differ in more than folders and extensions\n"
        "  do:      in both files, include in each id the folders that distinguish the images; or "
        "pass `match`=exact"
    )


def test_a_leading_folder_settles_it():
    labels = ["cat/1.jpg", "dog/1.jpg"]
    images = ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dog/1.jpg"]
    assert "matches several ids of" in refusal(labels, images)
    expected = {("cat/1.jpg", "val/cat/1.jpg"), ("dog/1.jpg", "val/dog/1.jpg")}
    for folder in ("val/", "val//", "./val/"):
        assert pairs(labels, images, folder) == expected
    assert pairs(images, labels, "val/") == {(b, a) for a, b in expected}
    # On two machines, what is left may still differ at its beginning.
    left, right = ["/home/a/x/cat/1.jpg"], ["/mnt/x/cat/1.jpg", "/mnt/y/cat/1.jpg"]
    assert pairs(left, right) == set()
    assert pairs(left, right, "/home/a/") == {(left[0], right[0])}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["7", "42", "100", "0"], ["7.0", "42.0", "100.0", "0.0"]),
        (["0007", "0042", "0100", "0000"], ["7", "42", "100", "0"]),
        (["0007.jpg", "0042.jpg", "0100.jpg", "0000.jpg"], ["7", "42", "100", "0"]),
    ],
)
def test_whole_numbers_as_spreadsheets_and_frames_write_them(left, right):
    found = match(left, right)
    assert pairs(left, right) == set(zip(left, right, strict=True))
    assert "leading zeros and .0 of whole numbers, such as " in found.describe(column(left), column(right))
    assert pairs(["7", "7.5"], ["7.50", "x"]) == set()
    # Where some ids are equal, the others may be different images; the advice is the way that matches them.
    assert pairs(["1000", "0007", "0042"], ["1000", "7", "42"]) == {("1000", "1000")}
    advice = missed_way(column(["1000", "0007", "0042"]), column(["1000", "7", "42"]))
    assert advice.endswith("pass `match`=number")


def test_unknown_ways():
    for how in ("", "stems", "stem+stem", "stem+", "auto+stem"):
        with pytest.raises(InputError) as error:
            check_match(how)
        assert str(error.value) == (
            "There is no such way to match ids.\n"
            "  where:   `match`\n"
            f"  got:     {how or 'nothing'}\n"
            "  allowed: auto, exact; path, name, stem, case, number, or several of them joined by +; or a "
            "leading folder to remove, such as val/"
        )
    assert [check_match(how) for how in ("auto", "exact", "case+name", "val/")] == [None] * 4


def test_ids_like():
    ids, others = column(["v/1.jpg", "v/2.jpg", "v/9.jpg"]), column(["2.jpg", "1.jpg", "3.jpg"])
    like = ids_like(ids, others, name="resnet", other_name="labels")
    assert (like.ids.to_pylist(), like.n) == (["1.jpg", "2.jpg", "v/9.jpg"], 2)
    same = ids_like(others, others, name="resnet", other_name="labels")
    assert (same.ids is others, same.n, same.text) == (True, 0, "")


def test_normal_ids():
    names = ["a/b.jpg", "./a/b.jpg", ".//./a//b.jpg", "a/./b.jpg", ".\\a\\b.jpg"]
    assert set(normal_ids(column(names)).to_pylist()) == {"a/b.jpg"}
    names = ["C:\\x\\y.jpg", "s3://b//c.jpg", "https://h/a.jpg", "../a.jpg", "/a.jpg", ".a.jpg", "", None]
    assert normal_ids(column(names)).to_pylist() == [
        *("C:/x/y.jpg", "s3://b/c.jpg", "https://h/a.jpg", "../a.jpg", "/a.jpg", ".a.jpg", "", None)
    ]


def test_a_folder_is_no_image():
    assert normal_ids(column(["dir/", "a\\", "/", ".//", "a/\n/"])).to_pylist() == [""] * 5


def test_first_unique():
    assert first_unique(["1", "2"], ["a/1", "b/2"]) == ["1", "2"]
    assert first_unique(["1", "1"], ["a/1", "b/1"]) == ["a/1", "b/1"]
    assert first_unique(["1", "1"], ["a/1", "a/1"]) == ["a/1", "a/1"]


@pytest.mark.parametrize(
    "names",
    [
        ["../../etc/passwd", "/etc/passwd", "", ".", "..", "/", "a/", "a\0b", "\n", "\u202e.jpg", ".jpg"],
        ["x" * 10_000, "x/" * 5_000, "/" * 10_000, "/".join(map(str, range(2_000)))],
    ],
)
def test_hostile_ids(names):
    """Any text is an id: it is never a path to a file, and it is matched only with itself or its ends."""
    for how in ("auto", "path", "name", "stem", "case"):
        for right in (names, ["passwd", "b", "1999"]):
            with contextlib.suppress(MatchError):
                assert len(match(names, right, how)) <= len(right)

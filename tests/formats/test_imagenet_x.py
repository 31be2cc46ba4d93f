"""ImageNet-X's factors: files of the published layout, the published files themselves, and bad files."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imagenet_x_package import MULTI, TOP, lines_of, write_annotations
from manyhot import read_images
from manyhot.errors import InputError
from manyhot.formats import detect
from manyhot.formats.imagenet_x import FACTORS
from skipping import missing

ROWS = [
    ("ILSVRC2012_val_00000001.JPEG", 65, ["pose"]),
    ("ILSVRC2012_val_00000002.JPEG", 970, ["texture", "pose"]),
    ("ILSVRC2012_val_00000003.JPEG", 230, []),
    ("ILSVRC2012_val_00000004.JPEG", 809, ["color"]),
]


def message(path):
    with pytest.raises(InputError) as caught:
        read_images(path)
    return str(caught.value)


def test_factors_are_lists_without_the_prototypes(tmp_path):
    folder = write_annotations(tmp_path, ROWS, ["ILSVRC2012_val_00000004.JPEG"])
    images = read_images(folder / TOP)
    assert detect(folder / TOP).name == "imagenet-x"
    assert images.table.to_pydict() == {
        "image_id": [name for name, *_ in ROWS],
        "label": [65, 970, 230, 809],
        "factor": [["pose", "average"], ["pose", "texture", "average"], ["average"], None],
    }


def test_without_the_list_of_prototypes_all_images_count(tmp_path):
    (tmp_path / TOP).write_text(lines_of(ROWS), encoding="utf-8")
    assert read_images(tmp_path / TOP).table["factor"].null_count == 0


def test_a_line_that_lacks_a_factor(tmp_path):
    lines = lines_of(ROWS).splitlines()
    last = json.loads(lines[-1])
    del last["pose"]
    (tmp_path / TOP).write_text("\n".join([*lines[:-1], json.dumps(last)]))
    assert message(tmp_path / TOP) == (
        "A line of the file lacks a field.\n"
        f"  where:   {tmp_path / TOP}\n"
        "  got:     1 of 4 lines without pose\n"
        f"  allowed: file_name, class, and 0 or 1 for each of {', '.join(FACTORS)}\n"
        "  do:      read a file of the package imagenet-x, such as imagenet_x_val_top_factor.jsonl"
    )


def test_a_factor_is_0_or_1(tmp_path):
    (tmp_path / TOP).write_text(lines_of(ROWS).replace('"pose": 1', '"pose": 7'))
    assert message(tmp_path / TOP) == (
        f"A factor is neither 0 nor 1.\n  where:   {tmp_path / TOP}\n  got:     7\n  allowed: 0, 1"
    )


@pytest.fixture(scope="module")
def annotations():
    """The folder of the installed package, which is for non-commercial use."""
    spec = importlib.util.find_spec("imagenet_x")
    if spec is None:
        missing("the Python package imagenet-x (pip install --group published)")
    return Path(spec.submodule_search_locations[0]) / "annotations"


@pytest.mark.parametrize("name", [TOP, MULTI])
def test_the_published_files_by_plain_loops(annotations, name):
    prototypes = set((annotations / "prototypical_paths.csv").read_text().split()[1:])
    rows = list(map(json.loads, (annotations / name).read_text(encoding="utf-8").splitlines()))
    expected = {
        row["file_name"]: None
        if row["file_name"] in prototypes
        else [*(f for f in FACTORS if row[f] == 1), "average"]
        for row in rows
    }
    table = read_images(annotations / name).table
    assert dict(zip(*(table[c].to_pylist() for c in ("image_id", "factor")), strict=True)) == expected
    assert table["label"].to_pylist() == [row["class"] for row in rows]


def test_the_published_top_factors(annotations):
    lists = read_images(annotations / TOP).table["factor"]
    counts = Counter(name for listed in lists.to_pylist() for name in listed or ())
    assert (len(lists), lists.null_count, counts["average"]) == (48_868, 2_758, 46_110)
    # One factor an image, but for two.
    assert sum(counts[f] for f in FACTORS) == 46_108
    assert np.bincount([len(listed or ()) for listed in lists.to_pylist()]).tolist() == [2_758, 2, 46_108]

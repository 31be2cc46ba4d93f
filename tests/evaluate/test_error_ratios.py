"""``manyhot evaluate imagenet-x``: accuracies and error ratios of factors, by label and by ReaL.

Published values where the package imagenet-x is installed, which is for non-commercial use; otherwise made-up
factors of the same layout. Both are computed again with NumPy alone.
"""

import importlib.util
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from imagenet_x_package import install
from manyhot import evaluate
from manyhot.formats.imagenet_x import FACTORS
from manyhot.report.figure import Figure
from skipping import missing

MODELS = ("alexnet", "resnet50", "vgg16", "nasnetalarge", "se_resnet50", "xception", "fv_4k")
NETWORKS = MODELS[:-1]


class Published:
    """The published predictions and labels of the validation set, read with NumPy and JSON alone."""

    def __init__(self, mirror):
        self.archive = zipfile.ZipFile(mirror)
        pairs = json.loads(self.bytes("datasets/imagenet-validation-original.json"))["image_filenames"]
        keys = sorted({key for _, key in pairs})
        self.names = [name.rpartition("/")[2] for name, _ in pairs]
        self.label = np.array([keys.index(key) for _, key in pairs])
        sets = json.loads(
            self.bytes("reassessed-imagenet/bcd006fe12e929f055e0ec7fe39dbf4d64a6881a/real.json")
        )
        self.real = [set(sets[int(name[15:23]) - 1]) for name in self.names]

    def bytes(self, ending):
        (name,) = (n for n in self.archive.namelist() if n.endswith(ending))
        return self.archive.read(name)

    def top(self, model):
        return np.load(io.BytesIO(self.bytes(f"imagenet-validation-original/{model}.npy")))[:, 0]


@pytest.fixture(scope="module")
def published(mirror):
    return Published(mirror)


def again(published, factors, model):
    """Return accuracies by factor, by label and by ReaL: value and number of images."""
    top = published.top(model)
    right = top == published.label
    valid = np.array([t in s for t, s in zip(top, published.real, strict=True)])
    has_set = np.array([bool(s) for s in published.real])
    images = {name: np.zeros(len(top), bool) for name in ("average", *FACTORS)}
    for i, n in enumerate(published.names):
        for name in factors.get(n) or ():
            images[name][i] = True
    found = {}
    for name, inside in images.items():
        found["top1", name] = right[inside].mean(), int(inside.sum())
        found["real1", name] = valid[inside & has_set].mean(), int((inside & has_set).sum())
    return found


def run(mirror, folder, models=MODELS, resamples=200):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHOT_MIRROR", str(mirror))
        found = evaluate("imagenet-x", models=models, resamples=resamples)
        found.write(folder)
    return found


@pytest.fixture(scope="module")
def made_up(published):
    """Factors of every third image by chance, and some prototypes without any."""
    rng = np.random.default_rng(0)
    rows = [
        (n, int(c), [FACTORS[rng.integers(16)]])
        for n, c in zip(published.names, published.label, strict=True)
    ]
    rows = [row for i, row in enumerate(rows) if i % 3 == 0]
    prototypes = [name for name, *_ in rows[::50]]
    factors = {name: None if name in set(prototypes) else [*own, "average"] for name, _, own in rows}
    return rows, prototypes, factors


@pytest.fixture(scope="module")
def judged(mirror, made_up, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        install(patch, tmp_path_factory.mktemp("site"), *made_up[:2])
        folder = tmp_path_factory.mktemp("imagenet-x")
        return run(mirror, folder), folder


@pytest.mark.parametrize("model", ["resnet50", "fv_4k"])
def test_accuracies_with_numpy_alone(judged, published, made_up, model):
    expected = again(published, made_up[2], model)
    rows = pl.read_csv(judged[1] / "results.csv").filter(
        pl.col("slice").str.starts_with("factor"), model=model
    )
    found = {(r["metric"], r["slice"].partition("=")[2]): (r["value"], r["n"]) for r in rows.to_dicts()}
    assert found == expected


def test_ratios_and_their_difference_with_numpy_alone(judged, published, made_up):
    table = pl.read_csv(judged[1] / "error_ratios.csv")
    expected = {}
    for model in NETWORKS:
        own = {at: 1 - value for at, (value, _) in again(published, made_up[2], model).items()}
        for name in ("average", *FACTORS):
            x, y = (own[m, name] / own[m, "average"] for m in ("top1", "real1"))
            expected[model, name] = (x, y, y - x, own["top1", name] - own["real1", name])
    columns = ("error_ratio_x", "error_ratio_y", "error_ratio_difference", "accuracy_difference")
    rows = table.filter(pl.col("model").is_not_null()).to_dicts()
    found = {(r["model"], r["slice"].partition("=")[2]): tuple(r[c] for c in columns) for r in rows}
    assert found.keys() == expected.keys()  # Fisher vectors are no networks, and left out
    for at, values in expected.items():
        assert found[at] == pytest.approx(values)
    for row in table.filter(pl.col("model").is_null()).to_dicts():
        mean = np.mean([expected[m, row["slice"].partition("=")[2]] for m in NETWORKS], axis=0)
        assert [row[c] for c in columns] == pytest.approx(list(mean))
        assert row["n_models"] == len(NETWORKS)


def test_intervals_by_a_bootstrap_of_its_own(judged, published, made_up):
    """The ratio of one factor, drawn again with other random numbers: the same ends but for noise."""
    top, factors = published.top("resnet50"), made_up[2]
    listed = [factors.get(n) or () for n in published.names]
    whole = np.flatnonzero([bool(f) for f in listed])
    inside = np.array(["pose" in listed[i] for i in whole])
    wrong = (top != published.label)[whole]
    rng, ratios = np.random.default_rng(1), []
    for _ in range(1000):
        drawn = rng.integers(0, len(whole), len(whole))
        ratios.append(wrong[drawn][inside[drawn]].mean() / wrong[drawn].mean())
    table = pl.read_csv(judged[1] / "error_ratios.csv")
    (row,) = table.filter(model="resnet50", slice="factor=pose").to_dicts()
    ends = np.quantile(ratios, (0.025, 0.975))
    assert [row["error_ratio_x_lo"], row["error_ratio_x_hi"]] == pytest.approx(list(ends), abs=0.02)


def test_the_error_of_all_images_has_no_interval(judged):
    rows = pl.read_parquet(judged[1] / "error_ratios.parquet").filter(slice="factor=average").to_dicts()
    assert {(r["error_ratio_x"], r["error_ratio_x_lo"], r["error_ratio_difference_hi"]) for r in rows} == {
        (1.0, None, None)
    }


def test_the_terminal_and_the_licence(judged):
    lines = list(judged[0].lines())
    assert "imagenet-val, top1 → real1: means over 6 models" in lines
    assert lines[-1] == "error ratio: error on these images divided by the error on factor=average"
    assert "imagenet-val: the column 'factor' is that of imagenet-x (licence CC-BY-NC-4.0)" in judged[0].notes
    (source,) = (s for s in json.loads(judged[0].metadata["sources"]) if s["licence"] == "CC-BY-NC-4.0")
    assert "Idrissi" in source["citation"]


def test_the_figure_shows_both_sides(judged):
    pytest.importorskip("altair")
    from manyhot.evaluate.report.figures import draw_figures
    from manyhot.evaluate.report.report_tables import read_tables

    figures = {f.name: f for f in draw_figures(read_tables(judged[1]), own=["resnet50"])}
    figure = figures["error-ratios-imagenet-val"]
    assert isinstance(figure, Figure)
    titles = [panel["layer"][1]["encoding"]["x"]["title"] for panel in figure.spec["concat"]]
    assert titles == ["Error ratio by Top-1", "Error ratio by ReaL"]
    page = (judged[1] / "report" / "index.html").read_text(encoding="utf-8")
    assert "Error ratios, ImageNet validation" in page


def test_without_resamples_there_are_no_intervals(mirror, made_up, tmp_path, monkeypatch):
    install(monkeypatch, tmp_path / "site", *made_up[:2])
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    rows = evaluate("imagenet-x", models=["resnet50"], resamples=0).error_ratios.to_pylist()
    assert len(rows) == 2 * 17
    assert {row["error_ratio_x_lo"] for row in rows} == {None}
    assert all(row["error_ratio_x"] > 0 for row in rows)


@pytest.mark.slow
def test_one_model(mirror, made_up, tmp_path, monkeypatch):
    install(monkeypatch, tmp_path / "site", *made_up[:2])
    found = run(mirror, tmp_path / "out", models=["resnet50"])
    assert "imagenet-val, top1 → real1: 1 model" in list(found.lines())


# The published annotations.

NAMES = ("average", *FACTORS)

README = (
    *(0.694739, 1.1417, 0.771442, 1.18883, 1.49743, 1.74423, 1.13236, 2.10548, 2.39386, 1.31592, 1.71502),
    *(1.92327, 2.17128, 1.92798, 1.16639, 1.97389),
)
"""ResNet50's error ratios, as the README of the package imagenet-x prints them: six digits."""

RIGHT = {
    "vgg16": "0.698915636521362 0.7744954859267127 0.68164870178293 0.7195244474212994 0.6476422764227642 "
    "0.5262068965517241 0.5331369661266568 0.677115987460815 0.4717948717948718 0.3475177304964539 "
    "0.6266666666666667 0.5327868852459017 0.5 0.35 0.4883720930232558 0.7045454545454546 0.55",
    "nasnetalarge": "0.814508783344177 0.8728757302177377 0.7954714934580707 0.8374079035498996 "
    "0.7809756097560976 0.7062068965517241 0.678939617083947 0.7931034482758621 0.5606837606837607 "
    "0.5460992907801419 0.76 0.7540983606557377 0.6666666666666666 0.7166666666666667 0.6976744186046512 "
    "0.8409090909090909 0.675",
    "se_resnet50": "0.762741270873997 0.8268720127456187 0.7438817707274084 0.7918620227729404 "
    "0.7208130081300813 0.6248275862068966 0.5832106038291606 0.7664576802507836 0.5230769230769231 "
    "0.4929078014184397 0.6933333333333334 0.639344262295082 0.5384615384615384 0.6 0.627906976744186 "
    "0.7045454545454546 0.575",
    "xception": "0.7752114508783344 0.8388874137015401 0.7541183648566199 0.7988948425987944 "
    "0.7442276422764228 0.6379310344827587 0.6215022091310751 0.768025078369906 0.5145299145299145 "
    "0.4858156028368794 0.7133333333333334 0.680327868852459 0.5641025641025641 0.5833333333333334 "
    "0.6976744186046512 0.7727272727272727 0.65",
}
"""Accuracies of all images and of each factor: facebookresearch/imagenetx,
results/val/top_factor/imagenet_testbed/class/accuracies_per_factor.csv."""

AVERAGES = (
    "bninception 0.7194101062676209 cafferesnet101 0.7478421166775103 densenet121 0.7284536976794621 "
    "densenet161 0.7577098243331165 densenet169 0.7412274994578183 densenet201 0.7549772283669486 dpn107 "
    "0.7850140967252223 dpn131 0.7816525699414444 dpn68 0.7437432227282585 dpn68b 0.7564736499674691 dpn92 "
    "0.7812188245499891 dpn98 0.7796573411407504 fbresnet152 0.7601171112556929 inceptionresnetv2 "
    "0.7906527868141401 inceptionv3 0.7592279332032097 inceptionv4 0.7887659943613099 nasnetamobile "
    "0.725287356321839 pnasnet5large 0.8167208848405986 polynet 0.7971155931468228 resnet101 "
    "0.7598134894816743 resnet152 0.7697028844068532 resnet18 0.6792886575580135 resnext101_32x4d "
    "0.7684450227716331 resnext101_64x4d 0.7763175016265452 se_resnet101 0.7709607460420733 se_resnet152 "
    "0.773888527434396 se_resnext101_32x4d 0.7905877250054218 se_resnext50_32x4d 0.7785512903925396 senet154 "
    "0.8016699197571026 squeezenet1_0 0.559206245933637 squeezenet1_1 0.5598785512903925 vgg11 "
    "0.6719149859032748 vgg11_bn 0.68648883105617 vgg13 0.6817393190197354 vgg13_bn 0.6989373237909348 "
    "vgg16_bn 0.7175450010843635 vgg19 0.7073086098460204 vgg19_bn 0.7265452179570592"
)
"""Accuracies of all images in the same table. alexnet's, 0.544610713511169, is that of two more images."""


@pytest.fixture(scope="module")
def real_run(mirror, tmp_path_factory):
    if importlib.util.find_spec("imagenet_x") is None:
        missing("the Python package imagenet-x (pip install --group published)")
    folder = tmp_path_factory.mktemp("published")
    run(mirror, folder, models=(), resamples=1000)
    return folder


@pytest.fixture(scope="module")
def accuracies(real_run):
    rows = pl.read_csv(real_run / "results.csv").filter(metric="top1").select("model", "slice", "value")
    return {(model, name.removeprefix("factor=")): value for model, name, value in rows.iter_rows()}


@pytest.mark.slow
def test_published_error_ratios(real_run):
    rows = pl.read_csv(real_run / "error_ratios.csv").filter(model="resnet50")
    ratios = dict(rows.select("slice", "error_ratio_x").iter_rows())
    for name, value in zip(FACTORS, README, strict=True):
        assert f"{ratios[f'factor={name}']:.6g}" == f"{value:.6g}", name


@pytest.mark.slow
@pytest.mark.parametrize("model", RIGHT)
def test_published_accuracies_of_factors(accuracies, model):
    values = list(map(float, RIGHT[model].split()))
    assert [accuracies[model, name] for name in NAMES] == pytest.approx(values, abs=1e-15)


@pytest.mark.slow
def test_published_accuracies_of_all_images(accuracies):
    listed = AVERAGES.split()
    for model, value in zip(listed[::2], listed[1::2], strict=True):
        assert accuracies[model, "average"] == pytest.approx(float(value), abs=1e-15), model


@pytest.mark.slow
def test_published_factors_with_numpy_alone(real_run, published):
    folder = Path(importlib.util.find_spec("imagenet_x").submodule_search_locations[0]) / "annotations"
    lines = (folder / "imagenet_x_val_top_factor.jsonl").read_text(encoding="utf-8").splitlines()
    prototypes = set((folder / "prototypical_paths.csv").read_text().split()[1:])
    rows = [r for r in map(json.loads, lines) if r["file_name"] not in prototypes]
    factors = {r["file_name"]: ["average", *(f for f in FACTORS if r[f])] for r in rows}
    expected = again(published, factors, "resnet50")
    table = pl.read_csv(real_run / "results.csv").filter(
        pl.col("slice").str.starts_with("factor"), model="resnet50"
    )
    found = {(r["metric"], r["slice"].partition("=")[2]): (r["value"], r["n"]) for r in table.to_dicts()}
    assert found == expected


PAGE = Path(__file__).parents[2] / "docs" / "guides" / "evaluate" / "comparison.md"


@pytest.mark.slow
def test_the_table_in_the_docs(real_run, published):
    rows = pl.read_csv(real_run / "error_ratios.csv").filter(pl.col("model").is_null()).to_dicts()
    by_slice = {row["slice"].partition("=")[2]: row for row in rows}
    assert by_slice["average"]["n_models"] == 64
    on_sets = ratios_on_rated_images(published, real_run)
    text = (
        PAGE.read_text(encoding="utf-8").partition("| factor | n | by label | by ReaL |")[2].split("\n\n")[0]
    )
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    assert [name.strip("`") for name, *_ in lines] == list(FACTORS)
    for name, n, *said in lines:
        row = by_slice[name.strip("`")]
        ends = f"{row['error_ratio_difference_lo']:+.2f} to {row['error_ratio_difference_hi']:+.2f}"
        numbers = (row["error_ratio_x"], row["error_ratio_y"], on_sets[name.strip("`")])
        x, y, alone = (f"{value:.2f}" for value in numbers)
        assert [n, *said] == [f"{row['n_x']:,}", x, y, f"{row['error_ratio_difference']:+.2f}", ends, alone]


def ratios_on_rated_images(published, folder):
    """Return mean error ratios by original label on the images that have a set of ReaL's."""
    annotations = Path(importlib.util.find_spec("imagenet_x").submodule_search_locations[0]) / "annotations"
    lines = (annotations / "imagenet_x_val_top_factor.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["file_name"]: row for row in map(json.loads, lines)}
    prototypes = set((annotations / "prototypical_paths.csv").read_text().split()[1:])
    counts = [
        n in rows and n not in prototypes and bool(s)
        for n, s in zip(published.names, published.real, strict=True)
    ]
    at = np.flatnonzero(counts)
    inside = {f: np.array([rows[published.names[i]][f] == 1 for i in at]) for f in FACTORS}
    models = pl.read_csv(folder / "error_ratios.csv")["model"].drop_nulls().unique().to_list()
    wrong = np.stack([(published.top(m) != published.label)[at] for m in models])
    return {f: float(np.mean(wrong[:, mask].mean(1) / wrong.mean(1))) for f, mask in inside.items()}

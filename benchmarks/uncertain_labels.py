"""Does the evaluation of predictive uncertainty depend on the labels? The numbers of uncertainty.md.

    python benchmarks/uncertain_labels.py cifar
    python benchmarks/uncertain_labels.py ranks
    python benchmarks/uncertain_labels.py voc FOLDER

write their results to uncertain_labels.csv, and uncertain_labels_tables.py prints the tables of the page.

``cifar``: out-of-fold probabilities for CIFAR-10's 10,000 test images (cleanlab's label-errors) with the
counts of people's answers (CIFAR-10H); ``ranks``: the top classes of 67 published networks with ReaL's label
sets. Both read the archive beside the repository, and take seconds.

``voc``: heads and networks for VOC photographs, fitted on 1,200 and evaluated on 1,095, with COCO photographs
as out-of-distribution images. It writes features on four backbones, heads, and two networks that are trained
from the published weights of EfficientNet-Lite0 with different seeds, to FOLDER, which takes eleven
minutes of one core. A stopped run resumes. Averages of any photographs::

    manyhot predict PHOTOS --model 'ensemble:head:FOLDER/heads/one[1-5].safetensors' --out OUT
    manyhot predict PHOTOS --model 'dropout:head:FOLDER/heads/dropping.safetensors(passes=50)' --out OUT
    manyhot predict PHOTOS --model 'ensemble:trained:FOLDER/networks/*/model.safetensors' --out OUT
"""

from __future__ import annotations

import argparse
import io
import itertools
import zipfile
from dataclasses import dataclass
from pathlib import Path

import common
import uncertain_labels_tables as results

common.quiet()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from scipy.special import softmax  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import from_keys  # noqa: E402
from manyhot.core.conformal import expected_coverage  # noqa: E402
from manyhot.core.ood import auroc, confidence_scores  # noqa: E402
from manyhot.core.score_threshold import linked  # noqa: E402
from manyhot.core.sets import NO, UNCLEAR, YES  # noqa: E402
from manyhot.core.uncertainty import Average, uncertainty_of  # noqa: E402
from manyhot.evaluate.confidence import Division, split_for_sets  # noqa: E402

SHARED = common.REPO.parent / "shared"
COCO = SHARED / "data" / "coco" / "images.parquet"
RAW = "raw.githubusercontent.com"
ERRORS = f"{RAW}/cleanlab/label-errors/6d5d6b31a13216290afc40e5c6319399c4d15c06"
COUNTS = f"{RAW}/jcpeterson/cifar-10h/48da312b193b82e6939ec20f23d1f09cbdd849c8/data/cifar10h-counts.npy"
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
VOC = """aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""
OF_COCO = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "couch": "sofa",
    "tv": "tvmonitor",
}
TRAINED, MEMBERS, NETWORKS, PASSES, RATE = 1200, 5, 2, 50, 0.5
BACKBONES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "squeezenet")
RECIPE = {
    "model": BACKBONES[0],
    "teach": "label",
    "size": 128,
    "batch": 32,
    "lr": 5e-4,
    "epochs": 5,
}
"""Of the networks. The photographs of VOC are stored with a short side of 128 pixels."""

LEAST = 0.1
"""A class is in the label set of a CIFAR-10 image if at least this share of people chose it."""


def array(path):
    with zipfile.ZipFile(SHARED / "mirror.zip") as archive:
        return np.load(io.BytesIO(archive.read(path)), allow_pickle=False)


def ids_of(n):
    return pa.array([f"{i:05}" for i in range(n)])


def metric_rows(part, labels, models):
    """Yield both versions of each metric, with intervals and the numbers of images."""
    names = [metric for pair in results.OF_LABEL.values() for metric in pair]
    found = manyhot.evaluate(labels, models, metrics=names, map_resamples=200).results.to_pylist()
    rows = {(r["model"], r["metric"]): r for r in found if r["slice"] == "all"}
    for model in models:
        for measure, pair in results.OF_LABEL.items():
            for by, metric in zip(("label", "set"), pair, strict=True):
                of = (part, "metrics", model.model, measure, by)
                yield results.row(*of, *(rows[model.model, metric][k] for k in ("value", "lo", "hi", "n")))


def cifar():
    p = array(f"{ERRORS}/cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy").astype(np.float32)
    label = array(f"{ERRORS}/original_test_labels/cifar10_test_set_original_labels.npy").astype(np.int32)
    counts = array(COUNTS)
    shares = counts / counts.sum(axis=1, keepdims=True)
    n, c = shares.shape
    classes = from_keys(CIFAR10.split(), "cifar10")
    chosen = [np.flatnonzero(row) for row in shares]
    table = pa.table(
        {
            "image_id": ids_of(n),
            "label": label,
            "rated": [True] * n,
            "usable": [True] * n,
            "classes": [list(map(int, s)) for s in chosen],
            "state": [
                ["yes" if p >= LEAST else "no" for p in row[s]] for row, s in zip(shares, chosen, strict=True)
            ],
            "p": [row[s].tolist() for row, s in zip(shares, chosen, strict=True)],
        }
    )
    labels = manyhot.Labels(table, c, classes.hash, asked_known=True, name="cifar10")
    net = manyhot.Predictions(
        ids_of(n), "out of fold", scores=p, score_kind="probability", n_classes=c, class_hash=classes.hash
    )
    several = np.mean([(row >= LEAST).sum() > 1 for row in shares])
    yield results.row("cifar", "images", "", "several classes", "set", several, n=n)
    yield from metric_rows("cifar", labels, [net])
    for alpha in (0.1, 0.05):
        yield from conformal_rows(labels, net, alpha)
    for precision in (0.95, 0.99):
        for r in manyhot.diagnose_sets(labels, [net], precision=precision).precise_sets.to_pylist():
            value, lo, hi, n, empty = (r[k] for k in ("measured", "lo", "hi", "n", "n_empty"))
            yield results.row("cifar", "precise", "", "precision", precision, value, lo, hi, n, empty)


def conformal_rows(labels, net, alpha):
    """Yield sets that are fitted to labels and to people's answers, and how often they cover an answer."""
    case, chosen = split_for_sets(labels, net, Division(0.5, 0))
    for cover in ("label", "drawn", "drawn_all"):
        found = manyhot.conformal(labels, net, cover=cover, alpha=alpha)
        rest = np.flatnonzero(~chosen)
        people = expected_coverage(linked(case), rest, cover="drawn", threshold=found.threshold)
        of = ("cifar", "sets", cover)
        by = f"{1 - alpha:.0%}".replace("%", " %")
        yield results.row(*of, "coverage", by, found.coverage, found.lo, found.hi, found.n)
        yield results.row(*of, "answer", by, people.mean(), n=len(people))
        yield results.row(*of, "size", by, found.mean_size, n=found.n)


def ranks():
    labels, rows = common.validation()
    votes, n_models = 0.0, 0
    for _, model in common.models(rows):
        best = np.zeros((len(model.image_id), model.n_classes), np.float32)
        best[np.arange(len(best)), model.classes[:, 0]] = 1
        votes, n_models, last = votes + best, n_models + 1, model
    shares = manyhot.Predictions(
        last.image_id,
        f"share of {n_models} networks",
        scores=votes / n_models,
        score_kind="probability",
        n_classes=last.n_classes,
        class_hash=last.class_hash,
    )
    yield from metric_rows("ranks", labels, [shares])


@dataclass(frozen=True)
class Photographs:
    """Photographs of VOC: those to fit on and the others; label, and states of all classes."""

    classes: manyhot.classes.ClassList
    ids: np.ndarray
    label: np.ndarray
    state: np.ndarray
    train: np.ndarray


def photographs(folder):
    """Write all photographs, those to evaluate on, and the labels of the others, and return them."""
    images = pq.read_table(SHARED / "data" / "voc" / "images.parquet")
    split = np.array(images["split"].to_pylist())
    train = np.random.default_rng(0).permutation(np.flatnonzero(split == "train"))[:TRAINED]
    chosen = images.take(np.sort(np.concatenate([train, np.flatnonzero(split == "test")])))
    rows = chosen.drop_columns(["jpeg"]).to_pylist()
    classes = from_keys(VOC.split(), "voc")
    number = {key: i for i, key in enumerate(classes.keys)}
    found = Photographs(
        classes,
        np.array(chosen["image_id"].to_pylist()),
        np.array([number[row["label_largest"]] for row in rows], np.int32),
        states(rows, lambda row: row["labels"], lambda row: row["difficult_labels"], number),
        np.array([row["split"] == "train" for row in rows]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(chosen, folder / "voc.parquet")
    pq.write_table(chosen.filter(pa.array(~found.train)), folder / "test.parquet")
    manyhot.write_labels(labels_of(found, found.train), folder / "train.parquet")
    return found


def coco(classes):
    """Return label sets of the photographs of COCO over the classes of VOC."""
    number = {key: i for i, key in enumerate(classes.keys)}
    rows = pq.read_table(COCO).drop_columns(["jpeg"]).to_pylist()
    shown = [[OF_COCO.get(name, name) for name in row["labels"]] for row in rows]
    state = np.full((len(rows), len(classes)), NO)
    for i, names in enumerate(shown):
        state[i, [number[name] for name in names if name in number]] = YES
    return label_table([row["image_id"] for row in rows], None, state, classes, "coco")


def voc(folder, backbones=BACKBONES, networks=True):
    """Yield the results of heads on backbones and, unless left out, of networks."""
    data = photographs(folder)
    labels, ood = labels_of(data, ~data.train), coco(data.classes)
    members = heads(folder, data, backbones) | (trained(folder, data, ood) if networks else {})
    members = dict(sorted(members.items(), key=lambda item: "sigmoid" in item[0]))
    models, theirs = (
        [predicted(name, of.image_id, pair[side], data.classes) for name, pair in members.items()]
        for side, of in enumerate((labels, ood))
    )
    for name, (ours, _) in members.items():
        if len(ours) > 1:
            yield from member_rows(name, ours, data.label[~data.train])
    yield from metric_rows("voc", labels, models)
    yield from error_rows(labels, models)
    found = manyhot.diagnose_ood(labels, models, ood=ood, ood_predictions=theirs)
    for r in found.ood.to_pylist():
        measure = r["score"].replace("_", " ") + (" fpr95" if r["measure"] == "fpr95" else "")
        of = ("voc", "ood", r["model"], measure, r["slice"])
        yield results.row(*of, *(r[k] for k in ("value", "lo", "hi", "n", "n_ood")))
    found.write(folder / "page")
    manyhot.diagnose_sets(labels, models, precision=0.9).write(folder / "page")


def member_rows(name, members, label):
    """Yield how right the members of an average are alone, and how far they disagree."""
    best = np.stack([p.argmax(1) for p in members])
    right = (best == label).mean(1)
    apart = np.mean([(a != b).mean() for a, b in itertools.combinations(best, 2)])
    information = Average.of(members, multilabel="sigmoid" in name).mutual_information.sum(1).mean()
    values = {
        "lowest": right.min(),
        "highest": right.max(),
        "disagreement": apart,
        "information": information,
    }
    for measure, value in values.items():
        yield results.row("voc", "members", name, measure, "label", value, n=len(label), n_other=len(members))


def error_rows(labels, models):
    """Yield how well confidence, entropy and mutual information tell errors, by label and by label set."""
    for model in models:
        case, _ = split_for_sets(labels, model, Division(0.5, 0))
        case = linked(case)
        right = case.labels.label == case.top[:, 0], case.hit[:, 0]
        counts = [case.labels.labelled & case.labels.usable, case.labels.scored]
        several, exclusive = case.uncertainty is not None, "sigmoid" not in model.model
        possible = {"confidence": True, "entropy": several or exclusive, "mutual_information": several}
        for score in (name for name, has in possible.items() if has):
            sure = confidence_scores(case, score)
            for by, n, r in zip(("label", "set"), counts, right, strict=True):
                found = auroc(sure[n & r], sure[n & ~r])
                of = ("voc", "errors", model.model, score.replace("_", " "), by)
                yield results.row(*of, found.value, found.lo, found.hi, n.sum(), (n & ~r).sum())


def heads(folder, data, backbones):
    """Return the probabilities of the members of each average of heads, for VOC and COCO."""
    first, *others = backbones
    features = {name: embedded(folder, name, data) for name in backbones}
    files = fitted(data, features, folder / "heads")

    def of(*stems):
        return [
            [files[stem].probabilities(features[files[stem].backbone][side]) for stem in stems]
            for side in ("test", "coco")
        ]

    found = {}
    for stem, kind in (("one", ""), ("several", "sigmoid ")):
        found[f"one {kind}head"] = of(stem)
        found[f"five bootstrapped {kind}heads"] = of(*(f"{stem}{i}" for i in range(1, MEMBERS + 1)))
        if others:
            found[f"{kind}heads on four backbones"] = of(stem, *(f"{stem}-{name}" for name in others))
    found["head fitted with dropout"] = of("dropping")
    found["its 50 passes"] = [passes(files["dropping"], features[first][side]) for side in ("test", "coco")]
    return found


def fitted(data, features, folder):
    """Return all heads by the names of their files in a folder; heads that are there are not fitted again."""
    from manyhot.predict.weights import read_head, write_head
    from manyhot.train.heads import fit_sigmoid, fit_softmax

    first, *others = features
    files = {}

    def fit(stem, how, of, backbone=first, **options):
        path = folder / f"{stem}.safetensors"
        if not path.exists():
            x = features[backbone]["train"]
            write_head(how(x, of[data.train], data.classes, backbone, **options), path)
        files[stem] = read_head(path)

    for stem, how, of in (("one", fit_softmax, data.label), ("several", fit_sigmoid, data.state)):
        fit(stem, how, of)
        for i, weights in bootstrap(data.train.sum()):
            fit(f"{stem}{i}", how, of, weights=weights, penalty=files[stem].penalty)
        for backbone in others:
            fit(f"{stem}-{backbone}", how, of, backbone)
    fit("dropping", fit_softmax, data.label, dropout=RATE, penalty=files["one"].penalty)
    return files


def bootstrap(n):
    """Yield a number and the weights of photographs of each bootstrap sample."""
    rng = np.random.default_rng(0)
    for i in range(1, MEMBERS + 1):
        yield i, np.bincount(rng.integers(0, n, n), minlength=n)


def embedded(folder, backbone, data):
    """Return the features of the photographs to fit on, of the others and of COCO."""
    found = []
    for name, images in (("voc", folder / "voc.parquet"), ("coco", COCO)):
        out = folder / "features" / name
        manyhot.predict(str(images), [backbone], out=out, embeddings=True)
        found.append(np.load(out / "embeddings" / f"{backbone}.npy"))
    ids = manyhot.read_predictions(folder / "features" / "voc" / f"{backbone}.parquet").image_id
    assert ids.to_pylist() == data.ids.tolist()
    return {"train": found[0][data.train], "test": found[0][~data.train], "coco": found[1]}


def trained(folder, data, ood):
    """Return the probabilities of a network, and of all that are trained with different seeds."""
    out = folder / "networks"
    for seed in range(1, NETWORKS + 1):
        manyhot.train(
            str(folder / "voc.parquet"),
            folder / "train.parquet",
            classes=data.classes,
            recipe=RECIPE | {"seed": seed},
            out=out / f"seed{seed}",
        )
    names = [f"trained:{out}/seed{seed}/model.safetensors" for seed in range(1, NETWORKS + 1)]
    members = []
    for name, images, ids in (
        ("voc", folder / "test.parquet", data.ids[~data.train].tolist()),
        ("coco", COCO, ood.image_id.to_pylist()),
    ):
        manyhot.predict(str(images), names, out=out / name, dense=True)
        found = [manyhot.read_predictions(p) for p in sorted((out / name).glob("trained--*.parquet"))]
        assert all(net.image_id.to_pylist() == ids for net in found)
        members.append([softmax(net.scores.astype(np.float64), axis=1) for net in found])
    return {"one fine-tuned network": [m[:1] for m in members], "two fine-tuned networks": members}


def states(known, yes, unclear, number):
    found = np.full((len(known), len(number)), NO)
    for i, row in enumerate(known):
        found[i, [number[name] for name in unclear(row)]] = UNCLEAR
        found[i, [number[name] for name in yes(row)]] = YES
    return found


def labels_of(data, chosen):
    """Return label and label sets of some photographs of VOC."""
    return label_table(data.ids[chosen], data.label[chosen], data.state[chosen], data.classes, "voc")


def label_table(ids, label, state, classes, name):
    names = np.array(["", "no", "unclear", "yes"])
    table = {
        "image_id": ids,
        "rated": [True] * len(ids),
        "usable": [True] * len(ids),
        "classes": [list(range(len(classes)))] * len(ids),
        "state": names[state].tolist(),
    }
    if label is not None:
        table["label"] = label
    return manyhot.Labels(pa.table(table), len(classes), classes.hash, asked_known=True, name=name)


def predicted(name, ids, members, classes):
    """Return the average of members, of which "sigmoid" in the name says that classes are independent."""
    multilabel = "sigmoid" in name
    average = Average.of(members, multilabel=multilabel)
    found = uncertainty_of(average.mean, average.mutual_information, multilabel=multilabel)
    return manyhot.Predictions(
        ids,
        name,
        scores=average.mean.astype(np.float32),
        score_kind="probability",
        n_classes=len(classes),
        class_hash=classes.hash,
        uncertainty=found if len(members) > 1 else None,
    )


def passes(head, features):
    """Return the probabilities of each pass, as ``dropout:head:FILE`` does, from features."""
    import torch

    from manyhot.predict.adapters.dropout import pass_masks, switch_on
    from manyhot.predict.adapters.trained import head_layer

    layer, x, found = head_layer(head), torch.from_numpy(features.astype(np.float32)), []
    switch_on(layer)
    with torch.inference_mode():
        for number in range(PASSES):
            with pass_masks(0, number):
                found.append(layer(x).double().softmax(1).numpy())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["cifar", "ranks", "voc"])
    parser.add_argument("folder", type=Path, nargs="?", help="of features, heads and networks, for voc")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    parser.add_argument("--one-backbone", action="store_true", help="leave out other backbones and networks")
    arguments = parser.parse_args()
    if arguments.part == "voc" and arguments.folder is None:
        parser.error("name the folder of features, heads and networks")
    if arguments.part != "voc":
        rows = list(cifar() if arguments.part == "cifar" else ranks())
    elif arguments.one_backbone:
        rows = list(voc(arguments.folder, BACKBONES[:1], networks=False))
    else:
        rows = list(voc(arguments.folder))
    results.replace_part(arguments.part, rows, arguments.results)
    print(f"wrote {len(rows)} results of {arguments.part} to {arguments.results}")


if __name__ == "__main__":
    main()

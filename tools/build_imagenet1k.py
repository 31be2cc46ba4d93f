"""Derive the class list of ImageNet-1k, ``src/manyhot/data/imagenet1k.tsv``, from WordNet 3.0.

ImageNet's ids are noun offsets of WordNet 3.0: n01440764 is the synset at byte 1440764 of ``data.noun``.
Which 1,000 of them make up ImageNet-1k is read from the file of validation images that ImageNetV2 publishes
(``data/datasets/imagenet-validation-original.json``), or from a file with one id a line::

    apt-get install wordnet-base
    wnids=imagenet-validation-original.json
    out=src/manyhot/data/imagenet1k.tsv
    python tools/build_imagenet1k.py --wordnet /usr/share/wordnet --wnids $wnids --out $out

The output is UTF-8, tab-separated, one class a row; the rows are sorted by id, as the class ids 0 to 999 are:

key
    The WordNet id.
name
    The first lemma, or what `NAMES` has; unique also where upper and lower case are not told apart.
synonyms
    The other lemmas, and the first one where `NAMES` replaced it.
definition
    The gloss without its example sentences.
hypernyms
    The path from the direct hypernym up to ``n00001740 entity``.

304 of the 1,000 classes have several such paths. At each step the first hypernym is followed that leads to
organism or artifact, and the first one of all where none does. For six classes this differs from always
taking the first: bakery, bath towel, bib, dishrag, handkerchief and paper towel are artifacts by a later
hypernym only (a bakery is first of all a workplace, which is a location; a bib is a piece of cloth, which is
a part). No class leads to both.

The output is derived from WordNet 3.0, Copyright 2006 by Princeton University; its licence is in ``NOTICE``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("key", "name", "synonyms", "definition", "hypernyms")
ORGANISM, ARTIFACT = "n00004475", "n00021939"

# Only where the first lemma names two classes, or makes a reader think of something else than the class.
NAMES = {
    "n01514668": "cock (bird)",
    "n01608432": "kite (bird)",
    "n01664065": "loggerhead (turtle)",
    "n01755581": "diamondback (snake)",
    "n01756291": "sidewinder (snake)",
    "n01847000": "drake (duck)",
    "n01955084": "chiton (mollusk)",
    "n02012849": "crane (bird)",
    "n02086910": "papillon (dog)",
    "n02088632": "bluetick (dog)",
    "n02090379": "redbone (dog)",
    "n02096177": "cairn (dog)",
    "n02098413": "Lhasa (dog)",
    "n02108089": "boxer (dog)",
    "n02111277": "Newfoundland (dog)",
    "n02111889": "Samoyed (dog)",
    "n02112137": "chow (dog)",
    "n02113023": "Pembroke (dog)",
    "n02113186": "Cardigan (dog)",
    "n02229544": "cricket (insect)",
    "n02231487": "walking stick (insect)",
    "n02276258": "admiral (butterfly)",
    "n02277742": "ringlet (butterfly)",
    "n02279972": "monarch (butterfly)",
    "n02328150": "Angora (rabbit)",
    "n02389026": "sorrel (horse)",
    "n02606052": "rock beauty (fish)",
    "n02704792": "amphibian (vehicle)",
    "n02797295": "barrow (cart)",
    "n02817516": "bearskin (hat)",
    "n02869837": "bonnet (hat)",
    "n02879718": "bow (weapon)",
    "n02892201": "brass (plaque)",
    "n02963159": "cardigan (garment)",
    "n03047690": "clog (shoe)",
    "n03126707": "crane (machine)",
    "n03250847": "drumstick (for a drum)",
    "n03337140": "file (cabinet)",
    "n03584829": "iron (for clothes)",
    "n03673027": "liner (ship)",
    "n03710637": "maillot (tights)",
    "n03710721": "maillot (swimsuit)",
    "n03773504": "missile (rocket)",
    "n03786901": "mortar (bowl)",
    "n03793489": "mouse (computer)",
    "n03803284": "muzzle (for a dog)",
    "n03825788": "nipple (of a bottle)",
    "n03832673": "notebook (computer)",
    "n03854065": "organ (instrument)",
    "n03929660": "pick (plectrum)",
    "n03947888": "pirate (ship)",
    "n03950228": "pitcher (jug)",
    "n03954731": "plane (tool)",
    "n03991062": "pot (flowerpot)",
    "n04008634": "projectile (not self-propelled)",
    "n04033901": "quill (pen)",
    "n04118776": "rule (ruler)",
    "n04141975": "scale (for weighing)",
    "n04152593": "screen (CRT)",
    "n04243546": "slot (machine)",
    "n04325704": "stole (scarf)",
    "n04355933": "sunglass (burning lens)",
    "n04367480": "swab (mop)",
    "n04389033": "tank (vehicle)",
    "n04399382": "teddy (bear)",
    "n04493381": "tub (vat)",
    "n04515003": "upright (piano)",
    "n04523525": "vault (ceiling)",
    "n04554684": "washer (for laundry)",
    "n04592741": "wing (of an airplane)",
    "n04606251": "wreck (ship)",
    "n07579787": "plate (of food)",
    "n10148035": "groom (bridegroom)",
    "n12144580": "corn (kernels)",
    "n12620546": "hip (of a rose)",
    "n12768682": "buckeye (seed)",
    "n13133613": "ear (of corn)",
}


@dataclass(frozen=True)
class Synset:
    """One line of ``data.noun``: lemmas with spaces, the ids of the hypernyms in order, and the gloss."""

    lemmas: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str


def read_wordnet(folder: Path) -> dict[str, Synset]:
    """Read the nouns; the format is described in wndb(5WN)."""
    text = (folder / "data.noun").read_text(encoding="ascii")
    if "WordNet 3.0 Copyright 2006" not in text[:2000]:
        raise SystemExit(f"{folder}/data.noun is not of WordNet 3.0, whose offsets ImageNet's ids are.")
    return dict(parse(line) for line in text.splitlines() if not line.startswith(" "))


def parse(line: str) -> tuple[str, Synset]:
    data, _, gloss = line.partition("|")
    offset, _, _, n_lemmas, *fields = data.split()
    end = 2 * int(n_lemmas, 16)
    lemmas = tuple(lemma.replace("_", " ") for lemma in fields[:end:2])
    symbols, offsets = fields[end + 1 :: 4], fields[end + 2 :: 4]
    hypernyms = tuple(f"n{o}" for s, o in zip(symbols, offsets, strict=True) if s in ("@", "@i"))
    return f"n{offset}", Synset(lemmas, hypernyms, gloss.strip())


def read_keys(path: Path) -> list[str]:
    """Return the sorted WordNet ids of a data-set file of ImageNetV2, or of a file with one id a line."""
    text = path.read_text(encoding="utf-8")
    images = json.loads(text)["image_filenames"] if path.suffix == ".json" else None
    keys = sorted({key for _, key in images} if images else set(text.split()))
    if len(keys) != 1000:
        raise SystemExit(f"{path} has {len(keys)} different ids; ImageNet-1k has 1000.")
    return keys


def ancestors(key: str, wordnet: Mapping[str, Synset]) -> set[str]:
    """Return the synset itself and all that can be reached from it upwards."""
    return {key}.union(*(ancestors(parent, wordnet) for parent in wordnet[key].hypernyms))


def hypernym_path(key: str, wordnet: Mapping[str, Synset]) -> Iterator[str]:
    """Yield the hypernyms up to entity, by way of organism or artifact where there is one."""
    while parents := wordnet[key].hypernyms:
        decisive = (p for p in parents if ancestors(p, wordnet) & {ORGANISM, ARTIFACT})
        key = next(decisive, parents[0])
        yield key


def row(key: str, wordnet: Mapping[str, Synset]) -> str:
    synset = wordnet[key]
    first = synset.lemmas[0]
    name = NAMES.get(key, first)
    if not name.startswith(first):
        raise SystemExit(f"NAMES calls {key} {name!r}, but it is {first!r}.")
    synonyms = "|".join(lemma for lemma in synset.lemmas if lemma != name)
    definition = synset.gloss.partition('; "')[0]
    path = "|".join(f"{parent} {wordnet[parent].lemmas[0]}" for parent in hypernym_path(key, wordnet))
    return "\t".join([key, name, synonyms, definition, path])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wordnet", type=Path, required=True, metavar="DIR", help="folder of data.noun")
    parser.add_argument("--wnids", type=Path, required=True, metavar="FILE", help="JSON, or one id a line")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="TSV to write")
    options = parser.parse_args()
    wordnet = read_wordnet(options.wordnet)
    rows = [row(key, wordnet) for key in read_keys(options.wnids)]
    text = "\n".join(["\t".join(COLUMNS), *rows, ""])
    options.out.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

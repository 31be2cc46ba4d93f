"""The catalogue's data, and its way from a mirror into the cache."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import platformdirs
import pytest

from manyhot.data import catalog
from manyhot.errors import FetchError, UnknownNameError
from manyhot.files import cache_folder
from scripts import load

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "mirror.zip"
needs_published = pytest.mark.usefixtures("published_bytes")


@pytest.fixture
def published_bytes(require: Callable[[object, str], None]) -> None:
    require(PUBLISHED.exists(), "../shared/mirror.zip; the published bytes go unchecked")


FILES = {
    "imagenet-real": 5,
    "imagenet-val-predictions": 68,
    "imagenetv2-matched-frequency-predictions": 68,
    "multilabelfy-imagenetv2": 1,
    "timm-results": 9,
    "timm-results-2022-03": 3,
    "openclip-results": 1,
    "clip-benchmark": 1,
    "testbed-results": 1,
    "peychev-results": 1,
    "tsipras": 5,
    "imagenet-mistakes": 4,
    "imagenet-x": 3,
    "imagenet-multilabel": 1,
    "label-errors": 6,
    "cifar-10h": 1,
    "bluebirds": 2,
    "objectron": 1,
}
PACKAGED = {"imagenet-x"}
"""Entries of installed packages, which may be for non-commercial use: manyhot downloads none of them."""
BY_HAND = {"imagenet-multilabel", "cifar-10h"}
"""Entries without a stated licence, or for non-commercial use, which users download."""
WITHOUT_DOI = {"bluebirds"}
"""Entries whose publication has no DOI: proceedings of NeurIPS."""
ELSEWHERE = {"objectron"}
"""Entries that are downloaded, but whose bytes are not in the archive: weights of 33 MB."""
DOWNLOADED = [name for name in FILES if name not in PACKAGED | BY_HAND | ELSEWHERE]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that mirrors a catalogue of one entry, `letters`, with the cache beside it."""
    files = []
    for letter in "abc":
        content = letter.encode() * 1000
        path = tmp_path / "mirror" / "example.org" / letter
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        url = f"https://example.org/{letter}"
        files.append(catalog.File(letter, url, hashlib.sha256(content).hexdigest(), 1000))
    entry = catalog.CatalogEntry("letters", "Letters", "https://example.org", "MIT", "Anon", (), tuple(files))
    monkeypatch.setattr(catalog, "_entries", lambda: {"letters": entry})
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MANYHOT_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def test_the_names_and_numbers_of_files() -> None:
    assert {name: len(catalog.catalog_entry(name).files) for name in catalog.catalog_names()} == FILES
    assert catalog.catalog_names() == list(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_entry_says_all_that_it_must(name: str) -> None:
    entry = catalog.catalog_entry(name)
    assert entry.name == name
    assert entry.title
    others = {
        "imagenet-x": {"CC-BY-NC-4.0"},
        "imagenet-multilabel": {"none stated"},
        "cifar-10h": {"CC-BY-NC-SA-4.0"},
        "bluebirds": {"BSD-3-Clause-Clear"},
    }
    assert entry.licence in others.get(name, {"Apache-2.0", "MIT"})
    assert (bool(entry.package), entry.by_hand) == (name in PACKAGED, name in BY_HAND)
    if name not in WITHOUT_DOI:
        assert re.search(r"https://doi\.org/10\.\d{4,}/\S+", entry.citation)
    assert entry.home.startswith("https://www.npmjs.com/" if name in ELSEWHERE else "https://github.com/")
    assert entry.elsewhere == (name in ELSEWHERE)
    assert len({file.path for file in entry.files}) == len(entry.files)
    assert entry.size == sum(file.size for file in entry.files)


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_every_file_of_a_package_is_pinned(name: str) -> None:
    entry = catalog.catalog_entry(name)
    assert re.fullmatch(r"[\w-]+==[\d.]+", entry.package)
    for file in entry.files:
        assert file.url == f"imagenet_x/annotations/{file.path}"
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


@pytest.mark.parametrize("name", [*DOWNLOADED, *sorted(BY_HAND)])
def test_every_file_is_pinned(name: str) -> None:
    entry = catalog.catalog_entry(name)
    repository = entry.home.removeprefix("https://github.com/")
    for file in entry.files:
        assert re.fullmatch(rf"https://raw\.githubusercontent\.com/{repository}/[0-9a-f]{{40}}/.+", file.url)
        assert file.url.endswith(f"/{file.path}")
        assert re.fullmatch(r"[\w.-]+", file.path)
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.size > 0


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_every_file_elsewhere_is_a_numbered_version_of_a_package(name: str) -> None:
    """npm does not let a published version change."""
    entry = catalog.catalog_entry(name)
    package = entry.home.removeprefix("https://www.npmjs.com/package/")
    for file in entry.files:
        base = f"https://registry.npmjs.org/{package}/-/{package.rpartition('/')[2]}"
        assert re.fullmatch(rf"{base}-[\d.]+\.tgz", file.url)
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


def test_one_file_is_stored_worst_first() -> None:
    flagged = [
        (n, f.path, set(f.flags)) for n in FILES for f in catalog.catalog_entry(n).files if f.flags or f.note
    ]
    assert flagged == [("imagenetv2-matched-frequency-predictions", "fv_16k.npy", {"reversed"})]
    note = catalog.catalog_entry("imagenetv2-matched-frequency-predictions").file("fv_16k.npy").note
    assert note == (
        "Classes are stored worst first: the last column is the top class (top-1 accuracy 19.24 %), whereas "
        "the first column gives 2.47 %. All other files are stored best first."
    )


def test_an_unknown_entry_lists_near_misses() -> None:
    with pytest.raises(UnknownNameError) as caught:
        catalog.fetch("imagenet-reel")
    assert str(caught.value) == (
        "There is no 'imagenet-reel' in the catalogue.\n"
        f"  allowed: {', '.join(FILES)}\n"
        "  do:      did you mean 'imagenet-real' or 'imagenet-x' or 'imagenet-multilabel'?"
    )


def test_an_unknown_file_lists_near_misses() -> None:
    with pytest.raises(UnknownNameError) as caught:
        catalog.fetch_file("imagenet-real", "rater.npz")
    assert str(caught.value) == (
        "imagenet-real has no file 'rater.npz'.\n"
        "  allowed: golden.npz, raters.npz, raters_golden.npz, real.json, scores.npz\n"
        "  do:      did you mean 'raters.npz' or 'raters_golden.npz' or 'scores.npz'?"
    )


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MANYHOT_CACHE", raising=False)
    assert cache_folder() == Path(platformdirs.user_cache_dir("manyhot"))
    monkeypatch.setenv("MANYHOT_CACHE", "~/elsewhere")
    assert cache_folder() == Path("~/elsewhere").expanduser()


def test_fetch_all_some_or_one(mirror: Path, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "letters"
    assert catalog.fetch_file("letters", "b") == cached / "b"
    assert sorted(path.name for path in cached.iterdir()) == [".lock", "b"]
    assert catalog.fetch("letters", only=["c", "b"]) == {"b": cached / "b", "c": cached / "c"}
    assert not (cached / "a").exists()
    assert catalog.fetch("letters") == {letter: cached / letter for letter in "abc"}
    assert (cached / "a").read_bytes() == b"a" * 1000


def test_arguments_win_over_the_environment(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANYHOT_MIRROR", str(tmp_path / "absent"))
    told: list[tuple[int, int]] = []
    found = catalog.fetch_file(
        "letters", "a", cache=tmp_path / "mine", mirror=mirror, progress=lambda *numbers: told.append(numbers)
    )
    assert found == tmp_path / "mine" / "letters" / "a"
    assert told[-1] == (1000, 1000)
    with pytest.raises(FetchError, match="neither a folder nor a zip archive"):
        catalog.fetch("letters")
    with pytest.raises(FetchError, match="not an address that manyhot downloads from"):
        catalog.fetch("letters", mirror="")


def test_is_cached(mirror: Path) -> None:
    assert not catalog.is_cached("letters")
    path = catalog.fetch_file("letters", "a")
    assert catalog.is_cached("letters", "a")
    assert not catalog.is_cached("letters")
    catalog.fetch("letters")
    assert catalog.is_cached("letters")
    path.write_bytes(b"cut")
    assert not catalog.is_cached("letters", "a")
    assert catalog.fetch_file("letters", "a").read_bytes() == b"a" * 1000


def test_the_import_is_light() -> None:
    heavy = {"numpy", "urllib.request", "http.client", "ssl", "zipfile", "platformdirs"}
    code = "import sys; from manyhot.data import catalog; catalog.catalog_names(); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT / "src")}
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert heavy & set(loaded.split()) == set()


@needs_published
def test_the_published_bytes_verify(tmp_path: Path) -> None:
    for name in DOWNLOADED:
        found = catalog.fetch(name, cache=tmp_path, mirror=PUBLISHED)
        assert len(found) == FILES[name]
        assert all(path.is_file() for path in found.values())
        assert catalog.fetch(name, cache=tmp_path, mirror="") == found  # nothing is asked of the network


@needs_published
def test_the_file_stored_worst_first_is_so(tmp_path: Path) -> None:
    """Judged by another model: the worst of five classes seldom is what densenet121 sees first."""
    name = "imagenetv2-matched-frequency-predictions"
    found = catalog.fetch(
        name, only=["fv_16k.npy", "fv_4k.npy", "densenet121.npy"], cache=tmp_path, mirror=PUBLISHED
    )
    top = np.load(found["densenet121.npy"])[:, 0]
    agreement = {
        path: (np.load(found[path]) == top[:, None]).mean(axis=0) for path in ("fv_16k.npy", "fv_4k.npy")
    }
    assert agreement["fv_16k.npy"].argmax() == 4
    assert agreement["fv_4k.npy"].argmax() == 0


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load(ROOT / "tools" / "build_catalog.py")


def draft(path: Path, *records: list[object]) -> Path:
    sources = [{"base": "https://example.org/x/", "files": list(records)}]
    path.write_text(json.dumps({"entries": [{"name": "é", "notes": ["[1]"], "sources": sources}]}))
    return path


def archive(path: Path, **content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in content.items():
            zipped.writestr(f"example.org/x/{name}", data)
        zipped.writestr("example.org/x/deeper/c", b"")
    return path


def test_the_tool_completes_a_draft(tool: ModuleType, tmp_path: Path) -> None:
    published = archive(tmp_path / "mirror.zip", b=b"bb", a=b"a")
    with zipfile.ZipFile(published) as zipped:
        zipped.extractall(tmp_path / "mirror")
    texts = []
    for place in ("mirror.zip", "mirror"):
        path = draft(tmp_path / "catalog.json", ["b", {"reversed": True}], ["*"])
        assert tool.main([str(tmp_path / place), "--catalog", str(path)]) == 0
        assert tool.main([str(tmp_path / place), "--catalog", str(path), "--check"]) == 0
        texts.append(path.read_text(encoding="utf-8"))
    a, b = (hashlib.sha256(content).hexdigest() for content in (b"a", b"bb"))
    assert texts[0] == texts[1]
    assert f'      ["a", 1, "{a}"],\n      ["b", 2, "{b}", {{"reversed": true}}]\n' in texts[0]
    assert '"name": "é"' in texts[0]


def test_the_tool_checks_without_writing(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = draft(tmp_path / "catalog.json", ["a"])
    before = path.read_bytes()
    assert tool.main([str(archive(tmp_path / "m.zip", a=b"a")), "--catalog", str(path), "--check"]) == 1
    assert path.read_bytes() == before
    assert capsys.readouterr().out == "out of date\n"


def test_the_tool_refuses_bytes_that_changed_or_lack(tool: ModuleType, tmp_path: Path) -> None:
    published = str(archive(tmp_path / "m.zip", a=b"a"))
    changed = draft(tmp_path / "changed.json", ["a", 2, "0" * 64])
    with pytest.raises(SystemExit, match=r"^example.org/x/a has changed: \[2, '0{64}'\] is catalogued, "):
        tool.main([published, "--catalog", str(changed)])
    absent = draft(tmp_path / "absent.json", ["b"])
    with pytest.raises(SystemExit, match=r"^example.org/x/b is not in the mirror\.$"):
        tool.main([published, "--catalog", str(absent)])


@needs_published
def test_the_catalogue_is_as_the_tool_writes_it(tool: ModuleType) -> None:
    assert tool.main([str(PUBLISHED), "--check"]) == 0

"""What all tests share: the published files, and skipping loudly."""

from __future__ import annotations

import gc
import logging
import math
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import drawings
from skipping import missing

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
SHARED = REPO.parent / "shared"

LONGEST = (
    "test_files_full_disk.py",
    "test_uncertain_labels.py",
    "evaluate/test_reliability_audited.py",
    "reassess/app/routes/test_rating_page_looks.py",
    "predict/ray/test_ray.py",
    "reassess/app/test_app_samples_campaign.py",
    "reassess/app/test_app_kills.py",
    "evaluate/report/test_pages_on_a_phone.py",
    "reassess/app/routes/test_owner_page.py",
    "predict/test_run_resume.py",
    "predict/adapters/test_packaged_efficientnet_lite.py",
    "predict/adapters/test_packaged_squeezenet.py",
    "train/test_loop_two_processes.py",
    "reassess/test_propose_published.py",
    "data/test_inputs_forms.py",
    "core/test_aggregation.py",
    "reassess/app/store/test_pages_changes.py",
    "evaluate/report/figures/test_figures.py",
    "evaluate/test_evaluate_benchmark.py",
    "reassess/app/store/test_database.py",
    "reassess/app/store/test_submissions.py",
    "train/transfer/test_transfer_files.py",
    "train/mitigate/test_mitigate_files.py",
    "predict/engines/test_engines.py",
    "evaluate/report/test_report_browser.py",
    "reassess/app/store/test_pages.py",
    "core/test_ranking.py",
    "predict/sources/test_remote.py",
    "reassess/app/store/test_pages_left_out.py",
    "reassess/app/store/test_database_backup.py",
    "test_cli_predict.py",
    "predict/adapters/test_adapters.py",
    "reassess/app/routes/test_rating_page_lost.py",
    "evaluate/test_gallery_in_report.py",
    "formats/test_fuzz.py",
    "test_architecture.py",
    "formats/test_indicator.py",
    "report/test_gallery_browser.py",
    "reassess/app/test_app_security_text.py",
    "test_one_place.py",
    "core/test_audited.py",
    "reassess/app/routes/test_refining.py",
    "evaluate/test_audited_values.py",
    "test_docs.py",
    "diagnose/test_errors_files.py",
    "reassess/app/store/test_engines_postgres.py",
    "report/test_gallery_views.py",
    "data/test_inputs_skipped_files.py",
    "evaluate/test_compare_written.py",
    "test_cli.py",
    "diagnose/pixels/test_corruptions.py",
    "tools/test_vocabulary.py",
    "diagnose/test_shortcuts_files.py",
    "test_mistakes.py",
    "study/test_plan_studies.py",
    "reassess/test_annotate_commands.py",
    "diagnose/test_corruptions_files.py",
    "evaluate/test_compare_models.py",
    "minimal/test_minimal.py",
    "reassess/test_running_audit.py",
    "tools/test_mutate.py",
    "reassess/app/routes/test_owner.py",
    "train/test_loop.py",
    "study/test_runner.py",
    "formats/test_tsipras.py",
    "core/test_ood.py",
    "diagnose/test_robustness_files.py",
    "evaluate/test_error_ratios.py",
    "evaluate/test_clusters.py",
    "evaluate/test_evaluate_benchmark_errors.py",
    "diagnose/test_groups.py",
    "evaluate/report/figures/test_figures_browser.py",
    "reassess/test_aggregate_files.py",
    "train/mitigate/test_several_pairs.py",
    "reassess/test_plan_audit.py",
    "test_cli_streams.py",
    "evaluate/test_compared_pairs.py",
    "reassess/app/routes/test_rating_page.py",
    "core/test_set_metrics.py",
    "train/losses/test_losses_in_the_loop.py",
    "minimal/test_missing_extras.py",
    "reassess/test_audit.py",
    "reassess/app/test_progress_cached_value.py",
    "core/test_nearest.py",
    "diagnose/patchml/test_patchml_files.py",
    "tools/test_draw_paragraphs.py",
    "core/test_audit_plans.py",
    "study/test_tables.py",
    "core/test_agreement.py",
    "core/test_choices.py",
)
"""Files with the longest slow tests, and of five seconds and more: whoever has the last would work alone."""

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first without windows, menus and services, which cost each page as much again as the page itself."""


MEMORY, ROOM = Path("/dev/shm"), 6 << 30
"""A file system in memory, and the bytes that must be free in it: the default tests write 1.6 GB."""


# Each worker has one core: threads of BLAS would wait for one another in busy loops, a third of the time of
# test_benchmarks. Before anything imports NumPy, and for all processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# With two threads of PyTorch, networks as small as those of tests take half as much time again: six tests of
# test_loop.py 8.6 s of CPU for 5.8. Tests of threads set how many they want; threads that wait let go of the
# core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: each waits for browsers, servers and Ray a third of its time."""
    return (os.cpu_count() or 1) + 1


def keep_in_memory(config: pytest.Config) -> None:
    """Write files of tests to memory if several processes run them: they wait for no disk.

    Tests of the app's store and of reports take a quarter less time, and a tenth less CPU time. No files are
    left for a look afterwards, as with one process (``-n 0``); TMPDIR or ``--basetemp`` set another place.
    """
    several = config.getoption("dist", "no") != "no"
    chosen = config.option.basetemp or "TMPDIR" in os.environ
    if not several or chosen or not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < ROOM:
        return
    for left in MEMORY.glob("manyhot-tests-*"):  # by runs that were killed
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix="manyhot-tests-", dir=MEMORY)
    Path(folder).chmod(0o711)  # the user postgres goes through it to the server's files
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.option.basetemp = f"{folder}/t"
    config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


def pytest_configure(config: pytest.Config) -> None:
    """Keep what manyhot keeps, published files above all, once for all workers, apart from its user's."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        keep_in_memory(config)
        for name in ("MANYHOT_CACHE", drawings.FOLDER):
            os.environ[name] = folder = tempfile.mkdtemp(prefix="manyhot-cache-")
            config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
        if config.getoption("dist", "no") != "no":
            config.add_cleanup(drawings.serve())
    # Otherwise what libraries log would be in the output that tests read.
    logging.getLogger().addHandler(logging.NullHandler())
    # How long an example takes is a matter of what else the machine does.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import and collect without collecting garbage: what they make stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave what was imported out of each garbage collection: a tenth of the time of most tests."""
    gc.freeze()  # with 30 MB of garbage: to collect it first takes each process a second
    # What tests import later is collected again and again: 3 to 5 % of the time of studies and figures.
    gc.set_threshold(10_000, 10, 10)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take the longest: those of which slow tests run, then those listed."""
    place = {HERE / name: i for i, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, place.get(item.path, len(place))))


@pytest.fixture(autouse=True)
def _without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print no progress on a busy machine, on which a command may take ten seconds."""
    if events := sys.modules.get("manyhot.cli.events"):
        monkeypatch.setattr(events, "LINE_EVERY_S", math.inf)


@pytest.fixture
def log_records() -> Iterator[list[logging.LogRecord]]:
    """Collect what any logger emits. pytest's own plug-in for it is off: it costs each test a millisecond."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    named = [x for x in logging.Logger.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    loggers = [logging.getLogger(), *(logger for logger in named if not logger.propagate)]
    level = loggers[0].level
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)
    loggers[0].setLevel(level)


@pytest.fixture(scope="session")
def require() -> Callable[[Any, str], None]:
    """Return a function that skips or fails unless something is there."""

    def check(present: Any, what: str) -> None:
        if not present:
            missing(what)

    return check


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Return the archive of published files."""
    path = SHARED / "mirror.zip"
    if not path.is_file():
        missing(f"{path}, published files laid out by address")
    return path


@pytest.fixture(scope="session")
def published(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that unpacks the one published file whose address ends in a given path."""
    folder = tmp_path_factory.mktemp("published")

    def get(ending: str) -> Path:
        with zipfile.ZipFile(mirror) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(ending)]
            target = folder / ending.replace("/", "--")
            if not target.exists():
                target.write_bytes(archive.read(name))
        return target

    return get


@pytest.fixture(scope="module", autouse=True)
def _drawn_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let each figure be drawn once in a run, except by the tests of drawing."""
    try:
        import vl_convert
    except ImportError:  # no figures
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        if not request.path.is_relative_to(HERE / "report") and request.path.parent.name != "figures":
            for name in drawings.DRAWERS:
                patch.setattr(vl_convert, name, drawings.kept(getattr(vl_convert, name)))
        yield


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[[Sequence[str]], Any]]:
    """Return what starts the first browser that is there; one driver for all tests of a process has to do."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright, to drive chromium (pip install playwright)")
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    arguments = ["--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_playwright() as playwright:

        def start(names: Sequence[str]) -> Any:
            path = next(filter(None, map(shutil.which, names)), None)
            if path is None:
                missing("chromium, to look at pages with (apt-get install chromium)")
            return playwright.chromium.launch(executable_path=path, args=arguments)

        yield start


@pytest.fixture(scope="session")
def chromium(launch: Callable[[Sequence[str]], Any]) -> Iterator[Any]:
    """Return a headless browser, the leanest that is there."""
    with launch(BROWSERS) as browser:
        yield browser


@pytest.fixture(scope="session")
def whole_chromium(launch: Callable[[Sequence[str]], Any]) -> Iterator[Any]:
    """Return the browser that people have, for what the headless shell does otherwise.

    It moves the pointer by itself when the first page is there, and sets text in another width.
    """
    with launch(BROWSERS[1:]) as browser:
        yield browser


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where everything must be there and something was skipped all the same."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    everything = os.environ.get("MANYHOT_REQUIRE_ALL") and not os.environ.get("MANYHOT_MINIMAL")
    if everything and session.exitstatus == 0 and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what was skipped and why: a skipped test must be noticed."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped}
    if reasons:
        terminalreporter.write_sep("=", f"{len(skipped)} SKIPPED, not tested", yellow=True, bold=True)
        for reason in sorted(reasons):
            terminalreporter.write_line(f"  {reason}")

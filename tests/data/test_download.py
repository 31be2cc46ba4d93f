"""Downloads from a real server on the loopback interface that misbehaves as servers and networks do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manyhot.data import download
from manyhot.data.download import Pinned, bring
from manyhot.errors import ChecksumError, FetchError, OutputError

CONTENT = hashlib.shake_256(b"manyhot").digest(300_000)


class Server:
    """Serves `content` by path; each request takes the next step of the path's script, then 'serve'."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.script: dict[str, list[str]] = {}
        self.log: list[tuple[str, str | None]] = []
        self.released = threading.Event()
        self.gate: Callable[[], bool] = lambda: True
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.log.append((self.path, self.headers["Range"]))
                steps = owner.script.get(self.path, [])
                step, _, argument = (steps.pop(0) if steps else "serve").partition(" ")
                getattr(owner, f"_{step}")(self, argument)

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:  # clients that go away are part of the tests
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.host = f"127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def publish(self, name: str, content: bytes = CONTENT, *script: str) -> Pinned:
        self.content[f"/{name}"] = content
        self.script[f"/{name}"] = list(script)
        return Pinned(name, f"http://{self.host}/{name}", hashlib.sha256(content).hexdigest(), len(content))

    def _serve(self, request: http.server.BaseHTTPRequestHandler, _: str) -> None:
        request.wfile.write(self._head(request))

    def _wrong(self, request: http.server.BaseHTTPRequestHandler, _: str) -> None:
        request.wfile.write(bytes(len(self._head(request))))

    def _drop(self, request: http.server.BaseHTTPRequestHandler, after: str) -> None:
        request.wfile.write(self._head(request)[: int(after)])

    def _stall(self, request: http.server.BaseHTTPRequestHandler, after: str) -> None:
        content = self._head(request)
        request.wfile.write(content[: int(after)])
        request.wfile.flush()
        if not self.released.wait(10):
            self.released.set()
        request.wfile.write(content[int(after) :])

    def _drip(self, request: http.server.BaseHTTPRequestHandler, pause: str) -> None:
        content = self._head(request)
        for start in range(0, len(content), 30_000):
            request.wfile.write(content[start : start + 30_000])
            time.sleep(float(pause))

    def _whole(self, request: http.server.BaseHTTPRequestHandler, _: str) -> None:
        del request.headers["Range"]
        request.wfile.write(self._head(request))

    def _unmeasured(self, request: http.server.BaseHTTPRequestHandler, _: str) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(self.content[request.path])

    def _elsewhere(self, request: http.server.BaseHTTPRequestHandler, _: str) -> None:
        request.headers.replace_header("Range", "bytes=7-")
        request.wfile.write(self._head(request))

    def _gated(self, request: http.server.BaseHTTPRequestHandler, argument: str) -> None:
        wait_for(self.gate)
        self._status(request, argument)

    def _status(self, request: http.server.BaseHTTPRequestHandler, argument: str) -> None:
        code, _, header = argument.partition(" ")
        request.send_response(int(code))
        if header:
            request.send_header(*header.split("=", 1))
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _head(self, request: http.server.BaseHTTPRequestHandler) -> bytes:
        content = self.content[request.path]
        begin = int((request.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        request.send_response(206 if request.headers["Range"] else 200)
        if request.headers["Range"]:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        return content[begin:]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setattr(download, "_SCHEMES", ("http",))
    monkeypatch.setattr(download, "_HOSTS", (server.host,))
    monkeypatch.setattr(download, "_PAUSE", 0.01)
    monkeypatch.setattr(download, "_LONGEST_PAUSE", 0.02)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.close()


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def start(server: Server, files: list[Pinned], folder: Path) -> subprocess.Popen[str]:
    code = (
        "from pathlib import Path\n"
        "from manyhot.data import download\n"
        "from manyhot.data.download import Pinned, bring\n"
        f"download._SCHEMES, download._HOSTS = ('http',), ({server.host!r},)\n"
        f"bring({files!r}, Path({str(folder)!r}))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(download.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_files_are_fetched_once_and_then_read_from_the_folder(server: Server, tmp_path: Path) -> None:
    files = [server.publish(f"{i}.npy", CONTENT[i:]) for i in range(9)]
    for _ in range(2):
        bring(files, tmp_path / "deep" / "folder")
    assert [(tmp_path / "deep" / "folder" / f.path).read_bytes() for f in files] == [
        CONTENT[i:] for i in range(9)
    ]
    assert sorted(server.log) == [(f"/{i}.npy", None) for i in range(9)]
    assert listing(tmp_path / "deep" / "folder") == [f"{i}.npy" for i in range(9)]


def test_a_file_put_there_by_hand_counts_and_nothing_is_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    bring([server.publish("a")], tmp_path)
    assert server.log == []
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("damaged", [CONTENT[:-1], bytes(len(CONTENT)), b""], ids=["cut", "zeros", "empty"])
def test_a_damaged_file_is_fetched_again(server: Server, tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "a").write_bytes(damaged)
    bring([server.publish("a")], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_dropped_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    bring([server.publish("a", CONTENT, "drop 100000", "drop 50000")], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.log == [("/a", None), ("/a", "bytes=100000-"), ("/a", "bytes=150000-")]


def test_a_connection_that_keeps_dropping_leaves_a_part_and_one_error(server: Server, tmp_path: Path) -> None:
    file = server.publish("a", CONTENT, *["drop 1000"] * 3)
    with pytest.raises(FetchError) as caught:
        bring([file], tmp_path)
    assert str(caught.value) == (
        "a is not in the cache and could not be downloaded.\n"
        f"  where:   http://{server.host}/a\n"
        "  got:     the connection ended 297000 bytes early (3 tries)\n"
        "  do:      connect to the network, or point MANYHOT_MIRROR at a folder or zip archive that stores "
        f"each file under its address, or put the file at {tmp_path / 'a'}"
    )
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:3000]
    bring([file], tmp_path)
    assert server.log[-1] == ("/a", "bytes=3000-")


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        ("whole", ["bytes=1000-"]),
        ("unmeasured", ["bytes=1000-"]),
        ("status 416", ["bytes=1000-", None]),
        ("elsewhere", ["bytes=1000-", None]),
    ],
)
def test_a_server_without_ranges_starts_over(
    server: Server, tmp_path: Path, step: str, asked: list[str | None]
) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT[:1000])
    bring([server.publish("a", CONTENT, step)], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [header for _, header in server.log] == asked


@pytest.mark.parametrize(
    "part", [bytes(1000), CONTENT + b"more", bytes(len(CONTENT))], ids=["bad", "long", "full"]
)
def test_a_bad_part_is_given_up(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "a.part").write_bytes(part)
    bring([server.publish("a")], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert listing(tmp_path) == ["a"]


def test_a_complete_part_needs_no_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(CONTENT)
    bring([server.publish("a")], tmp_path)
    assert server.log == []
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_the_next_try_starts_fresh(server: Server, tmp_path: Path) -> None:
    file = server.publish("a", CONTENT, "wrong")
    with pytest.raises(ChecksumError) as caught:
        bring([file], tmp_path)
    assert str(caught.value) == (
        "a is not the published file.\n"
        f"  where:   http://{server.host}/a\n"
        f"  got:     sha256 {hashlib.sha256(bytes(300_000)).hexdigest()}, 300000 bytes\n"
        f"  allowed: sha256 {file.sha256}, 300000 bytes\n"
        "  do:      try again; if this persists, a proxy or server alters the file: try another network or "
        "mirror"
    )
    assert listing(tmp_path) == []
    bring([file], tmp_path)
    assert server.log == [("/a", None), ("/a", None)]


def test_an_endless_file_is_cut_off(server: Server, tmp_path: Path) -> None:
    file = server.publish("a", CONTENT, "stall 300001")
    server.content["/a"] = CONTENT * 2
    with pytest.raises(ChecksumError, match=r"got: +more than 300000 bytes\n"):
        bring([file], tmp_path)
    assert not server.released.is_set()
    assert listing(tmp_path) == []


def test_a_short_file_is_not_taken_for_a_dropped_connection(server: Server, tmp_path: Path) -> None:
    file = server.publish("a")
    server.content["/a"] = CONTENT[:7]
    with pytest.raises(ChecksumError, match=r"got: +sha256 \w{64}, 7 bytes\n"):
        bring([file], tmp_path)
    assert server.log == [("/a", None)]


@pytest.mark.parametrize("step", ["status 503", "status 429 Retry-After=3", "status 429 Retry-After=Monday"])
def test_a_passing_refusal_is_tried_again(server: Server, tmp_path: Path, step: str) -> None:
    bring([server.publish("a", CONTENT, step, step)], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("step", "reason"),
    [("status 404", "HTTP status 404 Not Found"), ("status 302 Location=/b", "HTTP status 302 Found")],
)
def test_a_lasting_refusal_is_not_tried_again(server: Server, tmp_path: Path, step: str, reason: str) -> None:
    server.publish("b")
    with pytest.raises(FetchError) as caught:
        bring([server.publish("a", CONTENT, step)], tmp_path)
    assert caught.value.details["got"] == reason
    assert server.log == [("/a", None)]


def test_offline_is_one_error_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def no_names(*args: object, **options: object) -> None:
        asked.append(args)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    with pytest.raises(FetchError) as caught:
        bring([server.publish("a")], tmp_path)
    assert len(asked) == 1
    assert str(caught.value) == (
        "a is not in the cache and could not be downloaded.\n"
        f"  where:   http://{server.host}/a\n"
        f"  got:     [Errno {socket.EAI_AGAIN}] Temporary failure in name resolution\n"
        "  do:      connect to the network, or point MANYHOT_MIRROR at a folder or zip archive that stores "
        f"each file under its address, or put the file at {tmp_path / 'a'}"
    )


def test_a_host_that_does_not_answer_is_tried_again(server: Server, tmp_path: Path) -> None:
    file = server.publish("a")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unheard.getsockname()[1]}"
        download._HOSTS = (host,)
        with pytest.raises(FetchError, match=r"Connection refused \(3 tries\)"):
            bring([Pinned("a", f"http://{host}/a", file.sha256, file.size)], tmp_path)


@pytest.mark.parametrize("url", ["ftp://{host}/a", "http://localhost/a", "file:///etc/passwd"])
def test_other_schemes_and_hosts_are_not_asked(server: Server, tmp_path: Path, url: str) -> None:
    file = Pinned("a", url.format(host=server.host), "0" * 64, 1)
    with pytest.raises(FetchError, match=r"got: +not an address that manyhot downloads from\n"):
        bring([file], tmp_path)


def test_progress_is_told_in_the_calling_thread(server: Server, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(CONTENT)
    files = [server.publish("there"), server.publish("a", CONTENT, "drop 1000"), server.publish("b", b"12")]
    told: list[tuple[int, int, threading.Thread]] = []
    bring(
        files, tmp_path, progress=lambda done, total: told.append((done, total, threading.current_thread()))
    )
    done = [each[0] for each in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (300_000, 600_002)
    assert {each[1:] for each in told} == {(600_002, threading.main_thread())}


def test_an_error_does_not_wait_for_a_silent_server_whose_bytes_come_to_nothing(
    server: Server, tmp_path: Path
) -> None:
    part = tmp_path / "silent.part"
    server.gate = lambda: download.size_of(part) == 1000
    files = [server.publish("silent", CONTENT, "stall 1000"), server.publish("a", CONTENT, "gated 404")]
    threads = set(threading.enumerate())
    started = time.monotonic()
    with pytest.raises(FetchError, match="HTTP status 404"):
        bring(files, tmp_path)
    assert time.monotonic() - started < 5
    lingering = [thread for thread in threading.enumerate() if thread not in threads]
    server.released.set()
    for thread in lingering:
        thread.join()
    assert listing(tmp_path) == ["silent.part"]
    assert part.stat().st_size == 1000


def test_a_killed_fetch_is_resumed(server: Server, tmp_path: Path) -> None:
    file = server.publish("a", CONTENT, "stall 120000")
    process = start(server, [file], tmp_path)
    wait_for(lambda: download.size_of(tmp_path / "a.part") == 120_000)
    process.kill()
    process.communicate()
    assert listing(tmp_path) == ["a.part"]
    bring([file], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.log == [("/a", None), ("/a", "bytes=120000-")]


def test_ctrl_c_ends_at_once_and_leaves_the_part_only(server: Server, tmp_path: Path) -> None:
    process = start(server, [server.publish("a", CONTENT, "stall 1000")], tmp_path)
    wait_for(lambda: download.size_of(tmp_path / "a.part") == 1000)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert time.monotonic() - started < 5
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert listing(tmp_path) == ["a.part"]


def test_two_processes_fetch_each_file_once(server: Server, tmp_path: Path) -> None:
    files = [server.publish(f"{i}", CONTENT[i:], "drip 0.02", "drip 0.02") for i in range(6)]
    processes = [start(server, files, tmp_path) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(server.log) == [(f"/{i}", None) for i in range(6)]
    assert [(tmp_path / file.path).read_bytes() for file in files] == [CONTENT[i:] for i in range(6)]
    assert listing(tmp_path) == [file.path for file in files]


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a disk that is always full"
)
def test_a_full_disk_leaves_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to("/dev/full")
    with pytest.raises(OutputError) as caught:
        bring([server.publish("a")], tmp_path)
    assert str(caught.value) == (
        "The disk is full; a.part was not written.\n"
        f"  where:   {tmp_path}\n"
        "  do:      free some space, or point MANYHOT_CACHE at a folder on another disk"
    )
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert listing(tmp_path) == []


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a disk that is always full"
)
def test_a_full_disk_leaves_nothing_of_other_files(server: Server, tmp_path: Path) -> None:
    """Nor of those that other threads are fetching, which would keep the disk full."""
    waiting = server.publish("b", CONTENT, "stall 120000")
    (tmp_path / "b.part").write_bytes(CONTENT[:1000])
    (tmp_path / "a.part").symlink_to("/dev/full")

    full = server.publish("a", CONTENT, "drip 0.02")
    with pytest.raises(OutputError, match="The disk is full"):
        bring([waiting, full], tmp_path)
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        bring([server.publish("a")], tmp_path / "file" / "folder")
    assert str(caught.value) == (
        "Cannot write folder: Not a directory.\n"
        f"  where:   {tmp_path / 'file'}\n"
        "  do:      point MANYHOT_CACHE at a folder that you may write to"
    )


def test_a_target_that_cannot_be_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match=r"^Cannot write a: Is a directory\."):
        bring([server.publish("a")], tmp_path)
    assert listing(tmp_path) == ["a"]


def test_a_file_system_without_locks(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(handle: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(download, "_lock", no_lock)
    (tmp_path / "a.part").write_bytes(b"of another process")
    bring([server.publish("a")], tmp_path)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert listing(tmp_path) == ["a", "a.part"]


@pytest.fixture(params=["folder", "zip"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A mirror with one file, as a folder or as a zip archive."""
    if request.param == "folder":
        (tmp_path / "mirror" / "example.org" / "x").mkdir(parents=True)
        (tmp_path / "mirror" / "example.org" / "x" / "a").write_bytes(CONTENT)
        return tmp_path / "mirror"
    with zipfile.ZipFile(tmp_path / "mirror.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("example.org/x/a", CONTENT)
    return tmp_path / "mirror.zip"


MIRRORED = Pinned("a", "https://example.org/x/a", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_a_mirror_stands_for_the_network(mirror: Path, tmp_path: Path) -> None:
    bring([MIRRORED], tmp_path / "cache", mirror=str(mirror))
    assert (tmp_path / "cache" / "a").read_bytes() == CONTENT
    assert listing(tmp_path / "cache") == ["a"]


def test_a_part_is_resumed_from_a_mirror(mirror: Path, tmp_path: Path) -> None:
    # The part begins otherwise than the mirror's file: only the two together have the sum of the whole.
    whole = bytes(100_000) + CONTENT[100_000:]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.part").write_bytes(whole[:100_000])
    bring(
        [Pinned("a", MIRRORED.url, hashlib.sha256(whole).hexdigest(), len(whole))],
        tmp_path / "cache",
        mirror=str(mirror),
    )
    assert (tmp_path / "cache" / "a").read_bytes() == whole


def test_a_mirror_without_the_file(mirror: Path, tmp_path: Path) -> None:
    file = Pinned("b", "https://example.org/x/b", "0" * 64, 1)
    with pytest.raises(FetchError) as caught:
        bring([file], tmp_path / "cache", mirror=str(mirror))
    assert str(caught.value) == (
        "b is not in the cache and could not be read from the mirror.\n"
        f"  where:   {mirror}\n"
        "  got:     no entry example.org/x/b\n"
        "  do:      put https://example.org/x/b into the mirror, or unset MANYHOT_MIRROR to download the file"
    )


def test_a_mirror_with_other_bytes(mirror: Path, tmp_path: Path) -> None:
    file = Pinned("a", MIRRORED.url, "0" * 64, len(CONTENT))
    with pytest.raises(ChecksumError) as caught:
        bring([file], tmp_path / "cache", mirror=str(mirror))
    assert str(caught.value) == (
        "a is not the published file.\n"
        f"  where:   {mirror}, entry example.org/x/a\n"
        f"  got:     sha256 {MIRRORED.sha256}, 300000 bytes\n"
        f"  allowed: sha256 {'0' * 64}, 300000 bytes\n"
        "  do:      replace the file in the mirror, or unset MANYHOT_MIRROR to download it"
    )
    assert listing(tmp_path / "cache") == []


def test_a_mirror_entry_that_is_a_folder_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "example.org" / "x" / "a").mkdir(parents=True)
    with pytest.raises(FetchError, match=r"got: +example.org/x/a is unreadable: .*Is a directory"):
        bring([MIRRORED], tmp_path / "cache", mirror=str(tmp_path / "mirror"))


def test_a_damaged_archive(tmp_path: Path) -> None:
    archive = tmp_path / "mirror.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("example.org/x/a", CONTENT)
    content = bytearray(archive.read_bytes())
    content[150_000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(FetchError) as caught:
        bring([MIRRORED], tmp_path / "cache", mirror=str(archive))
    assert caught.value.details["got"] == (
        "example.org/x/a is unreadable: Bad CRC-32 for file 'example.org/x/a'"
    )


@pytest.mark.parametrize(
    ("name", "got"), [("absent", "nothing there"), ("text", "a file of another kind")], ids=["absent", "text"]
)
def test_what_is_not_a_mirror(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(FetchError) as caught:
        bring([MIRRORED], tmp_path / "cache", mirror=str(tmp_path / name))
    assert str(caught.value) == (
        "The mirror is neither a folder nor a zip archive.\n"
        f"  where:   {tmp_path / name}\n"
        f"  got:     {got}\n"
        "  allowed: a folder or zip archive in which the entry <host>/<path> contains https://<host>/<path>\n"
        "  do:      correct MANYHOT_MIRROR, or unset it to download"
    )


def test_a_size_of_thousands_of_digits_is_ignored() -> None:
    """Python does not convert texts of more than 4,300 digits to numbers."""
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        answer = b"HTTP/1.0 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc"
        threading.Thread(target=lambda: _answer(listener, answer), daemon=True).start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with urllib.request.urlopen(address, timeout=10) as response:
            assert b"".join(download.body(response)) == b"abc"


def _answer(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(answer)

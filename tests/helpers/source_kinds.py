"""Thirty images of five classes, and the same as every kind of source."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import re
import tarfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.predict.sources import remote

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CLASSES = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")


@dataclass(frozen=True)
class Image:
    """A stand-in for an image: sources never look into the bytes."""

    name: str
    label: str
    data: bytes


def thirty():
    return [Image(f"{i:03}.jpg", CLASSES[i % 5], b"\xff\xd8" + bytes([i]) * (100 + i)) for i in range(30)]


def add(tar, name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def write_tar(path, members, mode="w"):
    """Write an archive of names and bytes."""
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            add(tar, name, data)
    return path


def webdataset(images):
    return [
        member
        for image in images
        for member in ((image.name, image.data), (image.name.replace(".jpg", ".cls"), image.label.encode()))
    ]


def write_folder(root, images):
    for image in images:
        path = root / image.label / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.data)
    return root


def image_table(images):
    return pa.table(
        {
            "image": pa.array([{"bytes": i.data, "path": i.name} for i in images]),
            "wnid": [i.label for i in images],
        }
    )


def write_parquet(path, images, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(image_table(images), path, **options)
    return path


def listed(source):
    """Read a source: id, label and bytes of each image."""
    return [(item.image_id, item.label, read()) for part in source.parts for item, read in part.items()]


def expected(images):
    return [(i.name, i.label, i.data) for i in images]


@contextlib.contextmanager
def serving(folder, answers=None, ranges=False):
    """Serve a folder over http, also piecewise; `answers` maps paths to what is answered instead."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            status = (answers or {}).get(self.path)
            if status:
                return self.send_error(status)
            if ranges and "Range" in self.headers:
                return self.send_range(*re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"]).groups())
            with contextlib.suppress(ConnectionError):
                return super().do_GET()

        def send_range(self, start, end):
            data = Path(self.translate_path(self.path)).read_bytes()
            first, last = (int(start), min(int(end), len(data) - 1)) if start else (-int(end), len(data) - 1)
            first %= len(data)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            self.wfile.write(data[first : last + 1])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def s3_server(monkeypatch):
    """Run an S3 server on loopback, and let s3:// lead there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    # It looks every half a second whether it is to stop, which is what most of these tests would wait for.
    monkeypatch.setattr("socketserver.BaseServer.serve_forever.__defaults__", (0.01,))
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # What is stored outlives a server: it is the process's.
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    remote._filesystem.cache_clear()
    try:
        yield server
    finally:
        server.stop()
        remote._filesystem.cache_clear()

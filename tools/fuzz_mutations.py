"""How `tools/fuzz.py` breaks a file: by its bytes or its structure, and without changing what it says."""

from __future__ import annotations

import csv
import io
import json
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        2**64,
        -(2**63) - 1,
        10**40,
        0.5,
        1e400,
        -1e400,
        float("nan"),
    ),
    *(
        "",
        " ",
        "\0",
        "a\nb",
        "é" * 50,
        "../x",
        "/etc/passwd",
        "=1+1",
        "1",
        "1e400",
        "x" * 5000,
        "nan",
        "[1, 2]",
    ),
    *([], [[]], {}, [1, 2, 3], {"a": 1}, [None], ["a", "a"], [{}]),
)
"""Values in the place of others."""

DEEP = "[" * 20_000
TEXTS = (
    b"1e400",
    b"9" * 5000,
    b"-1",
    b"NaN",
    b"null",
    b"[" * 20_000,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"',
    b"\0",
    b"\n",
)


def broken_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a file that is cut, or with some bytes changed, doubled, removed or replaced by another text."""
    if not data:
        return rng.choice(TEXTS)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((0, 1, 4, 16, 200)))
        data = rng.choice(
            (
                lambda at=at, data=data: data[:at],
                lambda at=at, data=data: data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
                lambda at=at, data=data: (
                    data[:at] + bytes([rng.choice((0, 1, 127, 128, 255))]) + data[at + 1 :]
                ),
                lambda at=at, end=end, data=data: data[:at] + data[end:],
                lambda at=at, end=end, data=data: (
                    data[:end] + data[at:end] * rng.choice((1, 1, 300)) + data[end:]
                ),
                lambda at=at, end=end, data=data: data[:at] + rng.choice(TEXTS) + data[end:],
            )
        )()
    return data


def _places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        inner = list(content.items())
    elif isinstance(content, list):
        inner = list(enumerate(content[:50]))
    return [path] + [place for key, value in inner for place in _places(value, (*path, key))]


def broken_value(content: Any, rng: random.Random) -> Any:
    """Return JSON with a value replaced, removed or doubled."""
    place = rng.choice(_places(content))
    if not place:
        return rng.choice(HOSTILE)
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    kind, last = rng.randrange(5), place[-1]
    if kind == 0:
        del parent[last]
    elif kind == 1 and isinstance(parent, list):
        parent.append(parent[last])
    elif kind == 2 and isinstance(parent, dict):
        parent[str(rng.choice(HOSTILE))[:99]] = parent.pop(last)
    else:
        parent[last] = rng.choice(HOSTILE)
    return content


def _json(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = json.loads(data)
        data = json.dumps(broken_value(content, rng)).encode()
    return data.replace(b'"x"', DEEP.encode(), 1) if rng.random() < 0.02 else data


def _csv(data: bytes, rng: random.Random) -> bytes:
    separator = max(b",;\t", key=data.count)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig")), delimiter=chr(separator)))
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(rows) if rows else []
        kind, at = rng.randrange(7), rng.randrange(len(row) + 1)
        if kind == 0:
            rows.insert(rng.randrange(len(rows) + 1), list(row))
        elif kind == 1 and rows:
            rows.remove(row)
        elif kind == 2:
            row[at:] = []
        elif kind == 3:
            for each in rows:  # a column twice
                each.append(each[min(at, len(each) - 1)] if each else "")
        elif kind == 4:
            row.insert(at, str(rng.choice(HOSTILE)))
        else:
            row[at : at + 1] = [str(rng.choice(HOSTILE))]
    text = io.StringIO()
    csv.writer(text, delimiter=chr(separator), lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


_TYPES = (
    pa.string(),
    pa.int8(),
    pa.int64(),
    pa.uint64(),
    pa.float16(),
    pa.float64(),
    pa.bool_(),
    pa.binary(),
)
_TYPES = (*_TYPES, pa.large_string(), pa.list_(pa.int64()), pa.null(), pa.date32(), pa.timestamp("us"))


def _parquet(data: bytes, rng: random.Random) -> bytes:
    table = pq.read_table(pa.BufferReader(data))
    columns, names = list(table.columns), list(table.column_names)
    told = dict(table.schema.metadata or {})
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(names)), rng.randrange(8)
        if kind == 0:
            names.append(names[at])
            columns.append(columns[at])
        elif kind == 1 and len(names) > 1:
            del names[at], columns[at]
        elif kind == 2:
            names[at] = str(rng.choice((*HOSTILE, *names)))
        elif kind == 3:
            columns[at] = pa.chunked_array([pa.nulls(len(table), rng.choice(_TYPES))])
        elif kind == 4:
            columns[at] = pa.chunked_array([pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())])
        elif kind == 5 and told:
            told[rng.choice(list(told))] = rng.choice(
                (DEEP, "5", "", '{"a": 1e400}', "[[]]", "x" * 9999)
            ).encode()
        elif kind == 6:
            values = [rng.choice(HOSTILE) for _ in range(len(table))]
            columns[at] = pa.chunked_array(
                [pa.array([str(v) for v in values], pa.string(), from_pandas=True)]
            )
        else:
            columns[at] = _cast(columns[at], rng.choice(_TYPES))
    names = [name.replace("\0", "") for name in names]
    made = pa.Table.from_arrays(columns, names=names).replace_schema_metadata(told)
    sink = pa.BufferOutputStream()
    pq.write_table(made.slice(0, rng.choice((0, 1, len(made), len(made)))), sink)
    return sink.getvalue().to_pybytes()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind, safe=False)
    except pa.ArrowException:
        return column


def _npz(data: bytes, rng: random.Random) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    changed = arrays[name]
    kind = rng.randrange(6)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[name] = changed.reshape(-1)
    elif kind == 2:
        arrays[name] = changed[..., None]
    elif kind == 3:
        arrays[name] = changed.astype(
            rng.choice(("U3", "S3", "f2", "f8", "i1", "?", "c16", "M8[s]", "V2")), copy=True
        )
    elif kind == 4:
        arrays[name] = changed[:0]
    else:
        arrays[name] = np.resize(np.array(rng.choice((np.nan, np.inf, -1, 2**62, "x"))), changed.shape)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _tar(data: bytes, rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old:
        members = [(info, old.extractfile(info).read()) for info in old]  # type: ignore[union-attr]
    for _ in range(rng.choice((1, 1, 2, 3))):
        info, content = rng.choice(members)
        kind = rng.randrange(5)
        if kind == 0:
            members.append((info, content))
        elif kind == 1 and len(members) > 1:
            members.remove((info, content))
        elif kind == 2:
            info.name = rng.choice(
                ("../x.jpg", "/x.jpg", "a" * 300 + ".jpg", "é.jpg", ".x.jpg", "1.jpg/2.jpg", "\n.jpg")
            )
        elif kind == 3:
            info.type = rng.choice(
                (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"S", b"z")
            )
            info.linkname = "1.jpg"
        else:
            members[members.index((info, content))] = (info, rng.choice((*TEXTS, b"")))
    with tarfile.open(
        fileobj=buffer, mode="w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    ) as new:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            new.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    told = header["__metadata__"]
    key = next(iter(told))
    if rng.random() < 0.7:
        told[key] = _json(told[key].encode(), rng).decode()
    else:
        header = broken_value(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _toml(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode().splitlines()
    at = rng.randrange(len(lines))
    name = lines[at].partition(" =")[0]
    value = rng.choice(
        ("1e400", "nan", "9" * 5000, "[" * 5000, '"x"', "true", "-1", "[]", "{}", "1979-05-27", "0x7f", "''")
    )
    lines[at] = f"{rng.choice((name, 'weights', 'size', 'a.b'))} = {value}"
    return "\n".join(lines).encode()


BROKEN: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
    "npz": _npz,
    "tar": _tar,
    "safetensors": _safetensors,
    "toml": _toml,
}


def harmless(kind: str, data: bytes, rng: random.Random) -> bytes | None:
    """Return a file that says the same: other white space, compression or layout; None if there is none."""
    if kind == "json" and data[:1] in b"{[" and b"}\n{" not in data:
        content = json.loads(data)
        return rng.choice(
            (
                lambda: data + b"\n \n",
                lambda: json.dumps(content, indent=2, ensure_ascii=False).encode(),
                lambda: json.dumps(content, separators=(",", ":")).encode(),
            )
        )()
    if kind == "csv":
        lines = data.replace(b"\r\n", b"\n")
        return rng.choice(
            (lines.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + lines.removeprefix(b"\xef\xbb\xbf"))
        )
    if kind == "parquet":
        table = pq.read_table(pa.BufferReader(data))
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            compression=rng.choice(("none", "snappy", "gzip", "zstd", "lz4", "brotli")),
            use_dictionary=rng.random() < 0.5,
            row_group_size=rng.choice((1, 2, 100)),
            data_page_version=rng.choice(("1.0", "2.0")),
            version=rng.choice(("1.0", "2.4", "2.6")) if table.schema.metadata is None else "2.6",
        )
        return sink.getvalue().to_pybytes()
    if kind == "npz":
        with np.load(io.BytesIO(data)) as file:
            arrays = {name: file[name] for name in file.files}
        sink2 = io.BytesIO()
        rng.choice((np.savez, np.savez_compressed))(sink2, **arrays)
        return sink2.getvalue()
    return data + b"\n" if kind == "toml" else None


def mutate(kind: str, data: bytes, rng: random.Random) -> tuple[bytes, bool]:
    """Return a mutated file, and whether it says the same as before."""
    chance = rng.random()
    if chance < 0.15 and (same := harmless(kind, data, rng)) is not None:
        return same, True
    if chance < 0.65 and kind in BROKEN:
        try:
            return BROKEN[kind](data, rng), False
        except Exception:  # a structure that its own library refuses to write
            return broken_bytes(data, rng), False
    return broken_bytes(data, rng), False


def write_beside(folder: Path, files: tuple[tuple[str, bytes], ...]) -> None:
    """Write the other files of a case."""
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

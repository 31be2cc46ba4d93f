"""Minifying the SVG of figures, and the widths of their texts.

A page holds many drawings, each with a mark for every model. Marks of one look become one path: a point is
``M3 4h0`` with a round cap, a tenth of its size before.

A drawing is laid out with the widths of Arial, but its reader's browser may use DejaVu Sans, a seventh wider.
Each text therefore states its width, to which browsers fit its letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from xml.etree import ElementTree as ET

_NUMBER = re.compile(r"-?\d*\.?\d+(?:e-?\d+)?")
_CIRCLE = re.compile(r"M([\d.]+),0A\1,\1,0,1,1,-\1,0A\1,\1,0,1,1,\1,0")
_SHIFT = re.compile(r"translate\((-?[\d.e-]+),(-?[\d.e-]+)\)")
_POLYLINE = re.compile(r"M[-\d.,e]+(L[-\d.,e]+)+")

_IDLE = {
    "class",
    "role",
    "aria-hidden",
    "aria-label",
    "aria-roledescription",
    "pointer-events",
    "font-family",
}

_DEFAULTS = {"opacity": "1", "transform": "translate(0,0)", "stroke-miterlimit": "10", "text-anchor": "start"}
_INHERITED = ("fill", "stroke", "stroke-width", "font-size", "font-weight", "text-anchor")
_SHAPE = {"d", "transform", "x2", "y2"}
LAYERS = 4
"""Number of paths over which transparent marks are distributed, so that dense regions are darker."""


def lean(svg: str, prefix: str) -> str:
    """Return the drawing without invisible elements and attributes.

    Parameters
    ----------
    svg : str
        A drawing by Vega.
    prefix : str
        Prefix that makes the ids unique in a page.
    """
    root = ET.fromstring(svg)  # noqa: S314  our own drawing
    body = "".join(_written(list(_flat(root)), prefix))
    width, height = (_round(root.get(name, "0")) for name in ("width", "height"))
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} fill="none">{body}</svg>'


def _flat(parent: ET.Element) -> Iterator[ET.Element]:
    """Yield the children; a group without attributes is replaced by its children."""
    for child in parent:
        _strip(child)
        if child.tag == "g" and not child.attrib:
            yield from _flat(child)
        elif _seen(child):
            yield child


def _strip(element: ET.Element) -> None:
    element.tag = element.tag.rpartition("}")[2]
    for name, value in list(element.attrib.items()):
        if name == "opacity" and element.tag in ("path", "line", "text"):
            _sharpen(element)
        elif name in _IDLE or _DEFAULTS.get(name) == value or (name == "fill" and value == "none"):
            del element.attrib[name]
    if element.tag == "text":
        _fit(element)
    if element.tag == "text" and "stroke" in element.attrib:
        # The outline of a text is drawn below it.
        element.set("paint-order", "stroke")


def _fit(text: ET.Element) -> None:
    """Fix the width of each line of a text, for any font."""
    size, bold = float(text.get("font-size", "0").removesuffix("px")), text.get("font-weight") == "bold"
    for line in list(text) or [text]:
        for name, value in fitting(line.text or "", size, bold=bold):
            line.set(name, value)


def _sharpen(element: ET.Element) -> None:
    """Make fill or stroke transparent, not the element, which renderers would composite separately."""
    opacity = element.attrib.pop("opacity")
    for part in ("fill", "stroke"):
        if element.get(part, "none") != "none" and float(opacity) < 1:
            element.set(f"{part}-opacity", opacity)


def _seen(element: ET.Element) -> bool:
    if element.get("display") == "none" or element.get("fill") == "transparent":
        return False
    if element.tag == "path":
        return bool(element.get("d")) and not {"fill", "stroke"}.isdisjoint(element.attrib)
    return element.tag != "text" or bool("".join(element.itertext()).strip())


def _write(element: ET.Element, prefix: str) -> str:
    if element.tag in ("g", "defs", "clipPath"):
        children = list(_flat(element)) if element.tag == "g" else list(element)
        for child in children:
            _strip(child)
        inside = "".join(_written(children, prefix))
        return _tag(element, inside, prefix) if inside else ""
    return _tag(element, "".join(_text(element)), prefix)


def _written(children: list[ET.Element], prefix: str) -> Iterator[str]:
    for like, run in groupby(children, _look):
        marks = list(run)
        if like is None or len(marks) == 1:
            yield from (_write(mark, prefix) for mark in marks)
        elif marks[0].tag == "text":
            yield _together(marks, prefix)
        else:
            yield from _merged(marks, prefix)


def _look(mark: ET.Element) -> tuple[object, ...] | None:
    """Return the key of marks that can be written as one; None for a mark that cannot be merged."""
    style = tuple(sorted((k, v) for k, v in mark.attrib.items() if k not in _SHAPE))
    if mark.tag == "text":
        return ("text", *((k, mark.get(k)) for k in _INHERITED))
    if mark.tag not in ("path", "line"):
        return None
    circle = _CIRCLE.fullmatch(mark.get("d", ""))
    if circle and mark.get("stroke"):
        return None
    if mark.tag == "path" and not circle and mark.get("transform"):
        return None
    return ("dot", circle[1], style) if circle else ("path", style)


def _together(texts: list[ET.Element], prefix: str) -> str:
    """Write texts of one look in a group that has their common attributes."""
    group = ET.Element("g", {k: v for k in _INHERITED if (v := texts[0].get(k)) is not None})
    for text in texts:
        for name in _INHERITED:
            text.attrib.pop(name, None)
    return _tag(group, "".join(_write(text, prefix) for text in texts), prefix)


def _merged(marks: list[ET.Element], prefix: str) -> Iterator[str]:
    clear = "stroke-opacity" in marks[0].attrib or "fill-opacity" in marks[0].attrib
    n_paths = LAYERS if clear and len(marks) > 2 * LAYERS else 1
    for i in range(n_paths):
        path = ET.Element("path", {k: v for k, v in marks[0].attrib.items() if k not in _SHAPE})
        circle = _CIRCLE.fullmatch(marks[0].get("d", ""))
        if circle:
            path.set("stroke", path.attrib.pop("fill", "none"))
            if "fill-opacity" in path.attrib:
                path.set("stroke-opacity", path.attrib.pop("fill-opacity"))
            path.set("stroke-width", _round(str(2 * float(circle[1]))))
            path.set("stroke-linecap", "round")
        path.set("d", "".join(_path(mark) for mark in marks[i::n_paths]))
        yield _tag(path, "", prefix)


def _path(mark: ET.Element) -> str:
    """Return the path of a mark, with its translation applied."""
    shift = _SHIFT.fullmatch(mark.get("transform", "translate(0,0)"))
    start = f"M{_round(shift[1])} {_round(shift[2])}" if shift else "M0 0"
    if mark.tag == "line":
        return f"{start}l{_round(mark.get('x2', '0'))} {_round(mark.get('y2', '0'))}"
    d = mark.get("d", "")
    if _CIRCLE.fullmatch(d):
        return f"{start}h0"
    return _relative(d) if _POLYLINE.fullmatch(d) else _rounded(d)


def _relative(d: str) -> str:
    """Return a polyline in relative coordinates, which are shorter.

    Steps are between rounded points, so that errors do not accumulate.
    """
    values = [round(10 * float(v)) for v in _NUMBER.findall(d)]
    points = list(zip(values[::2], values[1::2], strict=True))
    steps = ((x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(points))
    return "M" + _pair(*points[0]) + "".join("l" + _pair(*step) for step in steps)


def _pair(x: int, y: int) -> str:
    a, b = _tenth(x), _tenth(y)
    return a + b if b.startswith("-") else f"{a} {b}"


def _tenth(value: int) -> str:
    return f"{value / 10:g}"


def _round(text: str) -> str:
    return f"{round(float(text), 1) + 0.0:g}"


def _rounded(text: str) -> str:
    return _NUMBER.sub(lambda match: _round(match[0]), text)


def _text(element: ET.Element) -> Iterable[str]:
    if element.text:
        yield escaped(element.text)
    for child in element:
        _strip(child)
        yield _tag(child, "".join(_text(child)), "")


def _tag(element: ET.Element, inside: str, prefix: str) -> str:
    attributes = "".join(f' {k}="{_value(k, v, prefix)}"' for k, v in element.attrib.items())
    start = f"<{element.tag}{attributes}"
    return f"{start}>{inside}</{element.tag}>" if inside else f"{start}/>"


def _value(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "clip-path":
        return value.replace("#", f"#{prefix}-")
    numeric = name in ("d", "transform", "x", "y", "dy", "width", "height", "stroke-width", "opacity")
    if name.endswith("opacity"):
        return f"{float(value):.2g}"
    return _rounded(value) if numeric else escaped(value).replace('"', "&quot;")


def escaped(text: str) -> str:
    """Return a text for the content of an element."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


REGULAR = {
    191: "'",
    222: "ijl‘’",
    260: "|",
    278: " !,./:;I[\\]ft·",
    333: "()-`r“”",
    334: "{}",
    355: '"',
    389: "*",
    400: "°",
    469: "^",
    500: "Jcksvxyz",
    549: "≥≤≈",
    556: "#$0123456789?L_abdeghnopquäöüéèáàâãåêëñóòôõúùû–",
    584: "+<=>~±×−",
    611: "FTZß",
    667: "&ABEKPSVXYÄÉ",
    722: "CDHNRUwÜ",
    778: "GOQÖ",
    833: "Mm",
    889: "%",
    944: "W",
    1000: "—…→←",
    1015: "@",
}
"""Letters by their width in Arial and its metric-compatible fonts, in thousandths of the font size."""

BOLD = {
    238: "'",
    278: " ,./I\\ijl·‘’",
    280: "|",
    333: "!()-:;[]`ft",
    389: "*r{}",
    400: "°",
    474: '"',
    500: "z“”",
    549: "≥≤≈",
    556: "#$0123456789J_aceksvxyäéèáàâãåêë–",
    584: "+<=>^~±×−",
    611: "?FLTZbdghnopquößüñóòôõúùû",
    667: "EPSVXYÉ",
    722: "&ABCDHKNRUÄÜ",
    778: "GOQwÖ",
    833: "M",
    889: "%m",
    944: "W",
    975: "@",
    1000: "—…→←",
}

_WIDTHS = tuple({c: w for w, letters in table.items() for c in letters} for table in (REGULAR, BOLD))


def width(text: str, size: float, *, bold: bool = False) -> float | None:
    """Return the width of a text in pixels; None if it contains a letter of unknown width."""
    widths = _WIDTHS[bold]
    return None if set(text) - widths.keys() else sum(widths[c] for c in text) * size / 1000


def letter_widths() -> list[dict[str, str]]:
    """Return letters grouped by width, regular and bold, for the script of a page."""
    return [{str(w): letters for w, letters in table.items()} for table in (REGULAR, BOLD)]


def fitting(text: str, size: float, *, bold: bool = False) -> Iterable[tuple[str, str]]:
    """Return the attributes that fix the width of a text in an SVG."""
    wide = width(text, size, bold=bold)
    if wide:
        yield "textLength", f"{wide:.4g}"
        yield "lengthAdjust", "spacingAndGlyphs"

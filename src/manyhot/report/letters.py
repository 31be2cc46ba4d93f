"""How wide texts of figures are, whatever font their reader has.

A drawing is laid out where it is made, and read elsewhere, where in the place of Arial there may be DejaVu
Sans, a seventh wider. So each text says how wide it was taken to be, and browsers fit its letters to that.
"""

from __future__ import annotations

from collections.abc import Iterable

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
"""Letters by their width in thousandths of the font's size: in Arial, and in what is made to replace it."""

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
    """Return the width of a text in pixels; None where it holds letters whose width is not known."""
    known = _WIDTHS[bold]
    return None if set(text) - known.keys() else sum(known[c] for c in text) * size / 1000


def packed() -> list[dict[str, str]]:
    """Return the same for the script of a page, which lays figures out again: regular and bold."""
    return [{str(w): letters for w, letters in table.items()} for table in (REGULAR, BOLD)]


def fitting(text: str, size: float, *, bold: bool = False) -> Iterable[tuple[str, str]]:
    """Return the attributes that make a text of an SVG as wide as it was taken to be."""
    wide = width(text, size, bold=bold)
    if wide:
        yield "textLength", f"{wide:.4g}"
        yield "lengthAdjust", "spacingAndGlyphs"

"""Results, drawn: one self-contained HTML file.

`build` collects tables into dataclasses, `charts` lays them out, `render` writes them through the templates.
Nothing here is a result of its own.
"""

from manyhot.report.pictures import Pictures, make_pictures
from manyhot.report.render import write_report

__all__ = ["Pictures", "make_pictures", "write_report"]

"""Studies: arms × seeds × measures in one grid of runs, effects with intervals, verdicts by a rule.

A study is a Python file that ends in ``study = Study(...)``, of the parts of `plan`. `study_file` reads it,
`runner` trains and measures its grid, `tables` compares, `page` shows the answer.
"""

from manyhot.extras import lazily, public_names

_HOME = public_names(__file__)
__all__ = sorted(_HOME)
__getattr__, __dir__ = lazily(__name__, _HOME)

"""Pure functions over arrays: no files, no tables, no hidden randomness.

Nothing in this folder imports anything but NumPy, SciPy and the standard library.
"""

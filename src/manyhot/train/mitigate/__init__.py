"""Heads that depend less on a shortcut: altered images and label sets, evaluated on held-out images."""

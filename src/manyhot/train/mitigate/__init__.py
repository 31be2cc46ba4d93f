"""Heads that depend less on a shortcut: altered images and label sets, judged on images held out."""

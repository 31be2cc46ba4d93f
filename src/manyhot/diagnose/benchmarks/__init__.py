"""Published numbers, computed again: what was published, how each is computed, and the command."""

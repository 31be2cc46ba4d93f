"""``python -m manyhot``."""

from manyhot.cli import main

main()

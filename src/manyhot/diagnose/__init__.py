"""Find confident errors and label errors, sort and explain them, and find shortcuts."""

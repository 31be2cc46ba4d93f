"""Table to table, one file a stage: align, compute in `manyhot.core`, make the next table."""

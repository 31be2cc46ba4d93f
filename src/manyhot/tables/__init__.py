"""The tables by which stages exchange data.

A table is one Parquet file, readable without manyhot. Its metadata contains the name of the table, the
versions of the schema and of manyhot, the call that made it, and the hashes of its inputs and of its class
list. It contains no times, so that the same inputs give the same bytes.
"""

from manyhot.core.answers import ANSWERS
from manyhot.tables.campaign_folder import DESCRIPTION, Campaign
from manyhot.tables.definitions import STATES, TABLES, Column
from manyhot.tables.frames import (
    Alignment,
    FramePart,
    align,
    align_columns,
    align_rows,
    count_shared,
    one_chunk,
    read_frame_part,
)
from manyhot.tables.labels import Images, Labels, Objects, labels_from_table, write_labels, write_objects
from manyhot.tables.predictions import (
    SCORE_KINDS,
    Predictions,
    ScoreKind,
    check_class_list,
    check_same_classes,
    list_matrix,
    predictions_file_name,
    predictions_from_table,
    read_dense,
    write_predictions,
)
from manyhot.tables.result_tables import (
    End,
    ModelValue,
    Results,
    read_folder,
    read_results_folder,
    read_thresholds,
    results_digest,
)
from manyhot.tables.schemas import (
    SCHEMA_VERSION,
    Row,
    RowDict,
    check,
    metadata,
    metadata_number,
    read,
    schema,
    write,
    write_stream,
)
from manyhot.tables.votes import (
    Golden,
    Refined,
    Votes,
    find_questions,
    golden_from_table,
    votes_from_table,
    write_golden,
    write_votes,
)

__all__ = [
    "ANSWERS",
    "DESCRIPTION",
    "SCHEMA_VERSION",
    "SCORE_KINDS",
    "STATES",
    "TABLES",
    "Alignment",
    "Campaign",
    "Column",
    "End",
    "FramePart",
    "Golden",
    "Images",
    "Labels",
    "ModelValue",
    "Objects",
    "Predictions",
    "Refined",
    "Results",
    "Row",
    "RowDict",
    "ScoreKind",
    "Votes",
    "align",
    "align_columns",
    "align_rows",
    "check",
    "check_class_list",
    "check_same_classes",
    "count_shared",
    "find_questions",
    "golden_from_table",
    "labels_from_table",
    "list_matrix",
    "metadata",
    "metadata_number",
    "one_chunk",
    "predictions_file_name",
    "predictions_from_table",
    "read",
    "read_dense",
    "read_folder",
    "read_frame_part",
    "read_results_folder",
    "read_thresholds",
    "results_digest",
    "schema",
    "votes_from_table",
    "write",
    "write_golden",
    "write_labels",
    "write_objects",
    "write_predictions",
    "write_stream",
    "write_votes",
]

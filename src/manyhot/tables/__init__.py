"""The tables by which stages exchange data.

A table is one Parquet file, readable without manyhot. Its metadata contains the name of the table, the
versions of the schema and of manyhot, the call that made it, and the hashes of its inputs and of its class
list. It contains no times, so that the same inputs give the same bytes.
"""

from manyhot.core.answers import ANSWERS as ANSWERS
from manyhot.tables.campaign_folder import DESCRIPTION as DESCRIPTION
from manyhot.tables.campaign_folder import Campaign as Campaign
from manyhot.tables.definitions import STATES as STATES
from manyhot.tables.definitions import TABLES as TABLES
from manyhot.tables.definitions import Column as Column
from manyhot.tables.frames import Alignment as Alignment
from manyhot.tables.frames import FramePart as FramePart
from manyhot.tables.frames import align as align
from manyhot.tables.frames import align_columns as align_columns
from manyhot.tables.frames import align_rows as align_rows
from manyhot.tables.frames import count_shared as count_shared
from manyhot.tables.frames import list_matrix as list_matrix
from manyhot.tables.frames import one_chunk as one_chunk
from manyhot.tables.frames import read_frame_part as read_frame_part
from manyhot.tables.labels import Images as Images
from manyhot.tables.labels import Labels as Labels
from manyhot.tables.labels import labels_from_table as labels_from_table
from manyhot.tables.labels import write_labels as write_labels
from manyhot.tables.objects import Objects as Objects
from manyhot.tables.objects import write_objects as write_objects
from manyhot.tables.predictions import SCORE_KINDS as SCORE_KINDS
from manyhot.tables.predictions import Predictions as Predictions
from manyhot.tables.predictions import ScoreKind as ScoreKind
from manyhot.tables.predictions import check_class_list as check_class_list
from manyhot.tables.predictions import check_same_classes as check_same_classes
from manyhot.tables.predictions import predictions_file_name as predictions_file_name
from manyhot.tables.predictions_files import predictions_from_table as predictions_from_table
from manyhot.tables.predictions_files import read_dense as read_dense
from manyhot.tables.predictions_files import write_predictions as write_predictions
from manyhot.tables.result_tables import End as End
from manyhot.tables.result_tables import ModelValue as ModelValue
from manyhot.tables.result_tables import Results as Results
from manyhot.tables.result_tables import read_folder as read_folder
from manyhot.tables.result_tables import read_results_folder as read_results_folder
from manyhot.tables.result_tables import read_thresholds as read_thresholds
from manyhot.tables.result_tables import results_digest as results_digest
from manyhot.tables.schemas import SCHEMA_VERSION as SCHEMA_VERSION
from manyhot.tables.schemas import Row as Row
from manyhot.tables.schemas import RowDict as RowDict
from manyhot.tables.schemas import check as check
from manyhot.tables.schemas import metadata as metadata
from manyhot.tables.schemas import metadata_number as metadata_number
from manyhot.tables.schemas import read as read
from manyhot.tables.schemas import schema as schema
from manyhot.tables.schemas import write as write
from manyhot.tables.schemas import write_stream as write_stream
from manyhot.tables.votes import Golden as Golden
from manyhot.tables.votes import Refined as Refined
from manyhot.tables.votes import Votes as Votes
from manyhot.tables.votes import find_questions as find_questions
from manyhot.tables.votes import golden_from_table as golden_from_table
from manyhot.tables.votes import votes_from_table as votes_from_table
from manyhot.tables.votes import write_golden as write_golden
from manyhot.tables.votes import write_votes as write_votes

"""The public names of the room, each with the module that defines it."""

from manyhot.study.plan import Across as Across
from manyhot.study.plan import Arm as Arm
from manyhot.study.plan import Claim as Claim
from manyhot.study.plan import Grid as Grid
from manyhot.study.plan import Measurement as Measurement
from manyhot.study.plan import Net as Net
from manyhot.study.plan import RunMeasure as RunMeasure
from manyhot.study.plan import RunMeasurement as RunMeasurement
from manyhot.study.plan import Study as Study
from manyhot.study.plan import StudyDataSet as StudyDataSet
from manyhot.study.plan import StudyMetric as StudyMetric
from manyhot.study.plan import StudyRun as StudyRun
from manyhot.study.ready_measures import JudgedRun as JudgedRun
from manyhot.study.ready_measures import accuracy_measure as accuracy_measure
from manyhot.study.ready_measures import calibration_measure as calibration_measure
from manyhot.study.ready_measures import corruption_measure as corruption_measure
from manyhot.study.ready_measures import estimated as estimated
from manyhot.study.ready_measures import own_data as own_data
from manyhot.study.ready_measures import replicate_counts as replicate_counts
from manyhot.study.ready_measures import study_metric as study_metric
from manyhot.study.ready_measures import transfer_measure as transfer_measure
from manyhot.study.study import StudyAnswer as StudyAnswer
from manyhot.study.study import StudyAnswers as StudyAnswers
from manyhot.study.study import run_studies as run_studies
from manyhot.study.study_file import Opening as Opening
from manyhot.study.study_file import read_study as read_study

"""Data sets: one file each, found by name, that gives its images one class at a time.

A new data set is a new file here that exports one class with a method `load() -> Loaded`; its constructor's annotations are
the schema of the section `dataset`. Files that begin with an underscore are no data sets.
"""

from carryover.datasets._classes import ClassImages, Dataset, Loaded, held_out, image_set
from carryover.datasets._prepare import Summary, prepare_dataset, read_class

__all__ = ["ClassImages", "Dataset", "Loaded", "Summary", "held_out", "image_set", "prepare_dataset", "read_class"]

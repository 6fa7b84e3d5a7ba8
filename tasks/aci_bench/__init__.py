# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""ACI-Bench: the note of a visit, from the conversation of doctor and patient.

`aci_bench` reads a conversation, with one subtask per division of the note:
subjective, objective exam, objective results, assessment and plan. reader.py
documents the data and how to get it, divisions.py how a note is divided. The
target of a missing division is `none`, which the metrics treat as empty; two
empty texts are a perfect match.

Newlines are preserved, as a sentinel of the vocabulary. The joint layout
separates divisions by another sentinel, since notes may have any punctuation.
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
from typing import Any

from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.tasks import prepared
from pid_jax.tasks import vocabulary
from pid_jax.tasks.aci_bench import divisions
from pid_jax.tasks.aci_bench import reader

NONE = 'none'
PROMPTS = {
  divisions.SUBJECTIVE: 'subjective: complaint, history and symptoms',
  divisions.OBJECTIVE_EXAM: 'objective: findings of the exam',
  divisions.OBJECTIVE_RESULTS: 'objective: results of tests',
  divisions.ASSESSMENT_AND_PLAN: 'assessment and plan:',
}


def examples(record: prepared.Record) -> Iterator[dict[str, Any]]:
  """Yields the decomposable example of a visit.

  Args:
    record: of reader.AciBench.
  """
  texts = divisions.divide(record['note'])
  yield {
    'example_id': f'{record["encounter_id"]}-{record["dataset"]}',
    'inputs': record['dialogue'],
    'subtasks': list(divisions.DIVISIONS),
    'prompts': [PROMPTS[division] for division in divisions.DIVISIONS],
    'targets': [texts[d].strip() or NONE for d in divisions.DIVISIONS],
  }


subtasks.register(
  'aci_bench',
  source=prepared.PreparedDataSource('aci_bench', reader.AciBench, examples),
  vocabulary=vocabulary.default(),
  metric_fns=[
    functools.partial(
      metrics.rouge, ascii_words=True, empty_target=NONE, by_subtask=True
    ),
    functools.partial(
      metrics.rouge_of_whole, ascii_words=True, empty_target=NONE
    ),
  ],
  empty_target=NONE,
  joint_separator=vocabulary.SEPARATOR,
  newline=vocabulary.NEWLINE,
)

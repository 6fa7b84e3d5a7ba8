# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Common to all metrics: types of their arguments, equality and means."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

# N whole examples, and [N][U] predictions; None is a missing prediction.
Target = dict[str, Any]
Prediction = Sequence[str | None]
Targets = Sequence[Target]
Predictions = Sequence[Prediction]


def pairs(
  targets: Targets, predictions: Predictions
) -> Iterator[tuple[str, str | None]]:
  """Yields the target and the prediction of each subtask."""
  for target, prediction in zip(targets, predictions, strict=True):
    yield from zip(target['targets'], prediction, strict=True)


def equal(gold: str, prediction: str | None) -> bool:
  """Whether strings are equal up to runs of white space; False for None."""
  return prediction is not None and gold.split() == prediction.split()


def mean(values: Sequence[float]) -> float:
  """The mean; 0 of no values."""
  return float(sum(values) / len(values)) if values else 0.0

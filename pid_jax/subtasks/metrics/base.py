# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What all metrics share: the form of their arguments, and equality."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

# N whole examples, and [N][U] predictions: None is no prediction.
Target = dict[str, Any]
Prediction = Sequence[str | None]
Targets = Sequence[Target]
Predictions = Sequence[Prediction]


def pairs(
  targets: Targets, predictions: Predictions
) -> Iterator[tuple[str, str | None]]:
  """Yields the target and the prediction of every subtask in turn."""
  for target, prediction in zip(targets, predictions, strict=True):
    yield from zip(target['targets'], prediction, strict=True)


def equal(want: str, got: str | None) -> bool:
  """Whether strings are equal up to runs of white space; None equals none."""
  return got is not None and want.split() == got.split()


def mean(values: Sequence[float]) -> float:
  """The mean, 0 of nothing."""
  return float(sum(values) / len(values)) if values else 0.0

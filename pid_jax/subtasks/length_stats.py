# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Numbers to choose feature lengths by, and to see what a choice costs.

`measure_lengths` says how long the examples of a task are, and how many a set
of feature lengths would cut: also for the text-to-text layouts, whose stock
feature converter has no way of saying so. `packing_efficiency` says how much of
a packed batch is not padding.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import math

import numpy as np
import seqio


@dataclasses.dataclass(frozen=True)
class LengthStatistics:
  """How long one feature is, over all examples measured.

  Attributes:
    count: how many lengths were measured: one a subtask for prompts, targets
      and decoder, one an example for all others.
    mean: in tokens (of subtasks: how many an example has).
    p95: 95 of 100 are at most so long.
    p99: 99 of 100 are at most so long.
    longest: the greatest length: what a feature length needs to cut nothing.
    over: how many exceed the feature length given; 0 if none was.
  """

  count: int
  mean: float
  p95: int
  p99: int
  longest: int
  over: int


def measure_lengths(
  mixture_or_task: str | seqio.Task | seqio.Mixture,
  split: str,
  task_feature_lengths: Mapping[str, int] | None = None,
  *,
  num_examples: int | None = None,
  use_cached: bool = False,
) -> dict[str, LengthStatistics]:
  """Measures the features of a split, in its own order.

  Args:
    mixture_or_task: in any of the three layouts.
    split: such as 'train'.
    task_feature_lengths: counted against, not applied.
    num_examples: measure only so many of the source's, taken from all over the
      split if it can be sharded at will, else the first; None measures all.
    use_cached: read what seqio_cache_tasks wrote.

  Returns:
    Statistics by the name of a feature length: `inputs` and `targets` (with
    EOS); for the multi-prompt layout also `prompts`, `subtasks` (U) and
    `decoder`, where a length is that of one prompt with its target. Besides,
    `example` has the prompts and targets of an example together: in a `decoder`
    row of that length all of it finds room beside one encoding of its input.
  """
  task = seqio.maybe_get_mixture_or_task(mixture_or_task)
  shards = 1
  if num_examples and not use_cached:
    shards = _num_shards(task, split, num_examples)
  dataset = task.get_dataset(
    None,
    split=split,
    shuffle=False,
    num_epochs=1,
    use_cached=use_cached,
    shard_info=seqio.ShardInfo(0, shards) if shards > 1 else None,
  )
  lengths = {}
  for example in dataset.take(num_examples or -1).as_numpy_iterator():
    for name, values in _lengths(example).items():
      lengths.setdefault(name, []).append(values)
  limits = task_feature_lengths or {}
  return {
    name: _statistics(np.concatenate(values), limits.get(name))
    for name, values in lengths.items()
  }


def packing_efficiency(batch: Mapping[str, np.ndarray]) -> dict[str, float]:
  """Says how full packed rows are.

  Args:
    batch: training features of PromptInDecoderFeatureConverter, [B, ...].

  Returns:
    `encoder_efficiency`, `decoder_efficiency`: the share of tokens that are no
    padding, 0 to 1. `loss_efficiency`: the share of decoder tokens with a loss.
    `inputs_per_row`, `subtasks_per_row`: means.
  """
  encoder = np.asarray(batch['encoder_segment_ids'])
  decoder = np.asarray(batch['decoder_segment_ids'])
  subtasks = np.asarray(batch['decoder_subtask_ids'])
  loss = np.asarray(batch['decoder_loss_weights'])
  return {
    'encoder_efficiency': float(np.mean(encoder > 0)),
    'decoder_efficiency': float(np.mean(decoder > 0)),
    'loss_efficiency': float(np.mean(loss > 0)),
    'inputs_per_row': float(np.mean(encoder.max(axis=-1))),
    'subtasks_per_row': float(np.mean(subtasks.max(axis=-1))),
  }


def _num_shards(
  task: seqio.Task | seqio.Mixture, split: str, num_examples: int
) -> int:
  """Into how many shards to part a split for the first to hold so many."""
  source = getattr(task, 'source', None)
  if source is None or not source.supports_arbitrary_sharding:
    return 1
  return max(1, source.num_input_examples(split) // num_examples)


def _lengths(example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Lengths of the features of one example; each value is [n]."""
  if 'prompts' not in example:
    return {k: np.array([len(example[k])]) for k in ('inputs', 'targets')}
  prompts = np.count_nonzero(example['prompts'], axis=1)
  targets = np.count_nonzero(example['targets'], axis=1)
  return {
    'inputs': np.array([len(example['inputs'])]),
    'prompts': prompts,
    'targets': targets,
    'subtasks': np.array([len(prompts)]),
    'decoder': prompts + targets,
    'example': np.array([np.sum(prompts + targets)]),
  }


def _statistics(lengths: np.ndarray, limit: int | None) -> LengthStatistics:
  return LengthStatistics(
    count=len(lengths),
    mean=float(lengths.mean()),
    p95=_percentile(lengths, 0.95),
    p99=_percentile(lengths, 0.99),
    longest=int(lengths.max()),
    over=int((lengths > (limit or math.inf)).sum()),
  )


def _percentile(lengths: np.ndarray, share: float) -> int:
  return int(np.sort(lengths)[math.ceil(share * len(lengths)) - 1])

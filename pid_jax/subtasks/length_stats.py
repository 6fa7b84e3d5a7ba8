# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Statistics for choosing feature lengths.

`measure_lengths` returns how long the examples of a task are, and how many a
set of feature lengths would truncate, in any layout. `packing_efficiency`
returns how much of a packed batch is not padding.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import math

import numpy as np
import seqio

from pid_jax.subtasks import tf_devices

tf_devices.hide_gpus()


@dataclasses.dataclass(frozen=True)
class LengthStatistics:
  """Lengths of one feature, over all measured examples.

  Attributes:
    count: number of measured lengths: one per subtask for prompts, targets and
      decoder, else one per example.
    mean: in tokens (of `subtasks`: their number in an example).
    p95: 95th percentile.
    p99: 99th percentile.
    longest: maximum, the feature length that truncates nothing.
    over: number of lengths above the given feature length; 0 without one.
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
  """Measures the features of a split.

  Args:
    mixture_or_task: in any of the three layouts.
    split: such as 'train'.
    task_feature_lengths: lengths to count exceeding features against; they are
      not applied.
    num_examples: measure only this many examples of the source, evenly spaced
      if the source supports arbitrary sharding, else the first ones; None
      measures all.
    use_cached: read the cache of seqio_cache_tasks.

  Returns:
    Statistics by name of a feature length: `inputs` and `targets` (with EOS);
    for the multi-prompt layout also `prompts`, `subtasks` (U) and `decoder`,
    the length of one prompt with its target. Besides, `example` has the total
    of all prompts and targets of an example: a `decoder` row of that length
    holds them all, with one encoding of the input.
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
  """Measures how full packed rows are.

  Args:
    batch: training features of PromptInDecoderFeatureConverter, [B, ...].

  Returns:
    `encoder_efficiency`, `decoder_efficiency`: the share of tokens that are not
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
  """Number of shards of which the first has about `num_examples`."""
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

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registers a source of decomposable examples as SeqIO tasks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

import seqio
import tensorflow as tf

from pid_jax.subtasks import layouts

MetricFn = Callable[..., dict[str, float]]


class DecomposableTask(seqio.Task):
  """A task whose preprocessors have fitted every feature already.

  SeqIO would slice the first dimension of each feature to its length, and the
  first dimension of `prompts` counts subtasks, not tokens.
  """

  def get_dataset(self, *args, **kwargs) -> tf.data.Dataset:
    """As in the base class, but nothing is trimmed."""
    kwargs['trim_output_features'] = False
    if self.source.performs_internal_shuffling:
      # A cache would repeat the first epoch's order in all others.
      kwargs['try_in_mem_cache'] = False
    return super().get_dataset(*args, **kwargs)

  def replace(self, **kwargs) -> DecomposableTask:
    """As in the base class, which would return a plain task."""
    task = super().replace(**kwargs)
    task.__class__ = type(self)
    return task


def register(
  name: str,
  *,
  source: seqio.DataSource,
  vocabulary: seqio.Vocabulary,
  preprocessors: Sequence[Callable[..., tf.data.Dataset]] = (),
  metric_fns: Sequence[MetricFn] = (),
  empty_target: str | None = None,
  joint_separator: str = ' ; ',
  long_inputs: str = 'keep_start',
  shuffle_buffer_size: int | None = None,
) -> None:
  """Registers NAME.

  Args:
    name: of the tasks.
    source: of the examples.
    vocabulary: of inputs, prompts and targets.
    preprocessors: make decomposable examples of what the source gives.
    metric_fns: functions of (targets, predictions).
    empty_target: target that says "nothing here".
    joint_separator: between targets of the joint layout.
    long_inputs: 'keep_start', 'keep_end' or 'error'.
    shuffle_buffer_size: of SeqIO's shuffling of examples, whose buffer goes
      into every checkpoint of an iterator. By default none for a source that
      shuffles by itself, else SeqIO's 1,000.
  """
  if shuffle_buffer_size is None and not source.performs_internal_shuffling:
    shuffle_buffer_size = seqio.dataset_providers.SHUFFLE_BUFFER_SIZE
  seqio.TaskRegistry.add(
    name,
    source=source,
    output_features=_multi_prompt_features(vocabulary),
    preprocessors=[
      *preprocessors,
      functools.partial(
        layouts.tokenize,
        task=name,
        vocabulary=vocabulary,
        empty_target=empty_target,
      ),
      seqio.CacheDatasetPlaceholder(),
      layouts.draw,
      functools.partial(
        layouts.multi_prompt,
        task=name,
        vocabulary=vocabulary,
        long_inputs=long_inputs,
      ),
    ],
    postprocess_fn=_postprocess_multi_prompt,
    metric_fns=list(metric_fns),
    task_cls=DecomposableTask,
    shuffle_buffer_size=shuffle_buffer_size,
  )


def _multi_prompt_features(
  vocabulary: seqio.Vocabulary,
) -> dict[str, seqio.Feature]:
  text = functools.partial(seqio.Feature, vocabulary)
  number = functools.partial(
    seqio.Feature, seqio.PassThroughVocabulary(1), add_eos=False
  )
  return {
    'inputs': text(),
    'inputs_truncated': number(),
    'prompts': text(rank=2, add_eos=False),
    'subtask_weights': number(dtype=tf.float32),
    'subtasks': number(),
    'targets': text(rank=2),
  }


def _postprocess_multi_prompt(
  output: Any, *, example: dict[str, Any], is_target: bool = False
) -> Any:
  names = _strings(example['subtasks_pretokenized'])
  if not is_target:
    return list(output)[: len(names)]
  return {
    'example_id': example['example_id'].decode(),
    'subtasks': names,
    'targets': _strings(example['targets_pretokenized']),
  }


def _strings(values: Any) -> list[str]:
  return [value.decode() for value in values]

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decomposable tasks: one input, many prompts, and the SeqIO tasks for them.

A decomposable example is a dictionary with
  inputs      str, encoded once
  prompts     [U] str, none of them empty
  targets     [U] str
  subtasks    [U] str, the names of the subtasks
  example_id  str, unique within a split
and any further features that the metrics need. `register` turns a source of
such examples into three SeqIO tasks (preprocessors.py lists their features).
`PromptInDecoderFeatureConverter` converts the first task to the model's packed
or padded features, `TextToTextFeatureConverter` the other two.

Names are imported on first use (PEP 562): reading examples and computing the
metrics of a prediction must not import TensorFlow.
"""

import importlib
from typing import Any

_HOMES = {
  'DecomposableTask': 'registration',
  'InMemoryDataSource': 'data_source',
  'PromptInDecoderFeatureConverter': 'feature_converter',
  'TextToTextFeatureConverter': 'text_converter',
  'is_new': 'registration',
  'iterate_examples': 'examples',
  'iterate_lines': 'examples',
  'measure_lengths': 'length_stats',
  'packing_efficiency': 'length_stats',
  'read_examples': 'examples',
  'register': 'registration',
  'register_once': 'registration',
  'user_error': 'tf_assertions',
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'pid_jax.subtasks.{_HOMES[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  return __all__

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decomposable tasks: one input, many prompts, and everything made of them.

A decomposable example is a dictionary
  inputs      str, what is encoded once
  prompts     [U] str, none of them empty
  targets     [U] str
  subtasks    [U] str, the names of the subtasks
  example_id  str, unique within a split
and whatever else the metrics need. `register` makes three SeqIO tasks of a
source of such examples (layouts.py says how each looks), and
`PromptInDecoderFeatureConverter` turns the first of them into the model's
packed or gridded features, `TextToTextFeatureConverter` the other two.

Names are loaded when they are first used: reading examples and computing
metrics for a prediction must not load TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from pid_jax.subtasks.data_source import InMemoryDataSource
  from pid_jax.subtasks.examples import iterate_examples
  from pid_jax.subtasks.examples import iterate_lines
  from pid_jax.subtasks.examples import read_examples
  from pid_jax.subtasks.feature_converter import PromptInDecoderFeatureConverter
  from pid_jax.subtasks.length_stats import measure_lengths
  from pid_jax.subtasks.length_stats import packing_efficiency
  from pid_jax.subtasks.registration import DecomposableTask
  from pid_jax.subtasks.registration import is_new
  from pid_jax.subtasks.registration import register
  from pid_jax.subtasks.text_converter import TextToTextFeatureConverter
  from pid_jax.subtasks.tf_assertions import user_error

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
  'user_error': 'tf_assertions',
}

__all__ = [
  'DecomposableTask',
  'InMemoryDataSource',
  'PromptInDecoderFeatureConverter',
  'TextToTextFeatureConverter',
  'is_new',
  'iterate_examples',
  'iterate_lines',
  'measure_lengths',
  'packing_efficiency',
  'read_examples',
  'register',
  'user_error',
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  home = importlib.import_module(f'pid_jax.subtasks.{_HOMES[name]}')
  return getattr(home, name)


def __dir__() -> list[str]:
  return __all__

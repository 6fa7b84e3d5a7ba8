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

Names are imported when they are first used: reading examples and computing the
metrics of a prediction must not import TensorFlow.
"""

from etils import epy as _epy

with _epy.lazy_api_imports(globals()):
  from pid_jax.subtasks.data_source import InMemoryDataSource
  from pid_jax.subtasks.examples import iterate_examples
  from pid_jax.subtasks.examples import read_examples
  from pid_jax.subtasks.feature_converter import PromptInDecoderFeatureConverter
  from pid_jax.subtasks.length_stats import measure_lengths
  from pid_jax.subtasks.length_stats import packing_efficiency
  from pid_jax.subtasks.registration import DecomposableTask
  from pid_jax.subtasks.registration import is_new
  from pid_jax.subtasks.registration import register
  from pid_jax.subtasks.registration import register_once
  from pid_jax.subtasks.text_converter import TextToTextFeatureConverter
  from pid_jax.subtasks.tf_assertions import user_error

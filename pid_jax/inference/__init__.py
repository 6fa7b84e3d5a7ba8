# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trained models for users: strings in, strings out; files in, files out."""

from pid_jax.inference.model import PromptInDecoder
from pid_jax.inference.predict_file import answer_file
from pid_jax.inference.stream import Request
from pid_jax.inference.stream import Response
from pid_jax.inference.timing import time_layouts

__all__ = [
  'PromptInDecoder',
  'Request',
  'Response',
  'answer_file',
  'time_layouts',
]

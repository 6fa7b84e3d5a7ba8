# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding many prompts against inputs that are encoded once."""

from pid_jax.decoding.beam import Beams
from pid_jax.decoding.beam import beam_search
from pid_jax.decoding.buckets import Shapes
from pid_jax.decoding.generation import Generated
from pid_jax.decoding.generation import generate
from pid_jax.decoding.grid import present_rows
from pid_jax.decoding.lookup import Lookup
from pid_jax.decoding.samplers import GREEDY
from pid_jax.decoding.samplers import Filter
from pid_jax.decoding.samplers import Greedy
from pid_jax.decoding.samplers import Sample
from pid_jax.decoding.samplers import Sampler
from pid_jax.decoding.samplers import Temperature
from pid_jax.decoding.samplers import TopK
from pid_jax.decoding.samplers import TopP
from pid_jax.decoding.samplers import make_sampler
from pid_jax.decoding.scoring import Scored
from pid_jax.decoding.scoring import score
from pid_jax.decoding.scoring import score_choices

__all__ = [
  'GREEDY',
  'Beams',
  'Filter',
  'Generated',
  'Greedy',
  'Lookup',
  'Sample',
  'Sampler',
  'Scored',
  'Shapes',
  'Temperature',
  'TopK',
  'TopP',
  'beam_search',
  'generate',
  'make_sampler',
  'present_rows',
  'score',
  'score_choices',
]

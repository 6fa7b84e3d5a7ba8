# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding many prompts against inputs that are encoded once."""

from pid_jax.decoding.beam import Beams
from pid_jax.decoding.beam import beam_search
from pid_jax.decoding.generation import Generated
from pid_jax.decoding.generation import generate
from pid_jax.decoding.prefill import present_rows
from pid_jax.decoding.prompt_lookup import PromptLookup
from pid_jax.decoding.sampling import GREEDY
from pid_jax.decoding.sampling import Filter
from pid_jax.decoding.sampling import Greedy
from pid_jax.decoding.sampling import Sample
from pid_jax.decoding.sampling import Sampler
from pid_jax.decoding.sampling import Temperature
from pid_jax.decoding.sampling import TopK
from pid_jax.decoding.sampling import TopP
from pid_jax.decoding.sampling import make_sampler
from pid_jax.decoding.scoring import Scored
from pid_jax.decoding.scoring import score
from pid_jax.decoding.scoring import score_choices

__all__ = [
  'GREEDY',
  'Beams',
  'Filter',
  'Generated',
  'Greedy',
  'PromptLookup',
  'Sample',
  'Sampler',
  'Scored',
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

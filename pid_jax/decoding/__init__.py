# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding of token ids: many prompts per input, each input encoded once.

`generate`, `beam_search`, `score` and the engine's `slots` are pure functions
for the caller to jit. All decode one batch of R = B * U sequences, a prompt and
its output each, by the same three functions of `prefill`: `encode` the inputs,
`prefill` all prompts in one pass, `decode_chunk` the tokens that follow.

Axis letters are those of `pid_jax.network`, and:

  P  prompt tokens
  T  generated tokens, or the tokens of a target
  A  sequences still decoded: R, or fewer after those that ended were dropped
  W  beams of a prompt
  G  slots of the engine
  J  sequences of a slot

Rarer axes have words: `choices` of a prompt, `source` tokens that a draft may
be copied from, `draft` tokens, tokens of an `ngram`, `nodes` of tries.
"""

from pid_jax.decoding.beam import Beams
from pid_jax.decoding.beam import beam_search
from pid_jax.decoding.generation import Generated
from pid_jax.decoding.generation import generate
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
from pid_jax.decoding.tokens import present_rows

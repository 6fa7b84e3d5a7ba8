# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs that decode, and random cases for them, for property tests."""

import dataclasses
import itertools

from hypothesis import strategies as st
import numpy as np

from pid_jax import decoding
from pid_jax.config import T5Config

# One bucket of sizes: B, U, S, P, T.
NUM_INPUTS, NUM_PROMPTS, INPUT_LENGTH, PROMPT_LENGTH = 2, 4, 33, 4
MAX_NEW_TOKENS = 8
LENGTHS = INPUT_LENGTH, 1 + PROMPT_LENGTH + MAX_NEW_TOKENS
NUM_TOKENS = 21


def make_config(is_gated, is_tied, relpos_bias_per_layer, scan_layers):
  return T5Config(
    vocab_size=24,
    num_tokens=NUM_TOKENS,
    emb_dim=12,
    num_heads=3,
    head_dim=4,
    num_encoder_layers=1,
    num_decoder_layers=2,
    mlp_dim=20,
    mlp_activations=('gelu', 'linear') if is_gated else ('relu',),
    logits_via_embedding=is_tied,
    relpos_num_buckets=8,
    relpos_max_distance=10,
    relpos_bias_per_layer=relpos_bias_per_layer,
    scan_layers=scan_layers,
  )


CONFIGS = [make_config(*x) for x in itertools.product((False, True), repeat=4)]
SAMPLERS = [
  decoding.GREEDY,
  decoding.Sample(decoding.Temperature(0.8), decoding.TopK(5)),
  decoding.Sample(decoding.TopP(0.9)),
  decoding.Sample(),
]
LOOKUP = decoding.PromptLookup(
  max_draft_tokens=3, min_ngram=1, max_ngram=2, tokens_per_step=99
)


@dataclasses.dataclass(frozen=True)
class Engine:
  """What is fixed when a program is compiled."""

  config: T5Config
  sampler: decoding.Sampler = decoding.GREEDY
  lookup: decoding.PromptLookup | None = None
  num_compactions: int = 0
  is_constrained: bool = False
  beam_size: int = 0  # 0: no search.
  is_packed: bool = False
  mode: str = 'generated'  # Of MODES.

  def __str__(self):
    parts = [
      f'{self.beam_size}_beams' * (self.beam_size > 0),
      type(self.sampler).__name__.lower() * (not self.beam_size),
      *(type(f).__name__.lower() for f in getattr(self.sampler, 'filters', ())),
      'lookup' * (self.lookup is not None),
      f'compact_{self.num_compactions}' * (not self.beam_size),
      self.mode * (not self.beam_size),
      'constrained' * self.is_constrained,
      'packed' * self.is_packed,
      'gated' * (len(self.config.mlp_activations) > 1),
      'tied' * self.config.logits_via_embedding,
      'relpos_per_layer' * self.config.relpos_bias_per_layer,
      'scan' * self.config.scan_layers,
    ]
    return '-'.join(filter(None, parts))


@dataclasses.dataclass(frozen=True)
class Case:
  """What a program is given.

  Attributes:
    weights: what `random_params` takes besides the configuration.
    inputs: [B] lists of ids.
    prompts: [B][U] lists of ids.
    row_mask: bool [B, U].
    token_limit: where outputs are cut, at most MAX_NEW_TOKENS.
    min_new_tokens: tokens before EOS.
    alpha: of the length penalty.
    seed: of the sampler.
    sequence_ids: int32 [B].
    sets: lists of strings, which are lists of ids.
    set_of_row: int [B, U], which of them; -1 where a row is unconstrained.
  """

  weights: dict
  inputs: list
  prompts: list
  row_mask: np.ndarray
  token_limit: int
  min_new_tokens: int
  alpha: float
  seed: int
  sequence_ids: np.ndarray
  sets: list
  set_of_row: np.ndarray

  def arrays(self):
    """Returns the inputs and prompts, padded."""
    encoder = np.zeros((NUM_INPUTS, INPUT_LENGTH), np.int32)
    prompt_tokens = np.zeros((NUM_INPUTS, NUM_PROMPTS, PROMPT_LENGTH), np.int32)
    for b, ids in enumerate(self.inputs):
      encoder[b, : len(ids)] = ids
      for u, prompt in enumerate(self.prompts[b]):
        prompt_tokens[b, u, : len(prompt)] = prompt
    return encoder, prompt_tokens

  def constraint(self, b, u):
    """Returns what the reference is told of a row's outputs."""
    s = self.set_of_row[b, u]
    return dict(
      min_new_tokens=self.min_new_tokens,
      strings=None if s < 0 else self.sets[s],
    )


@st.composite
def cases(draw, engine):
  """Draws a case; ids come from a few letters at times, so that they repeat."""
  flags = lambda: draw(
    st.lists(
      st.lists(st.booleans(), min_size=NUM_PROMPTS, max_size=NUM_PROMPTS),
      min_size=NUM_INPUTS,
      max_size=NUM_INPUTS,
    ).map(np.array)
  )
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  letters = draw(st.sampled_from([2, 5, NUM_TOKENS - 2]))
  ids = lambda low, high: rng.integers(
    2, 2 + letters, rng.integers(low, high + 1)
  ).tolist()
  sets = [
    [list(x) for x in {tuple(ids(0, MAX_NEW_TOKENS + 1)) for _ in range(size)}]
    for size in draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
  ]
  set_of_row = np.where(
    flags() & engine.is_constrained,
    rng.integers(0, len(sets), (NUM_INPUTS, NUM_PROMPTS)),
    -1,
  )
  token_limit = draw(
    st.one_of(st.just(MAX_NEW_TOKENS), st.integers(1, MAX_NEW_TOKENS))
  )
  return Case(
    weights=dict(
      seed=draw(st.integers(0, 7)),
      eos_gain=draw(st.sampled_from([1.0, 2.0, 4.0])),
      reads_input=draw(st.booleans()),
    ),
    inputs=[[*ids(0, INPUT_LENGTH - 1), 1] for _ in range(NUM_INPUTS)],
    prompts=[
      [ids(0, PROMPT_LENGTH) for _ in range(NUM_PROMPTS)]
      for _ in range(NUM_INPUTS)
    ],
    row_mask=flags() | flags(),
    token_limit=token_limit,
    min_new_tokens=draw(st.one_of(st.just(0), st.integers(0, token_limit))),
    alpha=draw(st.sampled_from([0.0, 0.6, 1.5])),
    seed=draw(st.integers(0, 2**31 - 1)),
    sequence_ids=rng.integers(0, 1000, NUM_INPUTS).astype(np.int32),
    sets=sets,
    set_of_row=set_of_row,
  )

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generates the outputs of many prompts to each input.

`generate` is one pure function for the caller to jit: encode (unless that is
done), prefill, then loops of steps until the last sequence has ended. Most
slots of a dialogue say "none" after two tokens while one says a long name. So
whenever half of the sequences of each input have ended, the others are
gathered, and the next loop runs on half as many. Shapes are fixed when a
program is compiled: it holds one loop for each width.

Axis letters are those of `pid_jax.decoding`.
"""

from typing import Any

import flax
from jaxtyping import Array, Bool, Float32, Int32, PRNGKeyArray

from pid_jax import network
from pid_jax.decoding import constraints
from pid_jax.decoding import loop
from pid_jax.decoding import prefill
from pid_jax.decoding import prompt_lookup as prompt_lookup_lib
from pid_jax.decoding import sampling

# Halving fewer sequences than this saves hardly anything: such a step takes as
# long as reading the weights does.
FEW_SEQUENCES = 16


@flax.struct.dataclass
class Generated:
  """The outputs of a batch.

  Attributes:
    tokens: int32 [B, U, T]; ends with EOS unless it was cut, then 0.
      Masked rows hold 0 only.
    log_probs: float32 [B, U], natural logarithm of the probability of the
      tokens, EOS included, under the model's distribution, whichever sampler
      chose them. 0 for masked rows.
    normalized_log_probs: float32 [B, U], the same under the distribution that
      the tries leave: each token's probability is divided by the sum over the
      tokens allowed at its position. The probabilities of all strings of a set
      sum to 1. Equal to log_probs in unconstrained rows.
    num_steps: int32 scalar, passes of the decoder, the prefill included: one
      for each token of the longest output, fewer with drafts.
    num_row_steps: int32 scalar, sequences decoded, summed over the passes.
  """

  tokens: Int32[Array, 'B U T']
  log_probs: Float32[Array, 'B U']
  normalized_log_probs: Float32[Array, 'B U']
  num_steps: Int32[Array, '']
  num_row_steps: Int32[Array, '']


def generate(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
  *,
  cross: network.KVCache | None = None,
  max_new_tokens: int,
  min_new_tokens: int | Int32[Array, ''] = 0,
  token_limit: int | Int32[Array, ''] | None = None,
  sampler: sampling.Sampler = sampling.GREEDY,
  prompt_lookup: prompt_lookup_lib.PromptLookup | None = None,
  rng: PRNGKeyArray | None = None,
  sequence_ids: Int32[Array, ' B'] | None = None,
  row_mask: Bool[Array, 'B U'] | None = None,
  tries: constraints.Tries | None = None,
  roots: Int32[Array, 'B U'] | None = None,
  num_compactions: int = 2,
  packed_prompt_length: int | None = None,
) -> Generated:
  """Encodes each input once and decodes all its prompts together.

  Padding (id 0) and the ids from `config.num_tokens` on are never generated.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right, without a start
      token. P may be 0: each sequence then begins at the start token, as in a
      stock T5.
    cross: of `prefill.encode` of the same inputs, S positions or more; None:
      the inputs are encoded here.
    max_new_tokens: T, at least 1, EOS included. A program has a fixed T.
    min_new_tokens: number of tokens before which EOS is not allowed in
      unconstrained sequences; may be traced. With the value of
      `max_new_tokens`, every output has T tokens, for timing.
    token_limit: where outputs are cut, EOS included: from 1 to T. It may be
      traced, so that one program serves many lengths. None: T.
    sampler: chooses the tokens.
    prompt_lookup: how to draft tokens that the output may copy from the input
      or the prompt, or to which `tries` leave no alternative; None: no drafts.
      The outputs do not depend on it.
    rng: random key; not needed by `Greedy`.
    sequence_ids: int32 [B]. Row (b, u) draws from the random numbers of `rng`,
      sequence_ids[b] and u, so that the outputs of an input do not depend on
      its position in a batch. None: 0 .. B-1.
    row_mask: bool [B, U], the rows to decode; others return zeros. None: see
      `tokens.present_rows`.
    tries: sets of strings, of `constraints.build`; None: no row is constrained.
      Strings of more than `max_new_tokens`, EOS included, may be cut.
    roots: int32 [B, U], required with `tries`: the root of the set that the
      output of a row is one of; constraints.FREE for unconstrained rows.
    num_compactions: how often the number of sequences may be halved. The
      outputs do not depend on it; each adds a loop to the program.
    packed_prompt_length: L, at least U and the tokens of the prompts of any
      input: the prefill then reads L tokens of each, and not U * (P + 1); see
      `prefill.choose_packed_length`. The outputs do not depend on it. None:
      prompts are padded to P.

  Returns:
    Generated.

  Raises:
    ValueError: max_new_tokens is below 1.
  """
  num_inputs, num_prompts, _ = prompt_tokens.shape
  settings = loop.Settings(
    module, max_new_tokens, sampler, prompt_lookup, packed_prompt_length
  )
  if cross is None:
    cross = prefill.encode(module, params, encoder_input_tokens)
  state = loop.start(
    settings,
    params,
    cross,
    encoder_input_tokens,
    prompt_tokens,
    min_new_tokens=min_new_tokens,
    token_limit=token_limit,
    rng=rng,
    sequence_ids=sequence_ids,
    row_mask=row_mask,
    tries=tries,
    roots=roots,
  )
  for width in narrower_widths(num_inputs, num_prompts, num_compactions):
    state = loop.advance(
      settings,
      params,
      state,
      max_unfinished=width,
      min_new_tokens=min_new_tokens,
      token_limit=token_limit,
    )
    state = loop.compact(state, width)
  state = loop.advance(
    settings,
    params,
    state,
    min_new_tokens=min_new_tokens,
    token_limit=token_limit,
  )
  return Generated(*state.output(), state.num_steps, state.num_row_steps)


def narrower_widths(
  num_inputs: int, num_prompts: int, num_compactions: int
) -> list[int]:
  """Returns the numbers of sequences per input to compact to, falling.

  Args:
    num_inputs: B.
    num_prompts: U.
    num_compactions: the most that may be returned.
  """
  widths, width = [], num_prompts
  while len(widths) < num_compactions and num_inputs * width > FEW_SEQUENCES:
    if width == 1:
      break
    width = -(-width // 2)
    widths.append(width)
  return widths

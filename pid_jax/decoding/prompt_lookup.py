# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt lookup decoding: drafts of the next tokens, copied from the input.

Extractive outputs copy. Where the last tokens of a sequence occur in its input
or prompt, the tokens that follow there are a likely continuation, and one pass
of the decoder verifies a whole draft in much less time than as many steps, each
of which reads all weights. The tokens that the model would have chosen itself
are accepted, and the first other one is replaced by the model's choice: the
output is the same, token for token (speculative decoding, arXiv 2211.17192;
drafts are copied from a reference as in arXiv 2304.04487).

A draft that is rejected costs time. Each sequence keeps an estimate of its
acceptance rate, and a pass reads drafts only where enough of their tokens are
expected to be accepted; sequences whose drafts fail are tried ever more rarely.

Axis letters are those of `pid_jax.decoding`.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from pid_jax import checks
from pid_jax import errors
from pid_jax import platforms
from pid_jax.decoding import tokens as tokens_lib

PAD_ID = tokens_lib.PAD_ID
NO_TOKEN = -1  # Matches nothing.

# The initial estimate of the acceptance rate, and what a step without a draft
# adds to the estimate, up to the initial one.
FIRST_RATE = 0.4
_RECOVERY = 1 / 256

# Greatest values. Each token of an n-gram is a part of the program.
_MOST = {
  'max_draft_tokens': 1 << 10,
  'min_ngram': 64,
  'max_ngram': 64,
  'tokens_per_step': checks.MOST_TOKENS,
}


@dataclasses.dataclass(frozen=True)
class PromptLookup:
  """How to draft; hashable, so that it can be a static argument of jit.

  Attributes:
    max_draft_tokens: length of the longest draft.
    min_ngram: number of the last tokens that must occur in the source.
    max_ngram: number of the last tokens that are compared. The draft follows
      the longest match; of equal ones, the last.
    tokens_per_step: extra tokens in a pass that cost as much as one decoding
      step. By this estimate a pass with drafts must save more than it costs;
      nothing is drafted for more than half as many sequences. None: that of
      the platform that the program is for (`platforms`).

  Raises:
    UserError: no whole number, out of range (1,024 drafted tokens and n-grams
      of 64 at most), or min_ngram above max_ngram.
  """

  max_draft_tokens: int = 8
  min_ngram: int = 2
  max_ngram: int = 3
  tokens_per_step: int | None = None

  def __post_init__(self):
    for name, most in _MOST.items():
      value = getattr(self, name)
      if name != 'tokens_per_step' or value is not None:
        value = checks.integer(name, value, 1, most)
        object.__setattr__(self, name, value)
    if self.min_ngram > self.max_ngram:
      raise errors.UserError(
        f'min_ngram must be at most max_ngram, {self.max_ngram}; got '
        f'{self.min_ngram}.'
      )

  @property
  def _tokens_per_step(self) -> int:
    return self.tokens_per_step or platforms.current().tokens_per_step

  def pays(self, num_rows: int) -> bool:
    """Whether drafts can save time at all.

    Args:
      num_rows: A, the sequences of a pass, finished ones included.
    """
    return 2 * num_rows <= self._tokens_per_step

  def is_worthwhile(
    self,
    lengths: Int32[Array, ' A'],
    rates: Float32[Array, ' A'],
    done: Bool[Array, ' A'],
  ) -> Bool[Array, '']:
    """Whether a pass that reads these drafts is expected to save time.

    Args:
      lengths: int32 [A], of the drafts.
      rates: float32 [A], estimated acceptance rates.
      done: bool [A], finished sequences, which do not count.

    Returns:
      bool scalar.
    """
    saved = jnp.sum(jnp.where(done, 0.0, lengths * rates))
    cost = done.size * self.max_draft_tokens / self._tokens_per_step
    return saved > cost * jnp.sum(~done)

  def draft(
    self, source: Int32[Array, 'A source'], recent: Int32[Array, 'A ngram']
  ) -> tuple[Int32[Array, 'A draft'], Int32[Array, ' A']]:
    """Looks up the continuation of each sequence.

    Args:
      source: int32 [A, source], of `sources`.
      recent: int32 [A, ngram], the last `max_ngram` tokens of each sequence,
        the newest last; NO_TOKEN where there are fewer.

    Returns:
      int32 [A, draft], `max_draft_tokens` tokens; and int32 [A], the length of
      each draft: its first tokens.
    """
    num_sequences, length = source.shape
    # matched[a, j]: tokens up to position j that are the last of sequence a.
    matched = jnp.zeros((num_sequences, length), jnp.int32)
    matches = source != PAD_ID
    for back in range(self.max_ngram):
      shifted = jnp.pad(source, ((0, 0), (back, 0)))[:, :length]
      matches = matches & (shifted == recent[:, -1 - back, None])
      matched += matches
    # The longest; of equals, the last.
    position = jnp.arange(length)[None, :]
    best = jnp.argmax(matched * length + position, axis=1)
    is_found = jnp.max(matched, axis=1) >= self.min_ngram
    follows = jnp.pad(source, ((0, 0), (0, self.max_draft_tokens)))
    ahead = 1 + jnp.arange(self.max_draft_tokens)[None, :]
    tokens = jnp.take_along_axis(follows, best[:, None] + ahead, axis=1)
    # A draft ends where its source does.
    draft_lengths = jnp.sum(jnp.cumprod(tokens != PAD_ID, axis=1), axis=1)
    return tokens, jnp.where(is_found, draft_lengths, 0)


def sources(
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
) -> Int32[Array, 'R source']:
  """Returns what each sequence may copy from.

  Args:
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right.

  Returns:
    int32 [R, P + 1 + S]: the prompt, padding, and the input.
  """
  num_inputs, num_prompts, _ = prompt_tokens.shape
  inputs = jnp.broadcast_to(
    encoder_input_tokens[:, None, :],
    (num_inputs, num_prompts, encoder_input_tokens.shape[1]),
  )
  gap = jnp.full((num_inputs, num_prompts, 1), PAD_ID, prompt_tokens.dtype)
  joined = jnp.concatenate([prompt_tokens, gap, inputs], axis=-1)
  return joined.reshape(num_inputs * num_prompts, -1)


def update_rates(
  rates: Float32[Array, ' A'],
  lengths: Int32[Array, ' A'],
  accepted: Int32[Array, ' A'],
) -> Float32[Array, ' A']:
  """Returns new estimates of the acceptance rates after a pass.

  Args:
    rates: float32 [A], the estimates before.
    lengths: int32 [A], of the drafts that were read; 0 where there was none.
    accepted: int32 [A], how many of their tokens were accepted.

  Returns:
    float32 [A]: after a draft, the mean of the estimate before and the share of
    the draft that was accepted; without a draft, the estimate recovers slowly.
  """
  share = accepted / jnp.maximum(lengths, 1)
  recovered = jnp.minimum(rates + _RECOVERY, jnp.maximum(rates, FIRST_RATE))
  return jnp.where(lengths > 0, (rates + share) / 2, recovered)

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Options of decoding.

`generate`, `stream`, `predict`, `evaluate`, the evaluation inside training and
the engine take the same options, which check themselves.
"""

import dataclasses
import numbers
from typing import Any

from pid_jax import decoding
from pid_jax import errors


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
  """What to decode, and how.

  Attributes:
    max_new_tokens: T, length at which outputs are cut, EOS included. None: that
      of the model's or task's targets, which the caller fills in (`resolved`).
    min_new_tokens: tokens before which no output without choices may end.
    sampler: chooses the tokens.
    prompt_lookup: draft tokens from the input and the prompt (n-gram
      speculative decoding); None: every token takes a step. The outputs do not
      depend on it.
    beam_size: beams of a search for the output of the highest score; None: no
      search, the sampler chooses token by token.
    length_penalty: of the beam search, see `decoding.beam_search`.
    seed: of samplers that draw. Outputs depend on the seed and on the index of
      a request, not on how requests are batched.
    normalize_scores: whether the score of an output with choices is taken among
      the tokens that these allow, step by step.
    use_choices: whether evaluations constrain outputs to the choices that a
      task's examples carry. (Calls of users pass choices or do not.)

  Raises:
    UserError: a value of the wrong type or out of range, or beams together with
      a sampler that draws or with prompt lookup.
  """

  max_new_tokens: int | None = None
  min_new_tokens: int = 0
  sampler: decoding.Sampler = decoding.GREEDY
  prompt_lookup: decoding.PromptLookup | None = None
  beam_size: int | None = None
  length_penalty: float = 0.6
  seed: int = 0
  normalize_scores: bool = False
  use_choices: bool = True

  def __post_init__(self):
    if self.max_new_tokens is not None:
      _check_int('max_new_tokens', self.max_new_tokens, 1)
    _check_int('min_new_tokens', self.min_new_tokens, 0)
    _check_int('seed', self.seed, None)
    if not callable(self.sampler):
      raise errors.UserError(
        f'sampler must be a decoding.Sampler. Got {self.sampler!r}.'
      )
    if not isinstance(self.prompt_lookup, decoding.PromptLookup | None):
      raise errors.UserError(
        'prompt_lookup must be a decoding.PromptLookup or None. Got '
        f'{self.prompt_lookup!r}.'
      )
    if not isinstance(self.length_penalty, numbers.Real):
      raise errors.UserError(
        f'length_penalty must be a number, got {self.length_penalty!r}.'
      )
    if self.beam_size is None:
      return
    _check_int('beam_size', self.beam_size, 1)
    if self.sampler != decoding.GREEDY:
      raise errors.UserError(
        'beam_size and sampler exclude each other: a beam search draws nothing.'
      )
    if self.prompt_lookup is not None:
      raise errors.UserError(
        'beam_size and prompt_lookup exclude each other: beams read no drafts.'
      )

  def resolved(self, max_new_tokens: int) -> 'DecodingOptions':
    """Returns the options with `max_new_tokens` filled in where it is None."""
    if self.max_new_tokens is not None:
      return self
    return dataclasses.replace(self, max_new_tokens=max_new_tokens)

  def changed(self) -> dict[str, Any]:
    """Returns the options that are not the default, by name."""
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if getattr(self, field.name) != field.default
    }


def _check_int(name: str, value: Any, least: int | None) -> None:
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise errors.UserError(f'{name} must be a whole number, got {value!r}.')
  if least is not None and value < least:
    raise errors.UserError(f'{name} must be at least {least}, got {value}.')

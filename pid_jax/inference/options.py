# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Options of decoding.

`generate`, `stream`, `predict`, `evaluate`, the evaluation inside training and
the engine take the same options, which check themselves.
"""

from collections.abc import Callable
from collections.abc import Hashable
import dataclasses
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from pid_jax import checks
from pid_jax import decoding
from pid_jax import errors

# Other libraries' names of what users ask for -> how to ask for it here.
_OTHER_NAMES = {
  'num_beams': 'beam_size',
  'num_beam_groups': 'beam_size',
  'max_length': 'max_new_tokens',
  'max_tokens': 'max_new_tokens',
  'min_length': 'min_new_tokens',
  'do_sample': 'temperature=1.0',
  'length_penalty_alpha': 'length_penalty',
  'output_scores': 'return_scores',
  'generator': 'seed',
  'torch_dtype': 'dtype',
  'tokenizer': 'vocabulary',
  'text': 'inputs',
  'texts': 'inputs',
  'input': 'inputs',
  'prompt': 'prompts',
  'questions': 'prompts',
  'max_batch_size': 'batch_size',
}


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
  """What to decode, and how.

  Attributes:
    max_new_tokens: length at which outputs are cut, EOS included. None: that of
      the model's or task's targets, which the caller fills in (`resolved`).
    min_new_tokens: tokens before which no output without choices may end.
    sampler: chooses the tokens.
    prompt_lookup: draft tokens from the input and the prompt (n-gram
      speculative decoding); None: every token takes a step. The outputs do not
      depend on it.
    beam_size: beams of a search for the output of the highest score; None: no
      search, the sampler chooses token by token.
    length_penalty: of the beam search, see `decoding.beam_search`; from -2 to
      5.
    seed: of samplers that draw, from 0 to 2^32 - 1. Outputs depend on the seed
      and on the index of a request, not on how requests are batched.
    normalize_scores: whether the score of an output with choices is taken among
      the tokens that these allow, step by step.
    use_choices: whether outputs are constrained to the choices that the
      examples of a task or file carry. (Calls of users pass choices or do not.)

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
      self._check('max_new_tokens', checks.integer, 1, checks.MOST_TOKENS)
    self._check('min_new_tokens', checks.integer, 0, checks.MOST_TOKENS)
    self._check('length_penalty', checks.number, *checks.LENGTH_PENALTIES)
    self._check('seed', checks.integer, 0, checks.MOST_SEED)
    self._check('normalize_scores', checks.boolean)
    self._check('use_choices', checks.boolean)
    if self.beam_size is not None:
      self._check('beam_size', checks.integer, 1, checks.MOST_BEAMS)
    _check_sampler(self.sampler)
    if not isinstance(self.prompt_lookup, decoding.PromptLookup | None):
      raise errors.UserError(
        'prompt_lookup must be a decoding.PromptLookup or None; got '
        f'{checks.shown(self.prompt_lookup)}.'
      )
    limit = self.max_new_tokens
    if limit is not None and self.min_new_tokens > limit:
      raise errors.UserError(
        f'min_new_tokens must be at most max_new_tokens, {limit}; got '
        f'{self.min_new_tokens}.'
      )
    if self.beam_size is None:
      return
    if self.sampler != decoding.GREEDY:
      raise errors.UserError(
        'beam_size and sampler exclude each other: a beam search draws nothing.'
      )
    if self.prompt_lookup is not None:
      raise errors.UserError(
        'beam_size and prompt_lookup exclude each other: beams read no drafts.'
      )

  def _check(self, name: str, check: Callable[..., Any], *limits: Any) -> None:
    """Replaces a field by its value as a plain Python type."""
    value = check(name, getattr(self, name), *limits)
    object.__setattr__(self, name, value)

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


def choose_sampler(
  sampler: decoding.Sampler | None,
  temperature: float | None,
  top_k: int | None,
  top_p: float | None,
) -> decoding.Sampler:
  """Returns the sampler that a user asks for in one of two ways.

  Args:
    sampler: one, or None.
    temperature: see `decoding.make_sampler`, like what follows.
    top_k: int or None.
    top_p: float or None.

  Raises:
    UserError: a value is out of range, or both ways are used.
  """
  made = decoding.make_sampler(temperature, top_k, top_p)
  if sampler is None:
    return made
  if made != decoding.GREEDY:
    raise errors.UserError(
      'sampler and temperature, top_k or top_p exclude each other: give one, '
      'such as sampler=decoding.Sample(decoding.Temperature(0.7)).'
    )
  return sampler


def _check_sampler(sampler: Any) -> None:
  """Raises UserError unless a sampler can be one; computes nothing."""
  if isinstance(sampler, decoding.Greedy):
    return
  wrong = errors.UserError(
    'sampler must be a decoding.Sampler, such as decoding.Sample(); got '
    f'{checks.shown(sampler)}.'
  )
  if (
    not callable(sampler)
    or inspect.isclass(sampler)
    or not isinstance(sampler, Hashable)
  ):
    raise wrong
  try:
    token = jax.eval_shape(
      sampler,
      jax.ShapeDtypeStruct((8,), jnp.float32),
      jax.eval_shape(lambda: jax.random.key(0)),
    )
  except Exception as e:  # Whatever the user's function raises.
    raise wrong from e
  if getattr(token, 'shape', None) != () or token.dtype != jnp.int32:
    raise wrong


def names_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
  """Decorates a function of users: an unknown argument is named with a remedy.

  Raises:
    UnknownArgument: in calls, which is a TypeError, too.
  """
  known = list(inspect.signature(function).parameters)

  @functools.wraps(function)
  def wrapper(*args, **kwargs):
    for name in kwargs:
      if name not in known:
        raise errors.unknown_argument(
          function.__name__, name, known[1:], _OTHER_NAMES
        )
    return function(*args, **kwargs)

  return wrapper

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""From texts to token ids, laid out and cut as the model was trained.

Letters: N inputs, U prompts of an input, K targets of a prompt.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import logging

from pid_jax import errors
from pid_jax.inference import batching

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much of an input the encoder reads.

  Attributes:
    layout: 'pid', the encoder reads the input alone; or 'pie', it reads it once
      behind each prompt.
    max_input_tokens: EOS (and prompt) included; None: all.
    long_inputs: what becomes of a longer one: 'keep_start', 'keep_end' or
      'error'.
    max_prompt_tokens: of a prompt; None: any number.
  """

  layout: str
  max_input_tokens: int | None
  long_inputs: str
  max_prompt_tokens: int | None = None

  def check_prompt(self, prompt: Sequence[int], name: str) -> None:
    """Raises UserError if a prompt, called `name`, has too many ids."""
    limit = self.max_prompt_tokens
    if limit is not None and len(prompt) > limit:
      raise errors.UserError(
        f'{name} has {len(prompt)} tokens, and at most {limit} are allowed: '
        'shorten it, or raise max_prompt_tokens.'
      )

  def is_cut(
    self, ids: Sequence[int], prompts: Sequence[Sequence[int]]
  ) -> bool:
    """Returns whether an input is too long; both without EOS."""
    limit = self.max_input_tokens
    return limit is not None and self._needed(ids, prompts) > limit

  def rows(
    self,
    ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    eos_id: int,
    name: str = 'the input',
  ) -> Iterator[list[int]]:
    """Yields what the encoder reads: one row, or one for each prompt.

    Args:
      ids: of the input.
      prompts: ids of all its prompts.
      eos_id: ends every row.
      name: of the input, for messages.

    Raises:
      UserError: it is too long, and `long_inputs` is 'error' or a prompt leaves
        it no room.
    """
    limit, longest = self.max_input_tokens, self._longest(prompts)
    if self.is_cut(ids, prompts) and (
      self.long_inputs == 'error' or longest >= limit
    ):
      raise errors.UserError(
        f'{name} has {self._needed(ids, prompts)} tokens'
        f'{" with its longest prompt" if longest else ""}, and the model takes '
        f'{limit}: shorten it, raise max_input_tokens, or say by long_inputs '
        'which end to keep.'
      )
    for before in prompts if self.layout == 'pie' else [[]]:
      room = len(ids) if limit is None else limit - 1 - len(before)
      kept = ids[:room]
      if self.long_inputs == 'keep_end':
        kept = ids[max(0, len(ids) - room) :]
      yield [*before, *kept, eos_id]

  def _needed(
    self, ids: Sequence[int], prompts: Sequence[Sequence[int]]
  ) -> int:
    return self._longest(prompts) + len(ids) + 1

  def _longest(self, prompts: Sequence[Sequence[int]]) -> int:
    """Tokens of the longest prompt in front of an input."""
    if self.layout != 'pie':
      return 0
    return max((len(prompt) for prompt in prompts), default=0)


def build(
  inputs: Sequence[str],
  prompts: Sequence[Sequence[str]],
  targets: Sequence[Sequence[Sequence[str]]] | None,
  *,
  roots: Sequence[Sequence[int]] | None = None,
  encode: Callable[[str, str], list[int]],
  eos_id: int,
  limits: Limits,
) -> list[batching.Request]:
  """Tokenises a job that texts.py has checked, and warns of inputs it cuts.

  Args:
    inputs: N strings.
    prompts: [N][U].
    targets: [N][U][K], or None.
    roots: [N][U], see batching.Request, or None.
    encode: maps a string, and what to call it in messages, to ids without EOS.
    eos_id: put behind inputs and targets.
    limits: how to lay out and cut the inputs.

  Returns:
    A request for each input; in the layout 'pie' one for each prompt, with one
    row and no prompt tokens.

  Raises:
    UserError: see `Limits.rows`.
  """
  requests, cut = [], []
  for i, text in enumerate(inputs):
    own, is_cut = build_one(
      text,
      prompts[i],
      [] if targets is None else targets[i],
      roots=[] if roots is None else roots[i],
      encode=encode,
      eos_id=eos_id,
      limits=limits,
      place=f'[{i}]',
    )
    requests += own
    if is_cut:
      cut.append(f'inputs[{i}]')
  if cut:
    logger.warning(
      '%d of %d inputs have more than %d tokens and were cut (%s): %s',
      len(cut), len(inputs), limits.max_input_tokens, limits.long_inputs,
      ', '.join(cut[:5]) + (', ...' if len(cut) > 5 else ''),
    )  # fmt: skip
  return requests


def build_one(
  text: str,
  prompts: Sequence[str],
  targets: Sequence[Sequence[str]] = (),
  *,
  roots: Sequence[int] = (),
  encode: Callable[[str, str], list[int]],
  eos_id: int,
  limits: Limits,
  place: str = '',
) -> tuple[list[batching.Request], bool]:
  """Tokenises one input with its prompts.

  Args:
    text: the input.
    prompts: [U].
    targets: [U][K], or empty.
    roots: [U], or empty.
    encode: as in `build`, like all that follow.
    eos_id: put behind inputs and targets.
    limits: how to lay out and cut the input.
    place: of the input among others, such as '[3]', for messages.

  Returns:
    The request, or the requests in the layout 'pie'; and whether the input was
    too long.

  Raises:
    UserError: see `Limits.rows`, or a prompt is too long.
  """
  name = f'inputs{place}'
  ids = encode(text, name)
  own = []
  for u, prompt in enumerate(prompts):
    own.append(encode(prompt, f'prompts{place}[{u}]'))
    limits.check_prompt(own[-1], f'prompts{place}[{u}]')
  ends = [
    [[*encode(target, f'targets{place}[{u}]'), eos_id] for target in choices]
    for u, choices in enumerate(targets)
  ]
  rows = list(limits.rows(ids, own, eos_id, name))
  is_cut = limits.is_cut(ids, own)
  if limits.layout == 'pid':
    return [batching.Request(rows[0], own, ends, roots)], is_cut
  return [
    batching.Request(row, [()], ends[u : u + 1], roots[u : u + 1])
    for u, row in enumerate(rows)
  ], is_cut

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back: requests, responses, and the tokenizer between them.

    Request -> arguments -> RequestProcessor.encode -> TokenRequests -> engine
            -> Outputs -> RequestProcessor.decode -> Response

The same for `generate`, `stream`, `predict` and whatever else answers texts. In
the layout 'pid' a request is one TokenRequest; in 'pie' it is one for each of
its prompts, which the encoder reads before the input.

Texts are checked (`arguments`) and tokenised once, where they enter. Messages
name the entry, also for characters that the vocabulary cannot encode.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import logging
from typing import Any

from pid_jax import checks
from pid_jax import errors
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.subtasks import examples
from pid_jax.subtasks import newlines
from pid_jax.vocabulary import AnyVocabulary
from pid_jax.vocabulary import RoundTripCounter

logger = logging.getLogger(__name__)

# Lists of choices that are kept as ids: prompts that are asked again and again
# have the same ones each time.
_NUM_CHOICE_LISTS = 1024


@dataclasses.dataclass(frozen=True)
class Request:
  """One input with its prompts.

  Attributes:
    inputs: the input.
    prompts: at least one, in any ordered iterable.
    choices: for each prompt None, or the strings of which its output is one;
      or the strings for all prompts; None: all are free.
    id: returned with the response; None: the request's number, from 0.
  """

  inputs: str
  prompts: Sequence[str]
  choices: Sequence[Sequence[str] | None] | None = None
  id: Any = None


@dataclasses.dataclass(frozen=True)
class Response:
  """The result of a request.

  Attributes:
    id: of the request.
    outputs: one for each prompt; none where there is an error.
    scores: for each output the natural logarithm of its probability.
    truncated: whether the input was longer than the model reads.
    error: why there are no outputs, or None.
  """

  id: Any
  outputs: list[str] = dataclasses.field(default_factory=list)
  scores: list[float] = dataclasses.field(default_factory=list)
  truncated: bool = False
  error: str | None = None


class Tokenizer:
  """Maps texts to ids and back, with a vocabulary and a newline sentinel.

  Attributes:
    vocabulary: of `pid_jax.vocabulary`, or one of SeqIO's.
    newline: the sentinel that stands for newlines, or None.
    counter: counts the texts that the vocabulary does not give back, or None.

  Raises:
    UserError: the vocabulary cannot express `newline`.
  """

  def __init__(
    self,
    vocabulary: AnyVocabulary,
    newline: str | None = None,
    counter: RoundTripCounter | None = None,
  ):
    newlines.check(newline, vocabulary)
    self.vocabulary, self.newline, self.counter = vocabulary, newline, counter
    self._choices: dict[Any, batching.TokenSequences] = {}  # By strings.

  def encode(self, text: str, name: str = 'the text') -> list[int]:
    """Returns the ids of a text, without EOS.

    Args:
      text: the text.
      name: what to call it in messages.

    Raises:
      UserError: it holds `newline`, or half of a character.
    """
    text = newlines.mark(text, self.newline, name)
    if checks.has_surrogate(text):
      raise errors.UserError(
        f'{name} holds half of a surrogate pair (U+D800 to U+DFFF), which is '
        'no character: decode the text again, or take it out.'
      )
    ids = self.vocabulary.encode(text)
    if self.counter is not None:
      self.counter.count(text, ids)
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of ids, up to EOS."""
    return newlines.restore(self.vocabulary.decode(ids), self.newline)

  def log_counts(self) -> None:
    """Warns of unknown characters so far, and tells of rewritten words."""
    if self.counter is not None:
      self.counter.log(rewritten=logging.INFO)

  def encode_choices(
    self,
    strings: Sequence[str],
    name: str,
    max_new_tokens: int | None = None,
  ) -> batching.TokenSequences:
    """Checks the choices of a prompt and tokenises them, equal lists once.

    Args:
      strings: at least one, all different.
      name: what to call them in messages.
      max_new_tokens: where outputs are cut, if one of the strings is to be
        generated; None: they are only scored.

    Returns:
      The ids of each string, without EOS. The same object for equal lists.

    Raises:
      UserError: there is no string, or two are the same, at least to the
        vocabulary; or one to be generated is too long, or the vocabulary cannot
        write it.
    """
    strings = tuple(strings)
    key = strings, max_new_tokens
    if key not in self._choices:
      if len(self._choices) == _NUM_CHOICE_LISTS:
        self._choices.pop(next(iter(self._choices)))  # The oldest.
      self._choices[key] = self._encode_choices(strings, name, max_new_tokens)
    return self._choices[key]

  def _encode_choices(
    self, strings: tuple[str, ...], name: str, max_new_tokens: int | None
  ) -> batching.TokenSequences:
    if not strings:
      raise errors.UserError(f'{name} is empty: give at least one choice.')
    examples.check_differ(strings, name)
    ids_of_strings = tuple(tuple(self.encode(text, name)) for text in strings)
    first: dict[tuple[int, ...], str] = {}
    for text, ids in zip(strings, ids_of_strings, strict=True):
      if ids in first:
        raise errors.UserError(
          f'{name} holds {checks.shown(first[ids])} and {checks.shown(text)}, '
          'which are the same to the vocabulary: it writes both '
          f'{checks.shown(self.decode(ids))}. Take one out.'
        )
      first[ids] = text
    if max_new_tokens is None:
      return ids_of_strings
    for text, ids in zip(strings, ids_of_strings, strict=True):
      written = self.decode(ids)
      if written != text:
        raise errors.UserError(
          f'{name} holds {checks.shown(text)}, which the vocabulary cannot '
          f'write: it would read {checks.shown(written)}. Take it out, or put '
          'it in other characters.'
        )
    longest = max(range(len(strings)), key=lambda i: len(ids_of_strings[i]))
    needed = len(ids_of_strings[longest]) + 1
    if needed > max_new_tokens:
      raise errors.UserError(
        f'{name} holds {checks.shown(strings[longest])}, which takes {needed} '
        f'tokens with EOS: raise max_new_tokens, now {max_new_tokens}, or take '
        'it out.'
      )
    return ids_of_strings


@dataclasses.dataclass(frozen=True)
class EncodedRequest:
  """A request as ids.

  Attributes:
    parts: what the engine gets, their prompts being in order those of the
      request.
    truncated: whether the input was too long.
  """

  parts: Sequence[batching.TokenRequest]
  truncated: bool


@dataclasses.dataclass(frozen=True)
class RequestProcessor:
  """Maps requests to ids as the model was trained, and outputs to responses.

  Attributes:
    tokenizer: of all texts.
    layout: 'pid', or 'pie': the encoder reads each prompt before the input.
    max_input_tokens: length to which inputs are truncated, EOS (and prompt)
      included; None: they are not.
    long_inputs: what to do with a longer one: 'keep_start', 'keep_end' or
      'error'.
    max_prompt_tokens: length of the longest prompt; None: any.
    max_new_tokens: where outputs are cut, which choices must fit; None if none
      is generated.
    targets_name: what to call the strings to be scored in messages.

  Raises:
    UserError: a length is out of range, or `long_inputs` is unknown.
  """

  tokenizer: Tokenizer
  layout: str
  max_input_tokens: int | None
  long_inputs: str
  max_prompt_tokens: int | None = None
  max_new_tokens: int | None = None
  targets_name: str = 'targets'

  def __post_init__(self):
    for name in ('max_input_tokens', 'max_prompt_tokens'):
      if getattr(self, name) is not None:
        checks.integer(name, getattr(self, name), 1, checks.MOST_TOKENS)
    checks.one_of('long_inputs', self.long_inputs, examples.LONG_INPUTS)

  def encode(
    self,
    inputs: str,
    prompts: Sequence[str],
    *,
    choices: Sequence[Sequence[str] | None] | None = None,
    targets: Sequence[Sequence[str]] | None = None,
    index: str = '',
  ) -> EncodedRequest:
    """Tokenises an input with its prompts, which `arguments` has checked.

    Args:
      inputs: the input.
      prompts: [U].
      choices: for each prompt the strings that its output is one of, or None;
        or None: all outputs are free.
      targets: for each prompt K strings to be scored; None: there are none.
      index: of the input among others, such as '[3]', for messages.

    Returns:
      The request, or the requests in the layout 'pie', as ids.

    Raises:
      UserError: a text or prompt is too long, a prompt has no tokens, or a text
        or list of strings cannot be tokenised; see `Tokenizer`.
    """
    name = f'inputs{index}'
    ids = self.tokenizer.encode(inputs, name)
    prompt_ids = []
    for u, prompt in enumerate(prompts):
      tokens = self.tokenizer.encode(prompt, f'prompts{index}[{u}]')
      examples.check_prompt(prompt, f'prompts{index}[{u}]', tokens)
      limit = self.max_prompt_tokens
      if limit is not None and len(tokens) > limit:
        raise errors.UserError(
          f'prompts{index}[{u}] has {len(tokens)} tokens, and at most {limit} '
          'are allowed: shorten it, or raise max_prompt_tokens.'
        )
      prompt_ids.append(tokens)
    eos_id = self.tokenizer.vocabulary.eos_id
    rows, truncated = batching.truncate(
      ids,
      prompt_ids,
      layout=self.layout,
      limit=self.max_input_tokens,
      long_inputs=self.long_inputs,
      eos_id=eos_id,
      name=name,
    )
    sequences = self.tokenizer.encode_choices
    choice_ids = [
      None
      if strings is None
      else sequences(strings, f'choices{index}[{u}]', self.max_new_tokens)
      for u, strings in enumerate(choices or ())
    ]
    target_ids = [
      [
        (*target, eos_id)
        for target in sequences(strings, f'{self.targets_name}{index}[{u}]')
      ]
      for u, strings in enumerate(targets or ())
    ]
    if self.layout == 'pid':
      request = batching.TokenRequest(
        rows[0], prompt_ids, target_ids, choice_ids
      )
      return EncodedRequest([request], truncated)
    return EncodedRequest(
      [
        batching.TokenRequest(
          row, [()], target_ids[u : u + 1], choice_ids[u : u + 1]
        )
        for u, row in enumerate(rows)
      ],
      truncated,
    )

  def encode_all(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    *,
    choices: Sequence[Sequence[Sequence[str] | None]] | None = None,
    targets: Sequence[Sequence[Sequence[str]]] | None = None,
  ) -> list[EncodedRequest]:
    """Tokenises a job, and warns of inputs that are cut and characters lost.

    Args:
      inputs: N strings, checked.
      prompts: [N][U].
      choices: [N][U], or None; see `encode`.
      targets: [N][U][K], or None.

    Raises:
      UserError: see `encode`.
    """
    encoded = [
      self.encode(
        text,
        prompts[i],
        choices=None if choices is None else choices[i],
        targets=None if targets is None else targets[i],
        index=f'[{i}]',
      )
      for i, text in enumerate(inputs)
    ]
    for fault, found in (
      (
        f'have more than {self.max_input_tokens} tokens and were cut '
        f'({self.long_inputs})',
        [i for i, x in enumerate(encoded) if x.truncated],
      ),
      (
        'are empty, and are answered all the same',
        [i for i, x in enumerate(inputs) if examples.is_blank(x)],
      ),
    ):
      if found:
        names = ', '.join(f'inputs[{i}]' for i in found[:5])
        more = ', ...' if len(found) > 5 else ''
        logger.warning(
          '%d of %d inputs %s: %s%s',
          *(len(found), len(inputs), fault, names, more),
        )
    self.tokenizer.log_counts()
    return encoded

  def decode(
    self,
    id: Any,
    encoded: EncodedRequest,
    outputs: Iterable[engine_lib.Output],
    *,
    normalize_scores: bool = False,
  ) -> Response:
    """Makes the response of what the engine returned for a request's parts.

    Args:
      id: of the request.
      encoded: the request.
      outputs: one for each of its parts.
      normalize_scores: see `DecodingOptions`.
    """
    texts, scores = [], []
    for output in outputs:
      texts += [
        self.tokenizer.decode(tokens) for tokens in output.tokens.tolist()
      ]
      scores += engine_lib.scores(output, normalize_scores).tolist()
    return Response(id, texts, scores, encoded.truncated)


def split(
  encoded: Sequence[EncodedRequest], results: Sequence[Any]
) -> list[list]:
  """Splits results of all parts into one list for each request."""
  results = iter(results)
  return [[next(results) for _ in x.parts] for x in encoded]

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A request of a user, as ids for the engine, and the engine's output as text.

    Request -> RequestProcessor.encode -> TokenRequests -> engine
            -> Outputs -> RequestProcessor.decode -> Response

The same for `generate`, `stream`, `predict` and whatever else answers texts. In
the layout 'pid' a request is one TokenRequest; in 'pie' it is one for each of
its prompts, which stand in the encoder.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import logging
from typing import Any

from pid_jax import errors
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import text as text_lib

logger = logging.getLogger(__name__)


_Known = dict[int, tuple[Sequence[str], batching.TokenSequences]]


@dataclasses.dataclass(frozen=True)
class Request:
  """One input with its prompts.

  Attributes:
    inputs: the input.
    prompts: at least one.
    choices: for each prompt None, or the strings of which its output is one;
      None: all are free.
    id: comes back with the response; None: the request's number, from 0.
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
    layout: 'pid', or 'pie': each prompt stands in the encoder before the input.
    max_input_tokens: where inputs are cut, EOS (and prompt) included; None:
      nowhere.
    long_inputs: what becomes of a longer one: 'keep_start', 'keep_end' or
      'error'.
    max_prompt_tokens: of the longest prompt that there may be; None: any.
    max_new_tokens: where outputs are cut, which choices must fit; None if none
      is generated.
    targets_name: what to call the strings to be scored in messages.
  """

  tokenizer: text_lib.Tokenizer
  layout: str
  max_input_tokens: int | None
  long_inputs: str
  max_prompt_tokens: int | None = None
  max_new_tokens: int | None = None
  targets_name: str = 'targets'

  def encode(
    self,
    inputs: str,
    prompts: Sequence[str],
    *,
    choices: Sequence[Sequence[str] | None] | None = None,
    targets: Sequence[Sequence[str]] | None = None,
    place: str = '',
    known: _Known | None = None,
  ) -> EncodedRequest:
    """Tokenises an input with its prompts, which were checked (see `text`).

    Args:
      inputs: the input.
      prompts: [U].
      choices: for each prompt the strings that its output is one of, or None;
        or None: all outputs are free.
      targets: for each prompt K strings to be scored; None: there are none.
      place: of the input among others, such as '[3]', for messages.
      known: by the id of a list of strings, that list and what was made of it;
        added to. For lists that do not change meanwhile.

    Returns:
      The request, or the requests in the layout 'pie', as ids.

    Raises:
      UserError: a text or prompt is too long, or a text or list of strings
        cannot be tokenised; see `Tokenizer`.
    """
    name = f'inputs{place}'
    ids = self.tokenizer.encode(inputs, name)
    prompt_ids = []
    for u, prompt in enumerate(prompts):
      tokens = self.tokenizer.encode(prompt, f'prompts{place}[{u}]')
      limit = self.max_prompt_tokens
      if limit is not None and len(tokens) > limit:
        raise errors.UserError(
          f'prompts{place}[{u}] has {len(tokens)} tokens, and at most {limit} '
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
    known = {} if known is None else known

    def sequences(strings, name, max_new_tokens=None):
      if id(strings) not in known:
        known[id(strings)] = (
          strings,  # Kept, so that no other list gets its id.
          self.tokenizer.encode_choices(strings, name, max_new_tokens),
        )
      return known[id(strings)][1]

    choice_ids = [
      None
      if strings is None
      else sequences(strings, f'choices{place}[{u}]', self.max_new_tokens)
      for u, strings in enumerate(choices or ())
    ]
    target_ids = [
      [
        (*target, eos_id)
        for target in sequences(strings, f'{self.targets_name}{place}[{u}]')
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
    known: _Known = {}
    encoded = [
      self.encode(
        text,
        prompts[i],
        choices=None if choices is None else choices[i],
        targets=None if targets is None else targets[i],
        place=f'[{i}]',
        known=known,
      )
      for i, text in enumerate(inputs)
    ]
    cut = [f'inputs[{i}]' for i, x in enumerate(encoded) if x.truncated]
    if cut:
      logger.warning(
        '%d of %d inputs have more than %d tokens and were cut (%s): %s',
        len(cut), len(inputs), self.max_input_tokens, self.long_inputs,
        ', '.join(cut[:5]) + (', ...' if len(cut) > 5 else ''),
      )  # fmt: skip
    if self.tokenizer.unknown is not None:
      self.tokenizer.unknown.warn()
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
      scores += output.scores(normalize_scores).tolist()
    return Response(id, texts, scores, encoded.truncated)


def split(
  encoded: Sequence[EncodedRequest], results: Sequence[Any]
) -> list[list]:
  """Splits results of all parts into one list for each request."""
  results = iter(results)
  return [[next(results) for _ in x.parts] for x in encoded]

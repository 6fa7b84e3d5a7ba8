# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A trained model as a function from strings to strings.

    model = pid_jax.PromptInDecoder.from_pretrained('/tmp/model')
    model.generate(
      inputs=['i need a cheap hotel for two nights', 'a taxi to the museum'],
      prompts=[['hotel price', 'hotel stay'], ['taxi destination']],
      max_new_tokens=16,
    )
    # [['cheap', '2'], ['the museum']]

Inputs and prompts may differ in number and length from call to call: they are
grouped and padded to few shapes (decoding.buckets), each of which is compiled
once (`num_programs` counts them). Needs neither TensorFlow nor SeqIO.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import logging
from typing import Any

from etils import epath
import jax
import numpy as np

from pid_jax import checkpoints
from pid_jax import decoding
from pid_jax import errors
from pid_jax import network
from pid_jax.config import T5Config
from pid_jax.decoding import buckets
from pid_jax.inference import texts as texts_lib
from pid_jax.vocabulary import AnyVocabulary

logger = logging.getLogger(__name__)

Texts = list[list[str]]
Scores = list[list[float]]

LAYOUTS = ('pid', 'pie')


class PromptInDecoder:
  """Answers many prompts about each input, which is encoded once.

  Attributes:
    config: shape of the network.
    vocabulary: of inputs, prompts and outputs.
    task: what the model was trained on: 'name', 'layout', 'feature_lengths'.
    layout: 'pid', or 'pie' for a model trained with its prompts in the encoder
      (it answers just the same, but encodes the input once per prompt).
    max_input_tokens: where inputs are cut, EOS included, or None: nowhere. By
      default the length that the model was trained with; positions are
      relative, so a longer one works too.
    long_inputs: what becomes of a longer input: 'keep_start', 'keep_end' (of a
      dialogue: the latest turns) or 'error'. By default as in training. A
      warning tells of inputs that were cut; prompts never are.
  """

  def __init__(
    self,
    config: T5Config,
    params: Any,
    vocabulary: AnyVocabulary,
    task: Mapping[str, Any] | None = None,
  ):
    """Takes a model that is in memory; see `from_pretrained`.

    Args:
      config: shape of the network.
      params: nested dict, its 'params' collection.
      vocabulary: of inputs, prompts and outputs.
      task: as in checkpoints.Pretrained.

    Raises:
      UserError: the model was trained in a layout without prompts.
    """
    self.config = config
    self.vocabulary = vocabulary
    self.task = dict(task or {})
    self.layout = self.task.get('layout', 'pid')
    if self.layout not in LAYOUTS:
      raise errors.UserError(
        f'The model was trained in the layout {self.layout!r}, which has no '
        f'prompts to answer; those with prompts are {LAYOUTS}.'
      )
    lengths = self.task.get('feature_lengths', {})
    self.max_input_tokens: int | None = lengths.get('inputs')
    self.long_inputs: str = self.task.get('long_inputs', 'keep_start')
    self._params = params
    self._module = network.Transformer(config)
    self._programs: set[tuple[Any, ...]] = set()
    self._generate = jax.jit(
      decoding.generate,
      static_argnums=0,
      static_argnames=('max_new_tokens', 'sampler'),
    )
    self._score = jax.jit(decoding.score, static_argnums=0)

  @classmethod
  def from_pretrained(
    cls,
    path: epath.PathLike,
    step: int | str | None = None,
    dtype: str | None = None,
    *,
    vocabulary: AnyVocabulary | None = None,
    param_dtype: str = 'float32',
  ) -> 'PromptInDecoder':
    """Loads a model that was trained here, or one of Hugging Face's or T5X's.

    Args:
      path: MODEL_DIR of training, a folder of Hugging Face's, or a checkpoint
        of T5X's; local, or gs://.
      step: of a MODEL_DIR: a number, 'best', 'last', or None: best if known,
        else last.
      dtype: of the activations, 'float32' or 'bfloat16'; None: as in training.
      vocabulary: for a checkpoint without one, such as T5X's public ones.
      param_dtype: of the parameters in memory, 'float32' or 'bfloat16'.

    Raises:
      UserError: no such model, step or vocabulary.
    """
    loaded = checkpoints.load(path, step, param_dtype=param_dtype)
    vocabulary = vocabulary or loaded.vocabulary
    if vocabulary is None:
      raise errors.UserError(
        f'The model in {path} has no SentencePiece vocabulary, so it cannot '
        'read or write text: give it one (vocabulary).'
      )
    config = checkpoints.with_num_tokens(loaded.config, vocabulary)
    if dtype is not None:
      config = dataclasses.replace(config, dtype=dtype)
    return cls(config, loaded.params, vocabulary, loaded.task)

  @property
  def num_programs(self) -> int:
    """How many programs were compiled so far, one for each shape met."""
    return len(self._programs)

  def generate(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    max_new_tokens: int = 32,
    *,
    min_new_tokens: int = 0,
    return_scores: bool = False,
    sampler: decoding.Sampler | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> Texts | tuple[Texts, Scores]:
    """Answers the prompts of each input.

    Args:
      inputs: N strings.
      prompts: for each input its prompts, at least one, none of them empty.
      max_new_tokens: where an output is cut, EOS included.
      min_new_tokens: tokens before which no output may end.
      return_scores: whether to return log-probabilities, too.
      sampler: chooses the tokens; None: decoding.Greedy().
      seed: of samplers that draw. The outputs of an input depend on the seed
        and on the input's place in `inputs`, not on how inputs are batched.
      batch_size: encoded inputs that are decoded together, at most.
      progress: called now and then with the number of prompts answered so far.

    Returns:
      For each input the list of its outputs, in order. With `return_scores` a
      pair of that and, in the same form, the natural logarithms of the
      probabilities that the model gives these outputs (-0.1 is near certain).

    Raises:
      UserError: inputs and prompts do not match, a prompt is empty, or an input
        is too long and `long_inputs` is 'error'.
    """
    if max_new_tokens < 1:
      raise errors.UserError(
        f'max_new_tokens must be at least 1, got {max_new_tokens}.'
      )

    def run(batch: buckets.Batch) -> tuple[jax.Array, ...]:
      generated = self.run(
        batch,
        max_new_tokens,
        min_new_tokens=min_new_tokens,
        sampler=sampler or decoding.Greedy(),
        seed=seed,
      )
      return generated.tokens, generated.log_probs

    batches = self.lay_out(inputs, prompts, batch_size=batch_size)
    rows = _run_ahead(run, batches, progress)
    texts = [self.vocabulary.decode(tokens) for tokens, _ in rows]
    if not return_scores:
      return texts_lib.split(texts, prompts)
    scores = [float(score) for _, score in rows]
    return texts_lib.split(texts, prompts), texts_lib.split(scores, prompts)

  def score(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> Scores:
    """Returns the log-probabilities of given outputs.

    Args:
      inputs: N strings.
      prompts: as in `generate`.
      targets: for each prompt one output; it is scored with its EOS.
      batch_size: encoded inputs that are scored together, at most.
      progress: called now and then with the number of prompts done so far.

    Returns:
      For each input the natural logarithms of the probabilities of its targets.

    Raises:
      UserError: as in `generate`, or targets and prompts do not match.
    """

    def run(batch: buckets.Batch) -> tuple[jax.Array, ...]:
      self._programs.add(('score', batch.shape))
      scored = self._score(
        self._module,
        self._params,
        batch.encoder_input_tokens,
        batch.prompt_tokens,
        batch.target_tokens,
        row_mask=batch.row_mask,
      )
      return (scored.log_probs,)

    batches = self.lay_out(inputs, prompts, targets, batch_size=batch_size)
    scores = [float(score) for (score,) in _run_ahead(run, batches, progress)]
    return texts_lib.split(scores, prompts)

  def is_cut(self, text: str, prompts: Sequence[str] = ()) -> bool:
    """Returns whether an input is longer than `max_input_tokens` allows."""
    encode = self.vocabulary.encode
    rows = [encode(prompt) for prompt in prompts]
    return self._encoder_inputs(encode(text), rows, self.layout)[1]

  def run(
    self,
    batch: buckets.Batch,
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
    sampler: decoding.Sampler = decoding.GREEDY,
    seed: int = 0,
  ) -> decoding.Generated:
    """Generates for a batch of `lay_out`, without waiting for the result."""
    self._programs.add(('generate', batch.shape, max_new_tokens, sampler))
    return self._generate(
      self._module,
      self._params,
      batch.encoder_input_tokens,
      batch.prompt_tokens,
      max_new_tokens=max_new_tokens,
      min_new_tokens=min_new_tokens,
      sampler=sampler,
      rng=jax.random.key(seed),
      stream_ids=batch.request_ids,
      row_mask=batch.row_mask,
    )

  def lay_out(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]] | None = None,
    *,
    batch_size: int,
    layout: str | None = None,
    input_multiple: int | None = None,
  ) -> Iterator[buckets.Batch]:
    """Checks a job, tokenises it, and lays it out in batches.

    Args:
      inputs: N strings.
      prompts: for each input its prompts.
      targets: for each prompt what is to be scored, or None.
      batch_size: the largest B.
      layout: 'pid' or 'pie'; None: the model's own. For PiE, every prompt makes
        a request of its own, of one row without prompt tokens.
      input_multiple: see buckets.batches.

    Returns:
      The batches. In either layout, the rows of all requests are, in order, the
      prompts of all inputs.

    Raises:
      UserError: see `generate`.
    """
    texts_lib.check(inputs, prompts, targets)
    losses = texts_lib.Losses(self.vocabulary)
    if batch_size < 1:
      raise errors.UserError(
        f'batch_size must be at least 1, got {batch_size}.'
      )
    layout = layout or self.layout
    encode = self.vocabulary.encode
    requests, cut = [], []
    for i, text in enumerate(inputs):
      losses.count(text, *prompts[i], *(targets[i] if targets else ()))
      own = [encode(prompt) for prompt in prompts[i]]
      ends = [] if targets is None else targets[i]
      ends = [[*encode(target), self.vocabulary.eos_id] for target in ends]
      rows, is_cut = self._encoder_inputs(
        encode(text), own, layout, f'inputs[{i}]'
      )
      if is_cut:
        cut.append(i)
      if layout == 'pid':
        requests.append(buckets.Request(rows[0], own, ends))
      else:
        requests += [
          buckets.Request(row, [()], ends[u : u + 1])
          for u, row in enumerate(rows)
        ]
    losses.warn()
    if cut:
      logger.warning(
        '%d of %d inputs have more than %d tokens and were cut (%s): %s',
        len(cut), len(inputs), self.max_input_tokens, self.long_inputs,
        ', '.join(f'inputs[{i}]' for i in cut[:5])
        + (', ...' if len(cut) > 5 else ''),
      )  # fmt: skip
    return buckets.batches(requests, batch_size, input_multiple)

  def _encoder_inputs(
    self,
    ids: Sequence[int],
    prompts: Sequence[Sequence[int]],
    layout: str,
    name: str = 'the input',
  ) -> tuple[list[list[int]], bool]:
    """Fits an input, alone (PiD) or behind each of its prompts (PiE).

    Args:
      ids: of the input.
      prompts: ids of all its prompts.
      layout: 'pid' or 'pie'.
      name: of the input, for messages.

    Returns:
      What the encoder reads, with EOS; and whether anything was cut.
    """
    limit = self.max_input_tokens
    before = prompts if layout == 'pie' else [[]]
    longest = max((len(prompt) for prompt in before), default=0)
    needed = longest + len(ids) + 1
    is_cut = limit is not None and needed > limit
    if is_cut and (self.long_inputs == 'error' or longest >= limit):
      raise errors.UserError(
        f'{name} has {needed} tokens'
        f'{" with its longest prompt" if longest else ""}, and the model takes '
        f'{limit}: shorten it, or raise max_input_tokens.'
      )
    rows = []
    for prompt in before:
      room = len(ids) if limit is None else limit - 1 - len(prompt)
      kept = ids[:room]
      if self.long_inputs == 'keep_end':
        kept = ids[max(0, len(ids) - room) :]
      rows.append([*prompt, *kept, self.vocabulary.eos_id])
    return rows, is_cut


def _run_ahead(
  run: Callable[[buckets.Batch], tuple[jax.Array, ...]],
  batches: Iterable[buckets.Batch],
  progress: Callable[[int], None] | None,
) -> list[tuple[np.ndarray, ...]]:
  """Runs each batch before the results of the one before are read.

  So the device works while we read, and lay out the next batch.

  Returns:
    For every prompt of every request, in order, its part of the results.
  """
  results, ahead, num_done = [], None, 0
  for batch in itertools.chain(batches, [None]):
    before, ahead = ahead, None if batch is None else (batch, run(batch))
    if before is not None:
      results.append((before[0], jax.device_get(before[1])))
      num_done += int(before[0].row_mask.sum())
      if progress is not None:
        progress(num_done)
  return buckets.unbatch(results)

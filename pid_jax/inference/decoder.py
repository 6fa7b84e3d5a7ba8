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
from pid_jax.decoding import tries as tries_lib
from pid_jax.inference import choices as choices_lib
from pid_jax.inference import options
from pid_jax.inference import pipeline
from pid_jax.inference import requests as requests_lib
from pid_jax.inference import texts as texts_lib
from pid_jax.network import weights
from pid_jax.subtasks import newlines
from pid_jax.vocabulary import AnyVocabulary

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
    newline: the sentinel that newlines are written as, in texts and outputs, or
      None: they are left to the vocabulary. As in training.
    shapes: of batches, each of which is compiled once; how many are allowed
      (`shapes.max_shapes`), and which there are so far (`shapes.known`).
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
    self.newline: str | None = self.task.get('newline')
    newlines.check(self.newline, vocabulary.encode, vocabulary.decode)
    self.shapes = buckets.Shapes()
    self._params = params
    self._module = network.Transformer(config)
    self._programs: set[tuple[Any, ...]] = set()
    self._generate = jax.jit(
      decoding.generate,
      static_argnums=0,
      static_argnames=('max_new_tokens', 'sampler', 'lookup'),
    )
    self._beam_search = jax.jit(
      lambda *args, **kwargs: decoding.beam_search(*args, **kwargs).best(),
      static_argnums=0,
      static_argnames=('max_new_tokens', 'beam_size'),
    )
    self._score = jax.jit(decoding.score_choices, static_argnums=0)

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
      param_dtype: of the parameters in memory, and of products with them:
        'float32', or faster 'bfloat16' or 'int8', see `network.weights`.

    Raises:
      UserError: no such model, step, vocabulary or param_dtype.
    """
    weights.check_param_dtype(param_dtype)
    # int8 is made of float32; bfloat16 need not be there twice.
    read_dtype = 'float32' if param_dtype == 'int8' else param_dtype
    loaded = checkpoints.load(path, step, param_dtype=read_dtype)
    vocabulary = vocabulary or loaded.vocabulary
    if vocabulary is None:
      raise errors.UserError(
        f'The model in {path} has no SentencePiece vocabulary, so it cannot '
        'read or write text: give it one (vocabulary).'
      )
    config = checkpoints.with_num_tokens(loaded.config, vocabulary)
    if dtype is not None:
      config = dataclasses.replace(config, dtype=dtype)
    params = weights.cast_params(loaded.params, param_dtype)
    return cls(config, params, vocabulary, loaded.task)

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
    choices: Sequence[Sequence[Sequence[str] | None]] | None = None,
    min_new_tokens: int = 0,
    return_scores: bool = False,
    normalize_scores: bool = False,
    sampler: decoding.Sampler | None = None,
    seed: int = 0,
    lookup: decoding.Lookup | None = None,
    beam_size: int | None = None,
    length_penalty: float = 0.6,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> Texts | tuple[Texts, Scores]:
    """Answers the prompts of each input.

    Args:
      inputs: N strings.
      prompts: for each input its prompts, at least one, none of them empty.
      max_new_tokens: where an output is cut, EOS included.
      choices: for each prompt None, or the strings of which its output is one,
        thousands if need be. Each token is chosen among those that continue one
        of them; it may so miss the likeliest string, which `choose` does not.
      min_new_tokens: tokens before which no output without choices may end.
      return_scores: whether to return log-probabilities, too.
      normalize_scores: whether those of prompts with choices are taken among
        the tokens that these leave, step by step: so `decoding.Sample()` draws
        the strings. `choose` divides the probabilities of whole strings.
      sampler: chooses the tokens; None: decoding.Greedy().
      seed: of samplers that draw. The outputs of an input depend on the seed
        and on the input's place in `inputs`, not on how inputs are batched.
      lookup: draft tokens from the input and the prompt, for outputs that copy
        from them: decoding.Lookup(). The outputs are the same, sooner.
      beam_size: search for the output of the highest score with so many beams;
        None: no search, the sampler chooses token by token.
      length_penalty: of that search, see decoding.beam_search: 0 scores outputs
        by their probability alone, more favours longer ones.
      batch_size: encoded inputs that are decoded together, at most.
      progress: called now and then with the number of prompts answered so far.

    Returns:
      For each input the list of its outputs, in order. With `return_scores` a
      pair of that and, in the same form, the natural logarithms of the
      probabilities that the model gives these outputs (-0.1 is near certain).

    Raises:
      UserError: inputs and prompts do not match, a prompt is empty, a text
        holds `newline`, an input is too long and `long_inputs` is 'error',
        beams are asked for together with a sampler or lookup, or a prompt has
        no choices, one twice, too long, or not to be written.
    """
    options.check(max_new_tokens, sampler, lookup, beam_size)
    texts_lib.check(inputs, prompts)
    tries, roots = choices_lib.build(
      prompts,
      choices,
      encode=self._write,
      decode=self._read,
      max_new_tokens=max_new_tokens,
    )

    def run(batch: buckets.Batch) -> tuple[jax.Array, ...]:
      generated = self.run(
        batch,
        max_new_tokens,
        min_new_tokens=min_new_tokens,
        sampler=sampler or decoding.GREEDY,
        seed=seed,
        lookup=lookup,
        beam_size=beam_size,
        length_penalty=length_penalty,
        tries=tries,
      )
      if normalize_scores:
        return generated.tokens, generated.normalized_log_probs
      return generated.tokens, generated.log_probs

    batches = self.lay_out(inputs, prompts, roots=roots, batch_size=batch_size)
    rows = pipeline.run_ahead(run, batches, progress)
    texts = [self._read(tokens) for tokens, _ in rows]
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
    texts_lib.check(inputs, prompts, targets)
    alone = [[[text] for text in own] for own in targets]
    rows = self._score_choices(inputs, prompts, alone, batch_size, progress)
    return texts_lib.split([float(row[0]) for row in rows], prompts)

  def choose(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    choices: Sequence[Sequence[Sequence[str]]],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> tuple[Texts, list[list[list[float]]]]:
    """Answers each prompt with the likeliest of given strings.

    All choices of a prompt are scored in one pass, so the answer is the
    likeliest one for certain, however it begins.

    Args:
      inputs: N strings.
      prompts: as in `generate`.
      choices: for each prompt the strings to choose from, at least one, all
        different. Prompts may differ in their number.
      batch_size: encoded inputs that are scored together, at most.
      progress: called now and then with the number of prompts done so far.

    Returns:
      For each input the list of its answers; and in the same form, for each
      prompt the probabilities of its choices, in their order: those that the
      model gives them (EOS included), divided by their sum.

    Raises:
      UserError: as in `generate`, or a prompt has no choices, or one twice.
    """
    rows = self._score_choices(inputs, prompts, choices, batch_size, progress)
    answers, probabilities = choices_lib.compare(choices, rows)
    return (
      texts_lib.split(answers, prompts),
      texts_lib.split(probabilities, prompts),
    )

  def _score_choices(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    choices: Sequence[Sequence[Sequence[str]]],
    batch_size: int,
    progress: Callable[[int], None] | None,
  ) -> list[np.ndarray]:
    """Returns, for every prompt in order, the log-probabilities [K]."""

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

    batches = self.lay_out(inputs, prompts, choices, batch_size=batch_size)
    rows = pipeline.run_ahead(run, batches, progress)
    flat = [own for lists in choices for own in lists]
    return [row[: len(own)] for own, (row,) in zip(flat, rows, strict=True)]

  def is_cut(self, text: str, prompts: Sequence[str] = ()) -> bool:
    """Returns whether an input is longer than `max_input_tokens` allows."""
    ids, *rows = map(self._write, (text, *prompts))
    return self._limits().is_cut(ids, rows)

  def run(
    self,
    batch: buckets.Batch,
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
    sampler: decoding.Sampler = decoding.GREEDY,
    seed: int = 0,
    lookup: decoding.Lookup | None = None,
    beam_size: int | None = None,
    length_penalty: float = 0.6,
    tries: tries_lib.Tries | None = None,
  ) -> decoding.Generated:
    """Generates for a batch of `lay_out`, without waiting for the result."""
    arrays = batch.encoder_input_tokens, batch.prompt_tokens
    job = (self._module, self._params, *arrays)
    limits = dict(
      max_new_tokens=max_new_tokens,
      min_new_tokens=min_new_tokens,
      row_mask=batch.row_mask,
    )
    shape = batch.shape
    if tries is not None:
      limits |= dict(tries=tries, roots=batch.roots)
      shape += tries.tokens.shape
    if beam_size is not None:
      self._programs.add(('beams', shape, max_new_tokens, beam_size))
      return self._beam_search(
        *job, **limits, beam_size=beam_size, length_penalty=length_penalty
      )
    self._programs.add(('generate', shape, max_new_tokens, sampler, lookup))
    return self._generate(
      *job,
      **limits,
      sampler=sampler,
      lookup=lookup,
      rng=jax.random.key(seed),
      stream_ids=batch.request_ids,
    )

  def lay_out(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    targets: Sequence[Sequence[Sequence[str]]] | None = None,
    *,
    roots: Sequence[Sequence[int]] | None = None,
    batch_size: int,
    layout: str | None = None,
    padding: buckets.Padding | None = None,
  ) -> Iterator[buckets.Batch]:
    """Checks a job, tokenises it, and lays it out in batches.

    Args:
      inputs: N strings.
      prompts: for each input its prompts.
      targets: for each prompt the strings to be scored, or None.
      roots: for each prompt a node of the `tries` of `run`, or None.
      batch_size: the largest B.
      layout: 'pid' or 'pie'; None: the model's own. For PiE, every prompt makes
        a request of its own, of one row without prompt tokens.
      padding: what batches are padded to; None: `shapes`.

    Returns:
      The batches. In either layout, the rows of all requests are, in order, the
      prompts of all inputs.

    Raises:
      UserError: see `generate`.
    """
    texts_lib.check(inputs, prompts)
    if targets is not None:
      texts_lib.check_choices(prompts, targets)
    if batch_size < 1:
      raise errors.UserError(
        f'batch_size must be at least 1, got {batch_size}.'
      )
    losses = texts_lib.Losses(self.vocabulary)

    def encode(text: str, name: str) -> list[int]:
      losses.count(newlines.mark(text, self.newline, name))
      return self._write(text, name)

    requests = requests_lib.build(
      inputs,
      prompts,
      targets,
      roots=roots,
      encode=encode,
      eos_id=self.vocabulary.eos_id,
      limits=self._limits(layout),
    )
    losses.warn()
    return buckets.batches(requests, batch_size, padding or self.shapes)

  def _write(self, text: str, name: str = 'the text') -> list[int]:
    return self.vocabulary.encode(newlines.mark(text, self.newline, name))

  def _read(self, ids: Iterable[int]) -> str:
    return newlines.restore(self.vocabulary.decode(ids), self.newline)

  def _limits(self, layout: str | None = None) -> requests_lib.Limits:
    return requests_lib.Limits(
      layout or self.layout, self.max_input_tokens, self.long_inputs
    )

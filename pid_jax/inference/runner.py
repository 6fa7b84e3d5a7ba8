# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model with its vocabulary: makes batches of texts, and runs them."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
from typing import Any, TypeVar

from etils import epath
import jax

from pid_jax import checkpoints
from pid_jax import decoding
from pid_jax import errors
from pid_jax import network
from pid_jax import partitioning
from pid_jax.config import T5Config
from pid_jax.decoding import constraints as tries_lib
from pid_jax.decoding import loop
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import requests as requests_lib
from pid_jax.inference import text as texts_lib
from pid_jax.network import quantization
from pid_jax.subtasks import examples
from pid_jax.subtasks import newlines
from pid_jax.vocabulary import AnyVocabulary

LAYOUTS = ('pid', 'pie')

_Self = TypeVar('_Self', bound='Runner')


class Runner:
  """What `PromptInDecoder` stands on; its attributes are documented there."""

  def __init__(
    self,
    config: T5Config,
    params: Any,
    vocabulary: AnyVocabulary,
    task: Mapping[str, Any] | None = None,
    partitioner: partitioning.Partitioner | None = None,
  ):
    """Takes a model that is in memory; see `from_pretrained`.

    Args:
      config: shape of the network.
      params: nested dict, its 'params' collection.
      vocabulary: of inputs, prompts and outputs.
      task: as in checkpoints.Pretrained.
      partitioner: of the mesh that `params` are on, which must not split the
        batch; None: they are on one device.

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
    self.shapes = batching.Shapes()
    self._params = params
    self._module = network.Transformer(config)
    self._programs: set[tuple[Any, ...]] = set()
    self._scope = partitioner.scope if partitioner else contextlib.nullcontext
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
    cls: type[_Self],
    path: epath.PathLike | checkpoints.LazyCheckpoint,
    step: int | str | None = None,
    dtype: str | None = None,
    *,
    vocabulary: AnyVocabulary | None = None,
    param_dtype: str = 'float32',
    num_partitions: int = 1,
    long_inputs: str | None = None,
  ) -> _Self:
    """Loads a model that was trained here, or one of Hugging Face's or T5X's.

    Args:
      path: MODEL_DIR of training, a folder of Hugging Face's, or a checkpoint
        of T5X's; local, or gs://. Or what `checkpoints.open_checkpoint` made
        of one, and no step.
      step: of a MODEL_DIR: a number, 'best', 'last', or None: best if known,
        else last.
      dtype: of the activations, 'float32' or 'bfloat16'; None: as in training.
      vocabulary: for a checkpoint without one, such as T5X's public ones.
      param_dtype: of the parameters in memory, and of products with them:
        'float32', or faster 'bfloat16' or 'int8', see `network.weights`.
      num_partitions: devices of this process that share the model between them,
        heads, feed-forward and vocabulary; for what does not fit on one.
      long_inputs: see the attribute; None: as in training.

    Raises:
      UserError: no such model, step, vocabulary, param_dtype or long_inputs; or
        devices that are not there or do not divide the model.
    """
    quantization.check_param_dtype(param_dtype)
    if long_inputs not in (None, *examples.LONG_INPUTS):
      raise errors.unknown('long_inputs', long_inputs, examples.LONG_INPUTS)
    partitioner = None
    if num_partitions != 1:
      partitioner = partitioning.Partitioner(
        num_partitions, devices=jax.local_devices()[:num_partitions]
      )
    # int8 is made of float32; bfloat16 need not be there twice.
    read_dtype = 'float32' if param_dtype == 'int8' else param_dtype
    loaded = checkpoints.load(path, step, partitioner, param_dtype=read_dtype)
    vocabulary = vocabulary or loaded.vocabulary
    if vocabulary is None:
      where = getattr(path, 'path', path)
      raise errors.UserError(
        f'The model in {where} has no SentencePiece vocabulary, so it cannot '
        'read or write text: give it one (vocabulary).'
      )
    config = checkpoints.with_num_tokens(loaded.config, vocabulary)
    if dtype is not None:
      config = dataclasses.replace(config, dtype=dtype)
    axes = network.param_axes(network.Transformer(config))
    params = network.quantize_params(loaded.params, axes, param_dtype)
    task = dict(loaded.task)
    if long_inputs is not None:
      task['long_inputs'] = long_inputs
    return cls(config, params, vocabulary, task, partitioner)

  @property
  def num_programs(self) -> int:
    """How many programs were compiled so far, one for each shape met."""
    return len(self._programs)

  def is_cut(self, text: str, prompts: Sequence[str] = ()) -> bool:
    """Returns whether an input is longer than `max_input_tokens` allows."""
    ids, *rows = map(self.write, (text, *prompts))
    return self._limits().is_cut(ids, rows)

  def run(
    self,
    batch: batching.Batch,
    max_new_tokens: int,
    *,
    min_new_tokens: int = 0,
    sampler: decoding.Sampler = decoding.GREEDY,
    seed: int = 0,
    lookup: decoding.PromptLookup | None = None,
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
      with self._scope():
        return self._beam_search(
          *job, **limits, beam_size=beam_size, length_penalty=length_penalty
        )
    self._programs.add(('generate', shape, max_new_tokens, sampler, lookup))
    with self._scope():
      return self._generate(
        *job,
        **limits,
        sampler=sampler,
        lookup=lookup,
        rng=jax.random.key(seed),
        sequence_ids=batch.request_ids,
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
    padding: batching.Padding | None = None,
  ) -> Iterator[batching.Batch]:
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
    losses = texts_lib.UnknownCharacterCounter(self.vocabulary)
    requests = requests_lib.build(
      inputs,
      prompts,
      targets,
      roots=roots,
      encode=functools.partial(self.write, losses=losses),
      eos_id=self.vocabulary.eos_id,
      limits=self._limits(layout),
    )
    losses.warn()
    return batching.batches(requests, batch_size, padding or self.shapes)

  def lay_out_one(
    self,
    inputs: str,
    prompts: Sequence[str],
    *,
    max_input_tokens: int,
    max_prompt_tokens: int,
    losses: texts_lib.UnknownCharacterCounter,
  ) -> tuple[list[batching.Request], bool]:
    """Checks a single input with its prompts, and tokenises it.

    Args:
      inputs: the input.
      prompts: its prompts.
      max_input_tokens: where it is cut.
      max_prompt_tokens: the longest prompt that there can be.
      losses: counts what it loses.

    Returns:
      What is decoded of it: one request, or in the layout 'pie' one for each
      prompt; and whether the input was cut.

    Raises:
      UserError: it cannot be answered.
    """
    texts_lib.check_input(inputs)
    texts_lib.check_prompts(prompts)
    return requests_lib.build_one(
      inputs,
      prompts,
      encode=functools.partial(self.write, losses=losses),
      eos_id=self.vocabulary.eos_id,
      limits=dataclasses.replace(
        self._limits(),
        max_input_tokens=max_input_tokens,
        max_prompt_tokens=max_prompt_tokens,
      ),
    )

  def open_stream(
    self,
    settings: loop.Settings,
    size: engine_lib.PoolSize,
    **options: Any,
  ) -> engine_lib.Stream:
    """Makes an engine for this model; see engine_lib.Stream."""
    return engine_lib.Stream(
      settings,
      self._params,
      self.shapes,
      size,
      self._programs,
      scope=self._scope,
      **options,
    )

  def write(
    self,
    text: str,
    name: str = 'the text',
    losses: texts_lib.UnknownCharacterCounter | None = None,
  ) -> list[int]:
    """Returns the ids of a text, without EOS.

    Args:
      text: the text.
      name: what to call it in messages.
      losses: counts what it loses, or None.

    Raises:
      UserError: it holds `newline`, or half of a character.
    """
    text = newlines.mark(text, self.newline, name)
    try:
      text.encode()
    except UnicodeEncodeError as e:
      raise errors.UserError(
        f'{name} holds {text[e.start]!r}, half of a surrogate pair, which is '
        'no character: decode the text anew, or take it out.'
      ) from e
    if losses is not None:
      losses.count(text)
    return self.vocabulary.encode(text)

  def read(self, ids: Iterable[int]) -> str:
    """Returns the text of ids, up to EOS."""
    return newlines.restore(self.vocabulary.decode(ids), self.newline)

  def _limits(self, layout: str | None = None) -> requests_lib.Limits:
    return requests_lib.Limits(
      layout or self.layout, self.max_input_tokens, self.long_inputs
    )

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
grouped and padded to few shapes (`batching`), each of which is compiled once
(`num_programs` counts them). Needs neither TensorFlow nor SeqIO.

Every call goes the same way: texts are checked (`arguments`) and tokenised
(`text`), decoded (`engine`), and made into texts again. Texts may come in any
iterable that has an order: lists, arrays, columns of tables, generators.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
from typing import Any, TypeVar

from etils import epath
import jax
import numpy as np

from pid_jax import checkpoints
from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import errors
from pid_jax import network
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax.checkpoints import native
from pid_jax.config import T5Config
from pid_jax.inference import arguments
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import options as options_lib
from pid_jax.inference import partial_results as partial_results_lib
from pid_jax.inference import slots as slots_lib
from pid_jax.inference import stream as stream_lib
from pid_jax.inference import text as text_lib
from pid_jax.network import quantization
from pid_jax.subtasks import examples
from pid_jax.vocabulary import AnyVocabulary
from pid_jax.vocabulary import RoundTripCounter

logger = logging.getLogger(__name__)

LAYOUTS = ('pid', 'pie')

# The prompts of each input, or those of all inputs.
Prompts = Iterable[Iterable[str]] | Iterable[str]
Texts = list[list[str]]
Scores = list[list[float]]
_Self = TypeVar('_Self', bound='PromptInDecoder')


class PromptInDecoder:
  """Answers many prompts about each input, which is encoded once.

  Attributes:
    config: shape of the network.
    vocabulary: of inputs, prompts and outputs.
    task: what the model was trained on: 'name', 'layout', 'feature_lengths'.
    layout: 'pid', or 'pie' for a model trained with its prompts in the encoder,
      which encodes the input once per prompt.
    max_input_tokens: length to which inputs are truncated, EOS included; None:
      they are not. By default the length that the model was trained with;
      positions are relative, so a longer one works too.
    long_inputs: what to do with a longer input: 'keep_start', 'keep_end' (of a
      dialogue: the latest turns) or 'error'. By default as in training. A
      warning names truncated inputs; prompts are never truncated.
    newline: the sentinel that stands for newlines in texts and outputs; None:
      newlines are encoded as the vocabulary does. As in training.
    step: of the checkpoint, or None.
    engine: decodes ids.
  """

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
      params: nested dict, its 'params' collection. Where programs loop over
        layers (`platforms`), those of layers apart are stacked: a copy.
      vocabulary: of inputs, prompts and outputs.
      task: as in checkpoints.Pretrained.
      partitioner: of the mesh that `params` are on, which for `stream` must not
        split the batch; None: they are on one device.

    Raises:
      UserError: the model was trained in a layout without prompts, or an
        argument is of the wrong type.
    """
    for name, value, kind in (
      ('config', config, T5Config),
      ('params', params, Mapping),
      ('task', task, Mapping | None),
      ('partitioner', partitioner, partitioning.Partitioner | None),
    ):
      if not isinstance(value, kind):
        raise errors.UserError(
          f'{name} is {checks.shown(value)} ({type(value).__name__}); see '
          '`PromptInDecoder` for what it must be.'
        )
    _check_vocabulary(vocabulary)
    self.config = config
    self.vocabulary = vocabulary
    self.task = dict(native.check_task(task or {}))
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
    self.step: int | None = None
    self._processor()  # Checks the attributes.
    mesh = partitioner and partitioner.mesh
    if platforms.of(mesh).scan_layers and not config.scan_layers:
      self.config = dataclasses.replace(config, scan_layers=True)
      params = _stacked(params, self.config, partitioner)
    self.engine = engine_lib.Engine(
      network.Transformer(self.config), params, partitioner
    )

  def __repr__(self) -> str:
    config = self.config
    num_params = sum(x.size for x in jax.tree.leaves(self.engine.params))
    parts = (
      f'{num_params:,} parameters',
      f'{config.num_encoder_layers}+{config.num_decoder_layers} layers of '
      f'{config.emb_dim}',
      config.dtype,
      f'layout {self.layout!r}',
      *([f'step {self.step}'] if self.step else []),
      f'vocabulary of {config.num_tokens:,}',
      f'inputs of up to {self.max_input_tokens} tokens'
      if self.max_input_tokens
      else 'inputs of any length',
    )
    return f'{type(self).__name__}({", ".join(parts)})'

  @classmethod
  @options_lib.names_arguments
  def from_pretrained(
    cls: type[_Self],
    path: epath.PathLike | checkpoints.LazyCheckpoint,
    step: int | str | None = None,
    dtype: str | None = None,
    *,
    vocabulary: AnyVocabulary | None = None,
    param_dtype: str = 'float32',
    matmul_precision: str | None = None,
    num_partitions: int = 1,
    long_inputs: str | None = None,
    layout: str | None = None,
  ) -> _Self:
    """Loads a model that was trained here, or one of Hugging Face's or T5X's.

    Args:
      path: MODEL_DIR of training, a folder of Hugging Face's, or a checkpoint
        of T5X's; local, or gs://. Or what `checkpoints.open_checkpoint` made
        of one, and no step.
      step: of a MODEL_DIR: a number, 'best', 'last', or None: best if known,
        else last.
      dtype: of the activations, 'float32' or 'bfloat16'; None: as in training.
      vocabulary: for a checkpoint without one, such as T5X's public ones; of
        another it must encode texts as that of the checkpoint does.
      param_dtype: of the parameters in memory, and of products with them:
        'float32', or faster 'bfloat16' or 'int8', see `network.quantization`.
      matmul_precision: of products of float32 numbers, see
        `network.precision`; None: as in training.
      num_partitions: devices of this process that share heads, feed-forward and
        vocabulary between them; for a model that does not fit on one.
      long_inputs: see the attribute; None: as in training.
      layout: 'pid' or 'pie', of a checkpoint that does not say with which it
        was trained; None: as in training, or 'pid' with a warning.

    Raises:
      UserError: no such model, step, vocabulary, param_dtype or long_inputs; or
        another layout than that of the training; or too few devices, or a
        number of them that does not divide the model.
    """
    opened = path
    if not isinstance(path, checkpoints.LazyCheckpoint):
      opened = checkpoints.open_checkpoint(path, step)
    changes = {
      name: config_lib.check_field(name, value, name)
      for name, value in (
        ('dtype', dtype),
        ('matmul_precision', matmul_precision),
      )
      if value is not None
    }
    if long_inputs is not None:
      checks.one_of('long_inputs', long_inputs, examples.LONG_INPUTS)
    if vocabulary is not None:
      _check_vocabulary(vocabulary)
    partitioner = None
    checks.integer('num_partitions', num_partitions, 1, checks.MOST_DEVICES)
    if num_partitions > 1:
      if num_partitions > jax.local_device_count():
        raise errors.UserError(
          f'num_partitions is {num_partitions}, and there are '
          f'{jax.local_device_count()} devices.'
        )
      partitioner = partitioning.Partitioner(
        num_partitions, devices=jax.local_devices()[:num_partitions]
      )
    task = _with_layout(opened.task, layout, opened.path)
    vocabulary = checkpoints.choose_vocabulary(opened, vocabulary)
    if vocabulary is None:
      raise errors.UserError(
        f'The model in {opened.path} has no SentencePiece vocabulary, so it '
        'cannot read or write text: give it one (vocabulary; in a command '
        '--vocabulary).'
      )
    opened = opened.configured(**changes)
    loaded = checkpoints.load_for_inference(
      dataclasses.replace(opened, read_vocabulary=lambda: vocabulary),
      None,
      partitioner,
      param_dtype=param_dtype,
    )
    if long_inputs is not None:
      task['long_inputs'] = long_inputs
    model = cls(loaded.config, loaded.params, vocabulary, task, partitioner)
    model.step = loaded.step
    return model

  @property
  def shapes(self) -> batching.Shapes:
    """Shapes of batches, each compiled once (`batching.Shapes`); replaceable.

    At most `shapes.max_shapes`; `shapes.known` are those so far.
    """
    return self.engine.shapes

  @shapes.setter
  def shapes(self, shapes: batching.Shapes) -> None:
    if not isinstance(shapes, batching.Shapes):
      raise errors.UserError(
        f'shapes must be inference.Shapes; got {checks.shown(shapes)}.'
      )
    self.engine.shapes = shapes

  @property
  def num_programs(self) -> int:
    """Number of programs compiled so far, one for each shape."""
    return self.engine.num_programs

  @options_lib.names_arguments
  def generate(
    self,
    inputs: Iterable[str],
    prompts: Prompts,
    max_new_tokens: int = 32,
    *,
    choices: Any = None,
    min_new_tokens: int = 0,
    return_scores: bool = False,
    return_results: bool = False,
    normalize_scores: bool = False,
    sampler: decoding.Sampler | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    prompt_lookup: decoding.PromptLookup | None = None,
    beam_size: int | None = None,
    length_penalty: float = 0.6,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> Texts | tuple[Texts, Scores] | list[text_lib.Response]:
    """Answers the prompts of each input.

    Args:
      inputs: N strings, in any ordered iterable.
      prompts: for each input its prompts, at least one, none of them empty; or
        one iterable of strings: the prompts of all inputs.
      max_new_tokens: where an output is cut, EOS included.
      choices: for each input, for each of its prompts, None, or the strings of
        which its output is one, up to thousands; or one iterable of strings for
        all prompts. Each token is chosen among those that continue one of them,
        which may miss the likeliest string; `choose` finds it.
      min_new_tokens: tokens before which no output without choices may end.
      return_scores: whether to return log-probabilities, too.
      return_results: whether to return a Response for each input instead.
      normalize_scores: whether those of prompts with choices are taken among
        the tokens that these allow, step by step: the distribution from which
        `decoding.Sample()` draws. `choose` normalizes over whole strings.
      sampler: chooses the tokens; None: as the next three say, or greedily.
      temperature: draw from the model's distribution, sharpened below 1.
      top_k: draw from the k likeliest tokens.
      top_p: draw from the likeliest tokens of this total probability.
      seed: of samplers that draw. The outputs of an input depend on the seed
        and on the index of the input, not on how inputs are batched.
      prompt_lookup: draft tokens from the input and the prompt, for outputs
        that copy from them: decoding.PromptLookup(). The outputs are the same,
        in fewer steps.
      beam_size: search for the output of the highest score with this many
        beams; None: no search, the sampler chooses token by token.
      length_penalty: of that search, see decoding.beam_search: 0 scores outputs
        by their probability alone, more favours longer ones.
      batch_size: encoded inputs that are decoded together, at most.
      progress: called from time to time with the number of prompts answered.

    Returns:
      For each input the list of its outputs, in order. With `return_scores` a
      pair of that and, in the same form, the natural logarithms of the
      probabilities that the model gives these outputs (-0.1 is near certain).
      With `return_results` a list of `inference.Response`, which have the
      `outputs` and `scores` of an input and say whether it was `truncated`.

    Raises:
      UserError: an option is of the wrong type or out of range, inputs and
        prompts do not match, one of them is no string, a prompt is empty, a
        text holds `newline`, an input is too long and `long_inputs` is 'error',
        there is not enough memory for a batch, beams are asked for together
        with a sampler or prompt lookup, or a prompt has no choices, or one that
        occurs twice, is too long, or cannot be encoded.
    """
    options = options_lib.DecodingOptions(
      checks.integer('max_new_tokens', max_new_tokens, 1),
      min_new_tokens,
      options_lib.choose_sampler(sampler, temperature, top_k, top_p),
      prompt_lookup,
      beam_size,
      length_penalty,
      seed,
      normalize_scores,
    )
    checks.boolean('return_scores', return_scores)
    checks.boolean('return_results', return_results)
    inputs, prompts = arguments.job(inputs, prompts)
    if choices is not None:
      choices = arguments.choices(choices, prompts)
    results = self.answer(
      inputs,
      prompts,
      options,
      choices=choices,
      batch_size=batch_size,
      progress=progress,
    )
    if return_results:
      return results
    texts = [result.outputs for result in results]
    if not return_scores:
      return texts
    return texts, [result.scores for result in results]

  def answer(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    options: options_lib.DecodingOptions,
    *,
    choices: Sequence[Sequence[Sequence[str] | None]] | None = None,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
    partial_results: partial_results_lib.PartialResults | None = None,
  ) -> list[text_lib.Response]:
    """Answers texts that were checked; `generate` and `predict` call it.

    Args:
      inputs: N strings.
      prompts: [N][U], see `arguments.job`.
      options: of decoding; max_new_tokens None: as in training, else 32.
      choices: [N][U], or None.
      batch_size: see `generate`.
      progress: see `generate`.
      partial_results: where results are stored, so that a stopped job can
        resume and processes can share it; None: nowhere.

    Returns:
      A Response for each input; their ids are their numbers.

    Raises:
      UserError: a text cannot be tokenised or is too long; see `generate`.
    """
    _check_job(batch_size, progress)
    lengths = self.task.get('feature_lengths', {})
    options = options.resolved(lengths.get('targets', 32))
    processor = self._processor(max_new_tokens=options.max_new_tokens)
    encoded = processor.encode_all(inputs, prompts, choices=choices)
    outputs = self.engine.generate(
      [part for request in encoded for part in request.parts],
      options,
      batch_size=batch_size,
      progress=progress,
      partial_results=partial_results,
    )
    return [
      processor.decode(
        i, encoded[i], parts, normalize_scores=options.normalize_scores
      )
      for i, parts in enumerate(text_lib.split(encoded, outputs))
    ]

  @options_lib.names_arguments
  def stream(
    self,
    requests: Iterable[text_lib.Request | None],
    max_new_tokens: int = 32,
    *,
    min_new_tokens: int = 0,
    normalize_scores: bool = False,
    sampler: decoding.Sampler | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    prompt_lookup: decoding.PromptLookup | None = None,
    in_order: bool = True,
    batch_size: int = 8,
    num_slots: int = 16,
    num_rows: int = 8,
    max_input_tokens: int | None = None,
    max_prompt_tokens: int = 64,
    warm_up: bool = False,
  ) -> Iterator[text_lib.Response]:
    """Answers a stream of requests by continuous batching.

    New requests begin as soon as others have ended, not when a whole batch has.
    The outputs are those of `generate`. A request that cannot be answered (no
    prompts, an empty one, one that is too long, invalid choices, whatever is no
    request) gets a response with an `error`, and does not affect the others. If
    `requests` raises an exception, what it gave before is answered first.

    Args:
      requests: read as they are needed, a few batches ahead, so they may be a
        generator without end. None means that no further request is available
        yet: those read so far are decoded at once.
      max_new_tokens: as in `generate`, like what follows.
      min_new_tokens: tokens before which no output without choices may end.
      normalize_scores: whether scores are taken among what choices leave.
      sampler: chooses the tokens; None: as the next three say, or greedily.
      temperature: as in `generate`.
      top_k: as in `generate`.
      top_p: as in `generate`.
      seed: of samplers that draw; a request's number in the stream counts, too.
      prompt_lookup: draft tokens from the input and the prompt.
      in_order: whether to yield responses in the order of their requests, or
        each as soon as it is complete.
      batch_size: requests that begin together, at most.
      num_slots: requests that are decoded together, at least `batch_size`.
        Memory for the keys and values of this many inputs of full length is
        allocated at once.
      num_rows: prompts of a request that are decoded in a slot. While more of
        its outputs are unfinished, its batch is decoded alone.
      max_input_tokens: length to which inputs are truncated, EOS included;
        None: the model's attribute of that name.
      max_prompt_tokens: length of the longest prompt.
      warm_up: compile programs first, so that no request waits for them: those
        for all `shapes.known`, and unless one of these holds any batch, four
        more (single requests and full batches; inputs of the greatest length
        and a quarter of it). Requests with choices or with more than `num_rows`
        prompts may still compile one when they come.

    Returns:
      An iterator over the responses, one for each request.

    Raises:
      UserError: an option is of the wrong type or out of range, there is not
        enough memory for the slots, or max_input_tokens is None and the model
        has none.
    """
    arguments.check_iterable('requests', requests, 'inference.Request')
    checks.boolean('in_order', in_order)
    checks.boolean('warm_up', warm_up)
    options = options_lib.DecodingOptions(
      checks.integer('max_new_tokens', max_new_tokens, 1),
      min_new_tokens,
      options_lib.choose_sampler(sampler, temperature, top_k, top_p),
      prompt_lookup,
      seed=seed,
      normalize_scores=normalize_scores,
    )
    if max_input_tokens is None:
      max_input_tokens = self.max_input_tokens
    if max_input_tokens is None:
      raise errors.UserError(
        'The model does not say how long inputs may be: give max_input_tokens.'
      )
    processor = self._processor(
      max_input_tokens=max_input_tokens,
      max_prompt_tokens=max_prompt_tokens,
      max_new_tokens=options.max_new_tokens,
    )
    is_pid = self.layout == 'pid'
    slots = slots_lib.Slots(
      self.engine,
      options,
      slots_lib.Capacity.rounded_up(
        batch_size=batch_size,
        num_slots=num_slots,
        num_rows=num_rows if is_pid else min(num_rows, 1),
        input_length=max_input_tokens,
        prompt_length=max_prompt_tokens if is_pid else 0,
      ),
    )
    if warm_up:
      slots.warm_up()
    return iter(
      stream_lib.ResponseStream(
        requests,
        slots,
        processor,
        in_order=in_order,
        normalize_scores=options.normalize_scores,
      )
    )

  @options_lib.names_arguments
  def score(
    self,
    inputs: Iterable[str],
    prompts: Prompts,
    targets: Iterable[Iterable[str]],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> Scores:
    """Returns the log-probabilities of given outputs.

    Args:
      inputs: N strings, in any ordered iterable.
      prompts: as in `generate`.
      targets: for each input, for each of its prompts, one output; it is scored
        with its EOS.
      batch_size: encoded inputs that are scored together, at most.
      progress: called from time to time with the number of prompts scored.

    Returns:
      For each input the natural logarithms of the probabilities of its targets.

    Raises:
      UserError: as in `generate`, or targets and prompts do not match.
    """
    inputs, prompts = arguments.job(inputs, prompts)
    targets = arguments.targets(targets, prompts)
    alone = [[[text] for text in texts] for texts in targets]
    scores = self._score(
      inputs, prompts, alone, 'targets', batch_size, progress
    )
    return [[float(row[0]) for row in rows] for rows in scores]

  @options_lib.names_arguments
  def choose(
    self,
    inputs: Iterable[str],
    prompts: Prompts,
    choices: Iterable[Iterable[Iterable[str]]] | Iterable[str],
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
  ) -> tuple[Texts, list[list[list[float]]]]:
    """Answers each prompt with the likeliest of given strings.

    All choices of a prompt are scored in one pass, so the answer is always the
    likeliest one.

    Args:
      inputs: N strings, in any ordered iterable.
      prompts: as in `generate`.
      choices: for each input, for each of its prompts, the strings to choose
        from, at least one, all different; prompts may differ in their number.
        Or one iterable of strings for all prompts.
      batch_size: encoded inputs that are scored together, at most.
      progress: called from time to time with the number of prompts scored.

    Returns:
      For each input the list of its answers; and in the same form, for each
      prompt the probabilities of its choices, in their order: those that the
      model gives them (EOS included), divided by their sum.

    Raises:
      UserError: as in `generate`, or a prompt has no choices, or one twice.
    """
    inputs, prompts = arguments.job(inputs, prompts)
    choices = arguments.choices(choices, prompts, required=True)
    scores = self._score(
      inputs, prompts, choices, 'choices', batch_size, progress
    )
    answers, probabilities = [], []
    for lists, rows in zip(choices, scores, strict=True):
      answers.append(
        [texts[int(np.argmax(x))] for texts, x in zip(lists, rows, strict=True)]
      )
      probabilities.append([_normalized(x).tolist() for x in rows])
    return answers, probabilities

  def _score(
    self,
    inputs: Sequence[str],
    prompts: Sequence[Sequence[str]],
    targets: Sequence[Sequence[Sequence[str]]],
    targets_name: str,
    batch_size: int,
    progress: Callable[[int], None] | None,
  ) -> list[list[np.ndarray]]:
    """Returns for each input and prompt the log-probabilities [K]."""
    _check_job(batch_size, progress)
    processor = self._processor(targets_name=targets_name)
    encoded = processor.encode_all(inputs, prompts, targets=targets)
    scored = self.engine.score(
      [part for request in encoded for part in request.parts],
      batch_size=batch_size,
      progress=progress,
    )
    return [
      [
        row[: len(texts)]
        for texts, row in zip(
          lists, (row for rows in parts for row in rows), strict=True
        )
      ]
      for lists, parts in zip(
        targets, text_lib.split(encoded, scored), strict=True
      )
    ]

  def _processor(self, **limits: Any) -> text_lib.RequestProcessor:
    """Makes a processor of texts for one job, as the attributes say."""
    tokenizer = text_lib.Tokenizer(
      self.vocabulary,
      self.newline,
      RoundTripCounter(self.vocabulary),
    )
    return text_lib.RequestProcessor(
      tokenizer,
      self.layout,
      **{
        'max_input_tokens': self.max_input_tokens,
        'long_inputs': self.long_inputs,
        **limits,
      },
    )


def _stacked(
  params: Any,
  config: T5Config,
  partitioner: partitioning.Partitioner | None,
) -> Any:
  """Stacks the parameters of layers, on the devices that they are on.

  Args:
    params: of layers apart, in any form of `network.quantize_params`.
    config: of the network with `scan_layers`.
    partitioner: of the mesh, or None: one device.
  """
  if partitioner is None:
    partitioner = partitioning.Partitioner(devices=jax.local_devices()[:1])
  # Those of all forms: a superset.
  axes = quantization.quantized_axes(
    network.param_axes(network.Transformer(config)), 'int8'
  )
  shapes = jax.eval_shape(network.stack_layers, params)
  formats = partitioner.formats(shapes, axes)
  return jax.jit(network.stack_layers, out_shardings=formats)(params)


def _check_vocabulary(vocabulary: Any) -> None:
  if not isinstance(vocabulary, AnyVocabulary):
    raise errors.UserError(
      'vocabulary must be a Vocabulary, such as '
      f"pid_jax.Vocabulary('spiece.model'); got {checks.shown(vocabulary)}."
    )


def _check_job(batch_size: Any, progress: Any) -> None:
  """Checks the options of a job before its texts are tokenised."""
  checks.integer('batch_size', batch_size, 1, checks.MOST_INPUTS)
  if progress is not None and not callable(progress):
    raise errors.UserError(
      'progress must be a function of the number of prompts answered; got '
      f'{checks.shown(progress)}.'
    )


def _normalized(log_probs: np.ndarray) -> np.ndarray:
  """Divides probabilities by their sum: float64 [K]."""
  weights = np.exp(log_probs.astype(np.float64) - log_probs.max())
  return weights / weights.sum()


def _with_layout(
  task: Mapping[str, Any], layout: str | None, where: str
) -> dict[str, Any]:
  """Adds the layout to what is known of a model's training.

  Args:
    task: see `checkpoints.Pretrained`.
    layout: that the user wants; None: that of the training.
    where: names the checkpoint in messages.

  Raises:
    UserError: the model was trained with another one.
  """
  trained = task.get('layout')
  if layout is not None:
    checks.one_of('layout', layout, LAYOUTS)
    if trained not in (None, layout):
      raise errors.UserError(
        f'{where} was trained with the layout {trained!r}, so its answers in '
        f'the layout {layout!r} would mean nothing; leave the layout out.'
      )
  elif trained is None:
    logger.warning(
      '%s does not say with which layout it was trained: prompts go into the '
      'decoder, which only a model that was fine-tuned so can answer; the '
      "layout 'pie' (--layout=pie) puts them into the encoder, as Flan-T5 was "
      'trained',
      where,
    )
  return {**task, 'layout': layout or trained or LAYOUTS[0]}

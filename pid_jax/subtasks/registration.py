# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registers a source of decomposable examples as three SeqIO tasks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import inspect
import tempfile
from typing import Any

from etils import epath
import seqio
import tensorflow as tf

from pid_jax import checks
from pid_jax import errors
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.subtasks import examples
from pid_jax.subtasks import newlines
from pid_jax.subtasks import postprocessors
from pid_jax.subtasks import preprocessors as preprocessors_lib
from pid_jax.subtasks import tokenization

_SHUFFLE_BUFFER_SIZE = seqio.dataset_providers.SHUFFLE_BUFFER_SIZE


# Feature lengths of all layouts, and those of the multi-prompt layout only.
TEXT_LENGTHS = ('inputs', 'targets')
PROMPT_LENGTHS = ('prompts', 'subtasks', 'decoder')

# The arguments that each name was registered with; see `is_new`.
_arguments: dict[str, tuple[Any, ...]] = {}


def is_new(name: str, *arguments: Any) -> bool:
  """Returns whether a name has yet to be registered in SeqIO.

  Args:
    name: of a task or mixture.
    *arguments: everything that determines it, the caller's module included.

  Returns:
    False if an identical call has registered it.

  Raises:
    UserError: the name is registered with other arguments.
  """
  known = seqio.TaskRegistry.names() | seqio.MixtureRegistry.names()
  if name not in known:
    _arguments[name] = arguments
    return True
  if _arguments.get(name) != arguments:
    raise errors.UserError(
      f'{name!r} is registered already, with other arguments; choose another '
      'name'
    )
  return False


def register_once(function: Callable[..., None]) -> Callable[..., str]:
  """Makes repeated identical calls of a function no-ops.

  For functions that register tasks or mixtures from gin, which calls them
  wherever it uses the name.

  Args:
    function: registers its first argument, a name.

  Returns:
    A function with the same arguments. It returns the name, and raises
    UserError if the name is registered with other arguments.
  """
  signature = inspect.signature(function)

  @functools.wraps(function)
  def register_if_new(*args, **kwargs):
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    name, *arguments = bound.arguments.values()
    if is_new(name, function.__module__, *arguments):
      function(*args, **kwargs)
    return name

  return register_if_new


def register(
  name: str,
  *,
  source: seqio.DataSource,
  vocabulary: seqio.Vocabulary | vocabulary_lib.AnyVocabulary,
  preprocessors: Sequence[Callable[..., tf.data.Dataset]] = (),
  metric_fns: Sequence[postprocessors.MetricFn] = (),
  has_targets: bool = True,
  subtask_features: Sequence[str] = (),
  empty_target: str | None = None,
  joint_separator: str = ' ; ',
  long_inputs: str = 'keep_start',
  newline: str | None = None,
  pie_max_empty_subtasks: int | None = None,
  shuffle_buffer_size: int | None = None,
) -> None:
  """Registers `name`, `name`_pie and `name`_joint in seqio.TaskRegistry.

  preprocessors.py lists the features of each. Their task feature lengths:
    name         inputs S, prompts P, targets T, subtasks U, and for packing
                 decoder L; with PromptInDecoderFeatureConverter
    name_pie,    inputs and targets; with TextToTextFeatureConverter or
    name_joint   seqio.EncDecFeatureConverter
  Tasks of one layout can be mixed. All of them can be cached by
  seqio_cache_tasks and evaluated by seqio.Evaluator: their metrics see the same
  whole examples. `inputs` and `targets` end in EOS.

  Args:
    name: of the multi-prompt task.
    source: of the data.
    vocabulary: of inputs, prompts and targets.
    preprocessors: turn examples of the source into decomposable examples (see
      the docstring of the package). Further features are passed to the metrics
      unchanged. An optional float32 [U] `subtask_weights` scales the loss of
      each subtask in the multi-prompt layout. An optional int32 [U]
      `subtask_odds` is the relative probability of each subtask where a run
      trains on a sample of the subtasks with an empty target. An optional
      string [U] `subtask_choices` holds for each subtask a JSON list of the
      strings that its prediction is one of, or '': evaluations decode among
      them. An optional string [U] `answers` holds a JSON list of all its gold
      answers, or '' where the target is the only one; see
      `metrics.gold_answers`.
    metric_fns: functions of (targets, predictions), lists with one entry per
      whole example (see postprocessors.py); `subtasks.metrics` has some.
    has_targets: False if the targets are unknown: `targets` are placeholders,
      and no model may be trained on the task.
    subtask_features: names of the further features with one entry per subtask,
      besides the optional ones above; `name`_pie gives each row the entry of
      its subtask.
    empty_target: the target that means "nothing here", such as 'none', or None.
      Training may sample subtasks with this target.
    joint_separator: written between the targets of the joint layout.
    long_inputs: how an input longer than S is treated: 'keep_start',
      'keep_end' (of a dialogue: the latest turns) or 'error'.
    newline: a sentinel of the vocabulary, such as '<extra_id_99>', that
      replaces newlines in all texts before they are tokenised, and is replaced
      by newlines in predictions. None leaves newlines to the vocabulary; T5's
      maps them to spaces. See newlines.py.
    pie_max_empty_subtasks: in the split 'train' of `name`_pie, keep at most
      this many subtasks of an example with an empty target, sampled in each
      epoch; None keeps all. (`name` has this in its feature converter.)
    shuffle_buffer_size: of SeqIO's shuffling of examples; the buffer is part of
      every checkpoint of an iterator. By default there is none for a source
      that shuffles by itself, else SeqIO's 1,000. `name`_pie, where the
      subtasks of an example are adjacent, has ten times SeqIO's.

  Raises:
    ValueError: a name is taken, or an argument is invalid (a UserError).
  """
  checks.string('long_inputs', long_inputs)
  if long_inputs not in examples.LONG_INPUTS:
    raise errors.unknown('long_inputs', long_inputs, examples.LONG_INPUTS)
  newlines.check_name(newline)
  vocabulary = _as_seqio(vocabulary)
  if shuffle_buffer_size is None and not source.performs_internal_shuffling:
    shuffle_buffer_size = _SHUFFLE_BUFFER_SIZE
  tokenize = [
    *preprocessors,
    functools.partial(
      tokenization.tokenize,
      task=name,
      vocabulary=vocabulary,
      empty_target=empty_target,
      newline=newline,
    ),
    seqio.CacheDatasetPlaceholder(),
  ]
  options = dict(task=name, vocabulary=vocabulary, long_inputs=long_inputs)
  written = dict(
    newline=newline, rewrite=postprocessors.rewriter(vocabulary, newline)
  )
  layout = functools.partial(
    Layout,
    long_inputs=long_inputs,
    empty_target=empty_target,
    newline=newline,
    has_targets=has_targets,
  )
  add = functools.partial(
    seqio.TaskRegistry.add, source=source, task_cls=DecomposableTask
  )
  add(
    name + examples.LAYOUTS['pid'],
    preprocessors=[
      *tokenize,
      tokenization.draw_keys,
      functools.partial(preprocessors_lib.multi_prompt, **options),
    ],
    output_features=_multi_prompt_features(vocabulary),
    postprocess_fn=functools.partial(postprocessors.multi_prompt, **written),
    metric_fns=_metrics(metric_fns),
    shuffle_buffer_size=shuffle_buffer_size,
    layout=layout('pid'),
  )
  add(
    name + examples.LAYOUTS['pie'],
    preprocessors=[
      *tokenize,
      tokenization.draw_keys,
      functools.partial(
        preprocessors_lib.prompt_in_encoder,
        subtask_features=subtask_features,
        **options,
      ),
    ],
    output_features=_text_to_text_features(vocabulary),
    postprocess_fn=functools.partial(
      postprocessors.prompt_in_encoder,
      subtask_features=subtask_features,
      **written,
    ),
    metric_fns=_metrics(metric_fns, group_rows=True),
    shuffle_buffer_size=10 * _SHUFFLE_BUFFER_SIZE,
    layout=layout('pie', train_max_empty_subtasks=pie_max_empty_subtasks),
  )
  add(
    name + examples.LAYOUTS['joint'],
    preprocessors=[
      *tokenize,
      functools.partial(
        preprocessors_lib.joint,
        separator=joint_separator,
        newline=newline,
        **options,
      ),
    ],
    output_features=_text_to_text_features(vocabulary),
    postprocess_fn=functools.partial(
      postprocessors.joint, separator=joint_separator, **written
    ),
    metric_fns=_metrics(metric_fns),
    shuffle_buffer_size=shuffle_buffer_size,
    layout=layout('joint', joint_separator=joint_separator),
  )


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a task's examples become features; inference must do the same.

  Attributes:
    name: 'pid', 'pie' or 'joint'.
    long_inputs: 'keep_start', 'keep_end' or 'error'.
    empty_target: the target that means "nothing here", or None.
    newline: the sentinel that newlines are written as, or None.
    joint_separator: between targets of the joint layout, else None.
    train_max_empty_subtasks: subtasks of an example with an empty target that
      are kept in the split 'train'; None keeps all.
    has_targets: whether the targets are known.
  """

  name: str
  long_inputs: str
  empty_target: str | None = None
  newline: str | None = None
  joint_separator: str | None = None
  train_max_empty_subtasks: int | None = None
  has_targets: bool = True


class DecomposableTask(seqio.Task):
  """A task whose preprocessors apply the feature lengths themselves.

  SeqIO would slice the first dimension of each feature to its length, and the
  first dimension of `prompts` counts subtasks, not tokens.

  Attributes:
    layout: how examples become features.
  """

  def __init__(self, *args: Any, layout: Layout, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self.layout = layout

  def get_dataset(
    self,
    sequence_length: preprocessors_lib.Lengths = None,
    split: str = 'train',
    **kwargs: Any,
  ) -> tf.data.Dataset:
    """See base class; features are not trimmed."""
    kwargs['trim_output_features'] = False
    if self.source.performs_internal_shuffling:
      # A cache would repeat the order of the first epoch.
      kwargs['try_in_mem_cache'] = False
    dataset = super().get_dataset(sequence_length, split, **kwargs)
    if (
      kwargs.get('use_cached')
      and kwargs.get('shuffle', True)
      and self.shuffle_buffer_size is None
    ):
      # Unlike the source, the files of SeqIO's cache are not shuffled.
      dataset = dataset.shuffle(_SHUFFLE_BUFFER_SIZE, kwargs.get('seed'))
    limit = self.layout.train_max_empty_subtasks
    if limit is not None and split == 'train':
      dataset = dataset.filter(lambda row: row['empty_rank'] < limit)
    return dataset

  def replace(self, **kwargs: Any) -> DecomposableTask:
    """See base class, which would return a plain task."""
    task = super().replace(**kwargs)
    task.__class__ = type(self)
    task.layout = self.layout
    return task


def _metrics(
  metric_fns: Sequence[postprocessors.MetricFn], group_rows: bool = False
) -> list[postprocessors.MetricFn]:
  """Returns [] without metrics, so that SeqIO skips the task in evaluation."""
  if not metric_fns:
    return []
  return [postprocessors.combine_metrics(metric_fns, group_rows=group_rows)]


def _as_seqio(
  vocabulary: seqio.Vocabulary | vocabulary_lib.AnyVocabulary,
) -> seqio.Vocabulary:
  if isinstance(vocabulary, vocabulary_lib.ByteVocabulary):
    return seqio.ByteVocabulary(vocabulary.extra_ids)
  if isinstance(vocabulary, vocabulary_lib.Vocabulary):
    path = str(vocabulary.path)
    if not vocabulary.is_file:
      path = model_file(vocabulary.model_bytes)
    return seqio.SentencePieceVocabulary(path, vocabulary.extra_ids)
  return vocabulary


_folders: list[tempfile.TemporaryDirectory] = []  # Removed at the end.


@functools.cache
def model_file(content: bytes) -> str:
  """Writes a SentencePiece model for SeqIO; deleted when the process ends."""
  _folders.append(tempfile.TemporaryDirectory())
  path = epath.Path(_folders[-1].name) / 'vocabulary.model'
  path.write_bytes(content)
  return str(path)


def _multi_prompt_features(
  vocabulary: seqio.Vocabulary,
) -> dict[str, seqio.Feature]:
  text = functools.partial(seqio.Feature, vocabulary)
  number = functools.partial(
    seqio.Feature, seqio.PassThroughVocabulary(1), add_eos=False
  )
  return {
    'inputs': text(),
    'inputs_truncated': number(),
    'prompts': text(rank=2, add_eos=False),
    'subtask_weights': number(dtype=tf.float32),
    'subtasks': number(),
    'targets': text(rank=2),
  }


def _text_to_text_features(
  vocabulary: seqio.Vocabulary,
) -> dict[str, seqio.Feature]:
  return {k: seqio.Feature(vocabulary) for k in ('inputs', 'targets')}

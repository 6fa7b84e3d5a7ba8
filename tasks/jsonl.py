# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Your own data: files of JSON lines, registered as tasks.

Copy example.jsonl, beside this module, and insert your data. Each line is one
JSON object, an input with all its subtasks:

  {"id": "call-17",
   "inputs": "Hello, my printer jams whenever ...",
   "subtasks": [
     {"name": "product", "prompt": "product:", "target": "printer"},
     {"name": "summary", "prompt": "summary:", "target": "A paper jam ..."}]}

  inputs    string. The model encodes it once for all subtasks.
  subtasks  list of at least one object. Their number may differ between lines.
    name    string, for metrics and messages. Unique within the line.
    prompt  string, not empty. Begins the decoder's row and tells the model
            which answer to give, so the prompts of a line should differ. It is
            never truncated.
    target  string. The right answer. It may be empty, but a word such as "none"
            is better: training can sample such subtasks, and "nothing there"
            differs from a missing answer. Not needed for prediction. If the
            first line of no file has a target, the task has no targets: it can
            be timed (pid_jax.compare), but not trained on or scored.
    choices list of strings, optional. Predictions, also those that metrics are
            computed on, are one of them.
  id        string or whole number, unique, optional; the line number by
            default. Predictions have it, too.

Other keys are ignored. Blank lines are skipped. The file must be UTF-8. Errors
name the line, the key and the remedy.

From Python:
  jsonl.register('mine', train='train.jsonl', validation='dev.jsonl',
                 vocabulary='.../vocabulary.model')

By gin, in a run file or as --gin.X=... flags:
  from pid_jax.tasks import jsonl
  MIXTURE_OR_TASK_NAME = @jsonl.register()
  jsonl.register:
    name = 'mine'
    train = 'train.jsonl'
    validation = 'dev.jsonl'
    vocabulary = '.../vocabulary.model'

Files are read into memory. For larger data, use `seqio_cache_tasks` or another
seqio.DataSource.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import json
import os
from typing import Any

from etils import epath
import seqio

from pid_jax import errors
from pid_jax import subtasks
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.subtasks import examples as examples_lib
from pid_jax.subtasks import metrics as metrics_lib

EXAMPLE_FILE = os.path.join(os.path.dirname(__file__), 'example.jsonl')

# Metrics that depend on the target that means "nothing here".
_WITH_EMPTY_TARGET = frozenset({'rouge', 'rouge_of_whole', 'slot_f1', 'squad'})


def register(
  name: str,
  *,
  vocabulary: epath.PathLike | vocabulary_lib.AnyVocabulary | seqio.Vocabulary,
  train: epath.PathLike | None = None,
  validation: epath.PathLike | None = None,
  test: epath.PathLike | None = None,
  extra_ids: int = 0,
  metrics: Sequence[str | Callable] = ('exact_match', 'token_f1'),
  empty_target: str | None = None,
  long_inputs: str = 'keep_start',
  joint_separator: str = ' ; ',
  newline: str | None = None,
  layout: str = 'pid',
) -> str:
  """Registers JSONL files as `name`, `name`_pie and `name`_joint.

  Repeated identical calls are no-ops, since gin calls this wherever the name is
  used. Files are read when their split is first used.

  Args:
    name: of the task; letters, digits and underscores.
    vocabulary: path of a SentencePiece model, or a vocabulary. To continue from
      a trained model, give that of the model.
    train: path of the file with the split 'train'; local, or gs://.
    validation: likewise.
    test: likewise.
    extra_ids: number of sentinels to add to a vocabulary given by path; T5's
      has 100.
    metrics: names of metrics.names, or functions like those.
    empty_target: the target that means "nothing here", such as 'none'.
    long_inputs: how inputs that are too long are treated: 'keep_start',
      'keep_end' or 'error'.
    joint_separator: written between the targets of the joint layout.
    newline: a sentinel of the vocabulary, such as '<extra_id_99>' with
      extra_ids = 100, that newlines are written as. None leaves them to the
      vocabulary; T5's maps them to spaces.
    layout: 'pid', 'pie' or 'joint': which of the three names to return.

  Returns:
    The name of the task.

  Raises:
    UserError: no split is given, a file or the vocabulary is missing, a metric
      is unknown, or the name is registered with other arguments.
  """
  arguments = {k: v for k, v in locals().items() if k != 'layout'}
  if layout not in examples_lib.LAYOUTS:
    raise errors.unknown('layout', layout, examples_lib.LAYOUTS)
  task = name + examples_lib.LAYOUTS[layout]
  if not subtasks.is_new(name, __name__, arguments):
    return task

  files = {'train': train, 'validation': validation, 'test': test}
  files = {k: epath.Path(v) for k, v in files.items() if v is not None}
  if not files:
    raise errors.UserError(
      f'the task {name!r} has no data: give it at least one of train, '
      'validation and test'
    )
  for split, path in files.items():
    if not path.is_file():
      raise errors.UserError(
        f'the {split} file of the task {name!r} is missing: {path}'
      )
  if isinstance(vocabulary, str | os.PathLike):
    vocabulary = vocabulary_lib.Vocabulary(vocabulary, extra_ids)
  has_targets = any(map(_has_targets, files.values()))
  subtasks.register(
    name,
    source=subtasks.InMemoryDataSource(
      {
        split: functools.partial(_read, path, has_targets)
        for split, path in files.items()
      }
    ),
    vocabulary=vocabulary,
    metric_fns=[_metric(m, empty_target) for m in metrics if has_targets],
    has_targets=has_targets,
    empty_target=empty_target,
    long_inputs=long_inputs,
    joint_separator=joint_separator,
    newline=newline,
  )
  return task


def _has_targets(path: epath.Path) -> bool:
  """Whether the first line has a target; True if it cannot be read."""
  try:
    _, _, record = next(subtasks.iterate_lines(path))
    return any('target' in subtask for subtask in record['subtasks'])
  except (errors.UserError, StopIteration, KeyError, TypeError):
    return True  # Reading the file will raise a better error.


def _read(path: epath.Path, has_targets: bool) -> Iterator[dict[str, Any]]:
  """Yields a file's examples; all have choices, or none has."""
  has_choices = _mentions_choices(path)
  for example in subtasks.iterate_examples(path, has_targets):
    choices = example.pop('choices', [None] * len(example['prompts']))
    if has_choices:
      example[examples_lib.CHOICES] = [
        '' if own is None else json.dumps(own) for own in choices
      ]
    if has_targets:
      yield example
      continue
    if any(target is not None for target in example['targets']):
      raise errors.UserError(
        f'{path}: the example {example["example_id"]!r} has targets, the first '
        'example has none; give targets to all examples, or to none'
      )
    yield {**example, 'targets': [''] * len(example['targets'])}


def _mentions_choices(path: epath.Path) -> bool:
  """Whether some line may have choices; False if the file cannot be read."""
  try:
    with path.open('rb') as lines:
      return any(b'"choices"' in line for line in lines)
  except OSError:
    return False  # Whoever reads the file will say what is wrong with it.


def _metric(
  metric: str | Callable, empty_target: str | None
) -> Callable[..., dict[str, float]]:
  if callable(metric):
    return metric
  found = metrics_lib.by_name(metric)
  if metric in _WITH_EMPTY_TARGET and empty_target is not None:
    return functools.partial(found, empty_target=empty_target)
  return found

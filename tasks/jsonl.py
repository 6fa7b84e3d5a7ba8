# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Your own data: JSON lines, registered as tasks like any others.

Copy example.jsonl, which lies beside this module, and put your data in. Each
line is one JSON object, an input with all its subtasks:

  {"id": "call-17",
   "inputs": "Hello, my printer jams whenever ...",
   "subtasks": [
     {"name": "product", "prompt": "product:", "target": "printer"},
     {"name": "summary", "prompt": "summary:", "target": "A paper jam ..."}]}

  inputs    string. What the model reads, once for all subtasks.
  subtasks  list of at least one object. Their number may differ from line to
            line.
    name    string, for metrics and messages. Names of one line must differ.
    prompt  string, not empty. Begins the decoder's row and says which answer is
            wanted, so give each subtask a prompt of its own. It is never cut.
    target  string. The right answer. It may be empty, though a word such as
            "none" is better: one can draw from such subtasks in training, and
            tell "nothing there" from "no answer". Not needed for prediction.
            If the first line of no file has any, the task has none: it can be
            timed (pid_jax.compare), but not trained on nor scored.
    choices list of strings, optional. Predictions, also those that metrics are
            computed on, are one of them.
  id        string or whole number, optional: the line's number if absent. Must
            differ from line to line. Predictions carry it.

Other keys are ignored. Blank lines are skipped. The file must be UTF-8. Files
that are wrong in any way are refused with the line, the key and the remedy.

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

A file is held in memory. What does not fit there is better cached by
`seqio_cache_tasks`, or brought as a seqio.DataSource of one's own.
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
LAYOUTS = ('pid', 'pie', 'joint')

# Metrics that must know which target says "nothing here".
_WITH_EMPTY_TARGET = frozenset({'rouge', 'rouge_of_whole', 'slot_f1', 'squad'})

read_examples = subtasks.read_examples


def register(
  name: str,
  *,
  vocabulary: epath.PathLike | vocabulary_lib.Vocabulary | seqio.Vocabulary,
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

  May be called again with the same arguments, since gin calls it wherever the
  name is used. Files are read when their split is first used.

  Args:
    name: of the task; letters, digits and underscores.
    vocabulary: a SentencePiece model's path, or a vocabulary. To go on from a
      trained model, it must be that model's.
    train: path of the file with the split 'train'; local, or gs://.
    validation: likewise.
    test: likewise.
    extra_ids: sentinels to add to a vocabulary given by its path; T5's own has
      100.
    metrics: names of metrics.names, or functions like those.
    empty_target: the target that says "nothing here", such as 'none'.
    long_inputs: what becomes of inputs that are too long: 'keep_start',
      'keep_end' or 'error'.
    joint_separator: stands between the targets of the joint layout.
    newline: a sentinel of the vocabulary, such as '<extra_id_99>' with
      extra_ids = 100, to write newlines as where the vocabulary has none. T5's
      makes spaces of them otherwise.
    layout: 'pid', 'pie' or 'joint': which of the three names to return.

  Returns:
    The name of the task.

  Raises:
    UserError: no split is given, a file or the vocabulary is missing, a metric
      is unknown, or the name is taken by other files.
  """
  if layout not in LAYOUTS:
    raise errors.unknown('layout', layout, LAYOUTS)
  arguments = {k: v for k, v in locals().items() if k != 'layout'}
  task = name if layout == 'pid' else f'{name}_{layout}'
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
    return True  # Whoever reads the file will say what is wrong with it.


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
        'one has none; give them to all examples, or to none'
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

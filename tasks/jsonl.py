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
    answers list of strings, optional. All answers that are right: metrics take
            the best of them, training takes the target, which is one of them,
            by default the first.
    choices list of different strings, optional. Predictions, also those that
            metrics are computed on, are one of them.
  id        string or whole number, unique, optional; the line number by
            default. Predictions have it, too.

What `predict` writes can be read again. Other keys are not read, and named in a
warning. Blank lines are skipped. The file must be UTF-8. Errors name the line,
the key and the remedy.

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
import hashlib
import os
import re
from typing import Any

from etils import epath
import seqio

from pid_jax import checks
from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax import subtasks
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.subtasks import examples as examples_lib
from pid_jax.subtasks import metrics as metrics_lib
from pid_jax.subtasks import postprocessors

EXAMPLE_FILE = os.path.join(os.path.dirname(__file__), 'example.jsonl')

# Name of a task -> the state of its files when it was registered.
_states: dict[str, dict[str, str]] = {}


def register(
  name: str,
  *,
  vocabulary: epath.PathLike | vocabulary_lib.AnyVocabulary | seqio.Vocabulary,
  train: epath.PathLike | None = None,
  validation: epath.PathLike | None = None,
  test: epath.PathLike | None = None,
  extra_ids: int = 0,
  metrics: Sequence[str | Callable] = metrics_lib.DEFAULT,
  empty_target: str | None = None,
  long_inputs: str = 'keep_start',
  joint_separator: str = ' ; ',
  newline: str | None = None,
  layout: str = 'pid',
) -> str:
  """Registers JSONL files as `name`, `name`_pie and `name`_joint.

  Repeated identical calls are no-ops, since gin calls this wherever the name is
  used. Where a file has changed since, the task is registered again, with what
  the file holds now. Files are read when their split is first used.

  Args:
    name: of the task; letters, digits and underscores.
    vocabulary: path of a SentencePiece model, or a vocabulary. To continue from
      a trained model, give that of the model.
    train: path of the file with the split 'train'; local, or gs://. None, ''
      or 'None' (as flags give it): there is none.
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
      is unknown, another argument is invalid, or the name is registered with
      other arguments.
  """
  if checks.string('layout', layout) not in examples_lib.LAYOUTS:
    raise errors.unknown('layout', layout, examples_lib.LAYOUTS)
  if not re.fullmatch(r'\w+', checks.string('name', name)):
    raise errors.UserError(
      'name must be of letters, digits and underscores; got '
      f'{checks.shown(name)}.'
    )
  given = {'train': train, 'validation': validation, 'test': test}
  paths = {
    split: files.absolute(path, f'the {split} file of the task {name!r}')
    for split, path in given.items()
    if files.is_given(path)
  }
  if not paths:
    raise errors.UserError(
      f'the task {name!r} has no data: give it at least one of train, '
      'validation and test'
    )
  if isinstance(vocabulary, str | os.PathLike):
    vocabulary_path = files.absolute(vocabulary, 'vocabulary')
    files.check_regular(vocabulary_path, 'the vocabulary')
    checks.integer('extra_ids', extra_ids, 0, checks.MOST_EXTRA_IDS)
  elif isinstance(
    vocabulary,
    seqio.Vocabulary
    | vocabulary_lib.Vocabulary
    | vocabulary_lib.ByteVocabulary,
  ):
    vocabulary_path = None
  else:
    raise errors.UserError(
      'vocabulary must be the path of a SentencePiece model, or a vocabulary; '
      f'got {checks.shown(vocabulary)}.'
    )
  metrics = (metrics,) if isinstance(metrics, str) else metrics
  checks.sequence('metrics', metrics, 'a list of names')
  if empty_target is not None:
    checks.string('empty_target', empty_target, allow_empty=True)
  checks.string('joint_separator', joint_separator, allow_empty=True)
  for metric in metrics:  # Raises for what is unknown.
    _metric(metric, empty_target)
  if any(metric in metrics[:i] for i, metric in enumerate(metrics)):
    raise errors.UserError(
      f'metrics holds one twice; got {checks.shown(metrics)}.'
    )

  arguments = (
    {split: str(path) for split, path in paths.items()},
    str(vocabulary_path) if vocabulary_path else vocabulary,
    *(extra_ids, tuple(metrics), empty_target),
    *(long_inputs, joint_separator, newline),
  )
  task = name + examples_lib.LAYOUTS[layout]
  states = {split: _state(path, split) for split, path in paths.items()}
  if not subtasks.is_new(name, __name__, arguments):
    if states == _states[name]:
      return task
    _forget(name)
  if vocabulary_path:
    vocabulary = vocabulary_lib.Vocabulary(vocabulary_path, extra_ids)
  has_targets = any(map(_has_targets, paths.values()))
  written = empty_target
  if written is not None:  # As metrics see it in targets and outputs.
    written = postprocessors.as_written(written, vocabulary, newline)
  subtasks.register(
    name,
    source=subtasks.InMemoryDataSource(
      {
        split: functools.partial(_read, path, has_targets)
        for split, path in paths.items()
      },
      optional=examples_lib.OPTIONAL,
    ),
    vocabulary=vocabulary,
    metric_fns=[_metric(x, written) for x in metrics] if has_targets else [],
    has_targets=has_targets,
    empty_target=empty_target,
    long_inputs=long_inputs,
    joint_separator=joint_separator,
    newline=newline,
  )
  _states[name] = states
  return task


def _state(path: epath.Path, split: str) -> str:
  """Returns what changes when a file does: of a local one, its digest."""
  files.check_regular(path, f'the {split} file')
  with files.explained(f'cannot read the {split} file {path}'):
    if files.is_remote(path):
      stat = path.stat()
      return f'{stat.length} {stat.mtime}'
    with path.open('rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()


def _forget(name: str) -> None:
  """Removes a task's three layouts, so that it can be registered again.

  Raises:
    UserError: a mixture keeps the old ones.
  """
  names = {name + suffix for suffix in examples_lib.LAYOUTS.values()}
  for mixture in seqio.MixtureRegistry.names():
    if names & {t.name for t in seqio.MixtureRegistry.get(mixture).tasks}:
      raise errors.UserError(
        f'a file of the task {name!r} has changed, and the mixture {mixture!r} '
        'holds what it was; register it by another name'
      )
  for task in names:
    seqio.TaskRegistry.remove(task)


def _has_targets(path: epath.Path) -> bool:
  """Whether the first line has a target; True if it cannot be read."""
  try:
    _, _, record = next(strict_json.read_lines(path, 'the examples'))
    return any(
      key in subtask
      for subtask in record['subtasks']
      for key in ('target', 'answers')
    )
  except (errors.UserError, StopIteration, KeyError, TypeError):
    return True  # Reading the file will raise a better error.


def _read(path: epath.Path, has_targets: bool) -> Iterator[dict[str, Any]]:
  """Yields a file's examples, with all optional features."""
  for example in subtasks.iterate_examples(path, has_targets):
    targets = example['targets']
    for feature, key in (
      (examples_lib.CHOICES, 'choices'),
      (examples_lib.ANSWERS, 'answers'),
    ):
      lists = example.pop(key, [None] * len(targets))
      # The only answer is the target; the only choice is one.
      join = metrics_lib.join_answers
      if key == 'answers':
        join = metrics_lib.join_alternatives
      example[feature] = ['' if own is None else join(own) for own in lists]
    if has_targets:
      yield example
      continue
    if any(target is not None for target in targets):
      raise errors.UserError(
        f'{path}: the example {checks.shown(example["example_id"])} has '
        'targets, the first example has none; give targets to all examples, or '
        'to none'
      )
    yield {**example, 'targets': [''] * len(targets)}


def _metric(
  metric: str | Callable, empty_target: str | None
) -> Callable[..., dict[str, float]]:
  if callable(metric):
    return metric
  checks.string('a metric', metric)
  return metrics_lib.by_name(metric, empty_target)

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shows a task to a person: how long its examples are, and how they read.

Examples are shown as the model gets them, decoded from their tokens: what the
vocabulary cannot express and what a feature length cuts is seen at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import textwrap
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from pid_jax import errors
from pid_jax.subtasks import length_stats
from pid_jax.subtasks import newlines
from pid_jax.subtasks import tf_assertions

WIDTH = 80
_MOST_LINES = 12  # Of a text.
_FEW_LINES = 5  # Of one that was shown already, in another layout.
_MOST_SUBTASKS = 8  # Of an example.
_CUT = ('inputs', 'targets')  # What exceeds the length of another stops a run.
_ROWS = {
  'inputs': 'inputs',
  'prompts': 'prompts',
  'targets': 'targets',
  'decoder': 'decoder, of a subtask',
  'example': 'decoder, of all subtasks',
  'subtasks': 'subtasks',
}

Lengths = Mapping[str, int]


def parse_lengths(text: str | None) -> dict[str, int]:
  """Reads feature lengths as one types them: 'inputs=512,targets=64'.

  Raises:
    UserError: it is not of that form.
  """
  lengths = {}
  for part in filter(None, (text or '').split(',')):
    name, _, number = part.partition('=')
    if not number.isdecimal() or not int(number):
      raise errors.UserError(
        f'cannot read the feature length {part!r}; write NAME=TOKENS, such as '
        'inputs=512,targets=64'
      )
    lengths[name.strip()] = int(number)
  return lengths


def splits(task: seqio.Task) -> list[str]:
  """Returns the splits of a task that have been prepared, or need not be."""
  is_there = getattr(task.source, 'is_there', lambda split: True)
  return [split for split in task.splits if is_there(split)]


def split_to_show(task: seqio.Task) -> str:
  """Returns the validation split, or what there is in its place."""
  found = splits(task) or list(task.splits)
  return 'validation' if 'validation' in found else found[-1]


def vocabulary_line(task: seqio.Task) -> str:
  """Says which vocabulary the figures of a task are in."""
  vocabulary = task.output_features['targets'].vocabulary
  file = getattr(vocabulary, 'sentencepiece_model_file', vocabulary)
  return textwrap.fill(
    f'Lengths of {task.name}, in pieces of {file} ({vocabulary.vocab_size:,})',
    WIDTH,
    break_long_words=False,
  )


def lengths_table(
  task: seqio.Task,
  splits: Sequence[str],
  lengths: Lengths | None = None,
  num_examples: int | None = None,
) -> str:
  """Measures a task and lays the figures out in 80 columns.

  Args:
    task: in any of the three layouts. For the multi-prompt one, the targets of
      its joint layout are measured too.
    splits: to measure.
    lengths: feature lengths to count against.
    num_examples: measure only so many of each split.

  Returns:
    Lines of text.

  Raises:
    UserError: an example is wrong.
  """
  lengths = lengths or {}
  unknown = sorted(set(lengths) - {'inputs', *task_lengths(task)})
  if unknown:
    raise errors.unknown('feature length', unknown[0], task_lengths(task))
  head = f'{"tokens":<26}{"number":>9}{"mean":>9}{"95 %":>7}{"most":>7}'
  lines = [head + (f'{"length":>8}{"longer":>8}' if lengths else '')]
  # What does not find room in one decoder row is split.
  limits = {**lengths, 'example': lengths.get('decoder')}
  stops, is_split = set(), False
  for split in splits:
    found = _measure(task.name, split, limits, num_examples)
    number, total = found['inputs'].count, task.num_input_examples(split)
    of = '' if total in (None, number) else f' of {total:,}'
    lines.append(f'{split}, {number:,}{of} examples')
    rows = [(_ROWS.get(k, k), k, found[k]) for k in _ROWS if k in found]
    if (
      'prompts' in found and f'{task.name}_joint' in seqio.TaskRegistry.names()
    ):
      try:
        joint = _measure(f'{task.name}_joint', split, {}, num_examples)
        rows.append(('targets of _joint', None, joint['targets']))
      except errors.UserError:  # Shown with the example: it may be no concern.
        pass
    for label, name, row in rows:
      limit = limits.get(name)
      lines.append(
        f'  {label:<24}{row.count:>9,}{row.mean:>9,.1f}{row.p95:>7,}'
        f'{row.longest:>7,}'
        + (f'{limit:>8,}{row.over:>8,}' if limit is not None else '')
      )
      is_split |= name == 'example' and row.over > 0
      if row.over and name not in (*_CUT, 'example'):
        stops.add(name)
  if is_split:
    lines.append(
      'Examples with more prompts and targets than a decoder row holds are '
      'split; the\ninput of such an example is encoded once for each part.'
    )
  if stops:
    lines.append(
      f'A run would stop at what is longer in {", ".join(sorted(stops))}; '
      'only inputs and\ntargets are cut.'
    )
  return '\n'.join(lines)


def task_lengths(task: seqio.Task) -> tuple[str, ...]:
  """Returns the names of the feature lengths that a task takes."""
  if 'prompts' in task.output_features:
    return ('inputs', 'prompts', 'targets', 'subtasks', 'decoder')
  return _CUT


def show_example(
  name: str, split: str, index: int, lengths: Lengths | None = None
) -> str:
  """Lays an example out in each layout of its task, as the model reads it.

  Args:
    name: of the multi-prompt task.
    split: of the example.
    index: its place in the split's own order, from 0.
    lengths: feature lengths by which inputs and targets are cut.

  Returns:
    Lines of text, at most 80 columns wide.

  Raises:
    UserError: the split has no such example, or the example is wrong.
  """
  task = seqio.TaskRegistry.get(name)
  if split not in task.splits:
    raise errors.unknown(f'split of {name}', split, task.splits)
  lengths = {k: v for k, v in (lengths or {}).items() if k in _CUT}
  (row,) = _rows(name, split, lengths, index) or [None]
  if row is None:
    raise errors.UserError(f'{name} has no example {index} in {split}')
  newline = getattr(getattr(task, 'layout', None), 'newline', None)
  reader = _Reader(task.output_features['targets'].vocabulary, newline)
  lines = [f'Example {_text(row["example_id"])} of {split}']
  if newline is not None:
    lines.append(f'{newline}, which stands for a newline, is shown as one.')
  lines += ['', *_multi_prompt(name, row, reader)]
  # The joint layout has another length of targets.
  cut_inputs = {k: v for k, v in lengths.items() if k == 'inputs'}
  for layout, cut in ((f'{name}_pie', lengths), (f'{name}_joint', cut_inputs)):
    if layout not in seqio.TaskRegistry.names():
      continue
    lines.append('')
    try:
      rows = _rows(layout, split, cut, index)
      lines += _text_to_text(layout, rows, reader)
    except errors.UserError as e:
      lines += textwrap.wrap(f'{layout} is impossible: {e}', WIDTH)
  return '\n'.join(lines)


def _measure(
  name: str, split: str, lengths: Lengths, num_examples: int | None
) -> dict[str, length_stats.LengthStatistics]:
  try:
    return length_stats.measure_lengths(
      name, split, lengths, num_examples=num_examples
    )
  except tf.errors.OpError as e:
    raise tf_assertions.user_error(e) or e from e


def _rows(
  name: str, split: str, lengths: Lengths, index: int
) -> list[dict[str, Any]]:
  """Returns all rows of a layout that are made of the example `index`."""
  task = seqio.TaskRegistry.get(name)
  dataset = task.get_dataset(lengths, split, shuffle=False, num_epochs=1)
  try:
    groups = itertools.groupby(
      dataset.as_numpy_iterator(), key=lambda row: row['example_id']
    )
    _, rows = next(itertools.islice(groups, index, None), (None, ()))
    return list(rows)
  except tf.errors.OpError as e:
    raise tf_assertions.user_error(e) or e from e


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Decodes tokens; an EOS is shown, since what was cut has none."""

  vocabulary: seqio.Vocabulary
  newline: str | None  # Stands for one.

  def __call__(self, tokens: np.ndarray) -> str:
    ids = [int(t) for t in tokens]
    ends = bool(ids) and ids[-1] == self.vocabulary.eos_id
    text = self.vocabulary.decode(ids[:-1] if ends else ids)
    text = newlines.restore(text, self.newline)
    return f'{text} </s>' if ends else text


def _multi_prompt(
  name: str, row: Mapping[str, Any], reader: _Reader
) -> Iterator[str]:
  names = [_text(s) for s in row['subtasks_pretokenized']]
  yield f'{name}: one input, {_plural(len(names), "prompt")}'
  yield from _block('inputs', row['inputs'], reader)
  # Those with an answer first: of thirty slots most may be empty.
  order = np.argsort(row['subtasks'] > 0, kind='stable')
  for i in sorted(order[:_MOST_SUBTASKS]):
    prompt, target = (_unpadded(row[k][i]) for k in ('prompts', 'targets'))
    yield f'  {names[i]}, {len(prompt)} + {len(target)} tokens'
    text = f'{reader(prompt)} => {reader(target)}'
    yield from _wrapped(text)
  if len(names) > _MOST_SUBTASKS:
    yield f'  and {len(names) - _MOST_SUBTASKS} more'


def _text_to_text(
  name: str, rows: Sequence[Mapping[str, Any]], reader: _Reader
) -> Iterator[str]:
  more = '; the first' if len(rows) > 1 else ''
  yield f'{name}: {_plural(len(rows), "text-to-text example")}{more}'
  yield from _block('inputs', rows[0]['inputs'], reader, _FEW_LINES)
  yield from _block('targets', rows[0]['targets'], reader)


def _block(
  label: str,
  tokens: np.ndarray,
  reader: _Reader,
  most_lines: int = _MOST_LINES,
) -> Iterator[str]:
  yield f'  {label}, {_plural(len(tokens), "token")}'
  yield from _wrapped(reader(tokens), most_lines)


def _wrapped(text: str, most_lines: int = _MOST_LINES) -> list[str]:
  indent = ' ' * 4
  lines = [
    (indent + line).rstrip()
    for paragraph in text.split('\n')
    for line in textwrap.wrap(paragraph, WIDTH - len(indent)) or ['']
  ]
  if len(lines) > most_lines:
    head, tail = most_lines // 2, (most_lines - 1) // 2
    left_out = f'{indent}[{len(lines) - head - tail} lines left out]'
    lines = [*lines[:head], left_out, *lines[-tail:]]
  return lines


def _unpadded(tokens: np.ndarray) -> np.ndarray:
  return tokens[: np.count_nonzero(tokens)]


def _plural(number: int, noun: str) -> str:
  return f'{number:,} {noun}' + ('s' if number != 1 else '')


def _text(value: bytes | str) -> str:
  return value.decode() if isinstance(value, bytes) else value

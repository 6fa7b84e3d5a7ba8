# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text for the command `data`: lengths of a task, and examples as text.

Examples are decoded from their tokens, so that they show what the vocabulary
cannot express and what a feature length truncates.
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

from pid_jax import errors
from pid_jax.subtasks import length_stats
from pid_jax.subtasks import newlines
from pid_jax.subtasks import registration
from pid_jax.subtasks import tf_assertions

WIDTH = 80
_MAX_LINES = 12  # Of a text.
_FEW_LINES = 5  # Of a text that was already shown, in another layout.
_MAX_SUBTASKS = 8  # Of an example.
# Features that are truncated; exceeding any other length stops a run.
_TRUNCATED = registration.TEXT_LENGTHS
_ROWS = {
  'inputs': 'inputs',
  'prompts': 'prompts',
  'targets': 'targets',
  'decoder': 'decoder, one subtask',
  'example': 'decoder, all subtasks',
  'subtasks': 'subtasks',
}

Lengths = Mapping[str, int]


def check_lengths(task: seqio.Task, lengths: Lengths) -> None:
  """Raises UserError for a feature length that the task does not have."""
  known = registration.TEXT_LENGTHS
  if 'prompts' in task.output_features:
    known += registration.PROMPT_LENGTHS
  for name in sorted(set(lengths) - set(known)):
    raise errors.unknown('feature length', name, known)


def splits(task: seqio.Task) -> list[str]:
  """Returns the splits of a task that are prepared, or need no preparation."""
  is_prepared = getattr(task.source, 'is_prepared', lambda split: True)
  return [split for split in task.splits if is_prepared(split)]


def split_to_show(task: seqio.Task) -> str:
  """Returns the validation split, or the last one if there is none."""
  found = splits(task) or list(task.splits)
  return 'validation' if 'validation' in found else found[-1]


def vocabulary_line(task: seqio.Task) -> str:
  """Returns a line that names the vocabulary of `lengths_table`."""
  vocabulary = task.output_features['targets'].vocabulary
  file = getattr(vocabulary, 'sentencepiece_model_file', vocabulary)
  return textwrap.fill(
    f'Lengths of {task.name}, in tokens of {file} ({vocabulary.vocab_size:,})',
    WIDTH,
    break_long_words=False,
  )


def lengths_table(
  task: seqio.Task,
  splits: Sequence[str],
  lengths: Lengths | None = None,
  num_examples: int | None = None,
) -> str:
  """Measures a task and formats the statistics in 80 columns.

  Args:
    task: in any of the three layouts. For the multi-prompt layout, the targets
      of the joint layout are measured too.
    splits: to measure.
    lengths: feature lengths to count exceeding features against.
    num_examples: measure only this many examples of each split.

  Returns:
    Lines of text.

  Raises:
    UserError: an example is invalid.
  """
  lengths = lengths or {}
  check_lengths(task, lengths)
  head = f'{"tokens":<26}{"count":>9}{"mean":>9}{"p95":>7}{"max":>7}'
  lines = [head + (f'{"length":>8}{"over":>8}' if lengths else '')]
  # Examples that exceed a decoder row are split.
  limits = {**lengths, 'example': lengths.get('decoder')}
  stops, is_split, impossible = set(), False, ''
  for split in splits:
    found = _measure(task.name, split, limits, num_examples)
    count, total = found['inputs'].count, task.num_input_examples(split)
    of_total = '' if total in (None, count) else f' of {total:,}'
    lines.append(f'{split}, {count:,}{of_total} examples')
    rows = [(_ROWS.get(k, k), k, found[k]) for k in _ROWS if k in found]
    if (
      'prompts' in found and f'{task.name}_joint' in seqio.TaskRegistry.names()
    ):
      try:
        joint = _measure(f'{task.name}_joint', split, {}, num_examples)
        rows.append(('targets of _joint', None, joint['targets']))
      except errors.UserError as e:
        impossible = impossible or _impossible(f'{task.name}_joint', e)
    for label, name, row in rows:
      limit = limits.get(name)
      lines.append(
        f'  {label:<24}{row.count:>9,}{row.mean:>9,.1f}{row.p95:>7,}'
        f'{row.longest:>7,}'
        + (f'{limit:>8,}{row.over:>8,}' if limit is not None else '')
      )
      is_split |= name == 'example' and row.over > 0
      if row.over and name not in (*_TRUNCATED, 'example'):
        stops.add(name)
  if impossible:
    lines.append(impossible)
  if is_split:
    lines.append(
      'Examples whose prompts and targets exceed a decoder row are split; '
      'their inputs\nare encoded once for each part.'
    )
  if stops:
    lines.append(
      f'A run would stop at examples over the length of '
      f'{", ".join(sorted(stops))}; only\ninputs and targets are truncated.'
    )
  return '\n'.join(lines)


def show_example(
  name: str, split: str, index: int, lengths: Lengths | None = None
) -> str:
  """Formats an example in each layout of its task, as the model reads it.

  Args:
    name: of the multi-prompt task.
    split: of the example.
    index: of the example in the split, unshuffled, from 0.
    lengths: feature lengths to which inputs and targets are truncated.

  Returns:
    Lines of text, at most 80 columns wide.

  Raises:
    UserError: the split has no such example, or the example is invalid.
  """
  task = seqio.TaskRegistry.get(name)
  if split not in task.splits:
    raise errors.unknown(f'split of {name}', split, task.splits)
  lengths = {k: v for k, v in (lengths or {}).items() if k in _TRUNCATED}
  (row,) = _rows(name, split, lengths, index) or [None]
  if row is None:
    raise errors.UserError(f'{name} has no example {index} in {split}')
  newline = getattr(getattr(task, 'layout', None), 'newline', None)
  decode = _Decoder(task.output_features['targets'].vocabulary, newline)
  lines = [f'Example {_text(row["example_id"])} of {split}']
  if newline is not None:
    lines.append(f'The newline sentinel {newline} is shown as a newline.')
  lines += ['', *_multi_prompt(name, row, decode)]
  # Targets of the joint layout have another length.
  of_joint = {k: v for k, v in lengths.items() if k == 'inputs'}
  for layout, limits in ((f'{name}_pie', lengths), (f'{name}_joint', of_joint)):
    if layout not in seqio.TaskRegistry.names():
      continue
    lines.append('')
    try:
      rows = _rows(layout, split, limits, index)
      lines += _text_to_text(layout, rows, decode)
    except errors.UserError as e:
      lines.append(_impossible(layout, e))
  return '\n'.join(lines)


def _impossible(layout: str, error: errors.UserError) -> str:
  return textwrap.fill(f'{layout} is impossible: {error}', WIDTH)


def _measure(
  name: str, split: str, lengths: Lengths, num_examples: int | None
) -> dict[str, length_stats.LengthStatistics]:
  with tf_assertions.raise_user_errors():
    return length_stats.measure_lengths(
      name, split, lengths, num_examples=num_examples
    )


def _rows(
  name: str, split: str, lengths: Lengths, index: int
) -> list[dict[str, Any]]:
  """Returns all rows of a layout that come from the example `index`."""
  task = seqio.TaskRegistry.get(name)
  dataset = task.get_dataset(lengths, split, shuffle=False, num_epochs=1)
  with tf_assertions.raise_user_errors():
    examples = itertools.groupby(
      dataset.as_numpy_iterator(), key=lambda row: row['example_id']
    )
    _, rows = next(itertools.islice(examples, index, None), (None, ()))
    return list(rows)


@dataclasses.dataclass(frozen=True)
class _Decoder:
  """Decodes tokens. EOS is shown, since truncated texts have none."""

  vocabulary: seqio.Vocabulary
  newline: str | None  # The sentinel.

  def __call__(self, tokens: np.ndarray) -> str:
    ids = [int(t) for t in tokens]
    has_eos = bool(ids) and ids[-1] == self.vocabulary.eos_id
    text = self.vocabulary.decode(ids[:-1] if has_eos else ids)
    text = newlines.restore(text, self.newline)
    return f'{text} </s>' if has_eos else text


def _multi_prompt(
  name: str, row: Mapping[str, Any], decode: _Decoder
) -> Iterator[str]:
  names = [_text(s) for s in row['subtasks_pretokenized']]
  yield f'{name}: one input, {_plural(len(names), "prompt")}'
  yield from _block('inputs', row['inputs'], decode)
  # Prefer subtasks that are not empty: of 30 slots, most may be.
  order = np.argsort(row['subtasks'] > 0, kind='stable')
  for i in sorted(order[:_MAX_SUBTASKS]):
    prompt, target = (_unpadded(row[k][i]) for k in ('prompts', 'targets'))
    yield f'  {names[i]}, {len(prompt)} + {len(target)} tokens'
    yield from _wrapped(f'{decode(prompt)} => {decode(target)}')
  if len(names) > _MAX_SUBTASKS:
    yield f'  and {len(names) - _MAX_SUBTASKS} more'


def _text_to_text(
  name: str, rows: Sequence[Mapping[str, Any]], decode: _Decoder
) -> Iterator[str]:
  more = '; the first' if len(rows) > 1 else ''
  yield f'{name}: {_plural(len(rows), "text-to-text example")}{more}'
  yield from _block('inputs', rows[0]['inputs'], decode, _FEW_LINES)
  yield from _block('targets', rows[0]['targets'], decode)


def _block(
  label: str,
  tokens: np.ndarray,
  decode: _Decoder,
  max_lines: int = _MAX_LINES,
) -> Iterator[str]:
  yield f'  {label}, {_plural(len(tokens), "token")}'
  yield from _wrapped(decode(tokens), max_lines)


def _wrapped(text: str, max_lines: int = _MAX_LINES) -> list[str]:
  indent = ' ' * 4
  lines = [
    (indent + line).rstrip()
    for paragraph in text.split('\n')
    for line in textwrap.wrap(paragraph, WIDTH - len(indent)) or ['']
  ]
  if len(lines) > max_lines:
    head, tail = max_lines // 2, (max_lines - 1) // 2
    left_out = f'{indent}[{len(lines) - head - tail} lines left out]'
    lines = [*lines[:head], left_out, *lines[-tail:]]
  return lines


def _unpadded(tokens: np.ndarray) -> np.ndarray:
  return tokens[: np.count_nonzero(tokens)]


def _plural(number: int, noun: str) -> str:
  return f'{number:,} {noun}' + ('s' if number != 1 else '')


def _text(value: bytes | str) -> str:
  return value.decode() if isinstance(value, bytes) else value

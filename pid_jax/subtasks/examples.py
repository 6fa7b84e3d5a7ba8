# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads decomposable examples from JSON lines, strictly. No TensorFlow.

A line is an object
  {"inputs": "...", "subtasks": [{"name": "...", "prompt": "...",
                                  "target": "..."}, ...]}
with an optional "id", and in a subtask optional "answers", all strings that are
right, and "choices", the strings that the answer is one of. tasks/jsonl.py
registers such files as tasks, and documents the keys. The predict command reads
them too; there, "target" may be missing, and what `predict` writes can be read
again.

A first file is rarely valid, so every error is one line with the file, line
number, key and remedy. Keys that nobody reads are named in one warning.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import difflib
import logging
from typing import Any
import unicodedata

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import strict_json

logger = logging.getLogger(__name__)

Example = dict[str, Any]

# Layout -> suffix of its task's name.
LAYOUTS = {'pid': '', 'pie': '_pie', 'joint': '_joint'}
# Optional features of a task's examples: string [U], for each subtask a JSON
# list of the strings that its output is one of, or '' for any output; and one
# of all its gold answers, or '' where the target is the only one.
CHOICES = 'subtask_choices'
ANSWERS = 'answers'
OPTIONAL = (CHOICES, ANSWERS)
# How inputs that are too long are treated.
LONG_INPUTS = ('keep_start', 'keep_end', 'error')
# Unicode's categories of characters that show nothing: spaces and separators,
# control and format characters. RE2, which tf.data uses, has the same names.
_INVISIBLE = ('Zs', 'Zl', 'Zp', 'Cc', 'Cf')
BLANK_PATTERN = '[' + ''.join(r'\p{' + x + '}' for x in _INVISIBLE) + ']*'

# What a line and a subtask may have; the last ones are those of `predict`.
_KEYS = {
  'line': ('id', 'inputs', 'subtasks', 'inputs_truncated'),
  'subtask': (
    *('name', 'prompt', 'target', 'answers', 'choices'),
    *('answers_as_written', 'prediction', 'score'),
  ),
}
_MAX_KEYS = 8  # In a warning.


def read_examples(
  path: epath.PathLike, require_targets: bool = True
) -> list[Example]:
  """Returns the list of what `iterate_examples` yields."""
  return list(iterate_examples(path, require_targets))


def iterate_examples(
  path: epath.PathLike, require_targets: bool = True
) -> Iterator[Example]:
  """Reads a file line by line, skipping blank lines.

  Args:
    path: of the file; local, or gs://.
    require_targets: every subtask must have a target, or answers.

  Yields:
    Decomposable examples: `example_id` (the line's "id", or its number),
    `inputs` str, `prompts`, `targets` and `subtasks` lists of U strings. If a
    subtask has choices, and always with require_targets=False, there is
    `choices`, a list of U lists of strings, or None without choices; likewise
    `answers`. With require_targets=False, a missing target is None. At least
    one example.

  Raises:
    UserError: the file cannot be read, is empty, or a line is invalid.
  """
  line_of_id = {}
  unknown = {kind: collections.Counter() for kind in _KEYS}
  impossible: list[int] = []  # Numbers of lines.
  for number, where, record in strict_json.read_lines(path, 'the examples'):
    example = _example(record, number, where, require_targets)
    name = example['example_id']
    if name in line_of_id:
      raise errors.UserError(
        f'{where}: the id {checks.shown(name)} occurs on line '
        f'{line_of_id[name]} too; give every line a unique "id", or no line any'
      )
    line_of_id[name] = number
    unknown['line'].update(record.keys() - set(_KEYS['line']))
    for subtask in record['subtasks']:
      unknown['subtask'].update(subtask.keys() - set(_KEYS['subtask']))
      golds = {subtask.get('target'), *(subtask.get('answers') or ())} - {None}
      choices = subtask.get('choices')
      if golds and choices and golds.isdisjoint(choices):
        impossible.append(number)
    yield example
  if not line_of_id:
    raise errors.UserError(
      f'{path} is empty; it needs one JSON object a line, such as '
      '{"inputs": "...", "subtasks": [{"name": "...", "prompt": "...", '
      '"target": "..."}]}'
    )
  _warn(path, unknown)
  if impossible:
    logger.warning(
      '%s: no answer of %s subtasks is one of their "choices", of which '
      'predictions are one; the first is on line %d',
      *(path, f'{len(impossible):,}', impossible[0]),
    )


def is_blank(text: str) -> bool:
  """Whether a text shows nothing: it has white space and invisible characters.

  Such as zero-width spaces and byte order marks.
  """
  return all(unicodedata.category(x) in _INVISIBLE for x in text)


def check_prompt(
  prompt: str, name: str, tokens: Sequence[int] | None = None
) -> None:
  """Checks that a prompt says something, by the one rule of all that reads it.

  An input may be empty: then the encoder reads EOS alone. A prompt may not.

  Args:
    prompt: the text.
    name: what to call it in messages.
    tokens: of the prompt, if it has been tokenised: a vocabulary may drop
      characters.

  Raises:
    UserError: the prompt is blank, or has no tokens.
  """
  if is_blank(prompt):
    what = 'is empty' if not prompt.strip() else 'has no visible character'
    raise errors.UserError(
      f'{name} {what}; it tells the model which subtask to answer'
    )
  if tokens is not None and not len(tokens):
    raise errors.UserError(
      f'{name} has no tokens: the vocabulary drops all of '
      f'{checks.shown(prompt)}; write it in other characters'
    )


def check_differ(choices: Sequence[str], name: str) -> None:
  """Raises UserError for choices of a prompt with a string twice."""
  if len(set(choices)) < len(choices):
    twice, _ = collections.Counter(choices).most_common(1)[0]
    raise errors.UserError(
      f'{name} holds a string twice: {checks.shown(twice)}; take one out'
    )


def _example(
  record: Any, number: int, where: str, require_targets: bool
) -> Example:
  if not isinstance(record, dict):
    raise errors.UserError(
      f'{where}: must be a JSON object with "inputs" and "subtasks", '
      f'not {strict_json.kind(record)}'
    )
  name = record.get('id', str(number))
  if isinstance(name, bool) or not isinstance(name, str | int):
    raise errors.UserError(
      f'{where}: "id" must be a string or a whole number, not '
      f'{strict_json.kind(name)}'
    )
  inputs = _string(record, 'inputs', where)
  subtasks = _value(record, 'subtasks', where)
  if not isinstance(subtasks, list):
    raise errors.UserError(
      f'{where}: "subtasks" must be a list of objects, not '
      f'{strict_json.kind(subtasks)}'
    )
  if not subtasks:
    raise errors.UserError(
      f'{where}: "subtasks" is empty; an example needs at least one, with '
      '"name", "prompt" and "target"'
    )
  # By name, since some lines have a thousand subtasks.
  index_of_name: dict[str, int] = {}
  prompts, targets, choices, answers = [], [], [], []
  for index, subtask in enumerate(subtasks):
    here = f'{where}, subtasks[{index}]'
    if not isinstance(subtask, dict):
      raise errors.UserError(
        f'{here}: must be an object with "name", "prompt" and "target", '
        f'not {strict_json.kind(subtask)}'
      )
    key = _string(subtask, 'name', here)
    if key in index_of_name:
      raise errors.UserError(
        f'{here}: subtasks[{index_of_name[key]}] has the same name, '
        f'{checks.shown(key)}; names must differ'
      )
    index_of_name[key] = index
    prompts.append(_string(subtask, 'prompt', here))
    check_prompt(prompts[-1], f'{here} ({checks.shown(key)}): "prompt"')
    choices.append(_strings(subtask, 'choices', here))
    check_differ(choices[-1] or (), f'{here}: "choices"')
    answers.append(_strings(subtask, 'answers', here))
    targets.append(_target(subtask, answers[-1], here, require_targets))
  return {
    'example_id': str(name),
    'inputs': inputs,
    'prompts': prompts,
    'subtasks': list(index_of_name),
    'targets': targets,
    **({} if require_targets and not any(choices) else {'choices': choices}),
    **({} if require_targets and not any(answers) else {'answers': answers}),
  }


def _target(
  subtask: Mapping[str, Any],
  answers: Sequence[str] | None,
  where: str,
  is_required: bool,
) -> str | None:
  """Returns the target, which is one of the answers, by default the first."""
  is_given = subtask.get('target') is not None
  if answers is not None and not is_given:
    return answers[0]
  if not is_given and not is_required:
    return None
  target = _string(subtask, 'target', where)
  if answers is not None and target not in answers:
    raise errors.UserError(
      f'{where}: "target" {checks.shown(target)} is none of "answers", which '
      'are all that is right; add it to them, or leave "target" out'
    )
  return target


def _strings(
  subtask: Mapping[str, Any], key: str, where: str
) -> list[str] | None:
  """Returns an optional list of strings."""
  texts = subtask.get(key)
  if texts is None:
    return None
  if not isinstance(texts, list) or not texts:
    raise errors.UserError(
      f'{where}: "{key}" must be a list of at least one string, not '
      f'{"an empty one" if texts == [] else strict_json.kind(texts)}'
    )
  for index, text in enumerate(texts):
    if not isinstance(text, str):
      _string({f'{key}[{index}]': text}, f'{key}[{index}]', where)
  return texts


def _string(record: Mapping[str, Any], key: str, where: str) -> str:
  value = _value(record, key, where)
  if not isinstance(value, str):
    quote = '; put it in quotes' if isinstance(value, int | float) else ''
    raise errors.UserError(
      f'{where}: "{key}" must be a string, not {strict_json.kind(value)}{quote}'
    )
  return value


def _value(record: Mapping[str, Any], key: str, where: str) -> Any:
  if key not in record:
    found = ', '.join(map(_quoted, list(record)[:_MAX_KEYS])) or 'no keys'
    raise errors.UserError(f'{where}: lacks "{key}"; it has {found}')
  return record[key]


def _warn(
  path: epath.PathLike, unknown: Mapping[str, collections.Counter[str]]
) -> None:
  """Names the keys of lines and of subtasks that are not read."""
  parts = []
  for kind, counts in unknown.items():
    for key, count in counts.most_common(_MAX_KEYS):
      near = difflib.get_close_matches(key[:99], _KEYS[kind], n=1)
      hint = f' (did you mean "{near[0]}"?)' if near else ''
      parts.append(
        f'{_quoted(key)} in {count:,} {kind}{"s" * (count > 1)}{hint}'
      )
    if len(counts) > _MAX_KEYS:
      parts.append(f'{len(counts) - _MAX_KEYS:,} others of {kind}s')
  if parts:
    logger.warning('%s has keys that are not read: %s', path, ', '.join(parts))


def _quoted(key: str) -> str:
  return f'"{checks.shown(key)[1:-1]}"'

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads decomposable examples from JSON lines, strictly. No TensorFlow.

A line is an object
  {"inputs": "...", "subtasks": [{"name": "...", "prompt": "...",
                                  "target": "..."}, ...]}
with an optional "id", and in a subtask optional "choices": a list of strings
that the answer is one of. tasks/jsonl.py registers such files as tasks. The
predict command reads them too; there, "target" may be missing.

A first file is rarely valid, so every error is one line with the file, line
number, key and remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import json
from typing import Any
import unicodedata

from etils import epath

from pid_jax import checks
from pid_jax import errors

Example = dict[str, Any]

# Layout -> suffix of its task's name.
LAYOUTS = {'pid': '', 'pie': '_pie', 'joint': '_joint'}
# An optional feature of a task's examples: string [U], for each subtask a JSON
# list of the strings that its output is one of, or '' for any output.
CHOICES = 'subtask_choices'
# How inputs that are too long are treated.
LONG_INPUTS = ('keep_start', 'keep_end', 'error')
# Unicode's categories of characters that show nothing: spaces and separators,
# control and format characters. RE2, which tf.data uses, has the same names.
_INVISIBLE = ('Zs', 'Zl', 'Zp', 'Cc', 'Cf')


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
    require_targets: every subtask must have a target.

  Yields:
    Decomposable examples: `example_id` (the line's "id", or its number),
    `inputs` str, `prompts`, `targets` and `subtasks` lists of U strings. If a
    subtask has choices, and always with require_targets=False, there is
    `choices`, a list of U lists of strings, or None without choices. With
    require_targets=False, a missing target is None. At least one example.

  Raises:
    UserError: the file cannot be read, is empty, or a line is invalid.
  """
  line_of_id = {}
  for number, where, record in iterate_lines(path):
    example = _example(record, number, where, require_targets)
    name = example['example_id']
    if name in line_of_id:
      raise errors.UserError(
        f'{where}: the id {name!r} occurs on line {line_of_id[name]} too; '
        'give every line a unique "id", or no line any'
      )
    line_of_id[name] = number
    yield example
  if not line_of_id:
    raise errors.UserError(
      f'{path} is empty; it needs one JSON object a line, such as '
      '{"inputs": "...", "subtasks": [{"name": "...", "prompt": "...", '
      '"target": "..."}]}'
    )


def iterate_lines(path: epath.PathLike) -> Iterator[tuple[int, str, Any]]:
  """Reads JSON lines of any form, skipping blank lines.

  Args:
    path: of the file; local, or gs://.

  Yields:
    The line number, from 1; 'FILE, line NUMBER', for messages; the value.

  Raises:
    UserError: the file cannot be read, or a line is not JSON in UTF-8.
  """
  path = epath.Path(path)
  try:
    with path.open('rb') as lines:
      for number, line in enumerate(lines, start=1):
        where = f'{path}, line {number}'
        text = _decode(line, where)
        if text.strip():
          yield number, where, _parse(text, where)
  except OSError as e:
    raise errors.UserError(
      f'cannot read the examples {path}: {e.strerror or e}'
    ) from e


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


def _decode(line: bytes, where: str) -> str:
  try:
    return line.decode(
      'utf-8-sig' if line.startswith(b'\xef\xbb\xbf') else 'utf-8'
    )
  except UnicodeDecodeError as e:
    raise errors.UserError(
      f'{where}: byte {e.start + 1} is not UTF-8; save the file as UTF-8'
    ) from e


def _parse(text: str, where: str) -> Any:
  try:
    return json.loads(text.rstrip())
  except RecursionError as e:
    raise errors.UserError(
      f'{where}: malformed JSON: brackets are nested too deeply'
    ) from e
  except json.JSONDecodeError as e:
    hint = '; each line must be one whole JSON object'
    if "'" in text and '"' not in text:
      hint = '; JSON strings are written in double quotes'
    raise errors.UserError(
      f'{where}: malformed JSON at column {e.colno}: {e.msg}{hint}'
    ) from e


def _example(
  record: Any, number: int, where: str, require_targets: bool
) -> Example:
  if not isinstance(record, dict):
    raise errors.UserError(
      f'{where}: must be a JSON object with "inputs" and "subtasks", '
      f'not {_kind(record)}'
    )
  name = record.get('id', str(number))
  if isinstance(name, bool) or not isinstance(name, str | int):
    raise errors.UserError(
      f'{where}: "id" must be a string or a whole number, not {_kind(name)}'
    )
  inputs = _string(record, 'inputs', where)
  subtasks = _value(record, 'subtasks', where)
  if not isinstance(subtasks, list):
    raise errors.UserError(
      f'{where}: "subtasks" must be a list of objects, not {_kind(subtasks)}'
    )
  if not subtasks:
    raise errors.UserError(
      f'{where}: "subtasks" is empty; an example needs at least one, with '
      '"name", "prompt" and "target"'
    )
  names, prompts, targets, choices = [], [], [], []
  for index, subtask in enumerate(subtasks):
    here = f'{where}, subtasks[{index}]'
    if not isinstance(subtask, dict):
      raise errors.UserError(
        f'{here}: must be an object with "name", "prompt" and "target", '
        f'not {_kind(subtask)}'
      )
    names.append(_string(subtask, 'name', here))
    if names[-1] in names[:-1]:
      raise errors.UserError(
        f'{here}: subtasks[{names.index(names[-1])}] has the same name, '
        f'{names[-1]!r}; names must differ'
      )
    prompts.append(_string(subtask, 'prompt', here))
    check_prompt(prompts[-1], f'{here} ({checks.shown(names[-1])}): "prompt"')
    if require_targets or subtask.get('target') is not None:
      targets.append(_string(subtask, 'target', here))
    else:
      targets.append(None)
    choices.append(_choices(subtask, here))
  example = {
    'example_id': str(name),
    'inputs': inputs,
    'prompts': prompts,
    'subtasks': names,
    'targets': targets,
  }
  if require_targets and not any(choices):
    return example
  return {**example, 'choices': choices}


def _choices(subtask: dict[str, Any], where: str) -> list[str] | None:
  choices = subtask.get('choices')
  if choices is None:
    return None
  if not isinstance(choices, list) or not choices:
    raise errors.UserError(
      f'{where}: "choices" must be a list of at least one string, not '
      f'{"an empty one" if choices == [] else _kind(choices)}'
    )
  for index, text in enumerate(choices):
    _string({f'choices[{index}]': text}, f'choices[{index}]', where)
  return choices


def _string(record: dict[str, Any], key: str, where: str) -> str:
  value = _value(record, key, where)
  if not isinstance(value, str):
    quote = '; put it in quotes' if isinstance(value, int | float) else ''
    raise errors.UserError(
      f'{where}: "{key}" must be a string, not {_kind(value)}{quote}'
    )
  if any('\ud800' <= character <= '\udfff' for character in value):
    raise errors.UserError(
      f'{where}: "{key}" has an unpaired surrogate (\\ud800 to \\udfff); '
      'write such characters unescaped'
    )
  return value


def _value(record: dict[str, Any], key: str, where: str) -> Any:
  if key not in record:
    found = ', '.join(f'"{k}"' for k in record) or 'no keys'
    raise errors.UserError(f'{where}: lacks "{key}"; it has {found}')
  return record[key]


def _kind(value: Any) -> str:
  """Describes a JSON value in JSON's terms."""
  if value is None or isinstance(value, bool):
    return {None: 'null', True: 'true', False: 'false'}[value]
  if isinstance(value, int | float):
    return f'the number {value}'
  if isinstance(value, str):
    return 'a string'
  return 'a list' if isinstance(value, list) else 'an object'

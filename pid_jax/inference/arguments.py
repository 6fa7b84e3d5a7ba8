# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Texts as users give them: any iterables, read once into lists of str.

Users make their first mistakes here: a string for a list, a column of numbers,
a missing value in row 317, an empty prompt. Each has a message that names the
entry, its type and the remedy. Whatever can be iterated in an order is taken:
lists, arrays, columns of tables (whatever their index), generators.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import numbers
from typing import Any

import numpy as np

from pid_jax import checks
from pid_jax import errors
from pid_jax.subtasks import examples

Choices = list[list[str] | None]
# What was read, by `id` of what it was read from: users repeat one list for
# many inputs, which is then read once. It is kept, so that no other gets its
# id.
_Known = dict[int, tuple[Any, Any]]


def strings(name: str, values: Iterable[str]) -> list[str]:
  """Reads strings.

  Args:
    name: of the argument, for messages.
    values: in any ordered iterable.

  Raises:
    UserError: it is no such iterable, or an entry is not a string.
  """
  return [
    _string(f'{name}[{i}]', value)
    for i, value in enumerate(_items(name, values, 'strings'))
  ]


def job(
  inputs: Iterable[str],
  prompts: Iterable[str] | Iterable[Iterable[str]],
) -> tuple[list[str], list[list[str]]]:
  """Reads inputs, and the prompts of each.

  Args:
    inputs: N strings.
    prompts: for each input at least one string that is not blank; or one
      iterable of strings: the prompts of all inputs.

  Returns:
    Lists of N strings, and of N lists of strings.

  Raises:
    UserError: saying which entry is wrong.
  """
  texts = strings('inputs', inputs)
  items = _items('prompts', prompts, 'lists of strings')
  if items and isinstance(items[0], str):
    shared = _prompts('prompts', items)
    return texts, [shared for _ in texts]
  if texts and not items:
    raise _no_prompts('prompts', 'the inputs')
  _match(len(texts), 'prompts', items, ', or all of them one list of strings')
  known: _Known = {}
  return texts, [
    _once(known, own, lambda own, name=f'prompts[{i}]': _prompts(name, own))
    for i, own in enumerate(items)
  ]


def targets(
  values: Iterable[Iterable[str]], prompts: Sequence[Sequence[str]]
) -> list[list[str]]:
  """Reads the outputs to be scored.

  Args:
    values: for each input, for each of its prompts, a string; may be empty.
    prompts: of each input, as `job` returns them.

  Raises:
    UserError: saying which entry is wrong.
  """
  items = _items('targets', values, 'lists of strings')
  _match(len(prompts), 'targets', items)
  lists = [strings(f'targets[{i}]', own) for i, own in enumerate(items)]
  for i, (own, texts) in enumerate(zip(prompts, lists, strict=True)):
    if len(own) != len(texts):
      raise errors.UserError(
        f'prompts[{i}] holds {len(own)} strings, targets[{i}] {len(texts)}: '
        'give each prompt one target.'
      )
  return lists


def choices(
  values: Any, prompts: Sequence[Sequence[str]], *, required: bool = False
) -> list[Choices]:
  """Reads the strings that outputs are chosen from.

  Args:
    values: for each input, for each of its prompts, strings, or None: any
      output; or one iterable of strings: the choices of all prompts.
    prompts: of each input, as `job` returns them.
    required: whether each prompt must have choices.

  Returns:
    For each input a list with the choices of each prompt. That they differ and
    can be written is checked by `text.Tokenizer`.

  Raises:
    UserError: saying which entry is wrong.
  """
  items = _items('choices', values, 'lists of lists of strings')
  known: _Known = {}
  if items and isinstance(items[0], str):
    shared = strings('choices', items)
    return [[shared] * len(own) for own in prompts]
  _match(
    len(prompts),
    'choices',
    items,
    ', with the choices of each of its prompts; or one list of strings for all '
    'prompts',
  )
  return [
    _choices(f'[{i}]', own, len(prompts[i]), required, known)
    for i, own in enumerate(items)
  ]


def request(
  inputs: str, prompts: Iterable[str], choices: Any = None
) -> tuple[str, list[str], Choices | None]:
  """Reads the fields of a `text.Request`.

  Args:
    inputs: a string.
    prompts: as those of an input in `job`.
    choices: as those of an input in `choices`, or one iterable of strings for
      all prompts, or None.

  Raises:
    UserError: saying which field is wrong.
  """
  text = _string('inputs', inputs)
  own = _prompts('prompts', prompts)
  if choices is None:
    return text, own, None
  return text, own, _choices('', choices, len(own), False, {})


def _prompts(name: str, values: Iterable[str]) -> list[str]:
  texts = strings(name, values)
  if not texts:
    raise _no_prompts(name, name.replace('prompts', 'inputs'))
  for u, text in enumerate(texts):
    examples.check_prompt(text, f'{name}[{u}]')
  return texts


def _choices(
  index: str, values: Any, num_prompts: int, required: bool, known: _Known
) -> Choices:
  """Reads the choices of an input's prompts."""
  name = f'choices{index}'
  items = _items(name, values, 'lists of strings, one for each prompt')
  if items and isinstance(items[0], str):
    if num_prompts > 1 and index:
      raise errors.UserError(
        f'{name} must be a list of lists of strings, one for each of the '
        f'{num_prompts} prompts; got {checks.shown(items)}.'
      )
    return [strings(name, items)] * num_prompts
  if len(items) != num_prompts:
    raise errors.UserError(
      f'prompts{index} holds {num_prompts} strings, {name} {len(items)}: give '
      'each prompt its list of choices.'
    )
  return [
    None
    if own is None and not required
    else _once(known, own, lambda own, u=u: strings(f'{name}[{u}]', own))
    for u, own in enumerate(items)
  ]


def _once(known: _Known, source: Any, read: Any) -> Any:
  if id(source) not in known:
    known[id(source)] = source, read(source)
  return known[id(source)][1]


def _match(count: int, name: str, items: Sequence[Any], more: str = '') -> None:
  if len(items) != count:
    raise errors.UserError(
      f'There are {count} inputs and {len(items)} lists of {name}: give each '
      f'input its list of {name}{more}.'
    )


def _no_prompts(name: str, inputs: str) -> errors.UserError:
  return errors.UserError(
    f'{name} is empty: give {inputs} at least one prompt.'
  )


def check_iterable(name: str, values: Any, content: str) -> None:
  """Raises UserError unless values can be iterated, in an order.

  Args:
    name: of the argument, for messages.
    values: whatever was given.
    content: what it must hold, for messages.
  """
  remedy = ''
  if isinstance(values, str | bytes):
    remedy = f': put it in a list, [{checks.shown(values)}]'
  elif isinstance(values, Mapping):
    remedy = ': give its list(...values()), or list(...keys())'
  elif isinstance(values, set | frozenset):
    remedy = ', which has no order: give a list'
  elif hasattr(values, 'columns'):
    remedy = ": give one of its columns, such as table['text']"
  elif isinstance(values, Iterable) and getattr(values, 'ndim', 1) != 0:
    return
  raise errors.UserError(
    f'{name} must be a list of {content}; got {_with_type(values)}{remedy}.'
  )


def _items(name: str, values: Any, content: str) -> list[Any]:
  """Reads an iterable into a list."""
  check_iterable(name, values, content)
  if hasattr(values, 'to_pylist'):  # Arrow's, whose entries are no strings.
    return list(values.to_pylist())
  return list(values)


def _string(name: str, value: Any) -> str:
  """Returns a str; for subclasses, such as NumPy's, a plain one."""
  if isinstance(value, str):
    return str.__str__(value)
  remedy = ''
  if value is None or _is_missing(value):
    remedy = ': fill or drop missing values'
  elif isinstance(value, bytes):
    remedy = ': decode it, as by .decode()'
  elif isinstance(value, numbers.Number):
    remedy = ': write it as text, as by str()'
  raise errors.UserError(
    f'{name} must be a string; got {_with_type(value)}{remedy}.'
  )


def _is_missing(value: Any) -> bool:
  if isinstance(value, float | np.floating):
    return bool(np.isnan(value))
  return type(value).__name__ in ('NAType', 'NaTType')  # Of pandas.


def _with_type(value: Any) -> str:
  return f'{checks.shown(value)} ({type(value).__name__})'

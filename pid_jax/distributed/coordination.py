# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the processes of a run tell one another.

It goes through the service that JAX keeps in process 0, so it works before the
devices are there and after a collective has failed. JAX offers no public way to
that service; orbax takes the same one.
"""

import collections
import hashlib
import itertools
import sys
from typing import Any

from pid_jax import errors

PREFIX = 'pid_jax/'
_calls: dict[str, int] = collections.defaultdict(int)


def _state() -> Any:
  """JAX's, where JAX is loaded; it alone is not worth loading it."""
  module = sys.modules.get('jax._src.distributed')
  return None if module is None else module.global_state


def client() -> Any:
  """JAX's client of the service in process 0, or None before `join`."""
  state = _state()
  return None if state is None else state.client


def is_joined() -> bool:
  """Whether this process is one of many."""
  return client() is not None


def index() -> int:
  """The number of this process, from 0; does not start JAX's backend."""
  return _state().process_id if is_joined() else 0


def count() -> int:
  """The number of processes; does not start JAX's backend."""
  return _state().num_processes if is_joined() else 1


def gather(name: str, text: str, timeout: float = 3600.0) -> list[str]:
  """Exchanges a text; all processes must call it, in the same order.

  Args:
    name: what it is about; may be used again.
    text: of this process.
    timeout: seconds to wait for the others, which may just be slow: who is gone
      is found out sooner.

  Returns:
    The texts of all processes, in their order.

  Raises:
    UserError: not all of them came in time.
  """
  if not is_joined():
    return [text]
  folder = f'{PREFIX}{name}/{_calls[name]}'
  _calls[name] += 1
  client().key_value_set(f'{folder}/{index()}', text)
  _wait(folder, name, timeout)
  texts = {
    int(key.rpartition('/')[2]): value
    for key, value in client().key_value_dir_get(folder + '/')
  }
  return [texts[i] for i in sorted(texts)]


def barrier(name: str, timeout: float = 3600.0) -> None:
  """Waits until all processes have come here.

  Args:
    name: of the place; may be used again.
    timeout: seconds to wait for the others.

  Raises:
    UserError: not all of them came in time.
  """
  if is_joined():
    folder = f'{PREFIX}{name}/{_calls[name]}'
    _calls[name] += 1
    _wait(folder, name, timeout)


def _wait(key: str, name: str, timeout: float) -> None:
  try:
    client().wait_at_barrier(key, int(timeout * 1000))
  except Exception as e:  # Its type changed with JAX's versions.
    if 'DEADLINE_EXCEEDED' not in str(e):
      raise
    raise errors.UserError(
      f'not all {count()} processes came to {name!r} within {timeout:g} s: '
      'see what the others say.'
    ) from e


def agree(what: str, text: str) -> None:
  """Checks that all processes have the same text; all must call it.

  Args:
    what: the text is, for the message.
    text: of this process, of many lines.

  Raises:
    UserError: they differ, in all processes with the same message, which shows
      the first line that does.
  """
  if not is_joined():
    return
  digest = hashlib.sha256(text.encode()).hexdigest()
  digests = gather(f'agree/{what}', digest)
  other = next((i for i, d in enumerate(digests) if d != digests[0]), None)
  if other is None:
    return
  # Only two texts travel, however many hosts there are.
  mine = text if index() in (0, other) else ''
  texts = gather(f'differ/{what}', mine)
  other_name = f'process {other}'
  raise errors.UserError(
    f'the hosts do not agree on {what}: '
    f'{first_difference(texts[0], texts[other], "process 0", other_name)}. '
    'Start the same command, from the same files, on all of them.'
  )


def first_difference(a: str, b: str, name_a: str, name_b: str) -> str:
  """Shows the first line in which two texts differ.

  Args:
    a: one text.
    b: another one.
    name_a: who has `a`.
    name_b: who has `b`.
  """
  pairs = itertools.zip_longest(a.splitlines(), b.splitlines())
  for number, (line_a, line_b) in enumerate(pairs, start=1):
    if line_a != line_b:
      show = lambda line: 'nothing' if line is None else repr(line.strip())
      return (
        f'line {number} is {show(line_a)} in {name_a}, but {show(line_b)} in '
        f'{name_b}'
      )
  return f'{name_a} and {name_b} differ in white space'

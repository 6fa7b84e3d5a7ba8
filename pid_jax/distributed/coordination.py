# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Barriers between the processes of a run, and checks that they agree.

Built on `jax.experimental.multihost_utils`, whose collectives run on the
devices: all processes must make the same calls in the same order.
"""

import hashlib
import itertools
import sys

from pid_jax import errors


def process_index() -> int:
  """Returns the index of this process, from 0.

  Unlike `jax.process_index`, imports nothing and starts no backend in a process
  that is alone: light commands call it, too.
  """
  return sys.modules['jax'].process_index() if _is_initialized() else 0


def process_count() -> int:
  """Returns the number of processes; as cheap as `process_index`."""
  return sys.modules['jax'].process_count() if _is_initialized() else 1


def _is_initialized() -> bool:
  jax = sys.modules.get('jax')
  return jax is not None and jax.distributed.is_initialized()


def barrier(name: str) -> None:
  """Waits until all processes are here.

  Args:
    name: of the barrier, the same in all processes; may be used again.

  Raises:
    AssertionError: the processes wait at different barriers.
  """
  if process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def broadcast(text: str, source: int = 0) -> str:
  """Sends the text of one process to all; all must call it.

  Args:
    text: of this process; counts in process `source` only.
    source: index of the process that sends.

  Returns:
    The text of process `source`.
  """
  if process_count() == 1:
    return text
  from jax.experimental import multihost_utils
  import numpy as np

  is_source = process_index() == source
  content = np.frombuffer(text.encode() if is_source else b'', np.uint8)
  # All must bring arrays of one shape, so the length goes first.
  size = multihost_utils.broadcast_one_to_all(np.int32(content.size), is_source)
  if not is_source:
    content = np.zeros(size, np.uint8)
  received = multihost_utils.broadcast_one_to_all(content, is_source)
  return np.asarray(received).tobytes().decode()


def check_equal(what: str, text: str) -> None:
  """Checks that all processes have the same text; all must call it.

  `multihost_utils.assert_equal` would show two hashes instead of the line.

  Args:
    what: the text is, for the message.
    text: of this process, of many lines.

  Raises:
    UserError: they differ, in all processes with the same message, which shows
      the first line that does.
  """
  if process_count() == 1:
    return
  from jax.experimental import multihost_utils
  import numpy as np

  digest = hashlib.sha256(text.encode()).digest()
  digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
  others = np.flatnonzero((digests != digests[0]).any(axis=1))
  if not others.size:
    return
  # Only two texts travel, however many hosts there are.
  other = int(others[0])
  texts = broadcast(text, 0), broadcast(text, other)
  number, first, second = first_difference(*texts)
  raise errors.UserError(
    f'the hosts do not agree on {what}: line {number} is {first!r} in process '
    f'0, but {second!r} in process {other}. Start the same command, from the '
    'same files, on all of them.'
  )


def first_difference(a: str, b: str) -> tuple[int, str | None, str | None]:
  """Returns the number, from 1, of the first line that differs, and both lines.

  A line that a text does not have is None. The texts must differ.
  """
  lines = itertools.zip_longest(a.split('\n'), b.split('\n'))
  numbered = enumerate(lines, start=1)
  return next((i, x, y) for i, (x, y) in numbered if x != y)

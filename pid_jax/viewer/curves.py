# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the curves of a training run from its TensorBoard events.

TensorBoard's own loaders import TensorFlow where there is one, which takes
longer than all the rest of a report; the modules used here do not. A run that
is being written to can be read: an event that is not whole yet is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
import math
import struct

from etils import epath

# A record is its length (8 bytes), a checksum of that (4), the data and a
# checksum of these (4). TFRecord's format.
_HEAD, _TAIL = 12, 4

Curve = list[tuple[int, float]]


def read(folder: epath.PathLike) -> dict[str, Curve]:
  """Reads the scalars of a run.

  Args:
    folder: MODEL_DIR/tensorboard; local, or gs://.

  Returns:
    Tag -> (step, finite value) by rising step, in the order in which tags
    appear. Where a run that was stopped wrote a step twice, the later one.

  Raises:
    ImportError: TensorBoard is not installed; training brings it along.
  """
  from tensorboard.compat.proto import event_pb2
  from tensorboard.util import tensor_util

  curves = {}
  paths = epath.Path(folder).glob('*tfevents*')
  for path in sorted(paths, key=lambda path: path.name):  # By time.
    for record in _records(path.read_bytes()):
      event = event_pb2.Event.FromString(record)
      for value in event.summary.value:
        if value.HasField('tensor'):
          if value.tensor.tensor_shape.dim:
            continue
          number = tensor_util.make_ndarray(value.tensor).item()
        else:
          number = value.simple_value
        if isinstance(number, int | float) and math.isfinite(number):
          curves.setdefault(value.tag, {})[event.step] = float(number)
  return {tag: sorted(curve.items()) for tag, curve in curves.items()}


def _records(content: bytes) -> Iterator[bytes]:
  """Yields the data of the records of a file that are whole."""
  start = 0
  while start + _HEAD <= len(content):
    (size,) = struct.unpack_from('<Q', content, start)
    end = start + _HEAD + size
    if end + _TAIL > len(content):
      return
    yield content[start + _HEAD : end]
    start = end + _TAIL

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the curves of a training run from its TensorBoard events.

TensorBoard's own reader loads TensorFlow where there is one, which takes longer
than all the rest of a report; so this reads the records by itself, and has
TensorBoard's protocol buffers take them apart. A run that is being written to
can be read: an event that is not whole yet is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
import importlib
import math
import struct

from etils import epath

# A record is its length (8 bytes), a checksum of that (4), the data and a
# checksum of these (4). TFRecord's format.
_HEAD, _TAIL = 12, 4
# DataType of TensorFlow -> format of struct.
_FORMATS = {1: 'f', 2: 'd', 3: 'i', 9: 'q'}

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
  event_pb2 = importlib.import_module('tensorboard.compat.proto.event_pb2')
  curves = {}
  paths = epath.Path(folder).glob('*tfevents*')
  for path in sorted(paths, key=lambda path: path.name):  # By time.
    for record in _records(path.read_bytes()):
      event = event_pb2.Event.FromString(record)
      for value in event.summary.value:
        number = _scalar(value)
        if number is not None and math.isfinite(number):
          curves.setdefault(value.tag, {})[event.step] = number
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


def _scalar(value) -> float | None:
  """The number in a Summary.Value, if it holds one."""
  if value.WhichOneof('value') == 'simple_value':
    return value.simple_value
  tensor, number_format = value.tensor, _FORMATS.get(value.tensor.dtype)
  if number_format is None or tensor.tensor_shape.dim:
    return None
  if tensor.tensor_content:
    return float(struct.unpack(f'<{number_format}', tensor.tensor_content)[0])
  for held in (tensor.float_val, tensor.double_val, tensor.int_val):
    if held:
      return float(held[0])
  return float(tensor.int64_val[0]) if tensor.int64_val else None

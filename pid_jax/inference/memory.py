# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a batch fits into memory, by arithmetic, before it is compiled.

The encoder and attention to it need memory by the length of an input, but a
prompt attends to itself by the square of its length: one of 250,000 tokens asks
for hundreds of gigabytes, and on a CPU the system would end the process. The
estimate counts the caches and the arrays of the largest operation besides,
twice: XLA's programs for a CPU took 1.1 to 2.6 times these.

Letters as in `batching`; T tokens of an output, W beams, C positions of the
self-attention cache.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
import pathlib
from typing import Any

import jax
import numpy as np

from pid_jax import errors
from pid_jax.config import T5Config
from pid_jax.inference import batching
from pid_jax.network import blockwise_attention

# Limits of a container (cgroups 2 and 1).
_CONTAINER_LIMITS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)
_FLOAT32 = 4


class Budget:
  """What a model leaves of its devices' memory for batches.

  Attributes:
    num_bytes: of all devices of the model, without its parameters.
  """

  def __init__(
    self,
    config: T5Config,
    params: Any,
    *,
    num_devices: int = 1,
    max_new_tokens: int = 0,
    beam_size: int | None = None,
    num_draft_tokens: int = 0,
  ):
    """Looks up the memory of the devices.

    Args:
      config: of the network.
      params: of the network.
      num_devices: that share its batches.
      max_new_tokens: T of generated outputs; 0: targets are scored.
      beam_size: W, or None.
      num_draft_tokens: that are read in a step.
    """
    self._config = config
    self._num_new_tokens, self._num_beams = max_new_tokens, beam_size or 1
    self._num_draft_tokens = num_draft_tokens
    used = sum(x.nbytes for x in jax.tree.leaves(params))
    self.num_bytes = num_devices * _device_bytes() - used

  def fits(
    self, shape: batching.Shape, packed_length: int | None = None
  ) -> bool:
    """Whether a batch can run.

    Args:
      shape: of the batch.
      packed_length: L, if its prompts are packed (`prefill.prefill`).
    """
    return self._batch_bytes(shape, packed_length) <= self.num_bytes

  def check(
    self, needed: batching.Shape, packed_length: int | None = None
  ) -> None:
    """Raises UserError unless a batch can run, see `fits`."""
    if not self.fits(needed, packed_length):
      inputs, length, prompts, prompt, targets, target = needed
      raise self._too_large(
        self._batch_bytes(needed, packed_length),
        {
          'inputs': inputs,
          'tokens of an input': length,
          'prompts of an input': prompts,
          'tokens of a prompt': prompt,
          'targets of a prompt': targets,
          'tokens of an output': self._num_new_tokens or target,
          'beams': self._num_beams if self._num_beams > 1 else 0,
        },
        'Shorten the longest text, give fewer prompts or choices at a time, or '
        'lower batch_size, beam_size or max_new_tokens.',
      )

  def check_slots(
    self, num_slots: int, num_rows: int, input_length: int, prompt_length: int
  ) -> None:
    """Raises UserError unless slots of these sizes (`slots.Capacity`) fit."""
    rows = num_slots * num_rows
    size = self._cache_bytes(
      num_slots, input_length, rows, self._cache_length(prompt_length)
    )
    if size > self.num_bytes:
      raise self._too_large(
        size,
        {
          'num_slots': num_slots,
          'num_rows': num_rows,
          'max_input_tokens': input_length,
          'max_prompt_tokens': prompt_length,
          'max_new_tokens': self._num_new_tokens,
        },
        'Lower one of them.',
      )

  def _too_large(
    self, size: int, parts: Mapping[str, int], remedy: str
  ) -> errors.UserError:
    named = ', '.join(f'{name}: {n:,}' for name, n in parts.items() if n)
    return errors.UserError(
      f'There is not enough memory to decode this at once ({named}): it takes '
      f'about {size / 1e9:,.1f} GB, and there are '
      f'{max(self.num_bytes, 0) / 1e9:,.1f} GB. {remedy}'
    )

  def _cache_length(self, prompt_length: int) -> int:
    return 1 + prompt_length + self._num_new_tokens + self._num_draft_tokens

  def _cache_bytes(self, inputs: int, length: int, rows: int, c: int) -> int:
    """Of keys and values of all layers, to inputs and to outputs."""
    config = self._config
    width = config.num_heads * config.head_dim
    itemsize = np.dtype(jax.numpy.dtype(config.dtype)).itemsize
    positions = inputs * length + rows * c
    return 2 * config.num_decoder_layers * width * positions * itemsize

  def _batch_bytes(
    self, shape: batching.Shape, packed_length: int | None
  ) -> int:
    """About what a program of a batch needs."""
    config = self._config
    inputs, length, prompts, prompt, targets, target = shape
    rows = inputs * prompts
    # Both halves of a gated block, their product, and what it is made into.
    mlp = 4 * inputs * length * max(config.mlp_dim, config.emb_dim)
    encoder = max(mlp, self._attention(inputs, length, length))
    read = 1 + prompt  # With the start token.
    if self._num_new_tokens:
      copies = rows * self._num_beams
      chunk = 1 + self._num_draft_tokens
      c = self._cache_length(prompt)
    else:
      copies, chunk, c = rows * targets, target, read + target
    # Blocks of packed prompts, of `read` tokens, see the block before as well.
    queries = prompts * read if packed_length is None else 2 * packed_length
    logits = copies * chunk * config.vocab_size
    caches = self._cache_bytes(inputs, length + (packed_length or 0), copies, c)
    decoder = max(
      logits,
      self._attention(inputs, packed_length or prompts * read, length),
      self._attention(inputs, copies // inputs * chunk, length),
      inputs * config.num_heads * queries * read,
      copies * config.num_heads * chunk * c,
    )
    return 2 * max(_FLOAT32 * encoder, caches + _FLOAT32 * decoder)

  def _attention(self, inputs: int, num_queries: int, num_keys: int) -> int:
    """Returns how many logits and biases exist at a time."""
    if blockwise_attention.pays(num_queries, num_keys):
      num_queries = num_keys = blockwise_attention.BLOCK
    return 2 * inputs * self._config.num_heads * num_queries * num_keys


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Turns XLA's error of memory within the context into a UserError."""
  try:
    yield
  except jax.errors.JaxRuntimeError as e:
    if 'RESOURCE_EXHAUSTED' not in str(e):
      raise
    raise errors.UserError(
      'There is not enough memory to decode this at once. Shorten the longest '
      'text, give fewer prompts or choices at a time, or lower batch_size, '
      'num_slots, beam_size or max_new_tokens.'
    ) from e


def _device_bytes() -> int:
  """Returns the memory of a device, or of the machine where CPUs compute."""
  device = jax.local_devices()[0]
  stats = device.memory_stats() if device.platform != 'cpu' else None
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit']
  sizes = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
  for path in _CONTAINER_LIMITS:
    with contextlib.suppress(OSError, ValueError):  # 'max' is no number.
      sizes.append(int(pathlib.Path(path).read_text()))
  return min(sizes) // max(jax.local_device_count(), 1)

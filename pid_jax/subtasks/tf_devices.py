# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps TensorFlow, which only reads data here, off the GPUs.

TensorFlow takes nearly all memory of the GPUs that it sees when it first runs
an operation, and leaves none for JAX. Which devices it sees can be changed
before that only. So the lowest modules that import TensorFlow call `hide_gpus`
when they are imported, and all others, those of `tasks` too, import one of them
(`tests/imports_test.py` checks it): whoever reaches a pipeline, by a command or
from Python, has passed here.
"""

import logging

import tensorflow as tf


def hide_gpus() -> bool:
  """Hides all GPUs from TensorFlow; repeated calls are no-ops.

  Returns:
    Whether they are hidden. False, with a warning, if TensorFlow has started
    with GPUs before: it keeps them.
  """
  try:
    tf.config.set_visible_devices([], 'GPU')
  except RuntimeError:  # It has started.
    logging.getLogger('pid_jax').warning(
      'TensorFlow started before pid_jax was imported, and may hold the memory '
      "of the GPUs; call tf.config.set_visible_devices([], 'GPU') first"
    )
    return False
  return True

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompt-in-decoder T5 for JAX: encode once, answer many prompts.

The package is lazy: a name is imported when it is first used, so that
`import pid_jax` takes no time and prediction loads no TensorFlow.
"""

from pid_jax import interrupts as _interrupts

_interrupts.install_in_program()  # Before anything that takes time.

from etils import epy as _epy  # noqa: E402

__version__ = '0.1.0'

with _epy.lazy_api_imports(globals()):
  from pid_jax import checkpoints
  from pid_jax import config
  from pid_jax import decoding
  from pid_jax import errors
  from pid_jax import inference
  from pid_jax import model
  from pid_jax import network
  from pid_jax import partitioning
  from pid_jax import subtasks
  from pid_jax import trainer
  from pid_jax import vocabulary
  from pid_jax.config import T5Config
  from pid_jax.errors import UserError
  from pid_jax.inference import PromptInDecoder
  from pid_jax.vocabulary import Vocabulary

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training: the step, the loop, and what happens around it.

Names are imported when they are first used: the step and the optimizers need
neither TensorFlow nor SeqIO.
"""

from etils import epy as _epy

with _epy.lazy_api_imports(globals()):
  from pid_jax.trainer.checkpointer import CheckpointConfig
  from pid_jax.trainer.data import DatasetConfig
  from pid_jax.trainer.evaluate_checkpoint import default_split
  from pid_jax.trainer.evaluate_checkpoint import evaluate
  from pid_jax.trainer.loop import train
  from pid_jax.trainer.optimizers import Optimizer
  from pid_jax.trainer.step import TrainState

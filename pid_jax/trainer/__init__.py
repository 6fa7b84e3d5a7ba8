# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training: the step, the loop, and what happens around it."""

from pid_jax.trainer.checkpointer import CheckpointConfig
from pid_jax.trainer.data import DatasetConfig
from pid_jax.trainer.evaluate_checkpoint import default_split
from pid_jax.trainer.evaluate_checkpoint import evaluate
from pid_jax.trainer.loop import train
from pid_jax.trainer.optimizers import Optimizer
from pid_jax.trainer.step import TrainState

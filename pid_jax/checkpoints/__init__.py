# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trained models on disk, in the native format, Hugging Face's and T5X's.

    pretrained = checkpoints.load('/models/flan-t5-base')
    checkpoints.convert('/models/flan-t5-base', '/tmp/model')

`native` says what a MODEL_DIR holds; `hugging_face` and `t5x` are the other
formats, `names` maps parameters between them, and each opens a checkpoint as a
`LazyCheckpoint`. Nothing here needs TensorFlow, and reading weights never runs
code from a file.
"""

from pid_jax.checkpoints.formats import Pretrained
from pid_jax.checkpoints.formats import abstract_params
from pid_jax.checkpoints.formats import choose_vocabulary
from pid_jax.checkpoints.formats import convert
from pid_jax.checkpoints.formats import load
from pid_jax.checkpoints.formats import load_for_inference
from pid_jax.checkpoints.formats import open_checkpoint
from pid_jax.checkpoints.formats import save
from pid_jax.checkpoints.formats import with_num_tokens
from pid_jax.checkpoints.lazy_checkpoint import LazyCheckpoint
from pid_jax.checkpoints.native import CHECKPOINTS
from pid_jax.checkpoints.native import CONFIG_FILE
from pid_jax.checkpoints.native import PARAMS
from pid_jax.checkpoints.native import VOCABULARY_FILE
from pid_jax.checkpoints.native import check_own
from pid_jax.checkpoints.native import check_saved
from pid_jax.checkpoints.native import checkpoints_path
from pid_jax.checkpoints.native import read_config
from pid_jax.checkpoints.native import read_metrics
from pid_jax.checkpoints.native import resolve_step
from pid_jax.checkpoints.native import steps
from pid_jax.checkpoints.native import with_checksum
from pid_jax.checkpoints.native import write_config
from pid_jax.checkpoints.trees import TreeRestore
from pid_jax.checkpoints.trees import TreeSave

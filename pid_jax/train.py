# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Trains a model as a gin file says, or resumes the last run.

Example:
  python -m pid_jax.train --gin_file=runs/quickstart.gin \
    --gin.MODEL_DIR="'/tmp/model'"

MODEL_DIR receives checkpoints, TensorBoard events and the configuration. The
same command again resumes after the last checkpoint. SIGTERM and Ctrl-C write
one first, and end the command with status 143 and 130.
"""

import argparse

from pid_jax import cli
from pid_jax import errors
from pid_jax import files

# Files that the run files of the package name; '' and None are none.
_FILES = ('TRAIN_FILE', 'VALIDATION_FILE', 'TEST_FILE', 'VOCABULARY')


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before TensorFlow is loaded."""
  text = cli.check_gin(args)
  for name in _FILES:
    value = text.value(name)
    if isinstance(value, str) and value and not files.is_remote(value):
      files.check_regular(value, name)
  initial = text.value('INITIAL_CHECKPOINT_PATH')
  if isinstance(initial, str):
    path = files.path(initial, 'INITIAL_CHECKPOINT_PATH')
    if not files.is_remote(path) and not path.exists():
      raise errors.UserError(f'INITIAL_CHECKPOINT_PATH {path} does not exist')
  model_dir = text.value('MODEL_DIR')
  if isinstance(model_dir, str):
    cli.check_new_folder(model_dir, 'MODEL_DIR')


def main(args: argparse.Namespace) -> None:
  """Reads the gin configuration and calls `pid_jax.trainer.train`."""
  import gin

  from pid_jax import trainer

  cli.parse_gin(args)
  cli.check_configured(trainer.train, 'runs/train_base.gin')
  train = gin.get_configurable(trainer.train)
  train(summarize_config_fn=write_config)


def write_config(model_dir: str, writer, step: int) -> None:
  """Writes the gin configuration to MODEL_DIR/config.gin and TensorBoard."""
  from etils import epath
  import gin
  import jax

  text = gin.config_str()
  if jax.process_index() == 0:
    (epath.Path(model_dir) / 'config.gin').write_text(text)
  writer.write_texts(step, {'config': gin.markdown(text)})


if __name__ == '__main__':
  cli.run(
    main,
    doc=__doc__,
    use_gin=True,
    preload=['seqio'],
    check=check,
    join=True,
    stops_on_preemption=True,
  )

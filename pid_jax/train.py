# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Trains a model as a gin file says, or resumes the last run.

Example:
  python -m pid_jax.train --gin_file=runs/quickstart.gin \
    --gin.MODEL_DIR="'/tmp/model'"

MODEL_DIR receives checkpoints, TensorBoard events and the configuration,
config.gin. The same command again resumes after the last checkpoint. Settings
that differ are named, and refused or kept as config-STEP.gin. SIGTERM and
Ctrl-C write a checkpoint first, and end the command with status 143 and 130.
"""

import argparse
import os

from etils import epath
import gin

from pid_jax import cli
from pid_jax import errors
from pid_jax import files
from pid_jax import gin_text

# Of the run files, and arguments of what they call, that are paths.
_PATHS = (
  *('MODEL_DIR', 'INITIAL_CHECKPOINT_PATH', *cli.GIN_FILES),
  *(f'jsonl.register.{x}' for x in ('train', 'validation', 'test')),
  *('jsonl.register.vocabulary', 'vocabulary.model_file.path'),
  *('trainer.train.model_dir', 'trainer.train.initial_checkpoint_path'),
  'setup.checkpoint_config.path',
)


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before TensorFlow is loaded."""
  text = cli.check_gin(args)
  cli.check_gin_files(text)
  model_dir = text.value('MODEL_DIR')
  if isinstance(model_dir, str):
    files.check_folder(model_dir, 'MODEL_DIR')


def main(args: argparse.Namespace) -> None:
  """Reads the gin configuration and calls `pid_jax.trainer.train`."""
  from pid_jax import trainer

  cli.parse_gin(args)
  make_paths_absolute()
  cli.check_configured(trainer.train, 'runs/train_base.gin')
  train = gin.get_configurable(trainer.train)
  train(summarize_config_fn=write_config)


def make_paths_absolute() -> None:
  """Rebinds all paths of the gin configuration, so that MODEL_DIR/config.gin
  means the same in any folder; '~' is expanded, too.

  Raises:
    UserError: what is given is no path.
  """
  with gin.unlock_config():
    for name in _PATHS:
      key = name if '.' in name else f'{name}/gin.macro.value'
      try:
        value = gin.query_parameter(key)
      except ValueError:  # Nothing binds it.
        continue
      if isinstance(value, str | os.PathLike) and files.is_given(value):
        gin.bind_parameter(key, str(files.absolute(value, name)))


def write_config(model_dir: str, writer, step: int) -> None:
  """Writes the gin configuration to MODEL_DIR and TensorBoard.

  To config.gin if the run is new; to config-STEP.gin if a run goes on with
  another configuration than the one written last.

  Raises:
    UserError: the run is new, but there is a config-STEP.gin.
  """
  import jax

  text = gin.config_str()
  writer.write_texts(step, {'config': gin.markdown(text)})
  if jax.process_index():
    return
  path = epath.Path(model_dir) / 'config.gin'
  last = gin_text.last_config(model_dir)
  if step and last is not None:
    if last.read_text() == text:
      return
    path = path.with_name(f'config-{step}.gin')
  elif last not in (None, path):  # `evaluate` would read it.
    raise errors.UserError(
      f'{last} is of a run that left no checkpoint: remove it to train from '
      'the start in this MODEL_DIR'
    )
  files.write(path, text.encode())


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

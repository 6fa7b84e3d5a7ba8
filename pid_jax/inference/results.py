# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the results of an evaluation go, and how they are shown.

An evaluation writes metrics.json and TASK.jsonl into one folder, whether it
reads a registered task (`trainer.evaluate`) or a file (`evaluate_file`);
viewer/sources.py reads both.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import json
import logging
import re
from typing import Any

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import files
from pid_jax.inference import options as options_lib
from pid_jax.subtasks import metrics

logger = logging.getLogger(__name__)

METRICS_FILE = 'metrics.json'
# Ends of the names of counts, which are shown if they are not 0.
_COUNTS = ('_predictions', '_windows', '_truncated')


def output_folder(
  model_dir: epath.PathLike,
  parts: Sequence[str],
  param_dtype: str,
  options: options_lib.DecodingOptions,
  matmul_precision: str | None = None,
) -> epath.Path:
  """Returns MODEL_DIR/evaluation/NAME; what is not the default is named.

  Args:
    model_dir: of the model.
    parts: of the name: what was evaluated on, the step, and so on.
    param_dtype: of the weights.
    options: of decoding.
    matmul_precision: other than that of training, or None.
  """
  parts = list(parts)
  if param_dtype != 'float32':
    parts.append(param_dtype)
  if matmul_precision is not None:
    parts.append(f'matmul_precision-{matmul_precision}')
  for name, value in options.changed().items():
    parts.append(re.sub(r'[^\w.]+', '-', f'{name}-{value}').strip('-'))
  return files.path(model_dir, 'model_dir') / 'evaluation' / '-'.join(parts)


def check_folder(folder: epath.PathLike) -> epath.Path:
  """Checks that results can be written to a folder, before minutes of work.

  Args:
    folder: need not exist.

  Returns:
    Its path, expanded.

  Raises:
    UserError: it is a file, or may not be written to.
  """
  try:
    return files.check_folder(folder, 'the output folder')
  except errors.UserError as e:
    raise errors.UserError(f'{e}; choose another folder with --output') from e


def write(
  folder: epath.PathLike,
  values: Mapping[str, float],
  *,
  options: options_lib.DecodingOptions,
  **facts: Any,
) -> None:
  """Writes metrics.json.

  Args:
    folder: made if it does not exist.
    values: 'TASK/METRIC' -> value.
    options: of decoding.
    **facts: further values for JSON: `step`, `split`, `task` and so on.

  Raises:
    UserError: the file cannot be written.
  """
  folder = epath.Path(folder)
  content = {
    **facts,
    'decoding': {k: str(v) for k, v in options.changed().items()},
    'metrics': dict(values),
  }
  make_folder(folder)
  text = json.dumps(content, indent=2) + '\n'
  files.write(folder / METRICS_FILE, text.encode())


def warn_of_rewritten(task: str, pairs: Iterable[tuple[str, str]]) -> None:
  """Says how many targets are compared as the vocabulary writes them.

  Args:
    task: its name.
    pairs: of targets and what the vocabulary writes, equal ones among them.
  """
  differ = [
    (old, new) for old, new in pairs if not metrics.is_right([old], new)
  ]
  if differ:
    old, new = differ[0]
    logger.warning(
      '%s: %s targets are compared as the vocabulary writes them, such as %s '
      'for %s',
      *(task, f'{len(differ):,}', checks.shown(new), checks.shown(old)),
    )


def make_folder(folder: epath.Path) -> None:
  """Makes a folder for results; UserError if that fails."""
  with files.explained(f'cannot make the folder {folder}'):
    folder.mkdir(parents=True, exist_ok=True)


def table(values: Mapping[str, float]) -> str:
  """Formats metrics in two columns.

  Args:
    values: 'TASK/METRIC' -> value. Counts of what went wrong, such as of
      missing predictions, come last, and only those that are not 0.
  """
  is_count = lambda name: name.endswith(_COUNTS)
  rows = [
    (name, f'{x:.0f}' if x.is_integer() and abs(x) > 1 else f'{x:.4f}')
    for name, x in values.items()
    if not is_count(name)
  ]
  rows += [(k, f'{x:.0f}') for k, x in values.items() if is_count(k) and x]
  width = max((len(name) for name, _ in rows), default=0)
  return '\n'.join(f'{name:<{width}}  {shown}' for name, shown in rows)

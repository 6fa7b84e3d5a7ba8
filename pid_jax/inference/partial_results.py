# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Results of a long job, stored batch by batch by each process.

    OUTPUT.parts/job.json             what the job is
    OUTPUT.parts/FIRST-PROCESS.npz    results of some batches, FIRST the first

A stopped job resumes with the batches that no file holds, on any number of
processes: each computes its share of them, and reads those of the others when
all have finished. A job with other inputs, options or model starts from the
beginning.
"""

from collections.abc import Mapping
import io
import json
import logging
import time

from etils import epath
import numpy as np

from pid_jax import distributed
from pid_jax import errors
from pid_jax import files

Arrays = tuple[np.ndarray, ...]

logger = logging.getLogger('pid_jax.inference')

_JOB = 'job.json'
_SUFFIX = '.npz'


class PartialResults:
  """The folder of a job's results, shared by its processes."""

  def __init__(
    self,
    folder: epath.PathLike,
    job: Mapping[str, str],
    seconds_between_writes: float = 30.0,
    seconds_to_appear: float = 90.0,
  ):
    """Opens the folder, or makes it; all processes must do so.

    Args:
      folder: beside the output; local, or gs://.
      job: what results depend on.
      seconds_between_writes: results of at most this time can be lost.
      seconds_to_appear: time within which files of other processes must be
        visible.
    """
    self._folder = epath.Path(folder)
    self._seconds = seconds_between_writes
    self._patience = seconds_to_appear
    self._pending: dict[int, Arrays] = {}
    self._written_at = time.monotonic()
    if distributed.process_index() == 0:
      self._prepare(json.dumps(dict(job), indent=2, sort_keys=True) + '\n')
    distributed.barrier('partial_results')
    self.known = self._read()
    if self.known and distributed.process_index() == 0:
      logger.info('%s: resumes with the remaining batches', self._folder)
    # All must have read it before one adds to it: they share what is left.
    distributed.barrier('partial_results')

  def _prepare(self, job: str) -> None:
    path = self._folder / _JOB
    if self._folder.is_dir():
      if path.exists() and path.read_text() == job:
        return
      logger.info(
        '%s is of another job: starts from the beginning', self._folder
      )
      self._folder.rmtree()
    self._folder.mkdir()
    files.write(path, job.encode())

  def add(self, number: int, results: Arrays) -> None:
    """Keeps the results of a batch; writes them now and then."""
    self._pending[number] = results
    if time.monotonic() - self._written_at >= self._seconds:
      self.write()

  def write(self) -> None:
    """Writes the results that are not written yet."""
    if self._pending:
      content = io.BytesIO()
      arrays = {
        f'{number}/{i}': array
        for number, results in self._pending.items()
        for i, array in enumerate(results)
      }
      np.savez(content, **arrays)
      name = f'{min(self._pending):08d}-{distributed.process_index()}{_SUFFIX}'
      files.write(self._folder / name, content.getvalue())
    self._pending = {}
    self._written_at = time.monotonic()

  def gather(self, num_batches: int) -> dict[int, Arrays]:
    """Waits until all processes have written, and returns all results.

    Args:
      num_batches: of the job.

    Raises:
      UserError: what another process has written is not here.
    """
    distributed.barrier('predicted')
    end = time.monotonic() + self._patience
    while len(self._read()) < num_batches:
      if time.monotonic() > end:
        raise errors.UserError(
          f'{self._folder} lacks results that other hosts have written: the '
          'output must be on a file system that all hosts share.'
        )
      time.sleep(1.0)
    return self._read()

  def remove(self) -> None:
    """Deletes the folder, when all processes are done with it."""
    distributed.barrier('partial_results')
    if distributed.process_index() == 0:
      self._folder.rmtree()

  def _read(self) -> dict[int, Arrays]:
    results: dict[int, dict[int, np.ndarray]] = {}
    for path in self._folder.iterdir():
      if path.name.endswith(_SUFFIX):
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
          for name, array in arrays.items():
            number, i = map(int, name.split('/'))
            results.setdefault(number, {})[i] = array
    return {
      number: tuple(arrays[i] for i in sorted(arrays))
      for number, arrays in results.items()
    }

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Results of a long job, stored batch by batch by each process.

    OUTPUT.parts/pid_jax_scratch.json   whose the folder is, see `scratch`
    OUTPUT.parts/job.json               what the job is
    OUTPUT.parts/FIRST-PROCESS.npz      results of some batches, FIRST the first

A stopped job resumes with the batches that no file holds, on any number of
processes: each computes its share of them, and reads those of the others when
all have finished. A job with other inputs, options or model starts from the
beginning. Two runs of one job at a time are refused.
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
from pid_jax import scratch

Arrays = tuple[np.ndarray, ...]

logger = logging.getLogger('pid_jax.inference')

_JOB = 'job.json'
_SUFFIX = '.npz'


class PartialResults:
  """A context that has the folder of a job's results, for all its processes."""

  def __init__(
    self,
    output: epath.PathLike,
    seconds_between_writes: float = 30.0,
    seconds_to_appear: float = 90.0,
  ):
    """Creates nothing yet.

    Args:
      output: of the job; local, or gs://. The folder is beside it.
      seconds_between_writes: results of at most this time can be lost.
      seconds_to_appear: time within which files of other processes must be
        visible.

    Raises:
      UserError: the folder belongs to another program, or is in use.
    """
    self._scratch = scratch.ScratchFolder(
      output,
      '.parts',
      r'job\.json|\d+-\d+\.npz',
      'output',
      enabled=distributed.process_index() == 0,
    )
    self._folder = self._scratch.path
    self._seconds = seconds_between_writes
    self._patience = seconds_to_appear
    self._pending: dict[int, Arrays] = {}
    self._written_at = time.monotonic()
    self._scratch.check()

  def __enter__(self) -> 'PartialResults':
    self._scratch.__enter__()
    return self

  def __exit__(self, *error) -> None:
    """Keeps results that are there for the next run, and no empty folder."""
    try:
      if error[0] is not None and distributed.process_index() == 0:
        if not list(self._folder.glob(f'*{_SUFFIX}')):
          self._scratch.remove()
    finally:
      self._scratch.__exit__(*error)

  def open(self, job: Mapping[str, str]) -> None:
    """Reads the results that there are; all processes must do so.

    Args:
      job: what results depend on; those of another one are deleted.
    """
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
    if path.exists():
      if path.read_bytes() == job.encode():
        return
      logger.info(
        '%s is of another job: starts from the beginning', self._folder
      )
    self._scratch.clear()
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
      self._scratch.check_held()
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
    while len(results := self._read()) < num_batches:
      if time.monotonic() > end:
        raise errors.UserError(
          f'{self._folder} lacks results that other hosts have written: the '
          'output must be on a file system that all hosts share.'
        )
      time.sleep(1.0)
    return results

  def remove(self) -> None:
    """Deletes the folder, when all processes are done with it."""
    distributed.barrier('partial_results')
    self._scratch.remove()

  def _read(self) -> dict[int, Arrays]:
    results: dict[int, dict[int, np.ndarray]] = {}
    for path in self._folder.iterdir():
      if path.name.endswith(_SUFFIX):
        content = files.read_bytes(path, 'the partial results')
        try:
          with np.load(io.BytesIO(content)) as arrays:
            for name in arrays:
              number, i = map(int, name.split('/'))
              results.setdefault(number, {})[i] = arrays[name]
        except Exception as e:  # zipfile and NumPy raise many kinds.
          raise errors.UserError(
            f'{path} is damaged ({e}): delete it, and run the same command '
            'again.'
          ) from e
    return {
      number: tuple(arrays[i] for i in sorted(arrays))
      for number, arrays in results.items()
    }

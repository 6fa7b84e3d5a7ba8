# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs builders, and formats their reports for the command `data`."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import io
import itertools
import textwrap

from etils import epath
import seqio
import tensorflow_datasets as tfds

from pid_jax import errors
from pid_jax import files
from pid_jax import scratch
from pid_jax.tasks import builder as builder_lib
from pid_jax.tasks import prepared

_WIDTH = 80
_MAX_NAMED = 3  # Skipped records to name, per reason.


def prepare_and_report(
  task: seqio.Task,
  manual_dir: epath.PathLike | None = None,
  *,
  overwrite: bool = False,
) -> Iterator[str]:
  """Prepares the data of a task, and yields text for the user.

  Args:
    task: any task; one without a builder needs no preparation.
    manual_dir: see `prepare`.
    overwrite: see `prepare`.
  """
  builder = getattr(task.source, 'builder', None)
  if builder is None:
    yield f'{task.name} needs no preparation\n'
    return
  if not prepare(builder, manual_dir, overwrite=overwrite):
    yield f'{builder.name} is already prepared; --overwrite prepares it again'
  yield report(builder) + '\n'


def prepare(
  builder: type[builder_lib.Builder],
  manual_dir: epath.PathLike | None = None,
  *,
  overwrite: bool = False,
) -> bool:
  """Prepares a data set in prepared.data_dir(), unless it is prepared.

  Args:
    builder: of the data set.
    manual_dir: folder of the distributor's files; None downloads them, if
      possible.
    overwrite: prepare it again. The old data is kept until that has succeeded.

  Returns:
    Whether the data was prepared in this call.

  Raises:
    UserError: files are missing or invalid.
  """
  if manual_dir is not None:
    manual_dir = files.absolute(manual_dir, '--manual_dir')
    if not manual_dir.is_dir():
      what = 'is not a folder' if manual_dir.exists() else 'is missing'
      raise errors.UserError(
        f"--manual_dir={manual_dir} {what}; it must be the distributor's "
        f'folder of {builder.name}'
      )
  data_dir = files.absolute(prepared.data_dir(), 'the folder of prepared data')
  made = builder(data_dir=data_dir)
  with files.explained(f'cannot prepare {builder.name} in {data_dir}'):
    target = made.data_path
    work = scratch.ScratchFolder(
      target, '.incomplete', 'new|old', 'TFDS_DATA_DIR'
    )
    if work.path.exists():
      with work:
        _recover(work, target)
        work.remove()
    if builder(data_dir=data_dir).is_prepared() and not overwrite:
      return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with work:
      try:
        new = builder(data_dir=work.path / 'new')
        with _silence():
          new.download_and_prepare(
            download_dir=data_dir / 'downloads',
            download_config=tfds.download.DownloadConfig(
              manual_dir=manual_dir,
              compute_stats=tfds.download.ComputeStatsMode.SKIP,
              try_download_gcs=False,
            ),
          )
        if target.exists():
          target.rename(work.path / 'old')
        new.data_path.rename(target)
      finally:
        _recover(work, target)
        work.remove()
  return True


def _recover(work: scratch.ScratchFolder, target: epath.Path) -> None:
  """Puts the old data back, unless the new data is in its place."""
  if (work.path / 'old').exists() and not target.exists():
    (work.path / 'old').rename(target)


def report(builder: type[builder_lib.Builder]) -> str:
  """Formats what was read, missing and skipped, beside the published counts.

  Args:
    builder: of a prepared data set.

  Returns:
    Lines of text, at most 80 columns wide.
  """
  made = builder(data_dir=prepared.data_dir())
  splits = made.info.metadata['splits']
  names = [s for s in builder.FILES if s in splits]
  return '\n'.join(
    [
      f'{made.name} {made.version}, prepared in {made.data_dir}',
      f'from {made.info.metadata["folder"]}',
      *_wrapped(f'licence: {builder.LICENCE}'),
      '',
      *_counts(builder, splits, names),
      *_missing(splits, names),
      *_skipped(splits, names),
    ]
  )


def _counts(
  builder: type[builder_lib.Builder], splits: dict, names: Sequence[str]
) -> Iterator[str]:
  counts = {split: splits[split]['counts'] for split in names}
  published = {split: builder.PUBLISHED.get(split, {}) for split in names}
  units = dict.fromkeys(
    unit
    for found in itertools.chain(published.values(), counts.values())
    for unit in found
  )
  width = 12
  row = lambda label, cells: (
    f'{label:<{_WIDTH - width * len(names)}}'
    + ''.join(f'{cell:>{width}}' for cell in cells)
  )
  text = lambda n: '-' if n is None else f'{n:,}'
  differing = []
  yield row('', names)
  for unit in units:
    yield row(unit, [text(counts[s].get(unit)) for s in names])
    if any(unit in published[s] for s in names):
      yield row('  published', [text(published[s].get(unit)) for s in names])
    for split in names:
      expected, found = published[split].get(unit), counts[split].get(unit, 0)
      if expected is not None and counts[split] and found != expected:
        comparison = 'more' if found > expected else 'fewer'
        differing.append(
          f'{split} has {abs(found - expected):,} {comparison} {unit} than '
          'were published'
        )
  for line in differing:
    yield from _wrapped(f'! {line}')


def _missing(splits: dict, names: Sequence[str]) -> Iterator[str]:
  missing = [(f, s) for s in names for f in splits[s]['missing']]
  yield ''
  if not missing:
    yield 'no files were missing'
  for split in names:
    lacking = splits[split]['missing']
    if not lacking:
      continue
    result = '' if splits[split]['counts'] else '; the split was not prepared'
    named = ', '.join(lacking[:4]) + (', ...' if len(lacking) > 4 else '')
    yield from _wrapped(f'! {len(lacking)} missing of {split}: {named}{result}')


def _skipped(splits: dict, names: Sequence[str]) -> Iterator[str]:
  by_reason = {}
  for split in names:
    for skipped in splits[split]['skipped']:
      by_reason.setdefault((split, skipped['why']), []).append(
        f'{skipped["record"]} of {skipped["file"]}'
      )
  if not by_reason:
    yield 'no records were skipped'
  for (split, why), records in by_reason.items():
    named = ', '.join(records[:_MAX_NAMED])
    more = ', ...' if len(records) > _MAX_NAMED else ''
    yield from _wrapped(
      f'! {len(records):,} skipped of {split} ({why}): {named}{more}'
    )


def _wrapped(text: str) -> list[str]:
  return textwrap.wrap(text, _WIDTH, subsequent_indent='  ')


@contextlib.contextmanager
def _silence() -> Iterator[None]:
  """Suppresses the progress bars and messages of tfds."""
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()

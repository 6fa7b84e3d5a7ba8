# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Base class of the tfds builders, which read the distributor's files.

A builder turns the distributor's files into records with all useful
information, in the distributor's order. Records become examples of a task when
they are read (prepared.py), so that other prompts need no second preparation.

The files come from `manual_dir` (the distributor's repository, or an unpacked
archive), or are downloaded from public URLs. Missing files are skipped and
reported. The metadata of the DatasetInfo has
  folder   str, of the files
  splits   by split: `counts`, `missing` and `skipped` of records.ReadReport
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import os
import sys
from typing import Any, ClassVar

from etils import epath
import tensorflow_datasets as tfds

from pid_jax import errors
from pid_jax.subtasks import tf_devices
from pid_jax.tasks import records
from pid_jax.tasks import web

tf_devices.hide_gpus()

_MAX_FOLDERS = 100  # To search, of the direct children of `manual_dir`.


class Files(dict[str, records.Path]):
  """File name (of FILES and NEEDED) -> path of an existing file."""

  def __init__(self, found: Mapping[str, records.Path], folder: str):
    super().__init__(found)
    self._folder = folder

  def __missing__(self, name: str) -> records.Path:
    raise errors.UserError(
      f'{name} is missing in {self._folder}, and the other files cannot be '
      'read without it'
    )


class _Info(tfds.core.DatasetInfo):
  """Does not search tfds's public bucket, which has none of these data sets."""

  def initialize_from_bucket(self) -> None:
    """Does nothing; tfds would leave a temporary folder behind each time."""


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base class of a data set's builder.

  A subclass describes the published files in class attributes, and reads them:

    class Todsum(builder.Builder):
      ...
      def read(self, split, files, report):
        for name in self.FILES[split]:
          if name not in files: continue
          for dialogue in records.read_json(files[name]):
            with report.reading(files[name], dialogue['dialog_id']):
              record = {...}
            report.count('dialogues')
            yield dialogue['dialog_id'], record

  Attributes:
    MANUAL_DOWNLOAD_INSTRUCTIONS: how a user gets the files.
    DESCRIPTION: of the data set.
    HOMEPAGE: its URL.
    LICENCE: of the data.
    CITATION: BibTeX.
    FILES: by split, the names of its files, relative to their folder. A split
      is prepared from those that exist, if any.
    NEEDED: by split, further files that are required to read its files.
    FOLDERS: paths of that folder in the distributor's repository or archive.
    ARCHIVES: names of zip files in the repository with the files; they are read
      without unpacking.
    URLS: by name (of FILES, NEEDED or ARCHIVES), where to download the file;
      known checksums are in checksums.tsv beside the module of the builder.
    PUBLISHED: by split, counts of the distributor or the paper, in the units of
      `report.count`: {'test': {'dialogues': 999}}.
  """

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS: ClassVar[str] = ''

  DESCRIPTION: ClassVar[str] = ''
  HOMEPAGE: ClassVar[str] = ''
  LICENCE: ClassVar[str] = ''
  CITATION: ClassVar[str] = ''
  FILES: ClassVar[Mapping[str, Sequence[str]]] = {}
  NEEDED: ClassVar[Mapping[str, Sequence[str]]] = {}
  FOLDERS: ClassVar[Sequence[str]] = ()
  ARCHIVES: ClassVar[Sequence[str]] = ()
  URLS: ClassVar[Mapping[str, str]] = {}
  PUBLISHED: ClassVar[Mapping[str, Mapping[str, int]]] = {}

  def __init_subclass__(cls, **kwargs: Any):
    super().__init_subclass__(**kwargs)
    # tfds would search below the folder of the package, where `tasks` is only
    # after an installation from a wheel.
    if cls.code_path is not None:
      cls.pkg_dir_path = cls.code_path.parent

  @tfds.core.utils.classproperty
  @classmethod
  def code_path(cls) -> epath.Path | None:
    """The file of the builder; tfds expects checksums.tsv beside it."""
    file = getattr(sys.modules[cls.__module__], '__file__', None)
    return file and epath.Path(file)

  @abc.abstractmethod
  def features(self) -> Mapping[str, Any]:
    """Returns the features of a record, as tfds.features.FeaturesDict takes."""

  @abc.abstractmethod
  def read(
    self, split: str, files: Files, report: records.ReadReport
  ) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Reads the records of a split.

    Args:
      split: a key of FILES.
      files: the existing files of the split.
      report: for counts, skipped records and errors.

    Yields:
      A key, unique in the split and independent of local paths, and the record.
    """

  def _info(self) -> tfds.core.DatasetInfo:
    return _Info(
      builder=self,
      description=self.DESCRIPTION,
      features=tfds.features.FeaturesDict(dict(self.features())),
      supervised_keys=None,
      homepage=self.HOMEPAGE,
      license=self.LICENCE,
      citation=self.CITATION,
      disable_shuffling=True,  # Keeps the distributor's order.
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, Mapping[str, Any]]]]:
    folder, found = self._find(dl_manager)
    self.info.metadata.clear()
    self.info.metadata.update(folder=folder, splits={})
    generators = {}
    for split, names in self.FILES.items():
      expected = [*names, *self.NEEDED.get(split, ())]
      missing = [name for name in expected if name not in found]
      report = records.ReadReport(missing=missing)
      if any(name in found for name in names):
        files = Files({n: found[n] for n in expected if n in found}, folder)
        for name in self.NEEDED.get(split, ()):
          _ = files[name]
        generators[split] = self._generate_examples(split, files, report)
      else:
        self._store(split, report)
    return generators

  def _generate_examples(
    self, split: str, files: Files, report: records.ReadReport
  ) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen = set()
    for key, record in self.read(split, files, report):
      if key in seen:
        raise errors.UserError(
          f'{key} occurs twice in the split {split} of '
          f'{self.info.metadata["folder"]}'
        )
      seen.add(key)
      yield key, record
    if not seen:
      raise errors.UserError(
        f'no record of the split {split} in {self.info.metadata["folder"]}: '
        f'{len(report.skipped)} were skipped; is {", ".join(files)} complete?'
      )
    self._store(split, report)

  def _store(self, split: str, report: records.ReadReport) -> None:
    self.info.metadata['splits'][split] = dataclasses.asdict(report)

  def _find(
    self, dl_manager: tfds.download.DownloadManager
  ) -> tuple[str, dict[str, records.Path]]:
    """Returns the folder of the files, and the files by their names."""
    try:
      manual_dir = epath.Path(dl_manager.manual_dir)
    except (AssertionError, OSError):  # It is missing or empty.
      manual_dir = None
    if manual_dir is not None:
      folder, found = self._look_in(_folders(manual_dir, self.FOLDERS))
      if found:
        return folder, found
      default = epath.Path(dl_manager.download_dir) / 'manual'
      if manual_dir != default or not self.URLS:
        raise self._nothing_found(f'none of its files is in {manual_dir}')
    if not self.URLS:
      raise self._nothing_found('its files cannot be downloaded automatically')
    return self._download(dl_manager)

  def _download(
    self, dl_manager: tfds.download.DownloadManager
  ) -> tuple[str, dict[str, records.Path]]:
    try:
      web.fetch(next(iter(self.URLS.values())), num_bytes=1)
      paths = dl_manager.download(dict(self.URLS))
    except Exception as e:  # pylint: disable=broad-except
      # Any error of requests, urllib or tfds: the URL is unreachable.
      raise self._nothing_found(f'downloading failed ({e})') from e
    found = {k: epath.Path(v) for k, v in paths.items()}
    for name in self.ARCHIVES:
      if name in found:
        archive = records.open_archive(found.pop(name))
        found.update(self._look_in(_folders(archive, self.FOLDERS))[1])
    return os.fspath(dl_manager.download_dir), found

  def _look_in(
    self, folders: Iterable[records.Path]
  ) -> tuple[str, dict[str, records.Path]]:
    """Returns the folder with most of the files, else the first archive."""
    names = {
      name
      for names in itertools.chain(self.FILES.values(), self.NEEDED.values())
      for name in names
    }
    folders = list(folders)
    best = {}, ''
    for folder in folders:
      found = {n: folder / n for n in names if (folder / n).exists()}
      if len(found) > len(best[0]):
        best = found, str(folder)
    if best[0]:
      return best[1], best[0]
    for folder, name in itertools.product(folders, self.ARCHIVES):
      if (folder / name).exists():
        archive = records.open_archive(folder / name)
        _, found = self._look_in(_folders(archive, self.FOLDERS))
        if found:
          return str(folder / name), found
    return '', {}

  def _nothing_found(self, what: str) -> errors.UserError:
    names = [name for names in self.FILES.values() for name in names]
    shown = ', '.join([*self.ARCHIVES, *sorted(set(names))][:4])
    steps = ' '.join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    return errors.UserError(
      f'no data for {self.name}: {what}. Expected: {shown}, ... {steps}'
    )


def _folders(
  root: records.Path, inside: Sequence[str]
) -> Iterator[records.Path]:
  """Yields folders to search: in `root`, and in each of its subfolders."""
  roots = [root]
  children = sorted((p for p in root.iterdir() if p.is_dir()), key=str)
  roots.extend(children[:_MAX_FOLDERS])
  for root in roots:
    yield root
    for folder in inside:
      yield root / folder

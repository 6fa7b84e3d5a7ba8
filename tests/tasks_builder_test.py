# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The base class of builders: files, counts and errors; and the data source."""

import json
import pickle
import zipfile

from etils import epath
import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds
from toys import tasks_data

from pid_jax import errors
from pid_jax import scratch
from pid_jax.tasks import builder
from pid_jax.tasks import preparation
from pid_jax.tasks import prepared
from pid_jax.tasks import records
from pid_jax.tasks import web


class Letters(builder.Builder, skip_registration=True):
  """Lists of words, and a file that says which of them are letters."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Write them
  down.
  """
  LICENCE = 'Yours.'
  FILES = {'train': ('a.json', 'sub/b.json'), 'test': ('c.json',)}
  NEEDED = {'test': ('letters.txt',)}
  FOLDERS = ('data', 'data/v1')
  ARCHIVES = ('letters.zip',)
  PUBLISHED = {'train': {'words': 3}, 'test': {'words': 2}}

  def features(self):
    text = tfds.features.Text()
    lists = tfds.features.Sequence(tfds.features.Sequence(text))
    return {
      'word': text,
      'nested': lists,
      'size': tfds.features.Scalar(np.int32),
    }

  def read(self, split, files, report):
    for name in self.FILES[split]:
      if name not in files:
        continue
      for number, word in enumerate(records.read_json(files[name])):
        with report.reading(files[name], f'word {number}'):
          record = {'word': word['w'], 'nested': [['x'], []], 'size': 1}
        if split == 'test' and word['w'] not in records.read_lines(
          files['letters.txt']
        ):
          report.skip(files[name], f'word {number}', 'no letter')
          continue
        report.count('words')
        yield word['w'], record


class Downloaded(Letters, skip_registration=True):
  URLS = {'letters.zip': 'https://letters.invalid/letters.zip'}


_SPLITS = {
  'aci_bench': dict(train=3, validation=1, test1=1, test2=1, test3=1),
  'multiwoz24': dict(train=2, validation=2, test=2),
  'radqa': dict(train=3, validation=1, test=1),
  'schema_guided': dict(train=3, validation=2, test=1),
  'squad_v2': dict(train=1, validation=1),
  'todsum': dict(train=2, validation=3, test=2),
}


@pytest.mark.parametrize(
  'builder_class', tasks_data.FOLDERS, ids=lambda cls: cls.name
)
def test_builders_of_the_tasks(builder_class):
  with tasks_data.prepared(builder_class) as folder:
    made = tfds.builder(builder_class.name, data_dir=folder)
    assert type(made) is builder_class
    sizes = {
      name: split.num_examples for name, split in made.info.splits.items()
    }
    assert sizes == _SPLITS[made.name]
    for text in (made.info.description, made.info.homepage, made.info.citation):
      assert text.strip()
    # Downloads have checksums; that of MultiWOZ 2.4 is unknown.
    if made.name != 'multiwoz24':
      assert set(builder_class.URLS.values()) <= set(made.url_infos or ())
    # The data can be read without this package.
    alone = tfds.builder_from_directory(made.data_dir)
    (split, *_) = sizes
    assert len(list(alone.as_dataset(split=split))) == sizes[split]


def _words(*words):
  return json.dumps([{'w': w} for w in words])


ALL = {
  'a.json': _words('one', 'two'),
  'sub/b.json': _words('three'),
  'c.json': _words('x', 'word', 'z'),
  'letters.txt': '\ufeffx\n\n y\nz \n',
}


def _write(folder, files=ALL):
  for name, content in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
      content if isinstance(content, bytes) else content.encode()
    )
  return folder


@pytest.fixture(autouse=True)
def data_dir(tmp_path):
  seqio.set_tfds_data_dir_override(str(tmp_path / 'prepared'))
  yield tmp_path / 'prepared'
  seqio.set_tfds_data_dir_override(None)


def _read(split, cls=Letters):
  return [r['word'] for r in prepared.records('letters_task', cls, split)]


@pytest.mark.parametrize('where', ['.', 'data', 'data/v1', 'letters-main/data'])
def test_files_are_found_in_usual_folders(tmp_path, where):
  _write(tmp_path / 'got' / where)
  assert preparation.prepare(Letters, tmp_path / 'got')
  assert _read('train') == ['one', 'two', 'three']  # In the files' order.
  assert _read('test') == ['x', 'z']
  assert not preparation.prepare(Letters)  # It is already prepared.


def test_what_a_killed_preparation_left(tmp_path, data_dir, monkeypatch):
  """Old data that was moved away comes back, the rest is deleted."""
  folder = _write(tmp_path / 'got')
  preparation.prepare(Letters, folder)
  before = sorted(p.name for p in data_dir.rglob('*'))
  target = data_dir / 'letters' / '1.0.0'

  def kill(self, *unused_args, **unused_kwargs):
    (epath.Path(self._data_dir_root) / 'letters').mkdir(parents=True)
    raise KeyboardInterrupt

  for moved in (False, True):
    with monkeypatch.context() as patch:
      patch.setattr(Letters, 'download_and_prepare', kill)
      # As a kill: nothing is put back or removed.
      patch.setattr(preparation, '_recover', lambda *unused: None)
      patch.setattr(scratch.ScratchFolder, 'remove', lambda self: None)
      with pytest.raises(KeyboardInterrupt):
        preparation.prepare(Letters, folder, overwrite=True)
    left = data_dir / 'letters' / '1.0.0.incomplete'
    assert (left / 'new').exists()
    if moved:
      target.rename(left / 'old')
    assert not preparation.prepare(Letters)
    assert sorted(p.name for p in data_dir.rglob('*')) == before
    assert _read('train') == ['one', 'two', 'three']
  # Two at a time, and a folder of somebody else's.
  work = scratch.ScratchFolder(target, '.incomplete', 'new|old', 'x')
  with work, pytest.raises(errors.UserError, match='in use by another run'):
    preparation.prepare(Letters, folder, overwrite=True)
  left.mkdir()
  (left / 'new').write_text('theirs')
  with pytest.raises(errors.UserError, match='not from pid_jax'):
    preparation.prepare(Letters, folder, overwrite=True)
  assert (left / 'new').read_text() == 'theirs'
  assert _read('test') == ['x', 'z']


@pytest.mark.parametrize('inside', ['', 'LETTERS/'])
def test_an_archive_is_read_without_unpacking(tmp_path, inside):
  path = tmp_path / 'got/data/letters.zip'
  path.parent.mkdir(parents=True)
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in ALL.items():
      archive.writestr(inside + name, content)
  preparation.prepare(Letters, tmp_path / 'got')
  assert _read('train') == ['one', 'two', 'three']
  assert not list(tmp_path.rglob('a.json'))

  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(errors.UserError, match='archive .*letters.zip'):
    preparation.prepare(Letters, tmp_path / 'got', overwrite=True)
  assert _read('train') == ['one', 'two', 'three']  # As it was.
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(inside + 'a.json', '[')
  with pytest.raises(errors.UserError, match='letters.zip/.*a.json: malformed'):
    preparation.prepare(Letters, tmp_path / 'got', overwrite=True)


def test_nested_values_come_back_as_plain_python(tmp_path):
  preparation.prepare(Letters, _write(tmp_path / 'got'))
  (first, *_) = prepared.records('letters_task', Letters, 'train')
  assert first == {'word': 'one', 'nested': [['x'], []], 'size': 1}


def test_missing_files_are_skipped_and_reported(tmp_path):
  folder = _write(tmp_path / 'got', {'a.json': ALL['a.json']})
  preparation.prepare(Letters, folder)
  assert _read('train') == ['one', 'two']
  text = preparation.report(Letters)
  for part in (f'{tmp_path}/prepared/letters/1.0.0', str(folder), 'Yours.'):
    assert part in text
  assert [line.split() for line in text.splitlines()[4:7]] == [
    ['train', 'test'],
    ['words', '2', '-'],
    ['published', '3', '2'],
  ]
  marked = [line for line in text.splitlines() if line.startswith('! ')]
  for line, parts in zip(
    marked,
    [
      ('train', '1 fewer words'),
      ('1 missing of train', 'sub/b.json'),
      ('2 missing of test', 'c.json', 'letters.txt'),
    ],
    strict=True,
  ):
    assert all(part in line for part in parts)
  with pytest.raises(
    errors.UserError,
    match='letters_task .* split test, .*got lacked c.json, letters.txt: '
    '.*data prepare letters_task --manual_dir=DIR --overwrite',
  ):
    _read('test')

  _write(folder, {'c.json': ALL['c.json']})
  with pytest.raises(errors.UserError, match='letters.txt is missing in .*got'):
    preparation.prepare(Letters, folder, overwrite=True)
  assert _read('train') == ['one', 'two']

  _write(folder)
  assert preparation.prepare(Letters, folder, overwrite=True)
  text = preparation.report(Letters)
  assert [line.split() for line in text.splitlines()[4:7]] == [
    ['train', 'test'],
    ['words', '3', '2'],
    ['published', '3', '2'],
  ]
  (marked,) = [line for line in text.splitlines() if line.startswith('! ')]
  for part in ('1 skipped of test', 'no letter', 'word 1 of c.json'):
    assert part in marked


def test_without_files(tmp_path):
  with pytest.raises(
    errors.UserError,
    match='letters.zip, a.json, c.json, sub/b.json, .* Write them down.',
  ):
    preparation.prepare(Letters)
  (tmp_path / 'got').mkdir()
  for folder in (tmp_path / 'got', _write(tmp_path / 'got', {'x': 'y'})):
    with pytest.raises(errors.UserError, match='no data for letters: '):
      preparation.prepare(Letters, folder)
  with pytest.raises(errors.UserError, match='/gone is missing'):
    preparation.prepare(Letters, tmp_path / 'gone')
  with pytest.raises(errors.UserError, match='got/x is not a folder'):
    preparation.prepare(Letters, tmp_path / 'got/x')
  with pytest.raises(
    errors.UserError,
    match='not prepared in .*/prepared: .*data prepare letters_task .*'
    'TFDS_DATA_DIR',
  ):
    _read('train')


def test_downloading(tmp_path, monkeypatch):
  def download(manager, urls):
    assert urls == Downloaded.URLS
    path = tmp_path / 'some_name'
    with zipfile.ZipFile(path, 'w') as archive:
      for name, content in ALL.items():
        archive.writestr('data/' + name, content)
    return {name: path for name in urls}

  asked = []
  monkeypatch.setattr(web, 'fetch', lambda *a, **kw: asked.append((a, kw)))
  monkeypatch.setattr(tfds.download.DownloadManager, 'download', download)
  assert preparation.prepare(Downloaded)
  assert _read('train', Downloaded) == ['one', 'two', 'three']
  # Whether anything answers is asked first, since tfds takes minutes for that.
  assert asked == [((Downloaded.URLS['letters.zip'],), {'num_bytes': 1})]

  def fail(*args, **kwargs):
    raise ConnectionError('no route')

  monkeypatch.setattr(tfds.download.DownloadManager, 'download', fail)
  with pytest.raises(errors.UserError, match=r'downloading failed \(no route'):
    preparation.prepare(Downloaded, overwrite=True)
  monkeypatch.setattr(web, 'fetch', fail)
  monkeypatch.delattr(tfds.download.DownloadManager, 'download')
  with pytest.raises(errors.UserError, match=r'downloading failed \(no route'):
    preparation.prepare(Downloaded, overwrite=True)
  # Files that a user names are not passed over for others.
  with pytest.raises(errors.UserError, match='none of its files is in'):
    (tmp_path / 'empty').mkdir()
    _write(tmp_path / 'empty', {'x': ''})
    preparation.prepare(Downloaded, tmp_path / 'empty', overwrite=True)


@pytest.mark.parametrize(
  'content, message',
  [
    (b'[{"w": "\xff"}]', r'a.json: byte 9 is not UTF-8'),
    ('version https://git-lfs.github.com/spec/v1\noid x', 'Git LFS'),
    ('[{"w": "x"}, {"v": "y"}]', "a.json, word 1: lacks 'w'"),
    ('[{"w": "x"}, 3]', 'a.json, word 1: .*TypeError'),
    ('[' * 10**5, 'a.json: malformed JSON: brackets'),
    ('[{"w": "x"}, {"w": "x"}]', 'x occurs twice in the split train of .*got'),
  ],
)
def test_wrong_files(tmp_path, content, message):
  folder = _write(tmp_path / 'got', {'a.json': content})
  with pytest.raises(errors.UserError, match=message) as error:
    preparation.prepare(Letters, folder)
  assert '\n' not in str(error.value)
  left = list((tmp_path / 'prepared').rglob('*'))
  assert not [p for p in left if p.is_file() or 'incomplete' in p.name]


def test_csv(tmp_path):
  path = tmp_path / 'a.csv'
  read = lambda text: (
    path.write_bytes(text.encode()),
    list(records.read_csv(path, ['id', 'note'])),
  )[1]
  assert read('id,more,note\r\n1,,"a\nb ""c"""\n\n2,x,\n') == [
    {'id': '1', 'more': '', 'note': 'a\nb "c"'},
    {'id': '2', 'more': 'x', 'note': ''},
  ]
  for text, message in {
    '': "lacks the column 'id', 'note'; it has none",
    'id,text\n': "lacks the column 'note'; it has 'id', 'text'",
    'id,note\n1,"a\nb"\n2\n': 'row 2, from line 4: has 1 fields, and',
    'id,note\n1,a\n2,"b\n\nc': r'row 2, from line 3: malformed CSV \(',
  }.items():
    with pytest.raises(errors.UserError, match=message):
      read(text)


def test_source_pickles_and_shards_by_example(tmp_path):
  preparation.prepare(Letters, _write(tmp_path / 'got'))
  source = prepared.PreparedDataSource('letters_task', Letters, _two)
  assert source.splits == ('train', 'test')
  assert source.num_input_examples('test') == 4
  assert source.is_prepared('test') and not source.is_prepared('validation')
  copy = pickle.loads(pickle.dumps(source))
  shards = [
    [
      row['inputs'].decode()
      for row in copy.get_dataset(
        'test', shuffle=False, shard_info=seqio.ShardInfo(i, 3)
      ).as_numpy_iterator()
    ]
    for i in range(3)
  ]
  assert shards == [['x0', 'z1'], ['x1'], ['z0']]


def _two(record):
  for i in range(2):
    yield {'inputs': f'{record["word"]}{i}'}

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of users: what is read, written and left alone."""

import errno
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
from toys import buckets

from pid_jax import errors
from pid_jax import files
from pid_jax import locks
from pid_jax import scratch


def _snapshot(folder):
  """All paths with their kinds and contents."""
  found = {}
  for path in sorted(folder.rglob('*')):
    is_file = path.is_file() and not path.is_symlink()
    found[str(path)] = (os.lstat(path).st_mode, is_file and path.read_bytes())
  return found


def test_home(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/home/me')
  for text, expected in {
    '~/x': '/home/me/x',
    '~': '/home/me',
    'a/~/b': 'a/~/b',
    'gs://bucket/~': 'gs://bucket/~',
    './~': f'{tmp_path}/~',  # Not to be expanded by another door.
    '/a b/\u00e9': '/a b/\u00e9',
  }.items():
    assert os.fspath(files.path(text)) == expected
    assert os.fspath(files.path(files.path(text))) == expected
  for text in (
    *('~nobody-of-this-name/x', '', ' ', 'a\0b', '\ud800', 3, None, b'x'),
    *('gs://', 'gs:///', 'foo://x', 'http://x/y', 'file:///tmp/x'),
    *('x' * 5000, 'a/' * 1000),
  ):
    with pytest.raises(errors.UserError, match='MODEL_DIR'):
      files.path(text, 'MODEL_DIR')


def test_no_home(monkeypatch):
  monkeypatch.delenv('HOME')
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  assert files.cache_folder() is not None  # Of the passwd entry.
  monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
  assert files.cache_folder() is None
  with pytest.raises(errors.UserError, match='home folder'):
    files.path('~/x')
  monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
  assert os.fspath(files.cache_folder()) == '/cache/pid_jax'


def test_outputs_that_stay_as_they_are(tmp_path):
  (tmp_path / 'input').write_text('in')
  (tmp_path / 'folder').mkdir()
  os.mkfifo(tmp_path / 'fifo')
  (tmp_path / 'loop').symlink_to('loop')
  (tmp_path / 'to_fifo').symlink_to('fifo')
  (tmp_path / 'to_folder').symlink_to('folder')
  (tmp_path / 'to_null').symlink_to('/dev/null')
  (tmp_path / 'link').symlink_to('input')
  (tmp_path / 'folder' / 'up').symlink_to('..')
  os.link(tmp_path / 'input', tmp_path / 'hard')
  before = _snapshot(tmp_path)
  as_input = ('input', 'link', 'hard', 'folder/../input', 'folder/up/hard')
  other = ('folder', 'fifo', 'loop', 'to_fifo', 'to_folder', 'to_null',
           'none/x', 'input/x', 'x' * 256, '/dev/null', '/dev/zero',
           '/proc/x', '/proc/self/fd/x', '/sys/x', '/', '.')  # fmt: skip
  for name in (*as_input, *other):
    output = tmp_path / name
    with pytest.raises(errors.UserError) as e:
      files.check_output(output, [tmp_path / 'input'])
    assert '\n' not in str(e.value)
    assert str(output)[:50] in str(e.value)
    assert ('reads it' in str(e.value)) == (name in as_input)
    if name in other:
      with pytest.raises(errors.UserError, match='cannot write'):
        files.write(output, b'new')
  assert _snapshot(tmp_path) == before
  for name in ('new', 'x' * 255, 'folder/new'):
    files.check_output(tmp_path / name, [tmp_path / 'input'])
  assert _snapshot(tmp_path) == before


def test_symlinks_are_followed(tmp_path):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'there' / 'old').write_text('old')
  os.chmod(tmp_path / 'there' / 'old', 0o640)
  (tmp_path / 'link').symlink_to('there/old')
  (tmp_path / 'dangling').symlink_to('there/new')
  for name in ('link', 'dangling'):
    files.write(files.check_output(tmp_path / name), b'new')
    assert (tmp_path / name).is_symlink()
    assert (tmp_path / name).read_text() == 'new'
  assert (tmp_path / 'there' / 'old').stat().st_mode & 0o777 == 0o640
  assert sorted(os.listdir(tmp_path / 'there')) == ['new', 'old']


_KILLED = """
import os, signal, sys
from pid_jax import files
name = sys.argv[1]
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write(name, b'never')
"""


def test_what_a_killed_writer_left_is_swept(tmp_path):
  target = tmp_path / 'out'
  target.write_text('old')
  neighbour = tmp_path / '.out.old.01234567.pid_jax-tmp'  # Of 'out.old'.
  foreign = tmp_path / '.out.tmp'
  for path in (neighbour, foreign):
    path.write_text('stays')
  done = subprocess.run(
    [sys.executable, '-c', _KILLED, str(target)], check=False
  )
  assert done.returncode == -signal.SIGKILL
  (left,) = {*os.listdir(tmp_path)} - {'out', neighbour.name, foreign.name}
  assert files.is_temporary(left) and target.read_text() == 'old'
  with open(tmp_path / left) as living:  # As its writer would hold it.
    fcntl.flock(living, fcntl.LOCK_EX)
    files.write(target, b'new')
    assert (tmp_path / left).exists()
  files.write(target, b'newer')
  assert target.read_bytes() == b'newer'
  assert {*os.listdir(tmp_path)} == {'out', neighbour.name, foreign.name}


def test_readers_never_see_half_a_file(tmp_path):
  """Four writers and a reader of one file."""
  target = tmp_path / 'out'
  files.write(target, b'')
  contents = {b''} | {bytes([65 + n]) * 100_000 for n in range(4)}

  def write(content):
    for _ in range(10):
      files.write(target, content)

  threads = [threading.Thread(target=write, args=[c]) for c in contents if c]
  for thread in threads:
    thread.start()
  while any(thread.is_alive() for thread in threads):
    assert target.read_bytes() in contents
  for thread in threads:
    thread.join()
  assert target.read_bytes() in contents - {b''}
  assert os.listdir(tmp_path) == ['out']


def test_a_full_disk_and_a_read_only_one(tmp_path, monkeypatch):
  (tmp_path / 'out').write_text('old')
  for number in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO):
    for call in ('fsync', 'replace'):

      def fail(*unused, number=number):
        raise OSError(number, os.strerror(number))

      with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(errors.UserError, match='cannot write .*out: '):
          files.write(tmp_path / 'out', b'new')
  assert os.listdir(tmp_path) == ['out']
  assert (tmp_path / 'out').read_text() == 'old'


def test_only_regular_files_are_read(tmp_path):
  os.mkfifo(tmp_path / 'fifo')
  (tmp_path / 'file').write_text('x')
  (tmp_path / 'to_zero').symlink_to('/dev/zero')
  for name in ('fifo', 'to_zero', '/dev/zero', '', 'none', 'file/x', 'x' * 300):
    with pytest.raises(errors.UserError, match='cannot read the weights'):
      files.read_bytes(tmp_path / name, 'the weights')
  with pytest.raises(errors.UserError, match='5 bytes, more than the 4'):
    (tmp_path / 'file').write_text('12345')
    files.read_bytes(tmp_path / 'file', 'the weights', 4)


def _open(tmp_path):
  return scratch.ScratchFolder(tmp_path / 'out', '.parts', r'\d+', 'output')


def test_scratch_folders_come_and_go(tmp_path):
  with _open(tmp_path) as work:
    assert sorted(os.listdir(work.path)) == [scratch.MARKER]
  assert not os.listdir(tmp_path)  # Nothing to keep.
  with _open(tmp_path) as work:
    (work.path / '1').write_text('kept')
  with _open(tmp_path) as work:
    assert (work.path / '1').read_text() == 'kept'
    work.clear()
    assert not (work.path / '1').exists()
    (work.path / '2').mkdir()
    (work.path / '2' / 'x').write_text('x')
    work.remove()
    assert not os.listdir(tmp_path)
  with _open(tmp_path) as work:
    (work.path / '1').write_text('from a killed run')
  _open(tmp_path).sweep()
  assert not os.listdir(tmp_path)
  _open(tmp_path).sweep()
  (tmp_path / 'out.parts').mkdir()  # Empty: nothing can be lost.
  with _open(tmp_path):
    pass


@pytest.mark.parametrize(
  'make',
  [
    lambda path: path.write_text('x'),
    lambda path: path.symlink_to('elsewhere'),
    lambda path: path.symlink_to('.'),
    os.mkfifo,
    lambda path: (path.mkdir(), (path / '1').write_text('x')),
    lambda path: (path.mkdir(), (path / 'x').write_text('x')),
    lambda path: (path.mkdir(), (path / scratch.MARKER).mkdir()),
    lambda path: (path.mkdir(), os.mkfifo(path / scratch.MARKER)),
    lambda path: (path.mkdir(), (path / scratch.MARKER).symlink_to('/x')),
  ],
)
def test_folders_of_others_are_refused(make, tmp_path):
  make(tmp_path / 'out.parts')
  before = _snapshot(tmp_path)
  for call in (_open(tmp_path).check, _open(tmp_path).__enter__):
    with pytest.raises(errors.UserError, match='out.parts'):
      call()
  with pytest.raises(errors.UserError, match='out.parts'):
    _open(tmp_path).sweep()
  assert _snapshot(tmp_path) == before


def test_files_of_others_in_a_scratch_folder_stay(tmp_path, caplog):
  with _open(tmp_path) as work:
    (work.path / '1').write_text('ours')
    (work.path / 'notes.txt').write_text('theirs')
  for call in (_open(tmp_path).check, _open(tmp_path).sweep):
    with pytest.raises(errors.UserError, match="'notes.txt'"):
      call()
  (tmp_path / 'out.parts' / 'notes.txt').unlink()
  with _open(tmp_path) as work:
    (work.path / 'notes.txt').write_text('theirs')
    work.remove()
  assert os.listdir(tmp_path / 'out.parts') == ['notes.txt']
  assert 'out.parts' in caplog.text


@pytest.mark.parametrize('target', ['/', 'gs://bucket', 'gs://bucket/'])
def test_what_has_no_place_beside_it(target):
  with pytest.raises(errors.UserError, match='name a file or folder in it'):
    scratch.ScratchFolder(target, '.parts', '', 'output')


def test_the_second_run_is_told_of_the_first(tmp_path):
  with _open(tmp_path) as first:
    (first.path / '1').write_text('ours')
    before = _snapshot(tmp_path)
    second = _open(tmp_path)
    for call in (second.check, second.__enter__, second.sweep):
      with pytest.raises(errors.UserError, match='in use') as e:
        call()
      assert f'pid {os.getpid()} on ' in str(e.value)
    assert _snapshot(tmp_path) == before
  with _open(tmp_path):
    pass


def _refuse(*unused):
  raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_without_locks_the_owner_is_looked_for(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(fcntl, 'flock', _refuse)
  monkeypatch.setattr(locks, '_SECONDS_TO_WRITE', 0.0)
  path = tmp_path / 'lock'
  lock = lambda: locks.Lock(path, 'the model', 'MODEL_DIR')
  with lock():
    assert len(caplog.messages) == 1 and 'without locks' in caplog.text
    with pytest.raises(errors.UserError, match=f'in use .*pid {os.getpid()}'):
      lock().acquire()
  assert not path.exists()
  mine = json.loads(lock().owner)
  gone = subprocess.Popen(['true'])
  gone.wait()
  for changed in (
    {'started': '1'},  # Another process had this number.
    {'pid': gone.pid},
    {'host': 'elsewhere'},
    {'pid': 'x'},
    {'pid': 10**30},
  ):
    path.write_text(json.dumps({**mine, **changed}))
    with lock():
      pass
  for damaged in ('', '{', '[]', '[' * 10_000, '\0'):
    path.write_text(damaged)
    with lock():
      pass


def test_without_locks_one_of_two_that_begin_together_ends(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(fcntl, 'flock', _refuse)
  first, second = (
    locks.Lock(tmp_path / 'lock', 'it', 'output') for _ in range(2)
  )
  second.owner = second.owner.replace('since', 'other')

  def sleep(unused_seconds):
    (tmp_path / 'lock').write_text(second.owner)

  monkeypatch.setattr(locks.time, 'sleep', sleep)
  with pytest.raises(errors.UserError, match='taken over'):
    first.acquire()
  assert (tmp_path / 'lock').read_text() == second.owner


def test_without_locks_the_first_run_deletes_nothing_of_the_second(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(fcntl, 'flock', _refuse)
  monkeypatch.setattr(locks, '_SECONDS_TO_WRITE', 0.0)
  with pytest.raises(errors.UserError, match='taken over'):
    with _open(tmp_path) as first:
      (first.path / '1').write_text('of the second')
      other = first._lock.owner.replace(f'{os.getpid()}', '99')
      (first.path / scratch.MARKER).write_text(other)
      before = _snapshot(tmp_path)
      first.remove()
  assert _snapshot(tmp_path) == before


def test_a_lock_whose_folder_goes_away(tmp_path):
  """A run that ends deletes the folder that another one has just seen."""
  first, second = _open(tmp_path), _open(tmp_path)
  first.__enter__()
  inspect = second._inspect

  def end_meanwhile():
    inspect()
    first.remove()
    second._inspect = inspect

  second._inspect = end_meanwhile
  with second:
    assert os.listdir(second.path) == [scratch.MARKER]
  assert not os.listdir(tmp_path)


def test_in_a_bucket(tmp_path, monkeypatch, caplog):
  with buckets.fake(tmp_path, monkeypatch):
    output = 'gs://bucket/out.txt'
    files.write(files.check_output(output), b'new')
    assert (tmp_path / 'bucket' / 'out.txt').read_bytes() == b'new'
    assert files.read_bytes(output, 'x') == b'new'
    with pytest.raises(errors.UserError, match='reads it'):
      files.check_output(output, [output])
    with pytest.raises(errors.UserError, match='gs://bucket: it is a folder'):
      files.check_output('gs://bucket')
    with pytest.raises(errors.UserError, match='cannot read .*gs://bucket/no'):
      files.read_bytes('gs://bucket/no', 'the weights')
    work = scratch.ScratchFolder(output, '.parts', r'\d+', 'output')
    with work:
      files.write(work.path / '1', b'kept')
    assert not caplog.messages
    other = scratch.ScratchFolder(output, '.parts', r'\d+', 'output')
    other._lock.owner = other._lock.owner.replace(f'{os.getpid()}', '99')
    with other:
      work.__enter__()
      assert 'a bucket has no locks' in caplog.text
      with pytest.raises(errors.UserError, match='taken over'):
        other.check_held()
      work.remove()
    assert os.listdir(tmp_path / 'bucket') == ['out.txt']
    (tmp_path / 'bucket' / 'out.txt.parts').mkdir()
    (tmp_path / 'bucket' / 'out.txt.parts' / 'x').write_text('theirs')
    with pytest.raises(errors.UserError, match="'x'"):
      work.check()
  assert not pathlib.Path('gs:').exists()


def test_owners_without_a_name(tmp_path):
  """As in containers, and on disks that another machine wrote."""
  path = tmp_path / 'x'
  path.write_text('four')
  try:
    os.chown(path, 54321, 54321)
  except PermissionError:
    pytest.skip('needs the right to give files away')
  assert files.read_bytes(path, 'x') == b'four'
  assert files.stat(path) == (4, path.stat().st_mtime)
  files.write(path, b'five!')
  assert path.read_bytes() == b'five!'

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What every command promises: one clear line and exit status 2."""

import io
import logging
import os
import pathlib
import subprocess
import sys
import textwrap

import gin
import pytest

from pid_jax import cli
from pid_jax import errors
from pid_jax import flag_types

_GIN = """\
from __gin__ import dynamic_registration
import textwrap
TEXT = %gin.REQUIRED
PREFIX = '> '
textwrap.indent:
  text = %TEXT
  prefix = %PREFIX
"""
_GIVEN = ('--gin_file=run.gin', "--gin.TEXT='a'")


@pytest.fixture(autouse=True)
def clean_state(tmp_path, monkeypatch):
  """Each test gets an empty gin configuration and a folder of its own."""
  monkeypatch.chdir(tmp_path)
  pathlib.Path('run.gin').write_text(_GIN)
  logger = logging.getLogger('pid_jax')
  yield
  gin.clear_config()
  logger.handlers, logger.propagate = [], True


def _indent(args) -> None:
  cli.parse_gin(args)
  print(gin.get_configurable(textwrap.indent)())


def _run(*argv, main=_indent, use_gin=True) -> int:
  with pytest.raises(SystemExit) as e:
    cli.run(main, doc='Indents.', use_gin=use_gin, argv=argv)
  return e.value.code


def test_little_work_leaves_accelerators_alone(monkeypatch, capsys):
  names = ('JAX_PLATFORMS', 'XLA_PYTHON_CLIENT_PREALLOCATE')

  def run(compute_on, given=None):
    for name in names:
      monkeypatch.setenv(name, 'x')
      monkeypatch.delenv(name)
    if given:
      monkeypatch.setenv('JAX_PLATFORMS', given)
    with pytest.raises(SystemExit) as e:
      cli.run(
        lambda _: print(*map(os.environ.get, names)),
        doc='',
        compute_on=compute_on,
        argv=(),
      )
    assert e.value.code == 0
    return capsys.readouterr().out.strip()

  assert run('accelerators') == 'None None'
  assert run('cpu') == 'cpu false'
  assert run('cpu', given='cuda') == 'cuda false'


def test_gin_file_and_bindings_reach_the_function(capsys):
  flags = ['--gin_file=run.gin', "--gin.TEXT='to be'"]
  assert _run(*flags, "--gin_bindings=PREFIX = '# '") == 0
  assert capsys.readouterr() == ('# to be\n', '')


def test_commands_own_bindings_give_way_to_the_command_line(capsys):
  def main(args):
    cli.parse_gin(args, ["TEXT = 'flag'", "PREFIX = '+ '"])
    print(gin.get_configurable(textwrap.indent)())

  assert _run('--gin_file=run.gin', "--gin.TEXT='line'", main=main) == 0
  assert capsys.readouterr().out == '+ line\n'


def test_later_files_win_and_search_paths_are_searched(capsys):
  pathlib.Path('more').mkdir()
  pathlib.Path('more/b.gin').write_text("TEXT = 'from b'")
  flags = ['--gin_file=run.gin', '--gin_file=b.gin']
  assert _run(*flags, '--gin_search_paths=none,more') == 0
  assert capsys.readouterr().out == '> from b\n'


def test_gin_file_and_its_includes_may_be_remote(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
    cli.epath, 'Path', lambda path: tmp_path / path.removeprefix('gs://')
  )
  pathlib.Path('all.gin').write_text(
    "include 'gs://run.gin'\nTEXT = 'from afar'"
  )
  assert _run('--gin_file=gs://all.gin') == 0
  assert capsys.readouterr().out == '> from afar\n'
  assert _run('--gin_file=gs://none.gin') == 2


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ([], 'name a --gin_file'),
    (['--gin_file=rum.gin'], "unknown gin file 'rum.gin'"),
    (
      ['--gin_file=run.gin'],
      'missing: give --gin.TEXT="\'VALUE\'"',
    ),
    (['--gin_file=run.gin', '--gin.TEXT=a'], """quotes: --gin.TEXT="'a'\""""),
    (
      ['--gin_file=run.gin', '--gin.PREFIX=(1,'],
      'cannot read --gin.PREFIX=(1,',
    ),
    (['--gin_file=run.gin', '--gin.PERFIX=1'], 'did you mean PREFIX?'),
    (['--gin_file=run.gin', '--gin.PREFIX'], 'unrecognized arguments'),
    ([*_GIVEN, '--gin.textwrap.indent.wide=1'], "named 'wide'"),
    ([*_GIVEN, '--gin.textwrap.indnt.a=1'], 'textwrap.indnt'),
    (['--gni_file=run.gin'], 'unrecognized arguments'),
  ],
)
def test_mistake_on_the_command_line_is_one_line(flags, message, capsys):
  assert _run(*flags) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('error: ') and message in err
  assert err.count('\n') == 1


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('x = /tmp', 'line 1: x = /tmp'),
    ('x = (1,\n2\n', 'bad.gin'),
    ("include 'nowhere.gin'", 'nowhere.gin'),
    ('import no_such_module', 'line 1: import no_such_module'),
    ('nothing.width = 3', 'No configurable matching'),
    ('from __gin__ import dynamic_registration\nos.x = 1', 'line 2: os.x = 1'),
    (_GIN.replace("PREFIX = '> '", ''), 'nothing gives %PREFIX a value'),
    (
      _GIN.replace('  text = %TEXT\n', ''),
      "values for arguments: ['text",
    ),
  ],
)
def test_mistake_in_a_gin_file_is_one_line(content, message, capsys):
  pathlib.Path('bad.gin').write_text(content)
  bindings = ["--gin.TEXT='a'"] if 'TEXT' in content else []
  assert _run('--gin_file=bad.gin', *bindings) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('error: ') and message in err
  assert err.count('\n') == 1


def test_user_error_keeps_its_line_through_gin(capsys):
  @gin.configurable
  def stumble():
    raise errors.UserError('data.jsonl, line 3: no key "inputs"')

  assert _run(main=lambda args: stumble()) == 2
  assert capsys.readouterr().err == (
    'error: data.jsonl, line 3: no key "inputs"\n'
  )


def test_bug_keeps_its_traceback_even_through_gin():
  @gin.configurable
  def broken():
    raise ValueError('a bug')

  for main in (lambda args: broken(), lambda args: [][1]):
    with pytest.raises((ValueError, IndexError)):
      cli.run(main, doc='', argv=[])


def test_interrupt_and_status_of_main(capsys):
  def interrupted(args):
    raise KeyboardInterrupt

  assert _run(main=interrupted) == 130
  assert capsys.readouterr().err == 'interrupted\n'
  assert _run(main=lambda args: 3) == 3
  assert _run(main=lambda args: None) == 0


def test_messages_of_the_library_are_plain_lines(capsys):
  def main(args):
    logging.getLogger('pid_jax.trainer').info('step %d', 3)
    logging.getLogger('pid_jax.trainer').warning('slow')
    logging.getLogger('pid_jax').debug('hidden')

  assert _run(main=main) == 0
  assert capsys.readouterr().err == 'step 3\nwarning: slow\n'


def test_unknown_shows_the_nearest_names():
  names = ['bookings', 'bookings_short', 'jsonl']
  assert str(errors.unknown('task', 'bokings', names)) == (
    "unknown task 'bokings'; did you mean bookings or bookings_short?"
  )
  assert str(errors.unknown('task', 'zzz', names)) == (
    "unknown task 'zzz'; known: bookings, bookings_short, jsonl"
  )
  assert str(errors.unknown('task', 'zzz', [])).endswith('none is known')


def _commands() -> list[str]:
  files = pathlib.Path(cli.__file__).parent.glob('*.py')
  return sorted(f.stem for f in files if '\n  cli.run(' in f.read_text())


@pytest.mark.parametrize('command', _commands())
def test_help_is_quick_and_shows_an_example(command):
  program = [sys.executable, '-X', 'importtime', '-m', f'pid_jax.{command}']
  result = subprocess.run(
    [*program, '--help'], check=True, capture_output=True, text=True
  )
  assert f'python -m pid_jax.{command}' in result.stdout
  assert f'usage: python -m pid_jax.{command}' in result.stdout
  for heavy in ('jax', 'tensorflow', 'seqio'):
    assert f' {heavy}\n' not in result.stderr


def test_a_failed_check_of_the_data_is_one_line(capsys):
  def main(args):
    from pid_jax.subtasks import tf_assertions

    assert tf_assertions.user_error
    raise RuntimeError(
      'node x: [[pid_jax] task a, example b: it is too long [/pid_jax]] y'
    )

  assert _run(main=main, use_gin=False) == 2
  assert capsys.readouterr().err == (
    'error: task a, example b: it is too long\n'
  )


def test_a_reader_that_has_had_enough_is_no_error(monkeypatch, capsys):
  class Closed(io.StringIO):
    def flush(self):
      raise BrokenPipeError

  redirected = []
  monkeypatch.setattr(os, 'dup2', lambda *fds: redirected.append(fds[1]))
  monkeypatch.setattr(sys, 'stdout', Closed())
  assert _run('--verbose', main=lambda args: print('a'), use_gin=False) == 141
  assert capsys.readouterr().err == '' and redirected == [1]


def _fails(text):
  raise ValueError(text)


def test_bindings_of_what_fails_are_not_none():
  assert cli.bindings(_fails) == {}
  gin.external_configurable(_fails, module='cli_test')
  gin.parse_config('TEXT = @cli_test._fails()\n_fails.text = %TEXT')
  gin.parse_config("TEXT = 'a'")
  assert cli.bindings(_fails) == {'text': 'a'}
  gin.parse_config("x/_fails.text = 'why'\n_fails.text = @x/_fails()")
  with pytest.raises(ValueError, match='why'):
    cli.bindings(_fails)


def test_flags_that_commands_share(capsys):
  def flags(parser):
    cli.add_model_flags(parser)
    add = parser.add_argument
    names = flag_types.comma_separated('layout', ['pid', 'pie'])
    add('--layouts', type=names, default='pid,pie')
    add(
      '--words',
      type=flag_types.comma_separated('word'),
      action='extend',
      default=[],
    )

  def parse(*argv):
    argv = ['--model_dir=m', *argv]
    return cli.parse_flags(argv, '', flags, use_gin=False, join=False)

  args = parse()
  assert (args.step, args.num_partitions) == (None, 1)
  assert (args.layouts, args.param_dtype) == (['pid', 'pie'], 'float32')
  args = parse('--step=12', '--layouts=pie', '--words=a, b', '--words=c')
  assert (args.step, args.layouts) == (12, ['pie'])
  assert args.words == ['a', 'b', 'c']  # Repeated or not.
  for wrong, words in (
    ('--step=lats', "'lats' is neither a number nor 'best' nor 'last'"),
    ('--layouts=pid,pei', "unknown layout 'pei'; did you mean"),
    ('--param_dtype=int9', 'invalid choice'),
  ):
    with pytest.raises(SystemExit):
      parse(wrong)
    assert words in capsys.readouterr().err

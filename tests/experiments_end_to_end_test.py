# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole processes: what they answer, how they are timed, what is said of it."""

import json

import pytest

from pid_jax.experiments import baselines
from pid_jax.experiments import benchmark_report as report
from pid_jax.experiments import end_to_end
from pid_jax.experiments import end_to_end_child as child
from pid_jax.experiments import figures

COLD, WARM = end_to_end.CONTENDERS[:2]
PIE, TILED = end_to_end.BASELINES[:2]


@pytest.fixture(scope='module')
def words():
  return end_to_end.Words()


@pytest.fixture(scope='module')
def folder(words, tmp_path_factory):
  """The model in all formats that can be written here."""
  folder = tmp_path_factory.mktemp('end_to_end')
  formats = {
    x.format
    for x in end_to_end.CONTENDERS
    if x.name not in end_to_end.BASELINES or not baselines.missing(x.name)
  }
  end_to_end.make_models(words, folder, formats)
  return folder


def test_texts_have_the_sizes_that_are_promised(words):
  made = end_to_end.make_questions(words, 500)
  encode = words.vocabulary.encode
  lengths = [len(encode(line['inputs'])) + 1 for line in made.lines]
  assert 20 <= min(lengths) < 30 and 160 < max(lengths) <= 220
  assert 75 < sum(lengths) / 500 < 85
  outputs = [len(encode(x)) + 1 for row in made.answers for x in row]
  assert min(outputs) == 3 and max(outputs) <= child.MAX_NEW_TOKENS
  assert 8.5 < sum(outputs) / len(outputs) < 10.5
  assert end_to_end.make_questions(words, 500) == made


@pytest.mark.parametrize('program', child._CONTENDERS)
def test_every_library_answers_what_the_weights_say(
  program, words, folder, tmp_path
):
  if program in end_to_end.BASELINES and baselines.missing(program):
    pytest.skip(f'not installed: {", ".join(baselines.missing(program))}')
  made = end_to_end.make_questions(words, 3)
  questions, answers = tmp_path / 'questions', tmp_path / 'answers'
  questions.write_text(''.join(json.dumps(x) + '\n' for x in made.lines))
  (contender,) = {
    x.format for x in end_to_end.CONTENDERS if x.program == program
  }
  child.main(program, str(folder / contender), str(questions), str(answers))
  result = json.loads(answers.read_text())
  assert result['answers'] == made.answers
  clock = result['clock']
  assert [*clock, 'end'] == list(end_to_end.PHASES)
  assert sorted(clock.values()) == list(clock.values())
  if program == 'pid_jax':
    assert result['programs']['num_programs'] > 0


_SCRIPT = """
import json, os, sys, time
clock = {'start': time.time()}
time.sleep(0.2)
for name in ('import', 'load', 'first', 'rest'):
  clock[name] = time.time()
program, model, questions, answers = sys.argv[1:]
cache = os.environ['XDG_CACHE_HOME']
found = os.path.isdir(cache)
os.makedirs(cache, exist_ok=True)
if os.path.basename(model) == 'broken':
  sys.exit('no such model')
with open(answers, 'w') as f:
  json.dump({'answers': [[str(found)]], 'clock': clock, 'programs': None}, f)
"""


def test_a_process_is_timed_from_its_start_to_its_end(tmp_path, monkeypatch):
  script = tmp_path / 'script.py'
  script.write_text(_SCRIPT)
  monkeypatch.setattr(child, '__file__', str(script))
  runs = [end_to_end.run_process(x, tmp_path) for x in (COLD, WARM, COLD)]
  # What is warm finds the cache of what was cold, which finds none.
  assert [run.answers for run in runs] == [[['False']], [['True']], [['False']]]
  for run in runs:
    assert list(run.phases) == list(end_to_end.PHASES)
    assert sum(run.phases.values()) == pytest.approx(run.seconds)
    assert run.phases['import'] >= 0.2
  broken = end_to_end.Contender('x', 'broken', 'pid_jax')
  with pytest.raises(RuntimeError, match='x failed:\nno such model'):
    end_to_end.run_process(broken, tmp_path)


def test_contenders_take_turns_until_they_are_too_slow(words, monkeypatch):
  names, made = [], {}

  def run_process(contender, folder):
    names.append(contender.name)
    count = len((folder / 'questions.jsonl').read_text().splitlines())
    if count not in made:
      made[count] = end_to_end.make_questions(words, count).answers
    seconds = {COLD.name: 9.0, WARM.name: 2.0}.get(contender.name)
    if seconds is None:
      seconds = 1.0 + count + names.count(PIE) % 3 / 10
    answers = made[count]
    if contender is WARM:
      answers = [[*row[:-1], 'another'] for row in answers]
    return end_to_end.Run(seconds, answers, {}, None)

  monkeypatch.setattr(end_to_end, 'run_process', run_process)
  monkeypatch.setattr(end_to_end, 'make_models', lambda *_: None)
  contenders = [x for x in end_to_end.CONTENDERS if x.name == PIE]
  contenders = [COLD, WARM, *contenders]
  *_, rows = end_to_end.run(
    [1, 1000, 10, 2000],
    [TILED],
    contenders=contenders,
    time_limit=1900.0,
  )
  order = [COLD.name, WARM.name, PIE]
  assert names == order * 3 + order * 3 + order + order[:2]
  assert [row['texts'] for row in rows] == [1, 10, 1000, 2000]
  spread = rows[0]['contenders'][PIE]['seconds']  # Of 2.1, 2.2 and 2.0.
  assert (spread['median'], spread['num']) == (pytest.approx(2.1), 3)
  assert rows[0]['contenders'][WARM.name]['equal_answers'] == 0.75
  assert rows[-1]['skipped'] == {PIE: pytest.approx(2001.1, abs=0.2)}
  assert list(rows[-1]['contenders']) == order[:2]


def _row(texts, skipped=(), **seconds):
  phases = {name: 1.0 for name in end_to_end.PHASES}
  rows = {
    name: {
      'seconds': {'median': value},
      'phases': phases,
      'programs': None,
      'equal_answers': 1.0,
    }
    for name, value in seconds.items()
  }
  return {
    'texts': texts, 'prompts': 4, 'contenders': rows, 'skipped': dict(skipped)
  }  # fmt: skip


ROWS = [
  _row(1, pid_jax_cold=8.0, transformers_pie=6.0),
  _row(101, pid_jax_cold=9.0, transformers_pie=11.0),
  _row(1001, [(PIE, 300.0)], pid_jax_cold=10.0),
]


def test_where_one_gets_faster_lies_between_what_was_measured():
  # 2 s behind at 1, 2 s ahead at 101.
  assert end_to_end.faster_from(ROWS, COLD.name, PIE) == pytest.approx(51)
  assert end_to_end.faster_from(ROWS, PIE, COLD.name) is None
  assert end_to_end.faster_from(ROWS[1:], COLD.name, PIE) == 101
  # Ahead, behind, ahead: only the last stretch counts.
  rows = [
    _row(n, a=10.0, b=10.0 + lead) for n, lead in ((1, 5), (2, -1), (4, 3))
  ]
  assert end_to_end.faster_from(rows, 'a', 'b') == pytest.approx(2.5)


def test_the_table_and_the_figure_show_what_was_measured_and_what_was_not():
  machine = {
    'processor': 'P',
    'probe': {'flop_rate': 1e9, 'bandwidth': 1e9},
    'gflops_by_rows': {},
  }
  written = {
    'machine': machine, 'threads': 2, 'jobs': [], 'sweeps': [], 'tpu': None,
    'missing': {}, 'end_to_end': ROWS,
  }  # fmt: skip
  lines = [line.split() for line in report.table(written).splitlines()]
  assert [COLD.name, '8.0', '9.0', '10.0'] in lines
  assert [PIE, '6.0', '11.0', 'over', '300'] in lines
  assert [COLD.name, '51'] in lines
  (panel,) = figures.of_benchmark(written)['end_to_end']
  by_name = {line.name: line.points for line in panel.series}
  assert by_name == {
    COLD.name: [(1, 8.0), (101, 9.0), (1001, 10.0)],
    PIE: [(1, 6.0), (101, 11.0)],
  }

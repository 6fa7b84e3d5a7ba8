# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several real processes give what one gives, and go on after their ends."""

import json
import pathlib
import signal
import time

import distributed_processes as processes
import numpy as np
import pytest
from toys import training as toy

from pid_jax import checkpoints

_TRAINING = pathlib.Path(__file__).parent / 'distributed_training.py'
_GIN = """
from __gin__ import dynamic_registration
from pid_jax import trainer
from toys import training

infer_eval/trainer.DatasetConfig:
  mixture_or_task_name = @training.register()
  task_feature_lengths = {lengths}
  batch_size = 4
  shuffle = False
  seed = 42
  pack = False
"""


class Run:
  """Runs of the toy in one MODEL_DIR, and what their steps noted."""

  def __init__(self, folder: pathlib.Path, cache: pathlib.Path):
    self.folder = folder
    self.model_dir = folder / 'model'
    self.env = {
      'TOY_VOCABULARY': str(cache / 'toy.model'),
      'JAX_COMPILATION_CACHE_DIR': str(cache / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'XLA_FLAGS': '--xla_backend_optimization_level=0',
    }
    toy.vocabulary()  # Makes the file, if it has to.
    (folder / 'logs').mkdir(parents=True)
    self.attempts = 0
    self.count = 0

  def start(self, count: int, at: list[int] | None = None, **flags):
    """`at`: [process, step, signal], what happens to one of them."""
    if at is not None:
      flags['at'] = json.dumps(at)
    self.attempts += 1
    self.count = count
    return processes.start(
      count,
      [_TRAINING],
      env=self.env,
      model_dir=self.model_dir,
      log=self.folder / 'logs' / str(self.attempts),
      **flags,
    )

  def train(self, count: int, **flags) -> list[processes.Ended]:
    return processes.end(self.start(count, **flags))

  def steps(self, attempt: int | None = None) -> dict[int, dict]:
    """Step -> its loss, and its examples in the order of the rows."""
    name = str(attempt or self.attempts)
    merged = {}
    for i in range(self.count):
      path = self.folder / 'logs' / f'{name}.{i}'
      for line in path.read_text().splitlines():
        line = json.loads(line)
        known = merged.setdefault(
          line['step'], {'loss': line['loss'], 'examples': []}
        )
        assert known['loss'] == line['loss']
        known['examples'] += line['examples']
    return merged


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
  folder = tmp_path_factory.mktemp('cache')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('TOY_VOCABULARY', str(folder / 'toy.model'))
    toy.vocabulary.cache_clear()
    toy.vocabulary()
  return folder


def losses(steps: dict[int, dict]) -> np.ndarray:
  return np.array([steps[step]['loss'] for step in sorted(steps)])


def metrics(run: Run) -> dict[str, float]:
  return checkpoints.read_metrics(
    run.model_dir, checkpoints.steps(run.model_dir)[-1]
  )


@pytest.mark.slow
def test_a_signal_to_one_of_two_leads_to_one_checkpoint(tmp_path, cache):
  run = Run(tmp_path, cache)
  ended = run.train(2, steps=40, at=[1, 3, signal.SIGTERM])
  assert [e.status for e in ended] == [128 + signal.SIGTERM] * 2, ended
  (last,) = checkpoints.steps(run.model_dir)
  steps = run.steps()
  assert list(steps) == list(range(1, last + 1)) and 3 <= last < 40
  assert f'stopped by SIGTERM after step {last}' in ended[0].err
  assert 'stopped' not in ended[1].err
  numbers = sum((step['examples'] for step in steps.values()), [])
  assert len(numbers) == len(set(numbers))
  # As many shards as processes: each has read its own part, and saved it.
  for step in steps.values():
    half = len(step['examples']) // 2
    assert {n % 2 for n in step['examples'][:half]} == {0}
    assert {n % 2 for n in step['examples'][half:]} == {1}
  folder = run.model_dir / 'checkpoints' / str(last) / 'data'
  names = {path.name[:12] for path in folder.iterdir()}
  assert names >= {'shard_0_of_2', 'shard_1_of_2'}


@pytest.mark.slow
def test_fifty_steps_of_two_and_four_are_those_of_one(tmp_path, cache):
  runs = {}
  for count, partitions in ((1, 1), (2, 1), (4, 1), (4, 2)):
    runs[count, partitions] = run = Run(
      tmp_path / f'{count}-{partitions}', cache
    )
    ended = run.train(
      count, num_shards=4, num_partitions=partitions, evaluate=1
    )
    assert [e.status for e in ended] == [0] * count, ended
    assert ['steps' in e.err for e in ended] == [True] + [False] * (count - 1)
  one = runs.pop((1, 1))
  assert len(one.steps()) == 50
  assert losses(one.steps())[-1] < 0.6 * losses(one.steps())[0]
  for (_, partitions), run in runs.items():
    np.testing.assert_allclose(
      losses(run.steps()), losses(one.steps()), rtol=0, atol=1e-4
    )
    for step, known in one.steps().items():
      own = run.steps()[step]['examples']
      if partitions == 1:
        assert own == known['examples']
      else:  # Two processes hold the same rows.
        assert set(own) == set(known['examples'])
    for name, value in metrics(one).items():
      exact = not name.startswith('toy/target_')
      np.testing.assert_allclose(
        metrics(run)[name], value, atol=0 if exact else 1e-4, err_msg=name
      )


@pytest.mark.slow
def test_killed_and_gone_on_with_by_other_numbers(tmp_path, cache):
  whole = Run(tmp_path / 'whole', cache)
  assert whole.train(1, steps=16, num_shards=4)[0].status == 0

  run = Run(tmp_path / 'killed', cache)
  began = time.monotonic()
  flags = dict(steps=16, period=3, num_shards=4)
  started = run.start(4, at=[2, 5, signal.SIGKILL], heartbeat=20, **flags)
  started[2].wait()
  killed_at = time.monotonic()
  ended = processes.end(started)
  assert time.monotonic() - killed_at < 60, killed_at - began
  assert ended[2].status == -signal.SIGKILL
  others = [ended[i] for i in (0, 1, 3)]
  assert all(e.status not in (0, None) for e in others)
  assert checkpoints.steps(run.model_dir) == [3]
  history = dict(run.steps())

  for count, at in ((2, [0, 8, signal.SIGKILL]), (1, None), (4, None)):
    steps = 16 if count == 4 else 12
    more = {} if at is None else {'at': at, 'heartbeat': 20}
    last = checkpoints.steps(run.model_dir)[-1]
    ended = run.train(count, **{**flags, 'steps': steps}, **more)
    if at is None:
      assert [e.status for e in ended] == [0] * count, ended
    else:
      assert ended[0].status == -signal.SIGKILL and ended[1].status
    assert min(run.steps()) == last + 1
    history |= run.steps()
  # The updates that count saw the same examples, and none of them twice.
  expected = whole.steps()
  assert history.keys() == expected.keys()
  for step, known in expected.items():
    assert history[step]['examples'] == known['examples'], step
    assert abs(history[step]['loss'] - known['loss']) < 1e-4
  numbers = sum((step['examples'] for step in history.values()), [])
  assert len(numbers) == len(set(numbers))


@pytest.mark.slow
def test_commands_of_two_give_the_results_of_one(tmp_path, cache):
  run = Run(tmp_path / 'run', cache)
  assert run.train(1, steps=30)[0].status == 0
  (tmp_path / 'toy.gin').write_text(_GIN.format(lengths=toy.LENGTHS))
  questions = tmp_path / 'questions.jsonl'
  examples = [toy.example(i, 'validation') for i in range(40)]
  lines = [
    {
      'id': e['example_id'],
      'inputs': e['inputs'],
      'subtasks': [{'name': n, 'prompt': n} for n in e['subtasks']],
    }
    for e in examples
  ]
  questions.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  outputs = []
  for count in (1, 2):
    answers = tmp_path / f'{count}.jsonl'
    ended = processes.run(
      count,
      ['-m', 'pid_jax.predict', '--scores', '--temperature=1.0'],
      env=run.env,
      model_dir=run.model_dir,
      input=questions,
      output=answers,
      batch_size=4,
    )
    assert [e.status for e in ended] == [0] * count, ended
    shown = f'40 examples written to {answers}\n'
    assert [shown in e.out for e in ended] == [True, False][:count]
    assert not answers.with_name(answers.name + '.parts').exists()
    evaluated = tmp_path / f'evaluated-{count}'
    ended = processes.run(
      count,
      ['-m', 'pid_jax.evaluate', f'--gin_file={tmp_path}/toy.gin'],
      env=run.env,
      model_dir=run.model_dir,
      split='validation',
      output=evaluated,
    )
    assert [e.status for e in ended] == [0] * count, ended
    # TensorFlow is imported silently.
    assert not any('absl::InitializeLog' in e.err for e in ended), ended
    shown = ['toy/exact_match' in e.out for e in ended]
    assert shown == [True, False][:count]
    outputs.append(
      [
        answers.read_text(),
        json.loads((evaluated / 'metrics.json').read_text()),
        (evaluated / 'toy.jsonl').read_text(),
      ]
    )
  assert outputs[0] == outputs[1]
  assert [json.loads(x)['id'] for x in outputs[0][0].splitlines()] == [
    e['example_id'] for e in examples
  ]

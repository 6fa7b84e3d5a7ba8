# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains a small model on generated dialogues, evaluates it, and predicts.

Example:
  python -m pid_jax.quickstart --model_dir=models/quickstart

Runs the commands `train`, `evaluate` and `predict` as you would, on a task that
needs no download, and closes with a table of the results. Run again, it resumes
where it was stopped.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
from typing import Any

from pid_jax import cli
from pid_jax import files
from pid_jax import interrupts
from pid_jax import strict_json

GIN_FILE = 'runs/quickstart.gin'
TASK = 'bookings_short'
NUM_DIALOGUES = 40  # Of the test split, whose turns `predict` reads.
NUM_TIMED = 10  # Turns on which both layouts are timed.
_BUDGET = 60.0  # Seconds, after which no further round begins.


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  cli.add_model_dir_flag(parser, default='models/quickstart')


def check(args: argparse.Namespace) -> None:
  """Finds a folder that cannot be made before TensorFlow is loaded."""
  files.check_folder(args.model_dir, '--model_dir')


def main(args: argparse.Namespace) -> None:
  """Runs the commands, times both layouts and prints the table."""
  from pid_jax import inference

  model_dir = args.model_dir
  test, questions, answers = (
    os.path.join(model_dir, name)
    for name in ('test', 'questions.jsonl', 'answers.jsonl')
  )
  command('train', f'--gin_file={GIN_FILE}', f'--gin.MODEL_DIR={model_dir!r}')
  command(
    'evaluate', f'--model_dir={model_dir}', '--split=test', f'--output={test}'
  )
  turns = write_questions(questions)
  command(
    'predict',
    f'--model_dir={model_dir}',
    f'--input={questions}',
    f'--output={answers}',
  )
  print('\nTiming prompt-in-decoder against prompt-in-encoder ...', flush=True)
  model = inference.PromptInDecoder.from_pretrained(model_dir)
  seconds = time_layouts(model, turns[:NUM_TIMED])
  results = strict_json.read_object(
    os.path.join(test, 'metrics.json'), 'the results'
  )
  print(report(model_dir, results, seconds))


def command(name: str, *flags: str) -> None:
  """Shows and runs a command of this package; ends with its status if it fails.

  Args:
    name: of the module, such as 'train'.
    *flags: its arguments.

  Raises:
    SystemExit: the command failed, having said why.
  """
  line = ['-m', f'pid_jax.{name}', *flags]
  shown = ' '.join(_quoted(arg) for arg in line)
  print(f'\n$ python {shown}', flush=True)
  status = interrupts.run_child([sys.executable, *line])
  if status:
    sys.exit(status)


def _quoted(arg: str) -> str:
  """Quotes an argument for the shell, gin strings as one would type them."""
  return f'"{arg}"' if "'" in arg else shlex.quote(arg)


def write_questions(path: str) -> list[dict]:
  """Writes turns of the test split as a user's JSONL, without the answers.

  Args:
    path: of the file.

  Returns:
    The turns, as they were written.
  """
  from pid_jax.tasks import bookings

  turns = [
    {
      'id': example['example_id'],
      'inputs': example['inputs'],
      'subtasks': [
        {'name': name, 'prompt': prompt}
        for name, prompt in zip(
          example['subtasks'], example['prompts'], strict=True
        )
      ],
    }
    for example in bookings.examples(TASK, 'test', NUM_DIALOGUES)
  ]
  text = ''.join(json.dumps(turn) + '\n' for turn in turns)
  files.write(path, text.encode())
  return turns


def time_layouts(
  model: Any, turns: list[dict], new_tokens: int = 8, rounds: int = 5
) -> dict[str, float]:
  """Times both layouts on the same inputs and prompts with the same weights.

  Each input is one call, which answers all its prompts with exactly
  `new_tokens` tokens. The layouts take turns (`timer.interleave`), in each of
  which they answer all inputs.

  Args:
    model: an `inference.PromptInDecoder` of either layout. Its answers are
      ignored.
    turns: of `write_questions`.
    new_tokens: generated for each prompt.
    rounds: turns of PiE, after one that compiles; PiD takes twice as many.

  Returns:
    {'pid': seconds per input, 'pie': seconds per input}, medians.
  """
  from pid_jax.experiments import machine
  from pid_jax.experiments import timer

  def contender(layout: str):
    timed = type(model)(
      model.config,
      model.engine.params,
      model.vocabulary,
      {**model.task, 'layout': layout},
    )
    timed.max_input_tokens = None  # Both read all.

    def answer() -> None:
      for turn in turns:
        prompts = [subtask['prompt'] for subtask in turn['subtasks']]
        timed.generate(
          [turn['inputs']],
          [prompts],
          new_tokens,
          min_new_tokens=new_tokens,
          batch_size=len(prompts),
        )

    return answer

  timings = timer.interleave(
    {layout: contender(layout) for layout in ('pid', 'pie')},
    machine.Probe(),
    num_rounds=rounds,
    budget=_BUDGET,
    pause=0.0,
  )
  return {
    layout: statistics.median(timings.seconds(layout)) / len(turns)
    for layout in ('pid', 'pie')
  }


def report(model_dir: str, results: dict, seconds: dict[str, float]) -> str:
  """Formats the results.

  Args:
    model_dir: of the run.
    results: metrics.json of `evaluate`.
    seconds: of `time_layouts`.
  """
  metrics = results['metrics']
  pid, pie = seconds['pid'], seconds['pie']
  rows = (
    ('joint goal accuracy, test', f'{joint_goal_accuracy(metrics):.3f}'),
    ('slot accuracy, test', f'{metrics[f"{TASK}/slot_accuracy"]:.4f}'),
    ('time per dialogue turn, 30 prompts', ''),
    ('  prompt-in-decoder (PiD)', f'{1000 * pid:.1f} ms'),
    ('  prompt-in-encoder (PiE)', f'{1000 * pie:.1f} ms, {pie / pid:.1f}x PiD'),
  )
  written = (
    ('checkpoints', 'checkpoints/'),
    ('TensorBoard logs', 'tensorboard/'),
    ('metrics, predictions', 'test/'),
    ('answers of predict', 'answers.jsonl'),
  )
  commands = (
    f'tensorboard --logdir={model_dir}/tensorboard',
    f'python -m pid_jax.predict --model_dir={model_dir} '
    f'--input={model_dir}/questions.jsonl --output=again.jsonl --scores',
    'make bookings',
  )
  rule = '-' * 64
  return '\n'.join(
    [
      '',
      rule,
      *(f'{label:<38}{value}'.rstrip() for label, value in rows),
      rule,
      *(f'{label:<38}{os.path.join(model_dir, p)}' for label, p in written),
      rule,
      'Next, after `source .venv/bin/activate`:',
      *(f'  {line}' for line in commands),
    ]
  )


def joint_goal_accuracy(metrics: dict[str, float]) -> float:
  """Returns the one metric of the task that model selection goes by."""
  return metrics[f'{TASK}/joint_goal_accuracy']


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, preload=['seqio'], check=check)

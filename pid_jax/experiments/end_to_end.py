# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole processes: from the start of one to the answers to a file of texts.

Users of a small model wait for imports, loading and compiling as much as for
the work. So each contender is a process of its own (`end_to_end_child`, or the
command `predict`) that reads texts and writes texts. This library's run twice:
'cold', with an empty compilation cache, and 'warm', with the one that 'cold'
left.

The model has 2.2 million parameters; texts are made-up words of its vocabulary.
Its weights are those of `synthetic`, with a chain of words: the last word of a
prompt tells its output, in any library.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any
import warnings

import numpy as np
import sentencepiece

from pid_jax import checkpoints
from pid_jax import config as config_lib
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.experiments import end_to_end_child as child_lib
from pid_jax.experiments import output
from pid_jax.experiments import synthetic
from pid_jax.experiments import timer
from pid_jax.experiments import workloads


@dataclasses.dataclass(frozen=True)
class Contender:
  """A process to be timed.

  Attributes:
    name: of the contender; of another library's, that in `workloads`.
    format: of the model that it reads.
    program: of `end_to_end_child`; None: it is the command `predict`.
    is_cold: whether it starts with an empty compilation cache.
  """

  name: str
  format: str
  program: str | None
  is_cold: bool = False


BASELINES = (
  workloads.TRANSFORMERS_PIE,
  workloads.TRANSFORMERS_TILED,
  workloads.CTRANSLATE2_FLOAT32,
  workloads.CTRANSLATE2_INT8,
)
CONTENDERS = (
  Contender('pid_jax_cold', 'native', 'pid_jax', is_cold=True),
  Contender('pid_jax_warm', 'native', 'pid_jax'),
  Contender('predict_cold', 'native', None, is_cold=True),
  Contender('predict_warm', 'native', None),
  *(Contender(name, name.partition('_')[0], name) for name in BASELINES),
)

# `start` is the interpreter's; `first` ends with the first answers, `rest` when
# all are there, `end` with the process.
PHASES = ('start', 'import', 'load', 'first', 'rest', 'end')
NUM_PROMPTS = 4
MODEL = config_lib.T5Config(
  size='quickstart',
  vocab_size=4096,
  num_tokens=4000,
  logits_via_embedding=False,
)

# Runs of each contender: of few texts they are short.
_NUM_RUNS, _NUM_RUNS_OF_MANY = 3, 1
_MANY = 100
_QUESTIONS = 'questions.jsonl'


@dataclasses.dataclass(frozen=True)
class Questions:
  """Texts with prompts, and what a model of `make_model` answers.

  Attributes:
    lines: as `pid_jax.predict` reads them.
    answers: of each line, for each prompt.
  """

  lines: list[dict[str, Any]]
  answers: list[list[str]]


class Words:
  """Words that are one token each; some make the chain.

  Attributes:
    vocabulary: SentencePiece's Unigram, of 4,000 pieces.
    chain: words of which each is followed by the one before it, the first by
      EOS.
    others: all that are not in it.
  """

  def __init__(self):
    """Trains a vocabulary on made-up words, in a second."""
    rng = np.random.default_rng(0)
    syllables = [x + y for x in 'bdfgklmnprstvz' for y in 'aeiou']
    drawn = (rng.choice(syllables, n) for n in rng.integers(2, 6, 12_000))
    words = list(dict.fromkeys(map(''.join, drawn)))
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(words * 2),
      model_writer=content,
      vocab_size=MODEL.num_tokens,
      pad_id=vocabulary_lib.PAD_ID,
      eos_id=vocabulary_lib.EOS_ID,
      unk_id=vocabulary_lib.UNK_ID,
      bos_id=-1,
      num_threads=1,
      minloglevel=2,
    )
    self.vocabulary = vocabulary_lib.Vocabulary(
      'words.model', content=content.getvalue()
    )
    whole = [x for x in words if len(self.vocabulary.encode(x)) == 1]
    longest = child_lib.MAX_NEW_TOKENS  # EOS included.
    self.chain, self.others = whole[:longest], whole[longest:]

  @property
  def chain_ids(self) -> list[int]:
    """The id of each word of the chain."""
    return self.vocabulary.encode(' '.join(self.chain))


def make_questions(words: Words, count: int, seed: int = 0) -> Questions:
  """Draws texts of 20 to 220 tokens, 80 in the mean, few of them long.

  Outputs have 3 to 31 tokens, 10 in the mean; prompts 2 to 5.
  """
  rng = np.random.default_rng(seed)
  lengths = rng.lognormal(np.log(72), 0.5, count).clip(20, 220).astype(int)
  shape = count, NUM_PROMPTS
  outputs = rng.lognormal(np.log(9), 0.45, shape).clip(3, len(words.chain))
  others = np.array(words.others)
  draw = lambda n: rng.choice(others, n).tolist()
  lines, answers = [], []
  for i, length in enumerate(lengths.tolist()):
    subtasks, expected = [], []
    for u, last in enumerate(outputs[i].astype(int).tolist()):
      prompt = [*draw(rng.integers(1, 5)), words.chain[last - 1]]
      subtasks.append({'name': f'subtask {u}', 'prompt': ' '.join(prompt)})
      expected.append(' '.join(words.chain[: last - 1][::-1]))
    lines.append({'inputs': ' '.join(draw(length - 1)), 'subtasks': subtasks})
    answers.append(expected)
  return Questions(lines, answers)


def make_models(words: Words, folder: pathlib.Path, formats: set[str]) -> None:
  """Writes the model in some formats, each to a folder of its name.

  Args:
    words: of its vocabulary.
    folder: to write into.
    formats: of 'native', 'transformers' and 'ctranslate2', which is made of
      the second.
  """
  params = synthetic.make_params(MODEL, 'synthetic', chain=words.chain_ids)
  task = {'name': 'words', 'layout': 'pid'}
  model = checkpoints.Pretrained(MODEL, params, words.vocabulary, task, 0)
  checkpoints.save(folder / 'native', model)
  if formats & {'transformers', 'ctranslate2'}:
    checkpoints.save(folder / 'transformers', model, format='hugging_face')
  if 'ctranslate2' in formats:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      from ctranslate2.converters import transformers as converters
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    converter = converters.TransformersConverter(
      str(folder / 'transformers'), copy_files=['spiece.model']
    )
    converter.convert(str(folder / 'ctranslate2'))


def run(
  counts: Sequence[int],
  missing: Collection[str],
  *,
  contenders: Sequence[Contender] = CONTENDERS,
  time_limit: float = 240.0,
) -> Iterator[list[dict[str, Any]]]:
  """Runs all contenders in turns, over rising numbers of texts.

  Args:
    counts: numbers of texts.
    missing: names of contenders to leave out.
    contenders: those that are warm after those that are cold.
    time_limit: seconds that a process may take. Contenders that would take
      longer, by what they took for fewer texts, are left out.

  Yields:
    After each count 'end_to_end' of `benchmark_report`, so far.

  Raises:
    RuntimeError: a process failed.
  """
  contenders = [x for x in contenders if x.name not in missing]
  rows: list[dict[str, Any]] = []
  with tempfile.TemporaryDirectory(prefix='pid_jax_benchmark_') as temporary:
    folder, words = pathlib.Path(temporary), Words()
    make_models(words, folder, {x.format for x in contenders})
    for count in sorted(set(counts)):
      output.say(f'{count:,} texts, whole processes ...')
      questions = make_questions(words, count)
      lines = [json.dumps(line) + '\n' for line in questions.lines]
      (folder / _QUESTIONS).write_text(''.join(lines))
      needs = {
        x.name: _expected_seconds(rows, x.name, count) for x in contenders
      }
      todo = [x for x in contenders if needs[x.name] <= time_limit]
      runs: dict[str, list[Run]] = {x.name: [] for x in todo}
      for _ in range(_NUM_RUNS_OF_MANY if count >= _MANY else _NUM_RUNS):
        for contender in todo:
          runs[contender.name].append(run_process(contender, folder))
      rows.append(
        {
          'texts': count,
          'prompts': NUM_PROMPTS,
          'contenders': {
            name: _row(found, questions) for name, found in runs.items()
          },
          'skipped': {
            x.name: needs[x.name] for x in contenders if x not in todo
          },
        }
      )
      yield rows


@dataclasses.dataclass(frozen=True)
class Run:
  """What a process did.

  Attributes:
    seconds: from its start to its end.
    answers: as of `Questions`.
    phases: seconds of each, in their order; empty where it tells of none.
    programs: see `end_to_end_child`; or None.
  """

  seconds: float
  answers: list[list[str]]
  phases: dict[str, float]
  programs: dict[str, float] | None


def run_process(contender: Contender, folder: pathlib.Path) -> Run:
  """Runs a process of a contender and waits for it.

  Args:
    contender: to run.
    folder: with its model and questions; for its compilation cache and answers.

  Raises:
    RuntimeError: it failed.
  """
  cache = folder / ('cache_' + (contender.program or 'predict'))
  if contender.is_cold:
    shutil.rmtree(cache, ignore_errors=True)
  model, questions, answers = (
    str(folder / name) for name in (contender.format, _QUESTIONS, 'answers')
  )
  if contender.program is None:
    command = ['-m', 'pid_jax.predict', f'--model_dir={model}']
    command += [f'--input={questions}', f'--output={answers}']
    command += [f'--max_new_tokens={child_lib.MAX_NEW_TOKENS}']
  else:
    command = ['-P', child_lib.__file__, contender.program]
    command += [model, questions, answers]
  # The cache is where and as this library keeps it, unless it is told another;
  # and nothing is looked for on the network.
  environment = {**os.environ, 'XDG_CACHE_HOME': str(cache)}
  environment['HF_HUB_OFFLINE'] = '1'
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  start = time.time()
  done = subprocess.run(
    [sys.executable, *command],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  end = time.time()
  if done.returncode:
    raise RuntimeError(f'{contender.name} failed:\n{done.stderr[-2000:]}')
  text = pathlib.Path(answers).read_text(encoding='utf-8')
  if contender.program is None:
    written = [json.loads(line)['subtasks'] for line in text.splitlines()]
    texts = [[subtask['prediction'] for subtask in line] for line in written]
    return Run(end - start, texts, {}, None)
  result = json.loads(text)
  times = {**result['clock'], 'end': end}
  phases = {
    name: after - before
    for (name, after), before in zip(
      times.items(), [start, *times.values()], strict=False
    )
  }
  return Run(end - start, result['answers'], phases, result['programs'])


def _row(runs: Sequence[Run], questions: Questions) -> dict[str, Any]:
  """The times of a contender, with the phases of the run in the middle."""
  middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
  equal = [
    x == y
    for got, expected in zip(middle.answers, questions.answers, strict=True)
    for x, y in zip(got, expected, strict=True)
  ]
  return {
    'seconds': timer.spread([run.seconds for run in runs]),
    'phases': middle.phases,
    'programs': middle.programs,
    'equal_answers': sum(equal) / len(equal),
  }


def _expected_seconds(
  rows: Sequence[Mapping[str, Any]], name: str, count: int
) -> float:
  """Seconds that a process will take, by what it took for fewer texts."""
  known = [
    (row['texts'], row['contenders'][name]['seconds']['median'])
    for row in rows
    if name in row['contenders']
  ]
  if len(known) < 2:
    return 0.0
  (fewer, before), (more, after) = known[-2:]
  return after + max(after - before, 0.0) / (more - fewer) * (count - more)


def faster_from(
  rows: Sequence[Mapping[str, Any]], name: str, other: str
) -> float | None:
  """Returns from how many texts on a contender is faster than another.

  Args:
    rows: 'end_to_end' of a report.
    name: of the contender.
    other: the one that is to be slower for that number and all greater ones.

  Returns:
    A number of texts, on the lines between measured points; the least that was
    measured, if it is faster there; None: it is slower at the end.
  """
  seconds = lambda row, who: row['contenders'][who]['seconds']['median']
  lead = [
    (row['texts'], seconds(row, other) - seconds(row, name))
    for row in rows
    if {name, other} <= set(row['contenders'])
  ]
  found = None
  for (count, ahead), (fewer, before) in zip(
    lead[::-1], [*lead[-2::-1], (0, 0.0)], strict=True
  ):
    if ahead <= 0:
      break
    found = float(count)
    if fewer and before <= 0:
      return fewer + (count - fewer) * -before / (ahead - before)
  return found

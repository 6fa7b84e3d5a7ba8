# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Writes a web page for viewing predictions, one file that works offline.

Examples:
  python -m pid_jax.report /tmp/model
  python -m pid_jax.report answers.jsonl --output=answers.html

SOURCE is a MODEL_DIR (its latest evaluation, and the curves of its training), a
folder or a TASK.jsonl that `python -m pid_jax.evaluate` wrote, or the output of
`python -m pid_jax.predict`. The page shows gold values and predictions side by
side, counts the kinds of errors, filters and searches, and shows the state of
dialogues turn by turn.
"""

import argparse

from pid_jax import cli
from pid_jax import flag_types


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  add = parser.add_argument
  add(
    'source',
    type=flag_types.path,
    metavar='SOURCE',
    help='a file or folder of predictions',
  )
  add(
    '--output',
    type=flag_types.path,
    metavar='FILE',
    help='default: SOURCE.html beside a file, report.html inside a folder',
  )
  add(
    '--empty',
    action='extend',
    type=flag_types.comma_separated('word'),
    default=[],
    metavar='WORD,WORD',
    help='targets that say "nothing here", besides none and unanswerable',
  )


def main(args: argparse.Namespace) -> None:
  """Writes the page and prints a summary of it."""
  from pid_jax import viewer
  from pid_jax.viewer import comparing

  output = args.output or viewer.default_output(args.source)
  words = {*comparing.EMPTY_WORDS, *(' '.join(w.split()) for w in args.empty)}
  summary = viewer.write_report(args.source, output, words)
  errors = ''
  if summary.num_errors is not None:
    errors = f', {summary.num_errors} errors'
  print(f'{summary.num_examples} examples{errors}: {output}')
  for note in summary.notes:
    print(note)


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, compute_on=None)

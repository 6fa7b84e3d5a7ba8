# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Answers the prompts of a JSONL file with a trained model.

Example:
  python -m pid_jax.predict --model_dir=/tmp/model \
      --input=questions.jsonl --output=answers.jsonl

Each line of --input is an object
  {"inputs": "...", "subtasks": [{"name": "...", "prompt": "..."}, ...]}
and each line of --output the same with an "id", and in each subtask a
"prediction" (with --scores a "score", too: its log-probability): one of its
"choices", if it has such a list. "inputs_truncated": true marks inputs that the
model could not read to the end. The output appears when complete; until then
its results are in OUTPUT.parts, from which the same command resumes.
"""

import argparse
import logging

from pid_jax import checks
from pid_jax import cli
from pid_jax import files
from pid_jax import flag_types

logger = logging.getLogger('pid_jax.predict')  # As a command, __main__.


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  add = parser.add_argument
  cli.add_model_flags(parser)
  add(
    '--input',
    type=flag_types.path,
    metavar='FILE',
    required=True,
    help='JSONL to answer',
  )
  add(
    '--output',
    type=flag_types.path,
    metavar='FILE',
    required=True,
    help='JSONL to write',
  )
  add('--scores', action='store_true', help='write log-probabilities, too')
  add(
    '--batch_size',
    type=flag_types.integer(1, checks.MOST_INPUTS),
    default=16,
    metavar='N',
    help='inputs together; default: 16',
  )


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before JAX is loaded."""
  cli.check_model_flags(args)
  source = files.check_regular(args.input, '--input')
  files.check_output(args.output, [source])


def main(args: argparse.Namespace) -> None:
  """Answers the file."""
  from pid_jax import checkpoints
  from pid_jax import inference
  from pid_jax.inference import predict_file

  options = cli.decoding_options(args)
  model = checkpoints.open_checkpoint(args.model_dir, args.step)
  logger.info('the model is %s', model.describe())
  load_options = cli.load_options(args)
  num_lines = inference.answer_file(
    lambda: inference.PromptInDecoder.from_pretrained(model, **load_options),
    args.input,
    args.output,
    options,
    batch_size=args.batch_size,
    with_scores=args.scores,
    model_name=predict_file.model_name(model, load_options),
  )
  cli.say(f'{num_lines} examples written to {args.output}')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, check=check, join=True)

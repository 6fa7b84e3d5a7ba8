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
its results are in OUTPUT.parts, with which the same command goes on.
"""

import argparse

from pid_jax import cli


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's own flags."""
  add = parser.add_argument
  add('--model_dir', metavar='DIR', required=True, help='of training')
  add('--input', metavar='FILE', required=True, help='JSONL to answer')
  add('--output', metavar='FILE', required=True, help='JSONL to write')
  cli.add_step_flag(parser)
  cli.add_decoding_flags(parser)
  add('--scores', action='store_true', help='write log-probabilities, too')
  add('--batch_size', type=int, default=16, help='inputs together; default: 16')
  add('--long_inputs', help='keep_start, keep_end or error; else as trained')
  add('--num_partitions', type=int, default=1, help='devices to a model')


def main(args: argparse.Namespace) -> None:
  """Answers the file."""
  from pid_jax import checkpoints
  from pid_jax import inference

  options = cli.decoding_options(args)
  model = checkpoints.open_checkpoint(args.model_dir, args.step)
  num_lines = inference.answer_file(
    lambda: inference.PromptInDecoder.from_pretrained(
      model,
      param_dtype=args.param_dtype,
      num_partitions=args.num_partitions,
      long_inputs=args.long_inputs,
    ),
    args.input,
    args.output,
    options,
    batch_size=args.batch_size,
    with_scores=args.scores,
    model_name=f'{model.path} {model.fingerprint()} {args.param_dtype}',
  )
  cli.say(f'{num_lines} examples written to {args.output}')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, join=True)

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
from pid_jax.subtasks import examples


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's own flags."""
  add = parser.add_argument
  cli.add_model_flags(parser)
  cli.add_mesh_flags(parser)
  add('--input', metavar='FILE', required=True, help='JSONL to answer')
  add('--output', metavar='FILE', required=True, help='JSONL to write')
  add(
    '--max_new_tokens',
    type=int,
    metavar='N',
    help='cut predictions here; default: as in training, else 32',
  )
  add('--scores', action='store_true', help='write log-probabilities, too')
  add('--batch_size', type=int, default=16, help='inputs together; default: 16')
  add('--temperature', type=float, help='draw predictions, sharper below 1')
  add('--top_k', type=int, metavar='K', help='draw from the K likeliest tokens')
  add('--top_p', type=float, metavar='P', help='draw from the likeliest P of 1')
  add('--lookup', action='store_true', help='copy drafts from inputs')
  add('--beam_size', type=int, metavar='N', help='search with N beams instead')
  add('--length_penalty', type=float, default=0.6, help='default: 0.6')
  add(
    '--long_inputs',
    choices=examples.LONG_INPUTS,
    help='what to do with an input that is too long; default: as in training',
  )
  add('--seed', type=int, default=0, help='of drawing; default: 0')


def main(args: argparse.Namespace) -> None:
  """Answers the file."""
  from pid_jax import checkpoints
  from pid_jax import decoding
  from pid_jax import inference

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
    model_name=f'{model.path} {model.fingerprint()} {args.param_dtype}',
    max_new_tokens=args.max_new_tokens,
    with_scores=args.scores,
    batch_size=args.batch_size,
    sampler=decoding.make_sampler(args.temperature, args.top_k, args.top_p),
    seed=args.seed,
    lookup=decoding.PromptLookup() if args.lookup else None,
    beam_size=args.beam_size,
    length_penalty=args.length_penalty,
  )
  cli.say(f'{num_lines} examples written to {args.output}')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, join=True)

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers on one device and with the model split over two; prints JSON.

Run by inference_test.py with eight devices: their number is fixed when JAX
starts.
"""

import json
import pathlib
import tempfile

import jax
import words_model

from pid_jax import checkpoints
from pid_jax import inference


def main() -> None:
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    vocabulary = words_model.make_vocabulary(folder)
    config, params = words_model.make_weights(vocabulary, num_layers=1)
    checkpoints.save(
      folder / 'model',
      checkpoints.Pretrained(config, params, vocabulary, words_model.TASK, 1),
    )
    inputs, prompts = words_model.random_job(4)
    found = {}
    for num_partitions in (1, 2):
      model = inference.PromptInDecoder.from_pretrained(
        folder / 'model', num_partitions=num_partitions
      )
      requests = map(inference.Request, inputs, prompts)
      leaves = jax.tree.leaves(model._params)
      found[num_partitions] = {
        'generate': model.generate(inputs, prompts, 6, return_scores=True),
        'choose': model.choose(
          inputs, prompts, [[['ant', 'bee']] * len(own) for own in prompts]
        ),
        'stream': [r.outputs for r in model.stream(requests, 6)],
        'bytes': sum(x.addressable_shards[0].data.nbytes for x in leaves),
        'all_bytes': sum(x.nbytes for x in leaves),
      }
  print(json.dumps(found))


if __name__ == '__main__':
  main()

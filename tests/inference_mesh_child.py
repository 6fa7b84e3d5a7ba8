# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers on one device and with the model split over two; prints JSON.

Run by inference_test.py with eight devices: their number is fixed when JAX
starts.
"""

import dataclasses
import json
import pathlib
import tempfile

import jax
from toys import animals

from pid_jax import checkpoints
from pid_jax import decoding
from pid_jax import inference
from pid_jax import network
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib


def main() -> None:
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    vocabulary = animals.vocabulary()
    # Most parameters are kernels.
    config, params = animals.config_and_params(
      emb_dim=32, num_heads=4, mlp_dim=64
    )
    checkpoints.save(
      folder / 'model',
      checkpoints.Pretrained(config, params, vocabulary, animals.TASK, 1),
    )
    inputs, prompts = animals.random_job(4)
    found = {}
    here = platforms.of()
    for name, num_partitions, scans in (
      (1, 1, False),
      (2, 2, False),
      ('scanned', 2, True),
    ):
      platform = dataclasses.replace(here, scan_layers=scans)
      platforms.of = lambda devices=None, platform=platform: platform
      model = inference.PromptInDecoder.from_pretrained(
        folder / 'model', num_partitions=num_partitions
      )
      assert model.config.scan_layers == scans
      requests = map(inference.Request, inputs, prompts)
      leaves = jax.tree.leaves(model.engine.params)
      found[name] = {
        'generate': model.generate(inputs, prompts, 6, return_scores=True),
        'choose': model.choose(
          inputs, prompts, [[['ant', 'bee']] * len(own) for own in prompts]
        ),
        'stream': [r.outputs for r in model.stream(requests, 6)],
        'bytes': sum(x.addressable_shards[0].data.nbytes for x in leaves),
        'all_bytes': sum(x.nbytes for x in leaves),
      }
    found['engine'] = {
      name: _decoded(config, params, vocabulary, partitioner)
      for name, partitioner in (
        ('one', None),
        ('mesh', partitioning.Partitioner(2, 2)),
      )
    }
  print(json.dumps(found))


def _decoded(config, params, vocabulary, partitioner) -> dict:
  """What an engine decodes, on a mesh of two on each axis or one device."""
  module = network.Transformer(config)
  if partitioner is not None:
    wanted = checkpoints.abstract_params(config, partitioner)
    params = jax.device_put(params, jax.tree.map(lambda x: x.format, wanted))
  engine = engine_lib.Engine(module, params, partitioner)
  programs, packed_lengths = engine.programs, []
  if partitioner is not None:  # Packs prompts whatever it takes to compile.
    programs.platform = dataclasses.replace(
      programs.platform, flops_per_second=1.0
    )
  start = programs.start

  def noted_start(kind, *args, **kwargs):
    if 'packed_prompt_length' in kwargs:
      packed_lengths.append(kwargs['packed_prompt_length'])
    return start(kind, *args, **kwargs)

  programs.start = noted_start
  inputs, prompts = animals.random_job(6, seed=2, most_prompts=3)
  for own in prompts[::2]:
    own.append('ant bee cat dog eel fox gnu hen')
  encode = vocabulary.encode
  choices = [tuple(tuple(encode(text)) for text in ('ant', 'bee cat')), None]
  requests = [
    batching.TokenRequest(
      [*encode(text), 1],
      [encode(prompt) for prompt in own],
      choices=[choices[i % 2]] * len(own),
    )
    for i, (text, own) in enumerate(zip(inputs, prompts, strict=True))
  ]
  generated = engine.generate(
    requests,
    inference.DecodingOptions(6, sampler=decoding.Sample(), seed=1),
    batch_size=4,
  )
  to_score = [
    dataclasses.replace(x, choices=(), targets=[[[5, 1]] for _ in x.prompts])
    for x in requests
  ]
  return {
    'packed_lengths': packed_lengths,
    'tokens': [x.tokens.tolist() for x in generated],
    'log_probs': [x.log_probs.tolist() for x in generated],
    'scores': [x[:, 0].tolist() for x in engine.score(to_score, batch_size=4)],
  }


if __name__ == '__main__':
  main()

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""On accelerators programs loop over layers, whatever the checkpoint has.

The platform is this machine's, told to scan.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import animals
from toys import training

from pid_jax import checkpoints
from pid_jax import inference
from pid_jax import network
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax import trainer
from pid_jax.trainer import setup

ONE_DEVICE = partitioning.Partitioner(devices=jax.devices()[:1])


def scan_from_now_on(monkeypatch):
  scanning = dataclasses.replace(platforms.of(), scan_layers=True)
  monkeypatch.setattr(platforms, 'of', lambda devices=None: scanning)


def _is_stacked(params):
  names = {*params['encoder'], *params['decoder']}
  assert {'encoder', 'decoder'} <= names or 'layers_0' in names
  return 'layers_0' not in names


@pytest.mark.parametrize('param_dtype', ['float32', 'int8'])
def test_models_answer_as_with_layers_apart(monkeypatch, tmp_path, param_dtype):
  config, params = animals.config_and_params(
    num_encoder_layers=2, num_decoder_layers=3
  )
  vocabulary, task = animals.vocabulary(), animals.TASK
  checkpoints.save(
    tmp_path / 'm', checkpoints.Pretrained(config, params, vocabulary, task, 3)
  )
  axes = network.param_axes(network.Transformer(config))
  kept = network.quantize_params(params, axes, param_dtype)
  job = animals.random_job(5)
  answer = lambda model: model.generate(*job, 5, return_scores=True)
  apart = inference.PromptInDecoder(config, kept, vocabulary, task)
  assert not _is_stacked(apart.engine.params)
  texts, scores = answer(apart)

  scan_from_now_on(monkeypatch)
  models = [
    inference.PromptInDecoder.from_pretrained(
      tmp_path / 'm', param_dtype=param_dtype
    ),
    inference.PromptInDecoder(config, kept, vocabulary, task, ONE_DEVICE),
  ]
  for model in models:
    assert model.config.scan_layers and _is_stacked(model.engine.params)
    got, got_scores = answer(model)
    assert got == texts
    for x, y in zip(got_scores, scores, strict=True):
      np.testing.assert_allclose(x, y, atol=1e-4)
  # Whether they are stacked or quantized first.
  assert jax.tree.structure(models[0].engine.params) == jax.tree.structure(
    models[1].engine.params
  )
  leaves = [jax.tree.leaves(model.engine.params) for model in models]
  for x, y in zip(*leaves, strict=True):
    assert x.dtype == y.dtype and np.array_equal(x, y)


def test_logits_are_those_of_layers_apart():
  config, params = animals.config_and_params(
    num_encoder_layers=2, num_decoder_layers=3
  )
  scanned = dataclasses.replace(config, scan_layers=True)
  tokens = jnp.arange(2, 26, dtype=jnp.int32).reshape(2, 12)
  logits = lambda config, params: network.Transformer(config).apply(
    {'params': params}, tokens, tokens, enable_dropout=False
  )
  np.testing.assert_allclose(
    logits(scanned, network.stack_layers(params)),
    logits(config, params),
    atol=1e-5,
  )


def test_evaluation_stacks_what_training_kept_apart(monkeypatch, tmp_path):
  training.copy_finished(tmp_path)
  evaluate = lambda: trainer.evaluate(
    tmp_path, training.dataset_config('validation'), quiet=True
  )[0]
  expected = evaluate()
  scan_from_now_on(monkeypatch)
  restored = []
  load = checkpoints.load_for_inference
  monkeypatch.setattr(
    checkpoints,
    'load_for_inference',
    lambda *args, **options: (
      restored.append(load(*args, **options)) or restored[0]
    ),
  )
  assert evaluate() == expected
  assert _is_stacked(restored[0].params)


def test_training_keeps_the_form_in_which_it_began(monkeypatch, tmp_path):
  training.copy_finished(tmp_path)  # On a CPU.
  free = training.t5_model(scan_layers=None)
  chosen = lambda model, model_dir: (
    setup.choose_scanning(
      model, ONE_DEVICE, model_dir
    ).module.config.scan_layers
  )
  assert chosen(free, None) is False
  scan_from_now_on(monkeypatch)
  assert chosen(free, tmp_path / 'new') is True
  assert chosen(free, tmp_path) is False
  # What is configured wins.
  assert chosen(training.t5_model(scan_layers=False), None) is False
  state = training.train(tmp_path, model=free, total_steps=3)
  assert int(state.step) == 3 and not _is_stacked(state.params)
  assert checkpoints.read_config(tmp_path)['model']['scan_layers'] is False


@pytest.mark.parametrize(
  'name, scans',
  [('cpu', False), ('tpu', True), ('gpu', True), ('cuda', True)],
)
def test_a_mesh_may_exist_in_name_only(name, scans):
  device = types.SimpleNamespace(platform=name)
  assert platforms.of([device]).scan_layers == scans
  assert platforms.of(device).scan_layers == scans

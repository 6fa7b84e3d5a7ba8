# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X and we read what the other wrote, and compute and train the same.

The tests that run T5X itself are skipped where it is not installed.
"""

import dataclasses
import os

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import checkpoints_data as data

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax.checkpoints import t5x as t5x_format
from pid_jax.checkpoints import tensors
from pid_jax.config import T5Config

# 32 buckets and a distance of 128 are built into T5X's networks.
CONFIG = T5Config(
  vocab_size=160,
  emb_dim=130,  # Wide enough for Adafactor to factor the embedding.
  num_heads=3,
  head_dim=5,
  num_encoder_layers=3,
  num_decoder_layers=2,
  mlp_dim=137,
  mlp_activations=('gelu', 'linear'),
  dropout_rate=0.0,
)
TIED = dataclasses.replace(
  CONFIG, logits_via_embedding=True, mlp_activations=('relu',)
)
SCANNED = dataclasses.replace(CONFIG, scan_layers=True)
OWN_BIASES = dataclasses.replace(SCANNED, relpos_bias_per_layer=True)
APART = dataclasses.replace(CONFIG, relpos_bias_per_layer=True)
CONFIGS = {
  'minimal': CONFIG,
  'tied': TIED,
  'scanned': SCANNED,
  'own_biases': OWN_BIASES,
  'apart': APART,
}


@pytest.mark.parametrize('name', CONFIGS)
def test_ours_to_t5x_to_ours(name, tmp_path):
  before = data.random_pretrained(CONFIGS[name])
  checkpoints.save(tmp_path / 'ours', before)
  checkpoints.convert(tmp_path / 'ours', tmp_path / 't5x', target_format='t5x')
  checkpoints.convert(tmp_path / 't5x', tmp_path / 'back')
  after = checkpoints.load(tmp_path / 'back')
  assert after.config == before.config and after.task == before.task
  data.assert_same_bits(before.params, after.params)

  # Without our config.json, the shapes tell what the model is.
  (tmp_path / 't5x' / 'config.json').unlink()
  told = checkpoints.load(tmp_path / 't5x' / 'checkpoint_0')
  assert dataclasses.replace(
    told.config, dropout_rate=0.0
  ) == dataclasses.replace(
    before.config,
    relpos_bias_per_layer=name in ('scanned', 'own_biases', 'apart'),
  )
  if name == 'scanned':  # Its one bias is one in each layer now.
    got, expected = data.logits(told), data.logits(before)
    np.testing.assert_allclose(
      got, expected, rtol=1e-4, atol=1e-4 * expected.std()
    )


def test_bfloat16_on_disk(tmp_path):
  before = data.random_pretrained(CONFIG)
  rounded = jax.tree.map(
    lambda p: p.astype(jnp.bfloat16).astype(np.float32), before.params
  )
  for name in ('ours', 't5x', 'hugging_face'):
    checkpoints.save(tmp_path / name, before, format=name, dtype='bfloat16')
    size = sum(f.stat().st_size for f in (tmp_path / name).rglob('*'))
    assert size < 1.3 * 2 * sum(p.size for p in jax.tree.leaves(before.params))
    loaded = checkpoints.load(tmp_path / name)
    data.assert_same_bits(loaded.params, rounded)


@pytest.mark.parametrize('there', ['minimal', 'scanned', 'own_biases'])
@pytest.mark.parametrize('here', ['minimal', 'scanned', 'own_biases', 'apart'])
def test_any_layout_is_read_into_any(there, here, tmp_path):
  """As when a run begins with the checkpoint of a model laid out otherwise."""
  before = data.random_pretrained(CONFIGS[there])
  checkpoints.save(tmp_path / 'x', before)
  opened = checkpoints.open_checkpoint(tmp_path / 'x')
  if there == 'own_biases' and here in ('minimal', 'scanned'):
    with pytest.raises(errors.UserError, match='in each layer.*they differ'):
      opened.check(CONFIGS[here])
    return
  opened.check(CONFIGS[here])
  params = opened.restore(
    CONFIGS[here], checkpoints.abstract_params(CONFIGS[here])
  )
  after = dataclasses.replace(before, config=CONFIGS[here], params=params)
  if (there, here) in (('minimal', 'scanned'), ('scanned', 'apart')):
    expected = data.logits(before)
    np.testing.assert_allclose(
      data.logits(after), expected, rtol=1e-4, atol=1e-4 * expected.std()
    )
  checkpoints.save(tmp_path / 'y', after)
  opened = checkpoints.open_checkpoint(tmp_path / 'y')
  back = opened.restore(
    CONFIGS[there], checkpoints.abstract_params(CONFIGS[there])
  )
  data.assert_same_bits(back, before.params)


def test_another_function_of_the_same_shapes_is_refused(tmp_path):
  checkpoints.save(tmp_path / 'x', data.random_pretrained(CONFIG))
  other = dataclasses.replace(
    CONFIG, mlp_activations=('relu', 'linear'), relpos_max_distance=99
  )
  with pytest.raises(errors.UserError, match='mlp_activations.*max_distance'):
    checkpoints.open_checkpoint(tmp_path / 'x').check(other)


def test_a_warning_of_what_t5x_has_built_in(tmp_path, caplog):
  odd = dataclasses.replace(CONFIG, relpos_max_distance=64)
  checkpoints.save(tmp_path / 'x', data.random_pretrained(odd), format='t5x')
  assert 'relpos_max_distance is 64 here, but always 128' in caplog.text


def _t5x_run(config: T5Config):
  """T5X's own model, its state after three steps, and how to go on."""
  import seqio
  from t5x import adafactor
  from t5x import models
  from t5x import partitioning
  from t5x import trainer
  from t5x import utils

  scalable = config.scan_layers or config.relpos_bias_per_layer
  if scalable:
    from t5x.examples.scalable_t5 import network
  else:
    from t5x.examples.t5 import network
  fields = config.to_dict()
  known = {f.name for f in dataclasses.fields(network.T5Config)}
  fields = {k: v for k, v in fields.items() if k in known}
  if not scalable:
    fields.pop('scan_layers', None)
  module = network.Transformer(config=network.T5Config(**fields))
  optimizer = adafactor.Adafactor(
    decay_rate=0.8,
    step_offset=0,
    logical_factor_rules=adafactor.standard_logical_factor_rules(),
  )
  vocabulary = seqio.ByteVocabulary()
  model = models.EncoderDecoderModel(
    module=module,
    input_vocabulary=vocabulary,
    output_vocabulary=vocabulary,
    optimizer_def=optimizer,
  )
  partitioner = partitioning.PjitPartitioner(num_partitions=1)
  inputs, targets = data.ids(config)
  batch = {
    'encoder_input_tokens': inputs,
    'decoder_input_tokens': targets,
    'decoder_target_tokens': np.maximum(targets, 1),
    'decoder_loss_weights': np.ones(targets.shape, np.float32),
  }
  shapes = {k: v.shape for k, v in batch.items()}
  initializer = utils.TrainStateInitializer(
    optimizer_def=optimizer,
    init_fn=model.get_initial_variables,
    input_shapes=shapes,
    input_types={k: v.dtype for k, v in batch.items()},
    partitioner=partitioner,
  )
  axes = initializer.train_state_axes
  step = partitioner.partition(
    lambda state, batch: trainer.train_with_lr(
      state,
      batch,
      learning_rate=1e-2,
      dropout_rng=jax.random.PRNGKey(0),
      model=model,
      num_microbatches=None,
    )[0],
    in_axis_resources=(axes, None),
    out_axis_resources=axes,
  )
  state = initializer.from_scratch(jax.random.PRNGKey(1))
  for _ in range(3):
    state = step(state, batch)
  apply = jax.jit(module.apply, static_argnames='enable_dropout')

  def logits(state):
    features = [batch[k] for k in list(batch)[:3]]
    return apply({'params': state.params}, *features, enable_dropout=False)

  return state, partitioner, lambda state: step(state, batch), logits


@pytest.mark.t5x
@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize('name', ['minimal', 'tied', 'own_biases', 'apart'])
@jax.numpy_rank_promotion('allow')  # T5X relies on it.
def test_t5x_itself(name, tmp_path):
  from t5x import checkpoints as t5x_checkpoints

  config = CONFIGS[name]
  state, partitioner, step, logits = _t5x_run(config)
  expected = np.asarray(logits(state))

  # What it writes, in both of its formats, loads here.
  for folder in ('today', 'legacy'):
    os.makedirs(tmp_path / folder)
  manager = t5x_checkpoints.OrbaxCheckpointManagerInterface(
    str(tmp_path / 'today'), state, partitioner
  )
  manager.save(state)
  manager.close()
  t5x_checkpoints.Checkpointer(
    state, partitioner, str(tmp_path / 'legacy')
  ).save(state)
  params = flax.core.unfreeze(state.params)
  for folder in ('today', 'legacy'):
    loaded = checkpoints.load(tmp_path / folder)
    assert dataclasses.replace(loaded.config, dropout_rate=0.0) == config
    assert loaded.step == 3
    np.testing.assert_allclose(data.logits(loaded), expected, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(
      loaded.params['token_embedder']['embedding'],
      params['token_embedder']['embedding'],
    )

  # What we export, it restores: weights, and Adafactor's state where asked.
  simple = name in ('minimal', 'tied')
  checkpoints.convert(
    tmp_path / 'legacy', tmp_path / 'ours', with_optimizer=simple
  )
  checkpoints.convert(
    tmp_path / 'ours',
    tmp_path / 'back',
    target_format='t5x',
    with_optimizer=simple,
  )
  manager = t5x_checkpoints.OrbaxCheckpointManagerInterface(
    str(tmp_path / 'back'), state, partitioner
  )
  restored = manager.restore(step=3 if simple else 0)
  manager.close()
  data.assert_same_bits(params, flax.core.unfreeze(restored.params))
  np.testing.assert_array_equal(logits(restored), expected)
  if simple:
    data.assert_same_bits(
      state.state_dict()['state'], restored.state_dict()['state']
    )

  # And it trains on from there.
  before = _loss(logits(restored), config)
  for _ in range(3):
    restored = step(restored)
  assert int(restored.step) == (6 if simple else 3)
  assert _loss(logits(restored), config) < before - 0.1
  if simple:
    for _ in range(3):
      state = step(state)
    data.assert_same_bits(
      flax.core.unfreeze(state.params), flax.core.unfreeze(restored.params)
    )


def _loss(logits, config) -> float:
  log_probs = jax.nn.log_softmax(logits)
  targets = np.maximum(data.ids(config)[1], 1)
  return -float(
    jnp.take_along_axis(log_probs, targets[..., None], axis=-1).mean()
  )


def _write_legacy(path, changes=None):
  """Writes what T5X's legacy writer writes, with TensorStore alone."""
  import tensorstore as ts

  before = data.random_pretrained(CONFIG)
  specs = {}
  for name, value in tensors.flatten(before.params).items():
    folder = f'target.{name.replace("/", ".")}'
    spec = {
      'driver': 'zarr',
      'dtype': 'float32',
      'kvstore': {'driver': 'gfile', 'path': f'{folder}/'},
      'metadata': {
        'shape': list(value.shape),
        'chunks': [max(1, n // 2 + 1) for n in value.shape],
        'compressor': {'id': 'gzip', 'level': 1},
      },
    }
    kvstore = {'driver': 'file', 'path': f'{path}/{folder}/'}
    store = ts.open({**spec, 'kvstore': kvstore}, create=True).result()
    store.write(value).result()
    specs[name] = spec
  for name, change in (changes or {}).items():
    change(specs[name])
  content = {
    'version': 3,
    'optimizer': {
      'target': flax.traverse_util.unflatten_dict(specs, sep='/'),
      'state': {'step': np.int32(1_000_000), 'param_states': {}},
    },
  }
  (path / 'checkpoint').write_bytes(
    flax.serialization.msgpack_serialize(content)
  )
  return before


QUERY = 'encoder/layers_0/attention/query/kernel'


def test_legacy_files(tmp_path):
  path = tmp_path / 'checkpoint_1000000'
  path.mkdir()
  before = _write_legacy(path)
  loaded = checkpoints.load(tmp_path)
  assert loaded.step == 1_000_000 and loaded.vocabulary is None
  data.assert_same_bits(before.params, loaded.params)


@pytest.mark.parametrize(
  'place', ['../x/', '/etc/', 'a/b/', '..', 'target.none/', 'gs://b/c']
)
def test_legacy_places_outside(place, tmp_path):
  path = tmp_path / 'checkpoint_1'
  path.mkdir()
  change = lambda spec: spec['kvstore'].update(path=place)
  _write_legacy(path, {QUERY: change})
  with pytest.raises(errors.UserError, match='outside its folder|lacks'):
    checkpoints.load(path)


def test_legacy_files_that_are_gone_or_cut(tmp_path):
  path = tmp_path / 'checkpoint_1'
  path.mkdir()
  _write_legacy(path)
  chunk = path / f'target.{QUERY.replace("/", ".")}' / '0.0'
  content = chunk.read_bytes()
  chunk.write_bytes(content[:50])
  with pytest.raises(errors.UserError, match=f'is damaged: target/{QUERY}'):
    checkpoints.load(path)
  chunk.unlink()
  with pytest.raises(errors.UserError, match=f'is damaged: target/{QUERY}'):
    checkpoints.load(path)
  file = path / 'checkpoint'
  file.write_bytes(file.read_bytes()[:-30])
  with pytest.raises(errors.UserError, match='checkpoint is damaged'):
    checkpoints.load(path)


def test_steps_of_a_model_dir(tmp_path):
  for step in (3, 20):
    path = tmp_path / f'checkpoint_{step}'
    path.mkdir()
    _write_legacy(path)
  (tmp_path / 'checkpoint_9.tmp-123').mkdir()
  assert t5x_format.steps(tmp_path) == [3, 20]
  assert checkpoints.open_checkpoint(tmp_path).path.endswith('checkpoint_20')
  assert checkpoints.open_checkpoint(tmp_path, 3).path.endswith('checkpoint_3')
  with pytest.raises(errors.UserError, match='no checkpoint of step 4'):
    checkpoints.open_checkpoint(tmp_path, 4)


def test_another_tree_is_refused(tmp_path):
  path = tmp_path / 'checkpoint_1'
  path.mkdir()
  content = {
    'version': 3,
    'optimizer': {
      'target': {'a': np.ones(3)},
      'state': {'step': 1},
    },
  }
  (path / 'checkpoint').write_bytes(
    flax.serialization.msgpack_serialize(content)
  )
  with pytest.raises(errors.UserError, match='not have the parameters of a T5'):
    checkpoints.load(path)

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models of transformers' compute the same here, and when they return."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from toys import checkpoints_data as data
import transformers

from pid_jax import checkpoints
from pid_jax import errors

TOLERANCE = 1e-5
TIED, UNTIED = data.FAMILIES['t5_1_0'], data.FAMILIES['flan_t5']


def _edit(path, **fields):
  content = json.loads(path.read_text())
  content.update(fields)
  path.write_text(json.dumps({k: v for k, v in content.items() if v != '-'}))


@pytest.mark.parametrize('family', data.FAMILIES)
def test_logits_and_the_way_back(family, tmp_path):
  model, config = data.torch_model(family), data.FAMILIES[family]
  model.save_pretrained(tmp_path / 'theirs')
  if family == 'byt5':
    transformers.ByT5Tokenizer().save_pretrained(tmp_path / 'theirs')

  loaded = checkpoints.load(tmp_path / 'theirs')

  assert loaded.config == config
  assert (loaded.vocabulary is None) == (family != 'byt5')
  expected = data.torch_logits(model, config)
  assert expected.std() > 0.3  # The comparison means something.
  np.testing.assert_allclose(
    data.logits(loaded), expected, atol=TOLERANCE, rtol=0
  )

  checkpoints.convert(
    tmp_path / 'theirs', tmp_path / 'again', target_format='hugging_face'
  )
  back = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / 'again'
  )
  theirs, again = model.state_dict(), back.state_dict()
  assert set(theirs) == set(again)
  assert all(torch.equal(theirs[name], again[name]) for name in theirs)
  np.testing.assert_allclose(
    data.torch_logits(back, config), expected, atol=TOLERANCE, rtol=0
  )
  assert back.config.decoder_start_token_id == 0
  assert back.generation_config.eos_token_id == 1


@pytest.mark.parametrize('scan_layers', [False, True])
@pytest.mark.parametrize('config', [TIED, UNTIED], ids=['tied', 'untied'])
def test_ours_to_theirs_to_ours(config, scan_layers, tmp_path):
  config = dataclasses.replace(
    config, scan_layers=scan_layers, num_tokens=91, dtype='bfloat16'
  )
  before = data.random_pretrained(config)
  checkpoints.save(tmp_path / 'theirs', before, format='hugging_face')
  after = checkpoints.load(tmp_path / 'theirs')
  assert dataclasses.replace(after, params=None) == dataclasses.replace(
    before, params=None
  )
  data.assert_same_bits(before.params, after.params)


def _state(config):
  model = data.torch_model('t5_1_0' if config is TIED else 'flan_t5')
  return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """Makes folders of transformers' 4 with given tensors."""

  def make(config, state, **fields):
    folder = tmp_path / 'model'
    data.torch_model('t5_1_0' if config is TIED else 'flan_t5').save_pretrained(
      folder
    )
    fields = {'tie_word_embeddings': config is TIED, **fields}
    fields.setdefault('scale_decoder_outputs', '-')
    _edit(folder / 'config.json', **fields)
    (folder / 'model.safetensors').unlink()
    if state is not None:
      safetensors.torch.save_file(state, folder / 'model.safetensors')
    return folder

  return make


@pytest.mark.parametrize('config', [TIED, UNTIED], ids=['tied', 'untied'])
def test_copies_of_the_embedding_are_one(config, folder):
  state = _state(config)
  for name in ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'):
    state[name] = state['shared.weight'].clone()
  unused = (
    'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
  )
  state[unused] = torch.zeros(10, 3)
  path = folder(config, state)
  assert checkpoints.load(path).config == config

  del state['shared.weight']
  safetensors.torch.save_file(state, path / 'model.safetensors')
  embedding = checkpoints.load(path).params['token_embedder']['embedding']
  np.testing.assert_array_equal(
    embedding, state['encoder.embed_tokens.weight'].numpy()
  )

  state['decoder.embed_tokens.weight'][3, 4] += 1
  safetensors.torch.save_file(state, path / 'model.safetensors')
  with pytest.raises(errors.UserError, match='decoder.embed_tokens.weight is'):
    checkpoints.load(path)


def test_a_head_that_says_it_is_tied_and_is_not(folder):
  state = _state(TIED)
  state['lm_head.weight'] = state['shared.weight'] * 2
  path = folder(TIED, state)
  with pytest.raises(
    errors.UserError, match='lm_head.weight and shared.weight'
  ):
    checkpoints.load(path)


def test_a_tied_head_without_scaled_logits(folder):
  """Version 5 of transformers makes such models of T5 1.1 configurations."""
  state = _state(UNTIED)
  del state['lm_head.weight']
  path = folder(
    UNTIED, state, tie_word_embeddings=True, scale_decoder_outputs=False
  )
  loaded = checkpoints.load(path)
  model = transformers.T5ForConditionalGeneration.from_pretrained(path)
  np.testing.assert_allclose(
    data.logits(loaded),
    data.torch_logits(model.eval(), UNTIED),
    atol=20 * TOLERANCE,  # Logits of the size of ten.
    rtol=0,
  )


@pytest.mark.parametrize(
  'dtype', [torch.float32, torch.bfloat16, torch.float16]
)
@pytest.mark.parametrize('kind', ['safetensors', 'shards', 'bin', 'bin_shards'])
def test_all_files_of_weights(kind, dtype, folder):
  state = {k: v.to(dtype) for k, v in _state(UNTIED).items()}
  path = folder(UNTIED, None)
  half = len(state) // 2
  items = list(state.items())
  parts = [dict(items[:half]), dict(items[half:])]
  suffix = 'safetensors' if kind in ('safetensors', 'shards') else 'bin'
  stem = 'model' if suffix == 'safetensors' else 'pytorch_model'
  save = safetensors.torch.save_file if suffix == 'safetensors' else torch.save
  if kind in ('safetensors', 'bin'):
    save(state, path / f'{stem}.{suffix}')
  else:
    index = {}
    for i, part in enumerate(parts):
      save(part, path / f'{stem}-{i}.{suffix}')
      index.update(dict.fromkeys(part, f'{stem}-{i}.{suffix}'))
    (path / f'{stem}.{suffix}.index.json').write_text(
      json.dumps({'weight_map': index})
    )
  params = checkpoints.load(path).params
  kernel = params['decoder']['layers_1']['mlp']['wo']['kernel']
  there = state['decoder.block.1.layer.2.DenseReluDense.wo.weight']
  np.testing.assert_array_equal(kernel, there.float().numpy().T)
  assert kernel.dtype == np.float32

  if dtype == torch.bfloat16:
    half = checkpoints.load(path, param_dtype='bfloat16').params
    assert half['encoder']['encoder_norm']['scale'].dtype == 'bfloat16'
    checkpoints.convert(path, path / 'b', target_format='hugging_face')
    again = safetensors.torch.load_file(path / 'b' / 'model.safetensors')
    assert all(torch.equal(state[name], again[name]) for name in again)


def test_what_does_not_match_is_listed_with_both_names(folder):
  state = _state(UNTIED)
  gone = 'encoder.block.1.layer.0.SelfAttention.q.weight'
  del state[gone]
  odd = 'decoder.block.0.layer.2.DenseReluDense.wo.weight'
  state[odd] = torch.zeros(22, 38)
  state['encoder.block.9.layer.0.layer_norm.weight'] = torch.zeros(22)
  state['value_head.weight'] = torch.zeros(3)
  with pytest.raises(errors.UserError) as error:
    checkpoints.load(folder(UNTIED, state))
  message = str(error.value)
  for words in (
    f'1 of another shape: decoder/layers_0/mlp/wo/kernel ({odd} there) is '
    '(38, 22) there, (37, 22) here',
    f'1 missing there: encoder/layers_1/attention/query/kernel ({gone} there)',
    '2 unknown here: encoder.block.9.layer.0.layer_norm.weight, '
    'value_head.weight.',
  ):
    assert words in message


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'model_type': 'bart'}, "model_type .*'t5', 'mt5'; got 'bart'"),
    ({'feed_forward_proj': 'gelu'}, "feed_forward_proj .*got 'gelu'"),
    (
      {'decoder_start_token_id': 5},
      'decoder_start_token_id must be one of 0; got 5',
    ),
    ({'d_kv': '-'}, 'lacks d_kv'),
    ({'relative_attention_max_distance': 3}, 'relpos_max_distance'),
  ],
)
def test_other_models_are_refused(fields, words, folder):
  with pytest.raises(errors.UserError, match=words):
    checkpoints.load(folder(UNTIED, _state(UNTIED), **fields))


def test_quantised_weights_are_refused(folder):
  state = _state(UNTIED)
  state['lm_head.weight'] = torch.zeros(97, 20, dtype=torch.int8)
  with pytest.raises(errors.UserError, match='int8.*Quantised'):
    checkpoints.load(folder(UNTIED, state))


def test_shards_that_we_write(tmp_path):
  before = data.random_pretrained(UNTIED)
  checkpoints.save(
    tmp_path / 'x', before, format='hugging_face', shard_bytes=20_000
  )
  assert len(list((tmp_path / 'x').glob('*.safetensors'))) > 3
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / 'x'
  )
  np.testing.assert_array_equal(
    model.lm_head.weight.detach().numpy().T,
    before.params['decoder']['logits_dense']['kernel'],
  )
  data.assert_same_bits(before.params, checkpoints.load(tmp_path / 'x').params)


def test_a_changed_config_is_believed_over_our_own_fields(tmp_path):
  before = data.random_pretrained(dataclasses.replace(TIED, num_tokens=91))
  checkpoints.save(tmp_path / 'x', before, format='hugging_face')
  _edit(tmp_path / 'x' / 'config.json', relative_attention_max_distance=40)
  config = checkpoints.open_checkpoint(tmp_path / 'x').config
  assert (config.relpos_max_distance, config.num_tokens) == (40, 97)

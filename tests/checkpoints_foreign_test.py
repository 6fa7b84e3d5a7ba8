# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders and files that are no checkpoint: what is found is named."""

import json
import os

import pytest
import torch
from toys import configs

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import files
from pid_jax.checkpoints import tensorstore_io

LFS = (
  'version https://git-lfs.github.com/spec/v1\n'
  f'oid sha256:{"0" * 64}\nsize 791656\n'
)


def test_a_pointer_of_git_lfs_is_no_file(tmp_path):
  path = tmp_path / 'spiece.model'
  path.write_text(LFS)
  with pytest.raises(errors.UserError, match='git lfs pull'):
    files.read_bytes(path, 'the vocabulary')
  path.write_text('version 2 of my notes\n')
  assert files.read_bytes(path, 'the vocabulary').startswith(b'version 2')


def _refused(path, words):
  with pytest.raises(errors.UserError, match=words) as caught:
    checkpoints.open_checkpoint(path)
  assert '\n' not in str(caught.value)


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """A folder of a model of Hugging Face's without its weights."""
  (tmp_path / 'config.json').write_text(
    '{"model_type": "t5", "vocab_size": 64, "d_model": 8, "d_kv": 4, '
    '"num_heads": 2, "d_ff": 16, "num_layers": 1}'
  )
  return tmp_path


@pytest.mark.parametrize(
  'name, words',
  [
    ('adapter_config.json', 'PEFT.*merge_and_unload'),
    ('tf_model.h5', r'tf_model\.h5 \(TensorFlow\)'),
    ('flax_model.msgpack', r'\(Flax\)'),
    ('onnx/encoder_model.onnx', r'\(ONNX\)'),
    ('model.Q4_K_M.gguf', r'\(GGUF\)'),
    ('README.md', 'none of model.safetensors, pytorch_model.bin'),
  ],
)
@pytest.mark.parametrize('has_config', [True, False])
def test_weights_of_another_kind_are_named(name, words, has_config, folder):
  (folder / name).parent.mkdir(exist_ok=True)
  (folder / name).write_bytes(b'x')
  if not has_config:
    (folder / 'config.json').unlink()
    words = words if name != 'README.md' else 'checkpoints/STEP.*config.json'
  _refused(folder, words)


@pytest.mark.parametrize('file', ['model.safetensors', 'pytorch_model.bin'])
@pytest.mark.parametrize(
  'make, words',
  [
    (lambda p: p.write_text(LFS), 'git lfs pull'),
    (lambda p: p.write_bytes(b''), 'is damaged'),
    (lambda p: p.mkdir(), 'not a regular file'),
    (os.mkfifo, 'not a regular file'),
    (lambda p: p.symlink_to('/dev/zero'), 'not a regular file'),
    (lambda p: p.symlink_to(p), 'symlinks form a loop'),
    (lambda p: p.symlink_to('/nowhere'), 'no such file'),
  ],
)
def test_a_file_of_weights_that_is_none(file, make, words, folder):
  make(folder / file)
  _refused(folder, f'{file}.*{words}')


def test_a_pickle_of_something_else_brings_no_advice_of_pytorch(folder):
  torch.save({'x': torch.nn.Linear(2, 2)}, folder / 'pytorch_model.bin')
  with pytest.raises(errors.UserError, match='could run code') as caught:
    checkpoints.open_checkpoint(folder)
  assert 'weights_only' not in str(caught.value)


@pytest.mark.parametrize('path', ['', ' ', 'a\0b', 7, None])
def test_a_path_that_is_none(path):
  _refused(path, 'must be a path')


@pytest.mark.parametrize('key', ['../../x', '/etc/x', '..'])
def test_an_array_cannot_lead_out_of_its_tree(key, tmp_path):
  """Orbax's metadata name the arrays; here they are files of their own."""
  entry = {
    'key_metadata': [{'key': key, 'key_type': 2}],
    'value_metadata': {'value_type': 'jax.Array'},
  }
  metadata = {'tree_metadata': {'x': entry}, 'use_zarr3': False}
  (tmp_path / '_METADATA').write_text(json.dumps(metadata))
  with pytest.raises(errors.UserError, match='cannot have the name'):
    tensorstore_io.open_tree(tmp_path)


@pytest.mark.parametrize('name', ['_METADATA', 'manifest.ocdbt', 'd/0'])
def test_a_fifo_in_a_tree_is_not_opened(name, tmp_path):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  os.mkfifo(tmp_path / name)
  with pytest.raises(errors.UserError, match='not a regular file'):
    tensorstore_io.open_tree(tmp_path)


@pytest.mark.parametrize('content', ['{"model_type": "t5"}', 'of a user'])
def test_a_run_overwrites_no_configuration_of_others(content, tmp_path):
  path = tmp_path / 'config.json'
  path.write_text(content)
  with pytest.raises(errors.UserError, match='config.json is not from'):
    checkpoints.write_config(
      tmp_path, config=configs.T5_1_1, task={'name': 'x', 'layout': 'pid'}
    )
  assert path.read_text() == content
  assert os.listdir(tmp_path) == ['config.json']

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that were cut, changed or made to deceive: one error, and no harm."""

import dataclasses
import json
import pickle
import shutil
import struct
import zlib

from flax import traverse_util
import numpy as np
import pytest
import safetensors.numpy
import tensorstore as ts
import torch
from toys import checkpoints_data as data
from toys import configs
from toys import vocabularies

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax.checkpoints import formats
from pid_jax.checkpoints import safetensors as reader
from pid_jax.checkpoints import tensors
from pid_jax.checkpoints import tensorstore_io
from pid_jax.vocabulary import Vocabulary

CONFIG = data.FAMILIES['flan_t5']


@pytest.fixture(scope='module', name='whole')
def _whole(tmp_path_factory):
  """One model in every format: format -> folder."""
  folder = tmp_path_factory.mktemp('whole')
  before = data.random_pretrained(CONFIG)
  for name in formats.FORMATS:
    checkpoints.save(folder / name, before, format=name)
  checkpoints.save(
    folder / 'shards', before, format='hugging_face', shard_bytes=20_000
  )
  return folder


@pytest.fixture(name='copy')
def _copy(whole, tmp_path, monkeypatch):
  """Copies a folder; nothing may be allocated on a device from then on."""

  def copy(name):
    shutil.copytree(whole / name, tmp_path / name)
    monkeypatch.setattr(
      tensors,
      'read_to_devices',
      lambda *_: pytest.fail('parameters were allocated'),
    )
    return tmp_path / name

  return copy


def _refused(path, words):
  with pytest.raises(errors.UserError, match=words):
    checkpoints.load(path)
  target = path.parent / 'target'
  with pytest.raises(errors.UserError, match=words):
    checkpoints.convert(path, target)
  assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def _header(path):
  content = path.read_bytes()
  (length,) = struct.unpack('<Q', content[:8])
  return json.loads(content[8 : 8 + length]), content[8 + length :]


def _write(path, header, body):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + body)


NAME = 'encoder.final_layer_norm.weight'


@pytest.mark.parametrize('size', [0, 5, 8, 100, -1])
def test_a_file_that_was_cut(size, copy):
  path = copy('hugging_face')
  file = path / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:size])
  _refused(path, 'model.safetensors is damaged.*Download it again')


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda e, _: e.update(shape=[21]), 'is said to be'),
    (lambda e, _: e.update(shape=[-20]), 'a size .*got -20'),
    (lambda e, _: e.update(shape=[2.5]), 'a size .*got 2.5'),
    (lambda e, _: e.update(dtype='F128'), "'F128'"),
    (lambda e, n: e.update(data_offsets=[n, n + 80]), 'is said to be'),
    (lambda e, _: e.update(data_offsets=[0, 80]), 'is said to be'),
    (lambda e, _: e.update(data_offsets=[1 << 60, (1 << 60) + 80]), 'said'),
    (lambda e, _: e.pop('shape'), 'shape'),
  ],
)
def test_a_header_that_lies(change, words, copy):
  path = copy('hugging_face')
  file = path / 'model.safetensors'
  header, body = _header(file)
  change(header[NAME], len(body))
  _write(file, header, body)
  _refused(path, words)


@pytest.mark.parametrize(
  'header',
  [b'', b'{', b'[]', b'{"a": 1}', b'[' * 100_000, b'\xff', b'{"a":{},"a":{}}'],
)
def test_a_header_that_is_none(header, tmp_path):
  file = tmp_path / 'x.safetensors'
  _write(file, header, b'')
  with pytest.raises(errors.UserError, match='is damaged'):
    reader.open_file(file)


def test_a_header_as_long_as_the_world(tmp_path):
  file = tmp_path / 'x.safetensors'
  file.write_bytes(struct.pack('<Q', 1 << 62) + b'{}')
  with pytest.raises(errors.UserError, match='longer than the file'):
    reader.open_file(file)


def test_bytes_behind_the_end(tmp_path):
  file = tmp_path / 'x.safetensors'
  safetensors.numpy.save_file({'a': np.ones(3, np.float32)}, file)
  file.write_bytes(file.read_bytes() + b'x')
  with pytest.raises(errors.UserError, match='end at byte'):
    reader.open_file(file)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
  file = tmp_path / 'x.safetensors'
  safetensors.numpy.save_file({'a': np.ones(3, np.float32)}, file)
  opened = reader.open_file(file)
  file.write_bytes(file.read_bytes()[:-1])
  with pytest.raises(errors.UserError, match='ends too early'):
    opened['a'].read()


@pytest.mark.parametrize(
  'place, words',
  [
    ('../model-00001-of-00002.safetensors', 'outside its folder'),
    ('/etc/passwd', 'outside its folder'),
    ('sub/x.safetensors', 'outside its folder'),
    ('..', 'outside its folder'),
    (7, 'outside its folder'),
    ('none.safetensors', "not there: 'none.safetensors'"),
  ],
)
def test_an_index_that_leads_astray(place, words, copy):
  path = copy('shards')
  index = path / 'model.safetensors.index.json'
  content = json.loads(index.read_text())
  content['weight_map'][NAME] = place
  index.write_text(json.dumps(content))
  _refused(path, words)


def test_a_missing_shard(copy):
  path = copy('shards')
  next(path.glob('model-00002*')).unlink()
  _refused(path, "not there: 'model-00002")


def test_an_index_of_other_shards(copy):
  path = copy('shards')
  index = path / 'model.safetensors.index.json'
  content = json.loads(index.read_text())
  content['weight_map']['x.weight'] = content['weight_map'][NAME]
  index.write_text(json.dumps(content))
  _refused(path, 'that its files lack: x.weight')
  del content['weight_map']['x.weight'], content['weight_map'][NAME]
  index.write_text(json.dumps(content))
  _refused(path, 'does not say that encoder.final_layer_norm.weight is in')


class _Evil:
  def __reduce__(self):
    return (open, ('/tmp/must_not_exist', 'w'))


@pytest.mark.parametrize('content', ['evil', 'cut', 'text', 'list'])
def test_a_pickle_runs_nothing(content, copy):
  path = copy('hugging_face')
  (path / 'model.safetensors').unlink()
  file = path / 'pytorch_model.bin'
  if content == 'evil':
    torch.save({NAME: torch.ones(3), 'x': _Evil()}, file)
  elif content == 'cut':
    torch.save({NAME: torch.ones(3000)}, file)
    file.write_bytes(file.read_bytes()[:-5000])
  elif content == 'text':
    file.write_text('not a pickle')
  else:
    file.write_bytes(pickle.dumps([1, 2], protocol=2))
  _refused(path, 'pytorch_model.bin is damaged, or holds more than tensors')


def test_no_weights_and_no_config(copy):
  path = copy('hugging_face')
  (path / 'model.safetensors').unlink()
  _refused(path, 'has none of model.safetensors, pytorch_model.bin')
  (path / 'config.json').write_text('{"model_type": "t5"')
  _refused(path, r'config\.json: malformed JSON')
  (path / 'config.json').write_text('{}')
  _refused(path, r'config\.json: it has no model_type')


@pytest.mark.parametrize(
  'change, words',
  [
    (None, 'must be a JSON object'),
    ({'model': None}, r'config\.json: .*must be an object .*None'),
    ({'model': {'vocab_size': '640'}}, "vocab_size .*whole number.*'640'"),
    ({'model': {'vocab_size': 640, 'num_heads': 0}}, 'num_heads .*got 0'),
    ({'task': []}, r'task must be an object; got \[\]'),
    ({'task': {'layout': 1}}, r'task\.layout .*got 1'),
    ({'task': {'feature_lengths': {'inputs': '9'}}}, "lengths.inputs .*'9'"),
    ({'selection': {'metric': 'm', 'mode': 'best'}}, "mode .*'best'"),
    ({'vocabulary': {'file': '../v', 'extra_ids': 0}}, r"file .*'\.\./v'"),
    ({'vocabulary': {'kind': 'bytes', 'extra_ids': 1.0}}, r'extra_ids .*1\.0'),
    ({'modell': 1}, 'did you mean model'),
    ({'task': {'layout': 'pie'}}, 'checksum'),
  ],
)
@pytest.mark.parametrize('name', ['native', 't5x'])
def test_a_config_with_values_of_another_kind(name, change, words, copy):
  file = copy(name) / 'config.json'
  content = json.loads(file.read_text())
  file.write_text(json.dumps([] if change is None else {**content, **change}))
  _refused(file.parent, words)


@pytest.mark.parametrize(
  'extra, words',
  [
    ({'step': '../../../../planted'}, "pid_jax.step .*'../../../../planted'"),
    ({'step': -1}, 'pid_jax.step .*at least 0.*got -1'),
    ({'step': 2**40}, 'pid_jax.step .*at most 2,147,483,647'),
    ({'step': 1.0}, 'pid_jax.step .*got 1.0'),
    ({'steps': 1}, 'did you mean step'),
    ({'model': {'vocab_size': 1.5}}, 'vocab_size .*got 1.5'),
    ({'task': 'dst'}, "task must be an object; got 'dst'"),
    ([], None),
    ('x', "pid_jax must be an object; got 'x'"),
  ],
)
def test_what_we_add_to_a_config_of_hugging_face(extra, words, copy):
  file = copy('hugging_face') / 'config.json'
  content = json.loads(file.read_text())
  file.write_text(json.dumps({**content, 'pid_jax': extra}))
  if words:
    _refused(file.parent, words)
  else:
    assert checkpoints.open_checkpoint(file.parent).step == 0


@pytest.mark.parametrize('name', ['native', 't5x'])
def test_a_tree_without_its_metadata(name, copy):
  path = copy(name)
  for file in path.rglob('_METADATA'):
    file.unlink()
  with pytest.raises(
    errors.UserError, match='damaged|incomplete|no checkpoint'
  ):
    checkpoints.load(path)


@pytest.mark.parametrize('name', ['native', 't5x'])
def test_a_tree_with_a_damaged_array(name, whole, tmp_path):
  shutil.copytree(whole / name, tmp_path / name)
  files = [p for p in tmp_path.rglob('d/*') if p.stat().st_size > 2000]
  for file in files:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = b'\0' * (len(content) - len(content) // 2)
    file.write_bytes(bytes(content))
  assert files
  with pytest.raises(errors.UserError, match='is damaged'):
    checkpoints.load(tmp_path / name)


def test_a_step_that_is_not_whole(copy):
  path = copy('t5x')
  shutil.rmtree(path / 'checkpoint_0' / 'state')
  with pytest.raises(errors.UserError, match='incomplete'):
    checkpoints.load(path)


def test_a_target_is_there_whole_or_not_at_all(whole, tmp_path, monkeypatch):
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'x').write_text('mine')
  with pytest.raises(errors.UserError, match='exists already'):
    checkpoints.convert(whole / 'native', tmp_path / 'full')
  monkeypatch.setattr(
    'pid_jax.checkpoints.weight_files.write_weights',
    lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device')),
  )
  with pytest.raises(errors.UserError, match='no space left'):
    checkpoints.convert(
      whole / 'native', tmp_path / 'new', target_format='hugging_face'
    )
  assert [p.name for p in tmp_path.iterdir()] == ['full']
  assert (tmp_path / 'full' / 'x').read_text() == 'mine'


@pytest.mark.parametrize(
  'options, words',
  [
    (dict(target_format='onnx'), "unknown checkpoint format 'onnx'"),
    (dict(source_format='onnx'), "unknown checkpoint format 'onnx'"),
    (dict(dtype='float16'), 'overflows in float16'),
    (dict(step=3), 'no checkpoint of step 3'),
    (dict(with_optimizer=True), 'moments of Adafactor'),
    (
      dict(with_optimizer=True, target_format='hugging_face'),
      'cannot hold the optimizer',
    ),
  ],
)
def test_wrong_options(options, words, whole, tmp_path):
  with pytest.raises(errors.UserError, match=words):
    checkpoints.convert(whole / 'native', tmp_path / 'x', **options)
  assert not list(tmp_path.iterdir())


def test_no_folder_and_a_folder_of_nothing(tmp_path):
  with pytest.raises(errors.UserError, match='does not exist'):
    checkpoints.load(tmp_path / 'none')
  with pytest.raises(errors.UserError, match='no checkpoint of a known format'):
    checkpoints.load(tmp_path)


def _flip(path, rng, times, load, expected):
  """Changes single bytes of every file: loads are the same, or refused."""
  refused = 0
  for file in sorted(p for p in path.rglob('*') if p.is_file()):
    content = file.read_bytes()
    for place in rng.integers(0, len(content), times if content else 0):
      changed = bytearray(content)
      changed[place] ^= rng.integers(1, 256)
      file.write_bytes(changed)
      try:
        loaded = load()
      except errors.UserError as e:
        assert '\n' not in str(e) and len(str(e)) < 1000
        refused += 1
      else:
        data.assert_same_bits(loaded.params, expected.params)
        assert loaded.config.differences(expected.config) == {}
        assert loaded.task == expected.task
        assert loaded.vocabulary.model_bytes == expected.vocabulary.model_bytes
    file.write_bytes(content)
  return refused


@pytest.mark.parametrize('times', [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_changed_byte_gives_no_other_model(times, tmp_path):
  vocabulary = Vocabulary(vocabularies.words('dog', 'cat'), extra_ids=2)
  before = data.random_pretrained(
    configs.odd(vocab_size=128), vocabulary=vocabulary
  )
  checkpoints.save(tmp_path / 'x', before)
  rng = np.random.default_rng(0)
  refused = _flip(
    tmp_path / 'x', rng, times, lambda: checkpoints.load(tmp_path / 'x'), before
  )
  assert refused > 2 * times  # The arrays, their checksums, config.json, ...


def test_a_changed_number_is_refused_wherever_it_is_read(tmp_path, monkeypatch):
  """Of stacked layers and of parts of arrays, as for meshes, too."""
  config = dataclasses.replace(CONFIG, scan_layers=True)
  before = data.random_pretrained(config)
  checkpoints.save(tmp_path / 'x', before)
  opened = checkpoints.open_checkpoint(tmp_path / 'x')
  kernel = opened.tensors['encoder/layers_1/mlp/wo/kernel']
  whole = kernel.read()
  part = kernel.read((slice(3, 7), slice(2, 5)))
  np.testing.assert_array_equal(part, whole[3:7, 2:5])
  file = tmp_path / 'x/checkpoints/7/params/checksums.json'
  content = json.loads(file.read_text())
  (name,) = (k for k in content['crc32'] if k.endswith('encoder/mlp/wo/kernel'))
  content['crc32'][name] = ['0' * 8]
  file.write_text(json.dumps(content))
  opened = checkpoints.open_checkpoint(tmp_path / 'x')
  opened.tensors['encoder/layers_1/mlp/wi_0/kernel'].read()
  with pytest.raises(errors.UserError, match='checksum of encoder/encoder/mlp'):
    opened.tensors['encoder/layers_1/mlp/wo/kernel'].read(
      (slice(0, 1), slice(0, 1))
    )
  file.unlink()  # As of an earlier version.
  loaded = checkpoints.load(tmp_path / 'x')
  data.assert_same_bits(loaded.params, before.params)


def test_an_array_in_many_chunks(tmp_path):
  """As many processes write them; the chunks at the ends are smaller."""
  array = np.arange(35, dtype=np.float32).reshape(5, 7)
  spec = {
    'driver': 'zarr',
    'kvstore': {'driver': 'file', 'path': f'{tmp_path}/a/'},
  }
  ts.open(
    {**spec, 'metadata': {'chunks': [2, 3]}},
    create=True, dtype=ts.float32, shape=array.shape,
  ).result().write(array).result()  # fmt: skip
  crc = lambda x: f'{zlib.crc32(x.tobytes()):08x}'
  recorded = [
    crc(array[i : i + 2, j : j + 3]) for i in (0, 2, 4) for j in (0, 3, 6)
  ]
  for wrong in (None, 4):
    if wrong is not None:
      recorded[wrong] = '0' * 8
    opened = tensorstore_io.open_arrays({'a': spec}, tmp_path, {'a': recorded})
    read = opened['a'].read
    box = (slice(1, 4), slice(2, 7))
    if wrong is None:
      np.testing.assert_array_equal(read(box), array[1:4, 2:7])
      np.testing.assert_array_equal(read(), array)
    else:  # What does not touch the damaged chunk is right.
      with pytest.raises(errors.UserError, match='checksum of a differs'):
        read(box)
      box = (slice(0, 2), slice(0, 7))
      np.testing.assert_array_equal(read(box), array[:2])


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_weights_that_are_not_finite_are_refused(value, dtype, tmp_path):
  before = data.random_pretrained(CONFIG)
  flat = dict(tensors.flatten(before.params))
  scale = np.array(flat['encoder/encoder_norm/scale'])
  scale[3] = value
  flat['encoder/encoder_norm/scale'] = scale
  params = traverse_util.unflatten_dict(flat, sep='/')
  changed = dataclasses.replace(before, params=params)
  checkpoints.save(tmp_path / 'x', changed, format='hugging_face')
  with pytest.raises(errors.UserError, match=f'NaN or infinity in {NAME}'):
    checkpoints.load(tmp_path / 'x', param_dtype=dtype)


def test_large_numbers_are_finite():
  largest = np.full(9, np.finfo(np.float32).max)  # Their sum is not.
  assert tensors.is_finite(largest)
  assert tensors.is_finite((largest / 2).astype(tensors.DTYPES['bfloat16']))


def test_a_size_that_differs_is_named_by_its_field(tmp_path):
  checkpoints.save(
    tmp_path / 'x', data.random_pretrained(CONFIG), format='hugging_face'
  )
  file = tmp_path / 'x' / 'config.json'
  content = json.loads(file.read_text())
  del content['pid_jax']
  content |= {'d_ff': 99, 'num_layers': CONFIG.num_encoder_layers + 2}
  file.write_text(json.dumps(content))
  with pytest.raises(errors.UserError) as caught:
    checkpoints.load(tmp_path / 'x')
  message = str(caught.value)
  assert f'mlp_dim is {CONFIG.mlp_dim} there, 99 here' in message
  layers = CONFIG.num_encoder_layers
  assert f'num_encoder_layers is {layers} there, {layers + 2} here' in message
  assert len(message) < 500 and 'kernel' not in message


def test_metrics_that_were_changed(tmp_path):
  file = tmp_path / 'checkpoints/7/metrics/metrics'
  file.parent.mkdir(parents=True)
  metrics = {'a/exact_match': 0.7125, 'a/loss': 1e-7, 'a/none': float('nan')}
  file.write_text(json.dumps(checkpoints.with_checksum(metrics)))
  read = checkpoints.read_metrics(tmp_path, 7)
  assert np.isnan(read.pop('a/none'))
  assert read == {'a/exact_match': 0.7125, 'a/loss': 1e-7}
  file.write_text(file.read_text().replace('0.7125', '0.7625'))
  with pytest.raises(errors.UserError, match='metrics is damaged'):
    checkpoints.read_metrics(tmp_path, 7)
  file.write_text('{"a/exact_match": 0.7625}')  # Of an earlier version.
  assert checkpoints.read_metrics(tmp_path, 7) == {'a/exact_match': 0.7625}
  file.write_text('{"a/exact_match": "x"}')
  with pytest.raises(errors.UserError, match="must be a number; got 'x'"):
    checkpoints.read_metrics(tmp_path, 7)

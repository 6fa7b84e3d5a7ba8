# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bad values, JSON and files, and the doors through which they come in.

Each door draws a case: it changes files in a copy of the template and returns
the command line. Most are bad; some are odd and right.
"""

from collections.abc import Callable
import copy
import json
import os
import pathlib
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy], Any]
# Command, its arguments, its outputs.
Case = tuple[str, list[str], tuple[str, ...]]

_TEXTS = (
  *('', ' ', '\n', '\t', '-', '--', '..', '.', '/', '~', '~nobody', "'", '"'),
  *('\\', '%X', '%', '@f()', '{', '[]', '()', '=', ',', ':', ';', '#', 'a b'),
  *('None', 'True', 'null', 'nan', 'NaN', 'inf', '-inf', '1e400', '1e-400'),
  *('0', '-0', '-1', '1', '1.5', '0x10', '1_0', '1e3', '+1', ' 1', '1 '),
  *('\u0663', '\u00b2', '\uff11', '9' * 40, '1' + '0' * 5000, '-' + '9' * 25),
  *('a' * 300, 'b' * 5000, 'caf\u00e9', 'e\u0301', '\u202e', '\U0001f600'),
  *('\udcff', '\x1b[31m', '\x07', 'x\ny', 'x\r\ny', '\u2028', '\ufeff', '\x7f'),
)
texts = st.one_of(
  st.sampled_from(_TEXTS),
  st.text(st.characters(exclude_characters='\0'), max_size=12),
  st.integers().map(str),
  st.floats().map(str),
)
# Of JSON, and a few that are none.
scalars = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(-3, 3),
  st.sampled_from([2**31, 2**63, -(2**63), 10**30, 10**400, 10**6, 65537]),
  st.floats(),
  st.sampled_from([*_TEXTS, '\ud800', 'a\0b']),
  st.text(max_size=8),
)
values = st.recursive(
  scalars,
  lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.dictionaries(st.text(max_size=5), inner, max_size=3),
  ),
  max_leaves=6,
)
_BYTES = (
  b'',
  b'\0',
  b'\xff\xfe{}',
  b'\xef\xbb\xbf{}',
  b'{',
  b'[' * 100_000,
  b'{"a":' * 5000,
  b'null',
  b'[]',
  b'1' * 5000,
  b'{"a": 1, "a": 2}',
  b'{"inputs": NaN}',
  b'"\\ud800"',
  b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
)


def mutated(draw: Draw, value: Any) -> Any:
  """Returns a copy of a JSON value with something odd in one place."""
  value = copy.deepcopy(value)
  parent, key = None, None
  node = value
  while isinstance(node, dict | list) and node:
    if parent is not None and draw(st.integers(0, 3)) == 0:
      break
    keys = list(node) if isinstance(node, dict) else range(len(node))
    parent, key = node, draw(st.sampled_from(keys))
    node = parent[key]
  action = draw(st.sampled_from(['replace'] * 4 + ['remove', 'add', 'rename']))
  if action == 'replace' or parent is None:
    new = draw(values)
    if parent is None:
      return new
    parent[key] = new
  elif action == 'remove':
    del parent[key]
  elif isinstance(parent, dict):
    name = draw(st.text(max_size=6))
    parent[name] = parent.pop(key) if action == 'rename' else draw(values)
  else:
    parent.insert(key, draw(values))
  return value


def json_bytes(draw: Draw, value: Any) -> bytes:
  """Returns a mutated value as a file, or something that is no JSON."""
  if draw(st.integers(0, 5)) == 0:
    return draw(st.one_of(st.sampled_from(_BYTES), st.binary(max_size=30)))
  text = json.dumps(
    mutated(draw, value), ensure_ascii=draw(st.booleans())
  ).encode(errors='surrogatepass')
  if draw(st.integers(0, 9)) == 0:
    text = text[: draw(st.integers(0, len(text)))]
  return text


_MODEL = '--model_dir=model'
_BASE: dict[str, tuple[list[str], tuple[str, ...]]] = {
  'predict': ([_MODEL, '--input=data.jsonl', '--output=out'], ('out',)),
  'evaluate': ([_MODEL], ()),
  'convert': (['model', 'out', '--to=hugging_face'], ('out',)),
  'report': (['answers.jsonl', '--output=out'], ('out',)),
  'data': (['inspect', 'data.jsonl', '--vocabulary=spiece.model'], ()),
  'train': (
    [
      '--gin_file=runs/jsonl.gin',
      "--gin.TRAIN_FILE='data.jsonl'",
      "--gin.VALIDATION_FILE='data.jsonl'",
      "--gin.VOCABULARY='spiece.model'",
      "--gin.MODEL_DIR='out'",
    ],
    ('out',),
  ),
}
_DECODING = (
  *('max_new_tokens', 'temperature', 'top_k', 'top_p', 'seed', 'beam_size'),
  *('length_penalty', 'param_dtype', 'num_partitions', 'batch_size', 'step'),
)
_FLAGS = {
  'predict': (*_DECODING, 'long_inputs', 'num_processes', 'process_id'),
  'evaluate': (*_DECODING, 'split', 'task', 'num_examples', 'output'),
  'convert': ('to', 'from', 'step', 'dtype', 'vocabulary', 'extra_ids'),
  'report': ('output', 'empty'),
  'data': ('vocabulary', 'lengths', 'split', 'num', 'num_measured'),
  'train': ('gin_file', 'gin_bindings', 'gin_search_paths', 'gin.MODEL_DIR'),
}


def flags(draw: Draw, folder: pathlib.Path) -> Case:
  """A flag with an odd value."""
  del folder
  command = draw(st.sampled_from(sorted(_FLAGS)))
  argv, outputs = _BASE[command]
  flag = draw(st.sampled_from(_FLAGS[command]))
  value = draw(texts)
  if flag == 'output':  # An accepted one is a file of that name.
    outputs = (*outputs, value)
  return command, [*argv, f'--{flag}={value}'], outputs


def paths(draw: Draw, folder: pathlib.Path) -> Case:
  """A path that is odd."""
  del folder
  command = draw(st.sampled_from(['predict', 'convert', 'report', 'data']))
  argv, outputs = _BASE[command]
  value = draw(texts)
  position = draw(st.integers(0, len(argv) - 1))
  if argv[position] in ('inspect', '--to=hugging_face'):
    position = 0
  flag, equals, _ = argv[position].rpartition('=')
  changed = f'{flag}{equals}{value}'
  is_output = 'out' in argv[position]
  argv = [*argv[:position], changed, *argv[position + 1 :]]
  if command == 'data' and position == 0:
    argv = [changed, *argv[1:]]
  return command, argv, (*outputs, value) if is_output else outputs


_GIN = (
  *('TRAIN_STEPS', 'BATCH_SIZE', 'EVAL_BATCH_SIZE', 'DROPOUT_RATE'),
  *('LEARNING_RATE', 'WARMUP_STEPS', 'EVAL_PERIOD', 'CHECKPOINT_PERIOD'),
  *('BEST_METRIC', 'EMA_DECAY', 'RANDOM_SEED', 'NUM_PARTITIONS', 'NUM_FSDP'),
  *('INITIAL_CHECKPOINT_PATH', 'TASK_FEATURE_LENGTHS', 'VOCABULARY_SIZE'),
  *('TRAIN_FILE', 'VALIDATION_FILE', 'VOCABULARY', 'MODEL_DIR'),
  *('MIXTURE_OR_TASK_NAME', 'trainer.train.num_microbatches'),
  *('trainer.CheckpointConfig.keep', 'jsonl.register.metrics'),
  *('network.T5Config.num_heads', 'jsonl.register.extra_ids', 'OPTIMIZER'),
)


def gin_bindings(draw: Draw, folder: pathlib.Path) -> Case:
  """A gin binding with an odd value, as Python writes it or raw."""
  del folder
  argv, outputs = _BASE['train']
  name = draw(st.sampled_from(_GIN))
  odd = st.one_of(texts, values.map(repr), texts.map(repr))
  return 'train', [*argv, f'--gin.{name}={draw(odd)}'], outputs


def gin_files(draw: Draw, folder: pathlib.Path) -> Case:
  """A gin file with odd text."""
  argv, outputs = _BASE['train']
  line = draw(
    st.one_of(
      texts,
      st.tuples(st.sampled_from(_GIN), texts).map(' = '.join),
      texts.map('include {!r}'.format),
      texts.map('import {}'.format),
      st.tuples(texts, texts).map(' = '.join),
    )
  )
  content = line.encode(errors='surrogateescape')
  if draw(st.integers(0, 5)) == 0:
    content = draw(st.one_of(st.sampled_from(_BYTES), st.binary(max_size=30)))
  (folder / 'odd.gin').write_bytes(content)
  return 'train', [*argv, '--gin_file=odd.gin'], outputs


def jsonl(draw: Draw, folder: pathlib.Path) -> Case:
  """A line of JSONL that is odd."""
  command = draw(st.sampled_from(['predict', 'predict', 'report', 'data']))
  path = folder / ('answers.jsonl' if command == 'report' else 'data.jsonl')
  lines = path.read_bytes().splitlines(keepends=True)
  index = draw(st.integers(0, len(lines) - 1))
  lines[index] = json_bytes(draw, json.loads(lines[index])) + draw(
    st.sampled_from([b'\n', b'', b'\r\n', b'\n\n'])
  )
  path.write_bytes(b''.join(lines))
  return command, *_BASE[command]


def model_config(draw: Draw, folder: pathlib.Path) -> Case:
  """A config.json of a MODEL_DIR that is odd."""
  path = folder / 'model' / 'config.json'
  path.write_bytes(json_bytes(draw, json.loads(path.read_text())))
  command = draw(st.sampled_from(['predict', 'convert']))
  return command, *_BASE[command]


def hugging_face(draw: Draw, folder: pathlib.Path) -> Case:
  """A JSON file of a Hugging Face folder that is odd."""
  names = sorted(p.name for p in (folder / 'hf').glob('*.json'))
  path = folder / 'hf' / draw(st.sampled_from(names))
  path.write_bytes(json_bytes(draw, json.loads(path.read_text())))
  return 'convert', ['hf', 'out'], ('out',)


_KINDS = (
  *('fifo', 'device', 'folder', 'dangling', 'loop', 'empty', 'sparse'),
  *('missing', 'bytes', 'long', 'newline', 'below a file', 'symlink'),
)
# Command, its arguments with {} for an input or output, outputs.
_PLACES = (
  ('predict', ['--model_dir={}', '--input=data.jsonl', '--output=out'], 0),
  ('predict', [_MODEL, '--input={}', '--output=out'], 0),
  ('predict', [_MODEL, '--input=data.jsonl', '--output={}'], 1),
  ('convert', ['{}', 'out'], 0),
  ('convert', ['model', '{}'], 1),
  ('convert', ['hf', 'out', '--vocabulary={}'], 0),
  ('report', ['{}', '--output=out'], 0),
  ('report', ['answers.jsonl', '--output={}'], 1),
  ('data', ['inspect', '{}'], 0),
  ('data', ['inspect', 'data.jsonl', '--vocabulary={}'], 0),
  ('evaluate', ['--model_dir={}'], 0),
  ('evaluate', [_MODEL, '--output={}'], 1),
  ('train', ['--gin_file={}'], 0),
)
_FILES = (
  *('model/config.json', 'model/vocabulary.model', 'hf/config.json'),
  *('hf/spiece.model', 'hf/model.safetensors', 'model/checkpoints'),
)


def odd_file(kind: str, path: pathlib.Path) -> str:
  """Makes an odd file; returns its path, which may be another."""
  name = os.fspath(path)
  if kind == 'fifo':
    os.mkfifo(name)
  elif kind == 'device':
    return '/dev/zero'
  elif kind == 'folder':
    os.mkdir(name)
  elif kind == 'dangling':
    os.symlink('nowhere', name)
  elif kind == 'loop':
    os.symlink(path.name, name)
  elif kind == 'empty':
    path.touch()
  elif kind == 'sparse':
    path.touch()
    os.truncate(name, 1 << 36)  # More than there is memory.
  elif kind == 'bytes':
    name += os.fsdecode(b'\xff\xfe')
  elif kind == 'long':
    name = os.path.join(os.path.dirname(name), 'n' * 255)
    pathlib.Path(name).write_text('{}\n')
  elif kind == 'newline':
    name += '\nx'
    pathlib.Path(name).write_text('{}\n')
  elif kind == 'below a file':
    path.touch()
    name += '/x'
  elif kind == 'symlink':
    os.symlink('mine', name)
  return name


def file_kinds(draw: Draw, folder: pathlib.Path) -> Case:
  """A file that is not what it should be."""
  kind = draw(st.sampled_from(_KINDS))
  if draw(st.booleans()):
    command, argv, is_output = draw(st.sampled_from(_PLACES))
    name = odd_file(kind, folder / 'odd')
    if name.startswith(str(folder)):
      name = os.path.relpath(name, folder)
    outputs = ('out', name) if is_output else ('out',)
    return command, [arg.replace('{}', name) for arg in argv], outputs
  # Inside a model, where the command finds it by itself.
  path = folder / draw(st.sampled_from(_FILES))
  if path.is_dir():
    path.rename(folder / 'moved')
  else:
    path.unlink(missing_ok=True)
  name = odd_file(kind, path)
  if name == '/dev/zero':
    os.symlink(name, path)
  if path.is_relative_to(folder / 'hf'):
    return 'convert', ['hf', 'out'], ('out',)
  command = draw(st.sampled_from(['predict', 'convert']))
  return command, *_BASE[command]


DOORS = (
  *(flags, flags, paths, gin_bindings, gin_files, jsonl, jsonl),
  *(model_config, hugging_face, file_kinds, file_kinds),
)

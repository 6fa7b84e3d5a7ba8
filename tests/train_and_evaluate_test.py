# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The commands `train` and `evaluate`, configured by gin as a user would."""

import json
import pathlib
import re
import shutil

import gin
import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf
from toys import training as toy
from toys import weights

from pid_jax import checkpoints
from pid_jax import cli
from pid_jax import evaluate
from pid_jax import partitioning
from pid_jax import train
from pid_jax import viewer
from pid_jax.trainer import data
from pid_jax.trainer import evaluation

GIN = """
from __gin__ import dynamic_registration
from pid_jax import network
from pid_jax import trainer
from toys import training

include 'pid_jax/gin_configs/models/tiny.gin'
include 'pid_jax/gin_configs/runs/train_base.gin'

MIXTURE_OR_TASK_NAME = @training.register()
TASK_FEATURE_LENGTHS = {
  'inputs': 24, 'prompts': 2, 'targets': 2, 'subtasks': 2, 'decoder': 16
}
BATCH_SIZE = 4
EVAL_BATCH_SIZE = 4
TRAIN_STEPS = 2
BEST_METRIC = 'toy/exact_match'
trainer.train.eval_steps = 1
train_eval/trainer.DatasetConfig.batch_size = 2
network.T5Config:
  vocab_size = 128
  emb_dim = 16
  num_heads = 2
  num_encoder_layers = 1
  num_decoder_layers = 1
  head_dim = 8
  mlp_dim = 32
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
  """Runs a command in this process; returns its status and what it printed."""
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')
  monkeypatch.chdir(tmp_path)
  # These change the process.
  monkeypatch.setattr(cli, 'quieten', lambda verbose=False: None)
  (tmp_path / 'toy.gin').write_text(GIN)

  def run_command(module, *argv):
    gin.clear_config()
    flags = getattr(module, 'add_flags', None)
    with pytest.raises(SystemExit) as e:
      cli.run(
        module.main,
        doc='',
        flags=flags,
        use_gin=True,
        check=module.check,
        argv=list(argv),
      )
    captured = capsys.readouterr()
    return e.value.code, captured.out, captured.err

  yield run_command
  gin.clear_config()


def test_train_then_evaluate(run, tmp_path):
  model_dir = pathlib.Path('model')  # As most users name it: relative.
  status, _, err = run(train, '--gin_file=toy.gin', "--gin.MODEL_DIR='model'")
  assert not status, err
  text = (model_dir / 'config.gin').read_text()
  assert 'training.register()' in text and str(tmp_path / 'model') in text

  # The task, its module and lengths come from config.gin.
  status, out, err = run(
    evaluate, f'--model_dir={model_dir}', '--split=validation'
  )
  assert not status, err
  assert 'toy/joint_goal_accuracy' in out
  folder = model_dir / 'evaluation' / 'validation-2'
  results = json.loads((folder / 'metrics.json').read_text())
  assert results['step'] == 2 and results['split'] == 'validation'
  lines = (folder / 'toy.jsonl').read_text().splitlines()
  predictions = [json.loads(line) for line in lines]
  assert len(predictions) == 10
  for index, line in enumerate(predictions):
    example = toy.example(index, 'validation')
    assert {k: line[k] for k in ('example_id', 'inputs', 'targets')} == {
      k: example[k] for k in ('example_id', 'inputs', 'targets')
    }
    assert len(line['prediction']) == 2
  right = sum(
    p == t
    for line in predictions
    for p, t in zip(line['prediction'], line['targets'], strict=True)
  )
  assert results['metrics']['toy/exact_match'] == pytest.approx(right / 20)

  # What the model was trained with is not overwritten: by what would never be
  # trained, and by what it goes on with.
  before = (model_dir / 'config.gin').read_text()
  flags = ('--gin_file=toy.gin', "--gin.MODEL_DIR='model'")
  lower = '--gin.LEARNING_RATE=0.0005'
  status, _, err = run(train, *flags, lower)
  assert status == 2 and 'was 0.001, is now 0.0005' in err
  assert err.count('\n') == 1 and not list(model_dir.glob('config-*'))
  shutil.copytree(model_dir, 'longer')
  flags = ('--gin_file=toy.gin', "--gin.MODEL_DIR='longer'")
  status, _, err = run(train, *flags, lower, '--gin.TRAIN_STEPS=3')
  assert not status, err
  assert (
    'LEARNING_RATE = 0.0005' in pathlib.Path('longer/config-2.gin').read_text()
  )
  for path in (model_dir, pathlib.Path('longer')):
    assert (path / 'config.gin').read_text() == before
  shutil.rmtree('longer/checkpoints')
  status, _, err = run(train, *flags)
  assert status == 2 and 'longer/config-2.gin is of a run that left' in err

  # The report finds them, and the curves of the training.
  summary = viewer.write_report(model_dir, 'report.html')
  assert (summary.num_examples, summary.num_errors) == (10, 20 - right)
  html = pathlib.Path('report.html').read_text()
  assert 'toy: validation at step 2' in html and 'eval/toy/target_loss' in html

  # The metrics of training are those of the command, on the same split.
  saved = model_dir / 'checkpoints' / '2' / 'metrics' / 'metrics'
  in_training = json.loads(saved.read_text())
  for name, value in results['metrics'].items():
    assert in_training[name] == pytest.approx(value)

  # A MODEL_DIR of T5X's, whose config.gin configures T5X, is evaluated alike.
  checkpoints.convert(model_dir, 'theirs', target_format='t5x')
  pathlib.Path('theirs/config.gin').write_text('import t5x_of_nobody\n')
  flags = ('--split=validation', '--gin_file=toy.gin', "--gin.MODEL_DIR=''")
  status, _, err = run(evaluate, '--model_dir=theirs', *flags)
  assert not status, err
  theirs = pathlib.Path('theirs/evaluation/validation-0/metrics.json')
  assert json.loads(theirs.read_text())['metrics'] == results['metrics']

  status, _, err = run(evaluate, f'--model_dir={model_dir}', '--step=7')
  assert (
    status == 2 and 'error: ' in err and 'has no checkpoint of step 7' in err
  )
  status, _, err = run(evaluate, f'--model_dir={model_dir}', '--split=tests')
  assert status == 2 and "unknown split of toy 'tests'" in err

  narrow = [f'--model_dir={model_dir}', '--split=validation']
  # The mesh is the user's; this machine has one device.
  for mesh in ('--num_partitions=2', '--gin.NUM_PARTITIONS=2'):
    status, _, err = run(evaluate, *narrow, mesh)
    assert status == 2 and 'cannot be split into groups' in err

  status, _, err = run(evaluate, *narrow, '--param_dtype=int9')
  assert status == 2 and "--param_dtype: invalid choice: 'int9'" in err
  # A part of the examples, narrow weights or other decoding, which has the
  # flags of predict, do not pass for the usual results.
  flags = '--num_examples=3', '--param_dtype=int8', '--beam_size=2'
  status, _, err = run(evaluate, *narrow, *flags, '--batch_size=8')
  assert not status, err
  assert json.loads((folder / 'metrics.json').read_text()) == results
  part = folder.with_name('validation-2-first-3-int8-beam_size-2')
  found = json.loads((part / 'metrics.json').read_text())
  assert (found['step'], found['num_examples']) == (2, 3)
  assert found['decoding'] == {'beam_size': '2'} != results['decoding']
  lines = (part / 'toy.jsonl').read_text().splitlines()
  assert [json.loads(line)['targets'] for line in lines] == [
    line['targets'] for line in predictions[:3]
  ]
  status, _, err = run(evaluate, *narrow, '--beam_size=2', '--temperature=1')
  assert status == 2 and 'exclude each other' in err


_JSONL = """
from __gin__ import dynamic_registration
from pid_jax import trainer
from pid_jax.tasks import jsonl

MIXTURE_OR_TASK_NAME = @jsonl.register()
jsonl.register:
  name = 'of_a_file'
  validation = %FILE
  vocabulary = %VOCABULARY
FILE = 'lines.jsonl'
NUM_PARTITIONS = 1
NUM_FSDP = 1
infer_eval/trainer.DatasetConfig:
  mixture_or_task_name = %MIXTURE_OR_TASK_NAME
  task_feature_lengths = {
    'inputs': 8, 'prompts': 2, 'targets': 2, 'subtasks': 2
  }
  split = 'test'
  batch_size = 2
  shuffle = False
  pack = False
"""


def test_evaluate_says_which_file_of_the_configuration_is_missing(
  run, tmp_path, monkeypatch
):
  toy.copy_finished(tmp_path / 'model')
  vocabulary = toy.vocabulary().sentencepiece_model_file
  (tmp_path / 'model' / 'config.gin').write_text(
    f'VOCABULARY = {vocabulary!r}\n{_JSONL}'
  )
  line = {'inputs': 'a b', 'subtasks': []}
  line['subtasks'].append({'name': 's', 'prompt': 'a', 'target': 'b'})
  (tmp_path / 'lines.jsonl').write_text(json.dumps(line))
  # The task has no test; so validation is read, and that is said.
  status, out, err = run(evaluate, '--model_dir=model')
  assert not status, err
  assert 'of_a_file has no test split: validation is read' in out
  assert 'of_a_file/exact_match' in out
  assert 'predictions' not in out  # None is missing.
  assert list((tmp_path / 'model/evaluation').glob('validation-2*'))
  status, _, err = run(evaluate, '--model_dir=model', '--split=test')
  assert status == 2 and "unknown split of of_a_file 'test'" in err

  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  status, _, err = run(evaluate, f'--model_dir={tmp_path}/model')
  assert status == 2 and err.startswith('error: ') and err.count('\n') == 1
  assert 'elsewhere/lines.jsonl' in err and 'model/config.gin' in err
  assert '--input=FILE.jsonl' in err
  flag = f"--gin.FILE='{tmp_path}/lines.jsonl'"
  status, _, err = run(evaluate, f'--model_dir={tmp_path}/model', flag)
  assert not status, err


@pytest.mark.parametrize(
  'flags, message',
  [
    (('--gin.TRAIN_STEPS=%gin.REQUIRED',), 'give --gin.TRAIN_STEPS=NUMBER'),
    (("--gin.MIXTURE_OR_TASK_NAME='toi'",), "unknown task 'toi'; did you mean"),
    (
      ('--gin.BATCH_SIZE=5', '--gin.trainer.train.num_microbatches=2'),
      'The global batch of 5 is not divisible by 2',
    ),
    (("--gin.INITIAL_CHECKPOINT_PATH='/nowhere'",), '/nowhere: no such file'),
    (('--gin.network.T5Config.num_tokens=20',), 'generates only 20'),
  ],
)
def test_train_refuses_in_one_line(run, tmp_path, flags, message):
  toy.register()
  model_dir = tmp_path / 'model'
  status, out, err = run(
    train,
    f'--gin_file={tmp_path}/toy.gin',
    f'--gin.MODEL_DIR={str(model_dir)!r}',
    *flags,
  )
  assert status == 2 and not out
  assert err.startswith('error: ') and err.count('\n') == 1
  assert message in err
  assert not model_dir.exists()


@pytest.mark.slow
def test_baseline_with_the_configuration_of_its_task(run, tmp_path):
  toy.register()
  flags = ("--gin.MIXTURE_OR_TASK_NAME='toy_pie'", "--gin.MODEL_DIR='model'")
  status, _, err = run(train, '--gin_file=toy.gin', *flags)
  assert not status, err
  metrics = checkpoints.read_metrics('model', 2)
  assert {'toy_pie/target_loss', 'toy_pie/exact_match'} <= set(metrics)
  description = json.loads(pathlib.Path('model/config.json').read_text())
  assert description['selection']['metric'] == 'toy_pie/exact_match'
  assert description['task']['feature_lengths'] == {'inputs': 24, 'targets': 2}
  assert checkpoints.resolve_step('model', 'best') == 2

  # The joint layout's targets, of two letters, do not fit, and that is told.
  status, out, err = run(
    evaluate, '--model_dir=model', '--task=toy_joint', '--split=validation'
  )
  assert not status, err
  assert re.search(r'toy_joint/targets_truncated +10$', out, re.M)
  path = pathlib.Path('model/evaluation/validation-2-toy_joint/toy_joint.jsonl')
  assert len(path.read_text().splitlines()) == 10


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['pie', 'joint'])
def test_documented_command_of_a_baseline(run, layout):
  status, _, err = run(
    train,
    '--gin_file=runs/finetune.gin',
    '--gin_file=models/quickstart.gin',
    '--gin_file=tasks/bookings_short.gin',
    f"--gin.MIXTURE_OR_TASK_NAME='bookings_short_{layout}'",
    '--gin.INITIAL_CHECKPOINT_PATH=None',
    '--gin.TRAIN_STEPS=2',
    '--gin.infer_eval/trainer.DatasetConfig.num_examples=4',
    "--gin.MODEL_DIR='model'",
  )
  assert not status, err
  metrics = checkpoints.read_metrics('model', 2)
  assert f'bookings_short_{layout}/joint_goal_accuracy' in metrics
  assert checkpoints.resolve_step('model', 'best') == 2


def test_evaluate_needs_a_model(run, tmp_path):
  status, _, err = run(evaluate, f'--model_dir={tmp_path}/none')
  assert status == 2
  assert 'none: no such file' in err


def test_scores_and_text_to_text():
  """A stock task with a metric of scores, and a batch that is not full."""
  vocabulary = seqio.PassThroughVocabulary(27, eos_id=1)
  feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)
  inputs = np.asarray([[5, 6, 7, 1], [8, 9, 1, 0], [4, 1, 0, 0]], np.int32)
  targets = np.asarray([[6, 1], [9, 1], [4, 1]], np.int32)
  seen = {}

  def note(targets, scores):
    seen['scores'] = scores
    return {'sum': float(np.sum(scores))}

  seqio.TaskRegistry.add(
    'text_to_text',
    source=seqio.FunctionDataSource(
      lambda split, shuffle_files, seed=None: (
        tf.data.Dataset.from_tensor_slices(
          {'inputs': inputs, 'targets': targets}
        )
      ),
      splits=['test'],
    ),
    preprocessors=[],
    output_features={'inputs': feature, 'targets': feature},
    metric_fns=[note],
  )
  model = toy.t5_model()
  params = weights.random_params(model.module.config, seed=0)
  cfg = data.DatasetConfig(
    'text_to_text',
    {'inputs': 4, 'targets': 2},
    split='test',
    batch_size=2,
    shuffle=False,
    pack=False,
  )
  evaluator = evaluation.PredictionEvaluator(
    model, cfg, partitioning.Partitioner()
  )
  values = evaluator.evaluate(params, 0)
  expected = jax.jit(model.score_batch)(
    params,
    {
      'encoder_input_tokens': inputs,
      'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': targets,
    },
  )
  np.testing.assert_allclose(seen['scores'], expected, rtol=1e-5)
  assert values == {'text_to_text/sum': pytest.approx(float(expected.sum()))}

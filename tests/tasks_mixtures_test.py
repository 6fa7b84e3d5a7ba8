# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""pid_all: all tasks in one mixture, packed, cached and evaluated."""

import pathlib

import numpy as np
import pytest
import seqio
import subtasks_data

from pid_jax import errors
from pid_jax import subtasks
from pid_jax import tasks
from pid_jax.tasks import bookings
from pid_jax.tasks import mixtures
from pid_jax.tasks import preparation
from pid_jax.tasks import reading
from pid_jax.trainer import setup

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'
FOLDERS = {
  'aci_bench': 'aci_bench',
  'multiwoz24_slot': 'multiwoz24',
  'sgd_slot': 'sgd',
  'squad_v2': 'reading/squad',
  'todsum_domain': 'todsum',
}
LENGTHS = dict(inputs=256, prompts=256, targets=128, subtasks=30, decoder=1024)


@pytest.fixture(scope='module', autouse=True)
def data(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PID_JAX_VOCABULARY', bookings.VOCABULARY_FILE)
    seqio.set_tfds_data_dir_override(str(tmp_path_factory.mktemp('data')))
    for name, folder in FOLDERS.items():
      task = seqio.TaskRegistry.get(name)
      preparation.prepare(task.source.builder, FIXTURES / folder)
    yield
    seqio.set_tfds_data_dir_override(None)


def test_rates_and_members():
  mixture = seqio.get_mixture_or_task('pid_all')
  assert [t.name for t in mixture.tasks] == sorted(FOLDERS)
  assert tasks.find('pid_all_joint') == sorted(FOLDERS)
  rates = {
    t.name: mixture.get_rate(t) / mixture.total_rate for t in mixture.tasks
  }
  assert rates == pytest.approx(
    {
      'aci_bench': 0.0094,
      'multiwoz24_slot': 0.2687,
      'sgd_slot': 0.4654,
      'squad_v2': 0.1579,
      'todsum_domain': 0.1018,
    },
    abs=0.004,
  )


def test_tasks_of_different_numbers_of_subtasks_share_rows():
  dataset = seqio.get_dataset(
    'pid_all',
    LENGTHS,
    dataset_split='train',
    shuffle=True,
    seed=0,
    num_epochs=None,
    feature_converter=subtasks.PromptInDecoderFeatureConverter(pack=True),
  )
  (batch,) = dataset.batch(16).take(1).as_numpy_iterator()
  assert subtasks.packing_efficiency(batch)['subtasks_per_row'] > 4
  counts = [
    len(np.unique(row[row > 0])) for row in batch['decoder_subtask_ids']
  ]
  assert len(set(counts)) > 2


def test_a_model_of_a_mixture_answers_in_the_layout_of_its_training():
  # Its tasks keep different ends of long inputs: none is kept in silence.
  for name, layout in (('pid_all', 'pid'), ('pid_all_pie', 'pie')):
    described = setup.task_layout(seqio.MixtureRegistry.get(name))
    assert described['layout'] == layout
    assert described['long_inputs'] == 'error'
  one = setup.task_layout(seqio.TaskRegistry.get('multiwoz24_slot'))
  assert one['long_inputs'] == 'keep_end'


@pytest.mark.parametrize('layout', ['_pie', '_joint'])
def test_baselines_mix_too(layout):
  dataset = seqio.get_dataset(
    'pid_all' + layout,
    dict(inputs=512, targets=512),
    dataset_split='train',
    shuffle=False,  # Its buffer would take 10,000 rows.
    num_epochs=None,
    feature_converter=seqio.EncDecFeatureConverter(pack=True),
  )
  (batch,) = dataset.batch(4).take(1).as_numpy_iterator()
  assert (batch['decoder_loss_weights'].sum(axis=-1) > 0).all()


def test_a_cache_gives_what_the_tasks_give(tmp_path):
  names = ('todsum_domain', 'squad_v2')
  mixture = mixtures.register('mixtures_test_cached', tasks=names)
  before = seqio.get_global_cache_dirs()
  try:
    for name in names:
      task = seqio.TaskRegistry.get(name)
      subtasks_data.write_cache(task, 'train', str(tmp_path / name))
    seqio.set_global_cache_dirs([str(tmp_path)])
    for name in names:
      get = lambda cached, name=name: seqio.TaskRegistry.get(name).get_dataset(
        LENGTHS, 'train', shuffle=False, use_cached=cached
      )
      subtasks_data.assert_same_rows(get(True), get(False))
    mixed = seqio.get_mixture_or_task(mixture).get_dataset(
      LENGTHS, 'train', shuffle=True, seed=0, use_cached=True, num_epochs=None
    )
    assert len(list(mixed.take(20))) == 20
  finally:
    seqio.set_global_cache_dirs(before)


@pytest.mark.parametrize('layout', ['', '_pie', '_joint'])
def test_gold_answers_score_best(layout):
  """Also what metrics need besides targets comes through every layout."""
  name = f'todsum_domain{layout}'
  converter = subtasks.PromptInDecoderFeatureConverter(pack=False)
  lengths = dict(inputs=512, prompts=16, targets=256, subtasks=5)
  if layout:
    converter = seqio.EncDecFeatureConverter(pack=False)
    lengths = dict(inputs=512, targets=256)
  evaluator = seqio.Evaluator(
    name, converter, 'validation', sequence_length=lengths
  )
  dataset = seqio.TaskRegistry.get(name).get_dataset(
    lengths, 'validation', shuffle=False
  )
  # As a model gives them, padded.
  gold = np.zeros((9, 5, 256) if not layout else (9, 256), np.int32)
  for i, row in enumerate(dataset.as_numpy_iterator()):
    targets = row['targets']
    gold[(i, *map(slice, targets.shape))] = targets
    number = i + 1
  figures, _ = evaluator.evaluate(
    compute_metrics=True,
    predict_fn=lambda dataset: list(enumerate(gold[:number])),
  )
  figures = figures.result()[name]
  assert figures['rouge1'] == figures['whole_rougeL'] == 1
  # 7 + 3 + 4 tuples of gold: 9, 4 and 4; the summaries leave some out, and
  # say "this train" of the taxi.
  want = figures['slot_consistency_recall']
  assert 0.5 < want < 1
  assert figures['slot_consistency_precision'] == 1


def test_mixtures_of_ones_own():
  name = mixtures.register(
    'mixtures_test', tasks=('todsum_domain', 'bookings'), rates={'bookings': 2}
  )
  assert (
    mixtures.register(
      name, tasks=('todsum_domain', 'bookings'), rates={'bookings': 2}
    )
    == name
  )  # Once more, as gin does.
  mixture = seqio.get_mixture_or_task(name)
  assert mixture.get_rate(seqio.TaskRegistry.get('bookings')) == 2
  with pytest.raises(errors.UserError, match='registered already, with other'):
    mixtures.register(name, tasks=('todsum_domain',))
  with pytest.raises(errors.UserError, match="'squad_v2' is registered alr"):
    mixtures.register('squad_v2', tasks=('todsum_domain',))  # A task's.
  with pytest.raises(errors.UserError, match="'todsum_domain' is registered"):
    reading.register('todsum_domain', data='squad_v2')  # Another module's.
  with pytest.raises(errors.UserError, match='needs a rate of bookings'):
    mixtures.register('mixtures_test_2', tasks=('bookings',))
  with pytest.raises(errors.UserError, match="unknown task 'todsum'"):
    mixtures.register('mixtures_test_2', tasks=('todsum',))

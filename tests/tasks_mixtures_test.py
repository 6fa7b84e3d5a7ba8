# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""pid_all: all tasks in one mixture, packed, cached and evaluated."""

import numpy as np
import pytest
import seqio
from toys import subtasks_data
from toys import tasks_data

from pid_jax import errors
from pid_jax import subtasks
from pid_jax import tasks
from pid_jax.tasks import mixtures
from pid_jax.tasks import reading
from pid_jax.trainer import setup

MEMBERS = {
  'aci_bench', 'multiwoz24_slot', 'sgd_slot', 'squad_v2', 'todsum_domain',
}  # fmt: skip
LENGTHS = dict(inputs=256, prompts=256, targets=128, subtasks=30, decoder=1024)


@pytest.fixture(scope='module', autouse=True)
def _data():
  with tasks_data.prepared(*tasks_data.FOLDERS):
    yield


def test_rates_and_members():
  mixture = seqio.get_mixture_or_task('pid_all')
  assert {t.name for t in mixture.tasks} == MEMBERS
  assert set(tasks.find('pid_all_joint')) == MEMBERS
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


@pytest.mark.parametrize(
  'layout', ['', '_joint', pytest.param('_pie', marks=pytest.mark.slow)]
)
def test_tasks_of_a_mixture_share_rows(layout):
  dataset = seqio.get_dataset(
    f'pid_all{layout}',
    dict(inputs=512, targets=512) if layout else LENGTHS,
    dataset_split='train',
    shuffle=not layout,  # The buffer of the baseline takes 10,000 rows.
    seed=0,
    num_epochs=None,
    feature_converter=seqio.EncDecFeatureConverter(pack=True)
    if layout
    else subtasks.PromptInDecoderFeatureConverter(pack=True),
  )
  (batch,) = dataset.batch(8).take(1).as_numpy_iterator()
  assert (batch['decoder_loss_weights'].sum(axis=-1) > 0).all()
  if not layout:
    assert subtasks.packing_efficiency(batch)['subtasks_per_row'] > 4
    counts = {
      len(np.unique(row[row > 0])) for row in batch['decoder_subtask_ids']
    }
    assert len(counts) > 2


def test_a_model_of_a_mixture_answers_in_the_layout_of_its_training():
  # Its tasks truncate different ends of inputs, so none is assumed.
  for name, layout in (('pid_all', 'pid'), ('pid_all_pie', 'pie')):
    described = setup.task_layout(seqio.MixtureRegistry.get(name))
    assert described['layout'] == layout
    assert described['long_inputs'] == 'error'
  one = setup.task_layout(seqio.TaskRegistry.get('multiwoz24_slot'))
  assert one['long_inputs'] == 'keep_end'


def test_cached_tasks_can_be_mixed(tmp_path):
  names = ('todsum_domain', 'squad_v2')
  mixture = mixtures.register('mixtures_test_cached', tasks=names)
  before = seqio.get_global_cache_dirs()
  try:
    for name in names:
      task = seqio.TaskRegistry.get(name)
      subtasks_data.write_cache(task, 'train', str(tmp_path / name))
    seqio.set_global_cache_dirs([str(tmp_path)])
    mixed = seqio.get_mixture_or_task(mixture).get_dataset(
      {**LENGTHS, 'inputs': 4096}, 'train', seed=0, use_cached=True
    )
    rows = list(mixed.take(20).as_numpy_iterator())
    # The features of cached rows are tested in subtasks_source_test.py.
    inputs = {tuple(row['inputs']) for row in rows}
    assert inputs == {
      tuple(row['inputs'])
      for name in names
      for row in tasks_data.rows(name, 'train')
    }
  finally:
    seqio.set_global_cache_dirs(before)


@pytest.mark.parametrize(
  'layout', ['', '_joint', pytest.param('_pie', marks=pytest.mark.slow)]
)
def test_gold_answers_score_best(layout):
  """The features that metrics need besides targets pass every layout."""
  gold = tasks_data.examples('todsum_domain', 'validation')
  figures = tasks_data.score(
    f'todsum_domain{layout}',
    'validation',
    {name: example['targets'] for name, example in gold.items()},
  )
  assert figures['rouge1'] == figures['whole_rougeL'] == 1
  # 7 + 3 + 4 gold tuples: 9, 4 and 4; the summaries leave some out, and say
  # "this train" of the taxi.
  assert 0.5 < figures['slot_consistency_recall'] < 1
  assert figures['slot_consistency_precision'] == 1


def test_registering_mixtures():
  arguments = dict(tasks=('todsum_domain', 'bookings'), rates={'bookings': 2})
  name = mixtures.register('mixtures_test', **arguments)
  assert mixtures.register(name, **arguments) == name  # A no-op.
  mixture = seqio.get_mixture_or_task(name)
  assert mixture.get_rate(seqio.TaskRegistry.get('bookings')) == 2
  with pytest.raises(errors.UserError, match='other arguments'):
    mixtures.register(name, tasks=('todsum_domain',))
  with pytest.raises(errors.UserError, match="'squad_v2' is registered"):
    mixtures.register('squad_v2', tasks=('todsum_domain',))  # A task's.
  with pytest.raises(errors.UserError, match="'todsum_domain' is registered"):
    reading.register('todsum_domain', data='squad_v2')  # Another module's.
  with pytest.raises(errors.UserError, match='needs a rate for bookings'):
    mixtures.register('mixtures_test_2', tasks=('bookings',))
  with pytest.raises(errors.UserError, match="unknown task 'todsum'"):
    mixtures.register('mixtures_test_2', tasks=('todsum',))

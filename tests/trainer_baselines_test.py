# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The baselines train with the same configuration, and say what they cut."""

import numpy as np
import pytest
import seqio
from toys import training as toy

from pid_jax import errors
from pid_jax import subtasks
from pid_jax.trainer import data

_SHORT = {**toy.LENGTHS, 'inputs': 10, 'targets': 1}


def _config(layout: str, **overrides) -> data.DatasetConfig:
  cfg = toy.dataset_config('validation', **overrides)
  name = f'{cfg.mixture_or_task_name}_{layout}'
  return data.dataclasses.replace(cfg, mixture_or_task_name=name)


def _rows(cfg: data.DatasetConfig) -> dict[str, np.ndarray]:
  batches = list(data.dataset(cfg, 1).as_numpy_iterator())
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


@pytest.mark.parametrize(
  'layout, pack',
  [
    ('pie', True),
    ('joint', False),
    pytest.param('pie', False, marks=pytest.mark.slow),
    pytest.param('joint', True, marks=pytest.mark.slow),
  ],
)
def test_converter_changes_nothing_and_counts_what_is_cut(layout, pack):
  cfg = _config(layout, task_feature_lengths=_SHORT, pack=pack)
  rows = _rows(cfg)
  counts = {k: rows.pop(k) for k in list(rows) if rows[k].ndim == 1}
  stock = seqio.get_dataset(
    cfg.mixture_or_task_name,
    {k: _SHORT[k] for k in ('inputs', 'targets')},
    seqio.EncDecFeatureConverter(pack=pack),
    'validation',
  )
  expected = list(stock.as_numpy_iterator())
  assert rows.keys() == expected[0].keys()
  for name, value in rows.items():
    np.testing.assert_array_equal(value, [row[name] for row in expected])
  # Ten inputs of 10 tokens and EOS, with a prompt before them in pie, into 10;
  # targets of a letter and EOS, or of two with a separator, into 1.
  total = 20 if layout == 'pie' else 10
  assert {k: v.sum() for k, v in counts.items()} == {
    'inputs_truncated': total,
    'targets_truncated': total,
  }
  enough = _rows(_config(layout, task_feature_lengths=_WIDE, pack=pack))
  assert not enough['inputs_truncated'].any()
  assert not enough['targets_truncated'].any()


_WIDE = {**toy.LENGTHS, 'targets': 4}


def test_mixture_of_baselines_counts_too():
  name = f'mixture_of_{toy.register()}_pie'
  seqio.MixtureRegistry.add(name, ['toy_pie'], default_rate=1.0)
  cfg = _config('pie', task_feature_lengths=_SHORT)
  cfg = data.dataclasses.replace(cfg, mixture_or_task_name=name)
  rows = _rows(cfg)
  assert rows['inputs_truncated'].sum() == rows['targets_truncated'].sum() > 0


@pytest.mark.parametrize(
  'layout, pack', [(None, True), ('joint', True), ('joint', False)]
)
def test_row_shapes_are_those_of_batches(layout, pack):
  cfg = _config(layout, pack=pack) if layout else toy.dataset_config(pack=pack)
  batch = next(data.dataset(cfg, 1).as_numpy_iterator())
  assert data.row_shapes(cfg) == {
    name: (value.shape[1:], value.dtype) for name, value in batch.items()
  }


@pytest.mark.parametrize(
  'layout, lengths, message',
  [
    ('pid', {'inputs': 9, 'targets': 2}, 'no length of decoder, prompts, subt'),
    ('joint', {'inputs': 9}, "no length of targets, which 'toy_joint' needs"),
    ('pid', {**toy.LENGTHS, 'input': 9}, "'input'; did you mean inputs"),
    ('pie', {'inputs': 9, 'targets': 2, 'target': 2}, "'target'; did you mean"),
  ],
)
def test_lengths_that_do_not_fit_the_task(layout, lengths, message):
  name = toy.register() + ('' if layout == 'pid' else f'_{layout}')
  cfg = data.DatasetConfig(name, lengths)
  with pytest.raises(errors.UserError, match=message):
    data.dataset(cfg, 1)


def test_stock_tasks_keep_the_stock_converter():
  cfg = _config('pie')
  assert isinstance(
    data.feature_converter(cfg), subtasks.TextToTextFeatureConverter
  )

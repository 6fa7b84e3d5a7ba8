# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a comparison says of itself, against figures worked out by hand."""

import html.parser
import json
import re

import pytest
import trainer_toy as toy

from pid_jax import comparison
from pid_jax import costs
from pid_jax.benchmarks import plots as benchmark_plots
from pid_jax.comparison import page
from pid_jax.comparison import roofline
from pid_jax.comparison import summary as summary_lib

SHAPE = {
  'rows': 2, 'encoder_length': 10, 'decoder_length': 6, 'pairs': 12,
  'encoder_tokens': 48, 'decoder_tokens': 24, 'inputs': 9,
}  # fmt: skip
SENTENCE = (
  'On toy an update of PiE takes 2.50 times as long as one of PiD and its '
  'answers take 4.50 times as long; f1 0.550 for PiD against 0.650 (-0.100, '
  'where runs that differ in the seed are up to 0.100 apart): here PiD loses.'
)
COSTS_ALONE = {'runs': {}, 'update_seconds': {}, 'untrained': 'no gold'}
GRANULARITY = {
  'inputs': 10, 'prompts': 1, 'targets': 6, 'subtasks': 1, 'decoder': 8
}  # fmt: skip


def _job(name: str, seconds: dict[str, float], **sizes) -> dict:
  sizes = {
    'num_inputs': 1, 'input_length': 8, 'num_prompts': 3, 'prompt_length': 2,
    'new_tokens': 4, **sizes,
  }  # fmt: skip
  spread = lambda x: dict.fromkeys(('quartile_1', 'median', 'quartile_3'), x)
  seconds = {'pid': 2.0, **seconds}
  return {
    'name': name,
    'sizes': sizes,
    'reference': 'pid',
    'contenders': {
      arm: {
        'seconds': spread(x),
        'ratio': spread(x / 2),
        'steady': True,
        'phases': {
          'measured': {
            'encode': x / 8, 'prefill': x / 4, 'steps': 5 * x / 8
          },
          'floor': {'encode': x / 16, 'prefill': x / 8, 'steps': 0.0},
        },
      }
      for arm, x in seconds.items()
    },
    'machine': {
      'processor': 'Zx 1', 'cores': 2, 'device': 'cpu',
      'probe': {'flop_rate': 2e11, 'bandwidth': 2.5e10},
    },
  }  # fmt: skip


def _place(**more) -> dict:
  """What compilers say of a machine: the formulas' FLOPs and twice the bytes.

  At 16 FLOPs for each byte, `encode` is bound by arithmetic.
  """
  row = lambda intensity: {
    'formula_flops': 1e9, 'formula_bytes': 1e9 / intensity,
    'compiler_flops': 1e9, 'compiler_bytes': 2e9 / intensity,
  }  # fmt: skip
  phases = {'encode': row(16.0), 'prefill': row(4.0), 'step': row(0.5)}
  return {
    'device': 'Some chip', 'dtype': 'float32',
    'layouts': {'pid': phases, 'pie': phases}, **more,
  }  # fmt: skip


def _results(**overrides) -> dict:
  """Two runs of each of two layouts, evaluated after updates 3 and 6."""
  results = {
    'task': 'toy',
    'metric': 'f1',
    'untrained': None,
    'runs': {
      f'{arm}-{seed}': {
        'arm': arm,
        'curves': {'f1': [[3, value], [6, value + seed / 10]]},
      }
      for arm, value in (('pid', 0.5), ('pie', 0.6), ('coarse', 0.2))
      for seed in (0, 1)
    },
    'updates': dict.fromkeys(('pid', 'pie', 'coarse'), 3),
    'settings': {
      'equal': 'updates',
      'layouts': ['pid', 'pie'],
      'granularities': {'coarse': GRANULARITY},
    },
    'model': toy.t5_config().to_dict(),
    'shapes': {
      'pid-0-3': SHAPE,
      'pie-0-3': {**SHAPE, 'rows': 4},
      'coarse-0-3': SHAPE,
    },
    'update_seconds': {
      'pid': {'median': 0.5},
      'pie': {'median': 1.25},
      'coarse': {'median': 0.25},
    },
    'inference': {
      job['name']: job
      for job in (
        _job('task', {'pie': 9.0, 'coarse': 1.0}),
        _job('U=1', {'pie': 1.0}, num_prompts=1),
        _job('U=2', {'pie': 4.0}, num_prompts=2),
      )
    },
    'roofline': {
      'here': _place(),
      'tpu': _place(flop_rate=1e14, bandwidth=1e12),
    },
  }
  return {**results, **overrides}


def _report(**overrides) -> dict:
  results = _results(**overrides)
  summary = summary_lib.summarize(results)
  more = {
    'command': 'compare <this>',
    'date': 'today',
    'versions': {'jax': '1'},
  }
  return {**results, **more, 'summary': summary}


def test_summary_by_hand():
  summary = _report()['summary']
  assert summary['pid']['quality'] == {'f1': [0.5, 0.6]}
  assert summary['pid']['inputs_per_second'] == 9 / 3 / 0.5
  assert summary['pid']['padding'] == pytest.approx(1 - 72 / (3 * 2 * 16))
  assert summary['pie']['padding'] == pytest.approx(1 - 72 / (3 * 4 * 16))
  assert summary['pie']['update_flops'] == 2 * summary['pid']['update_flops']
  assert summary['pie']['inference'] == {'task': 9.0, 'U=1': 1.0, 'U=2': 4.0}


def test_table_says_where_pid_loses():
  table = comparison.table(_report())
  assert SENTENCE in table
  assert 'PiD answers slower than PiE at U=1 (2.00 times as long).' in table
  assert summary_lib.LIMITS in table
  assert re.search('f1, mean +0.5500 +0.6500 +0.2500', table)
  assert re.search('least to most +0.500-0.600 +0.600-0.700', table)
  assert 'an update of coarse (PiD, prompts: 1) takes 0.50 times' in table
  assert 'prompts: 1) at this task (2.00 times as long).' in table
  without = comparison.table(_report(**COSTS_ALONE))
  assert 'Costs alone: no gold.' in without and 'f1' not in without


def test_the_roof_by_hand():
  here, chip = roofline.machines(_results())
  # 2e11 FLOP/s at 2.5e10 bytes/s: the ridge is at 8.
  assert [here.allowed(x) for x in (16.0, 4.0)] == [2e11, 1e11]
  assert [here.is_bound_by_memory(x) for x in (7.9, 8.1)] == [True, False]
  assert here.roof() == [(0.25, 0.625e10), (8.0, 2e11), (32.0, 2e11)]
  encode, prefill, step = (p for p in here.points if p.layout == 'pie')
  assert (step.intensity, step.by_compiler) == (0.5, 0.25)
  # Measured: 9 s, an eighth of it for encode, a quarter for prefill.
  work = costs.generate(
    toy.t5_config(), 'pie', **_results()['inference']['task']['sizes']
  )
  assert encode.measured == pytest.approx(work.encode.flops / (9 / 8))
  assert prefill.measured == pytest.approx(work.prefill.flops / (9 / 4))
  steps = sum(one.flops for one in work.steps)
  assert step.measured == pytest.approx(steps / (9 * 5 / 8))
  assert roofline.unit(here)[0] == 'GFLOP/s'
  assert roofline.unit(chip) == ('TFLOP/s', 1e12)
  assert all(point.measured is None for point in chip.points)
  results = _results()
  results['roofline']['tpu'] = {'missing': 'no libtpu'}
  assert len(roofline.machines(results)) == 1
  text = ' '.join(_read(page.page(_report(**results))).texts)
  assert 'No TPU: no libtpu.' in text


def test_spread_is_of_updates_that_all_runs_share():
  report = _report()
  assert summary_lib.spread_curve(report, 'pid', 'f1') == [
    (3, [0.5, 0.5]),
    (6, [0.5, 0.6]),
  ]
  report['runs']['pid-1']['curves']['f1'].pop(0)
  assert summary_lib.spread_curve(report, 'pid', 'f1') == [(6, [0.5, 0.6])]
  assert summary_lib.spread_curve(report, 'pid', 'other') == []


class _Parser(html.parser.HTMLParser):
  """Collects texts, tags, and titles of points."""

  def __init__(self):
    super().__init__()
    self.tags, self.texts, self.links = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [
      v for k, v in attrs if k in ('href', 'src') and v != 'data:,'
    ]

  def handle_data(self, data):
    self.texts.append(data)


def _read(document: str) -> _Parser:
  parser = _Parser()
  parser.feed(document)
  return parser


def test_page_shows_sentences_table_and_curves():
  report = _report()
  read = _read(page.page(report))
  assert SENTENCE in read.texts
  assert {'0.5500', '0.6500', '$ compare <this>'} <= set(read.texts)
  assert not read.links and 'script' not in read.tags
  assert {'f1 over updates', 'f1 over minutes of training'} <= set(read.texts)
  # Update 6 of PiE: 6 times 1.25 s; the mean of two runs.
  assert 'PiE 0.125: 0.65' in read.texts
  # Measured milliseconds, and FLOPs by formula, of two prompts.
  assert 'PiE 2: 4,000' in read.texts
  work = costs.generate(
    toy.t5_config(), 'pie', **report['inference']['U=2']['sizes']
  )
  shown = summary_lib.NAMES['pie'] + f' 2: {work.total.flops / 1e9:.4g}'
  assert shown in read.texts
  # On the roof of the chip that was not run: 16 FLOPs a byte, 1 TB/s.
  assert 'PiE 16: 16' in read.texts
  assert {'PiE 2: 500', 'PiE by formula 2: 250'} <= set(read.texts)


def test_page_takes_no_text_for_markup():
  name = '<script>alert(1)</script>'
  read = _read(page.page(_report(task=name, metric='f1')))
  assert 'script' not in read.tags
  assert any(name in text for text in read.texts)


def test_page_of_costs_alone():
  read = _read(page.page(_report(**COSTS_ALONE)))
  assert any(text.startswith('Costs alone') for text in read.texts)
  assert not any(' over updates' in text for text in read.texts)


def test_report_is_written(tmp_path):
  report = comparison.write(_results(), 'compare', tmp_path)
  assert json.loads((tmp_path / 'report.json').read_text()) == report
  assert (tmp_path / 'report.html').read_text() == page.page(report)
  names = {path.name for path in tmp_path.iterdir()}
  drawn = {
    f'{name}.{kind}'
    for name in (
      'quality',
      'phases',
      'inference_over_U',
      'phases_over_U',
      'roofline',
    )
    for kind in ('svg', 'png')
  }
  wanted = drawn if benchmark_plots.is_installed() else set()
  assert names == {'report.json', 'report.html', *wanted}

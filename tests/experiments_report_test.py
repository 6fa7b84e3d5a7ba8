# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a comparison says of itself, against figures worked out by hand."""

import html.parser
import json
import re

import experiments_report_data as data
import pytest
from toys import training as toy

from pid_jax.experiments import costs
from pid_jax.experiments import page
from pid_jax.experiments import roofline
from pid_jax.experiments import summary as summary_lib
from pid_jax.experiments.layouts import LABELS
from pid_jax.experiments.layouts import Sizes
from pid_jax.viewer import figures


def test_summary_by_hand():
  summary = data.report()['summary']
  assert summary['pid']['quality'] == {'f1': [0.5, 0.6]}
  assert summary['pid']['inputs_per_second'] == 9 / 3 / 0.5
  assert summary['pid']['padding'] == pytest.approx(1 - 72 / (3 * 2 * 16))
  assert summary['pie']['padding'] == pytest.approx(1 - 72 / (3 * 4 * 16))
  assert summary['pie']['update_flops'] == 2 * summary['pid']['update_flops']
  assert summary['pie']['inference'] == {'task': 9.0, 'U=1': 1.0, 'U=2': 4.0}


def test_table_and_notes_say_where_pid_loses():
  slower, slower_too, rises, _ = summary_lib.notes(data.report())
  assert 'PiE at U=1 (2.00 times' in slower
  assert 'coarse at task (2.00 times' in slower_too
  assert '(PiD by 0.050, PiE by 0.050, coarse by 0.050)' in rises
  table = summary_lib.table(data.report())
  assert all(note in table for note in summary_lib.notes(data.report()))
  for line in (
    'f1, mean +0.5500 +0.6500 +0.2500',
    'least to most +0.500-0.600 +0.600-0.700',
    'times those of PiD +1.00 +2.50 +0.50',
    'times that of PiD +1.00 +4.50 +0.50',
    'tokens of an answer +4 +4 +4',
  ):
    assert re.search(line, table)
  alone, _ = [
    note
    for note in summary_lib.notes(data.report(**data.COSTS_ALONE))
    if 'slower' not in note
  ]
  assert alone == 'Costs alone: no gold.'


def test_the_roof_by_hand():
  here, chip = roofline.machines(data.results())
  # 2e11 FLOP/s at 2.5e10 bytes/s: the ridge is at 8.
  assert [here.allowed(x) for x in (16.0, 4.0)] == [2e11, 1e11]
  assert [here.is_bound_by_memory(x) for x in (7.9, 8.1)] == [True, False]
  assert here.roof() == [(0.25, 0.625e10), (8.0, 2e11), (32.0, 2e11)]
  encode, prefill, step = (p for p in here.points if p.layout == 'pie')
  assert (step.intensity, step.by_compiler) == (0.5, 0.25)
  # Measured: 9 s, an eighth of it for encode, a quarter for prefill.
  work = costs.generate(
    toy.t5_config(),
    'pie',
    Sizes(**data.results()['inference']['task']['sizes']),
  )
  assert encode.measured == pytest.approx(work.encode.flops / (9 / 8))
  assert prefill.measured == pytest.approx(work.prefill.flops / (9 / 4))
  steps = sum(one.flops for one in work.steps)
  assert step.measured == pytest.approx(steps / (9 * 5 / 8))
  assert [y for _, y in here.placed()] == [p.measured for p in here.points]
  assert [y for _, y in chip.placed()][:3] == [1.6e13, 4e12, 5e11]
  assert roofline.unit(here)[0] == 'GFLOP/s'
  assert roofline.unit(chip) == ('TFLOP/s', 1e12)
  assert all(point.measured is None for point in chip.points)
  results = data.results()
  phases = results['inference']['task']['contenders']['pie']['phases']
  phases['measured']['prefill'] = -0.1  # Lost in noise: no place for it.
  shown = [
    (p.layout, p.phase) for p, _ in roofline.machines(results)[0].placed()
  ]
  assert ('pie', 'prefill') not in shown and len(shown) == 5
  results['roofline']['tpu'] = {'missing': 'no libtpu'}
  assert len(roofline.machines(results)) == 1
  text = ' '.join(_read(page.page(data.report(**results))).texts)
  assert 'No TPU: no libtpu.' in text


def test_spread_is_of_updates_that_all_runs_share():
  report = data.report()
  assert summary_lib.spread_curve(report, 'pid', 'f1') == [
    (3, [0.5, 0.5]),
    (6, [0.5, 0.6]),
  ]
  report['runs']['pid-1']['curves']['f1'].pop(0)
  assert summary_lib.spread_curve(report, 'pid', 'f1') == [(6, [0.5, 0.6])]
  assert summary_lib.spread_curve(report, 'pid', 'other') == []


def test_a_phase_that_is_lost_in_noise_has_no_place():
  report = data.report()
  phases = report['inference']['U=1']['contenders']['pie']['phases']
  phases['measured']['prefill'] = 0.49 * phases['floor']['prefill']
  points = summary_lib.swept(report, 'U')
  of = lambda *args: summary_lib.phase_ms(points, *args)
  # U=2 took PiE 4 s, a quarter of it prefill, an eighth by formula.
  assert of('pie', 'measured', 'prefill') == [(2, 1000.0)]
  assert of('pie', 'floor', 'prefill') == [(1, 125.0), (2, 500.0)]
  assert [x for x, _ in of('pid', 'measured', 'prefill')] == [1, 2]


class _Parser(html.parser.HTMLParser):
  """Collects texts, tags, and titles of points."""

  def __init__(self):
    super().__init__()
    self.tags, self.texts, self.links = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [
      v
      for k, v in attrs
      if k in ('href', 'src') and v != 'data:,' and v[0] != '#'
    ]

  def handle_data(self, data):
    self.texts.append(data)


def _read(document: str) -> _Parser:
  parser = _Parser()
  parser.feed(document)
  return parser


def test_page_shows_notes_table_and_curves():
  report = data.report()
  read = _read(page.page(report))
  assert set(summary_lib.notes(report)) <= set(read.texts)
  assert {'0.5500', '0.6500', '$ compare <this>'} <= set(read.texts)
  assert not read.links and 'script' not in read.tags
  assert {'f1 over updates', 'f1 over minutes of training'} <= set(read.texts)
  # Update 6 of PiE: 6 times 1.25 s; the mean of two runs.
  assert 'PiE 0.125: 0.65' in read.texts
  # Measured milliseconds, and FLOPs by formula, of two prompts.
  assert 'PiE 2: 4,000' in read.texts
  work = costs.generate(
    toy.t5_config(), 'pie', Sizes(**report['inference']['U=2']['sizes'])
  )
  shown = LABELS['pie'] + f' 2: {work.total.flops / 1e9:.4g}'
  assert shown in read.texts
  # On the roof of the chip that was not run: 16 FLOPs a byte, 1 TB/s.
  assert 'PiE 16: 16' in read.texts
  assert {'PiE 2: 500', 'PiE by formula 2: 250'} <= set(read.texts)


def test_page_takes_no_text_for_markup():
  name = '<script>alert(1)</script>'
  read = _read(page.page(data.report(task=name, metric='f1')))
  assert 'script' not in read.tags
  assert any(name in text for text in read.texts)


def test_page_of_costs_alone():
  read = _read(page.page(data.report(**data.COSTS_ALONE)))
  assert any(text.startswith('Costs alone') for text in read.texts)
  assert not any(' over updates' in text for text in read.texts)


def test_report_is_written(tmp_path):
  report = page.write(data.results(), 'compare', tmp_path)
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
  wanted = drawn if figures.is_installed() else set()
  assert names == {'report.json', 'report.html', *wanted}

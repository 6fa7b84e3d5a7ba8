# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Filters, search and order of the report, against what the data say."""

import itertools
import json

import pages_data
import pytest
import report_in_browser

from pid_jax import viewer
from pid_jax.viewer import comparing

Kind = comparing.Kind

pytestmark = report_in_browser.needs_browser
browser_fixture = report_in_browser.browser_fixture
lines_fixture = report_in_browser.lines_fixture
url_fixture = report_in_browser.url_fixture


def test_every_filter_does_what_it_says(browser, lines, url):
  browser.open(url)
  names = ['train-day', 'company']
  tests = {
    '': lambda kind: True,
    'errors': lambda kind: kind.is_error,
    **{k.value: lambda kind, k=k: kind is k for k in comparing.ERRORS},
    'r': lambda kind: kind is Kind.RIGHT,
  }
  del tests[Kind.ABSENT.value]  # There is none here, and no such option.
  offered = browser.run(
    'return [...document.querySelector("[name=kind]").options]'
    '.map((option) => option.value)'
  )
  assert sorted(offered) == sorted([*tests, 'clean'])
  sizes = set()
  for kind, name in itertools.product([*tests, 'clean'], [None, *names]):
    chosen = {'kind': kind, 'dialogues': False}
    if name is not None:
      chosen['subtask'] = report_in_browser.option(browser, 'subtask', name)
    report_in_browser.choose(browser, **chosen)
    expected = []
    for line in lines:
      kinds = [
        k
        for k, s in zip(
          report_in_browser.kinds(line), line['subtasks'], strict=True
        )
        if name in (None, s['name'])
      ]
      if kind == 'clean':
        is_shown = bool(kinds) and not any(k.is_error for k in kinds)
      else:
        is_shown = any(map(tests[kind], kinds))
      if is_shown:
        expected.append(line['id'])
    assert report_in_browser.ids(browser) == expected, (kind, name)
    sizes.add(len(expected))
    if expected:
      assert browser.run('return count.textContent').startswith(
        f'{len(expected)} input'
      )
    else:
      assert browser.run('return count.textContent').startswith('Nothing fits')
  assert len(sizes) > 10  # The filters tell much apart.


def test_tasks_of_a_mixture_can_be_told_apart(browser, tmp_path):
  for task, answer in (('capitals', 'Paris'), ('sums', '4')):
    line = {'inputs': 'x', 'target': answer, 'prediction': answer}
    pages_data.write(tmp_path / f'{task}.jsonl', [line, line])
  metrics = {'capitals/exact_match': 1.0, 'sums/exact_match': 1.0}
  results = {'step': 1, 'split': 'test', 'metrics': metrics}
  (tmp_path / 'metrics.json').write_text(json.dumps(results))
  viewer.write_report(tmp_path, tmp_path / 'report.html')
  browser.open((tmp_path / 'report.html').as_uri())
  text = 'return document.getElementById("list").innerText'
  assert len(report_in_browser.ids(browser)) == 4
  task = report_in_browser.option(browser, 'task', 'sums')
  report_in_browser.choose(browser, task=task)
  assert report_in_browser.ids(browser) == ['1', '2']
  shown = browser.run(text)
  assert '4' in shown and 'sums' in shown and 'Paris' not in shown


def test_rows_are_those_that_the_filters_ask_for(browser, lines, url):
  browser.open(url)
  report_in_browser.choose(browser, kind='n', dialogues=False)
  outcomes = browser.run(
    'return [...document.querySelectorAll(".outcome")].map(o => o.textContent)'
  )
  assert outcomes and set(outcomes) == {'near miss'}
  report_in_browser.choose(browser, search='call-1')
  rows = browser.run(
    """
    return [...document.querySelectorAll('.subtasks tbody tr')].map((row) =>
      [...row.children].map((cell) => cell.innerText));
    """
  )
  assert rows == [
    ['who', 'ada', 'ada', 'right', '0.368'],
    ['company\nwhich company?', 'Park & Sons', 'Park & Sohns', 'near miss', ''],
  ]


def test_empty_rows_are_one_click_away(browser, lines, url):
  browser.open(url)
  report_in_browser.choose(browser, search=lines[0]['id'], dialogues=False)
  assert report_in_browser.ids(browser)[0] == lines[0]['id']
  count = 'return document.querySelector(".card tbody").children.length'
  notable = sum(
    s['target'] != 'none' or s['prediction'] != 'none'
    for s in lines[0]['subtasks']
  )
  assert browser.run(count) == notable < 30
  text = browser.run('return document.querySelector(".more").textContent')
  assert text == f'{30 - notable} more, empty and right'
  browser.run('document.querySelector(".more").click()')
  assert browser.run(count) == 30


def test_search_looks_everywhere_and_takes_words_as_they_are(
  browser, lines, url
):
  browser.open(url)
  queries = [
    'ADA park',
    'call-3',
    'Sohns',
    'which company',
    'hotel',
    '21:',
    '.*',
  ]
  for query in queries:
    report_in_browser.choose(browser, search=query, dialogues=False)
    expected = [
      line['id']
      for line in lines
      if any(
        query.lower() in text.lower()
        for text in [
          line['id'],
          line['inputs'],
          *(
            s[key]
            for s in line['subtasks']
            for key in ('name', 'prompt', 'target', 'prediction')
          ),
        ]
      )
    ]
    assert report_in_browser.ids(browser) == expected, query


def test_orders(browser, lines, url):
  browser.open(url)
  errors = {
    line['id']: sum(kind.is_error for kind in report_in_browser.kinds(line))
    for line in lines
  }
  report_in_browser.choose(browser, order='errors', dialogues=False)
  ids = report_in_browser.ids(browser)
  assert ids == sorted(errors, key=lambda name: -errors[name])  # Both stable.
  least = {
    line['id']: min(s['score'] for s in line['subtasks'] if 'score' in s)
    for line in lines
  }
  report_in_browser.choose(browser, order='score', dialogues=False)
  shown = [round(least[name], 4) for name in report_in_browser.ids(browser)]
  assert shown == sorted(shown) and len(shown) == len(lines)


def test_counts_lead_to_what_they_count(browser, lines, url):
  browser.open(url)
  missed = sum(
    kind is Kind.MISSED for x in lines for kind in report_in_browser.kinds(x)
  )
  tile = 'document.querySelector(\'.tiles button[data-kind="m"]\')'
  assert browser.run(f'return {tile}.querySelector("b").textContent') == str(
    missed
  )
  report_in_browser.choose(browser, dialogues=False)
  browser.run(f'{tile}.click()')
  expected = [
    x['id'] for x in lines if Kind.MISSED in report_in_browser.kinds(x)
  ]
  assert browser.run(f'return {tile}.getAttribute("aria-pressed")') == 'true'
  assert report_in_browser.ids(browser) == expected
  browser.run(f'{tile}.click()')
  assert len(report_in_browser.ids(browser)) == len(lines)
  # Of one subtask.
  cell, count = browser.run(
    """
    const button = document.querySelector('table button[data-kind="n"]');
    button.click();
    return [button.closest('tr').querySelector('th').textContent,
            Number(button.textContent)];
    """
  )
  expected = [
    x['id']
    for x in lines
    for kind, s in zip(report_in_browser.kinds(x), x['subtasks'], strict=True)
    if s['name'] == cell and kind is Kind.NEAR_MISS
  ]
  assert report_in_browser.ids(browser) == expected and len(expected) == count


def test_a_link_leads_to_what_was_shown(browser, lines, url):
  browser.open('about:blank')
  browser.open(f'{url}#kind=errors&dialogues=false&page=2')
  ids = [
    x['id']
    for x in lines
    if any(k.is_error for k in report_in_browser.kinds(x))
  ]
  titles = (
    'return [...document.querySelectorAll(".card h3")].map(t => t.textContent)'
  )
  assert browser.run(titles) == ids[20:40]
  browser.run('document.querySelector(".pager [data-step=\\"-1\\"]").click()')
  assert browser.run(titles) == ids[:20]
  assert browser.run('return location.hash') == '#kind=errors&dialogues=false'
  browser.run('location.hash = "#search=call-4&subtask=nonsense&page=x"')
  browser.wait('count.textContent === "1 input"')
  assert browser.run(titles) == ['call-4']


def test_without_gold_it_is_a_viewer_and_says_so(browser, lines, tmp_path):
  bare = json.loads(json.dumps(lines))
  for line in bare:
    for subtask in line['subtasks']:
      del subtask['target']
  browser.open(report_in_browser.write(bare, tmp_path))
  text = browser.run('return document.body.innerText')
  assert 'This file has no gold values' in text
  for word in ('Gold', 'Outcome', 'error', 'right'):
    assert word not in text
  report_in_browser.choose(browser, kind='filled', dialogues=False)
  assert report_in_browser.ids(browser) == [
    line['id']
    for line in lines
    if any(s['prediction'] != 'none' for s in line['subtasks'])
  ]


@pytest.mark.slow
def test_ten_thousand_examples_open_in_three_seconds(browser, tmp_path):
  lines = pages_data.bookings_lines('train', 1360)[:10_000]
  assert len(lines) == 10_000
  url = report_in_browser.write(lines, tmp_path)
  seconds = browser.open(url)
  assert browser.run('return document.querySelectorAll(".card").length') == 20
  assert seconds < 3
  searching = browser.run(
    """
    const start = performance.now();
    select({...DEFAULTS, search: 'wild', kind: 'errors', order: 'errors'});
    return performance.now() - start;
    """
  )
  print(f'opened in {seconds:.2f} s, searched in {searching:.0f} ms')

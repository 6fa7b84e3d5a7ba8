# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A report on predictions, open in a browser: fixtures, and what readers do."""

import browser as browser_lib
import pages_data
import pytest

from pid_jax import viewer
from pid_jax.viewer import comparing

needs_browser = pytest.mark.skipif(
  browser_lib.missing() is not None, reason=str(browser_lib.missing())
)


@pytest.fixture(scope='module', name='browser')
def browser_fixture(tmp_path_factory):
  with browser_lib.Browser(tmp_path_factory.mktemp('profile')) as browser:
    yield browser


@pytest.fixture(scope='module', name='lines')
def lines_fixture():
  """Turns of dialogues, and inputs that belong to none."""
  lines = pages_data.bookings_lines('test', 12)
  for index in range(7):
    right = {'name': 'who', 'prompt': 'who?', 'target': 'ada', 'score': -1.0}
    lines.append(
      {
        'id': f'call-{index}',
        'inputs': f'Call {index} from Ada Park, of Park & Sons.',
        'subtasks': [
          {**right, 'prediction': 'ada' if index % 2 else 'none'},
          {
            'name': 'company',
            'prompt': 'which company?',
            'target': 'Park & Sons',
            'prediction': 'Park & Sohns',
          },
        ],
      }
    )
  return lines


@pytest.fixture(scope='module', name='url')
def url_fixture(lines, tmp_path_factory):
  return write(lines, tmp_path_factory.mktemp('page'))


def write(lines, folder):
  """Makes the page and returns its address."""
  pages_data.write(folder / 'answers.jsonl', lines)
  viewer.write_report(folder / 'answers.jsonl', folder / 'answers.html')
  return (folder / 'answers.html').as_uri()


def choose(browser, **filters):
  """Sets filters as a reader would, all others being at rest."""
  browser.run(
    'document.getElementById("count").textContent = ""; form.reset();'
  )
  browser.wait('document.getElementById("count").textContent')
  browser.run(
    """
    document.getElementById('count').textContent = '';
    for (const [name, value] of Object.entries(arguments[0])) {
      const field = document.querySelector(`[name="${name}"]`);
      if (field.type === 'checkbox') field.checked = value;
      else field.value = value;
      field.dispatchEvent(new Event('input', {bubbles: true}));
    }
    if (!Object.keys(arguments[0]).length) update();
    """,
    filters,
  )
  browser.wait('document.getElementById("count").textContent')


def ids(browser):
  """Titles of all cards, page by page."""
  return browser.run(
    """
    const titles = [];
    const next = document.querySelector('.pager [data-step="1"]');
    for (;;) {
      titles.push(...[...document.querySelectorAll('.card h3')].map(
        (title) => title.textContent));
      if (next.closest('.pager').hidden || next.disabled) return titles;
      next.click();
    }
    """
  )


def kinds(line):
  return [
    comparing.compare([s['target']], s['prediction']) for s in line['subtasks']
  ]


def option(browser, name, text):
  """The value of the option with a text."""
  return browser.run(
    """
    const options = document.querySelector(`[name="${arguments[0]}"]`).options;
    return [...options].find((o) => o.text === arguments[1]).value;
    """,
    name,
    text,
  )

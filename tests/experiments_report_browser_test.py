# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison in a real browser."""

import experiments_report_data as data
import pytest
import report_in_browser

from pid_jax.experiments import page

pytestmark = report_in_browser.needs_browser
browser_fixture = report_in_browser.browser_fixture

_NASTY = '</style><script>document.title = "run"</script><b>bold</b> & "x"'


@pytest.fixture(scope='module', name='url')
def url_fixture(tmp_path_factory):
  """A page whose task, metric and machine have names that are markup."""
  report = data.report(task=_NASTY, command=f'compare {_NASTY}')
  report['inference']['task']['machine']['processor'] = _NASTY
  path = tmp_path_factory.mktemp('page') / 'report.html'
  path.write_text(page.page(report))
  return path.as_uri()


def test_no_request_leaves_the_page_and_texts_stay_texts(browser, url):
  browser.log('browser')
  browser.requested()
  browser.open(url)
  asked = {x for x in browser.requested() if not x.startswith('data:')}
  assert asked == {url}
  assert browser.log('browser') == []
  title, head, scripts, bold = browser.run(
    """
    return [document.title, document.querySelector('h1').textContent,
            document.scripts.length, document.querySelectorAll('b').length];
    """
  )
  assert title == f'Comparison on {_NASTY}' and head.endswith(f'on {_NASTY}')
  assert scripts == bold == 0


@pytest.mark.parametrize('width', [360, 390, 1400])
def test_the_page_is_no_wider_than_the_window(browser, url, width):
  browser.resize(width, 800)
  browser.open(url)
  assert browser.run('return document.documentElement.scrollWidth') <= width


def test_charts_show_their_lines_and_letters_inside(browser, url):
  browser.resize(1400, 900)
  browser.open(url)
  outside = browser.run(
    """
    const outside = [];
    for (const chart of document.querySelectorAll('.chart svg')) {
      const frame = chart.getBoundingClientRect();
      for (const mark of chart.querySelectorAll('use, text')) {
        const box = mark.getBoundingClientRect();
        if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
            box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
          outside.push(mark.outerHTML);
        }
      }
    }
    return outside;
    """
  )
  assert outside == []
  drawn = 'return document.querySelectorAll(arguments[0]).length'
  # Three of training, one of phases, six of the sweep, two of rooflines.
  assert browser.run(drawn, '.chart svg') == 12
  assert browser.run(drawn, '.chart text.point') == 2 * 2 * 3


def test_paper_is_white_and_holds_the_tables(browser, url):
  browser.open(url)
  browser.command('Emulation.setEmulatedMedia', media='print')
  background = browser.run(
    'return getComputedStyle(document.documentElement).backgroundColor'
  )
  assert background == 'rgb(255, 255, 255)'
  browser.command('Emulation.setEmulatedMedia', media='')
  assert browser.print_pdf().startswith(b'%PDF')

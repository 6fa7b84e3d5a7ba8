# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report on predictions in a real browser: it shows what it says."""

import pytest
import report_in_browser

pytestmark = report_in_browser.needs_browser
browser_fixture = report_in_browser.browser_fixture
lines_fixture = report_in_browser.lines_fixture
url_fixture = report_in_browser.url_fixture

NASTY = (
  '</script><script>document.title = "run"</script><!-- <b>bold</b> '
  '<!--<script> "double" \'single\' & &amp; \\ \\u003c \u2028 \u2029 \x07 '
  'a-b (c) [d]* \U0001f600'
)


def _turn(number, text, state, prediction):
  slots = ('area', 'day', 'name')
  return {
    'id': f'd-{number}',
    'inputs': text,
    'subtasks': [
      {
        'name': slot,
        'prompt': slot,
        'target': state.get(slot, 'none'),
        'prediction': prediction.get(slot, 'none'),
      }
      for slot in slots
    ],
  }


def test_a_dialogue_is_a_table_whose_changes_are_marked(browser, tmp_path):
  texts = [
    'user: north',
    'system: when? user: friday',
    'system: ok user: no day',
  ]
  texts = [' '.join(texts[: i + 1]) for i in range(3)]
  north, south = {'area': 'north'}, {'area': 'south'}
  lines = [
    _turn(1, texts[0], north, north),
    _turn(2, texts[1], {**north, 'day': 'friday'}, {**south, 'day': 'friday'}),
    _turn(3, texts[2], north, north),
  ]
  browser.open(
    report_in_browser.write([lines[2], lines[0], lines[1]], tmp_path)
  )
  cells = browser.run(
    """
    return [...document.querySelectorAll('.state tbody tr')].map((row) =>
      [...row.children].map((cell) => [...cell.querySelectorAll('div')].map(
        (div) => div.className.trim() + ':' + div.textContent).join(' ') ||
        cell.textContent));
    """
  )
  assert cells == [
    [
      'area',
      'predicted changed:+north',
      'predicted changed:\u2194south gold:north',
      'predicted changed:\u2194north',
    ],
    [
      'day',
      'predicted:none',
      'predicted changed:+friday',
      'predicted changed:\u2212none',
    ],
  ]
  turns = browser.run(
    'return [...document.querySelectorAll("ol.texts li")].map(li => '
    '[...li.children].map(c => c.textContent))'
  )
  assert turns == [
    ['turn 1', 'user: north'],
    ['turn 2', 'system: when?', 'user: friday'],
    ['turn 3', 'system: ok', 'user: no day'],
  ]
  assert browser.run('return count.textContent') == '1 dialogue'
  more = browser.run('return document.querySelector(".more").textContent')
  assert more == '1 more, empty and right'
  # Only what was said up to a turn can be its source.
  marks = """
    const cell = document.querySelectorAll('.state tbody tr')[1].children[
      arguments[0]];
    cell.querySelector('button')?.click();
    return [...document.querySelectorAll('mark')].map((m) => m.textContent);
  """
  assert browser.run(marks, 2) == ['friday']
  browser.run('document.querySelector("[name=dialogues]").click()')
  browser.wait('count.textContent === "3 inputs"')
  assert report_in_browser.ids(browser) == ['d-3', 'd-1', 'd-2']


def test_values_are_marked_in_the_text(browser, lines, url):
  browser.open(url)
  report_in_browser.choose(browser, search='call-2')
  marks = (
    'return [...document.querySelectorAll("mark")].map(m => '
    '[m.className, m.textContent])'
  )
  row = 'document.querySelectorAll(".subtasks tbody tr")[1]'
  assert browser.run(marks) == []
  browser.run(f'{row}.dispatchEvent(new PointerEvent("pointerenter"))')
  assert browser.run(marks) == [['gold', 'Park & Sons']]
  browser.run(f'{row}.dispatchEvent(new PointerEvent("pointerleave"))')
  assert browser.run(marks) == []
  browser.run(f'{row}.querySelector("button").click()')
  browser.run(f'{row}.dispatchEvent(new PointerEvent("pointerleave"))')
  assert browser.run(marks) == [['gold', 'Park & Sons']]  # Pinned.
  browser.run(f'{row}.querySelector("button").click()')
  assert browser.run(marks) == []
  report_in_browser.choose(browser, search='call-1')
  browser.run('document.querySelector(".subtasks button").click()')
  assert browser.run(marks) == [['both', 'Ada']]  # It is right.
  places = 'return placesOf(arguments[0], arguments[1])'
  assert browser.run(places, 'a  B', 'xa b, A\nb. (a b)') == [[6, 9], [12, 15]]
  assert browser.run(places, '(c) [d]*', 'the (c) [d]*') == [[4, 12]]
  assert browser.run(places, 'none', 'none') == []  # No value.


def test_texts_stay_texts(browser, tmp_path):
  line = {
    'id': NASTY,
    'inputs': NASTY,
    'subtasks': [
      {
        'name': NASTY,
        'prompt': f'prompt {NASTY}',
        'target': NASTY,
        'prediction': f'{NASTY}!',
      },
      {'name': 'other', 'prompt': 'h', 'target': 'a', 'prediction': 'x'},
    ],
  }
  browser.log('browser')
  browser.open(report_in_browser.write([line], tmp_path))
  texts = browser.run(
    """
    const text = (selector) => document.querySelector(selector).textContent;
    return [text('.card h3'), text('.card .text'), text('.subtasks .name'),
            text('.subtasks .prompt'), text('.subtasks td .value'),
            text('.subtasks td + td .value'), text('details tbody th'),
            document.querySelector('[name=subtask]').options[1].text,
            document.title];
    """
  )
  shown = NASTY.replace('\x07', '\ufffd')  # In the markup, which has none.
  assert texts[:6] == [NASTY] * 3 + [f'prompt {NASTY}', NASTY, f'{NASTY}!']
  assert texts[6] == shown
  assert texts[7].split() == shown.split() and texts[8] == 'answers.jsonl'
  assert browser.run('return document.scripts.length') == 2
  assert browser.run('return document.querySelectorAll("b").length') == 5
  assert browser.log('browser') == []
  report_in_browser.choose(browser, search=NASTY[:40])
  assert len(report_in_browser.ids(browser)) == 1


def test_no_request_leaves_the_page(browser, url):
  browser.requested()
  browser.open(url)
  report_in_browser.choose(browser, search='hotel')
  report_in_browser.ids(browser)
  asked = browser.requested()
  assert {x for x in asked if not x.startswith('data:')} == {url}
  # Nor could one, or a script that came in as text.
  blocked = browser.run(
    """
    window.blocked = [];
    document.addEventListener('securitypolicyviolation',
      (event) => window.blocked.push(event.effectiveDirective));
    new Image().src = 'http://127.0.0.1:9/x.png';
    fetch('http://127.0.0.1:9/x').catch(() => null);
    const add = (name, text) => {
      const element = document.createElement(name);
      element.textContent = text;
      document.body.append(element);
    };
    add('script', 'document.title = "run"');
    add('style', '* { display: none }');
    """
  )
  browser.wait('window.blocked.length === 4')
  blocked = browser.run('return [window.blocked.sort(), document.title]')
  assert blocked == [
    ['connect-src', 'img-src', 'script-src-elem', 'style-src-elem'],
    'answers.jsonl',
  ]
  browser.log('browser')


@pytest.mark.parametrize('width', [390, 1400])
def test_the_page_is_no_wider_than_the_window(browser, url, width):
  browser.resize(width, 800)
  browser.open(url)
  for dialogues in (True, False):
    report_in_browser.choose(browser, dialogues=dialogues)
    browser.run(
      'document.querySelectorAll("details").forEach(d => { d.open = true; })'
    )
    assert browser.run('return document.documentElement.scrollWidth') <= width


def test_the_reader_has_light_or_dark_and_paper_is_white(browser, url):
  browser.open(url)
  background = (
    'return getComputedStyle(document.documentElement).backgroundColor'
  )
  seen = []
  for scheme in ('light', 'dark'):
    browser.prefer(scheme)
    seen.append(browser.run(background))
  assert seen == ['rgb(246, 247, 248)', 'rgb(20, 23, 26)']
  browser.command('Emulation.setEmulatedMedia', media='print')
  assert browser.run(background) == 'rgb(255, 255, 255)'
  browser.command('Emulation.setEmulatedMedia', media='')


def test_print_unfolds_what_is_folded(browser, url):
  browser.open(url)
  folded = 'return document.querySelectorAll("details:not([open])").length'
  before = browser.run(folded)
  assert before
  browser.run('window.dispatchEvent(new Event("beforeprint"))')
  assert browser.run(folded) == 0
  browser.run('window.dispatchEvent(new Event("afterprint"))')
  assert browser.run(folded) == before
  assert browser.print_pdf().startswith(b'%PDF')

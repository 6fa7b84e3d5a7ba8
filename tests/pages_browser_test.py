# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report on predictions in a real browser: it shows what it says."""

import itertools
import json

import browser as browser_lib
import pages_data
import pytest

from pid_jax import pages
from pid_jax.pages import comparing

Kind = comparing.Kind

pytestmark = pytest.mark.skipif(
  browser_lib.missing() is not None, reason=str(browser_lib.missing())
)

NASTY = (
  '</script><script>document.title = "run"</script><!-- <b>bold</b> '
  '<!--<script> "double" \'single\' & &amp; \\ \\u003c \u2028 \u2029 \x07 '
  'a-b (c) [d]* \U0001f600'
)


@pytest.fixture(scope='module', name='browser')
def _browser(tmp_path_factory):
  with browser_lib.Browser(tmp_path_factory.mktemp('profile')) as browser:
    yield browser


@pytest.fixture(scope='module', name='lines')
def _lines():
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
def _url(lines, tmp_path_factory):
  return _write(lines, tmp_path_factory.mktemp('page'))


def _write(lines, folder):
  """Makes the page and returns its address."""
  pages_data.write(folder / 'answers.jsonl', lines)
  pages.write_report(folder / 'answers.jsonl', folder / 'answers.html')
  return (folder / 'answers.html').as_uri()


def _choose(browser, **filters):
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


def _ids(browser):
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


def _kinds(line):
  return [
    comparing.compare([s['target']], s['prediction']) for s in line['subtasks']
  ]


def _option(browser, name, text):
  """The value of the option with a text."""
  return browser.run(
    """
    const options = document.querySelector(`[name="${arguments[0]}"]`).options;
    return [...options].find((o) => o.text === arguments[1]).value;
    """,
    name,
    text,
  )


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
      chosen['subtask'] = _option(browser, 'subtask', name)
    _choose(browser, **chosen)
    expected = []
    for line in lines:
      kinds = [
        k
        for k, s in zip(_kinds(line), line['subtasks'], strict=True)
        if name in (None, s['name'])
      ]
      if kind == 'clean':
        is_shown = bool(kinds) and not any(k.is_error for k in kinds)
      else:
        is_shown = any(map(tests[kind], kinds))
      if is_shown:
        expected.append(line['id'])
    assert _ids(browser) == expected, (kind, name)
    sizes.add(len(expected))
    if expected:
      assert browser.run('return count.textContent').startswith(
        f'{len(expected)} input'
      )
    else:
      assert browser.run('return count.textContent').startswith('Nothing fits')
  assert len(sizes) > 10  # The filters tell much apart.


def test_rows_are_those_that_the_filters_ask_for(browser, lines, url):
  browser.open(url)
  _choose(browser, kind='n', dialogues=False)
  outcomes = browser.run(
    'return [...document.querySelectorAll(".outcome")].map(o => o.textContent)'
  )
  assert outcomes and set(outcomes) == {'near miss'}
  _choose(browser, search='call-1')
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
  _choose(browser, search=lines[0]['id'], dialogues=False)
  assert _ids(browser)[0] == lines[0]['id']
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
    _choose(browser, search=query, dialogues=False)
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
    assert _ids(browser) == expected, query


def test_orders(browser, lines, url):
  browser.open(url)
  errors = {
    line['id']: sum(kind.is_error for kind in _kinds(line)) for line in lines
  }
  _choose(browser, order='errors', dialogues=False)
  ids = _ids(browser)
  assert ids == sorted(errors, key=lambda name: -errors[name])  # Both stable.
  least = {
    line['id']: min(s['score'] for s in line['subtasks'] if 'score' in s)
    for line in lines
  }
  _choose(browser, order='score', dialogues=False)
  shown = [round(least[name], 4) for name in _ids(browser)]
  assert shown == sorted(shown) and len(shown) == len(lines)


def test_counts_lead_to_what_they_count(browser, lines, url):
  browser.open(url)
  missed = sum(kind is Kind.MISSED for x in lines for kind in _kinds(x))
  tile = 'document.querySelector(\'.tiles button[data-kind="m"]\')'
  assert browser.run(f'return {tile}.querySelector("b").textContent') == str(
    missed
  )
  _choose(browser, dialogues=False)
  browser.run(f'{tile}.click()')
  expected = [x['id'] for x in lines if Kind.MISSED in _kinds(x)]
  assert browser.run(f'return {tile}.getAttribute("aria-pressed")') == 'true'
  assert _ids(browser) == expected
  browser.run(f'{tile}.click()')
  assert len(_ids(browser)) == len(lines)
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
    for kind, s in zip(_kinds(x), x['subtasks'], strict=True)
    if s['name'] == cell and kind is Kind.NEAR_MISS
  ]
  assert _ids(browser) == expected and len(expected) == count


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
  browser.open(_write([lines[2], lines[0], lines[1]], tmp_path))
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
  assert _ids(browser) == ['d-3', 'd-1', 'd-2']


def test_values_are_marked_in_the_text(browser, lines, url):
  browser.open(url)
  _choose(browser, search='call-2')
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
      {'name': 'half', 'prompt': 'h', 'target': 'a', 'prediction': 'x\ud83d'},
    ],
  }
  browser.log('browser')
  browser.open(_write([line], tmp_path))
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
  _choose(browser, search=NASTY[:40])
  assert len(_ids(browser)) == 1


def test_no_request_leaves_the_page(browser, url):
  browser.requested()
  browser.open(url)
  _choose(browser, search='hotel')
  _ids(browser)
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


def test_a_link_leads_to_what_was_shown(browser, lines, url):
  browser.open('about:blank')
  browser.open(f'{url}#kind=errors&dialogues=false&page=2')
  ids = [x['id'] for x in lines if any(k.is_error for k in _kinds(x))]
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
  browser.open(_write(bare, tmp_path))
  text = browser.run('return document.body.innerText')
  assert 'There is no gold in this file' in text
  for word in ('Gold', 'Outcome', 'error', 'right'):
    assert word not in text
  _choose(browser, kind='filled', dialogues=False)
  assert _ids(browser) == [
    line['id']
    for line in lines
    if any(s['prediction'] != 'none' for s in line['subtasks'])
  ]


@pytest.mark.parametrize('width', [390, 1400])
def test_the_page_is_no_wider_than_the_window(browser, url, width):
  browser.resize(width, 800)
  browser.open(url)
  for dialogues in (True, False):
    _choose(browser, dialogues=dialogues)
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


@pytest.mark.slow
def test_ten_thousand_examples_open_in_three_seconds(browser, tmp_path):
  lines = pages_data.bookings_lines('train', 1360)[:10_000]
  assert len(lines) == 10_000
  url = _write(lines, tmp_path)
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

# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds the page for viewing predictions and their errors."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from etils import epath

from pid_jax import files
from pid_jax.viewer import comparing
from pid_jax.viewer import curves as curves_lib
from pid_jax.viewer import figures
from pid_jax.viewer import markup
from pid_jax.viewer import shell
from pid_jax.viewer import sources
from pid_jax.viewer import tables

element = markup.element
Kind = comparing.Kind

_STYLES = ('predictions.css',)
_SCRIPTS = ('predictions_data.js', 'predictions_cards.js', 'predictions.js')
# In reading comprehension, each question is a subtask with another name.
_MAX_NAMES = 200
_LOG_FROM = 20  # Ratio of the extremes of a curve drawn on a log scale.


@dataclasses.dataclass(frozen=True)
class Summary:
  """Summary of a report.

  Attributes:
    num_examples: on the page.
    num_errors: among their subtasks; None without gold values.
    notes: sentences on what is missing and why.
  """

  num_examples: int
  num_errors: int | None
  notes: Sequence[str]


def write_report(
  path: epath.PathLike,
  output: epath.PathLike,
  empty_words: Collection[str] = comparing.EMPTY_WORDS,
) -> Summary:
  """Writes a page on the predictions at a path.

  Args:
    path: see `sources`.
    output: the HTML file; local, or gs://.
    empty_words: targets that mean "nothing here".

  Raises:
    UserError: there is nothing to report on, or the page cannot be written.
  """
  path = files.path(path, 'the predictions')
  if path.exists():
    files.check_output(output, sources.inputs(path))
  source = sources.load(path)
  table = tables.compare(source.examples, empty_words)
  files.write(output, report(source, table).encode())
  counts = table.counts()
  errors = sum(counts[kind] for kind in comparing.ERRORS)
  return Summary(
    len(table.examples), errors if table.has_gold else None, source.notes
  )


def default_output(path: epath.PathLike) -> epath.Path:
  """Returns a path beside a file of predictions, or inside a folder."""
  path = files.path(path, 'the predictions')
  if path.is_dir():
    return path / 'report.html'
  return path.with_name(path.name.removesuffix('.jsonl') + '.html')


def report(source: sources.Source, table: tables.Table) -> str:
  """Builds the page.

  Args:
    source: title, metrics, curves and notes.
    table: the examples of the source, compared.

  Returns:
    The whole document.
  """
  strings = tables.Strings()
  sections = [_head(source, table)]
  if source.metrics:
    sections.append(_metrics(source.metrics))
  if table.examples and table.has_gold:
    sections.extend(_by_subtask(table, strings))
  if source.curves:
    sections.append(_curves(source.curves, is_open=not table.examples))
  body = [element('main', *sections)]
  if not table.examples:
    return shell.page(source.title, body, styles=_STYLES)
  body[0].append(_predictions(table, strings))
  return shell.page(
    source.title,
    body,
    styles=_STYLES,
    scripts=_SCRIPTS,
    data=tables.to_data(table, strings),
  )


def _head(source: sources.Source, table: tables.Table) -> markup.Element:
  """Title, notes, and counts by kind, which are filter buttons."""
  parts = [element('h1', source.title)]
  if table.examples:
    parts.append(element('p', _facts(table)))
  for note in source.notes:
    parts.append(element('p', note, class_='note'))
  if table.examples and not table.has_gold:
    parts.append(
      element(
        'p',
        'This file has no gold values: the page shows the predictions only.',
        class_='note',
      )
    )
  elif table.examples:
    counts = table.counts()
    parts.append(
      element(
        'ul',
        *[
          _tile(kind, counts[kind], counts.total())
          for kind in tables.LABELS
          if counts[kind] or kind not in (Kind.ABSENT, Kind.UNJUDGED)
        ],
        class_='tiles',
      )
    )
    if counts[Kind.NEAR_MISS]:
      rule = element('small', tables.NEAR_MISS_RULE, class_='quiet')
      parts.append(element('p', rule))
  return element('header', *parts, class_='head')


def _facts(table: tables.Table) -> str:
  subtasks = sum(len(example.names) for example in table.examples)
  facts = f'{_count(len(table.examples), "input")}'
  if table.dialogues:
    turns = sum(len(dialogue.turns) for dialogue in table.dialogues)
    of_them = f'{turns:,} of them ' if turns < len(table.examples) else ''
    facts += f' ({of_them}turns of {_count(len(table.dialogues), "dialogue")})'
  facts += f', {_count(subtasks, "subtask")}.'
  if table.has_gold:
    right, judged = table.num_right(), table.num_judged()
    facts += (
      f' All subtasks are right in {right:,} of {judged:,} inputs, '
      f'{100 * right / judged:.1f} %.'
    )
  return facts


def _tile(kind: Kind, count: int, total: int) -> markup.Element:
  label, meaning = tables.LABELS[kind]
  share = f'{100 * count / total:.2f} %'
  return element(
    'li',
    element(
      'button',
      element('b', f'{count:,}'),
      element('span', label, class_=f'kind kind-{kind.value}'),
      element('span', share, class_='quiet'),
      type='button',
      data_kind=kind.value,
    ),
    element('small', meaning, class_='quiet'),
  )


def _metrics(metrics: Mapping[str, float]) -> markup.Element:
  rows = [(name, [f'{value:.4f}']) for name, value in metrics.items()]
  return _folded(
    'Metrics of the evaluation',
    markup.table([], rows),
    is_open=len(rows) <= 12,
  )


def _by_subtask(
  table: tables.Table, strings: tables.Strings
) -> Iterator[markup.Element]:
  """A table of errors by subtask and kind, sorted by errors."""
  counts = table.counts_by_name()
  if len(counts) < 2:
    return
  total = table.counts()
  shown = [kind for kind in comparing.ERRORS if total[kind]]
  errors = {
    name: sum(of_name[kind] for kind in shown)
    for name, of_name in counts.items()
  }
  order = sorted(counts, key=lambda name: -errors[name])
  labels = [tables.LABELS[kind][0] for kind in shown]
  rows = []
  for name in order[:_MAX_NAMES]:
    of_name, index = counts[name], strings.index(name)
    cells = [element('td', f'{of_name.total():,}', class_='number quiet')]
    cells.append(_cell(errors[name], 'errors', index))
    cells.extend(_cell(of_name[kind], kind.value, index) for kind in shown)
    rows.append((name, cells))
  parts = [markup.table(['Subtask', 'of', 'errors', *labels], rows)]
  rest = order[_MAX_NAMES:]
  if rest:
    left_out = sum(errors[name] for name in rest)
    parts.append(
      element(
        'p',
        f'And {_count(len(rest), "other name")} with '
        f'{_count(left_out, "error")}; the search finds them.',
        class_='quiet',
      )
    )
  yield _folded('Errors by subtask', *parts)


def _cell(count: int, kind: str, subtask: int) -> markup.Element:
  """A count that is a button for the matching filter."""
  if not count:
    return element('td', '0', class_='number quiet')
  button = element(
    'button', f'{count:,}', type='button', data_kind=kind, data_subtask=subtask
  )
  return element('td', button, class_='number')


def _curves(
  curves: Mapping[str, curves_lib.Curve], is_open: bool
) -> markup.Element:
  """A chart for each curve; constant curves are listed as text."""
  panels, constant = [], []
  for tag in sorted(curves, key=_importance):
    values = {value for _, value in curves[tag]}
    if len(values) > 1:
      series = [figures.Series('', curves[tag])]
      log_y = min(values) > 0 and max(values) > _LOG_FROM * min(values)
      last = figures.number(curves[tag][-1][1])
      panels.append(figures.Panel(f'{tag} {last}', series, log_y=log_y))
    else:
      constant.append(f'{tag} {figures.number(values.pop())}')
  parts = []
  if figures.is_installed():
    drawn = figures.to_elements(panels, 'curves')
    parts.append(element('div', *drawn, class_='charts'))
  if constant:
    text = f'The same at every step: {", ".join(constant)}.'
    parts.append(element('p', text, class_='quiet'))
  return _folded('Training curves, by step', *parts, is_open=is_open)


def _importance(tag: str) -> tuple[int, str]:
  first = ('train/loss', 'train/accuracy', 'eval/', 'train/')
  return next(
    (i for i, start in enumerate(first) if tag.startswith(start)), len(first)
  ), tag


def _predictions(
  table: tables.Table, strings: tables.Strings
) -> markup.Element:
  """The list, filled by the script, and its filters."""
  return element(
    'section',
    element('h2', 'Predictions'),
    element(
      'noscript', element('p', 'The list of predictions needs JavaScript.')
    ),
    element('form', *_filters(table, strings), id='filters'),
    element(
      'div', element('p', id='count', role='status'), _pager(), class_='bar'
    ),
    element('div', id='list'),
    element('div', _pager(), class_='bar end'),
    id='predictions',
  )


def _filters(
  table: tables.Table, strings: tables.Strings
) -> Iterator[markup.Element]:
  yield _field('Search', element('input', type='search', name='search'))
  tasks = list(dict.fromkeys(example.task for example in table.examples))
  if len(tasks) > 1:
    options = [('', 'all'), *((str(i), t) for i, t in enumerate(tasks))]
    yield _field('Task', _select('task', options))
  names = table.counts_by_name()
  if 1 < len(names) <= _MAX_NAMES:
    options = [(str(strings.index(name)), name) for name in names]
    yield _field('Subtask', _select('subtask', [('', 'all'), *options]))
  yield _field('Show', _select('kind', _kinds(table)))
  orders = [('file', 'as in the file')]
  if table.has_gold:
    orders.append(('errors', 'most errors first'))
  if any(example.scores for example in table.examples):
    orders.append(('score', 'least certain first'))
  if len(orders) > 1:
    yield _field('Order', _select('order', orders))
  if table.dialogues:
    box = element('input', type='checkbox', name='dialogues', checked=True)
    yield element('label', box, ' whole dialogues', class_='check')
  yield element('button', 'Reset', type='reset')


def _kinds(table: tables.Table) -> list[tuple[str, str]]:
  if not table.has_gold:
    return [('', 'everything'), ('filled', 'predictions with a value')]
  counts = table.counts()
  options = [('', 'everything'), ('errors', 'any error')]
  for kind, (label, _) in tables.LABELS.items():
    if counts[kind] and kind is not Kind.RIGHT:
      options.append((kind.value, f'{label} ({counts[kind]:,})'))
  options.append((Kind.RIGHT.value, f'right ({counts[Kind.RIGHT]:,})'))
  options.append(('clean', 'inputs without an error'))
  return options


def _pager() -> markup.Element:
  return element(
    'nav',
    element('button', 'previous', type='button', data_step=-1),
    element('span', class_='where'),
    element('button', 'next', type='button', data_step=1),
    class_='pager',
    aria_label='pages',
  )


def _field(label: str, control: markup.Element) -> markup.Element:
  return element('label', element('span', label), control)


def _select(name: str, options: Sequence[tuple[str, str]]) -> markup.Element:
  return element(
    'select',
    *[element('option', text, value=value) for value, text in options],
    name=name,
  )


def _folded(
  title: str, *parts: markup.Element, is_open: bool = False
) -> markup.Element:
  summary = element('summary', element('h2', title))
  return element('details', summary, *parts, open=is_open)


def _count(number: int, noun: str) -> str:
  return f'{number:,} {noun}{"" if number == 1 else "s"}'

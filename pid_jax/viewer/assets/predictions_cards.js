// Copyright 2026 The pid_jax Authors.
// SPDX-License-Identifier: Apache-2.0
// Cards of the list: an example, or a dialogue turn by turn. All data becomes
// text nodes, never markup.

/**
 * Makes an element.
 *
 * @param {string} name
 * @param {Object<string, string>} attributes
 * @param {...(Node|string|null)} children null is left out.
 */
function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A value as it is shown; what is not there is said in words. */
function valueNode(text) {
  if (text === null) return h('span', {class: 'quiet'}, '(no prediction)');
  if (text === '') return h('span', {class: 'quiet'}, '(empty)');
  return h('span',
    {class: isEmpty(text) ? 'value quiet' : 'value', dir: 'auto'}, text);
}

function kindNode(kind) {
  const label = data.kinds[kind];
  return label ? h('span', {class: `kind kind-${kind}`}, label) : null;
}

function errorsNode(count) {
  if (!data.hasGold) return null;
  const text = count ? `${count} error${count > 1 ? 's' : ''}` : 'all right';
  return h('span', {class: count ? 'badge bad' : 'badge good'}, text);
}

const patterns = new Map();  // Value -> its regular expression.

/** Finds a value in a text: whole words, in any case, any white space. */
function placesOf(value, text) {
  if (value === null || isEmpty(value)) return [];
  if (!patterns.has(value)) {
    const escaped = value.trim().replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    const words = escaped.replace(/\s+/g, '\\s+');
    patterns.set(value, new RegExp(
      `(?<![\\p{L}\\p{N}])${words}(?![\\p{L}\\p{N}])`, 'giu'));
  }
  return [...text.matchAll(patterns.get(value))].map(
    (match) => [match.index, match.index + match[0].length]);
}

// Classes of marks, and their labels.
const MARKS = {
  gold: 'gold', predicted: 'predicted', both: 'gold and predicted',
};

/** The texts of a card, in which the places of values can be marked. */
class MarkedTexts {
  constructor() {
    this.paragraphs = [];
    this.pinned = null;
  }

  /** Adds a text, of a turn of a dialogue or of none; returns its element. */
  add(text, turn = 0) {
    const element = h('p', {class: 'text', dir: 'auto'});
    this.paragraphs.push({element, text, turn});
    this.paint(element, text, []);
    return element;
  }

  /** Whether a value stands in the text that a subtask read. */
  has(value, {turn: last = 0}) {
    return this.paragraphs.some(({text, turn}) =>
      turn <= last && placesOf(value, text).length > 0);
  }

  /** Marks the places of a subtask's values; of null, those pinned. */
  show(subtask) {
    const {target, prediction, turn: last = 0} = subtask ?? this.pinned ?? {};
    for (const {element, text, turn} of this.paragraphs) {
      if (turn > last) {
        this.paint(element, text, []);
        continue;
      }
      const marks = [];
      const note = (value, class_) => {
        for (const [start, end] of placesOf(value ?? null, text)) {
          marks.push({start, end, class_});
        }
      };
      note(prediction, target === prediction ? 'both' : 'predicted');
      if (target !== prediction) note(target, 'gold');
      this.paint(element, text, marks);
    }
  }

  /** Keeps the marks of a subtask, or lets them go. */
  pin(subtask) {
    this.pinned = this.pinned === subtask ? null : subtask;
    this.show(null);
    if (this.pinned) {
      const mark = this.paragraphs[0].element.closest('article')
        .querySelector('mark');
      mark?.scrollIntoView({block: 'nearest', behavior: 'smooth'});
    }
    return this.pinned !== null;
  }

  paint(element, text, marks) {
    const nodes = [];
    let done = 0;
    // Of overlapping marks, the first one.
    for (const {start, end, class_} of marks.sort((a, b) => a.start - b.start)) {
      if (start < done) continue;
      nodes.push(text.slice(done, start),
        h('mark', {class: class_, title: MARKS[class_]}, text.slice(start, end)));
      done = end;
    }
    element.replaceChildren(...nodes, text.slice(done));
  }
}

/** Lets the pointer on `element`, or its button, mark a subtask's values. */
function linkToTexts(element, button, subtask, texts) {
  element.addEventListener('pointerenter', () => texts.show(subtask));
  element.addEventListener('pointerleave', () => texts.show(null));
  element.addEventListener('click', () => {
    for (const other of element.closest('article').querySelectorAll(
      '[aria-pressed="true"]')) {
      other.setAttribute('aria-pressed', 'false');
    }
    button.setAttribute('aria-pressed', String(texts.pin(subtask)));
  });
}

/** Breaks a dialogue's text into the lines of its speakers. */
function linesOf(text) {
  return text.split(/\s+(?=(?:user|system): )/);
}

/** The card of one example. */
function exampleCard(index, filters) {
  const example = data.examples[index];
  const texts = new MarkedTexts();
  const card = h('article', {class: 'card'},
    cardHead(example[ID], [example], [
      data.tasks.length > 1 ? data.tasks[example[TASK]] : null,
    ]),
    h('div', {class: 'texts'},
      ...linesOf(example[INPUTS]).map((line) => texts.add(line))));
  if (example[TRUNCATED]) {
    card.append(h('p', {class: 'note'},
      'The model could not read all of this input.'));
  }
  card.append(subtaskTable(example, filters, texts));
  return card;
}

function cardHead(title, examples, remarks) {
  const errors = examples.reduce((sum, example) => sum + errorsOf(example), 0);
  return h('header', {}, h('h3', {}, title), errorsNode(errors),
    ...remarks.map((text) => text && h('span', {class: 'quiet'}, text)));
}

/** Whether a row is worth its place when nothing is looked for. */
function isNotable({kind, target, prediction}) {
  return ERRORS.has(kind) || !isEmpty(prediction) ||
    !(target === null || isEmpty(target));
}

/** Whether filters look for some subtasks, not for examples. */
function isFiltered(filters) {
  return filters.subtask !== '' || !['', 'clean'].includes(filters.kind);
}

/**
 * A table of which some rows are shown, and the rest one button away.
 *
 * @param {Node} head of the table.
 * @param {string} class_
 * @param {Array} first what is shown at once.
 * @param {Array} rest what is not.
 * @param {string} label of the button that shows the rest.
 * @param {function} makeRow from what is shown to a <tr>.
 */
function growingTable(head, class_, first, rest, label, makeRow) {
  const body = h('tbody', {}, ...first.map(makeRow));
  const scroll = h('div', {class: 'scroll'},
    h('table', {class: class_}, h('thead', {}, head), body));
  scroll.hidden = first.length === 0;
  if (rest.length === 0) return scroll;
  const more = h('button', {type: 'button', class: 'more'}, label);
  more.addEventListener('click', () => {
    body.append(...rest.map(makeRow));
    scroll.hidden = false;
    more.remove();
  });
  return h('div', {}, scroll, more);
}

/** What the button of a growing table says; `unit` names its rows. */
function moreLabel(first, rest, subtasksOf, unit) {
  const areEmpty = rest.flatMap(subtasksOf).every((s) => !isNotable(s));
  const remark = areEmpty ? `, empty${data.hasGold ? ' and right' : ''}` : '';
  return `${rest.length} ${first.length ? 'more' : unit}${remark}`;
}

/** The subtasks of an example. */
function subtaskTable(example, filters, texts) {
  const subtasks = [...example[KINDS]].map((_, u) => subtaskOf(example, u));
  const matching = new Set(
    isFiltered(filters) ? matchingSubtasks(example, filters) : []);
  const isFirst = (subtask, u) =>
    matching.size > 0 ? matching.has(u) : isNotable(subtask);
  const first = subtasks.filter(isFirst);
  const rest = subtasks.filter((subtask, u) => !isFirst(subtask, u));
  const head = h('tr', {},
    h('th', {scope: 'col'}, 'Subtask'),
    data.hasGold ? h('th', {scope: 'col'}, 'Gold') : null,
    h('th', {scope: 'col'}, 'Predicted'),
    data.hasGold ? h('th', {scope: 'col'}, 'Outcome') : null,
    data.hasScores ? h('th', {scope: 'col'}, 'Probability') : null);
  return growingTable(head, 'subtasks', first, rest,
    moreLabel(first, rest, (subtask) => [subtask], 'subtasks'),
    (subtask) => subtaskRow(subtask, texts));
}

function subtaskRow(subtask, texts) {
  const {target, alternatives, prediction, kind, score} = subtask;
  const found = {
    target: texts.has(target, subtask),
    prediction: texts.has(prediction, subtask),
  };
  const isLinked = found.target || found.prediction;
  const name = nameNode(subtask, isLinked);
  const cell = (label, isFound, ...children) => h('td',
    {'data-label': label, class: isFound ? 'found' : ''}, ...children);
  const also = alternatives.filter((text) => text !== target);
  const row = h('tr', {class: ERRORS.has(kind) ? 'bad' : ''},
    h('th', {scope: 'row'}, name, promptNode(subtask)),
    data.hasGold ? cell('Gold', found.target,
      kind === 'u' ? h('span', {class: 'quiet'}, '(no gold)') :
        valueNode(target),
      also.length ? h('span', {class: 'also quiet'},
        `or ${also.map((text) => text || '(empty)').join(' / ')}`) : null) : null,
    cell('Predicted', found.prediction, valueNode(prediction)),
    data.hasGold ? h('td', {class: 'outcome'}, kindNode(kind)) : null,
    data.hasScores ? h('td', {'data-label': 'Probability', class: 'number'},
      score === null ? '' : Math.exp(score).toFixed(3)) : null);
  if (isLinked) linkToTexts(row, name, subtask, texts);
  return row;
}

function nameNode({name}, isLinked) {
  if (!isLinked) return h('span', {}, name);
  return h('button', {
    type: 'button', class: 'name', 'aria-pressed': 'false',
    title: 'mark its values in the text',
  }, name);
}

/** The prompt, unless it says no more than the name. */
function promptNode({name, prompt}) {
  const letters = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');
  if (!prompt || letters(prompt) === letters(name)) return null;
  return h('span', {class: 'prompt quiet'}, prompt);
}

/** The card of a dialogue: its turns, and the state after each. */
function dialogueCard(dialogue, filters) {
  const turns = dialogue.turns.map((index) => data.examples[index]);
  const texts = new MarkedTexts();
  let read = 0;
  const said = turns.map((turn, t) => {
    const lines = linesOf(turn[INPUTS].slice(read).trim());
    read = turn[INPUTS].length;
    return h('li', {}, h('span', {class: 'turn'}, `turn ${t + 1}`),
      ...lines.map((line) => texts.add(line, t)));
  });
  return h('article', {class: 'card'},
    cardHead(dialogue.name, turns, [
      dialogue.service || null,
      `${turns.length} turns`,
      data.tasks.length > 1 ? data.tasks[turns[0][TASK]] : null,
    ]),
    h('ol', {class: 'texts'}, ...said),
    turns.some((turn) => turn[TRUNCATED]) ? h('p', {class: 'note'},
      'The model could not read all of the longer turns.') : null,
    stateTable(turns, filters, texts));
}

/** Slots down, turns across. */
function stateTable(turns, filters, texts) {
  const slots = new Map();  // Index of a name -> its subtask in each turn.
  const matching = new Set();
  turns.forEach((turn, t) => {
    namesOf(turn).forEach((name, u) => {
      if (!slots.has(name)) slots.set(name, []);
      slots.get(name).push({...subtaskOf(turn, u), turn: t});
    });
    for (const u of matchingSubtasks(turn, filters)) {
      matching.add(namesOf(turn)[u]);
    }
  });
  const isFirst = ([name, row]) =>
    isFiltered(filters) ? matching.has(name) : row.some(isNotable);
  const first = [...slots].filter(isFirst);
  const rest = [...slots].filter((slot) => !isFirst(slot));
  const head = h('tr', {}, h('th', {scope: 'col'}, 'Slot'),
    ...turns.map((_, t) => h('th', {scope: 'col'}, `turn ${t + 1}`)));
  return growingTable(head, 'state', first, rest,
    moreLabel(first, rest, ([, row]) => row, 'slots'),
    ([, row]) => stateRow(row, turns.length, texts));
}

function stateRow(row, numTurns, texts) {
  const cells = Array.from({length: numTurns}, () => h('td', {}));
  row.forEach((subtask, i) => {
    cells[subtask.turn] = stateCell(subtask, row[i - 1] ?? null, texts);
  });
  return h('tr', {}, h('th', {scope: 'row'}, row[0].name), ...cells);
}

/** A slot after a turn; the values that changed are marked. */
function stateCell(subtask, before, texts) {
  const {target, prediction, kind} = subtask;
  const isError = ERRORS.has(kind);
  const line = (class_, value, old) => {
    const change = changeOf(old, value);
    return h('div', {class: change ? `${class_} changed` : class_},
      change ? h('span', {class: 'change', title: change.title}, change.sign) :
        null, valueNode(value));
  };
  const cell = h('td', {class: isError ? 'bad' : ''},
    line('predicted', prediction, before && before.prediction));
  if (isError) {
    cell.append(line('gold', target, before && before.target), kindNode(kind));
  }
  if (texts.has(target, subtask) || texts.has(prediction, subtask)) {
    const button = h('button', {type: 'button', class: 'place',
      'aria-pressed': 'false', title: 'mark in the text'},
    ...cell.childNodes);
    cell.append(button);
    linkToTexts(cell, button, subtask, texts);
  }
  return cell;
}

/** How a value differs from that of the turn before; null if it does not. */
function changeOf(before, now) {
  if (isEmpty(before) && isEmpty(now)) return null;
  if (isEmpty(before)) return {sign: '+', title: 'new in this turn'};
  if (isEmpty(now)) return {sign: '\u2212', title: 'empty from this turn on'};
  return before === now ? null : {sign: '\u2194', title: 'changed in this turn'};
}

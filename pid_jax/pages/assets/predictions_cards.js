// Copyright 2026 The pid_jax Authors.
// SPDX-License-Identifier: Apache-2.0
// Cards of the list: an example, or a dialogue turn by turn. Whatever the data
// says becomes a text node, never markup.

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
  return h('span', {class: isEmpty(text) ? 'value quiet' : 'value'}, text);
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

/** Finds a value in a text: whole words, in any case, any white space. */
function placesOf(value, text) {
  if (value === null || isEmpty(value)) return [];
  const escaped = value.trim().replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
  const words = escaped.replace(/\s+/g, '\\s+');
  const pattern = new RegExp(
    `(?<![\\p{L}\\p{N}])${words}(?![\\p{L}\\p{N}])`, 'giu');
  return [...text.matchAll(pattern)].map(
    (match) => [match.index, match.index + match[0].length]);
}

/** The texts of a card, in which the places of values can be marked. */
class MarkedTexts {
  constructor() {
    this.paragraphs = [];
    this.pinned = null;
  }

  /** Adds a text and returns its element. */
  add(text) {
    const element = h('p', {class: 'text'});
    this.paragraphs.push({element, text});
    this.paint(element, text, []);
    return element;
  }

  has(value) {
    return this.paragraphs.some(({text}) => placesOf(value, text).length > 0);
  }

  /** Marks the places of a subtask's values; of null, those pinned. */
  show(subtask) {
    const {target, prediction} = subtask ?? this.pinned ?? {};
    for (const {element, text} of this.paragraphs) {
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
    // Of marks that overlap, the one that begins first.
    for (const {start, end, class_} of marks.sort((a, b) => a.start - b.start)) {
      if (start < done) continue;
      nodes.push(text.slice(done, start),
        h('mark', {class: class_}, text.slice(start, end)));
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

/** The subtasks of an example; what nobody looks for is one button away. */
function subtaskTable(example, filters, texts) {
  const subtasks = [...example[KINDS]].map((_, u) => subtaskOf(example, u));
  const isFiltered = filters.subtask !== '' ||
    !['', 'clean'].includes(filters.kind);
  const matching = new Set(isFiltered ? matchingSubtasks(example, filters) : []);
  const isNotable = ({kind, target, prediction}) => ERRORS.has(kind) ||
    !isEmpty(prediction) || !(target === null || isEmpty(target));
  const shown = (u) =>
    matching.size > 0 ? matching.has(u) : isNotable(subtasks[u]);
  const first = subtasks.filter((_, u) => shown(u));
  const rest = subtasks.filter((_, u) => !shown(u));
  const body = h('tbody', {},
    ...first.map((subtask) => subtaskRow(subtask, texts)));
  const table = h('table', {class: 'subtasks'},
    h('thead', {}, h('tr', {},
      h('th', {scope: 'col'}, 'Subtask'),
      data.hasGold ? h('th', {scope: 'col'}, 'Gold') : null,
      h('th', {scope: 'col'}, 'Predicted'),
      data.hasGold ? h('th', {scope: 'col'}, 'Outcome') : null,
      data.hasScores ? h('th', {scope: 'col'}, 'Probability') : null)),
    body);
  const parts = h('div', {}, ...(first.length ? [table] : []));
  if (rest.length) {
    const allRight = rest.every(({kind, prediction}) =>
      !ERRORS.has(kind) && isEmpty(prediction));
    const more = h('button', {type: 'button', class: 'more'},
      `${rest.length} ${first.length ? 'more' : 'subtasks'}` +
      (allRight ? ', empty' + (data.hasGold ? ' and right' : '') : ''));
    more.addEventListener('click', () => {
      body.append(...rest.map((subtask) => subtaskRow(subtask, texts)));
      more.replaceWith(...(first.length ? [] : [table]));
    });
    parts.append(more);
  }
  return parts;
}

function subtaskRow(subtask, texts) {
  const {target, alternatives, prediction, kind, score} = subtask;
  const found = {target: texts.has(target), prediction: texts.has(prediction)};
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
function dialogueCard(item, filters) {
  const turns = item.map((index) => data.examples[index]);
  const texts = new MarkedTexts();
  let read = 0;
  const said = turns.map((turn, t) => {
    const lines = linesOf(turn[INPUTS].slice(read).trim());
    read = turn[INPUTS].length;
    return h('li', {}, h('span', {class: 'turn'}, `turn ${t + 1}`),
      ...lines.map((line) => texts.add(line)));
  });
  const count = `${turns.length} turns`;
  const service = /-\d+-(\D.*)$/.exec(turns[0][ID]);
  return h('article', {class: 'card'},
    cardHead(turns[0][ID].replace(/-\d+(-\D.*)?$/, ''), turns, [
      service ? `${service[1]}, ${count}` : count,
      data.tasks.length > 1 ? data.tasks[turns[0][TASK]] : null,
    ]),
    h('ol', {class: 'texts'}, ...said),
    stateTable(turns, filters, texts));
}

/** Slots down, turns across; a slot that stays empty has no row. */
function stateTable(turns, filters, texts) {
  const slots = new Map();  // Index of a name -> its subtask in each turn.
  const matching = new Set();
  turns.forEach((turn, t) => {
    const found = new Set(matchingSubtasks(turn, filters));
    namesOf(turn).forEach((name, u) => {
      if (!slots.has(name)) slots.set(name, turns.map(() => null));
      slots.get(name)[t] = subtaskOf(turn, u);
      if (found.has(u)) matching.add(name);
    });
  });
  const isFiltered = filters.subtask !== '' ||
    !['', 'clean'].includes(filters.kind);
  const isNotable = (subtask) => subtask !== null &&
    (ERRORS.has(subtask.kind) || !isEmpty(subtask.prediction) ||
      !(subtask.target === null || isEmpty(subtask.target)));
  const shown = [...slots].filter(([name, row]) =>
    isFiltered ? matching.has(name) : row.some(isNotable));
  if (!shown.length) {
    return h('p', {class: 'quiet'}, 'Every slot is empty in every turn.');
  }
  const rows = shown.map(([, row]) => h('tr', {},
    h('th', {scope: 'row'}, row.find((subtask) => subtask !== null).name),
    ...row.map((subtask, t) => stateCell(subtask, row[t - 1] ?? null, texts))));
  const rest = slots.size - shown.length;
  const heads = turns.map((_, t) => h('th', {scope: 'col'}, `turn ${t + 1}`));
  return h('div', {},
    h('div', {class: 'scroll', tabindex: '0', role: 'group',
      'aria-label': 'State turn by turn'},
    h('table', {class: 'state'},
      h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'Slot'), ...heads)),
      h('tbody', {}, ...rows))),
    rest ? h('p', {class: 'quiet'}, isFiltered ?
      `${rest} other slots are hidden by the filters.` :
      `${rest} slots are empty throughout${data.hasGold ? ', and right' : ''}.`) :
      null);
}

/** A slot after a turn; the values that changed are marked. */
function stateCell(subtask, before, texts) {
  if (subtask === null) return h('td', {});
  const {target, prediction, kind} = subtask;
  const isError = ERRORS.has(kind);
  const line = (class_, value, old) => {
    const change = changeOf(old, value);
    return h('div', {class: `${class_} ${change && 'changed'}`},
      change ? h('span', {class: 'change', title: change.title}, change.sign) :
        null, valueNode(value));
  };
  const cell = h('td', {class: isError ? 'bad' : ''},
    line('predicted', prediction, before && before.prediction));
  if (isError) {
    cell.append(line('gold', target, before && before.target), kindNode(kind));
  }
  if (texts.has(target) || texts.has(prediction)) {
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

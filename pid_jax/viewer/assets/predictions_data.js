// Copyright 2026 The pid_jax Authors.
// SPDX-License-Identifier: Apache-2.0
// The data of the page, and queries of it. No DOM except for the data block.
//
// An example is an array of FIELDS; its strings are indices into data.strings,
// -1 for none. pid_jax/viewer/tables.py writes them.

'use strict';

const data = JSON.parse(document.getElementById('data').textContent);

const [ID, TASK, INPUTS, SCHEMA, TARGETS, PREDICTIONS, KINDS, SCORES, TRUNCATED,
  ALTERNATIVES] = data.fields.keys();

const ERRORS = new Set(data.errors);
const EMPTY = new Set(data.empty);

/** The string of an index, null for -1. */
function stringOf(index) {
  return index < 0 ? null : data.strings[index];
}

/** Whether a value says "nothing here", or is missing. */
function isEmpty(text) {
  return text === null || EMPTY.has(text.trim().replace(/\s+/g, ' '));
}

/** Indices of the names of an example's subtasks. */
function namesOf(example) {
  return data.schemas[example[SCHEMA]][0];
}

/** Indices of an example's predictions; 0 stands for "those of the targets". */
function predictionsOf(example) {
  return example[PREDICTIONS] || example[TARGETS];
}

/** One subtask of an example, as it is shown. */
function subtaskOf(example, u) {
  const [names, prompts] = data.schemas[example[SCHEMA]];
  const alternatives = (example[ALTERNATIVES] || {})[u] || [];
  return {
    name: stringOf(names[u]),
    prompt: stringOf(prompts[u]),
    target: stringOf(example[TARGETS][u]),
    alternatives: alternatives.map(stringOf),
    prediction: stringOf(predictionsOf(example)[u]),
    kind: example[KINDS][u],
    score: example[SCORES] ? example[SCORES][u] : null,
  };
}

function errorsOf(example) {
  return [...example[KINDS]].filter((kind) => ERRORS.has(kind)).length;
}

/** The lowest score of an example; above all scores, which are logarithms of
 * probabilities, if it has none. */
function leastScore(example) {
  const scores = (example[SCORES] || []).filter((score) => score !== null);
  return scores.length ? Math.min(...scores) : 1;
}

/**
 * The places in an example that filters on subtask and kind are about.
 *
 * @param {Array} example
 * @param {{subtask: string, kind: string}} filters '' filters nothing. Kinds are
 *     letters, 'errors' for any error, 'clean' for examples without one, and
 *     'filled' for predictions that are not empty.
 * @return {number[]} Empty if the example is to be left out.
 */
function matchingSubtasks(example, filters) {
  const names = namesOf(example);
  const kinds = example[KINDS];
  const predictions = predictionsOf(example);
  const subtask = filters.subtask === '' ? null : Number(filters.subtask);
  const found = [];
  for (let u = 0; u < kinds.length; u++) {
    if (subtask !== null && names[u] !== subtask) continue;
    if (filters.kind === 'errors') {
      if (!ERRORS.has(kinds[u])) continue;
    } else if (filters.kind === 'clean') {
      if (ERRORS.has(kinds[u])) return [];
    } else if (filters.kind === 'filled') {
      if (isEmpty(stringOf(predictions[u]))) continue;
    } else if (filters.kind !== '' && kinds[u] !== filters.kind) {
      continue;
    }
    found.push(u);
  }
  return found;
}

/** Finds a text in ids, inputs, names, prompts, targets and predictions. */
class Search {
  constructor(text) {
    this.text = text.trim().toLowerCase();
    this.strings = new Set();
    Search.lowered ??= data.strings.map((string) => string.toLowerCase());
    Search.lowered.forEach((string, index) => {
      if (string.includes(this.text)) this.strings.add(index);
    });
  }

  matches(example) {
    const has = (index) => this.strings.has(index);
    const [names, prompts] = data.schemas[example[SCHEMA]];
    return this.text === '' ||
      example[ID].toLowerCase().includes(this.text) ||
      example[INPUTS].toLowerCase().includes(this.text) ||
      predictionsOf(example).some(has) || example[TARGETS].some(has) ||
      names.some(has) || prompts.some(has);
  }
}

/**
 * What the list shows, in its order.
 *
 * @param {Object} filters search, task, subtask, kind, order and whether
 *     dialogues stay whole.
 * @return {Array<{turns: number[]}>} Items: dialogues, or single examples, whose
 *     only turn they are.
 */
function select(filters) {
  const search = new Search(filters.search);
  const task = filters.task === '' ? null : Number(filters.task);
  const isShown = (index) => {
    const example = data.examples[index];
    return (task === null || example[TASK] === task) &&
      matchingSubtasks(example, filters).length > 0 && search.matches(example);
  };
  const whole = filters.dialogues ? data.dialogues : [];
  const inDialogue = new Set(whole.flatMap((dialogue) => dialogue.turns));
  const items = [...whole];
  data.examples.forEach((_, index) => {
    if (!inDialogue.has(index)) items.push({turns: [index]});
  });
  const shown = items.filter((item) => item.turns.some(isShown));
  const of = (item) => item.turns.map((index) => data.examples[index]);
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const order = {
    file: (item) => item.turns[0],
    errors: (item) => -sum(of(item).map(errorsOf)),
    score: (item) => Math.min(...of(item).map(leastScore)),
  }[filters.order];
  const keys = new Map(shown.map((item) => [item, order(item)]));
  return shown.sort((a, b) => keys.get(a) - keys.get(b));
}

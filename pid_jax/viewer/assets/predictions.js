// Copyright 2026 The pid_jax Authors.
// SPDX-License-Identifier: Apache-2.0
// Connects filters, list and address: the part after '#' encodes the filters,
// so that a link restores them.

const PAGE_SIZE = 20;  // Items; the others are not rendered.
const DEFAULTS = {
  search: '', task: '', subtask: '', kind: '', order: 'file', dialogues: true,
};

const form = document.getElementById('filters');
const list = document.getElementById('list');
const count = document.getElementById('count');
let page = 0;
let items = [];

/** The filters as the form has them; fields that it lacks are at rest. */
function readFilters() {
  const filters = {...DEFAULTS};
  for (const field of form.elements) {
    if (field.name in DEFAULTS) {
      filters[field.name] =
        field.type === 'checkbox' ? field.checked : field.value;
    }
  }
  return filters;
}

/** Sets fields of the form; others stay. */
function setFilters(values) {
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements[name];
    if (!field) continue;
    if (field.type === 'checkbox') field.checked = value;
    else field.value = value;
    // A link from another report may have values that this one lacks.
    if (field.selectedIndex === -1) field.value = DEFAULTS[name];
  }
}

function readAddress() {
  const values = {...DEFAULTS};
  const address = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS)) {
    if (address.has(name)) values[name] = address.get(name);
  }
  values.dialogues = address.get('dialogues') !== 'false';
  setFilters(values);
  page = Math.max(0, Number(address.get('page') || 1) - 1 || 0);
}

function writeAddress(filters) {
  const address = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) {
    if (value !== DEFAULTS[name]) address.set(name, value);
  }
  if (page > 0) address.set('page', page + 1);
  // Without filters, the address stays unchanged.
  if (String(address) || location.hash) {
    history.replaceState(null, '', `#${address}`);
  }
}

/** Selects anew, from the first page. */
function update() {
  page = 0;
  refresh();
}

function refresh() {
  items = select(readFilters());
  render();
}

/** Shows the page of the list. */
function render() {
  const filters = readFilters();
  const pages = Math.max(1, Math.ceil(items.length / PAGE_SIZE));
  page = Math.min(page, pages - 1);
  const start = page * PAGE_SIZE;
  const shown = items.slice(start, start + PAGE_SIZE);
  list.replaceChildren(...shown.map((item) =>
    item.turns.length > 1 ? dialogueCard(item, filters) :
      exampleCard(item.turns[0], filters)));
  count.textContent = countText(items, start, shown.length);
  for (const pager of document.querySelectorAll('.pager')) {
    pager.hidden = pages === 1;
    pager.querySelector('.where').textContent =
      `page ${(page + 1).toLocaleString('en')} of ${pages.toLocaleString('en')}`;
    pager.querySelector('[data-step="-1"]').disabled = page === 0;
    pager.querySelector('[data-step="1"]').disabled = page === pages - 1;
  }
  for (const button of document.querySelectorAll('button[data-kind]')) {
    const isOn = button.dataset.kind === filters.kind &&
      (button.dataset.subtask ?? '') === filters.subtask;
    button.setAttribute('aria-pressed', String(isOn));
  }
  writeAddress(filters);
}

/** Says how much is shown, of what. */
function countText(found, start, length) {
  const all = (number, noun) =>
    `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
  if (!found.length) return 'Nothing fits these filters.';
  const dialogues = found.filter((item) => item.turns.length > 1).length;
  const parts = [];
  if (dialogues) parts.push(all(dialogues, 'dialogue'));
  if (found.length > dialogues || !dialogues) {
    parts.push(all(found.length - dialogues,
      dialogues ? 'single input' : 'input'));
  }
  const range = `${(start + 1).toLocaleString('en')}\u2013` +
    (start + length).toLocaleString('en');
  return `${parts.join(' and ')}` +
    (found.length > length ? `; here ${range}` : '');
}

let waiting = 0;
form.addEventListener('submit', (event) => event.preventDefault());
form.addEventListener('input', (event) => {
  clearTimeout(waiting);
  // Wait for more typing; apply other changes at once.
  waiting = setTimeout(update, event.target.type === 'search' ? 150 : 0);
});
form.addEventListener('reset', () => setTimeout(update));

document.addEventListener('click', ({target}) => {
  const button = target.closest('button[data-kind], button[data-step]');
  if (!button) return;
  if ('step' in button.dataset) {
    page += Number(button.dataset.step);
    render();
  } else {
    // A second click undoes the first.
    const isOn = button.getAttribute('aria-pressed') === 'true';
    const {kind, subtask} = button.dataset;
    setFilters({kind: isOn ? '' : kind, subtask: isOn ? '' : subtask ?? ''});
    update();
  }
  document.getElementById('predictions').scrollIntoView();
});

// Folded sections would not be printed.
const folded = [];
window.addEventListener('beforeprint', () => {
  for (const details of document.querySelectorAll('details:not([open])')) {
    details.open = true;
    folded.push(details);
  }
});
window.addEventListener('afterprint', () => {
  for (const details of folded.splice(0)) details.open = false;
});
window.addEventListener('hashchange', () => {
  readAddress();
  refresh();
});

readAddress();
refresh();

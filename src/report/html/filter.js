'use strict';
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const text = document.getElementById('text');
  const combo = document.getElementById('combo');
  const tiles = all('.tile');
  let verdict = '';
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of all('tr[data-text]')) {
      const cells = [...row.querySelectorAll('td.cell')]
        .filter((cell) => !combo.value || cell.dataset.combo === combo.value);
      const fits = words.every((w) => row.dataset.text.includes(w)) &&
        cells.some((cell) => !verdict || cell.dataset.kinds.split(' ').includes(verdict));
      row.hidden = !fits;
      shown += fits;
    }
    for (const one of all('details[data-text]')) {
      one.hidden = !(words.every((w) => one.dataset.text.includes(w)) &&
        (!verdict || one.dataset.kind === verdict) &&
        (!combo.value || one.dataset.combo === combo.value));
    }
    for (const cell of all('[data-column]')) {
      cell.hidden = combo.value !== '' && cell.dataset.column !== combo.value;
    }
    document.getElementById('shown').textContent = shown + ' tests shown';
  };
  for (const tile of tiles) {
    tile.addEventListener('click', () => {
      verdict = verdict === tile.dataset.verdict ? '' : tile.dataset.verdict;
      for (const t of tiles) t.setAttribute('aria-pressed', String(t.dataset.verdict === verdict && verdict !== ''));
      apply();
    });
  }
  text.addEventListener('input', apply);
  combo.addEventListener('change', apply);
  const open = () => {
    const one = location.hash && document.getElementById(location.hash.slice(1));
    if (one && one.tagName === 'DETAILS') { one.open = true; one.scrollIntoView(); }
  };
  addEventListener('hashchange', open);
  open();
})();

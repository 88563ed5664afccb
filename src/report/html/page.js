'use strict';
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const text = document.getElementById('text');
  const combo = document.getElementById('combo');
  const tiles = all('.tile');
  let verdict = '';

  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (one) => words.every((w) => one.dataset.text.includes(w));
    let shown = 0;
    for (const one of all('.result')) {
      one.hidden = !(fits(one) && (!verdict || one.dataset.kind === verdict) &&
        (!combo.value || one.dataset.combo === combo.value));
      shown += !one.hidden;
    }
    for (const part of [...all('.names, .reason'), ...all('.group')]) {
      part.hidden = !part.querySelector('.result:not([hidden])');
    }
    for (const row of all('tr[data-text]')) {
      const cells = [...row.querySelectorAll('td.cell')]
        .filter((cell) => !combo.value || cell.dataset.column === combo.value);
      row.hidden = !(fits(row) &&
        cells.some((cell) => !verdict || cell.dataset.kinds.split(' ').includes(verdict)));
    }
    for (const cell of all('[data-column]')) {
      cell.hidden = combo.value !== '' && cell.dataset.column !== combo.value;
    }
    document.getElementById('shown').textContent = shown + ' shown';
  };

  const choose = (chosen) => {
    verdict = chosen;
    for (const tile of tiles) tile.setAttribute('aria-current', String(tile.dataset.verdict === verdict));
    if (!text) return;
    apply();
    const first = verdict && document.querySelector('.group:not([hidden])');
    if (first) first.open = true;
  };

  const show = (one) => {
    for (let up = one; up; up = up.parentElement) if (up.tagName === 'DETAILS') up.open = true;
    one.scrollIntoView();
  };

  const toTarget = () => {
    const one = location.hash && document.getElementById(location.hash.slice(1));
    if (!one) return;
    if (one.hidden) { text.value = combo.value = ''; choose(''); }
    show(one);
  };

  const step = (by) => {
    const failures = all('details.result[data-kind=fail]:not([hidden])');
    if (!failures.length) return;
    const at = failures.indexOf(document.activeElement && document.activeElement.closest('.result'));
    const next = failures[at < 0 ? (by > 0 ? 0 : failures.length - 1)
      : (at + by + failures.length) % failures.length];
    show(next);
    next.querySelector('summary').focus();
  };

  const copy = async (from, button) => {
    try {
      await navigator.clipboard.writeText(from.textContent);
    } catch {
      getSelection().selectAllChildren(from);
      document.execCommand('copy');
    }
    button.textContent = 'copied';
    setTimeout(() => { button.textContent = 'copy'; }, 1500);
  };

  for (const from of all('code.copy')) {
    const button = document.createElement('button');
    button.className = 'copy';
    button.textContent = 'copy';
    button.addEventListener('click', () => copy(from, button));
    from.after(' ', button);
  }
  for (const tile of tiles) {
    tile.addEventListener('click', (event) => {
      event.preventDefault();
      choose(verdict === tile.dataset.verdict ? '' : tile.dataset.verdict);
    });
  }
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !text) return;
    if (event.key === 'Escape') {
      text.value = combo.value = '';
      text.blur();
      choose('');
    } else if (!/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === '/') { event.preventDefault(); text.focus(); }
      if (event.key === 'n') step(1);
      if (event.key === 'p') step(-1);
    }
  });
  addEventListener('hashchange', toTarget);
  if (text) {
    // Without scripts there would be nothing behind them.
    all('.filters').forEach((filters) => { filters.hidden = false; });
    text.addEventListener('input', apply);
    combo.addEventListener('change', apply);
    toTarget();
  }
})();

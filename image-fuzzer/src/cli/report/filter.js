'use strict';
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const text = document.getElementById('text');
  const tiles = all('.tile');
  let kind = '';
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of all('[data-text]')) {
      const fits = words.every((w) => one.dataset.text.includes(w)) &&
        (!kind || one.dataset.kind === kind);
      one.hidden = !fits;
      if (one.tagName === 'DETAILS') shown += fits;
    }
    document.getElementById('shown').textContent = shown + ' findings shown';
  };
  for (const tile of tiles) {
    tile.addEventListener('click', () => {
      kind = kind === tile.dataset.kind ? '' : tile.dataset.kind;
      for (const t of tiles) t.setAttribute('aria-pressed', String(kind !== '' && t.dataset.kind === kind));
      apply();
    });
  }
  text.addEventListener('input', apply);
  for (const button of all('button.copy')) {
    button.addEventListener('click', async () => {
      const command = button.parentElement.querySelector('code');
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = 'Copied';
      } catch {
        // Without access to the clipboard it is at least selected.
        getSelection().selectAllChildren(command);
      }
    });
  }
  const open = () => {
    const one = location.hash && document.getElementById(location.hash.slice(1));
    if (one && one.tagName === 'DETAILS') { one.open = true; one.scrollIntoView(); }
  };
  addEventListener('hashchange', open);
  open();
})();

'use strict';
(() => {
  const text = document.getElementById('text');
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    // What fits may be in there.
    for (const one of document.querySelectorAll('details.others')) one.open = words.length > 0;
    for (const one of document.querySelectorAll('details.file')) {
      const fits = words.every((word) => one.dataset.text.includes(word));
      one.hidden = !fits;
      shown += fits;
    }
    document.getElementById('shown').textContent = shown + (shown === 1 ? ' file shown' : ' files shown');
  };
  text.addEventListener('input', apply);
})();

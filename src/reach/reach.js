'use strict';
const text = document.getElementById('text');
const files = [...document.querySelectorAll('details.file')].map(file => ({
  file,
  name: file.querySelector('code').textContent.toLowerCase(),
  rows: [...file.querySelectorAll('tbody tr')].map(row => ({
    row, name: row.querySelector('code').textContent.toLowerCase(),
  })),
}));
text.addEventListener('input', () => {
  const wanted = text.value.trim().toLowerCase();
  for (const {file, name, rows} of files) {
    const whole = name.includes(wanted);
    let found = 0;
    for (const it of rows) {
      const shown = whole || it.name.includes(wanted);
      it.row.hidden = !shown;
      found += shown;
    }
    file.hidden = !found;
    file.open = wanted.length > 2 && !whole && found > 0;
  }
});

'use strict';
const cards = [...document.querySelectorAll('article')];
const buttons = [...document.querySelectorAll('.filters button')];
const words = document.querySelector('.filters input');
function show() {
  const classes = buttons.filter(b => b.getAttribute('aria-pressed') === 'true').map(b => b.value);
  const text = words.value.toLowerCase();
  for (const card of cards) {
    const inClass = classes.length === 0 || classes.includes(card.dataset.class);
    card.hidden = !inClass || !card.textContent.toLowerCase().includes(text);
  }
}
for (const button of buttons) {
  button.addEventListener('click', () => {
    button.setAttribute('aria-pressed', button.getAttribute('aria-pressed') !== 'true');
    show();
  });
}
words.addEventListener('input', show);

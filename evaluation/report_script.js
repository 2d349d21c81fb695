
const cards = [...document.querySelectorAll('details.s')];
const byId = id => document.getElementById(id);

// Show the cards that fit all three filters; an empty filter fits every card.
function filter() {
  const source = byId('source').value;
  const outcome = byId('outcome').value;
  const words = byId('words').value.toLowerCase();
  let n = 0;
  for (const card of cards) {
    const fits = (!source || card.dataset.s === source) && (!outcome || card.dataset.o === outcome)
      && (!words || card.textContent.toLowerCase().includes(words));
    card.hidden = !fits;
    n += fits;
  }
  byId('count').textContent = n + ' of ' + cards.length + ' samples';
}

function openFirst() {
  for (const card of cards.filter(c => !c.hidden).slice(0, 50)) card.open = true;
}

function closeAll() {
  for (const card of cards) card.open = false;
}

for (const id of ['source', 'outcome', 'words']) byId(id).addEventListener('input', filter);
byId('open').addEventListener('click', openFirst);
byId('close').addEventListener('click', closeAll);
filter();


const cards = [...document.querySelectorAll('details.s')];
const byId = id => document.getElementById(id);
const filters = ['kind', 'source', 'outcome', 'words'];

// Show the cards that fit all four filters; an empty filter fits every card.
function filter() {
  const kind = byId('kind').value;
  const source = byId('source').value;
  const outcome = byId('outcome').value;
  const words = byId('words').value.toLowerCase();
  let n = 0;
  for (const card of cards) {
    const fits = (!kind || card.dataset.k.split(' ').includes(kind))
      && (!source || card.dataset.s === source) && (!outcome || card.dataset.o === outcome)
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

// A link to a sample opens it, whatever the filters hide.
function openLinked() {
  const card = cards.find(c => c.id && '#' + c.id === location.hash);
  if (!card) return;
  for (const id of filters) byId(id).value = '';
  filter();
  card.open = true;
  card.scrollIntoView();
}

if (cards.length) {
  for (const id of filters) byId(id).addEventListener('input', filter);
  byId('open').addEventListener('click', openFirst);
  byId('close').addEventListener('click', closeAll);
  window.addEventListener('hashchange', openLinked);
  filter();
  openLinked();
}

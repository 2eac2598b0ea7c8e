// The gallery. Where one is, is in the address: nothing (all results), ?scene=ID (one), ?scene=ID&scene=ID (two).
// Names come from folders and files and may be anything: they only ever become text nodes and encoded addresses.

const $ = (id) => document.getElementById(id);
const ROOT = new URL('..', document.baseURI); // the base is static/
const PAGE = location.pathname;
const chosen = new Set();
let scenes = [];
let title = 'Gallery';

const encoded = (path) => path.split('/').map(encodeURIComponent).join('/');
const fileUrl = (path) => new URL(`files/${encoded(path)}`, ROOT).href;
const pageUrl = (ids) => (ids.length ? `${PAGE}?${new URLSearchParams(ids.map((id) => ['scene', id]))}` : PAGE);

// An element with properties and children; strings become text nodes.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

async function fetchJson(path) {
  const answer = await fetch(new URL(path, ROOT));
  if (!answer.ok) throw new Error(answer.status === 404 ? 'This result is not there any more.' : `The server answered ${answer.status}.`);
  return answer.json();
}

function link(text, ids) {
  const anchor = make('a', { href: pageUrl(ids), textContent: text });
  anchor.addEventListener('click', (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(ids);
  });
  return anchor;
}

function go(ids) {
  history.pushState(null, '', pageUrl(ids));
  route();
}

async function route() {
  const ids = new URLSearchParams(location.search).getAll('scene').slice(0, 2);
  $('message').hidden = true;
  $('back').hidden = !ids.length;
  $('search-row').hidden = $('compare').hidden = Boolean(ids.length);
  try {
    if (ids.length === 2) await showPair(ids);
    else if (ids.length === 1) await showScene(ids[0]);
    else await showAll();
  } catch (error) {
    $('main').replaceChildren();
    $('message').textContent = error.message;
    $('message').hidden = false;
  }
}

async function showAll() {
  ({ scenes, title } = await fetchJson('api/scenes'));
  heading(title);
  listScenes();
}

function heading(text) {
  $('title').textContent = text;
  document.title = text;
}

function listScenes() {
  const words = $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (scene) => [scene.title, scene.group, scene.model, ...(scene.formats ?? [])].join(' ').toLowerCase();
  const found = scenes.filter((scene) => words.every((word) => text(scene).includes(word)));
  const groups = new Map();
  for (const scene of found) groups.set(scene.group, [...(groups.get(scene.group) ?? []), scene]);
  const parts = [];
  for (const [group, members] of groups) {
    if (group) parts.push(make('h2', { textContent: group }));
    parts.push(make('ul', { className: 'cards' }, ...members.map(card)));
  }
  if (!found.length) {
    parts.push(make('p', { textContent: scenes.length ? 'Nothing fits.' : 'No results yet. “da3 auto PHOTOS” makes one.' }));
  }
  $('main').replaceChildren(...parts);
  updateCompare();
}

function card(scene) {
  const picture = scene.thumbnail
    ? make('img', { src: new URL(`thumbnails/${encoded(scene.id)}`, ROOT).href, alt: '', loading: 'lazy' })
    : make('div', { className: 'blank', textContent: 'no picture' });
  const box = make('input', { type: 'checkbox', checked: chosen.has(scene.id) });
  box.setAttribute('aria-label', `Compare ${scene.title}`);
  box.addEventListener('change', () => {
    if (box.checked) chosen.add(scene.id);
    else chosen.delete(scene.id);
    updateCompare();
  });
  const facts = [scene.model, scene.views && `${scene.views} view${scene.views > 1 ? 's' : ''}`, scene.unit === 'metre' && 'metres'];
  return make('li', {}, picture,
    make('div', { className: 'text' }, link(scene.title, [scene.id]),
      make('p', { textContent: facts.filter(Boolean).join(' · ') }),
      make('p', {}, date(scene.changed)),
      make('label', {}, box, ' compare')));
}

const date = (seconds) => new Date(seconds * 1000).toLocaleString();

function updateCompare() {
  $('compare').disabled = chosen.size !== 2;
}

function viewer(scene) {
  const models = scene.files.filter((file) => file.kind === 'model').sort((a, b) => preference(a) - preference(b));
  if (!models.length) return make('p', { className: 'quiet', textContent: 'Nothing to show in 3D.' });
  const query = new URLSearchParams(models.map((file) => ['src', fileUrl(file.path)]));
  if (scene.unit === 'metre') query.set('unit', 'metre');
  const frame = make('iframe', { src: new URL(`static/viewer.html?${query}`, ROOT).href, title: `3D view of ${scene.title}` });
  frame.allow = 'xr-spatial-tracking; fullscreen';
  return frame;
}

const preference = (file) => (file.name === 'scene.glb' ? 0 : file.name.endsWith('.glb') ? 1 : 2);

async function showScene(id) {
  const scene = await fetchJson(`api/scenes/${encoded(id)}`);
  heading(scene.title);
  $('main').replaceChildren(
    make('div', { className: 'scene' }, make('div', {}, viewer(scene)), make('div', {}, ...side(scene))),
    ...media(scene));
}

async function showPair(ids) {
  const pair = await Promise.all(ids.map((id) => fetchJson(`api/scenes/${encoded(id)}`)));
  heading(pair.map((scene) => scene.title).join(' | '));
  const frames = pair.map(viewer);
  $('main').replaceChildren(make('div', { className: 'scene pair' },
    ...pair.map((scene, i) => make('div', {}, make('h2', {}, link(scene.title, [scene.id])), frames[i], facts(scene)))),
    ...pair.flatMap(media));
  for (const [one, other] of [frames, [...frames].reverse()]) one.addEventListener('load', () => follow(one, other));
}

// Turning one view turns the other: both have the first camera as their frame.
function follow(one, other) {
  one.contentWindow.viewer?.stage.afterMove.push(() => {
    if (document.activeElement === one) other.contentWindow.viewer?.stage.setPose(one.contentWindow.viewer.stage.pose());
  });
}

function facts(scene) {
  const size = scene.width && `${scene.width} × ${scene.height} pixels`;
  const unit = scene.unit === 'metre' ? 'metres' : scene.scale && 'relative';
  const refined = scene.refined === undefined ? null : scene.refined ? 'yes' : 'no';
  const rows = [['Model', scene.model], ['Licence', scene.licence], ['Views', scene.views], ['Depth maps', size],
    ['Scale', unit], ['Refined', refined], ['Formats', scene.formats?.join(', ')], ['Written', date(scene.changed)]];
  return make('dl', {}, ...rows.filter(([, value]) => value).flatMap(([name, value]) =>
    [make('dt', { textContent: name }), make('dd', { textContent: String(value) })]));
}

function side(scene) {
  const zip = make('a', { className: 'button', href: new URL(`archives/${encoded(scene.id)}`, ROOT).href, textContent: 'Download everything (zip)' });
  const rows = scene.files.slice(0, 500).map((file) => make('li', {},
    make('a', { href: `${fileUrl(file.path)}?download`, textContent: file.name }),
    make('span', { className: 'quiet', textContent: size(file.size) })));
  const rest = scene.files.length - rows.length;
  if (rest) rows.push(make('li', { textContent: `and ${rest} more in the zip` }));
  return [make('h2', { textContent: 'Facts' }), facts(scene), make('h2', { textContent: 'Files' }),
    make('p', {}, zip), make('ul', { className: 'files' }, ...rows)];
}

function size(bytes) {
  const units = ['bytes', 'kB', 'MB', 'GB'];
  let unit = 0;
  while (bytes >= 1000 && unit < 3) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

function media(scene) {
  const figure = (file, element) => make('figure', {}, element, make('figcaption', { textContent: file.name }));
  const videos = scene.files.filter((file) => file.kind === 'video')
    .map((file) => figure(file, make('video', { src: fileUrl(file.path), controls: true, preload: 'metadata' })));
  const pictures = scene.files.filter((file) => file.kind === 'picture' && file.name !== 'scene.jpg').slice(0, 200)
    .map((file) => figure(file, make('img', { src: fileUrl(file.path), alt: file.name, loading: 'lazy' })));
  const all = [...videos, ...pictures];
  return all.length ? [make('h2', { textContent: 'Pictures' }), make('div', { className: 'pictures' }, ...all)] : [];
}

$('search').addEventListener('input', listScenes);
$('back').addEventListener('click', () => go([]));
$('compare').addEventListener('click', () => go([...chosen]));
addEventListener('popstate', route);
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !$('back').hidden) go([]);
});
route();

'use strict';
(() => {
const LEVELS = [1, 2, 4, 8];  // CSS pixels per pixel of the image
const SLACK = 4;  // CSS pixels that a finger may move during a tap
const DOUBLE_TAP = 350;  // milliseconds

const find = (selector) => document.querySelector(selector);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const section = find('#images');
const viewer = find('.viewer');
const stage = find('.stage');
const divider = find('.divider');
const rates = find('.rates');
const sides = ['left', 'right'];
const exhibits = [...document.querySelectorAll('.exhibit')].map((element) => {
  const versions = [...element.querySelectorAll('figure')].map((figure) => ({
    codec: figure.dataset.codec,
    rate: figure.dataset.rate,
    image: figure.querySelector('img'),
    caption: figure.querySelector('figcaption'),
    shown: {},  // side -> its own <img>, kept to swap without flicker
  }));
  const {width, height} = versions[0].image.attributes;
  const rates = [...new Set(versions.map((v) => v.rate).filter(Boolean))];
  return {
    element, rates, all: versions, versions, name: element.dataset.name,
    width: +width.value, height: +height.value,
  };
});

// --- Curves ----------------------------------------------------------------

// Each chart is an image, so its own style sheet has to hide curves.
const charts = [...document.querySelectorAll('.charts img')].map((image) => ({
  image, svg: atob(image.src.split('base64,')[1])
    .replace(/<style>[^<]*<\/style>(?=<\/svg>)/, ''),
}));
const boxes = [...document.querySelectorAll('.legend input')];
function redraw() {
  const hidden = boxes.filter((box) => !box.checked)
    .map((box) => `#${box.value}`).join(',');
  for (const {image, svg} of charts) {
    const style = hidden && `<style>${hidden}{display:none}</style>`;
    const text = svg.replace(/<\/svg>\s*$/, `${style}</svg>`);
    image.src = `data:image/svg+xml;base64,${btoa(text)}`;
  }
}
for (const box of boxes) box.addEventListener('change', redraw);
if (boxes.some((box) => box.checked !== box.defaultChecked)) redraw();

// --- Images ----------------------------------------------------------------

if (!exhibits.length) return;

// What is shown. zoom null fits the whole crop; x, y is the point of the crop
// in the middle of the stage; split is a fraction of the visible width.
const view = {
  exhibit: exhibits[0], rate: exhibits[0].rates[0], left: 0, right: 1,
  zoom: null, x: 0, y: 0, split: .5,
};
const frame = {width: 0, height: 0};  // the stage, CSS pixels
let shown = {};  // position of the image on the stage

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// --- Choosing --------------------------------------------------------------

function select(exhibit, codecs = {}) {
  if (!exhibit.rates.includes(view.rate)) [view.rate] = exhibit.rates;
  const versions = exhibit.all.filter((v) => !v.rate || v.rate === view.rate);
  exhibit.versions = versions;
  rates.hidden = exhibit.rates.length < 2;
  rates.replaceChildren('Rate', ...exhibit.rates.map((rate) => {
    const button = element('button', {type: 'button', textContent: rate});
    button.setAttribute('aria-pressed', rate === view.rate);
    button.addEventListener('click', () => rateTo(rate));
    return button;
  }));
  const index = (codec) => versions.findIndex((v) => v.codec === codec);
  const known = (codec, otherwise) =>
    index(codec) < 0 ? otherwise : index(codec);
  const {left, right} = section.dataset;
  view.left = known(codecs.left, known(left, 0));
  view.right = known(codecs.right, known(right, versions.length - 1));
  view.exhibit = exhibit;
  [view.zoom, view.x, view.y] = [null, exhibit.width / 2, exhibit.height / 2];
  for (const side of sides) {
    find(`#${side}`).replaceChildren(...versions.map(
      (v, i) => element('option', {value: i, textContent: v.codec})
    ));
  }
  exhibits.forEach((e, i) => {
    e.element.classList.toggle('current', e === exhibit);
    chooser.children[i]?.setAttribute('aria-pressed', e === exhibit);
  });
  measure();
}

function codecs() {
  const {versions} = view.exhibit;
  return {
    left: versions[view.left].codec, right: versions[view.right].codec,
  };
}

function step(by) {
  const i = exhibits.indexOf(view.exhibit) + by;
  select(exhibits[(i + exhibits.length) % exhibits.length], codecs());
}

function rateTo(rate) {  // the same codecs and detail at another rate
  const {zoom, x, y} = view;
  const shown = codecs();
  view.rate = rate;
  select(view.exhibit, shown);
  Object.assign(view, {zoom, x, y});
  draw();
  keep();
}

function flip() {
  [view.left, view.right] = [view.right, view.left];
}

function choose(side, index) {
  if (index < view.exhibit.versions.length) view[side] = index;
}

// --- Drawing ---------------------------------------------------------------

function measure() {
  const {width, height} = view.exhibit;
  const most = Math.max(240, window.innerHeight);
  frame.width = viewer.clientWidth;
  view.fit = LEVELS.findLast(
    (s) => s * width <= frame.width && s * height <= most
  ) ?? Math.min(frame.width / width, most / height);
  view.stops = view.fit < 1 ? [view.fit, ...LEVELS] : LEVELS;
  frame.height = Math.round(view.fit * height);
  stage.style.height = `${frame.height}px`;
}

// Moves the stage to whole pixels: between them, the browser blends both
// versions along the edge.
function settle() {
  Object.assign(stage.style, {left: 0, top: 0});
  const box = stage.getBoundingClientRect();
  const [x, y] = [box.left + window.scrollX, box.top + window.scrollY];
  Object.assign(stage.style, {
    left: `${Math.round(x) - x}px`, top: `${Math.round(y) - y}px`,
  });
}

function place(scale, size, length, middle) {
  const extent = scale * size;
  return extent <= length ? (length - extent) / 2
    : clamp(length / 2 - scale * middle, length - extent, 0);
}

function draw() {
  const {exhibit} = view;
  const scale = view.zoom ?? view.fit;
  const [width, height] = [scale * exhibit.width, scale * exhibit.height];
  const x = place(scale, exhibit.width, frame.width, view.x);
  const y = place(scale, exhibit.height, frame.height, view.y);
  // place() may have moved it, to show nothing beyond the edges.
  view.x = (frame.width / 2 - x) / scale;
  view.y = (frame.height / 2 - y) / scale;
  const [left, top] = [Math.round(x), Math.round(y)];
  const [from, to] = [Math.max(left, 0), Math.min(left + width, frame.width)];
  const above = Math.max(top, 0);
  const below = Math.min(top + height, frame.height);
  const split = Math.round(from + view.split * (to - from));
  shown = {
    scale, x, y, from, to, split,
    pans: width > frame.width + 1 || height > frame.height + 1,
  };

  stage.classList.toggle('pans', shown.pans);
  for (const [name, value] of Object.entries({from, to, above})) {
    stage.style.setProperty(`--${name}`, `${value}px`);
  }
  for (const side of sides) {
    const version = exhibit.versions[view[side]];
    const image = version.shown[side] ??= element('img', {
      src: version.image.src, alt: version.image.alt, decoding: 'sync',
      draggable: false,
    });
    image.classList.toggle('reduced', scale < 1);
    Object.assign(image.style, {
      left: `${left}px`, top: `${top}px`, width: `${width}px`,
      height: `${height}px`,
    });
    const layer = find(`#${side}-side`);
    if (layer.firstChild !== image) {
      layer.replaceChildren(
        image, element('span', {textContent: version.codec})
      );
      find(`#${side}-caption`).replaceChildren(
        ...version.caption.cloneNode(true).childNodes
      );
      find(`#${side}`).value = view[side];
    }
  }
  find('#left-side').style.clipPath =
    `inset(0 ${frame.width - split}px 0 0)`;
  Object.assign(divider.style, {
    top: `${above}px`, height: `${below - above}px`,
    transform: `translateX(${split}px)`,
  });
  const percent = Math.round(100 * view.split);
  const {left: before, right: after} = codecs();
  divider.setAttribute('aria-valuenow', percent);
  divider.setAttribute(
    'aria-valuetext', `${percent} % ${before}, the rest ${after}`
  );
  for (const button of zoom.children) {
    const level = button.value ? +button.value : null;
    button.hidden = !level && view.fit >= 1;
    button.setAttribute(
      'aria-pressed', !button.hidden && scale === (level ?? view.fit)
    );
  }
}

function zoomTo(scale, x = frame.width / 2, y = frame.height / 2) {
  scale = clamp(scale, view.stops[0], LEVELS.at(-1));
  view.x = (x - shown.x) / shown.scale + (frame.width / 2 - x) / scale;
  view.y = (y - shown.y) / shown.scale + (frame.height / 2 - y) / scale;
  view.zoom = scale === view.fit ? null : scale;
  draw();
}

function zoomBy(steps, x, y) {
  const stop = steps > 0 ? view.stops.find((s) => s > shown.scale)
    : view.stops.findLast((s) => s < shown.scale);
  if (stop) zoomTo(stop, x, y);
}

function pan(x, y) {
  view.x -= x / shown.scale;
  view.y -= y / shown.scale;
  draw();
}

function splitAt(x) {
  view.split = clamp((x - shown.from) / (shown.to - shown.from), 0, 1);
  draw();
}

// --- The address -----------------------------------------------------------

let kept = 0;
function keep() {  // delayed: browsers limit how often an address may change
  clearTimeout(kept);
  kept = setTimeout(write, 150);
}

function write() {
  const state = new URLSearchParams(
    {picture: view.exhibit.name, ...codecs()}
  );
  if (view.exhibit.rates.length > 1) state.set('rate', view.rate);
  if (view.zoom) {
    state.set('zoom', view.zoom);
    state.set('at', `${Math.round(view.x)},${Math.round(view.y)}`);
  }
  history.replaceState(null, '', `#${state}`);
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  const named = exhibits.find((e) => e.name === state.get('picture'));
  view.rate = state.get('rate');
  select(named ?? exhibits[0], {
    left: state.get('left'), right: state.get('right'),
  });
  const at = (state.get('at') ?? '').split(',').map(Number);
  if (view.stops.includes(+state.get('zoom'))) view.zoom = +state.get('zoom');
  if (at.length === 2 && at.every(Number.isFinite)) [view.x, view.y] = at;
  draw();
  return Boolean(named);
}

// --- Pointers --------------------------------------------------------------

const pointers = new Map();
let gesture = null;  // 'split', 'pan', 'pinch', or 'tap' while undecided
let grab = {};
let lastTap = {time: -Infinity};

const at = (event) => {
  const box = stage.getBoundingClientRect();
  return {x: event.clientX - box.left, y: event.clientY - box.top};
};

function pinch() {
  const [a, b] = [...pointers.values()];
  return {
    x: (a.x + b.x) / 2, y: (a.y + b.y) / 2,
    apart: Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1),
  };
}

stage.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  const point = at(event);
  pointers.set(event.pointerId, point);
  if (pointers.size === 2) {
    gesture = 'pinch';
    grab = {...pinch(), scale: shown.scale};
  } else if (pointers.size === 1) {
    const held = event.target === divider;
    gesture = held ? 'split' : 'tap';
    grab = {...point, offset: held ? shown.split - point.x : 0};
    divider.focus({preventScroll: true, focusVisible: false});
  }
});

stage.addEventListener('pointermove', (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const point = at(event);
  pointers.set(event.pointerId, point);
  const [x, y] = [point.x - grab.x, point.y - grab.y];
  if (gesture === 'tap' && Math.hypot(x, y) > SLACK) {
    grab.moved = true;
    if (shown.pans) {
      gesture = 'pan';
      stage.classList.add('panning');
      pan(x, y);
    } else if (Math.abs(x) > Math.abs(y)) {  // or the page scrolls
      gesture = 'split';
    }
  } else if (gesture === 'pan') {
    pan(point.x - before.x, point.y - before.y);
  }
  if (gesture === 'split') splitAt(point.x + grab.offset);
  if (gesture === 'pinch') {
    const now = pinch();
    pan(now.x - grab.x, now.y - grab.y);
    zoomTo(grab.scale * now.apart / grab.apart, now.x, now.y);
    [grab.x, grab.y] = [now.x, now.y];
  }
});

function release(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (gesture === 'pinch') {  // snap to the nearest level
    const near = (s) => Math.abs(Math.log(s / shown.scale));
    const stop = view.stops.reduce((a, b) => near(b) < near(a) ? b : a);
    zoomTo(stop, grab.x, grab.y);
    gesture = null;
  }
  if (pointers.size) return;
  const still = gesture === 'tap' && !grab.moved;
  if (still && event.type === 'pointerup') tap(at(event));
  gesture = null;
  stage.classList.remove('panning');
  keep();
}
stage.addEventListener('pointerup', release);
stage.addEventListener('pointercancel', release);

function tap({x, y}) {
  const now = performance.now();
  const again = now - lastTap.time < DOUBLE_TAP
    && Math.hypot(x - lastTap.x, y - lastTap.y) < 24;
  lastTap = again ? {time: -Infinity} : {time: now, x, y};
  if (!again) return;
  if (shown.scale < LEVELS.at(-1)) zoomBy(1, x, y);
  else zoomTo(view.fit);
}

// One finger scrolls the page, two are for the image.
stage.addEventListener('touchstart', (event) => {
  if (event.touches.length > 1) event.preventDefault();
}, {passive: false});

let wheel = 0;
stage.addEventListener('wheel', (event) => {
  if (!event.ctrlKey) return;  // the page scrolls
  event.preventDefault();
  wheel += event.deltaY * (event.deltaMode ? 30 : 1);
  if (Math.abs(wheel) < 40) return;
  const {x, y} = at(event);
  zoomBy(-wheel, x, y);
  wheel = 0;
  keep();
}, {passive: false});

// --- Keys and controls -----------------------------------------------------

const nudge = (by) => { view.split = clamp(view.split + by, 0, 1); };
const KEYS = {
  ArrowLeft: () => nudge(-.01), ArrowRight: () => nudge(.01),
  ArrowDown: () => nudge(-.01), ArrowUp: () => nudge(.01),
  Home: () => nudge(-1), End: () => nudge(1),
  f: flip, n: () => step(1), p: () => step(-1),
  '+': () => zoomBy(1), '=': () => zoomBy(1), '-': () => zoomBy(-1),
  '0': () => zoomTo(view.fit), Escape: () => zoomTo(view.fit),
};
const PANS = {
  ArrowLeft: [64, 0], ArrowRight: [-64, 0], ArrowUp: [0, 64],
  ArrowDown: [0, -64],
};
// They scroll the page unless the divider has the focus.
const SLIDER_ONLY = ['ArrowDown', 'ArrowUp', 'Home', 'End'];

document.addEventListener('keydown', (event) => {
  const {target, key, shiftKey} = event;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (target.tagName === 'SELECT') return;
  if (target !== document.body && !viewer.contains(target)) return;
  const digit = /^Digit([1-9])$/.exec(event.code);
  const action = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (digit) choose(shiftKey ? 'left' : 'right', digit[1] - 1);
  else if (shiftKey && PANS[key]) pan(...PANS[key]);
  else if (SLIDER_ONLY.includes(key) && target !== divider) return;
  else if (action) action();
  else return;
  event.preventDefault();
  draw();
  keep();
});

for (const side of sides) {
  const box = find(`#${side}`);
  let byPointer = false;
  box.addEventListener('pointerdown', () => { byPointer = true; });
  box.addEventListener('keydown', () => { byPointer = false; });
  box.addEventListener('change', () => {
    choose(side, +box.value);
    draw();
    keep();
    // Or else the next key press would select an option.
    if (byPointer) divider.focus({preventScroll: true, focusVisible: false});
  });
}
find('#flip').addEventListener('click', () => { flip(); draw(); keep(); });

const zoom = find('.zoom');
for (const level of [null, ...LEVELS]) {
  const button = element('button', {
    type: 'button', value: level ?? '',
    textContent: level ? `${level}\u00d7` : 'Fit',
  });
  button.addEventListener('click', () => {
    zoomTo(level ?? view.fit);
    keep();
  });
  zoom.append(button);
}

const chooser = find('.chooser');
chooser.hidden = exhibits.length < 2;
if (!chooser.hidden) {
  for (const exhibit of exhibits) {
    const {src} = exhibit.versions[0].image;
    const button = element(
      'button', {type: 'button', title: exhibit.name},
      element('img', {src, alt: ''}),
      element('span', {textContent: exhibit.name, dir: 'auto'}),
    );
    button.addEventListener('click', () => {
      select(exhibit, codecs());
      draw();
      keep();
    });
    chooser.append(button);
  }
}

// --- Start -----------------------------------------------------------------

const open = (isOpen) => exhibits.forEach((e) => { e.element.open = isOpen; });
window.addEventListener('beforeprint', () => open(true));
window.addEventListener('afterprint', () => open(false));
window.addEventListener('hashchange', restore);
section.classList.add('compares');
viewer.hidden = false;
open(false);
const linked = restore();
new ResizeObserver(() => {
  if (viewer.clientWidth !== frame.width) {
    measure();
    draw();
  }
  settle();
}).observe(document.body);
const [visit] = performance.getEntriesByType('navigation');
if (linked && visit?.type === 'navigate') section.scrollIntoView();
})();

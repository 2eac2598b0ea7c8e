// The page viewer.html?src=FILE&src=FILE: one file at a time, its controls, and what was measured.
// Every `src` is a file of this server; `unit=metre` says that lengths are metres where the file does not.

import * as THREE from 'three';
import { makePyramids } from './cameras.js';
import { dispose, loadFile, loadUrl } from './load.js';
import { Measure } from './measure.js';
import { Stage } from './stage.js';

const NARROW = 800; // pixels below which the controls are folded at first
const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const sources = query.getAll('src');
const stage = new Stage($('canvas'));
const measure = new Measure(stage, showDistance);
const eye = new THREE.Vector3();
let result = null;
let pyramids = null;
let range = [0, 1]; // distances of the nearest and the farthest point from the first camera
let loading = null;

measure.results = () => (result ? [result] : []);
stage.beforeDraw.push(prepare);
window.viewer = { stage, measure, ready: Promise.resolve(), result: () => result };

function say(text) {
  $('message').textContent = text;
  $('message').hidden = !text;
}

async function open(load) {
  loading?.abort();
  const mine = (loading = new AbortController());
  say('Loading …');
  try {
    const loaded = await load(mine.signal);
    if (mine.signal.aborted) return dispose(loaded);
    show(loaded);
    say('');
  } catch (error) {
    if (!mine.signal.aborted) say(`This file cannot be shown: ${error.message}`);
  }
}

function show(loaded) {
  if (result) dispose(result);
  pyramids?.removeFromParent();
  pyramids?.geometry.dispose();
  result = loaded;
  measure.clear();
  stage.scene.add(result.root);
  result.root.updateMatrixWorld(true);
  const first = result.cameras[0];
  eye.set(0, 0, 0);
  if (first) first.getWorldPosition(eye);
  const box = robustBox();
  range = distances();
  pyramids = result.cameras.length ? makePyramids(result.cameras, box.getSize(new THREE.Vector3()).length() * 0.03) : null;
  if (pyramids) stage.scene.add(pyramids);
  for (const splats of result.splats) splats.userData.sorter.onSorted = () => stage.invalidate();
  listCameras();
  resetSliders();
  stage.frame(box, first ? eye : new THREE.Vector3(0, 0, 1).multiplyScalar(1e6));
  showFacts();
}

// From the 2nd to the 98th percentile of each axis: a few points far away must not make the rest a speck.
function robustBox() {
  const box = new THREE.Box3();
  const at = new THREE.Vector3();
  for (const [object, positions] of pointArrays()) {
    const axes = [[], [], []];
    const step = Math.max(1, Math.floor(positions.length / 3 / 20000));
    for (let i = 0; i < positions.length / 3; i += step) {
      at.fromArray(positions, 3 * i).applyMatrix4(object.matrixWorld);
      axes.forEach((axis, k) => axis.push(at.getComponent(k)));
    }
    axes.forEach((axis) => axis.sort((a, b) => a - b));
    const pick = (share) => new THREE.Vector3(...axes.map((axis) => axis[Math.floor(share * (axis.length - 1))]));
    if (axes[0].length) box.expandByPoint(pick(0.02)).expandByPoint(pick(0.98));
  }
  for (const mesh of result.meshes) box.expandByObject(mesh);
  return box.isEmpty() ? new THREE.Box3(new THREE.Vector3(-1, -1, -1), new THREE.Vector3(1, 1, 1)) : box;
}

function pointArrays() {
  return [
    ...result.clouds.map((cloud) => [cloud, cloud.geometry.getAttribute('position').array]),
    ...result.splats.map((splats) => [splats, splats.userData.means]),
  ];
}

function distances() {
  let [low, high] = [Infinity, 0];
  const at = new THREE.Vector3();
  for (const [object, positions] of pointArrays()) {
    const local = object.worldToLocal(eye.clone());
    for (const uniforms of [object.material.uniforms]) uniforms.eye.value.copy(local);
    for (let i = 0; i < positions.length / 3; i++) {
      const away = at.fromArray(positions, 3 * i).distanceTo(local);
      if (away < low) low = away;
      if (away > high) high = away;
    }
  }
  return high > low ? [low, high] : [0, 1];
}

// The slider moves evenly in ratios, so that near things can be told apart as well as far ones.
function distanceAt(share) {
  const low = Math.max(range[0], range[1] * 1e-3);
  return low * (range[1] / low) ** share;
}

function applySliders() {
  const [near, far, sure] = ['near', 'far', 'confidence'].map((id) => Number($(id).value));
  const bounds = confidenceRange();
  const least = bounds ? bounds[0] + sure * (bounds[1] - bounds[0]) : -Infinity;
  for (const [object] of result ? pointArrays() : []) {
    const { uniforms } = object.material;
    uniforms.nearest.value = near > 0 ? distanceAt(near) : 0;
    uniforms.farthest.value = far < 1 ? distanceAt(far) : Infinity;
    if (uniforms.leastConfidence) uniforms.leastConfidence.value = sure > 0 ? least : -Infinity;
  }
  $('near-value').textContent = near > 0 ? length(distanceAt(near)) : '';
  $('far-value').textContent = far < 1 ? length(distanceAt(far)) : '';
  $('confidence-value').textContent = bounds && sure > 0 ? least.toFixed(2) : '';
  if (pyramids) pyramids.visible = $('cameras').checked;
  stage.invalidate();
}

function confidenceRange() {
  return result?.clouds.map((cloud) => cloud.userData.confidenceRange).find(Boolean) ?? null;
}

function resetSliders() {
  $('near').value = 0;
  $('far').value = 1;
  $('confidence').value = 0;
  const points = pointArrays().length > 0;
  for (const id of ['near', 'far', 'size']) $(id).disabled = !points;
  $('confidence').disabled = !confidenceRange();
  $('confidence').title = confidenceRange() ? '' : 'This file holds no confidence.';
  $('cameras').disabled = !pyramids;
  applySliders();
}

function prepare(camera) {
  const { renderer } = stage;
  const pixels = renderer.getDrawingBufferSize(new THREE.Vector2());
  if (stage.stereo) pixels.x /= 2;
  camera.updateMatrixWorld();
  for (const cloud of result?.clouds ?? []) {
    const { uniforms } = cloud.material;
    const spacing = (0.7 * stage.size) / Math.sqrt(cloud.geometry.getAttribute('position').count);
    uniforms.pointSize.value = spacing * 8 ** (2 * Number($('size').value) - 1);
    uniforms.pixelsPerUnit.value = (0.5 * pixels.y) / Math.tan(THREE.MathUtils.degToRad(camera.fov) / 2);
  }
  for (const splats of result?.splats ?? []) {
    splats.material.uniforms.viewport.value.copy(pixels);
    splats.userData.sorter.update(camera);
  }
}

function metric() {
  return result?.metric ?? query.get('unit') === 'metre';
}

function length(value) {
  return metric() ? `${value.toFixed(value < 10 ? 3 : 2)} m` : `${value.toPrecision(4)} units`;
}

function showDistance(points) {
  const texts = ['Click the first point.', 'Click the second point.'];
  $('distance').hidden = !measure.enabled;
  $('distance').textContent =
    points.length < 2 ? texts[points.length] : length(points[0].distanceTo(points[1])) + (metric() ? '' : ' (relative scale)');
}

function showFacts(timing = null) {
  const count = (things, size) => things.reduce((sum, thing) => sum + size(thing), 0);
  const parts = [
    [count(result.clouds, (cloud) => cloud.geometry.getAttribute('position').count), 'points'],
    [count(result.splats, (splats) => splats.geometry.instanceCount), 'Gaussians'],
    [count(result.meshes, (mesh) => (mesh.geometry.index?.count ?? mesh.geometry.getAttribute('position').count) / 3), 'triangles'],
    [result.cameras.length, 'cameras'],
  ].filter(([number]) => number);
  const unit = metric() ? 'metres' : 'relative scale';
  const text = [...parts.map(([number, noun]) => `${Math.round(number).toLocaleString('en')} ${noun}`), unit];
  if (timing) text.push(`${timing.milliseconds.toFixed(1)} ms per frame, ${timing.drawCalls} draw calls`);
  $('facts').textContent = text.join(' · ');
}

function listCameras() {
  const names = result.cameras.map((camera, i) => camera.parent?.name || camera.name || `view ${i}`);
  $('camera').replaceChildren(new Option('–', ''), ...names.map((name, i) => new Option(name, String(i))));
  $('camera-row').hidden = !names.length;
}

function listSources() {
  const names = sources.map((source) => decodeURIComponent(new URL(source, document.baseURI).pathname.split('/').pop()));
  $('file').replaceChildren(...names.map((name, i) => new Option(name, String(i))));
  $('file-row').hidden = sources.length < 2;
}

function connect() {
  for (const id of ['size', 'near', 'far', 'confidence', 'cameras']) $(id).addEventListener('input', applySliders);
  for (const radio of document.getElementsByName('move')) {
    radio.addEventListener('change', () => {
      stage.setMode(radio.value);
      $('canvas').focus();
    });
  }
  $('reset').addEventListener('click', () => result && stage.frame(robustBox(), result.cameras.length ? eye : null));
  $('camera').addEventListener('change', () => {
    const chosen = result.cameras[Number($('camera').value)];
    if ($('camera').value !== '' && chosen) stage.lookThrough(chosen);
  });
  $('measure').addEventListener('change', () => {
    measure.enabled = $('measure').checked;
    measure.clear();
  });
  $('benchmark').addEventListener('click', () => result && showFacts(stage.time()));
  $('local').addEventListener('change', () => {
    const [file] = $('local').files;
    if (file) window.viewer.ready = open(() => loadFile(file));
  });
  $('file').addEventListener('change', () => openSource(Number($('file').value)));
}

function openSource(index) {
  window.viewer.ready = open((signal) => loadUrl(sources[index], signal));
}

$('controls').open = window.innerWidth > NARROW;
connect();
listSources();
showDistance([]);
if (sources.length) openSource(0);
else say('Open a .glb, .ply or .splat file.');

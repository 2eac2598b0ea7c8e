// Files to things that can be shown: GLB (points, meshes, cameras), PLY (points, meshes, Gaussians), .splat (Gaussians).

import * as THREE from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { PLYLoader } from 'three/addons/loaders/PLYLoader.js';
import { makeCloud } from './cloud.js';
import { byteFromHarmonic, makeSplats } from './splats.js';

const LIMIT = 2 ** 31; // bytes; browsers hold no larger buffer reliably

// A result on screen: what to add to the scene, its points for picking, the cameras in it, and the unit of lengths.
// `metric` is true for metres, false for a relative scale, null where the file does not say.
class Result {
  constructor(root) {
    this.root = root;
    this.clouds = [];
    this.splats = [];
    this.meshes = [];
    this.cameras = [];
    this.metric = null;
  }
}

export async function loadUrl(url, signal) {
  const address = new URL(url, document.baseURI);
  if (address.origin !== location.origin) throw new Error('Only files of this server are opened.');
  const answer = await fetch(address, { signal, credentials: 'same-origin' });
  if (!answer.ok) throw new Error(`The server answered ${answer.status} for this file.`);
  return parse(await answer.arrayBuffer(), address.pathname);
}

export async function loadFile(file) {
  if (file.size > LIMIT) throw new Error('The file is too large for a browser.');
  return parse(await file.arrayBuffer(), file.name);
}

export async function parse(buffer, name) {
  const suffix = name.slice(name.lastIndexOf('.')).toLowerCase();
  if (suffix === '.glb') return fromGlb(buffer);
  if (suffix === '.ply') return fromPly(buffer);
  if (suffix === '.splat') return fromSplat(buffer);
  throw new Error(`Files that end in ${suffix} cannot be shown; .glb, .ply and .splat can.`);
}

async function fromGlb(buffer) {
  const gltf = await new GLTFLoader().parseAsync(buffer, '');
  const result = new Result(gltf.scene);
  if ('scale' in gltf.scene.userData) result.metric = gltf.scene.userData.scale === 'metric';
  gltf.scene.updateMatrixWorld(true);
  result.cameras = gltf.cameras.filter((camera) => camera.isPerspectiveCamera);
  const found = { points: [], lines: [] };
  gltf.scene.traverse((thing) => {
    if (thing.isPoints) found.points.push(thing);
    else if (thing.isLineSegments) found.lines.push(thing);
    else if (thing.isMesh) result.meshes.push(thing);
  });
  for (const points of found.points) result.clouds.push(replaceByCloud(points));
  // The viewer draws all cameras in one call; without cameras in the file its lines are all there is.
  if (result.cameras.length) for (const lines of found.lines) lines.removeFromParent();
  return result;
}

function replaceByCloud(points) {
  const confidence = points.geometry.getAttribute('_confidence');
  if (confidence) points.geometry.setAttribute('confidence', confidence);
  const cloud = makeCloud(points.geometry);
  cloud.name = points.name;
  cloud.applyMatrix4(points.matrix);
  points.parent.add(cloud);
  points.removeFromParent();
  return cloud;
}

function fromPly(buffer) {
  const header = new TextDecoder('latin1').decode(buffer.slice(0, 65536)).split('end_header')[0];
  const has = (name) => new RegExp(`^property \\S+ ${name}\\s*$`, 'm').test(header);
  const result = new Result(standing(header));
  const unit = /^comment unit: (\S+)/m.exec(header);
  if (unit) result.metric = unit[1] === 'metre';
  const loader = new PLYLoader();
  if (has('f_dc_0') && has('rot_3')) {
    loader.setCustomPropertyNameMapping(GAUSSIAN_PROPERTIES);
    add(result, 'splats', makeSplats(gaussiansOf(loader.parse(buffer))));
  } else {
    if (has('confidence')) loader.setCustomPropertyNameMapping({ confidence: ['confidence'] });
    const geometry = loader.parse(buffer);
    if (geometry.index && geometry.index.count) add(result, 'meshes', meshOf(geometry));
    else add(result, 'clouds', makeCloud(geometry));
  }
  return result;
}

function add(result, kind, thing) {
  result[kind].push(thing);
  result.root.add(thing);
}

// PLY has the axes of OpenCV (y down) unless it says that z is up; the viewer has y up.
function standing(header) {
  const root = new THREE.Group();
  root.rotation.x = /^comment frame: .*z up/m.test(header) ? -Math.PI / 2 : Math.PI;
  return root;
}

function meshOf(geometry) {
  const coloured = Boolean(geometry.getAttribute('color'));
  if (!coloured) geometry.computeVertexNormals();
  const material = coloured
    ? new THREE.MeshBasicMaterial({ vertexColors: true, side: THREE.DoubleSide })
    : new THREE.MeshNormalMaterial({ side: THREE.DoubleSide });
  return new THREE.Mesh(geometry, material);
}

const GAUSSIAN_PROPERTIES = {
  harmonics: ['f_dc_0', 'f_dc_1', 'f_dc_2'],
  opacities: ['opacity'],
  scales: ['scale_0', 'scale_1', 'scale_2'],
  rotations: ['rot_0', 'rot_1', 'rot_2', 'rot_3'],
};

function gaussiansOf(geometry) {
  const values = (name) => geometry.getAttribute(name).array;
  return {
    count: geometry.getAttribute('position').count,
    means: Float32Array.from(values('position')),
    scales: Float32Array.from(values('scales'), Math.exp),
    rotations: values('rotations'),
    colours: Uint8Array.from(values('harmonics'), byteFromHarmonic),
    opacities: Float32Array.from(values('opacities'), (logit) => 1 / (1 + Math.exp(-logit))),
  };
}

const SPLAT_BYTES = 32;

function fromSplat(buffer) {
  const count = Math.floor(buffer.byteLength / SPLAT_BYTES);
  if (!count || buffer.byteLength % SPLAT_BYTES) throw new Error('This is not a .splat file.');
  const view = new DataView(buffer);
  const bytes = new Uint8Array(buffer);
  const g = {
    count, means: new Float32Array(3 * count), scales: new Float32Array(3 * count),
    rotations: new Float32Array(4 * count), colours: new Uint8Array(3 * count), opacities: new Float32Array(count),
  };
  for (let i = 0; i < count; i++) {
    const at = i * SPLAT_BYTES;
    for (let k = 0; k < 3; k++) {
      g.means[3 * i + k] = view.getFloat32(at + 4 * k, true);
      g.scales[3 * i + k] = view.getFloat32(at + 12 + 4 * k, true);
      g.colours[3 * i + k] = bytes[at + 24 + k];
    }
    g.opacities[i] = bytes[at + 27] / 255;
    for (let k = 0; k < 4; k++) g.rotations[4 * i + k] = (bytes[at + 28 + k] - 128) / 128;
  }
  const result = new Result(standing(''));
  add(result, 'splats', makeSplats(g));
  return result;
}

export function dispose(result) {
  result.root.removeFromParent();
  result.root.traverse((thing) => {
    thing.geometry?.dispose();
    thing.material?.dispose?.();
    for (const uniform of Object.values(thing.material?.uniforms ?? {})) uniform.value?.isTexture && uniform.value.dispose();
    thing.userData.sorter?.dispose();
  });
}

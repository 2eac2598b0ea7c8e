// A video with depth, as points that stand where the depth says. Colour and depth of a frame come in one message, and
// a frame is shown only when both are decoded; a frame that was overtaken by a newer one, or by a jump, is not shown.

import * as THREE from 'three';
import { VRButton } from 'three/addons/webxr/VRButton.js';
import { readFrame } from './frames.js';
import { Stage } from './stage.js';

const $ = (id) => document.getElementById(id);
const AHEAD = 2; // units from the eye at which the median of a relative scale is shown
const RETRY = 2000; // milliseconds

const VERTEX = `
  precision highp float;
  precision highp usampler2D;
  in vec3 position;
  uniform mat4 modelViewMatrix, projectionMatrix;
  uniform usampler2D depth;
  uniform sampler2D colour;
  uniform vec2 size;
  uniform vec4 lens;
  uniform float near, far, scale, farthest, pointSize, pixelsPerUnit;
  uniform bool edges;
  out vec3 shade;
  float at(ivec2 cell) {
    float code = float(texelFetch(depth, clamp(cell, ivec2(0), ivec2(size) - 1), 0).r);
    if (code < 0.5) return -1.0;
    return 1.0 / mix(1.0 / far, 1.0 / near, (code - 1.0) / 65534.0);
  }
  void main() {
    ivec2 cell = ivec2(position.xy);
    float z = at(cell);
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    if (z <= 0.0 || z > farthest) return;
    if (edges) {
      float least = min(min(at(cell + ivec2(1, 0)), at(cell - ivec2(1, 0))), min(at(cell + ivec2(0, 1)), at(cell - ivec2(0, 1))));
      if (least > 0.0 && z > 1.08 * least) return;
    }
    vec2 pixel = vec2(cell) + 0.5;
    vec3 place = scale * z * vec3((pixel - lens.zw) / lens.xy, 1.0);
    vec4 seen = modelViewMatrix * vec4(place.x, -place.y, -place.z, 1.0);
    gl_Position = projectionMatrix * seen;
    gl_PointSize = clamp(pointSize * scale * z / min(lens.x, lens.y) * pixelsPerUnit / max(-seen.z, 1e-6), 1.0, 64.0);
    shade = texelFetch(colour, cell, 0).rgb;
  }`;
const FRAGMENT = `
  precision highp float;
  in vec3 shade;
  out vec4 pixel;
  void main() { pixel = vec4(shade, 1.0); }`;

class Screen {
  constructor(stage) {
    this.uniforms = {
      depth: { value: null }, colour: { value: null }, size: { value: new THREE.Vector2(1, 1) }, lens: { value: new THREE.Vector4(1, 1, 0, 0) },
      near: { value: 1 }, far: { value: 2 }, scale: { value: 1 }, farthest: { value: Infinity },
      pointSize: { value: 1 }, pixelsPerUnit: { value: 1 }, edges: { value: true },
    };
    const material = new THREE.RawShaderMaterial({
      glslVersion: THREE.GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms: this.uniforms,
    });
    this.points = new THREE.Points(new THREE.BufferGeometry(), material);
    this.points.frustumCulled = false;
    this.points.visible = false;
    stage.scene.add(this.points);
  }

  show(frame, picture) {
    if (this.width !== frame.width || this.height !== frame.height) this._resize(frame);
    this.depth.image.data.set(frame.depth);
    this.depth.needsUpdate = true;
    this.uniforms.colour.value?.dispose();
    this.colour?.close();
    const texture = new THREE.Texture(picture);
    Object.assign(texture, { minFilter: THREE.NearestFilter, magFilter: THREE.NearestFilter, generateMipmaps: false, flipY: false, needsUpdate: true });
    this.colour = picture;
    this.uniforms.colour.value = texture;
    this.uniforms.lens.value.set(frame.fx, frame.fy, frame.cx, frame.cy);
    this.uniforms.near.value = frame.near;
    this.uniforms.far.value = frame.far;
    if (!this.points.visible) this.uniforms.scale.value = frame.metric ? 1 : AHEAD / median(frame);
    this.points.visible = true;
  }

  _resize({ width, height }) {
    [this.width, this.height] = [width, height];
    const cells = new Float32Array(width * height * 3);
    for (let i = 0; i < width * height; i++) cells.set([i % width, Math.floor(i / width), 0], 3 * i);
    this.points.geometry.dispose();
    this.points.geometry = new THREE.BufferGeometry();
    this.points.geometry.setAttribute('position', new THREE.BufferAttribute(cells, 3));
    this.uniforms.depth.value?.dispose();
    const format = [THREE.RedIntegerFormat, THREE.UnsignedShortType];
    this.depth = new THREE.DataTexture(new Uint16Array(width * height), width, height, ...format);
    this.depth.internalFormat = 'R16UI';
    this.depth.unpackAlignment = 2;
    this.uniforms.depth.value = this.depth;
    this.uniforms.size.value.set(width, height);
  }
}

function median(frame) {
  const codes = Array.from(frame.depth).filter((code) => code > 0).sort((a, b) => a - b);
  const share = ((codes[codes.length >> 1] ?? 1) - 1) / 65534;
  return 1 / (1 / frame.far + share * (1 / frame.near - 1 / frame.far));
}

const stage = new Stage($('canvas'));
const screen = new Screen(stage);
const state = { generation: 0, newest: -1, shown: 0, dropped: 0, timestamp: 0, playing: true, duration: null, seeking: false, rate: NaN, last: NaN, metric: false, model: '' };
let socket = null;
window.live = { stage, screen, state, send };

function connect() {
  const address = new URL('../stream', document.baseURI);
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  socket.onmessage = ({ data }) => (typeof data === 'string' ? hear(JSON.parse(data)) : receive(data));
  socket.onclose = ({ reason }) => {
    say(reason || 'The server is gone; trying again …');
    setTimeout(connect, RETRY);
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function say(text) {
  $('message').textContent = text;
  $('message').hidden = !text;
}

function hear(message) {
  if (message.type === 'hello') {
    Object.assign(state, { generation: 0, newest: -1, duration: message.duration, model: message.model });
    $('name').textContent = message.name;
    $('time').max = message.duration ?? 1;
    $('time').disabled = !message.duration;
    if (!state.playing) send({ type: 'pause' });
    say('Computing the first frame …');
  } else if (message.type === 'jump') {
    state.generation = message.generation;
  } else if (message.type === 'end') {
    if (message.error) say(message.error);
    else if ($('loop').checked && state.playing && state.shown) seek(0);
  }
}

async function receive(data) {
  let frame;
  try {
    frame = readFrame(data);
    if (frame.generation !== state.generation) return void state.dropped++;
    state.newest = Math.max(state.newest, frame.sequence);
    const picture = await createImageBitmap(frame.jpeg, { colorSpaceConversion: 'none' });
    if (frame.generation !== state.generation || frame.sequence < state.newest) {
      picture.close();
      return void state.dropped++;
    }
    show(frame, picture);
  } catch (error) {
    say(`A frame cannot be shown: ${error.message}`);
  } finally {
    send({ type: 'shown' });
  }
}

function show(frame, picture) {
  const first = !screen.points.visible;
  screen.show(frame, picture);
  const now = performance.now();
  if (now - state.last < 3000) state.rate = 0.9 * (state.rate || 1000 / (now - state.last)) + 0.1 * (1000 / (now - state.last));
  Object.assign(state, { last: now, timestamp: frame.timestamp, shown: state.shown + 1, metric: frame.metric });
  if (first) reset();
  if (!state.seeking) $('time').value = frame.timestamp;
  $('clock').textContent = `${frame.timestamp.toFixed(1)} s`;
  const rate = Number.isFinite(state.rate) ? `${state.rate.toFixed(1)} frames per second · ` : '';
  $('facts').textContent = `${rate}${frame.width} × ${frame.height} · ${frame.metric ? 'metres' : 'relative scale'} · ${state.model}`;
  say('');
  limits(frame);
  stage.invalidate();
}

function limits(frame) {
  const share = Number($('far').value);
  screen.uniforms.farthest.value = share < 1 ? frame.far * share ** 2 : Infinity;
  const value = frame.far * share ** 2 * (frame.metric ? 1 : screen.uniforms.scale.value);
  $('far-value').textContent = share < 1 ? `${value.toFixed(2)} ${frame.metric ? 'm' : 'units'}` : '';
}

// Where the camera of the video is: at the origin, looking along its axis; orbiting turns about what is in front.
function reset() {
  const { lens, size, scale } = screen.uniforms;
  stage.size = 4;
  Object.assign(stage.camera, { near: 0.01, far: 500 });
  stage.camera.fov = THREE.MathUtils.radToDeg(2 * Math.atan(size.value.y / 2 / lens.value.y));
  stage.camera.position.set(0, 0, 0);
  stage.camera.quaternion.identity();
  stage.orbit.target.set(0, 0, -(scale.value === 1 ? Math.min(AHEAD, screen.uniforms.far.value / 2) : AHEAD));
  stage.camera.updateProjectionMatrix();
  stage.orbit.update();
  stage.moved();
}

function seek(time) {
  send({ type: 'seek', time });
  state.generation = -1; // until the server says which one it is
}

function setPlaying(playing) {
  state.playing = playing;
  $('play').textContent = playing ? 'Pause' : 'Play';
  $('play').setAttribute('aria-pressed', String(playing));
  send({ type: playing ? 'play' : 'pause' });
}

function arrange() {
  stage.stereo = $('stereo').checked ? new THREE.StereoCamera() : null;
  if (stage.stereo) stage.stereo.eyeSep = Number($('eyes').value);
  stage.camera.focus = -stage.orbit.target.z || AHEAD;
  screen.uniforms.edges.value = $('edges').checked;
  stage.invalidate();
}

// A headset has pixels and a field of view of its own.
stage.beforeDraw.push((camera) => {
  const eye = (stage.renderer.xr.isPresenting && stage.renderer.xr.getCamera().cameras[0]) || camera;
  const height = eye.viewport?.w ?? stage.renderer.getDrawingBufferSize(new THREE.Vector2()).y;
  screen.uniforms.pointSize.value = Number($('size').value);
  screen.uniforms.pixelsPerUnit.value = (height / 2) * eye.projectionMatrix.elements[5];
});
for (const id of ['stereo', 'eyes', 'size', 'far', 'edges']) $(id).addEventListener('input', arrange);
for (const radio of document.getElementsByName('move')) radio.addEventListener('change', () => stage.setMode(radio.value));
$('play').addEventListener('click', () => setPlaying(!state.playing));
$('reset').addEventListener('click', reset);
$('time').addEventListener('input', () => { state.seeking = true; });
$('time').addEventListener('change', () => {
  state.seeking = false;
  seek(Number($('time').value));
});
stage.renderer.xr.enabled = true;
stage.renderer.xr.setReferenceSpaceType('local');
stage.renderer.xr.addEventListener('sessionend', reset); // its place and lens are left in the camera
$('vr').append(VRButton.createButton(stage.renderer));
arrange();
connect();

// 3D Gaussians in one draw call: every Gaussian is a quad that covers its footprint on the screen, drawn from back to
// front. The footprint follows Zwicker et al., "EWA splatting" (2002): the covariance through the view and the
// derivative of the projection, plus 0.3 pixels squared so that nothing is thinner than a pixel.

import * as THREE from 'three';

const WIDTH = 2048; // of the textures that hold the Gaussians
const C0 = 0.28209479177387814; // spherical harmonic of degree 0

const VERTEX = `
  precision highp float;
  precision highp int;
  precision highp sampler2D;
  in vec3 position;
  in float order;
  uniform mat4 modelViewMatrix, projectionMatrix;
  uniform sampler2D means, shapes, rest;
  uniform vec2 viewport;
  uniform vec3 eye;
  uniform float nearest, farthest;
  out vec2 at;
  out vec4 shade;
  void main() {
    int index = int(order);
    ivec2 cell = ivec2(index % ${WIDTH}, index / ${WIDTH});
    vec4 mean = texelFetch(means, cell, 0), shape = texelFetch(shapes, cell, 0), other = texelFetch(rest, cell, 0);
    vec3 seen = (modelViewMatrix * vec4(mean.xyz, 1.0)).xyz;
    float away = distance(mean.xyz, eye);
    vec4 centre = projectionMatrix * vec4(seen, 1.0);
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    if (seen.z > -1e-4 || away < nearest || away > farthest) return;
    if (abs(centre.x) > 1.4 * centre.w || abs(centre.y) > 1.4 * centre.w) return;
    mat3 covariance = mat3(shape.x, shape.y, shape.z, shape.y, shape.w, other.x, shape.z, other.x, other.y);
    vec2 focal = 0.5 * viewport * vec2(projectionMatrix[0][0], projectionMatrix[1][1]);
    float depth = -seen.z;
    mat3 jacobian = mat3(
      focal.x / depth, 0.0, 0.0,
      0.0, focal.y / depth, 0.0,
      focal.x * seen.x / (depth * depth), focal.y * seen.y / (depth * depth), 0.0);
    mat3 map = jacobian * mat3(modelViewMatrix);
    mat3 flat_ = map * covariance * transpose(map);
    float a = flat_[0][0] + 0.3, b = flat_[0][1], c = flat_[1][1] + 0.3;
    float middle = 0.5 * (a + c), spread = length(vec2(0.5 * (a - c), b));
    float large = middle + spread, small = max(middle - spread, 0.1);
    vec2 axis = abs(b) < 1e-6 ? (a >= c ? vec2(1.0, 0.0) : vec2(0.0, 1.0)) : normalize(vec2(b, large - a));
    vec2 first = min(sqrt(large), 512.0) * axis, second = min(sqrt(small), 512.0) * vec2(-axis.y, axis.x);
    at = position.xy * 3.0;
    shade = vec4(mod(other.z, 256.0), floor(other.z / 256.0), other.w, 255.0 * mean.w) / 255.0;
    vec2 offset = (at.x * first + at.y * second) / viewport * 2.0;
    gl_Position = vec4(centre.xy / centre.w + offset, centre.z / centre.w, 1.0);
  }`;
const FRAGMENT = `
  precision highp float;
  in vec2 at;
  in vec4 shade;
  out vec4 pixel;
  void main() {
    float opacity = shade.a * exp(-0.5 * dot(at, at));
    if (opacity < 1.0 / 255.0) discard;
    pixel = vec4(shade.rgb * opacity, opacity);
  }`;

// gaussians: count, means (3), scales (3, deviations), rotations (4, w first), colours (3 bytes, sRGB), opacities.
export function makeSplats(gaussians) {
  const { count } = gaussians;
  const rows = Math.max(1, Math.ceil(count / WIDTH));
  const arrays = [0, 1, 2].map(() => new Float32Array(WIDTH * rows * 4));
  for (let i = 0; i < count; i++) pack(gaussians, i, arrays);
  const [means, shapes, rest] = arrays.map((data) => {
    const texture = new THREE.DataTexture(data, WIDTH, rows, THREE.RGBAFormat, THREE.FloatType);
    texture.needsUpdate = true;
    return texture;
  });
  const geometry = new THREE.InstancedBufferGeometry();
  geometry.setAttribute('position', new THREE.BufferAttribute(new Float32Array([-1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 1, 0]), 3));
  geometry.setIndex([0, 1, 2, 0, 2, 3]);
  const order = new THREE.InstancedBufferAttribute(Float32Array.from({ length: count }, (_, i) => i), 1);
  order.setUsage(THREE.DynamicDrawUsage);
  geometry.setAttribute('order', order);
  geometry.instanceCount = count;
  const material = new THREE.RawShaderMaterial({
    glslVersion: THREE.GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT,
    uniforms: {
      means: { value: means }, shapes: { value: shapes }, rest: { value: rest },
      viewport: { value: new THREE.Vector2(1, 1) }, eye: { value: new THREE.Vector3() },
      nearest: { value: 0 }, farthest: { value: Infinity },
    },
    transparent: true, depthWrite: false, blending: THREE.CustomBlending, blendSrc: THREE.OneFactor,
    blendDst: THREE.OneMinusSrcAlphaFactor, premultipliedAlpha: true,
  });
  const mesh = new THREE.Mesh(geometry, material);
  mesh.frustumCulled = false;
  mesh.userData.means = gaussians.means;
  mesh.userData.sorter = new Sorter(mesh, gaussians.means, order);
  return mesh;
}

function pack({ means, scales, rotations, colours, opacities }, i, [a, b, c]) {
  const [w, x, y, z] = unit(rotations, 4 * i);
  const [p, q, r] = [0, 1, 2].map((k) => scales[3 * i + k] ** 2);
  // Rows of the rotation; the covariance is R diag(s^2) R^T.
  const rows = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const entry = (m, n) => p * rows[m][0] * rows[n][0] + q * rows[m][1] * rows[n][1] + r * rows[m][2] * rows[n][2];
  a.set([means[3 * i], means[3 * i + 1], means[3 * i + 2], opacities[i]], 4 * i);
  b.set([entry(0, 0), entry(0, 1), entry(0, 2), entry(1, 1)], 4 * i);
  c.set([entry(1, 2), entry(2, 2), colours[3 * i] + 256 * colours[3 * i + 1], colours[3 * i + 2]], 4 * i);
}

function unit(values, at) {
  const length = Math.hypot(values[at], values[at + 1], values[at + 2], values[at + 3]) || 1;
  return [0, 1, 2, 3].map((k) => values[at + k] / length);
}

// Keeps the order from back to front, in a worker, and only when the view has turned or moved enough to matter.
class Sorter {
  constructor(mesh, means, order) {
    this.mesh = mesh;
    this.order = order;
    this.onSorted = () => {};
    this._busy = false;
    this._last = null;
    this._worker = new Worker(new URL('./sort-worker.js', import.meta.url), { type: 'module' });
    this._worker.onmessage = ({ data }) => {
      this.order.array.set(data.order);
      this.order.needsUpdate = true;
      this._busy = false;
      this.onSorted();
    };
    this._worker.postMessage({ means: means.slice() });
  }

  update(camera) {
    const view = new THREE.Matrix4().multiplyMatrices(camera.matrixWorldInverse, this.mesh.matrixWorld).elements;
    const row = [view[2], view[6], view[10], view[14]];
    if (this._busy || (this._last && row.every((value, k) => Math.abs(value - this._last[k]) < 0.01))) return;
    this._busy = true;
    this._last = row;
    this._worker.postMessage({ row });
  }

  dispose() {
    this._worker.terminate();
  }
}

// Coefficients of degree 0 as bytes; higher degrees would change the colour with the direction and are not drawn.
export function byteFromHarmonic(value) {
  return Math.min(255, Math.max(0, Math.round((0.5 + C0 * value) * 255)));
}

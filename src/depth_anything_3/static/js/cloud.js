// A cloud of coloured points in one draw call. What is too near, too far or too uncertain is left out by the shader.

import * as THREE from 'three';

const VERTEX = `
  attribute float confidence;
  uniform float pointSize, pixelsPerUnit, nearest, farthest, leastConfidence;
  uniform vec3 eye;
  varying vec3 shade;
  void main() {
    float away = distance(position, eye);
    if (away < nearest || away > farthest || confidence < leastConfidence) {
      gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
      return;
    }
    vec4 seen = modelViewMatrix * vec4(position, 1.0);
    gl_Position = projectionMatrix * seen;
    gl_PointSize = clamp(pointSize * pixelsPerUnit / max(-seen.z, 1e-6), 1.0, 48.0);
    shade = color.rgb;
  }`;
const FRAGMENT = `
  varying vec3 shade;
  void main() {
    gl_FragColor = vec4(shade, 1.0);
    #include <colorspace_fragment>
  }`;

export function cloudMaterial() {
  return new THREE.ShaderMaterial({
    vertexShader: VERTEX,
    fragmentShader: FRAGMENT,
    vertexColors: true,
    uniforms: {
      pointSize: { value: 1 }, pixelsPerUnit: { value: 1 }, eye: { value: new THREE.Vector3() },
      nearest: { value: 0 }, farthest: { value: Infinity }, leastConfidence: { value: -Infinity },
    },
  });
}

// geometry: `position`, and where known `color` (linear) and `confidence`.
export function makeCloud(geometry) {
  const count = geometry.getAttribute('position').count;
  if (!geometry.getAttribute('color')) {
    geometry.setAttribute('color', new THREE.BufferAttribute(new Float32Array(count * 3).fill(0.7), 3));
  }
  const known = geometry.getAttribute('confidence');
  if (!known) geometry.setAttribute('confidence', new THREE.BufferAttribute(new Float32Array(count).fill(1), 1));
  const cloud = new THREE.Points(geometry, cloudMaterial());
  cloud.frustumCulled = false;
  cloud.userData.confidenceRange = known ? quantileRange(known) : null;
  return cloud;
}

// Points of the cloud that the sliders leave, for picking.
export function isShown(cloud, index) {
  const { eye, nearest, farthest, leastConfidence } = cloud.material.uniforms;
  const at = new THREE.Vector3().fromBufferAttribute(cloud.geometry.getAttribute('position'), index);
  const away = at.distanceTo(eye.value);
  const sure = cloud.geometry.getAttribute('confidence').getX(index);
  return away >= nearest.value && away <= farthest.value && sure >= leastConfidence.value;
}

// Smallest value, and one that 1 point in 100 exceeds: a few very confident points would make a slider useless.
export function quantileRange(attribute) {
  const step = Math.max(1, Math.floor(attribute.count / 20000));
  const values = [];
  for (let i = 0; i < attribute.count; i += step) values.push(attribute.getX(i));
  values.sort((a, b) => a - b);
  return [values[0], values[Math.floor(values.length * 0.99)] || values[values.length - 1]];
}

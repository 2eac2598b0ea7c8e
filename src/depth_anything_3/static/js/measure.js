// The distance between two clicked points. A click takes the nearest point to the eye within a few pixels.

import * as THREE from 'three';
import { isShown } from './cloud.js';

const PIXELS = 6;
const MOVED = 4; // pixels after which a click is a drag
const LEAST_OPACITY = 0.2; // of a Gaussian that can be clicked

export class Measure {
  constructor(stage, onChange) {
    this.stage = stage;
    this.onChange = onChange; // called with the points so far: none, one or two
    this.enabled = false;
    this.results = () => [];
    this.points = [];
    this.group = new THREE.Group();
    stage.scene.add(this.group);
    const canvas = stage.renderer.domElement;
    let start = null;
    canvas.addEventListener('pointerdown', (event) => { start = [event.clientX, event.clientY]; });
    canvas.addEventListener('pointerup', (event) => {
      if (!this.enabled || !start || event.button !== 0) return;
      if (Math.hypot(event.clientX - start[0], event.clientY - start[1]) > MOVED) return;
      const box = canvas.getBoundingClientRect();
      this.click(event.clientX - box.left, event.clientY - box.top);
    });
  }

  click(x, y) {
    const point = this.pick(x, y);
    if (!point) return;
    if (this.points.length === 2) this.points = [];
    this.points.push(point);
    this._draw();
  }

  clear() {
    this.points = [];
    this._draw();
  }

  // Point of the world under a pixel of the canvas, or null.
  pick(x, y) {
    const { clientWidth: width, clientHeight: height } = this.stage.renderer.domElement;
    const camera = this.stage.camera;
    camera.updateMatrixWorld();
    let best = null;
    const offer = (point) => {
      if (point && (!best || point.distanceTo(camera.position) < best.distanceTo(camera.position))) best = point;
    };
    for (const result of this.results()) {
      for (const cloud of result.clouds) {
        const positions = cloud.geometry.getAttribute('position').array;
        offer(nearestPoint(cloud, positions, camera, x, y, width, height, (i) => isShown(cloud, i)));
      }
      for (const splats of result.splats) {
        const opacities = splats.material.uniforms.means.value.image.data;
        const solid = (i) => opacities[4 * i + 3] >= LEAST_OPACITY;
        offer(nearestPoint(splats, splats.userData.means, camera, x, y, width, height, solid));
      }
      if (result.meshes.length) {
        const ray = new THREE.Raycaster();
        ray.setFromCamera(new THREE.Vector2((2 * x) / width - 1, 1 - (2 * y) / height), camera);
        offer(ray.intersectObjects(result.meshes, false)[0]?.point ?? null);
      }
    }
    return best;
  }

  _draw() {
    for (const old of [...this.group.children]) {
      old.geometry.dispose();
      old.material.dispose();
      old.removeFromParent();
    }
    if (this.points.length) this._add();
    this.stage.invalidate();
    this.onChange(this.points);
  }

  _add() {
    const material = { color: 0xffd400, depthTest: false, transparent: true };
    const geometry = new THREE.BufferGeometry().setFromPoints(this.points);
    this.group.add(new THREE.Points(geometry, new THREE.PointsMaterial({ ...material, size: 9, sizeAttenuation: false })));
    if (this.points.length === 2) this.group.add(new THREE.Line(geometry.clone(), new THREE.LineBasicMaterial(material)));
    for (const thing of this.group.children) {
      thing.renderOrder = 10;
      thing.frustumCulled = false;
    }
  }
}

function nearestPoint(object, positions, camera, x, y, width, height, accepts) {
  object.updateWorldMatrix(true, false);
  const m = new THREE.Matrix4().multiplyMatrices(camera.projectionMatrix, camera.matrixWorldInverse)
    .multiply(object.matrixWorld).elements;
  let found = -1;
  let least = Infinity;
  for (let i = 0; i < positions.length / 3; i++) {
    const [a, b, c] = [positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]];
    const w = m[3] * a + m[7] * b + m[11] * c + m[15];
    if (w <= 0 || w >= least) continue;
    const u = ((m[0] * a + m[4] * b + m[8] * c + m[12]) / w + 1) * 0.5 * width;
    const v = (1 - (m[1] * a + m[5] * b + m[9] * c + m[13]) / w) * 0.5 * height;
    if (Math.abs(u - x) > PIXELS || Math.abs(v - y) > PIXELS || !accepts(i)) continue;
    least = w;
    found = i;
  }
  return found < 0 ? null : new THREE.Vector3().fromArray(positions, 3 * found).applyMatrix4(object.matrixWorld);
}

// First person: W A S D or the arrows, Q down, E up, Shift faster; drag to look around.

import * as THREE from 'three';

const KEYS = {
  KeyW: [0, 0, -1], ArrowUp: [0, 0, -1], KeyS: [0, 0, 1], ArrowDown: [0, 0, 1],
  KeyA: [-1, 0, 0], ArrowLeft: [-1, 0, 0], KeyD: [1, 0, 0], ArrowRight: [1, 0, 0],
  KeyQ: [0, -1, 0], KeyE: [0, 1, 0],
};
const RADIANS_PER_PIXEL = 0.003;

export class WalkControls {
  constructor(camera, element) {
    this.camera = camera;
    this.enabled = false;
    this.speed = 1; // units per second
    this.onChange = () => {};
    this._down = new Set();
    this._fast = false;
    element.addEventListener('keydown', (event) => this._key(event, true));
    element.addEventListener('keyup', (event) => this._key(event, false));
    element.addEventListener('blur', () => this._down.clear());
    element.addEventListener('pointerdown', () => element.focus());
    element.addEventListener('pointermove', (event) => this._look(event));
  }

  update(seconds) {
    if (!this._down.size) return;
    const step = new THREE.Vector3();
    for (const code of this._down) step.add(new THREE.Vector3(...KEYS[code]));
    step.setLength(this.speed * Math.min(seconds, 0.1) * (this._fast ? 4 : 1));
    this.camera.position.add(step.applyQuaternion(this.camera.quaternion));
    this.onChange();
  }

  _key(event, down) {
    this._fast = event.shiftKey;
    if (!this.enabled || !(event.code in KEYS)) return;
    event.preventDefault();
    if (down) this._down.add(event.code);
    else this._down.delete(event.code);
    this.onChange();
  }

  _look(event) {
    if (!this.enabled || !(event.buttons & 1)) return;
    const turn = new THREE.Euler().setFromQuaternion(this.camera.quaternion, 'YXZ');
    turn.y -= event.movementX * RADIANS_PER_PIXEL;
    turn.x = THREE.MathUtils.clamp(turn.x - event.movementY * RADIANS_PER_PIXEL, -1.55, 1.55);
    turn.z = 0;
    this.camera.quaternion.setFromEuler(turn);
    this.onChange();
  }
}

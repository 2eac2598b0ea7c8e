// The canvas, the camera and when to draw. Y is up; nothing is drawn while nothing changes.

import * as THREE from 'three';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
import { WalkControls } from './walk.js';

const FIELD_OF_VIEW = 50;

export class Stage {
  constructor(canvas) {
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: false, powerPreference: 'high-performance' });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.scene = new THREE.Scene();
    this.scene.background = new THREE.Color(0x14171c);
    this.camera = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.01, 1000);
    this.stereo = null; // a THREE.StereoCamera draws both eyes side by side
    this.orbit = new OrbitControls(this.camera, canvas);
    this.walk = new WalkControls(this.camera, canvas);
    this.size = 1; // length that the speed of walking and the planes follow
    this.beforeDraw = []; // called with the camera
    this.afterMove = []; // called when the view changed
    this.frameTime = NaN; // milliseconds between frames while something moves
    this._dirty = true;
    this._last = NaN;
    this.orbit.addEventListener('change', () => this.moved());
    this.walk.onChange = () => this.moved();
    new ResizeObserver(() => this._fit()).observe(canvas.parentElement);
    this._fit();
    this.renderer.setAnimationLoop((time) => this._tick(time));
  }

  invalidate() {
    this._dirty = true;
  }

  moved() {
    this.invalidate();
    for (const listener of this.afterMove) listener();
  }

  setMode(mode) {
    this.orbit.enabled = mode === 'orbit';
    this.walk.enabled = mode === 'walk';
    if (mode === 'orbit') {
      const ahead = new THREE.Vector3(0, 0, -1).applyQuaternion(this.camera.quaternion);
      const distance = Math.max(this.camera.position.distanceTo(this.orbit.target), this.size * 0.1);
      this.orbit.target.copy(this.camera.position).addScaledVector(ahead, distance);
    }
  }

  // Show a box of the world from a little above, behind where `from` stands if that is known.
  frame(box, from) {
    const centre = box.getCenter(new THREE.Vector3());
    this.size = Math.max(box.getSize(new THREE.Vector3()).length(), 1e-6);
    this.camera.near = this.size * 1e-3;
    this.camera.far = this.size * 20;
    this.camera.fov = FIELD_OF_VIEW;
    const back = from ? from.clone().sub(centre) : new THREE.Vector3(0, 0, 1);
    if (back.length() < this.size * 0.05) back.set(0, 0, 1);
    back.setLength(this.size * 0.75).add(new THREE.Vector3(0, this.size * 0.15, 0));
    this.camera.position.copy(centre).add(back);
    this.orbit.target.copy(centre);
    this.camera.lookAt(centre);
    this.walk.speed = this.size * 0.25;
    this.camera.updateProjectionMatrix();
    this.orbit.update();
    this.moved();
  }

  // Stand where a camera of the result stood, looking the way it looked.
  lookThrough(camera) {
    camera.getWorldPosition(this.camera.position);
    camera.getWorldQuaternion(this.camera.quaternion);
    this.camera.fov = THREE.MathUtils.clamp(camera.fov, 5, 120);
    this.camera.updateProjectionMatrix();
    const ahead = new THREE.Vector3(0, 0, -1).applyQuaternion(this.camera.quaternion);
    this.orbit.target.copy(this.camera.position).addScaledVector(ahead, this.size * 0.3);
    this.moved();
  }

  pose() {
    return { position: this.camera.position.toArray(), quaternion: this.camera.quaternion.toArray(),
             target: this.orbit.target.toArray(), fov: this.camera.fov };
  }

  setPose(pose) {
    this.camera.position.fromArray(pose.position);
    this.camera.quaternion.fromArray(pose.quaternion);
    this.orbit.target.fromArray(pose.target);
    this.camera.fov = pose.fov;
    this.camera.updateProjectionMatrix();
    this.invalidate();
  }

  // Milliseconds per frame, each waited for: reading a pixel back ends only when everything is drawn.
  time(frames = 20) {
    const gl = this.renderer.getContext();
    const pixel = new Uint8Array(4);
    const angle = (2 * Math.PI) / 360;
    const start = performance.now();
    for (let i = 0; i < frames; i++) {
      this.camera.position.sub(this.orbit.target).applyAxisAngle(new THREE.Vector3(0, 1, 0), angle).add(this.orbit.target);
      this.camera.lookAt(this.orbit.target);
      this._draw();
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    }
    const calls = this.renderer.info.render.calls;
    this.moved();
    return { milliseconds: (performance.now() - start) / frames, drawCalls: calls };
  }

  _fit() {
    const { clientWidth: width, clientHeight: height } = this.renderer.domElement.parentElement;
    if (!width || !height || this.renderer.xr.isPresenting) return;
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.invalidate();
  }

  _tick(time) {
    const passed = time - this._last;
    this._last = time;
    if (this.walk.enabled) this.walk.update(passed / 1000 || 0);
    if (!this._dirty && !this.renderer.xr.isPresenting) {
      this._idle = true;
      return;
    }
    this._dirty = false;
    if (!this._idle && passed > 0) this.frameTime = 0.8 * (this.frameTime || passed) + 0.2 * passed;
    this._idle = false;
    this._draw();
  }

  _draw() {
    for (const listener of this.beforeDraw) listener(this.camera);
    if (!this.stereo || this.renderer.xr.isPresenting) {
      this.renderer.render(this.scene, this.camera);
      return;
    }
    const size = this.renderer.getSize(new THREE.Vector2());
    const half = size.x / 2;
    this.stereo.aspect = 0.5;
    this.scene.updateMatrixWorld();
    this.camera.updateMatrixWorld();
    this.stereo.update(this.camera);
    this.renderer.setScissorTest(true);
    for (const [eye, left] of [[this.stereo.cameraL, 0], [this.stereo.cameraR, half]]) {
      this.renderer.setScissor(left, 0, half, size.y);
      this.renderer.setViewport(left, 0, half, size.y);
      this.renderer.render(this.scene, eye);
    }
    this.renderer.setScissorTest(false);
    this.renderer.setViewport(0, 0, size.x, size.y);
  }
}

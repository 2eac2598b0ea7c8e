// All cameras of a result as one set of lines: a pyramid each, red to violet in the order of the views.

import * as THREE from 'three';

export function makePyramids(cameras, height) {
  const positions = [];
  const colours = [];
  cameras.forEach((camera, i) => {
    const tan = Math.tan(THREE.MathUtils.degToRad(camera.fov) / 2);
    const [x, y] = [tan * camera.aspect * height, tan * height];
    const apex = new THREE.Vector3();
    const corners = [[-x, y], [x, y], [x, -y], [-x, -y]].map(([a, b]) => new THREE.Vector3(a, b, -height));
    const colour = new THREE.Color().setHSL((i + 0.5) / cameras.length, 0.8, 0.55);
    corners.forEach((corner, k) => {
      for (const end of [apex, corner, corner, corners[(k + 1) % 4]]) {
        positions.push(...end.clone().applyMatrix4(camera.matrixWorld).toArray());
        colours.push(...colour.toArray());
      }
    });
  });
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute('position', new THREE.Float32BufferAttribute(positions, 3));
  geometry.setAttribute('color', new THREE.Float32BufferAttribute(colours, 3));
  const lines = new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ vertexColors: true }));
  lines.frustumCulled = false;
  return lines;
}

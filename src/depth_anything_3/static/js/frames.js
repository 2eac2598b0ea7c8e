// One frame as the server packs it: see view/frames.py.

const HEADER = 64;

export function readFrame(buffer) {
  const view = new DataView(buffer);
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (magic !== 'DA3V' || view.getUint16(4, true) !== 1) throw new Error('the server speaks another version; reload the page');
  const float = (at) => view.getFloat32(at, true);
  const [width, height] = [view.getUint16(24, true), view.getUint16(26, true)];
  const jpegBytes = view.getUint32(52, true);
  const depthStart = HEADER + jpegBytes;
  return {
    metric: Boolean(view.getUint16(6, true) & 1),
    sequence: view.getUint32(8, true),
    generation: view.getUint32(12, true),
    timestamp: view.getFloat64(16, true),
    width, height,
    fx: float(28), fy: float(32), cx: float(36), cy: float(40),
    near: float(44), far: float(48),
    jpeg: new Blob([new Uint8Array(buffer, HEADER, jpegBytes)], { type: 'image/jpeg' }),
    // A copy: the depth need not begin at an even byte.
    depth: new Uint16Array(buffer.slice(depthStart, depthStart + 2 * width * height)),
  };
}

// Sorts points by how far behind the image plane they are, farthest first: a counting sort over 16 bits.

let means = new Float32Array(0);

onmessage = ({ data }) => {
  if (data.means) means = data.means;
  if (data.row) postMessage({ order: sorted(data.row) });
};

function sorted([x, y, z, w]) {
  const count = means.length / 3;
  const depths = new Float32Array(count);
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < count; i++) {
    const depth = x * means[3 * i] + y * means[3 * i + 1] + z * means[3 * i + 2] + w; // negative in front
    depths[i] = depth;
    if (depth < low) low = depth;
    if (depth > high) high = depth;
  }
  const scale = 65535 / (high - low || 1);
  const starts = new Uint32Array(65537);
  for (let i = 0; i < count; i++) starts[Math.floor((depths[i] - low) * scale) + 1]++;
  for (let i = 1; i < starts.length; i++) starts[i] += starts[i - 1];
  const order = new Float32Array(count);
  for (let i = 0; i < count; i++) order[starts[Math.floor((depths[i] - low) * scale)]++] = i;
  return order;
}

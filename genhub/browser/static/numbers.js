// Random numbers of a seed, and arithmetic of latents.

/** Returns a source of standard normal numbers: mulberry32, then Box and Muller (1958). */
export function normals(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return (length) => Float32Array.from({ length }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

export const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);

/** Returns the i-th of the arrays of `length` that lie one after the other in `values`. */
export const part = (values, index, length) => values.slice(index * length, (index + 1) * length);

export function concat(arrays) {
  const all = new Float32Array(arrays.reduce((length, array) => length + array.length, 0));
  let offset = 0;
  for (const array of arrays) {
    all.set(array, offset);
    offset += array.length;
  }
  return all;
}

export const lerp = (start, end, weight) => start.map((value, index) => value + weight * (end[index] - value));

/** Goes along the arc between two latents (White 2016, arXiv 1609.04468, Sec. 2.1). */
export function slerp(start, end, weight) {
  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  const cosine = dot(start, end) / Math.sqrt(dot(start, start) * dot(end, end));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (Math.sin(angle) < 1e-4) return lerp(start, end, weight);
  const first = Math.sin((1 - weight) * angle) / Math.sin(angle);
  const second = Math.sin(weight * angle) / Math.sin(angle);
  return start.map((value, index) => first * value + second * end[index]);
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

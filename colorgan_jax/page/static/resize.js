// How arrays of pixels change size, as in colorgan_jax/upsampling.py: an axis that shrinks is
// averaged over areas, one that grows is interpolated cubically, and the result stays within
// the range of the values. Images are Float32Arrays, row by row, channels last.

const SHARPNESS = -0.75;

/**
 * What each new pixel of an axis takes from the old ones.
 * @returns {{first: Int32Array, count: number, weights: Float32Array}} new pixel n takes
 *   weights[n * count + k] of old pixel first[n] + k, or of the last one where that is beyond.
 */
export function axisWeights(old, size) {
  if (size <= old) {
    const scale = old / size;
    const count = Math.ceil(scale) + 1;
    const first = new Int32Array(size);
    const weights = new Float32Array(size * count);
    for (let n = 0; n < size; n++) {
      first[n] = Math.floor(n * scale);
      for (let k = 0; k < count; k++) {
        const pixel = first[n] + k;
        const overlap = Math.min(pixel + 1, (n + 1) * scale) - Math.max(pixel, n * scale);
        weights[n * count + k] = Math.max(overlap, 0) / scale;
      }
    }
    return { first, count, weights };
  }
  const count = 4;
  const first = new Int32Array(size);
  const weights = new Float32Array(size * count);
  for (let n = 0; n < size; n++) {
    const center = ((n + 0.5) * old) / size - 0.5;
    const start = Math.floor(center) - 1;
    // Of four pixels that are all within: beyond the border the outermost one is repeated.
    first[n] = Math.min(Math.max(start, 0), Math.max(old - count, 0));
    for (let k = 0; k < count; k++) {
      const pixel = Math.min(Math.max(start + k, 0), old - 1);
      weights[n * count + pixel - first[n]] += cubic(Math.abs(center - (start + k)));
    }
  }
  return { first, count, weights };
}

function cubic(distance) {
  if (distance <= 1) {
    return ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance ** 2 + 1;
  }
  return SHARPNESS * (((distance - 5) * distance + 8) * distance - 4);
}

/** Resizes an image [height, width, channels]. */
export function resize(image, [height, width, channels], newHeight, newWidth) {
  const small = [Math.min(height, newHeight), Math.min(width, newWidth)];
  const shrunk = alongBoth(image, [height, width, channels], ...small);
  if (small[0] === newHeight && small[1] === newWidth) return shrunk;
  const grown = alongBoth(shrunk, [...small, channels], newHeight, newWidth);
  const { lowest, highest } = limits(shrunk, channels);
  for (let place = 0, channel = 0; place < grown.length; place++) {
    grown[place] = Math.min(Math.max(grown[place], lowest[channel]), highest[channel]);
    channel = channel + 1 === channels ? 0 : channel + 1;
  }
  return grown;
}

/** The lowest and the highest value of each channel. */
export function limits(image, channels) {
  const lowest = new Float32Array(channels).fill(Infinity);
  const highest = new Float32Array(channels).fill(-Infinity);
  for (let place = 0; place < image.length; place += channels) {
    for (let channel = 0; channel < channels; channel++) {
      const value = image[place + channel];
      if (value < lowest[channel]) lowest[channel] = value;
      if (value > highest[channel]) highest[channel] = value;
    }
  }
  return { lowest, highest };
}

function alongBoth(image, [height, width, channels], newHeight, newWidth) {
  const tall = alongAxis(image, 1, height, width * channels, newHeight);
  return alongAxis(tall, newHeight, width, channels, newWidth);
}

/** Resizes the middle axis of an array [outer, old, inner]. */
export function alongAxis(array, outer, old, inner, size) {
  if (size === old) return array;
  const { first, count, weights } = axisWeights(old, size);
  const result = new Float32Array(outer * size * inner);
  for (let block = 0; block < outer; block++) {
    for (let n = 0; n < size; n++) {
      const to = (block * size + n) * inner;
      for (let k = 0; k < count; k++) {
        const weight = weights[n * count + k];
        if (weight === 0) continue;
        const from = (block * old + first[n] + k) * inner;
        for (let i = 0; i < inner; i++) result[to + i] += weight * array[from + i];
      }
    }
  }
  return result;
}

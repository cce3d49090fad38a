// A photo on its way from a file to what the network sees, and from colors back to a file:
// `photo_lightness`, `what_the_network_sees` and `paint_photo` of colorgan_jax/inference.py.
// The photo stays an ImageBitmap; its pixels are taken band by band, so that memory is bounded.

import { lightness, paint } from "./lab.js";
import { alongAxis, axisWeights, limits, resize } from "./resize.js";

const BAND_PIXELS = 2 ** 20;

/** A canvas whose pixels are read and written. */
function canvasOf(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This photo is too large for this browser.");
  return { canvas, context };
}

/** Calls `use(pixels, top, rows)` for each band of an image's RGBA pixels. */
function eachBand(bitmap, use) {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(BAND_PIXELS / width)));
  const { context } = canvasOf(width, rows);
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    use(context.getImageData(0, 0, width, count), top, count);
  }
}

/**
 * The lightness of a photo as the network sees it: averaged over areas, on white.
 * @param {ImageBitmap} bitmap
 * @returns {Float32Array} CIE lightness [size, size]
 */
export function whatTheNetworkSees(bitmap, size) {
  const { width, height } = bitmap;
  const columns = Math.min(width, size);
  const rows = Math.min(height, size);
  const { first, count, weights } = axisWeights(height, rows);
  const small = new Float32Array(rows * columns);
  // The first row of the small image that a row of the photo may add to.
  let start = 0;
  eachBand(bitmap, ({ data }, top, bandRows) => {
    const L = new Float32Array(width * bandRows);
    for (let pixel = 0, at = 0; pixel < L.length; pixel++, at += 4) {
      const value = lightness(data[at], data[at + 1], data[at + 2]);
      L[pixel] = 100 - (100 - value) * (data[at + 3] / 255);
    }
    const narrow = alongAxis(L, bandRows, width, 1, columns);
    for (let row = top; row < top + bandRows; row++) {
      while (start < rows && first[start] + count <= row) start++;
      for (let n = start; n < rows && first[n] <= row; n++) {
        const weight = weights[n * count + row - first[n]];
        for (let column = 0; column < columns; column++) {
          small[n * columns + column] += weight * narrow[(row - top) * columns + column];
        }
      }
    }
  });
  return resize(small, [rows, columns, 1], size, size);
}

/**
 * Paints a photo in colors that were predicted at the size of the network.
 * @param {ImageBitmap} bitmap
 * @param {Float32Array} ab CIE a and b [size, size, 2]
 * @returns {OffscreenCanvas} in color, with the photo's lightness and transparency
 */
export function paintPhoto(bitmap, ab, size) {
  const { width, height } = bitmap;
  const rows = Math.min(height, size);
  const columns = Math.min(width, size);
  const shrunk = resize(ab, [size, size, 2], rows, columns);
  const { lowest, highest } = limits(shrunk, 2);
  const wide = alongAxis(shrunk, rows, columns, 2, width);
  const { first, count, weights } = axisWeights(rows, height);
  const { canvas, context } = canvasOf(width, height);
  const mixed = new Float32Array(2 * width);
  eachBand(bitmap, (image, top, bandRows) => {
    const { data } = image;
    for (let y = top, at = 0; y < top + bandRows; y++) {
      mixed.fill(0);
      for (let k = 0; k < count; k++) {
        const weight = weights[y * count + k];
        const from = (first[y] + k) * 2 * width;
        if (weight === 0) continue;
        for (let i = 0; i < mixed.length; i++) mixed[i] += weight * wide[from + i];
      }
      for (let x = 0; x < width; x++, at += 4) {
        const a = Math.min(Math.max(mixed[2 * x], lowest[0]), highest[0]);
        const b = Math.min(Math.max(mixed[2 * x + 1], lowest[1]), highest[1]);
        paint(lightness(data[at], data[at + 1], data[at + 2]), a, b, data, at);
      }
    }
    context.putImageData(image, 0, top);
  });
  return canvas;
}

// Colors that a person names at some places, spread over the photo: what `spread_hints` of
// colorgan_jax/hints.py does, with its kernel. There is the reasoning; here are its steps.

import { resize } from "./resize.js";

export const DEFAULT_RADIUS = 3.5 / 256;

const POSITION_WIDTH = 2.0;
const L_WIDTH = 25.0;
const AB_WIDTH = 17.0;
// Of blocks of the encoder, counted from 1.
export const FEATURE_WIDTHS = new Map([[3, 4.5], [4, 3.2], [5, 2.3]]);
const NOISE = 0.05;
const SPOT = 3.0;
const EXTREMES = 1 / 6;

const MOST_GRID_CELLS = 64;
const JITTER = 1e-4;
const SMALLEST_RADIUS = 1e-4;
const REFINEMENTS = 2;
const NO_VARIANCE = 1e-6;

/**
 * The encoder's features of a photo as hints compare them.
 * @param {Map<number, {data: Float32Array, dims: number[]}>} blocks of [1, C, h, w], by number
 * @param {number} size height and width that the network sees
 * @returns {{data: Float32Array, side: number, channels: number}} [side, side, channels]
 */
export function featureGrid(blocks, size) {
  const side = Math.min(size, MOST_GRID_CELLS);
  const cells = side ** 2;
  const chosen = [...FEATURE_WIDTHS].filter(([block]) => blocks.has(block));
  const channels = chosen.reduce((sum, [block]) => sum + blocks.get(block).dims[1], 0);
  const data = new Float32Array(cells * channels);
  let column = 0;
  for (const [block, width] of chosen) {
    const { data: features, dims: [, count, height, columns] } = blocks.get(block);
    const size = height * columns;
    for (let channel = 0; channel < count; channel++, column++) {
      const values = features.slice(channel * size, (channel + 1) * size);
      standardize(values, count, width);
      const grown = resize(values, [height, columns, 1], side, side);
      for (let cell = 0; cell < cells; cell++) data[cell * channels + column] = grown[cell];
    }
  }
  return { data, side, channels };
}

/** One of `count` channels less its mean, such that all have a variance of 1 together. */
function standardize(values, count, width) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  let variance = 0;
  for (const value of values) variance += (value - mean) ** 2 / values.length;
  const scale = Math.sqrt((variance + NO_VARIANCE) * count) * width;
  for (let place = 0; place < values.length; place++) {
    values[place] = (values[place] - mean) / scale;
  }
}

/**
 * Corrects the predicted colors of a photo by hints.
 * @param {{x: number, y: number, radius: number, a: number, b: number}[]} spots places as
 *   fractions of the width and the height
 * @param {Float32Array} L CIE lightness [size, size]
 * @param {Float32Array} ab CIE a and b that were predicted [size, size, 2]
 * @param {{data: Float32Array, side: number, channels: number}} grid from `featureGrid`
 * @returns {Float32Array} CIE a and b [size, size, 2]
 */
export function spreadHints(spots, L, ab, grid, size) {
  if (spots.length === 0) return ab;
  const count = spots.length;
  const pixels = size * size;
  const radius = spots.map((spot) => Math.max(spot.radius, SMALLEST_RADIUS));

  const looks = new Float32Array(pixels * 3);
  for (let pixel = 0; pixel < pixels; pixel++) {
    looks[3 * pixel] = L[pixel];
    looks[3 * pixel + 1] = ab[2 * pixel];
    looks[3 * pixel + 2] = ab[2 * pixel + 1];
  }
  const look = meansOverSpots(looks, size, 3, spots, radius);
  const content = meansOverSpots(grid.data, grid.side, grid.channels, spots, radius);

  const between = new Float64Array(count * count);
  for (let j = 0; j < count; j++) {
    for (let k = 0; k < count; k++) {
      const apart = (spots[j].y - spots[k].y) ** 2 + (spots[j].x - spots[k].x) ** 2;
      const unlike = contentDistance(content[j], content[k], 0, grid.channels);
      between[j * count + k] = covariance(
        apart, unlike, look[j], radius[j], look[k][0], look[k][1], look[k][2], radius[k],
      );
    }
    between[j * count + j] += JITTER;
  }
  const lower = cholesky(between, count);

  const across = covariancesWithPixels(spots, radius, look, content, looks, grid, size);
  const missing = spots.map((spot, k) => [spot.a - look[k][1], spot.b - look[k][2]]);
  const weights = solve(lower, count, missing);
  const middle = radius.map((value) => Math.min(value, DEFAULT_RADIUS));
  let correction = combine(across, weights, pixels);
  for (let step = 0; step < REFINEMENTS; step++) {
    const reached = meansOverSpots(correction, size, 2, spots, middle);
    const left = missing.map(([a, b], k) => [a - reached[k][0], b - reached[k][1]]);
    solve(lower, count, left).forEach(([a, b], k) => {
      weights[k][0] += a;
      weights[k][1] += b;
    });
    correction = combine(across, weights, pixels);
  }
  return correction.map((value, place) => ab[place] + value);
}

function covariance(apart, unlike, look, radius, L, a, b, otherRadius) {
  const distance = apart / POSITION_WIDTH ** 2 + ((look[0] - L) / L_WIDTH) ** 2
    + ((look[1] - a) ** 2 + (look[2] - b) ** 2) / AB_WIDTH ** 2 + unlike;
  const r = SPOT * radius;
  const s = SPOT * otherRadius;
  const squares = r * r + s * s;
  const peculiar = ((2 * r * s) / squares) * Math.exp(-apart / squares);
  return Math.sqrt(variance(look[0]) * variance(L)) * Math.exp(-0.5 * distance)
    * (1 + NOISE * peculiar);
}

/** Of the differences at this lightness, but for the noise. */
function variance(L) {
  const room = Math.min(Math.max((L * (100 - L)) / 50 ** 2, 0), 1);
  return EXTREMES + (1 - EXTREMES) * room;
}

/** The covariances of each spot with all pixels. */
function covariancesWithPixels(spots, radius, look, content, looks, grid, size) {
  const pixels = size * size;
  const radiusAt = radiusOfPixels(spots, radius, size);
  return spots.map((spot, k) => {
    const distances = new Float32Array(grid.side ** 2);
    for (let cell = 0; cell < distances.length; cell++) {
      distances[cell] = contentDistance(
        content[k], grid.data, cell * grid.channels, grid.channels,
      );
    }
    const unlike = resize(distances, [grid.side, grid.side, 1], size, size);
    const row = new Float32Array(pixels);
    for (let y = 0, pixel = 0; y < size; y++) {
      const vertical = ((y + 0.5) / size - spot.y) ** 2;
      for (let x = 0; x < size; x++, pixel++) {
        const apart = vertical + ((x + 0.5) / size - spot.x) ** 2;
        row[pixel] = covariance(
          apart, unlike[pixel], look[k], radius[k],
          looks[3 * pixel], looks[3 * pixel + 1], looks[3 * pixel + 2], radiusAt[pixel],
        );
      }
    }
    return row;
  });
}

/** The radius of spots, between them interpolated (Shepard 1968). */
function radiusOfPixels(spots, radius, size) {
  const result = new Float32Array(size * size);
  if (radius.every((value) => value === radius[0])) return result.fill(radius[0]);
  for (let y = 0, pixel = 0; y < size; y++) {
    for (let x = 0; x < size; x++, pixel++) {
      let sum = 0;
      let total = 0;
      spots.forEach((spot, k) => {
        const apart = ((y + 0.5) / size - spot.y) ** 2 + ((x + 0.5) / size - spot.x) ** 2;
        const weight = 1 / (apart + 1e-8) ** 2;
        sum += weight * radius[k];
        total += weight;
      });
      result[pixel] = sum / total;
    }
  }
  return result;
}

function contentDistance(own, data, start, channels) {
  let sum = 0;
  for (let channel = 0; channel < channels; channel++) {
    const difference = own[channel] - data[start + channel];
    sum += difference * difference;
  }
  return sum;
}

/** The mean of an image [size, size, channels] over each spot, weighted by a Gaussian. */
function meansOverSpots(image, size, channels, spots, radius) {
  return spots.map((spot, k) => {
    const rows = spotWeights(spot.y, radius[k], size);
    const columns = spotWeights(spot.x, radius[k], size);
    const mean = new Float64Array(channels);
    rows.forEach((row, y) => {
      if (row < 1e-12) return;
      columns.forEach((column, x) => {
        const weight = row * column;
        if (weight < 1e-12) return;
        const start = (y * size + x) * channels;
        for (let channel = 0; channel < channels; channel++) {
          mean[channel] += weight * image[start + channel];
        }
      });
    });
    return mean;
  });
}

/** Along one axis; they add up to 1 on the border, too. */
function spotWeights(position, radius, size) {
  const deviation = Math.max(radius / 2, 0.5 / size);
  const exponents = Float64Array.from({ length: size }, (_, place) =>
    -0.5 * (((place + 0.5) / size - position) / deviation) ** 2);
  const highest = exponents.reduce((most, value) => Math.max(most, value), -Infinity);
  const weights = exponents.map((value) => Math.exp(value - highest));
  const total = weights.reduce((sum, value) => sum + value, 0);
  return weights.map((value) => value / total);
}

/** The sum of the rows of `across`, each times its weights of a and of b. */
function combine(across, weights, pixels) {
  const result = new Float32Array(2 * pixels);
  across.forEach((row, k) => {
    const [a, b] = weights[k];
    for (let pixel = 0; pixel < pixels; pixel++) {
      result[2 * pixel] += row[pixel] * a;
      result[2 * pixel + 1] += row[pixel] * b;
    }
  });
  return result;
}

/** The lower triangular matrix whose product with its transpose is `matrix`. */
function cholesky(matrix, count) {
  const lower = new Float64Array(count * count);
  for (let j = 0; j < count; j++) {
    for (let k = 0; k <= j; k++) {
      let sum = matrix[j * count + k];
      for (let i = 0; i < k; i++) sum -= lower[j * count + i] * lower[k * count + i];
      lower[j * count + k] = j === k ? Math.sqrt(sum) : sum / lower[k * count + k];
    }
  }
  return lower;
}

/** Solves for [count][2], given the matrix's `cholesky`. */
function solve(lower, count, right) {
  const result = right.map((pair) => [...pair]);
  for (let channel = 0; channel < 2; channel++) {
    for (let j = 0; j < count; j++) {
      for (let i = 0; i < j; i++) {
        result[j][channel] -= lower[j * count + i] * result[i][channel];
      }
      result[j][channel] /= lower[j * count + j];
    }
    for (let j = count - 1; j >= 0; j--) {
      for (let i = j + 1; i < count; i++) {
        result[j][channel] -= lower[i * count + j] * result[i][channel];
      }
      result[j][channel] /= lower[j * count + j];
    }
  }
  return result;
}

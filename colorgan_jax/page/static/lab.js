// Conversion between sRGB and CIE Lab (D65), as in colorgan_jax/lab.py, of which each
// constant and rule here is. Levels are whole numbers from 0 to 255.

const XYZ_FROM_RGB = [
  [0.412453, 0.35758, 0.180423],
  [0.212671, 0.71516, 0.072169],
  [0.019334, 0.119193, 0.950227],
].map((row) => row.map((value) => value / (row[0] + row[1] + row[2])));
const RGB_FROM_XYZ = invert(XYZ_FROM_RGB);
const [Y_RED, Y_GREEN, Y_BLUE] = XYZ_FROM_RGB[1];

const LIGHTNESS_KINK = 6 / 29;
// How far linear rgb may lie outside [0, 1] and still count as inside the gamut.
const TOLERANCE = 1e-5;
const DARK_TOLERANCE = 1e-7;
const BISECTION_STEPS = 16;

const LINEAR = Float64Array.from({ length: 256 }, (_, level) => decode(level / 255));
const GRAY_LIGHTNESS = LINEAR.map((Y) => 116 * f(Y) - 16);
// Levels of linear rgb in steps that are a twentieth of a level at most.
const STEPS = 65536;
const LEVELS = Float32Array.from({ length: STEPS + 2 }, (_, step) =>
  255 * encode(Math.min(step / STEPS, 1)));

/** CIE lightness in [0, 100] of levels. */
export function lightness(red, green, blue) {
  if (red === green && green === blue) return GRAY_LIGHTNESS[red];
  return 116 * f(Y_RED * LINEAR[red] + Y_GREEN * LINEAR[green] + Y_BLUE * LINEAR[blue]) - 16;
}

/** The gray, sRGB in [0, 1], of a CIE lightness. */
export function grayOf(L) {
  return encode(inverseF((L + 16) / 116));
}

/** CIE [L, a, b] of levels. */
export function labOf(red, green, blue) {
  const rgb = [LINEAR[red], LINEAR[green], LINEAR[blue]];
  const [x, y, z] = XYZ_FROM_RGB.map((row) => f(dot(row, rgb)));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/**
 * Writes the levels of a color into `out` at `at`. Where sRGB does not have it, its chroma is
 * lowered until it does: lightness and hue stay.
 */
export function paint(L, a, b, out, at) {
  toLinear(L, a, b);
  if (!inGamut()) {
    let factor = 0;
    let step = 0.5;
    for (let count = 0; count < BISECTION_STEPS; count++, step /= 2) {
      toLinear(L, a * (factor + step), b * (factor + step));
      if (inGamut()) factor += step;
    }
    toLinear(L, a * factor, b * factor);
  }
  out[at] = level(linear[0]);
  out[at + 1] = level(linear[1]);
  out[at + 2] = level(linear[2]);
}

/** The color "#rrggbb" that is nearest to a Lab color. */
export function hexOf(L, a, b) {
  const levels = [0, 0, 0];
  paint(L, a, b, levels, 0);
  return `#${levels.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`;
}

/** CIE [L, a, b] of "#rrggbb". */
export function labOfHex(hex) {
  return labOf(...[1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16)));
}

const linear = new Float64Array(3);

/** Puts linear red, green and blue into `linear`: outside [0, 1] if sRGB lacks the color. */
function toLinear(L, a, b) {
  const fy = (L + 16) / 116;
  const x = inverseF(fy + a / 500);
  const y = inverseF(fy);
  const z = inverseF(fy - b / 200);
  for (let channel = 0; channel < 3; channel++) {
    const row = RGB_FROM_XYZ[channel];
    linear[channel] = row[0] * x + row[1] * y + row[2] * z;
  }
}

function inGamut() {
  return linear.every((value) => value >= -DARK_TOLERANCE && value <= 1 + TOLERANCE);
}

function level(value) {
  const place = Math.min(Math.max(value, 0), 1) * STEPS;
  const step = Math.floor(place);
  return Math.round(LEVELS[step] + (place - step) * (LEVELS[step + 1] - LEVELS[step]));
}

function decode(value) {
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
}

function encode(value) {
  return value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055;
}

/** CIE's lightness function. */
function f(t) {
  return t <= LIGHTNESS_KINK ** 3 ? t / (3 * LIGHTNESS_KINK ** 2) + 4 / 29 : Math.cbrt(t);
}

function inverseF(t) {
  return t <= LIGHTNESS_KINK ? 3 * LIGHTNESS_KINK ** 2 * (t - 4 / 29) : t * t * t;
}

function dot(row, values) {
  return row[0] * values[0] + row[1] * values[1] + row[2] * values[2];
}

function invert([[a, b, c], [d, e, f], [g, h, i]]) {
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / determinant));
}

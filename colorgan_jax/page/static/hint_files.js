// Files of hints, as `colorgan colorize --hints` takes them: colorgan_jax/hint_files.py says how
// they are laid out, and refuses the same.

import { DEFAULT_RADIUS } from "./hints.js";
import { labOfHex } from "./lab.js";

const VERSION = 1;
const SHAPES = ["point", "stroke", "rectangle"];
const COLORS = ["color", "ab"];
const LARGEST_RADIUS = 0.5;
const LARGEST_AB = 128;
const SPOTS_OF_STROKE = 25;
const SPOTS_OF_SIDE = 5;
const MOST_SPOTS = 256;

/** The text of a file with these hints. */
export function writeHints(hints) {
  const lines = hints.map((hint) => `    ${JSON.stringify(hint)}`);
  return `{\n  "version": ${VERSION},\n  "hints": [\n${lines.join(",\n")}\n  ]\n}\n`;
}

/**
 * The hints in a file.
 * @param {string} text
 * @returns {object[]}
 * @throws {Error} what is wrong where, as a sentence
 */
export function readHints(text) {
  let content;
  try {
    content = JSON.parse(text.replace(/^\ufeff/, ""));
  } catch {
    throw new Error("it is not JSON.");
  }
  checkKeys("the file", content, ["version", "hints"]);
  for (const key of ["version", "hints"]) {
    if (!(key in content)) throw new Error(`the file has no "${key}".`);
  }
  if (content.version !== VERSION) {
    throw new Error(`its version is ${content.version}, but this page reads ${VERSION}.`);
  }
  if (!Array.isArray(content.hints)) throw new Error('"hints" is not a list.');
  let count = 0;
  content.hints.forEach((hint, place) => {
    try {
      checkHint(hint);
    } catch (error) {
      throw new Error(`hint ${place + 1}: ${error.message}`);
    }
    count += spotsOf(hint).length;
  });
  if (count > MOST_SPOTS) {
    throw new Error(`its hints need ${count} spots, more than ${MOST_SPOTS}.`);
  }
  return content.hints;
}

/** The spots {x, y, radius, a, b} that cover what hints name. */
export function allSpots(hints) {
  return hints.flatMap((hint) => {
    const [a, b] = hint.ab ?? labOfHex(hint.color).slice(1);
    return spotsOf(hint).map((spot) => ({ ...spot, a, b }));
  });
}

/** Where a hint's marker is: x and y. */
export function placeOf(hint) {
  if (hint.point) return hint.point;
  if (hint.stroke) return hint.stroke[Math.floor(hint.stroke.length / 2)];
  const [left, top, right, bottom] = hint.rectangle;
  return [(left + right) / 2, (top + bottom) / 2];
}

/** A hint whose marker is moved to x and y; its shape stays within the photo. */
export function moveHint(hint, x, y) {
  const [oldX, oldY] = placeOf(hint);
  if (hint.point) return { ...hint, point: [within(x), within(y)] };
  const points = hint.stroke ?? [hint.rectangle.slice(0, 2), hint.rectangle.slice(2)];
  const move = (axis, distance) => {
    const values = points.map((point) => point[axis]);
    const step = Math.min(Math.max(distance, -Math.min(...values)), 1 - Math.max(...values));
    return values.map((value) => within(value + step));
  };
  const columns = move(0, x - oldX);
  const rows = move(1, y - oldY);
  const moved = columns.map((column, place) => [column, rows[place]]);
  return hint.stroke ? { ...hint, stroke: moved } : { ...hint, rectangle: moved.flat() };
}

/** A fraction with as many digits as pixels need. */
function within(value) {
  return Math.round(Math.min(Math.max(value, 0), 1) * 1e5) / 1e5;
}

function checkHint(hint) {
  checkKeys("it", hint, [...SHAPES, ...COLORS, "radius"]);
  for (const kinds of [SHAPES, COLORS]) {
    if (kinds.filter((kind) => kind in hint).length !== 1) {
      throw new Error(`it must have one of ${kinds.map((kind) => `"${kind}"`).join(" or ")}.`);
    }
  }
  if ("ab" in hint) checkNumbers(hint.ab, "ab", 2, -LARGEST_AB, LARGEST_AB);
  if ("color" in hint && !/^#[0-9a-f]{6}$/i.test(hint.color)) {
    throw new Error(`"color" is ${JSON.stringify(hint.color)} and not of the form "#rrggbb".`);
  }
  if ("radius" in hint) checkNumbers([hint.radius], "radius", 1, 0, LARGEST_RADIUS);
  if ("point" in hint) checkNumbers(hint.point, "point", 2);
  if ("stroke" in hint) {
    if (!Array.isArray(hint.stroke) || hint.stroke.length === 0) {
      throw new Error('"stroke" is not a list of points.');
    }
    for (const point of hint.stroke) checkNumbers(point, "stroke", 2);
  }
  if ("rectangle" in hint) {
    checkNumbers(hint.rectangle, "rectangle", 4);
    const [left, top, right, bottom] = hint.rectangle;
    if (left >= right || top >= bottom) {
      throw new Error('"rectangle" is not [left, upper, right, lower edge].');
    }
  }
}

function checkKeys(what, content, keys) {
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    throw new Error(`${what} is not a JSON object, {...}.`);
  }
  for (const key of Object.keys(content)) {
    if (!keys.includes(key)) throw new Error(`${what} has an unknown "${key}".`);
  }
}

function checkNumbers(value, key, count, lowest = 0, highest = 1) {
  if (!Array.isArray(value) || value.length !== count) {
    throw new Error(`"${key}" takes ${count} numbers, not ${JSON.stringify(value)}.`);
  }
  for (const number of value) {
    if (typeof number !== "number" || !(number >= lowest && number <= highest)) {
      throw new Error(`"${key}" takes numbers from ${lowest} to ${highest},`
        + ` not ${JSON.stringify(number)}.`);
    }
  }
}

/** The spots {x, y, radius} that cover a hint's shape. */
function spotsOf(hint) {
  const radius = hint.radius ?? DEFAULT_RADIUS;
  if (hint.point) return [{ x: hint.point[0], y: hint.point[1], radius }];
  return hint.stroke ? spotsAlong(hint.stroke, radius) : spotsWithin(hint.rectangle, radius);
}

function spotsAlong(points, radius) {
  const along = [0];
  for (let k = 1; k < points.length; k++) {
    const [x, y] = points[k];
    along.push(along[k - 1] + Math.hypot(x - points[k - 1][0], y - points[k - 1][1]));
  }
  const length = along[along.length - 1];
  const apart = Math.max(2 * radius, length / (SPOTS_OF_STROKE - 1), 1e-6);
  const steps = Math.ceil(length / apart);
  return Array.from({ length: steps + 1 }, (_, step) => {
    const place = steps === 0 ? 0 : (step / steps) * length;
    const next = Math.max(along.findIndex((value) => value >= place), 0);
    if (next === 0) return { x: points[0][0], y: points[0][1], radius };
    const share = (place - along[next - 1]) / (along[next] - along[next - 1]);
    const [x, y] = [0, 1].map((axis) =>
      points[next - 1][axis] + share * (points[next][axis] - points[next - 1][axis]));
    return { x, y, radius };
  });
}

function spotsWithin([left, top, right, bottom], radius) {
  const sides = [right - left, bottom - top];
  const [columns, rows] = sides.map((side) =>
    Math.min(Math.ceil(side / Math.max(2 * radius, 1e-6)), SPOTS_OF_SIDE));
  const covering = Math.max(radius, Math.min(sides[0] / columns, sides[1] / rows) / 2);
  return Array.from({ length: rows * columns }, (_, spot) => ({
    x: left + (((spot % columns) + 0.5) / columns) * sides[0],
    y: top + ((Math.floor(spot / columns) + 0.5) / rows) * sides[1],
    radius: covering,
  }));
}

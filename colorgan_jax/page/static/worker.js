// The work behind the page: the network, hints, and photos at full resolution. It answers each
// message {id, task, ...} by {id, result} or {id, problem}; {progress} comes in between.

import { FEATURE_WIDTHS, featureGrid, spreadHints } from "./hints.js";
import { grayOf } from "./lab.js";
import { makeUpright, provenance, readExif, withMetadata } from "./photo_files.js";
import { paintPhoto, whatTheNetworkSees } from "./photos.js";

// Of the photo on the screen.
const LONGEST_PREVIEW_SIDE = 1200;
const MOST_THREADS = 4;

let site;
// Takes what the network sees, and gives its colors and features.
let look;
// By its number: {file, preview, seen, ab, grid}.
const photos = new Map();

const tasks = { load, open, recolor, render, close };

// One after the other: they share the network.
let queue = Promise.resolve();
self.addEventListener("message", ({ data: { id, task, ...options } }) => {
  queue = queue.then(async () => {
    try {
      const result = await tasks[task](options);
      self.postMessage({ id, result }, transferable(result));
    } catch (error) {
      self.postMessage({ id, problem: error.message });
    }
  });
});

function transferable(result) {
  return [result?.preview, result?.image].filter((image) => image instanceof ImageBitmap);
}

/** Gets the network ready: in this browser, or on the server that sent the page. */
async function load({ options, where }) {
  site = options;
  look = where === "server" ? lookOnServer : await loadNetwork(where === "webgpu");
}

async function loadNetwork(onGpu) {
  const runtime = onGpu ? site.webgpu : site.wasm;
  const [wasm, model] = await fetchAll([runtime.wasm, site.model]);
  const ort = await import(runtime.module);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = { mjs: new URL(runtime.loader, self.location).href };
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(MOST_THREADS, navigator.hardwareConcurrency)
    : 1;
  const session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: onGpu ? ["webgpu", "wasm"] : ["wasm"],
  });
  // A small network has fewer blocks.
  const outputs = ["ab", ...[...FEATURE_WIDTHS.keys()].map((block) => `features_${block}`)]
    .filter((name) => session.outputNames.includes(name));
  return async (L) => {
    const rgb = new Float32Array(3 * L.length);
    L.forEach((value, pixel) => rgb.fill(grayOf(value), 3 * pixel, 3 * pixel + 3));
    const input = new ort.Tensor("float32", rgb, [1, site.size, site.size, 3]);
    const { ab, ...features } = await session.run({ rgb: input }, outputs);
    return {
      ab: ab.data,
      features: new Map(Object.entries(features).map(([name, { data, dims }]) =>
        [Number(name.split("_")[1]), { data, dims }])),
    };
  };
}

/** Fetches files that are compressed by gzip, and says how far it is. */
async function fetchAll(files) {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  let done = 0;
  const contents = [];
  for (const file of files) {
    const response = await fetch(file.name);
    if (!response.ok) throw new Error(`${file.name} could not be loaded.`);
    const counted = response.body.pipeThrough(new TransformStream({
      transform(part, controller) {
        done += part.byteLength;
        self.postMessage({ progress: done / total });
        controller.enqueue(part);
      },
    }));
    const unpacked = counted.pipeThrough(new DecompressionStream("gzip"));
    contents.push(await new Response(unpacked).arrayBuffer());
  }
  return contents;
}

/** The server's answer holds ab and then the features, whose shapes the site names. */
async function lookOnServer(L) {
  const response = await fetch(site.server.address, { method: "POST", body: L });
  if (!response.ok) throw new Error(await response.text());
  const numbers = new Float32Array(await response.arrayBuffer());
  let at = 2 * L.length;
  const features = site.server.features.map(([block, ...dims]) => {
    const start = at;
    at += dims.reduce((product, length) => product * length, 1);
    return [block, { data: numbers.subarray(start, at), dims: [1, ...dims] }];
  });
  return { ab: numbers.subarray(0, 2 * L.length), features: new Map(features) };
}

/** Reads a photo: what the network makes of it, and a preview of it in gray. */
async function open({ photo, file }) {
  if (!look) throw new Error("The network is not there: please load the page again.");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} cannot be read: it is damaged, or no photo that this`
      + " browser can read. TIFF, HEIC and RAW are for the command, colorgan colorize.");
  }
  const { width, height } = bitmap;
  const seen = whatTheNetworkSees(bitmap, site.size);
  const { ab, features } = await look(seen);
  const scale = Math.min(1, LONGEST_PREVIEW_SIDE / Math.max(width, height));
  const preview = await createImageBitmap(bitmap, {
    resizeWidth: Math.max(1, Math.round(width * scale)),
    resizeHeight: Math.max(1, Math.round(height * scale)),
    resizeQuality: "high",
  });
  bitmap.close();
  photos.set(photo, { file, preview, seen, ab, grid: featureGrid(features, site.size) });
  const gray = paintPhoto(preview, new Float32Array(2), 1);
  return { width, height, preview: gray.transferToImageBitmap() };
}

/** The colors of a photo at the size of the network. */
function colorsOf(photo, { spots, saturation }) {
  const { seen, ab, grid } = photos.get(photo);
  return spreadHints(spots, seen, ab.map((value) => saturation * value), grid, site.size);
}

/** A photo on the screen, with these hints. */
async function recolor({ photo, ...options }) {
  const canvas = paintPhoto(photos.get(photo).preview, colorsOf(photo, options), site.size);
  return { image: canvas.transferToImageBitmap() };
}

/** JPEG has no transparency, and the browser would make it black. */
function putOnWhite(canvas) {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
}

/** A photo at full resolution, as a file. */
async function render({ photo, type, quality, ...options }) {
  const { file } = photos.get(photo);
  const bitmap = await createImageBitmap(file);
  const canvas = paintPhoto(bitmap, colorsOf(photo, options), site.size);
  bitmap.close();
  if (type === "image/jpeg") putOnWhite(canvas);
  const encoded = await canvas.convertToBlob({ type, quality });
  const exif = readExif(new Uint8Array(await file.arrayBuffer()));
  const parts = withMetadata(new Uint8Array(await encoded.arrayBuffer()), {
    exif: exif && makeUpright(exif),
    xmp: provenance(site.version),
  });
  return { blob: new Blob(parts, { type }) };
}

function close({ photo }) {
  photos.get(photo)?.preview.close();
  photos.delete(photo);
}

// The page: photos, the colors that a person sets on them, and what is shown of both. The work
// is done in worker.js.

import { allSpots, moveHint, placeOf, readHints, writeHints } from "./hint_files.js";
import { hexOf, labOf } from "./lab.js";

// What people most often know the color of: CIE a and b, shown at the lightness of the spot.
const SWATCHES = [
  ["gray", 0, 0], ["cream", 2, 10], ["sand", 5, 18], ["skin", 14, 17], ["brown", 14, 26],
  ["brick red", 38, 30], ["red", 58, 40], ["orange", 32, 58], ["yellow", 4, 62],
  ["olive", -6, 30], ["grass", -26, 38], ["leaves", -14, 20], ["turquoise", -26, -8],
  ["sky blue", -4, -26], ["navy", 6, -36], ["violet", 26, -32], ["pink", 28, 2],
];
const STEP = 0.01;
const LARGE_STEP = 0.05;
const JPEG_QUALITY = 0.95;
// Of a finger or a mouse, in pixels, before a press on a marker moves it.
const STILL = 4;

const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });

let site;
// Opened photos, in order: {number, file, width, height, gray, hints, past, future, saturation}.
const photos = [];
let opened = 0;
let current = null;
// The index of the chosen hint of the current photo.
let chosen = null;
let takesColor = false;

// --- The worker ---------------------------------------------------------------------------

const waiting = new Map();
let messages = 0;

worker.addEventListener("message", ({ data: { id, result, problem, progress } }) => {
  if (progress !== undefined) {
    $("progress").value = progress;
    return;
  }
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (problem === undefined) resolve(result);
  else reject(new Error(problem));
});

function ask(task, options) {
  return new Promise((resolve, reject) => {
    waiting.set(++messages, { resolve, reject });
    worker.postMessage({ id: messages, task, ...options });
  });
}

// --- Problems and progress ----------------------------------------------------------------

function report(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = !sentence;
}

/** Says what is being done meanwhile, and what went wrong. */
async function during(doing, work) {
  $("busy").textContent = doing;
  try {
    return await work();
  } catch (error) {
    report(error.message);
    return null;
  } finally {
    $("busy").textContent = "";
  }
}

// --- Photos -------------------------------------------------------------------------------

async function openFiles(files) {
  report("");
  const problems = [];
  for (const file of files) {
    const number = ++opened;
    try {
      $("busy").textContent = `Opening ${file.name}`;
      const { width, height, preview } = await ask("open", { photo: number, file });
      photos.push({
        number, file, width, height, gray: preview,
        hints: [], past: [], future: [], saturation: 1,
      });
      addToStrip(photos.at(-1));
      await show(photos.at(-1));
    } catch (error) {
      problems.push(error.message);
    }
  }
  $("busy").textContent = "";
  report(problems.join(" "));
}

function addToStrip(photo) {
  const button = document.createElement("button");
  button.type = "button";
  button.ariaLabel = photo.file.name;
  button.addEventListener("click", () => show(photo));
  const small = document.createElement("canvas");
  small.height = 128;
  small.width = Math.max(1, Math.round((128 * photo.width) / photo.height));
  small.getContext("2d").drawImage(photo.gray, 0, 0, small.width, small.height);
  button.append(small);
  $("strip").append(button);
  photo.button = button;
  showStrip();
}

function showStrip() {
  $("strip").hidden = $("download-all").hidden = photos.length < 2;
}

function closePhoto(photo) {
  const place = photos.indexOf(photo);
  photos.splice(place, 1);
  photo.button.remove();
  photo.gray.close();
  showStrip();
  if (photos.length) {
    show(photos[Math.min(place, photos.length - 1)]);
  } else {
    choose(null);
    current = null;
    $("workplace").hidden = true;
  }
  ask("close", { photo: photo.number });
}

function show(photo) {
  current = photo;
  for (const other of photos) other.button.ariaPressed = String(other === photo);
  choose(null);
  $("workplace").hidden = false;
  $("stage").style.setProperty("--shape", photo.gray.width / photo.gray.height);
  $("stage").ariaLabel = `${photo.file.name}, ${photo.width} by ${photo.height} pixels`;
  for (const canvas of [$("gray"), $("color")]) {
    canvas.width = photo.gray.width;
    canvas.height = photo.gray.height;
    contextOf(canvas).drawImage(photo.gray, 0, 0);
  }
  $("saturation").value = 100 * photo.saturation;
  return refresh();
}

/** Shows the hints of the photo and colors it anew. */
function refresh() {
  const { hints, past, future } = current;
  $("undo").disabled = past.length === 0;
  $("redo").disabled = future.length === 0;
  $("clear").disabled = $("save-hints").disabled = hints.length === 0;
  placeMarkers();
  return recolor();
}

let recoloring = null;
let isOutdated = false;

/** Colors the photo as it is now. While that goes on, only the newest wish is kept. */
function recolor() {
  isOutdated = true;
  recoloring ??= (async () => {
    while (isOutdated) {
      isOutdated = false;
      const photo = current;
      const result = await during("Coloring", () => ask("recolor", wish(photo)));
      if (result && photo === current) {
        contextOf($("color")).drawImage(result.image, 0, 0);
      }
      result?.image.close();
    }
    recoloring = null;
    if (chosen !== null) showChosen();
  })();
  return recoloring;
}

function wish(photo) {
  return {
    photo: photo.number,
    spots: allSpots(photo.hints),
    saturation: photo.saturation,
  };
}

async function download(photo) {
  const type = $("format").value;
  const result = await during(`Coloring ${photo.file.name} at full size`, () =>
    ask("render", { ...wish(photo), type, quality: JPEG_QUALITY }));
  if (!result) return;
  const ending = type === "image/png" ? "png" : "jpg";
  save(result.blob, `${stemOf(photo)}_color.${ending}`);
}

function stemOf(photo) {
  return photo.file.name.replace(/\.[^.]*$/, "");
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// --- Hints --------------------------------------------------------------------------------

/** Replaces the hints of the photo; that can be undone. */
function change(hints) {
  report("");
  current.past.push(current.hints);
  current.future = [];
  current.hints = hints;
  return refresh();
}

function undo(from, to) {
  if (from.length === 0) return;
  to.push(current.hints);
  current.hints = from.pop();
  choose(null);
  refresh();
}

function withHint(place, hint) {
  return current.hints.map((other, index) => (index === place ? hint : other));
}

/** Sets a color at a place that has none: at first the one that is there. */
function addHint(x, y) {
  const hint = moveHint({ point: [0, 0], color: hexOf(...shownAt(x, y)) }, x, y);
  change([...current.hints, hint]);
  choose(current.hints.length - 1);
}

function removeChosen() {
  change(current.hints.filter((_, index) => index !== chosen));
  choose(null);
  $("stage").focus({ preventScroll: true });
}

function setColor(hex) {
  const { ab, ...hint } = current.hints[chosen];
  if (hint.color === hex) return;
  change(withHint(chosen, { ...hint, color: hex }));
  showChosen();
}

/** The color of a hint, "#rrggbb"; that of an ab is at the lightness of its place. */
function colorOf(hint) {
  return hint.color ?? hexOf(shownAt(...placeOf(hint))[0], ...hint.ab);
}

/** CIE Lab of the color photo on the screen. */
function shownAt(x, y) {
  const { width, height } = $("color");
  const column = Math.min(Math.floor(x * width), width - 1);
  const row = Math.min(Math.floor(y * height), height - 1);
  return labOf(...contextOf($("color")).getImageData(column, row, 1, 1).data.slice(0, 3));
}

function contextOf(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}

function placeMarkers() {
  const markers = $("markers");
  while (markers.children.length > current.hints.length) markers.lastChild.remove();
  while (markers.children.length < current.hints.length) markers.append(newMarker());
  current.hints.forEach((hint, index) => {
    const marker = markers.children[index];
    const [x, y] = placeOf(hint);
    marker.style.left = `${100 * x}%`;
    marker.style.top = `${100 * y}%`;
    const color = colorOf(hint);
    marker.style.setProperty("--color", color);
    marker.ariaLabel = `Color ${index + 1}: ${color}`;
    marker.ariaPressed = String(index === chosen);
  });
}

function newMarker() {
  const marker = document.createElement("button");
  marker.type = "button";
  const index = () => [...$("markers").children].indexOf(marker);
  let start = null;
  marker.addEventListener("pointerdown", (event) => {
    start = { x: event.clientX, y: event.clientY, hints: current.hints, moves: false };
    marker.setPointerCapture(event.pointerId);
  });
  marker.addEventListener("pointermove", (event) => {
    if (!start) return;
    const far = Math.hypot(event.clientX - start.x, event.clientY - start.y) > STILL;
    if (!far && !start.moves) return;
    start.moves = true;
    current.hints = withHint(index(), moveHint(current.hints[index()], ...fractions(event)));
    placeMarkers();
    recolor();
  });
  const end = () => {
    if (start?.moves) {
      const moved = current.hints;
      current.hints = start.hints; // To be undone as one step.
      change(moved);
    }
    start = null;
  };
  marker.addEventListener("pointerup", end);
  marker.addEventListener("pointercancel", end);
  marker.addEventListener("click", (event) => {
    event.stopPropagation();
    choose(index());
  });
  marker.addEventListener("keydown", (event) => {
    const step = arrow(event);
    if (step) {
      const [x, y] = placeOf(current.hints[index()]);
      change(withHint(index(), moveHint(current.hints[index()], x + step[0], y + step[1])));
    } else if (event.key === "Delete" || event.key === "Backspace") {
      choose(index());
      removeChosen();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  return marker;
}

/** Which way an arrow key leads, as fractions; null for other keys. */
function arrow(event) {
  const step = event.shiftKey ? LARGE_STEP : STEP;
  const steps = {
    ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
  };
  return steps[event.key] ?? null;
}

/** Where a pointer is on the photo, as fractions of its width and height. */
function fractions(event) {
  const { left, top, width, height } = $("stage").getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height].map(within);
}

/** The fraction of the photo that is nearest to a number. */
function within(value) {
  return Math.min(Math.max(value, 0), 1);
}

// --- The editor of one hint ---------------------------------------------------------------

function choose(index) {
  chosen = index;
  takeColor(false);
  $("editor").hidden = index === null;
  placeMarkers();
  if (index !== null) showChosen();
}

/** The swatches at the lightness of the chosen spot, and its color. */
function showChosen() {
  const hint = current.hints[chosen];
  const [L] = shownAt(...placeOf(hint));
  const color = colorOf(hint);
  $("picker").value = color;
  $("typed").value = color;
  $("typed").ariaInvalid = "false";
  [...$("swatches").children].forEach((button, place) => {
    const [, a, b] = SWATCHES[place];
    button.dataset.color = hexOf(L, a, b);
    button.style.setProperty("--color", button.dataset.color);
  });
}

function takeColor(active) {
  takesColor = active;
  $("dropper").ariaPressed = String(active);
  $("stage").classList.toggle("takes-color", active);
}

/** "#rrggbb" of what a person typed: that, with or without "#", or the name of a color. */
function colorNamed(text) {
  const word = text.trim();
  if (/^#?[0-9a-f]{6}$/i.test(word)) return `#${word.replace("#", "").toLowerCase()}`;
  if (!/^[a-z]+$/i.test(word) || !CSS.supports("color", word)) return null;
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = word;
  // Of words that name no color of their own, such as "transparent", it makes another form.
  return /^#[0-9a-f]{6}$/.test(context.fillStyle) ? context.fillStyle : null;
}

function typeColor(text) {
  const color = colorNamed(text);
  $("typed").ariaInvalid = String(color === null);
  if (color !== null) setColor(color);
}

// --- Events -------------------------------------------------------------------------------

$("files").addEventListener("change", ({ target }) => {
  openFiles([...target.files]);
  target.value = ""; // So that the same file can be opened again.
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  openFiles([...event.dataTransfer.files]);
});
addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) openFiles([...clipboardData.files]);
});

$("stage").addEventListener("click", (event) => {
  const [x, y] = fractions(event);
  $("cursor").hidden = true;
  if (takesColor) {
    takeColor(false);
    setColor(hexOf(...shownAt(x, y)));
  } else {
    addHint(x, y);
  }
});
$("stage").addEventListener("keydown", (event) => {
  if (event.target !== $("stage")) return;
  const cursor = $("cursor");
  const [x, y] = [cursor.style.left || "50%", cursor.style.top || "50%"].map((place) =>
    parseFloat(place) / 100);
  const step = arrow(event);
  if (step) {
    cursor.style.left = `${100 * within(x + step[0])}%`;
    cursor.style.top = `${100 * within(y + step[1])}%`;
    cursor.hidden = false;
  } else if (event.key === "Enter") {
    addHint(x, y);
    $("swatches").firstChild.focus();
  } else {
    return;
  }
  event.preventDefault();
});

addEventListener("keydown", (event) => {
  if (!current || event.target.matches("input[type='text']")) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (event.key === "Escape" && chosen !== null) {
    const marker = $("markers").children[chosen];
    choose(null);
    marker.focus();
  } else if (control && key === "z" && !event.shiftKey) undo(current.past, current.future);
  else if (control && (key === "y" || key === "z")) undo(current.future, current.past);
  else return;
  event.preventDefault();
});
$("undo").addEventListener("click", () => undo(current.past, current.future));
$("redo").addEventListener("click", () => undo(current.future, current.past));
$("clear").addEventListener("click", () => {
  choose(null);
  change([]);
});

$("hint-file").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  target.value = "";
  report("");
  try {
    const hints = readHints(await file.text());
    choose(null);
    change(hints);
  } catch (error) {
    report(`${file.name} is no file of hints: ${error.message}`);
  }
});
$("save-hints").addEventListener("click", () => {
  const text = writeHints(current.hints);
  save(new Blob([text], { type: "application/json" }), `${stemOf(current)}.json`);
});

$("split").addEventListener("input", ({ target }) => {
  $("stage").style.setProperty("--split", `${target.value}%`);
  $("divider").hidden = target.value === "0";
});
$("saturation").addEventListener("input", ({ target }) => {
  current.saturation = target.value / 100;
  recolor();
});
$("download").addEventListener("click", () => download(current));
$("close").addEventListener("click", () => closePhoto(current));
$("download-all").addEventListener("click", async () => {
  for (const photo of photos) await download(photo);
});

for (const [name] of SWATCHES) {
  const button = document.createElement("button");
  button.type = "button";
  button.ariaLabel = button.title = name;
  button.addEventListener("click", () => setColor(button.dataset.color));
  $("swatches").append(button);
}
$("picker").addEventListener("change", ({ target }) => setColor(target.value));
$("typed").addEventListener("change", ({ target }) => typeColor(target.value));
$("dropper").addEventListener("click", () => takeColor(!takesColor));
$("remove").addEventListener("click", removeChosen);
$("done").addEventListener("click", () => {
  choose(null);
  $("stage").focus({ preventScroll: true });
});

$("where").addEventListener("change", () => loadNetwork());

addEventListener("beforeunload", (event) => {
  if (photos.some(({ hints }) => hints.length)) event.preventDefault();
});

// --- The start ----------------------------------------------------------------------------

/** Gets the network ready where the person wants it to run. */
async function loadNetwork() {
  const where = $("where").value;
  $("privacy").textContent = where === "server"
    ? "The lightness of photos, at 256x256 pixels, is sent to the server of this page."
    : "Photos never leave this device.";
  $("loading").hidden = false;
  $("progress").removeAttribute("value");
  await during("", () => ask("load", { options: site, where }));
  $("loading").hidden = true;
}

function addExamples() {
  for (const { name, title } of site.examples) {
    const button = document.createElement("button");
    button.type = "button";
    button.ariaLabel = title;
    const image = document.createElement("img");
    image.src = name;
    image.alt = "";
    button.append(image);
    button.addEventListener("click", () => during(`Opening ${title}`, async () => {
      const response = await fetch(name);
      await openFiles([new File([await response.blob()], name.split("/").at(-1))]);
    }));
    $("examples").append(button);
  }
  $("try").hidden = false;
}

/**
 * Lets a worker of the browser keep the page for offline use. It also sends the headers without
 * which there are no threads, once the page is loaded again through it.
 */
async function keepOffline() {
  if (!navigator.serviceWorker) return;
  await navigator.serviceWorker.register("service_worker.js");
  await navigator.serviceWorker.ready;
  if (!self.crossOriginIsolated && !sessionStorage.reloaded) {
    sessionStorage.reloaded = true;
    location.reload();
    await new Promise(() => {});
  }
}

async function start() {
  // Where it may not be kept, as in a private window, the page works all the same.
  await keepOffline().catch(() => {});
  site = await (await fetch("site.json")).json();
  $("where").querySelector("[value='webgpu']").hidden = !(site.webgpu && navigator.gpu);
  $("where").querySelector("[value='server']").hidden = !site.server;
  addExamples();
  await loadNetwork();
}

start().catch((error) => report(`The page could not be loaded: ${error.message}`));

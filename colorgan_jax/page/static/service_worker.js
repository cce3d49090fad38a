// Keeps the page for offline use, and adds the headers that threads in WebAssembly need, which
// simple web hosts do not send.

const CACHE = "colorgan";

self.addEventListener("install", (event) => {
  event.waitUntil(install());
});

async function install() {
  const cache = await caches.open(CACHE);
  const site = await (await fetch("site.json", { cache: "no-cache" })).json();
  // The network and its runtime are kept when the page asks for them.
  await cache.addAll([".", "site.json", ...site.files]);
  const needed = [site.model, site.wasm.wasm, site.webgpu?.wasm].map((file) => file?.name);
  for (const { url } of await cache.keys()) {
    const isOld = isFixed(url) && !needed.some((name) => name && url.endsWith(`/${name}`));
    if (isOld) await cache.delete(url);
  }
  await self.skipWaiting();
}

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

/** Whether a file has another name whenever its content is another. */
function isFixed(url) {
  return url.endsWith(".gzip");
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === self.location.origin) {
    event.respondWith(answer(request));
  }
});

/** Files that are fixed come from the cache, all others anew if that is possible. */
async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept && isFixed(request.url)) return isolated(kept);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return isolated(response);
  } catch (error) {
    if (kept) return isolated(kept);
    throw error;
  }
}

function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, {
    status: response.status, statusText: response.statusText, headers,
  });
}

// A service worker: without a connection, the rater's page is the one that was loaded last. What was to be answered
// is kept by the page itself, and its scripts and pictures by the browser.

const CACHE = "manyhot-page";

self.addEventListener("install", (event) => {
  self.skipWaiting();
  // The page that is open now was loaded before there was a worker.
  event.waitUntil(caches.open(CACHE).then((cache) => cache.add("/")).catch(() => {}));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.mode === "navigate" && request.method === "GET" && new URL(request.url).pathname === "/") {
    event.respondWith(page(request));
  }
});

async function page(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.status === 200) await cache.put("/", response.clone());
    if (response.status === 401) await cache.delete("/"); // logged out: the page has a name on it
    return response;
  } catch (error) {
    const last = await cache.match("/");
    if (last) return last;
    throw error;
  }
}

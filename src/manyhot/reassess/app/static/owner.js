// The numbers of the owner's page are fetched again every ten seconds while somebody looks at them, and at once for
// whoever comes back to them.

const SECONDS = 10;

async function refresh() {
  if (document.hidden || !document.querySelector("[data-live]")) return;
  const response = await fetch(`/owner${location.search}`);
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    // What somebody is about to change stays as it is.
    if (part.querySelector("details[open]") || part.contains(document.activeElement)) continue;
    const other = fresh.getElementById(part.id);
    if (other) part.replaceChildren(...other.childNodes);
  }
}

const quietly = () => refresh().catch(() => {}); // without a connection the numbers stay as they are

setInterval(quietly, SECONDS * 1000);
document.addEventListener("visibilitychange", quietly);

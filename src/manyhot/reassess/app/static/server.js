// Asking the server. What goes wrong is an error with the status, 0 where there was no answer at all.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const CAMPAIGN = meta("campaign");
export const RATER = meta("rater");
const PATIENCE_MS = 20_000;
const KEEPALIVE_BYTES = 32_000; // of those 64 kB that browsers let a page send that closes

let csrf = meta("csrf");

// A new session in another tab of this browser is this tab's, too.
export function useSession(token) { csrf = token; }

export const session = () => csrf;

export class Trouble extends Error {
  constructor(status, message, wait = 0) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

const KINDS = { 0: "offline", 401: "session", 403: "elsewhere", 423: "shut", 429: "busy" };

// What kind of trouble it is, of those that the rater can be told.
export const kindOf = (error) => KINDS[error.status] ?? "server";

export async function ask(path, body) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const how = text === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf": csrf },
    body: text,
    keepalive: new Blob([text]).size < KEEPALIVE_BYTES, // a letter has up to three bytes
  };
  let response, answer;
  try {
    response = await fetch(path, { ...how, redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    throw new Trouble(0, "no connection");
  }
  try {
    answer = response.status === 204 ? null : await response.json();
  } catch {
    // A gateway's page in place of our answer.
    throw new Trouble(response.ok ? 0 : response.status, "not understood", waitOf(response));
  }
  if (response.ok) return answer;
  const detail = typeof answer?.detail === "string" ? answer.detail : `error ${response.status}`;
  throw new Trouble(response.status, detail, waitOf(response));
}

function waitOf(response) {
  const seconds = Number(response.headers.get("retry-after"));
  return Number.isFinite(seconds) ? Math.min(seconds, 300) * 1000 : 0;
}

export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

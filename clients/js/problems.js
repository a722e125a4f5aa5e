/** Errors: the server's problem objects (RFC 9457), and those that only a client can see. */

const TYPE_PREFIX = "urn:mediaserver:problem:";

/** An error with a problem object; `code` is stable and meant for programs. */
export class ProblemError extends Error {
  /** @param {import("./types.d.ts").Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.title);
    this.name = "ProblemError";
    this.problem = problem;
  }

  get code() {
    return this.problem.code;
  }

  get retryable() {
    return this.problem.retryable;
  }
}

/**
 * Describes what the client itself found wrong, in the server's own form.
 * @param {string} code
 * @param {string} title
 * @param {string} detail
 * @param {{retryable?: boolean, status?: number, retry_after_s?: number | null}} [more]
 * @returns {import("./types.d.ts").Problem}
 */
export function problem(code, title, detail, more = {}) {
  return {
    type: TYPE_PREFIX + code,
    title,
    detail,
    code,
    status: more.status ?? 0,
    retryable: more.retryable ?? false,
    retry_after_s: more.retry_after_s ?? null,
    instance: null,
  };
}

export const UNREACHABLE = problem(
  "unreachable",
  "The server cannot be reached",
  "There is no answer from the server.",
  { retryable: true },
);

/** Close codes after which the same attempt would fail again. */
const PERMANENT = new Map([
  [1000, ["ended", "The session has ended", "The server ended the session."]],
  [1003, ["unsupported", "Not supported", "The server does not take what this client sends."]],
  [1008, ["refused", "Refused", "The server refused the session."]],
  [4401, ["unauthorized", "Unauthorized", "The server wants a valid API key."]],
  [4403, ["forbidden", "You were sent away", "You may not be in this room any more."]],
  [4404, ["not_found", "Not found", "There is no such room."]],
  [4409, ["conflict", "You are here twice", "You came back on another connection."]],
  [4410, ["room_closed", "The room is closed", "Its host has closed it."]],
]);

/**
 * Returns why a WebSocket closed: the error that the server sent before, or what its code means.
 * @param {number} code
 * @param {string} reason
 * @param {import("./types.d.ts").Problem | null} last the newest problem of this connection
 */
export function problemOfClose(code, reason, last) {
  const permanent = PERMANENT.get(code);
  if (permanent) {
    const [name, title, detail] = permanent;
    if (last && !last.retryable) return last;
    return problem(name, title, reason || detail, { status: code > 4400 ? code - 4000 : 0 });
  }
  if (code === 1013) {
    if (last?.retryable) return last;
    const detail = reason || "The server has no room for this session now.";
    return problem("overloaded", "The server is full", detail, { retryable: true });
  }
  if (code === 1001 || code === 1012) {
    const detail = reason || "It will be back in a moment.";
    return problem("restarting", "The server is restarting", detail, { retryable: true });
  }
  const detail = reason || "The connection to the server was lost.";
  return problem("connection_lost", "Connection lost", detail, { retryable: true });
}

/**
 * Turns an HTTP response into its problem; null when it tells of none.
 * @param {Response} response
 */
export async function problemOfResponse(response) {
  if (response.ok) return null;
  const type = response.headers.get("content-type") ?? "";
  if (type.includes("json")) {
    const body = await response.json().catch(() => null);
    if (body && typeof body.code === "string") return body;
  }
  const again = response.status === 429 || response.status >= 500;
  const after = Number(response.headers.get("retry-after"));
  return problem(
    response.status === 401 ? "unauthorized" : `http_${response.status}`,
    `The server answered ${response.status}`,
    response.statusText || `The server answered with status ${response.status}.`,
    { status: response.status, retryable: again, retry_after_s: after > 0 ? after : null },
  );
}

/**
 * Finds out why a WebSocket handshake failed. Browsers do not tell, so the same URL is asked by
 * HTTP: what refuses the handshake (a missing key, a full server) refuses this too.
 * @param {string} url of the WebSocket
 * @param {string | null} apiKey
 * @param {import("./environment.js").Environment} environment
 */
export async function problemOfHandshake(url, apiKey, environment) {
  const signal = AbortSignal.timeout(5000);
  try {
    const response = await environment.fetch(url.replace(/^ws/, "http"), {
      headers: apiKey ? { "X-API-Key": apiKey } : {},
      cache: "no-store",
      signal,
    });
    const found = await problemOfResponse(response);
    if (found && [401, 403, 404, 429, 503].includes(response.status)) return found;
  } catch {
    return UNREACHABLE;
  }
  return problem("connection_lost", "Connection lost", "The WebSocket could not be opened.", {
    retryable: true,
  });
}

export const LEFT = problem("left", "Left", "The session was left.");
export const NOT_CONNECTED = problem("not_connected", "Not connected", "There is no connection now.", {
  retryable: true,
});
export const LOST = problem(
  "connection_lost",
  "Connection lost",
  "The connection was lost before the server answered.",
  { retryable: true },
);
export const TIMED_OUT = problem("timeout", "No answer", "The server did not answer in time.", {
  retryable: true,
});

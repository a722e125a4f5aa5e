/** Sends one piece of a file: by XMLHttpRequest where there is one, as it tells how it gets on. */

import { ProblemError, problem, problemOfResponse, TIMED_OUT, UNREACHABLE } from "./problems.js";

/** Nothing gets through any more: the connection is given up. */
const STALLED_MS = 30_000;
/** For a whole piece, where nobody tells how it gets on. */
const PIECE_MS = 300_000;

export const STOPPED = problem("aborted", "The upload was stopped", "It can go on later.", {
  retryable: true,
});

/**
 * Sends a piece; resolves with the answer's headers. Rejects with ProblemError.
 * @param {import("./environment.js").Environment} environment
 * @param {URL} url
 * @param {{body: Blob, headers: Record<string, string>, onSent: (bytes: number) => void,
 *   signal?: AbortSignal}} piece
 * @returns {Promise<{get(name: string): string | null}>}
 */
export async function sendPiece(environment, url, piece) {
  if (piece.signal?.aborted) throw new ProblemError(STOPPED);
  const response = environment.XMLHttpRequest
    ? await byRequest(environment, environment.XMLHttpRequest, url, piece)
    : await byFetch(environment, url, piece);
  const found = await problemOfResponse(response);
  if (found) throw new ProblemError(found);
  return response.headers;
}

/**
 * @param {import("./environment.js").Environment} environment
 * @param {typeof XMLHttpRequest} Request
 * @param {URL} url
 * @param {Parameters<typeof sendPiece>[2]} piece
 * @returns {Promise<Response>}
 */
function byRequest(environment, Request, url, { body, headers, onSent, signal }) {
  return new Promise((resolve, reject) => {
    const request = new Request();
    /** @type {any} */
    let timer;
    const done = (/** @type {() => void} */ action) => {
      environment.clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      action();
    };
    const fail = (/** @type {import("./types.d.ts").Problem} */ reason) =>
      done(() => reject(new ProblemError(reason)));
    const stop = (/** @type {import("./types.d.ts").Problem} */ reason) => {
      request.onerror = request.onabort = null;
      request.abort();
      fail(reason);
    };
    const onAbort = () => stop(STOPPED);
    const watch = () => {
      environment.clearTimeout(timer);
      timer = environment.setTimeout(() => stop(TIMED_OUT), STALLED_MS);
    };
    request.open("PATCH", url.href);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => {
      watch();
      onSent(loaded);
    };
    request.onload = () => done(() => resolve(responseOf(request)));
    request.onerror = request.onabort = () => fail(UNREACHABLE);
    signal?.addEventListener("abort", onAbort);
    watch();
    request.send(body);
  });
}

function responseOf(/** @type {XMLHttpRequest} */ request) {
  const headers = new Headers();
  for (const line of request.getAllResponseHeaders().trim().split(/\r?\n/)) {
    const at = line.indexOf(":");
    if (at > 0) headers.append(line.slice(0, at).trim(), line.slice(at + 1).trim());
  }
  const { status, statusText } = request;
  return new Response(status === 204 ? null : request.responseText, { status, statusText, headers });
}

/**
 * @param {import("./environment.js").Environment} environment
 * @param {URL} url
 * @param {Parameters<typeof sendPiece>[2]} piece
 */
async function byFetch(environment, url, { body, headers, signal }) {
  const controller = new AbortController();
  const stop = () => controller.abort();
  const timer = environment.setTimeout(stop, PIECE_MS);
  signal?.addEventListener("abort", stop);
  try {
    return await environment.fetch(url.href, {
      method: "PATCH",
      body,
      headers,
      credentials: "same-origin",
      signal: controller.signal,
    });
  } catch {
    if (signal?.aborted) throw new ProblemError(STOPPED);
    throw new ProblemError(controller.signal.aborted ? TIMED_OUT : UNREACHABLE);
  } finally {
    environment.clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

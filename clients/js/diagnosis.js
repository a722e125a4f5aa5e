/** Why a video cannot be played: media elements hardly say, so its server is asked. */

import { problem } from "./problems.js";

/** @typedef {import("./types.d.ts").Problem} Problem */

const TITLE = "This video cannot be played";
const ANSWER_MS = 4000;
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$|\.localhost$/;
/** What a server calls HLS playlists, videos, and files that it knows nothing about. */
const MEDIA = /^(audio|video)\/|mpegurl|octet-stream|^application\/mp4/i;

/**
 * Describes why a video cannot be played; trying again may help.
 * @param {string} code
 * @param {string} detail
 */
export const unplayable = (code, detail) => problem(code, TITLE, detail, { retryable: true });

/** What a server's refusal means. @param {number} status of HTTP */
export function ofStatus(status) {
  if (status === 404 || status === 410) {
    return unplayable("not_found", `There is no video at this address (any more): its server answers ${status}.`);
  }
  if (status === 401 || status === 403) {
    return unplayable("refused", `Its server gives the video only to whoever may have it (${status}).`);
  }
  return unplayable("network", `Its server has trouble with it (${status}); perhaps it works later.`);
}

/**
 * Asks a video's server, which takes 4 s at most.
 * @param {string} url
 * @param {"file" | "hls"} kind
 * @param {Problem} otherwise where the server does not say, or says that all is well
 * @param {typeof fetch} ask
 * @returns {Promise<Problem>}
 */
export async function explain(url, kind, otherwise, ask) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), ANSWER_MS);
  const options = { credentials: "omit", cache: "no-store", signal: controller.signal };
  try {
    const response = await ask(url, /** @type {RequestInit} */ (options));
    if (!response.ok) return ofStatus(response.status);
    const type = response.headers.get("content-type") ?? "";
    if (!type || MEDIA.test(type)) return otherwise;
    return unplayable("not_a_video", `The address leads to something else than a video (${type.split(";")[0]}).`);
  } catch {
    if (controller.signal.aborted) return unplayable("network", "The video's server does not answer.");
    return await behindTheWall(url, kind, otherwise, ask, controller.signal);
  } finally {
    clearTimeout(timer);
    controller.abort(); // the answer's body is not wanted
  }
}

/**
 * The answer may not be read: is there one at all?
 * @param {string} url
 * @param {"file" | "hls"} kind
 * @param {Problem} otherwise
 * @param {typeof fetch} ask
 * @param {AbortSignal} signal
 */
async function behindTheWall(url, kind, otherwise, ask, signal) {
  try {
    await ask(url, { mode: "no-cors", credentials: "omit", cache: "no-store", signal });
  } catch {
    return unplayable("network", "The video's server cannot be reached.");
  }
  if (kind === "file") return otherwise; // files need nobody's leave
  return unplayable("cors", "The video's server does not let pages of other sites play it (CORS), or the video is gone.");
}

/** Whether the page came by https and the video would not: browsers refuse that. */
function isMixed(/** @type {URL} */ url) {
  const page = globalThis.location?.protocol;
  return page === "https:" && url.protocol === "http:" && !LOOPBACK.test(url.hostname);
}

/**
 * An address that the page may load: of mixed content the same by https, as browsers do with images.
 * @param {string} url
 */
export function securedUrl(url) {
  const parsed = new URL(url, globalThis.document?.baseURI);
  if (isMixed(parsed)) parsed.protocol = "https:";
  return parsed.href;
}

export const MIXED = problem(
  "mixed_content",
  "This video cannot be played here",
  "Its address begins with http:, this page's with https:, and browsers do not mix them. Its server does not have it by https: either.",
  { retryable: true },
);

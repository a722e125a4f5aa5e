/** The transcripts that the server keeps, one for each session. */

import { ProblemError, problemOfResponse } from "./problems.js";

const TIMEOUT_MS = 15_000;

/**
 * Where one of them is.
 * @param {string} url of `/ws`
 * @param {string} format
 * @param {string} sessionId
 */
export function transcriptUrl(url, format, sessionId) {
  const base = url.replace(/^ws/, "http");
  return new URL(`api/v1/sessions/${encodeURIComponent(sessionId)}/transcript.${format}`, base).href;
}

/**
 * Fetches one. Rejects with ProblemError.
 * @param {import("./environment.js").Environment} environment
 * @param {string} url
 * @param {Record<string, string>} headers
 */
export async function fetchTranscript(environment, url, headers) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await environment.fetch(url, { headers, signal });
  const found = await problemOfResponse(response);
  if (found) throw new ProblemError(found);
  return response.text();
}

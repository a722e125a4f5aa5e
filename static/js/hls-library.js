/** hls.js, for browsers that do not play HLS themselves. Loaded only when somebody watches HLS. */

const place = (/** @type {string} */ name) => new URL(`../../vendor/${name}`, import.meta.url).href;

/**
 * Rejects where the server has no hls.js (docs/playback.md says how it comes there).
 * @returns {Promise<import("../../clients/js/index.d.ts").HlsLibrary>}
 */
export async function hlsLibrary() {
  const { default: Hls } = await import(place("hls.js"));
  return { Hls, workerPath: place("hls.worker.js") };
}

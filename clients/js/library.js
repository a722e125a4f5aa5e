/** The videos of this server: what there is, uploading, and addresses to play them at. */

import { UploadMemory } from "./upload-memory.js";
import { Upload } from "./upload.js";

/**
 * @typedef {import("./types.d.ts").VideoInfo} VideoInfo
 * @typedef {import("./types.d.ts").VideoList} VideoList
 * @typedef {import("./types.d.ts").SignedPlayback} SignedPlayback
 */

export class VideosApi {
  #api;
  #memory;

  /** @param {import("./api.js").RoomsApi} api as whoever it asks */
  constructor(api) {
    this.#api = api;
    this.#memory = new UploadMemory(api.environment, api.base);
  }

  /**
   * The newest first; `next` of a list is the next one's `after`.
   * @param {{after?: string | null, limit?: number}} [page]
   * @returns {Promise<VideoList>}
   */
  list({ after = null, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit: String(limit), ...(after && { after }) });
    return this.#api.request("GET", `api/videos?${query}`);
  }

  /** @param {string} videoId @returns {Promise<VideoInfo>} */
  get(videoId) {
    return this.#api.request("GET", pathOf(videoId));
  }

  /** @param {string} videoId @param {string} title @returns {Promise<VideoInfo>} */
  rename(videoId, title) {
    return this.#api.request("PATCH", pathOf(videoId), { title });
  }

  /** Also while it is uploaded or prepared. @param {string} videoId */
  async remove(videoId) {
    await this.#api.request("DELETE", pathOf(videoId));
    this.#memory.forget(videoId);
  }

  /**
   * An address to play it at, without credentials, for a while.
   * @param {string} videoId
   * @param {{expiresInS?: number, subject?: string}} [options]
   * @returns {Promise<SignedPlayback>}
   */
  async sign(videoId, { expiresInS, subject } = {}) {
    const source = await this.#api.request("POST", "api/videos/sign", {
      video_id: videoId,
      ...(expiresInS !== undefined && { expires_in: expiresInS }),
      ...(subject !== undefined && { subject }),
    });
    return { ...source, url: new URL(source.url, this.#api.base).href };
  }

  /**
   * Uploads a file; resolves when the server has it all and begins to prepare it. What this browser
   * began to upload before goes on from there.
   * @param {Blob} file
   * @param {import("./index.d.ts").UploadOptions} [options]
   * @returns {Promise<VideoInfo>}
   */
  async upload(file, options = {}) {
    return this.get(await new Upload(this.#api, file, this.#memory, options).run());
  }

  /** Whether its upload was begun in this browser and may go on here. @param {string} videoId */
  mayResume(videoId) {
    return this.#memory.knows(videoId);
  }
}

function pathOf(/** @type {string} */ videoId) {
  return `api/videos/${encodeURIComponent(videoId)}`;
}

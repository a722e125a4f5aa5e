/**
 * Uploads a file in pieces, by tus 1.0.0. After a lost connection it asks how far the server has it
 * and goes on from there; so may another page.
 */

import { Backoff } from "./backoff.js";
import { ProblemError, problem } from "./problems.js";
import { sendPiece, STOPPED } from "./upload-piece.js";
import { Sleep } from "./waiting.js";

/**
 * @typedef {import("./types.d.ts").Problem} Problem
 * @typedef {import("./index.d.ts").UploadOptions} UploadOptions
 */

const TUS = { "Tus-Resumable": "1.0.0" };
const UPLOADS = "api/videos/uploads";
export const PIECE_BYTES = 8 * 2 ** 20;
/** So long without one byte getting through, and it is given up; it can be taken up again. */
const PATIENCE_MS = 300_000;
/** What an unfinished upload answers where there is none that is ours: begin another one. */
const NOT_OURS = [403, 404, 410];
const GONE = problem("no_upload", "The upload is gone", "It was deleted meanwhile. Begin again.");
const MAX_TITLE = 200;

const EMPTY = problem("empty_file", "This file is empty", "There is nothing in it to upload.");
const UNREADABLE = problem(
  "file_unreadable",
  "The file cannot be read any more",
  "It was changed, moved or removed meanwhile. Choose it again.",
);

export class Upload {
  #api;
  #file;
  #memory;
  #options;
  #sleep;
  #backoff;
  #videoId = "";
  #offset = 0;
  #movedAtMs = 0;

  /**
   * @param {import("./api.js").RoomsApi} api
   * @param {Blob} file
   * @param {import("./upload-memory.js").UploadMemory} memory
   * @param {UploadOptions} options
   */
  constructor(api, file, memory, options) {
    this.#api = api;
    this.#file = file;
    this.#memory = memory;
    this.#options = options;
    const { environment } = api;
    this.#sleep = new Sleep(environment);
    this.#backoff = new Backoff({ random: environment.random, ...options.backoff });
  }

  /** Resolves with the video's id when the server has it all. Rejects with ProblemError. */
  async run() {
    if (this.#file.size === 0) throw new ProblemError(EMPTY);
    const { signal } = this.#options;
    const wake = () => this.#sleep.wake();
    signal?.addEventListener("abort", wake);
    const unwatch = this.#api.environment.watchWake(wake);
    try {
      await this.#begin();
      while (this.#offset < this.#file.size) await this.#goOn();
      this.#memory.forget(this.#videoId);
      return this.#videoId;
    } finally {
      unwatch();
      signal?.removeEventListener("abort", wake);
    }
  }

  async #begin() {
    const known = this.#memory.recall(this.#file);
    if (known === null || !(await this.#resume(known))) await this.#create();
    this.#movedAtMs = this.#api.environment.now();
    this.#tell(this.#offset);
  }

  /** Whether the server still has it. */
  async #resume(/** @type {string} */ videoId) {
    this.#videoId = videoId;
    try {
      const { offset, size } = await this.#ask();
      this.#offset = offset;
      if (size === this.#file.size) return true;
    } catch (error) {
      const status = error instanceof ProblemError ? error.problem.status : 0;
      if (!NOT_OURS.includes(status)) throw error;
    }
    this.#memory.forget(videoId);
    return false;
  }

  async #create() {
    this.#stopIfAsked();
    const { name = "", type, size } = /** @type {Partial<File> & Blob} */ (this.#file);
    const title = (this.#options.title || name || "Video").slice(0, MAX_TITLE);
    const told = { title, ...(name && { filename: name }), ...(type && { filetype: type }) };
    const metadata = Object.entries(told).map(([key, value]) => `${key} ${base64(value)}`);
    const headers = { ...TUS, "Upload-Length": String(size), "Upload-Metadata": metadata.join(",") };
    const answer = await this.#api.ask("POST", UPLOADS, { headers });
    // The last part of it is enough: a proxy in between may have other paths.
    this.#videoId = decodeURIComponent((answer.headers.get("location") ?? "").split("/").at(-1) ?? "");
    this.#offset = 0;
    this.#memory.keep(this.#file, this.#videoId);
  }

  /** One piece; where it does not arrive: a wait, then as far as it did. */
  async #goOn() {
    this.#stopIfAsked();
    try {
      this.#movedTo(await this.#send());
    } catch (error) {
      if (!(error instanceof ProblemError) || error.problem === STOPPED) throw error;
      await this.#readable();
      await this.#recover(error);
    }
  }

  async #send() {
    const offset = this.#offset;
    const body = this.#file.slice(offset, offset + PIECE_BYTES);
    const headers = {
      ...TUS,
      "Content-Type": "application/offset+octet-stream",
      "Upload-Offset": String(offset),
      ...(await this.#api.headers()),
    };
    const { signal } = this.#options;
    const onSent = (/** @type {number} */ bytes) => this.#tell(offset + Math.min(bytes, body.size));
    const url = new URL(this.#path, this.#api.base);
    return offsetOf(await sendPiece(this.#api.environment, url, { body, headers, onSent, signal }));
  }

  /** Waits and asks, until the server answers. @param {ProblemError} error */
  async #recover(error) {
    for (;;) {
      const { now } = this.#api.environment;
      const mayHelp = error.retryable || [401, 408, 409, 423].includes(error.problem.status);
      if (!mayHelp || now() - this.#movedAtMs > PATIENCE_MS) throw error;
      const waitS = this.#backoff.next(error.problem.retry_after_s ?? 0);
      this.#tell(this.#offset, error.problem, waitS);
      await this.#sleep.for(waitS * 1000);
      this.#stopIfAsked();
      try {
        const { offset } = await this.#ask();
        return this.#movedTo(offset);
      } catch (again) {
        if (!(again instanceof ProblemError)) throw again;
        const left = await this.#leftToDo(again);
        if (left === null) return;
        error = left;
      }
    }
  }

  /** Its last answer may have been lost: a finished upload is none any more. */
  async #leftToDo(/** @type {ProblemError} */ error) {
    if (![404, 410].includes(error.problem.status)) return error;
    let info = null;
    try {
      info = await this.#api.request("GET", `api/videos/${encodeURIComponent(this.#videoId)}`);
    } catch (unknown) {
      if (unknown instanceof ProblemError && unknown.retryable) return unknown;
    }
    if (info === null || info.state === "uploading") {
      this.#memory.forget(this.#videoId);
      throw new ProblemError(GONE);
    }
    this.#movedTo(this.#file.size);
    return null;
  }

  /** How much the server has, and how much it awaits. */
  async #ask() {
    const { headers } = await this.#api.ask("HEAD", this.#path, { headers: TUS });
    return { offset: offsetOf(headers), size: Number(headers.get("upload-length")) };
  }

  async #readable() {
    try {
      await this.#file.slice(this.#offset, this.#offset + 1).arrayBuffer();
    } catch {
      throw new ProblemError(UNREADABLE);
    }
  }

  #movedTo(/** @type {number} */ offset) {
    if (offset > this.#offset) {
      this.#backoff.reset();
      this.#movedAtMs = this.#api.environment.now();
    }
    this.#offset = offset;
    this.#tell(offset);
  }

  #stopIfAsked() {
    if (this.#options.signal?.aborted) throw new ProblemError(STOPPED);
  }

  get #path() {
    return `${UPLOADS}/${encodeURIComponent(this.#videoId)}`;
  }

  /**
   * @param {number} sentBytes
   * @param {Problem | null} [problem]
   * @param {number | null} [retryInS]
   */
  #tell(sentBytes, problem = null, retryInS = null) {
    const sizeBytes = this.#file.size;
    this.#options.onProgress?.({ videoId: this.#videoId, sentBytes, sizeBytes, problem, retryInS });
  }
}

/** @param {{get(name: string): string | null}} headers */
function offsetOf(headers) {
  const offset = Number(headers.get("upload-offset") ?? NaN);
  if (Number.isInteger(offset) && offset >= 0) return offset;
  const detail = "The server does not say how much of the file it has.";
  throw new ProblemError(problem("no_offset", "The upload cannot go on", detail));
}

/** Of UTF-8, as tus wants it. */
function base64(/** @type {string} */ text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** Which uploads this browser began and did not finish, so that another page may go on with them. */

const PREFIX = "mediaserver.upload ";
/** The server forgets uploads sooner. */
const KEPT_S = 7 * 86_400;

/** Remembers by what a file looks like from outside: name, size, time of its last change. */
export class UploadMemory {
  #environment;
  #prefix;

  /**
   * @param {import("./environment.js").Environment} environment
   * @param {URL} base of the server
   */
  constructor(environment, base) {
    this.#environment = environment;
    this.#prefix = `${PREFIX}${base.href} `;
  }

  /** The video that the file was being uploaded as; null where that is not known. */
  recall(/** @type {Blob} */ file) {
    return this.#entries().find(([key]) => key === this.#keyOf(file))?.[1].videoId ?? null;
  }

  /** @param {Blob} file @param {string} videoId */
  keep(file, videoId) {
    const atS = Math.round(this.#environment.wallTime());
    for (const [key, entry] of this.#entries()) {
      if (!(atS - entry.atS < KEPT_S)) this.#try((storage) => storage.removeItem(key));
    }
    const kept = JSON.stringify({ videoId, atS });
    this.#try((storage) => storage.setItem(this.#keyOf(file), kept));
  }

  forget(/** @type {string} */ videoId) {
    for (const [key, entry] of this.#entries()) {
      if (entry.videoId === videoId) this.#try((storage) => storage.removeItem(key));
    }
  }

  /** Whether it was begun in this browser. */
  knows(/** @type {string} */ videoId) {
    return this.#entries().some(([, entry]) => entry.videoId === videoId);
  }

  #keyOf(/** @type {Blob} */ file) {
    const { name = "", lastModified = 0 } = /** @type {Partial<File>} */ (file);
    return this.#prefix + JSON.stringify([name, file.size, lastModified]);
  }

  /** @returns {[string, {videoId: string, atS: number}][]} */
  #entries() {
    const found = this.#try((storage) => {
      const keys = [];
      for (let index = 0; index < storage.length; index += 1) keys.push(storage.key(index) ?? "");
      return keys
        .filter((key) => key.startsWith(this.#prefix))
        .map((key) => [key, entryOf(storage.getItem(key))]);
    });
    return found ?? [];
  }

  /** @param {(storage: Storage) => any} access */
  #try(access) {
    const { storage } = this.#environment;
    try {
      return storage ? access(storage) : null;
    } catch {
      return null; // full, or refused: nothing is remembered
    }
  }
}

function entryOf(/** @type {string | null} */ text) {
  try {
    const { videoId, atS } = JSON.parse(text ?? "");
    return { videoId: String(videoId), atS: Number(atS) };
  } catch {
    return { videoId: "", atS: 0 };
  }
}

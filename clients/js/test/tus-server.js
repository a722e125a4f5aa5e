/** A small tus server on loopback, which breaks connections where a test says so. */

import { createServer } from "node:http";
import { once } from "node:events";

export async function tusServer() {
  const uploads = new Map();
  /** What to do with the next PATCH: ["break", bytes], ["lose"], ["hang"], or [status, code]. */
  const script = [];
  const log = [];
  const tus = { uploads, script, log, forget: () => uploads.clear() };

  const refuse = (response, status, code, headers = {}) => {
    response.writeHead(status, { "content-type": "application/problem+json", ...headers });
    response.end(JSON.stringify({ code, status, title: code, detail: code, retryable: [423, 429].includes(status) || status >= 500, retry_after_s: Number(headers["retry-after"] ?? 0) || null }));
  };

  async function patch(request, response, upload) {
    const [what, how, headers] = script.shift() ?? [];
    if (typeof what === "number") {
      request.resume();
      return refuse(response, what, how, headers);
    }
    if (what === "hang") return request.resume();
    if (Number(request.headers["upload-offset"]) !== upload.bytes.length) {
      request.resume();
      return refuse(response, 409, "wrong_offset");
    }
    for await (const chunk of request) {
      upload.bytes = Buffer.concat([upload.bytes, chunk]);
      if (what === "break" && upload.bytes.length >= how) return request.socket.destroy();
    }
    if (upload.bytes.length === upload.size) upload.state = "processing";
    if (what === "lose") return request.socket.destroy();
    response.writeHead(204, { "Tus-Resumable": "1.0.0", "Upload-Offset": String(upload.bytes.length) });
    response.end();
  }

  const server = createServer(async (request, response) => {
    const { method, url, headers } = request;
    log.push([method, url, headers]);
    const id = url.split("/").at(-1).split("?")[0];
    const upload = uploads.get(id);
    if (method === "POST" && url === "/api/videos/uploads") {
      const made = `v_${uploads.size + 1}`;
      uploads.set(made, { size: Number(headers["upload-length"]), bytes: Buffer.alloc(0), state: "uploading", metadata: headers["upload-metadata"] });
      response.writeHead(201, { Location: `/api/videos/uploads/${made}`, "Tus-Resumable": "1.0.0" });
      return response.end();
    }
    if (!upload) return refuse(response, 404, "no_upload");
    if (method === "PATCH") return patch(request, response, upload).catch(() => {});
    if (method === "HEAD") {
      if (upload.state !== "uploading") return refuse(response, 404, "no_upload");
      response.writeHead(200, { "Upload-Offset": String(upload.bytes.length), "Upload-Length": String(upload.size) });
      return response.end();
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ video_id: id, state: upload.state }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  tus.url = `http://127.0.0.1:${server.address().port}/`;
  tus.close = () => {
    server.closeAllConnections();
    server.close();
  };
  tus.asked = (method) => log.filter(([asked]) => asked === method).length;
  return tus;
}

/** As much of localStorage as is used. */
export class FakeStorage {
  #kept = new Map();

  get length() {
    return this.#kept.size;
  }

  key(index) {
    return [...this.#kept.keys()][index] ?? null;
  }

  getItem(key) {
    return this.#kept.get(key) ?? null;
  }

  setItem(key, value) {
    this.#kept.set(key, value);
  }

  removeItem(key) {
    this.#kept.delete(key);
  }
}

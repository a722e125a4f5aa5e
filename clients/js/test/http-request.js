/** As much of XMLHttpRequest as uploads use, over Node's HTTP: real bytes on a real socket. */

import { request as ask } from "node:http";

export class HttpRequest {
  status = 0;
  statusText = "";
  responseText = "";
  upload = { onprogress: null };
  onload = null;
  onerror = null;
  onabort = null;
  #headers = {};
  #answer = null;
  #sent = null;

  open(method, url) {
    this.method = method;
    this.url = url;
  }

  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }

  getAllResponseHeaders() {
    return Object.entries(this.#answer.headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  }

  abort() {
    this.#sent.destroy();
    this.onabort?.();
  }

  async send(blob) {
    const bytes = Buffer.from(await blob.arrayBuffer());
    const headers = { ...this.#headers, "Content-Length": bytes.length };
    this.#sent = ask(this.url, { method: this.method, headers, agent: false }, (answer) => {
      this.#answer = answer;
      [this.status, this.statusText] = [answer.statusCode, answer.statusMessage];
      answer.on("data", (chunk) => (this.responseText += chunk));
      answer.on("end", () => this.onload?.());
    });
    this.#sent.on("error", () => this.onerror?.());
    const part = 2 ** 20;
    for (let at = 0; at < bytes.length; at += part) {
      const to = Math.min(bytes.length, at + part);
      await new Promise((resolve) => this.#sent.write(bytes.subarray(at, to), resolve));
      this.upload.onprogress?.({ loaded: to });
    }
    this.#sent.end();
  }
}

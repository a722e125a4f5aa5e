import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, it } from "node:test";

import { MIXED, explain, securedUrl, unplayable } from "../diagnosis.js";
import { MediaLoader } from "../loader.js";

const OTHERWISE = unplayable("decode", "as the browser said");

describe("Why a video cannot be played", () => {
  let server;
  let base;
  before(async () => {
    server = createServer(({ url }, response) => {
      const [, status, type] = /^\/(\d+)(?:\/(.+))?$/.exec(url);
      response.writeHead(Number(status), type ? { "content-type": type } : {});
      response.end("something");
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${server.address().port}`;
  });
  after(() => server.close());

  for (const [path, code] of [
    ["/404", "not_found"], ["/410", "not_found"], ["/401", "refused"], ["/403", "refused"], ["/503", "network"],
    ["/200/text/html", "not_a_video"], ["/200/video/mp4", "decode"], ["/200/application/vnd.apple.mpegurl", "decode"], ["/200", "decode"],
  ]) {
    it(`is ${code} after ${path}`, async () => {
      assert.equal((await explain(base + path, "file", OTHERWISE, fetch)).code, code);
    });
  }

  it("is that its server does not answer", async () => {
    assert.equal((await explain("http://127.0.0.1:9/film.mp4", "hls", OTHERWISE, fetch)).code, "network");
  });

  it("is CORS where there is an answer that may not be read; files need no leave", async () => {
    const walled = async (_url, { mode }) => {
      if (mode !== "no-cors") throw new TypeError("Failed to fetch");
      return { ok: false, type: "opaque" };
    };
    assert.equal((await explain("https://films.test/a.m3u8", "hls", OTHERWISE, walled)).code, "cors");
    assert.equal((await explain("https://films.test/a.mp4", "file", OTHERWISE, walled)).code, "decode");
  });

  it("leaves addresses alone where the page came by http", () => {
    assert.equal(securedUrl("http://films.test/a.mp4"), "http://films.test/a.mp4");
    globalThis.location = { protocol: "https:" };
    try {
      assert.equal(securedUrl("http://films.test/a.mp4"), "https://films.test/a.mp4");
      assert.equal(securedUrl("http://127.0.0.1:8/a.mp4"), "http://127.0.0.1:8/a.mp4");
    } finally {
      delete globalThis.location;
    }
    assert.equal(MIXED.code, "mixed_content");
  });
});

class Element extends EventTarget {
  src = "";
  error = null;
  plays = "";
  load() {}
  removeAttribute() {
    this.src = "";
  }
  hasAttribute() {
    return this.src !== "";
  }
  canPlayType() {
    return this.plays;
  }
  fail(code) {
    this.error = { code };
    this.dispatchEvent(new Event("error"));
  }
}

/** As much of hls.js as is used, to bring about what it tells. */
function library() {
  const made = [];
  class Hls {
    static isSupported = () => true;
    recoveries = 0;
    destroyed = false;
    constructor() {
      made.push(this);
    }
    on(_event, listener) {
      this.tell = (data) => listener("hlsError", data);
    }
    loadSource() {}
    attachMedia(element) {
      element.src = "blob:x";
    }
    recoverMediaError() {
      this.recoveries += 1;
    }
    destroy() {
      this.destroyed = true;
    }
  }
  return { made, get: async () => ({ Hls }) };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

function loading({ plays = "maybe", hls = null, answer = async () => new Response("", { status: 404 }) } = {}) {
  const element = Object.assign(new Element(), { plays });
  const problems = [];
  const loader = new MediaLoader(element, { fetch: answer }, hls, (found) => problems.push(found.code));
  return { element, loader, problems };
}

describe("MediaLoader", () => {
  it("says at once that nothing here plays HLS", () => {
    assert.equal(loading({ plays: "" }).loader.load("hls", "http://f.test/a.m3u8").code, "no_hls");
  });

  it("says so too where hls.js is not to be had", async () => {
    const { loader, problems } = loading({ plays: "", hls: () => Promise.reject(new Error("404")) });
    assert.equal(loader.load("hls", "http://f.test/a.m3u8"), null);
    await settled();
    assert.deepEqual(problems, ["no_hls"]);
  });

  it("never asks for hls.js for a file", async () => {
    let asked = 0;
    const { loader, element } = loading({ hls: async () => (asked += 1) });
    loader.load("file", "http://f.test/a.mp4");
    assert.deepEqual([loader.how, element.src], ["file", "http://f.test/a.mp4"]);
    element.fail(4);
    await settled();
    assert.equal(asked, 0);
  });

  it("leaves a stream that may not be read to the browser, then says what is wrong", async () => {
    const hls = library();
    const { loader, element, problems } = loading({ hls: hls.get });
    loader.load("hls", "http://f.test/a.m3u8");
    await settled();
    assert.equal(loader.how, "hls.js");
    hls.made[0].tell({ type: "networkError", details: "manifestLoadError", fatal: true, response: { code: 0 } });
    assert.deepEqual([loader.how, element.src, hls.made[0].destroyed], ["native", "http://f.test/a.m3u8", true]);
    element.fail(4);
    await settled();
    assert.deepEqual([problems, loader.how], [["not_found"], null]);
  });

  it("recovers from one error of the decoder, and tells the second", async () => {
    const hls = library();
    const { loader, problems } = loading({ hls: hls.get });
    loader.load("hls", "http://f.test/a.m3u8");
    await settled();
    const [made] = hls.made;
    made.tell({ type: "mediaError", details: "bufferAppendError", fatal: false });
    made.tell({ type: "mediaError", details: "bufferAppendError", fatal: true });
    assert.deepEqual([made.recoveries, problems], [1, []]);
    made.tell({ type: "mediaError", details: "bufferAppendError", fatal: true });
    assert.deepEqual([made.destroyed, problems], [true, ["decode"]]);
  });

  for (const [data, code] of [
    [{ type: "mediaError", details: "manifestIncompatibleCodecsError" }, "codec"],
    [{ type: "networkError", details: "manifestParsingError" }, "not_a_video"],
    [{ type: "networkError", details: "fragLoadError", response: { code: 403 } }, "refused"],
  ]) {
    it(`tells ${code} from ${data.details}`, async () => {
      const hls = library();
      const { loader, problems } = loading({ hls: hls.get });
      loader.load("hls", "http://f.test/a.m3u8");
      await settled();
      hls.made[0].tell({ ...data, fatal: true });
      assert.deepEqual(problems, [code]);
    });
  }

  it("drops what belongs to an older item", async () => {
    const hls = library();
    const { loader, element, problems } = loading({ hls: hls.get });
    loader.load("hls", "http://f.test/a.m3u8");
    loader.load("file", "http://f.test/b.mp4");
    await settled();
    assert.deepEqual([loader.how, element.src, hls.made.length, problems], ["file", "http://f.test/b.mp4", 0, []]);
    loader.close();
    assert.equal(element.src, "");
  });
});

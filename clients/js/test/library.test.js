import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import { RoomsApi } from "../api.js";
import { VideosApi } from "../library.js";
import { PIECE_BYTES } from "../upload.js";
import { HttpRequest } from "./http-request.js";
import { FakeStorage, tusServer } from "./tus-server.js";

const SIZE = PIECE_BYTES + 100_000;
const QUICK = { firstS: 0.01, capS: 0.05 };

function film(size = SIZE, name = "Über den Wolken.mp4") {
  const bytes = new Uint8Array(size);
  for (let index = 0; index < size; index += 997) bytes[index] = index % 251;
  return new File([bytes], name, { type: "video/mp4", lastModified: 1_700_000_000_000 });
}

describe("VideosApi.upload", () => {
  let tus;
  let storage;
  beforeEach(async () => {
    tus = await tusServer();
    storage = new FakeStorage();
  });
  afterEach(() => tus.close());

  const videos = (environment = {}) =>
    new VideosApi(new RoomsApi(tus.url, { apiKey: "k", environment: { storage, ...environment } }));
  const arrived = async (id, file) =>
    assert.ok(tus.uploads.get(id).bytes.equals(Buffer.from(await file.arrayBuffer())), "every byte in its place");

  it("sends a file in pieces of 8 MiB, with its title, as who one is", async () => {
    const file = film();
    const told = [];
    const info = await videos().upload(file, { onProgress: (progress) => told.push(progress) });
    assert.deepEqual(info, { video_id: "v_1", state: "processing" });
    await arrived("v_1", file);
    const metadata = Object.fromEntries(
      tus.uploads.get("v_1").metadata.split(",").map((pair) => {
        const [key, value] = pair.split(" ");
        return [key, Buffer.from(value, "base64").toString()];
      }),
    );
    assert.deepEqual(metadata, { title: file.name, filename: file.name, filetype: "video/mp4" });
    const patches = tus.log.filter(([method]) => method === "PATCH");
    assert.deepEqual(patches.map(([, , headers]) => headers["upload-offset"]), ["0", String(PIECE_BYTES)]);
    for (const [method, , headers] of tus.log) {
      assert.equal(headers["x-api-key"], "k");
      if (method !== "GET") assert.equal(headers["tus-resumable"], "1.0.0");
    }
    assert.deepEqual(told.map(({ sentBytes }) => sentBytes), [0, PIECE_BYTES, SIZE]);
    assert.equal(storage.length, 0, "what is done is not remembered");
  });

  it("goes on from where the connection broke", async () => {
    tus.script.push(["break", 3_000_000]);
    const file = film();
    const told = [];
    await videos().upload(file, { title: "T", backoff: QUICK, onProgress: (progress) => told.push(progress) });
    await arrived("v_1", file);
    assert.equal(tus.asked("HEAD"), 1);
    const [broken] = told.filter(({ problem }) => problem);
    assert.equal(broken.problem.code, "unreachable");
    assert.ok(broken.retryInS > 0);
    const patches = tus.log.filter(([method]) => method === "PATCH");
    assert.ok(Number(patches[1][2]["upload-offset"]) >= 3_000_000, "nothing is sent twice");
  });

  for (const [name, answer] of [["is locked", [423, "locked"]], ["has it elsewhere", [409, "wrong_offset"]], ["is full", [503, "overloaded"]]]) {
    it(`asks again while the server ${name}`, async () => {
      tus.script.push(answer, answer);
      const file = film(1000);
      await videos().upload(file, { backoff: QUICK });
      await arrived("v_1", file);
      assert.equal(tus.asked("HEAD"), 2);
    });
  }

  it("waits as long as the server asks for", async () => {
    tus.script.push([429, "too_many", { "retry-after": "1" }]);
    const told = [];
    await videos().upload(film(10), { backoff: QUICK, onProgress: (progress) => told.push(progress) });
    assert.ok(told.some(({ retryInS }) => retryInS >= 1));
    assert.equal(tus.asked("PATCH"), 2);
  });

  it("knows that it is done though the last answer was lost", async () => {
    tus.script.push(["lose"]);
    const file = film(5000);
    const info = await videos().upload(file, { backoff: QUICK });
    assert.equal(info.state, "processing");
    await arrived("v_1", file);
    assert.equal(storage.length, 0);
  });

  it("stops when it is told to, and goes on in another page", async () => {
    const controller = new AbortController();
    const file = film();
    const stop = ({ sentBytes }) => sentBytes === PIECE_BYTES && controller.abort();
    const stopped = videos().upload(file, { signal: controller.signal, onProgress: stop });
    await assert.rejects(stopped, { code: "aborted" });
    assert.equal(videos().mayResume("v_1"), true);
    const again = film();
    const info = await videos().upload(again);
    assert.equal(info.video_id, "v_1");
    assert.equal(tus.asked("POST"), 1);
    await arrived("v_1", again);
  });

  it("begins anew where the server has forgotten it, or the file is another one", async () => {
    const controller = new AbortController();
    const stop = ({ sentBytes }) => sentBytes === PIECE_BYTES && controller.abort();
    await assert.rejects(videos().upload(film(), { signal: controller.signal, onProgress: stop }));
    await videos().upload(film(SIZE, "other.mp4"));
    assert.equal(tus.asked("POST"), 2);
    tus.forget();
    await videos().upload(film());
    assert.equal(tus.asked("POST"), 3);
  });

  it("says what is wrong where going on cannot help", async () => {
    await assert.rejects(videos().upload(new File([], "nothing.mp4")), { code: "empty_file" });
    assert.equal(tus.log.length, 0);
    tus.script.push([413, "too_large"]);
    await assert.rejects(videos().upload(film(10)), { code: "too_large" });
    tus.script.push(["break", 1]);
    const gone = film();
    const slice = gone.slice.bind(gone);
    gone.slice = (from, to) => {
      const piece = slice(from, to);
      if (to - from === 1) piece.arrayBuffer = () => Promise.reject(new DOMException("gone", "NotReadableError"));
      return piece;
    };
    await assert.rejects(videos().upload(gone, { backoff: QUICK }), { code: "file_unreadable" });
  });

  it("is told where the upload was deleted meanwhile", async () => {
    const file = film();
    tus.script.push(["break", 1_000_000]);
    const onProgress = ({ problem }) => problem && tus.forget();
    await assert.rejects(videos().upload(file, { backoff: QUICK, onProgress }), { code: "no_upload" });
    assert.equal(storage.length, 0);
  });

  it("tells how each piece gets on where XMLHttpRequest does", async () => {
    tus.script.push(["break", 3_000_000], [423, "locked"]);
    const file = film();
    const told = [];
    const api = videos({ XMLHttpRequest: HttpRequest });
    await api.upload(file, { backoff: QUICK, onProgress: (progress) => told.push(progress) });
    await arrived("v_1", file);
    assert.ok(told.filter(({ sentBytes }) => sentBytes % 2 ** 20 === 0).length > 5);
    assert.deepEqual([...new Set(told.map(({ problem }) => problem?.code))], [undefined, "unreachable", "locked"]);
  });

  it("stops in the middle of a piece", async () => {
    const controller = new AbortController();
    const stop = ({ sentBytes }) => sentBytes > 2_000_000 && controller.abort();
    const stopped = videos({ XMLHttpRequest: HttpRequest }).upload(film(), { signal: controller.signal, onProgress: stop });
    await assert.rejects(stopped, { code: "aborted" });
    assert.ok(tus.uploads.get("v_1").bytes.length < PIECE_BYTES);
  });

  it("does not wait for ever for an answer", async () => {
    tus.script.push(["hang"]);
    const told = [];
    const setTimeout = (callback, ms) => globalThis.setTimeout(callback, Math.min(ms, 200));
    const api = videos({ XMLHttpRequest: HttpRequest, setTimeout });
    await api.upload(film(1000), { backoff: QUICK, onProgress: ({ problem }) => told.push(problem?.code) });
    assert.ok(told.includes("timeout"));
  });

  it("gives up after five minutes in which nothing gets through", async () => {
    tus.close();
    const file = film(10);
    const unreachable = videos().upload(file, { backoff: QUICK });
    await assert.rejects(unreachable, { code: "unreachable" });
    tus = await tusServer();
    let now = 0;
    tus.script.push(...Array.from({ length: 20 }, () => [503, "overloaded"]));
    const hopeless = videos({ now: () => (now += 60_000) }).upload(file, { backoff: QUICK });
    await assert.rejects(hopeless, { code: "overloaded" });
    assert.ok(tus.asked("PATCH") <= 6);
  });
});

describe("VideosApi", () => {
  it("asks for what there is, and makes addresses absolute", async () => {
    const asked = [];
    const answers = { videos: { videos: [], next: null }, sign: { url: "/media/videos/v_1/play.mp4?exp=1", expires_in: 60 } };
    const fetch = async (url, { method, body }) => {
      asked.push([method, url, body ? JSON.parse(body) : null]);
      if (method === "DELETE") return new Response(null, { status: 204 });
      return Response.json(answers[new URL(url).pathname.split("/").at(-1)] ?? {});
    };
    const api = new VideosApi(new RoomsApi("http://films.test/ws", { environment: { fetch } }));
    await api.list({ after: "a b", limit: 10 });
    const signed = await api.sign("v_1", { expiresInS: 60 });
    await api.rename("v_1", "New");
    await api.remove("v/1");
    assert.equal(signed.url, "http://films.test/media/videos/v_1/play.mp4?exp=1");
    assert.deepEqual(asked, [
      ["GET", "http://films.test/api/videos?limit=10&after=a+b", null],
      ["POST", "http://films.test/api/videos/sign", { video_id: "v_1", expires_in: 60 }],
      ["PATCH", "http://films.test/api/videos/v_1", { title: "New" }],
      ["DELETE", "http://films.test/api/videos/v%2F1", null],
    ]);
  });
});

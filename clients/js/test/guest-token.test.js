import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { RoomsApi } from "../api.js";
import { MediaSession } from "../session.js";
import { fakeWorld, settled } from "./fakes.js";

const URL_ = "http://127.0.0.1:8080/ws";
const HOUR_S = 3600;

const json = (body, status = 200) => new Response(JSON.stringify(body), { status });

/** A guest in the room; `renewals` are the tokens that renewals were asked with. */
async function guest({ livesS = 12 * HOUR_S, renew } = {}) {
  const renewals = [];
  const world = fakeWorld({
    answer: async (url, { headers }) => {
      const at = world.environment.wallTime();
      if (url.endsWith("/join")) return json({ ticket: "T", room: "r", grants: {}, token: "G0" });
      renewals.push(headers.Authorization);
      return (
        renew?.(renewals.length) ??
        json({ token: `G${renewals.length}`, id: "rt_1", expires_at: at + livesS })
      );
    },
  });
  const { environment } = world;
  const api = new RoomsApi(URL_, { environment });
  const session = new MediaSession(URL_, { room: "r", invitation: "inv", api, environment });
  const tokens = [];
  session.on("token", (token) => tokens.push(token));
  const connected = session.connect();
  await settled();
  const socket = world.sockets.at(-1);
  socket.accept({ expires_at: environment.wallTime() + livesS });
  await connected;
  /** Lets time pass while the server is heard from. */
  const pass = async (seconds) => {
    for (let past = 0; past < seconds; past += 2) {
      world.sockets.at(-1).say({ type: "pong", id: "0", server_time: 0 });
      await world.time.advance(Math.min(2, seconds - past) * 1000);
    }
  };
  return { world, api, session, socket, renewals, tokens, pass };
}

const sentTokens = (socket) => socket.sentOf("auth").map(({ token }) => token);

describe("a guest's token", () => {
  it("is renewed an hour before it ends, again and again, and shown to the open session", async () => {
    const { api, session, socket, renewals, tokens, pass } = await guest();
    await pass(11 * HOUR_S - 4);
    assert.deepEqual(renewals, []);
    await pass(8);
    assert.deepEqual(renewals, ["Bearer G0"]);
    await pass(11 * HOUR_S);
    assert.deepEqual(renewals, ["Bearer G0", "Bearer G1"]);
    assert.deepEqual(sentTokens(socket), ["G1", "G2"]);
    assert.deepEqual(tokens, ["G1", "G2"]);
    assert.equal(api.token, "G2");
    assert.equal(session.state.state, "open");
    session.close();
  });

  it("is tried again where the server cannot now, and let be where it will not", async () => {
    const problem = (status, code, retryable) => json({ status, code, title: code, retryable }, status);
    const { renewals, socket, session, pass } = await guest({
      livesS: 600,
      renew: (time) =>
        time === 1 ? problem(503, "redis_down", true) : problem(403, "invitation_revoked", false),
    });
    await pass(310);
    assert.equal(renewals.length, 1, "half of a short life");
    await pass(30);
    assert.equal(renewals.length, 2);
    await pass(240);
    assert.equal(renewals.length, 2);
    assert.deepEqual(sentTokens(socket), []);
    session.close();
  });

  it("is not renewed once the session is over", async () => {
    const { world, renewals, session } = await guest();
    session.close();
    await world.time.advance(12 * HOUR_S * 1000);
    assert.deepEqual(renewals, []);
  });
});

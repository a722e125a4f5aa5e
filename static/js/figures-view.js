/** The numbers: how late captions are, how good the connection is. */

import { $ } from "./dom.js";

const HISTORY = 60;

export class FiguresView {
  #delays = [];
  #roundTrip = null;

  /** The round trip over the WebSocket; the media's own replaces it. */
  roundTrip(ms) {
    this.#roundTrip = ms;
    $("figure-trip").textContent = milliseconds(ms);
  }

  /** @param {import("../../clients/js/types.d.ts").Metrics} metrics @param {boolean} live */
  metrics(metrics, live) {
    if (!live) return;
    const sending = metrics.audio_kbps + metrics.video_kbps;
    $("figure-trip").textContent = milliseconds(metrics.round_trip_ms ?? this.#roundTrip);
    $("figure-rate").textContent = `${Math.round(sending)} kbit/s`;
    $("figure-loss").textContent = `${(metrics.loss_ratio * 100).toFixed(metrics.loss_ratio ? 1 : 0)} %`;
    $("figure-backlog").textContent = `${metrics.queue_depth_s.toFixed(1)} s`;
    if (metrics.caption_delay_ms === null) return;
    $("figure-delay").textContent = `${(metrics.caption_delay_ms / 1000).toFixed(1)} s`;
    this.#delays.push(metrics.caption_delay_ms);
    if (this.#delays.length > HISTORY) this.#delays.shift();
    const most = Math.max(1000, ...this.#delays);
    const points = this.#delays.map((delay, index) => {
      const x = (HISTORY * index) / Math.max(1, this.#delays.length - 1);
      return `${x.toFixed(1)},${(17 - (15 * delay) / most).toFixed(1)}`;
    });
    $("spark").setAttribute("points", points.join(" "));
  }

  /** Something is sent, so there is something to measure; or not any more. */
  show(on) {
    $("figures").hidden = !on;
    if (on) return;
    this.#delays = [];
    $("spark").setAttribute("points", "");
    for (const name of ["delay", "rate", "loss", "backlog"]) $(`figure-${name}`).textContent = "–";
  }
}

function milliseconds(value) {
  return value === null ? "–" : `${Math.max(1, Math.round(value))} ms`;
}

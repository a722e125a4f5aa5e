/** How loud a stream is, twenty times a second. */

const INTERVAL_MS = 50;
const DEAD_DB = -80;

export class Level {
  #context = new AudioContext();
  #timer;

  /**
   * @param {MediaStream} stream
   * @param {(level: number, dead: boolean) => void} onLevel 0 to 1, on a scale that suits the ear;
   *   dead: quieter than any room is
   */
  constructor(stream, onLevel) {
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      let sum = 0;
      for (const sample of samples) sum += sample * sample;
      const decibels = 10 * Math.log10(sum / samples.length + 1e-12);
      onLevel(Math.min(1, Math.max(0, (decibels + 60) / 48)), decibels < DEAD_DB);
    }, INTERVAL_MS);
  }

  /** Returns null where the browser cannot measure this stream: captions do without. */
  static of(stream, onLevel) {
    try {
      return new Level(stream, onLevel);
    } catch {
      return null;
    }
  }

  close() {
    clearInterval(this.#timer);
    this.#context.close();
  }
}

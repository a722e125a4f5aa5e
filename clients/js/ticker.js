/**
 * A clock in a worker. Browsers slow the timers of a hidden page down to one a minute; a worker's
 * keep their pace, so that a hidden page can go on answering for itself. Message: the interval in
 * milliseconds, 0 to stop. It answers each tick.
 */

/** @type {ReturnType<typeof setInterval> | undefined} */
let timer;

addEventListener("message", ({ data }) => {
  clearInterval(timer);
  if (data > 0) timer = setInterval(() => postMessage(0), data);
});

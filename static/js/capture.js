/** The microphone, the camera and shared tabs; and what to tell people when there is none. */

/** An error that is shown as it is. */
export class CaptureError extends Error {
  constructor(title, text) {
    super(text);
    this.title = title;
  }
}

// What is watched here must not come back as speech; speech that is cleaned of noise is understood
// worse.
const AUDIO = { echoCancellation: true, noiseSuppression: false, autoGainControl: true };
const VIDEO = { width: { ideal: 960 }, height: { ideal: 540 }, frameRate: { ideal: 24, max: 30 } };

export const canShareTab = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

/** Why this page cannot capture at all; null when it can. */
export function captureBarrier() {
  if (navigator.mediaDevices?.getUserMedia) return null;
  if (!window.isSecureContext) {
    return new CaptureError(
      "The microphone needs a secure page",
      "Browsers only allow the microphone and the camera over HTTPS or on localhost. " +
        "You can still read the captions of this room.",
    );
  }
  return new CaptureError(
    "This browser has no microphone access",
    "You can still read the captions of this room.",
  );
}

/**
 * Opens what was chosen. Returns the stream and what had to be left out.
 * Throws CaptureError.
 */
export async function capture({ source, microphone, camera }) {
  const barrier = captureBarrier();
  if (barrier) throw barrier;
  if (source === "tab") return { stream: await shareTab(), missing: null };
  const audio = { ...AUDIO, ...(microphone ? { deviceId: { exact: microphone } } : {}) };
  const video =
    source === "camera" && { ...VIDEO, ...(camera ? { deviceId: { exact: camera } } : {}) };
  try {
    return { stream: await open({ audio, video }), missing: null };
  } catch (error) {
    if (video) {
      const stream = await open({ audio, video: false }).catch(() => null);
      if (stream) return { stream, missing: explain(error, "camera") };
    }
    throw explain(error, video ? "microphone and camera" : "microphone");
  }
}

/** A device that is gone by now is replaced by the default one. */
async function open(constraints) {
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    if (error.name !== "OverconstrainedError") throw error;
    const relaxed = {
      audio: AUDIO,
      video: constraints.video && VIDEO,
    };
    return navigator.mediaDevices.getUserMedia(relaxed);
  }
}

async function shareTab() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({
      video: VIDEO,
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    if (error.name === "NotAllowedError") {
      throw new CaptureError("Nothing was shared", "Start again and choose a tab to share.");
    }
    throw explain(error, "shared tab");
  }
  if (stream.getAudioTracks().length > 0) return stream;
  for (const track of stream.getTracks()) track.stop();
  throw new CaptureError(
    "The shared tab came without sound",
    "Start again, choose a browser tab and tick “Also share tab audio”. " +
      "Windows and screens often have no sound to share.",
  );
}

/** Says what a browser's error means and what to do. */
function explain(error, what) {
  const both = what.includes(" and ");
  const are = both ? "are" : "is";
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new CaptureError(
        `The ${what} ${are} not allowed`,
        `Allow the ${what} for this page: choose the icon beside the address, then start again.`,
      );
    case "NotFoundError":
      return new CaptureError(
        both ? "No microphone or camera was found" : `No ${what} was found`,
        `Connect ${both ? "one" : `a ${what}`}, or choose another source, then start again.`,
      );
    case "NotReadableError":
    case "AbortError":
      return new CaptureError(
        `The ${what} cannot be used`,
        `Another program may be using ${both ? "them" : "it"}. Close that, then start again.`,
      );
    default:
      return new CaptureError(`The ${what} cannot be used`, error.message || error.name);
  }
}

/** Fills a list with the devices of a kind; their names are known once access was given. */
export async function listDevices(select, kind, fallback) {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const named = devices.filter(
    (device) => device.kind === kind && device.label && device.deviceId !== "default",
  );
  const chosen = select.value;
  const options = [new Option(fallback, "")];
  for (const { label, deviceId } of named) options.push(new Option(label, deviceId));
  select.replaceChildren(...options);
  select.value = named.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
}

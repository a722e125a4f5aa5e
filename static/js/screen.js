/** The picture elsewhere: over the whole screen, or in a small window over other programs. */

import { $, say } from "./dom.js";

/** @param {...HTMLVideoElement} videos of which at most one is shown */
export function setUpScreen(...videos) {
  setUpFullScreen(videos);
  setUpSmallWindow(videos);
}

function setUpFullScreen(videos) {
  const button = $("fullscreen");
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("theatre").requestFullscreen().catch(() => say("Full screen is not allowed here"));
  });
  for (const video of videos) video.addEventListener("dblclick", () => button.click());
  document.addEventListener("fullscreenchange", () =>
    button.setAttribute("aria-pressed", String(document.fullscreenElement !== null)),
  );
}

function setUpSmallWindow(videos) {
  const button = $("small-window");
  const shown = () => videos.find((video) => !video.hidden && video.videoWidth > 0);
  const render = () => {
    button.hidden = !document.pictureInPictureEnabled || !shown();
    button.setAttribute("aria-pressed", String(Boolean(document.pictureInPictureElement)));
  };
  button.addEventListener("click", () => {
    if (document.pictureInPictureElement) document.exitPictureInPicture();
    else shown()?.requestPictureInPicture().catch(() => say("A small window is not allowed here"));
  });
  const events = ["loadedmetadata", "resize", "emptied", "enterpictureinpicture", "leavepictureinpicture"];
  const observer = new MutationObserver(render);
  for (const video of videos) {
    for (const type of events) video.addEventListener(type, render);
    observer.observe(video, { attributeFilter: ["hidden"] });
  }
  render();
}

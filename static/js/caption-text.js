/** A caption as what is final and what may still change. */

import { languageTag } from "../../clients/js/index.js";

/** @param {import("../../clients/js/types.d.ts").Caption} caption */
export function finalText(caption) {
  if (caption.final || caption.words.length === 0) {
    return caption.final
      ? { final: caption.text, tentative: "" }
      : { final: "", tentative: caption.text };
  }
  const words = (/** @type {boolean} */ final) =>
    caption.words
      .filter((word) => word.final === final)
      .map((word) => word.text)
      .join(" ");
  return { final: words(true), tentative: words(false) };
}

/** The `lang` of what is shown. @param {import("../../clients/js/types.d.ts").Caption} caption */
export function captionLanguage(caption) {
  if (caption.task === "translate") return "en";
  return caption.language ? languageTag(caption.language) : null;
}

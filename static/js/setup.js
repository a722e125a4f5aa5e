/** What is captioned and how: source, devices, language, task, name. Remembered for next time. */

import { LANGUAGES, languageOf, languageTag } from "../../clients/js/index.js";
import { canShareTab, listDevices } from "./capture.js";
import { $, make } from "./dom.js";
import { recall, store } from "./preferences.js";

const NARROW = matchMedia("(width < 920px)");
const SOURCES = { microphone: "Microphone", camera: "Camera", tab: "Shared tab" };

export class Setup {
  #form = $("setup-form");

  /** @param {() => void} onOptions the language or the task was changed */
  constructor(onOptions) {
    fillLanguages($("language"), "Detect the language");
    if (!canShareTab()) $("tile-tab").hidden = true;
    this.#restore();
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("change", ({ target }) => {
      this.#remember();
      this.#show();
      if (target.id === "language" || target.name === "task") onOptions();
    });
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.refreshDevices());
    $("setup").open = false; // what is watched and said matters more
    this.refreshDevices();
    this.#show();
  }

  get source() {
    return this.#form.elements.source.value;
  }

  get devices() {
    return { source: this.source, microphone: $("microphone").value, camera: $("camera").value };
  }

  /** @returns {import("../../clients/js/types.d.ts").CaptionOptions} */
  get options() {
    return { language: $("language").value || null, task: this.#form.elements.task.value };
  }

  get name() {
    return $("name").value.trim();
  }

  set name(name) {
    $("name").value = name;
  }

  async refreshDevices() {
    await listDevices($("microphone"), "audioinput", "Default microphone");
    await listDevices($("camera"), "videoinput", "Default camera");
  }

  /** While live the source stays as it is; language, task and name can change. */
  live(on) {
    for (const input of this.#form.elements.source) input.disabled = on;
    $("microphone").disabled = on;
    $("camera").disabled = on;
    if (on && NARROW.matches) $("setup").open = false;
  }

  #restore() {
    const language = recall("language", "");
    $("language").value = language in LANGUAGES ? language : "";
    $("name").value = recall("name", "");
    for (const name of ["source", "task"]) {
      const chosen = [...this.#form.elements[name]].find(({ value }) => value === recall(name));
      if (chosen && !chosen.closest("label").hidden) chosen.checked = true;
    }
    $("announce").checked = recall("announce", "on") === "on";
  }

  #remember() {
    store("source", this.source);
    store("task", this.options.task);
    store("language", this.options.language ?? "");
    store("name", this.name);
    store("announce", $("announce").checked ? "on" : "off");
  }

  #show() {
    $("field-microphone").hidden = this.source === "tab";
    $("field-camera").hidden = this.source !== "camera";
    $("field-tab").hidden = this.source !== "tab";
    const language = $("language").selectedOptions[0].textContent;
    const english = this.options.task === "translate" ? ", in English" : "";
    $("setup-summary").textContent = `${SOURCES[this.source]} · ${language}${english}`;
  }
}

/** `first` (nothing chosen), then the reader's own languages, then all. */
export function fillLanguages(select, first) {
  const option = (code) => new Option(label(code), code);
  const own = [...new Set((navigator.languages ?? []).map(languageOf))].filter(Boolean);
  const all = Object.keys(LANGUAGES).sort((a, b) => LANGUAGES[a].localeCompare(LANGUAGES[b]));
  select.append(new Option(first, ""));
  if (own.length) select.append(make("optgroup", { label: "Yours" }, ...own.map(option)));
  select.append(make("optgroup", { label: "All languages" }, ...all.map(option)));
}

/** "Spanish (español)": found by those who know the one name or the other. */
function label(code) {
  const english = LANGUAGES[code];
  try {
    const own = new Intl.DisplayNames([languageTag(code)], { type: "language" }).of(languageTag(code));
    const known = own && own !== languageTag(code) && own.toLowerCase() !== english.toLowerCase();
    return known ? `${english} (${own})` : english;
  } catch {
    return english;
  }
}

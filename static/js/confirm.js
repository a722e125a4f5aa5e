/** Questions before what cannot be undone, and for a word. */

import { $ } from "./dom.js";

/**
 * Asks; resolves with true, or with the text where `field` names one; else with null.
 * @param {{title: string, text?: string, yes: string, danger?: boolean, field?: string,
 *   value?: string, maxLength?: number}} question
 */
export function ask({ title, text = "", yes, danger = false, field, value = "", maxLength = 80 }) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  const button = $("confirm-yes");
  button.textContent = yes;
  button.classList.toggle("button-danger", danger);
  $("confirm-field").hidden = !field;
  const input = $("confirm-input");
  if (field) {
    $("confirm-label").textContent = field;
    input.maxLength = maxLength;
    input.value = value;
  }
  dialog.returnValue = "";
  dialog.showModal();
  (field ? input : $("confirm-no")).focus();
  if (field) input.select();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "yes" ? (field ? input.value.trim() : true) : null),
      { once: true },
    );
  });
}

export function setUpConfirm() {
  const dialog = $("confirm");
  $("confirm-no").addEventListener("click", () => dialog.close());
  $("confirm-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close("yes");
  });
}

/** Signing in by account or key, changing the password, signing out. */

import { ProblemError } from "../../clients/js/index.js";
import { $, say } from "./dom.js";
import { openMenu } from "./menu.js";
import { recall, store, storeKey } from "./preferences.js";

const REMEMBERED = "signed-in";

export class SignIn {
  #account;
  #api;
  #notices;
  #name = "";
  #listeners = new Set();
  #done = false;

  /**
   * @param {import("../../clients/js/index.js").Account} account
   * @param {import("../../clients/js/index.js").RoomsApi} api
   * @param {import("./notices.js").Notices} notices
   */
  constructor(account, api, notices) {
    this.#account = account;
    this.#api = api;
    this.#notices = notices;
    this.#setUpForm();
    this.#setUpPassword();
    $("account").addEventListener("click", () => this.#menu());
    account.on("change", ({ signedIn }) => {
      if (!signedIn) this.#name = "";
      this.#render();
    });
    this.#render();
  }

  get signedIn() {
    return this.#account.signedIn || this.#api.apiKey !== null;
  }

  get name() {
    return this.#name;
  }

  /** Calls `listener` whenever somebody has signed in. */
  onSignedIn(listener) {
    this.#listeners.add(listener);
  }

  /** Comes back by the cookie, if somebody had signed in here. */
  async resume() {
    if (recall(REMEMBERED) !== "yes") return;
    const back = await this.#account.resume().catch(() => null); // the server is away: later
    if (back === false) store(REMEMBERED, "no");
    else if (back) await this.#learnName();
  }

  /** @param {boolean} [wrong] whether what was given is refused */
  async ask(wrong = false) {
    if (!wrong && !this.signedIn) {
      await this.resume(); // the server may have been away when the page was opened
      if (this.signedIn) return this.#finish();
    }
    if (wrong && this.#api.apiKey) {
      storeKey(null);
      this.#api.apiKey = null;
      $("sign-in-form").elements["sign-in-how"].value = "key";
    }
    this.#notices.clear("sign-in");
    this.#how();
    $("password").value = $("key").value = "";
    $("sign-in-error").textContent = wrong ? "That was not accepted." : "";
    this.#done = false;
    if (!$("sign-in").open) $("sign-in").showModal();
    (this.#byKey ? $("key") : $("user-name")).focus();
  }

  get #byKey() {
    return $("sign-in-form").elements["sign-in-how"].value === "key";
  }

  #how() {
    $("sign-in-key").hidden = !this.#byKey;
    $("sign-in-account").hidden = this.#byKey;
  }

  #setUpForm() {
    const dialog = $("sign-in");
    const form = $("sign-in-form");
    for (const radio of form.elements["sign-in-how"]) {
      radio.addEventListener("change", () => this.#how());
    }
    $("sign-in-cancel").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => !this.#done && this.#remind());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      await (this.#byKey ? this.#withKey($("key").value.trim()) : this.#withPassword());
    });
  }

  async #withKey(key) {
    if (!key) return $("key").focus();
    storeKey(key);
    this.#api.apiKey = key;
    this.#name = "";
    this.#finish();
  }

  async #withPassword() {
    const [name, password] = [$("user-name").value.trim(), $("password").value];
    if (!name) return $("user-name").focus();
    if (!password) return $("password").focus();
    try {
      await this.#account.login(name, password);
    } catch (error) {
      $("sign-in-error").textContent = wordsOf(error);
      $("password").select();
      return;
    }
    if (this.#account.mustChangePassword) {
      this.#done = true;
      $("sign-in").close();
      this.#askPassword(password);
      return;
    }
    await this.#learnName();
    this.#finish();
  }

  async #learnName() {
    store(REMEMBERED, "yes");
    const me = await this.#account.me().catch(() => null);
    this.#name = me?.name ?? "";
    this.#render();
  }

  #finish() {
    this.#done = true;
    $("sign-in").close();
    this.#notices.clear("sign-in");
    this.#render();
    if (this.#name) say(`Signed in as ${this.#name}`);
    for (const listener of this.#listeners) listener();
  }

  /** The dialog was put away: the way back stays open. */
  #remind() {
    if (this.signedIn || $("connection").hidden || $("connection").dataset.state !== "lost") return;
    this.#notices.show("sign-in", {
      kind: "warning",
      title: "Not connected",
      text: "This server wants to know who you are.",
      buttons: [["Sign in", () => this.ask()]],
    });
  }

  // ---- the password ----------------------------------------------------------------------------

  #askPassword(known = "") {
    const once = this.#account.mustChangePassword;
    $("password-detail").textContent = once
      ? "You signed in with a one-time password. Choose your own to go on."
      : "Your other sessions will be signed out.";
    $("password-old").value = known;
    $("password-old").closest(".field").hidden = known !== "";
    $("password-new").value = "";
    $("password-error").textContent = "";
    $("password-dialog").showModal();
    (known ? $("password-new") : $("password-old")).focus();
  }

  #setUpPassword() {
    const dialog = $("password-dialog");
    $("password-cancel").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      if (this.#account.mustChangePassword) this.#account.logout().catch(() => {});
    });
    $("password-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const once = this.#account.mustChangePassword;
      try {
        await this.#account.changePassword($("password-old").value, $("password-new").value);
      } catch (error) {
        $("password-error").textContent = wordsOf(error);
        return;
      }
      dialog.close();
      say("Password changed");
      if (!once) return;
      await this.#learnName();
      this.#finish();
    });
  }

  // ---- the button in the bar -------------------------------------------------------------------

  #menu() {
    if (!this.signedIn) return this.ask();
    if (!this.#account.signedIn) {
      return openMenu($("account"), [["Forget the API key", () => this.#forgetKey()]]);
    }
    openMenu($("account"), [
      ["Change password", () => this.#askPassword()],
      ["Sign out", () => this.#signOut(false)],
      ["Sign out everywhere", () => this.#signOut(true), { danger: true }],
    ]);
  }

  #forgetKey() {
    storeKey(null);
    this.#api.apiKey = null;
    location.assign("./");
  }

  async #signOut(everywhere) {
    store(REMEMBERED, "no");
    await this.#account.logout({ everywhere }).catch(() => {});
    location.assign("./");
  }

  #render() {
    $("account-text").textContent = this.#name || (this.signedIn ? "Signed in" : "Sign in");
    if (this.signedIn) $("account").setAttribute("aria-haspopup", "menu");
    else $("account").setAttribute("aria-haspopup", "dialog");
  }
}

function wordsOf(error) {
  if (!(error instanceof ProblemError)) throw error;
  const text = error.message;
  return text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : text;
}

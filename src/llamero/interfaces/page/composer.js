// Where one writes: a box that grows with its text, and one button that sends or stops.

import { byId } from "./dom.js";

const TOUCHED = matchMedia("(hover: none) and (pointer: coarse)").matches; // Enter breaks the line; focus brings up keys

export class Composer {
  /** send(text): called with what was written; stop(): to end the answer; editLast(): Up in an empty box. */
  constructor({ send, stop, editLast }) {
    this.box = byId("message");
    this.button = byId("send");
    this.actions = { send, stop };
    this.writing = false;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.writing) stop();
      else this.#send();
    });
    this.box.addEventListener("input", () => this.#grow());
    this.box.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey && !TOUCHED) {
        event.preventDefault();
        if (!this.writing) this.#send();
      } else if (event.key === "ArrowUp" && !this.box.value && !event.altKey) {
        event.preventDefault();
        editLast();
      }
    });
    this.#grow();
  }

  /** Whether an answer is being written. */
  update(writing) {
    this.writing = writing;
    this.button.classList.toggle("stop", writing);
    this.button.setAttribute("aria-label", writing ? "Stop" : "Send");
    this.button.title = writing ? "Stop (Esc)" : "Send (Enter)";
    this.button.querySelector("use").setAttribute("href", writing ? "#icon-stop" : "#icon-send");
    this.#enable();
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.#grow();
  }

  focus() {
    if (!TOUCHED) this.box.focus();
  }

  #send() {
    const text = this.box.value.trim();
    if (!text) return;
    this.text = "";
    this.actions.send(text);
  }

  #grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
    this.#enable();
  }

  #enable() {
    this.button.disabled = !this.writing && !this.box.value.trim();
  }
}

// The server this page came from: its models, its answers, its view of a prompt. No other host is ever asked.

import { readEvents } from "./events.js";

/** What the server refused, in its words. status 0: it was not reached, or the connection broke off. */
class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The API under the page's own address; `key` goes with every request once it is set. */
export class Server {
  key = "";

  /** The models it offers, as /v1/models lists them. */
  async models() {
    return (await (await this.#ask("v1/models")).json()).data;
  }

  /** What a request for a chat would have the model read. */
  async inspect(body, signal) {
    return (await this.#ask("v1/inspect", body, signal)).json();
  }

  /** An answer as it comes: {chunk} as the OpenAI API streams them, and {progress: {what, done, total}}. */
  async *chat(body, signal) {
    const options = { stream: true, stream_options: { include_usage: true } };
    const response = await this.#ask("v1/chat/completions", { ...body, ...options }, signal);
    try {
      for await (const event of readEvents(response.body)) {
        if (event.data === "[DONE]") return;
        if (event.comment !== undefined) {
          const progress = progressOf(event.comment);
          if (progress) yield { progress };
        } else {
          const chunk = JSON.parse(event.data);
          if (chunk.error) throw new ServerError(chunk.error.message, response.status);
          yield { chunk };
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || error instanceof ServerError) throw error;
    }
    throw new ServerError("The connection broke off before the answer ended. Was the server stopped?", 0);
  }

  async #ask(address, body, signal) {
    const headers = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    const request = { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" };
    if (body) Object.assign(request, { method: "POST", body: JSON.stringify(body) });
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(address, request);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server does not answer. Is it still running?", 0);
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => ({}));
    const message = told.error?.message ?? `The server answered ${response.status}.`;
    throw new ServerError(message, response.status);
  }
}

/** A comment such as "reading 512/2048" as {what, done, total}; null for any other. */
function progressOf(comment) {
  const found = /^([a-z]+)[^\d]*(\d+)\s*\/\s*(\d+)/.exec(comment);
  return found && { what: found[1], done: Number(found[2]), total: Number(found[3]) };
}

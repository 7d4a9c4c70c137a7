// One answer being written: asks the server, and fills a message with what comes.
//
// It notes in the message: content, finish ("stop", "length", "stopped" by the reader, "error"), error (words),
// tokens [[text, logprob, [[text, logprob] of the likeliest]]], and figures {prompt, cached, completion, dropped
// (tokens), first, rest (seconds to the first token, and on to the last: the server's where it tells them, else as
// seen here)}.

const USAGE = {
  prompt: (usage) => usage.prompt_tokens,
  cached: (usage) => usage.prompt_tokens_details?.cached_tokens,
  completion: (usage) => usage.completion_tokens,
  dropped: (usage) => usage.dropped_tokens ?? usage.prompt_tokens_details?.dropped_tokens,
};

export class Writing {
  #abort = new AbortController();
  /** What the server says before the first piece: {what, done, total}, or null. */
  progress = null;
  /** Whether the server wanted another key. */
  refused = false;

  /** message: of the conversation, to be filled. changed: called whenever the message or the progress has. */
  constructor(server, conversation, message, changed) {
    Object.assign(this, { server, conversation, message, changed });
  }

  /** Stop; what was written stays. */
  stop() {
    this.#abort.abort();
  }

  /** Write until the end, whatever it is: the message says it. */
  async run(body) {
    const { message } = this;
    const started = performance.now();
    const clock = { first: null, last: null };
    try {
      for await (const event of this.server.chat(body, this.#abort.signal)) {
        this.progress = event.progress ?? null;
        if (event.chunk && this.#take(event.chunk)) {
          clock.last = performance.now();
          clock.first ??= clock.last;
        }
        this.changed();
      }
      message.finish ??= "stop";
    } catch (error) {
      this.refused = error.status === 401;
      message.finish = error.name === "AbortError" ? "stopped" : "error";
      if (message.finish === "error") message.error = error.message;
    } finally {
      if (clock.first !== null) {
        const times = { first: (clock.first - started) / 1000, rest: (clock.last - clock.first) / 1000 };
        message.figures = { completion: message.tokens?.length, ...times, ...message.figures };
      }
      this.progress = null;
      this.changed();
    }
  }

  /** Take a chunk in; true where it brought text. */
  #take(chunk) {
    const { message } = this;
    if (chunk.usage) {
      const found = Object.entries(USAGE).map(([name, get]) => [name, get(chunk.usage)]);
      message.figures = { ...message.figures, ...Object.fromEntries(found.filter(([, value]) => Number.isFinite(value))) };
    }
    if (chunk.timings) {
      const { prompt_ms: first, completion_ms: rest } = chunk.timings;
      message.figures = { ...message.figures, first: first / 1000, rest: rest / 1000 };
    }
    const choice = chunk.choices?.[0];
    if (!choice) return false;
    if (choice.finish_reason) message.finish = choice.finish_reason;
    const tokens = (choice.logprobs?.content ?? []).map(tokenOf);
    if (tokens.length) (message.tokens ??= []).push(...tokens);
    message.content += choice.delta?.content ?? "";
    return Boolean(choice.delta?.content) || tokens.length > 0;
  }
}

function tokenOf({ token, logprob, top_logprobs: top = [] }) {
  return [token, logprob, top.map((other) => [other.token, other.logprob])];
}

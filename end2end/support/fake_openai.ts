// A model server that speaks the OpenAI protocol and answers facts about the messages that it was sent, so that a test can
// see what a reply knew.

import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";

/** One message of a request, as the protocol has it. */
export interface SentMessage {
  role: string;
  content: string;
}

/** What was posted to `/v1/chat/completions`. */
export interface CompletionRequest {
  model: string;
  stream?: boolean;
  messages: SentMessage[];
}

export const MODEL = "facts-1";

/** The numbered words of a reply, as the scripted assistant says them too. */
export function words(count: number): string {
  return Array.from({ length: count }, (_, index) => `word${index + 1}`).join(" ");
}

/**
 * A reply that says what a test tells it to, when the test does: it lasts as long as the test needs, however slow the machine is.
 */
export class GuidedReply {
  private said = "";
  private pending = "";
  private over = false;
  private send: (() => void) | undefined;

  /** Says the numbered words up to this one. */
  upTo(count: number): void {
    this.pending += words(count).slice((this.said + this.pending).length);
    this.send?.();
  }

  /** Ends the reply, after the numbered words up to this one. */
  end(count: number): void {
    this.over = true;
    this.upTo(count);
  }

  /** The reply goes to whoever waits for `response`, from what was told so far on. */
  stream(response: http.ServerResponse): void {
    this.send = () => {
      if (this.pending !== "") {
        response.write(chunk({ content: this.pending }, null));
        this.said += this.pending;
        this.pending = "";
      }
      if (this.over) response.end(`${chunk({}, "stop")}data: [DONE]\n\n`);
    };
    response.setHeader("content-type", "text/event-stream");
    response.flushHeaders();
    this.send();
  }
}

const HEAD = { id: "chatcmpl-1", created: 0, model: MODEL };

/** One event of a streamed answer. */
function chunk(delta: object, finish_reason: string | null): string {
  return `data: ${JSON.stringify({ ...HEAD, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
}

export class FakeOpenAi {
  /** Every completion request so far, oldest first. */
  readonly requests: CompletionRequest[] = [];
  /** Bodies that the next completions are answered with, byte for byte. */
  readonly bodies: string[] = [];
  private readonly guided: GuidedReply[] = [];
  private readonly server = http.createServer((request, response) => {
    this.answer(request, response).catch((error) => response.destroy(error));
  });

  /** What `--openai-url` takes. */
  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/v1`;
  }

  /** The reply to the next completion that nothing else answers. */
  guide(): GuidedReply {
    const reply = new GuidedReply();
    this.guided.push(reply);
    return reply;
  }

  async start(): Promise<void> {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, "close");
  }

  private async answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    if (request.method === "GET" && request.url === "/v1/models") {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ object: "list", data: [{ id: MODEL, object: "model", owned_by: "tests" }] }));
      return;
    }
    if (request.method !== "POST" || request.url !== "/v1/chat/completions") {
      response.statusCode = 404;
      response.end("{}");
      return;
    }
    let body = "";
    for await (const chunk of request) body += chunk;
    const completion = JSON.parse(body) as CompletionRequest;
    this.requests.push(completion);
    const told = this.bodies.shift();
    if (told !== undefined) {
      response.setHeader("content-type", "text/event-stream");
      response.end(told);
      return;
    }
    const guided = this.guided.shift();
    if (guided) {
      guided.stream(response);
      return;
    }
    const pieces = facts(completion.messages).split(/(?<= )/);
    if (!completion.stream) {
      response.setHeader("content-type", "application/json");
      const message = { role: "assistant", content: pieces.join("") };
      response.end(
        JSON.stringify({ ...HEAD, object: "chat.completion", choices: [{ index: 0, message, finish_reason: "stop" }] }),
      );
      return;
    }
    response.setHeader("content-type", "text/event-stream");
    response.write(chunk({ role: "assistant", content: "" }, null));
    for (const content of pieces) response.write(chunk({ content }, null));
    response.write(chunk({}, "stop"));
    response.end("data: [DONE]\n\n");
  }
}

/** The answer to a conversation. */
export function facts(messages: SentMessage[]): string {
  const user = messages.filter((message) => message.role === "user");
  const assistant = messages.filter((message) => message.role === "assistant");
  const last = user.at(-1)?.content ?? "";
  const first = user[0]?.content ?? "";
  return `You said «${last}»; first of all «${first}». I was sent ${user.length} of your messages and ${assistant.length} of mine.`;
}

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

export class FakeOpenAi {
  /** Every completion request so far, oldest first. */
  readonly requests: CompletionRequest[] = [];
  /** Bodies that the next completions are answered with, byte for byte. */
  readonly bodies: string[] = [];
  private readonly server = http.createServer((request, response) => {
    this.answer(request, response).catch((error) => response.destroy(error));
  });

  /** What `--openai-url` takes. */
  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/v1`;
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
    const pieces = facts(completion.messages).split(/(?<= )/);
    const head = { id: "chatcmpl-1", created: 0, model: MODEL };

    if (!completion.stream) {
      response.setHeader("content-type", "application/json");
      const message = { role: "assistant", content: pieces.join("") };
      response.end(
        JSON.stringify({ ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason: "stop" }] }),
      );
      return;
    }
    response.setHeader("content-type", "text/event-stream");
    const send = (delta: object, finish_reason: string | null) =>
      response.write(
        `data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] })}\n\n`,
      );
    send({ role: "assistant", content: "" }, null);
    for (const content of pieces) send({ content }, null);
    send({}, "stop");
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

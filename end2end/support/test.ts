// The `test` of every spec: a server of its own for each test, and no error in the browser's console.

import { type BrowserContext, type Locator, type Page, test as base, expect } from "@playwright/test";
import { FakeOpenAi } from "./fake_openai.ts";
import { Verbatim } from "./verbatim.ts";

/** What went wrong in the pages of a test; a test fails when anything is left here that it did not expect. */
export class Problems {
  private readonly found: string[] = [];
  private readonly expected: RegExp[] = [];
  private over = false;

  watch(context: BrowserContext): void {
    // A violated Content-Security-Policy is an error in the console too.
    context.on("console", (message) => {
      if (message.type() === "error") this.add(`console: ${message.text()} (${message.location().url})`);
    });
    context.on("weberror", (error) => this.add(`uncaught: ${error.error().stack ?? error.error().message}`));
  }

  private add(text: string): void {
    if (!this.over) this.found.push(text);
  }

  /** Says that the test is over: pages that are still open may miss the server now. */
  end(): void {
    this.over = true;
  }

  /** Says that problems like this one belong to the test. */
  expect(pattern: RegExp): void {
    this.expected.push(pattern);
  }

  get unexpected(): string[] {
    return this.found.filter((text) => !this.expected.some((pattern) => pattern.test(text)));
  }
}

/** Chromium's own line in the console about a request that failed or was answered with an error status. */
export const FAILED_REQUEST = /^console: Failed to load resource/;

interface Options {
  /** Who answers: the scripted assistant, the fake model server, or a list of options for another. */
  assistant: "scripted" | "openai" | string[];
  /** Other options of the server. */
  options: string[];
  /** Whether two sessions of the older format are in the store when the server starts. */
  olderSessions: boolean;
}

/** The ids of the sessions of the older format. */
export const OLDER_CHAT = "abc123def456";
export const OLDER_VOICE = "def67890";

interface Fixtures {
  openai: FakeOpenAi;
  /** A running server. */
  verbatim: Verbatim;
  problems: Problems;
}

export const test = base.extend<Options & Fixtures>({
  assistant: ["scripted", { option: true }],

  options: [[], { option: true }],

  olderSessions: [false, { option: true }],

  openai: async ({}, use) => {
    const openai = new FakeOpenAi();
    await openai.start();
    await use(openai);
    await openai.stop();
  },

  verbatim: async ({ assistant, options, olderSessions, openai, problems }, use, testInfo) => {
    const who =
      assistant === "scripted"
        ? ["--assistant", "scripted"]
        : assistant === "openai"
          ? ["--assistant", "openai", "--openai-url", openai.url]
          : assistant;
    const verbatim = new Verbatim([...who, ...options]);
    if (olderSessions) {
      verbatim.putFixture("stored-chat.json", "2026-02-09", OLDER_CHAT);
      verbatim.putFixture("stored-voice.json", "2026-02-09", OLDER_VOICE);
    }
    try {
      await verbatim.start();
      await use(verbatim);
      problems.end();
      await verbatim.stop();
    } finally {
      if (testInfo.status !== testInfo.expectedStatus) {
        await testInfo.attach("server.log", { body: verbatim.log, contentType: "text/plain" });
      }
      await verbatim.remove();
    }
  },

  problems: [
    async ({ context }, use) => {
      const problems = new Problems();
      problems.watch(context);
      await use(problems);
      expect(problems.unexpected, "errors in the browser").toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };

/** Opens a page and waits until it listens. */
export async function gotoHydrated(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await hydrated(page);
}

export async function hydrated(page: Page): Promise<void> {
  await expect(page.locator("html[data-hydrated]")).toBeAttached();
}

/** The longest that an exact answer may take, in milliseconds. */
const PATIENCE = 60_000;

/** The Chat page as a person sees it. */
export class Chat {
  readonly page: Page;
  readonly message: Locator;
  readonly send: Locator;
  readonly stop: Locator;
  readonly sessionId: Locator;
  readonly saveState: Locator;
  readonly newSession: Locator;
  readonly sessions: Locator;
  /** The person's messages and the assistant's. */
  readonly yours: Locator;
  readonly replies: Locator;

  constructor(page: Page) {
    this.page = page;
    this.message = page.getByRole("textbox", { name: "Message", exact: true });
    this.send = page.getByRole("button", { name: "Send", exact: true });
    this.stop = page.getByRole("button", { name: "Stop", exact: true });
    this.sessionId = page.getByTestId("session-id");
    this.saveState = page.getByRole("status").filter({ hasText: /sav/i });
    this.newSession = page.getByRole("button", { name: "New session", exact: true });
    this.sessions = page.getByRole("button", { name: "Sessions", exact: true });
    this.yours = page.getByRole("article", { name: /^You/ });
    this.replies = page.getByRole("article", { name: /^Assistant/ });
  }

  async open(url: string): Promise<void> {
    await gotoHydrated(this.page, url);
  }

  /** Sends a message without waiting for the reply. */
  async say(text: string): Promise<void> {
    await this.message.fill(text);
    await this.send.click();
  }

  /** Sends a message and waits until the reply is complete and kept. */
  async ask(text: string, patience = PATIENCE): Promise<void> {
    const before = await this.replies.count();
    await this.say(text);
    await expect(this.replies).toHaveCount(before + 1);
    await this.complete(patience);
  }

  /** Waits until no reply runs and all is kept. */
  async complete(patience = PATIENCE): Promise<void> {
    await expect(this.stop).toHaveCount(0, { timeout: patience });
    await expect(this.send).toBeVisible();
    await expect(this.saveState).toHaveText(/^\s*saved/i);
  }
}

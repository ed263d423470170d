// The composer while a reply is coming: what is said waits, and Escape stops.

import type { Page } from "@playwright/test";
import { Chat, FAILED_REQUEST, expect, hydrated, test } from "./support/test.ts";
import type { Verbatim } from "./support/verbatim.ts";

/** What was said by the person, in the order of the file. */
function said(verbatim: Verbatim): string[] {
  return verbatim.theSession().messages.filter((message) => message.role === "user").map((message) => message.content);
}

/** Holds the next reply back at its beginning; what this answers lets it come. */
async function heldBack(page: Page): Promise<() => void> {
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  await page.route("**/api/replies/start", async (route) => {
    await held;
    await route.continue();
  });
  return release;
}

test.describe("what is said while a reply is coming", () => {
  test("waits, can be taken back, and is sent in order when the reply is complete", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const queue = page.getByRole("region", { name: "Waiting to be sent" });
    await expect(queue).toHaveCount(0);
    const release = await heldBack(page);
    await chat.say("slow 60 50");
    await expect(chat.stop).toBeVisible();
    for (const text of ["echo one", "echo two", "echo three"]) {
      await chat.message.fill(text);
      await chat.message.press("Enter");
      await expect(chat.message).toHaveValue("");
    }
    await expect(queue.getByRole("listitem")).toHaveText([/echo one/, /echo two/, /echo three/]);
    await expect(queue.getByRole("status")).toContainText("3 messages wait");
    await expect(chat.yours).toHaveCount(1);
    await chat.message.fill("more");
    await queue.getByRole("listitem").nth(1).getByRole("button", { name: "Take back" }).click();
    await expect(chat.message).toHaveValue("echo two\nmore");
    await expect(chat.message).toBeFocused();
    await expect(queue.getByRole("listitem")).toHaveText([/echo one/, /echo three/]);
    release();
    await expect(chat.replies).toHaveCount(3);
    await chat.complete();
    await expect(queue).toHaveCount(0);
    expect(said(verbatim)).toEqual(["slow 60 50", "echo one", "echo three"]);
    expect(verbatim.theSession().messages.map((message) => message.content).slice(2)).toEqual(["echo one", "one", "echo three", "three"]);
    await expect(chat.message, "the draft stays").toHaveValue("echo two\nmore");
  });

  test("waits with a click where there is no key", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const release = await heldBack(page);
    await chat.say("slow 40 50");
    await expect(chat.stop).toBeVisible();
    const add = page.getByRole("button", { name: "Queue", exact: true });
    await expect(add).toHaveCount(0);
    await chat.message.fill("echo later");
    await add.click();
    await expect(page.getByRole("region", { name: "Waiting to be sent" })).toContainText("echo later");
    release();
    await expect(chat.replies).toHaveCount(2);
    await chat.complete();
    expect(said(verbatim)).toEqual(["slow 40 50", "echo later"]);
  });

  test("waits for the person after a reply that was stopped", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("slow 1000 100");
    await expect(chat.replies).toHaveText([/word1/]);
    for (const text of ["echo one", "echo two"]) {
      await chat.message.fill(text);
      await chat.message.press("Enter");
    }
    await chat.message.press("Escape");
    await chat.complete();
    const queue = page.getByRole("region", { name: "Waiting to be sent" });
    await expect(queue.getByRole("status")).toContainText("You stopped the reply");
    await expect(queue.getByRole("listitem")).toHaveCount(2);
    // What is said now goes at once.
    await chat.say("echo now");
    await expect(chat.replies).toHaveCount(4);
    await chat.complete();
    expect(said(verbatim)).toEqual(["slow 1000 100", "echo now", "echo one", "echo two"]);
  });

  test("is sent with one click after a reply that failed", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const release = await heldBack(page);
    await chat.say("fail");
    await chat.message.fill("echo one");
    await chat.message.press("Enter");
    const queue = page.getByRole("region", { name: "Waiting to be sent" });
    await expect(queue).toContainText("echo one");
    release();
    const now = queue.getByRole("button", { name: "Send now" });
    await now.click();
    await expect(chat.replies).toHaveCount(2);
    await chat.complete();
    await expect(queue).toHaveCount(0);
    expect(said(verbatim)).toEqual(["fail", "echo one"]);
  });

  test("is sent when the server is back, after what was said before", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo zero");
    await verbatim.stop();
    await chat.say("echo one");
    await expect(page.getByText("The server cannot be reached. It is tried again…")).toBeVisible();
    await chat.message.fill("echo two");
    await chat.message.press("Enter");
    await expect(page.getByRole("region", { name: "Waiting to be sent" })).toContainText("echo two");
    await verbatim.start();
    await expect(chat.replies).toHaveCount(3);
    await chat.complete();
    expect(said(verbatim)).toEqual(["echo zero", "echo one", "echo two"]);
  });
});

test.describe("Escape", () => {
  test("stops the reply, wherever the focus is, and leaves it there", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("slow 1000 100");
    await expect(chat.replies).toHaveText([/word1/]);
    await chat.message.fill("a draft");
    await chat.message.press("Escape");
    await expect(chat.stop).toHaveCount(0);
    await expect(chat.replies.last()).toContainText("You stopped this reply.");
    await expect(chat.message).toBeFocused();
    await expect(chat.message).toHaveValue("a draft");
    await chat.message.fill("");
    await chat.say("slow 1000 90");
    await expect(chat.replies.last()).toContainText("word1");
    await chat.newSession.focus();
    await page.keyboard.press("Escape");
    await expect(chat.stop).toHaveCount(0);
    await expect(chat.newSession).toBeFocused();
    await chat.complete();
    expect(verbatim.theSession().messages.filter((message) => message.metadata.stopped)).toHaveLength(2);
  });

  test("belongs to a dialog while one is open, and to the input method while a word is composed", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("slow 1000 100");
    await expect(chat.replies).toHaveText([/word1/]);
    await chat.sessions.click();
    const dialog = page.getByRole("dialog", { name: "Sessions" });
    await expect(dialog).toBeVisible();
    await page.keyboard.press("Escape");
    await expect(dialog).toBeHidden();
    await expect(chat.stop).toBeVisible();
    await chat.message.evaluate((field) => {
      for (const init of [{ isComposing: true }, { keyCode: 229 }, { ctrlKey: true }]) {
        field.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true, cancelable: true, ...init }));
      }
    });
    await expect(chat.stop).toBeVisible();
    await page.getByRole("button", { name: /shortcuts/i }).first().click();
    await expect(page.getByRole("dialog", { name: "Keyboard shortcuts" })).toContainText("Stop the reply");
    await page.keyboard.press("Escape");
    await expect(chat.stop).toBeVisible();
    await page.keyboard.press("Escape");
    await expect(chat.stop).toHaveCount(0);
  });
});

// These last as long as the test wants.
test.describe("what is said while a reply is under way", () => {
  test.use({ assistant: "openai" });

  test("survives a reload and is sent once", async ({ page, verbatim, openai }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const reply = openai.guide();
    await chat.say("Count!");
    reply.upTo(1);
    await expect(chat.replies).toHaveCount(1);
    await chat.message.fill("And after?");
    await chat.message.press("Enter");
    await page.reload();
    await hydrated(page);
    const queue = page.getByRole("region", { name: "Waiting to be sent" });
    await expect(queue).toContainText("And after?");
    reply.end(200);
    await expect(chat.replies).toHaveCount(2);
    await chat.complete();
    await expect(queue).toHaveCount(0);
    await page.reload();
    await hydrated(page);
    await expect(chat.replies).toHaveText([/word200/, /«And after\?»/]);
    await expect(queue).toHaveCount(0);
    expect(said(verbatim)).toEqual(["Count!", "And after?"]);
  });

  test("belongs to its session and its tab", async ({ page, context, verbatim, openai }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const reply = openai.guide();
    await chat.say("Count!");
    reply.upTo(1);
    await expect(chat.sessionId).toBeVisible();
    await expect(chat.replies).toHaveCount(1);
    await chat.message.fill("And mine?");
    await chat.message.press("Enter");
    const queue = page.getByRole("region", { name: "Waiting to be sent" });
    await expect(queue).toContainText("And mine?");
    const other = new Chat(await context.newPage());
    await other.open(page.url());
    await expect(other.replies).toHaveCount(1);
    await expect(other.page.getByRole("region", { name: "Waiting to be sent" })).toHaveCount(0);
    await page.bringToFront();
    await chat.newSession.click();
    await expect(chat.yours).toHaveCount(0);
    await expect(queue).toHaveCount(0);
    await page.goBack();
    reply.end(200);
    await expect(chat.replies).toHaveCount(2);
    await chat.complete();
    expect(said(verbatim)).toEqual(["Count!", "And mine?"]);
  });
});

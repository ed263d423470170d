// The model inside Verbatim: the real engine with the real weights, and once a fake one.

import fs from "node:fs";
import type { Page } from "@playwright/test";
import { violations } from "./support/axe.ts";
import { FAKE_ENGINE, buildEngine, catalogueModel, enginesOf, putHollowWeights, realModel, runs } from "./support/embedded.ts";
import { Chat, test as base, expect } from "./support/test.ts";
import { Verbatim } from "./support/verbatim.ts";

/** The longest that a model may take for an answer on a machine that does other things too, in milliseconds. */
const PATIENCE = 180_000;

/** What this model always answers at length: of 32 answers none was shorter than 350 characters. A story it sometimes refuses. */
const LONG_TASK = "Explain binary search step by step, with code in Python and three examples.";

const test = base.extend({
  // Decided when a test runs, so that a missing engine or missing weights fail these tests and no others.
  assistant: async ({}, use) => use(realModel()),
});

// One after the other: two models at once would only wait for each other.
test.describe.configure({ mode: "serial", timeout: 2 * PATIENCE });

/** Writes down what the page says while it waits for a reply, also what is there for a moment only. */
async function watchWaiting(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const said: string[] = [];
    (window as unknown as { said: string[] }).said = said;
    new MutationObserver(() => {
      const text = document.querySelector(".waiting")?.textContent;
      if (text && said.at(-1) !== text) said.push(text);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  return () => page.evaluate(() => (window as unknown as { said: string[] }).said);
}

/** The process of the engine, once there is one. */
async function engineOf(verbatim: Verbatim): Promise<number> {
  await expect.poll(() => enginesOf(verbatim.pid).length, { timeout: 60_000 }).toBe(1);
  return enginesOf(verbatim.pid)[0]!;
}

/** Kills the engine and waits until it is gone. */
async function killEngine(verbatim: Verbatim): Promise<void> {
  const pid = await engineOf(verbatim);
  process.kill(pid, "SIGKILL");
  await expect.poll(() => runs(pid)).toBe(false);
}

test("answers without any other server, and knows after a restart what it was told", async ({ page, verbatim }) => {
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/`);
  await expect(page.getByRole("main")).toContainText(`${catalogueModel("default").model}, inside Verbatim`);
  // The model loads while the person types.
  await engineOf(verbatim);
  await chat.ask("My name is Priya and I like chess.", PATIENCE);
  await expect(chat.replies.last()).toContainText(catalogueModel("default").model);
  expect(verbatim.theSession().messages.at(-1)?.content).not.toBe("");
  expect(verbatim.theSession().messages.at(-1)?.metadata.error).toBeUndefined();

  await verbatim.stop();
  await verbatim.start();
  await chat.open(`${verbatim.address}/`);
  await expect(chat.yours).toHaveText([/My name is Priya and I like chess\./]);
  await chat.ask("What is my name?", PATIENCE);
  await expect(chat.replies.last()).toContainText("Priya");
  expect(verbatim.theSession().messages.at(-1)?.content).toContain("Priya");
});

test("shows how far the model is loaded", async ({ page, verbatim }) => {
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/`);
  // A load of weights that the system has at hand may be over before a part of it could be shown.
  await expect(async () => {
    // What was loaded ahead is taken away, so that this reply waits for all of it.
    await killEngine(verbatim);
    const said = await watchWaiting(page);
    await chat.ask("Say yes.", PATIENCE);
    expect((await said()).join(" | ")).toMatch(/Loading the model, \d+ %/);
  }).toPass({ timeout: PATIENCE });
});

test("that is killed in mid-reply keeps the text, and answers the next message", async ({ page, verbatim }) => {
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/`);
  await chat.say(LONG_TASK);
  const text = chat.replies.last().locator(".md");
  await expect.poll(async () => (await text.allInnerTexts()).join("").length, { timeout: PATIENCE }).toBeGreaterThan(40);
  await killEngine(verbatim);
  const note = /The model inside Verbatim stopped in the middle of this reply\./;
  await expect(chat.replies.last()).toContainText(note);
  await chat.complete();
  const failed = verbatim.theSession().messages.at(-1)!;
  expect(failed.metadata).toMatchObject({ error: "assistant_failed", error_message: expect.stringMatching(note) });
  expect(failed.content.length).toBeGreaterThan(40);

  await chat.ask("What was that about? Answer in one short sentence.", PATIENCE);
  expect(verbatim.theSession().messages.at(-1)?.metadata.error).toBeUndefined();
  expect(verbatim.theSession().messages.at(-1)?.content).not.toBe("");
});

test("does not outlive its server", async ({ page, verbatim, problems }) => {
  // The page misses the server that is killed here.
  problems.expect(/^console: /);
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/`);
  await chat.say(LONG_TASK);
  await expect(chat.replies.last().locator(".md")).not.toBeEmpty({ timeout: PATIENCE });
  const pid = await engineOf(verbatim);
  await verbatim.kill();
  await expect.poll(() => runs(pid)).toBe(false);
});

test("that is still being built says how far that is, and answers then what was asked meanwhile", async ({ page, problems }) => {
  const folder = fs.mkdtempSync("/tmp/verbatim-models-");
  putHollowWeights(folder, "small");
  const build = buildEngine(folder, 185, 300);
  const verbatim = new Verbatim(["--model", "small", "--engine", build.engine, "--models-dir", folder]);
  try {
    await verbatim.start();
    const chat = new Chat(page);
    const told = page.getByRole("note").filter({ hasText: "The model inside Verbatim is being built" });
    for (const [width, colorScheme] of [[360, "dark"], [1280, "light"]] as const) {
      await page.setViewportSize({ width, height: 740 });
      await page.emulateMedia({ colorScheme });
      await chat.open(`${verbatim.address}/`);
      await expect(told).toContainText(/is being built: [34] of about 5 minutes\./);
      await expect(told).toContainText("Write now: it answers by itself when that is done.");
      await expect(told).toBeInViewport({ ratio: 1 });
      expect(await violations(page)).toEqual([]);
    }
    await chat.say("echo hello");
    await expect(page.locator(".waiting")).toContainText(/The model is being built, \d\d %/);
    expect(verbatim.theSession().messages.map(({ content }) => content), "it is kept meanwhile").toContain("echo hello");
    build.install();
    await chat.complete();
    await expect(chat.replies.last()).toContainText("hello");
    await expect(told, "it is seen that it can answer").toHaveCount(0, { timeout: 60_000 });
    problems.end();
    await verbatim.stop();
  } finally {
    build.end();
    await verbatim.remove();
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

test("that is very small says so", async ({ page, problems }) => {
  const folder = fs.mkdtempSync("/tmp/verbatim-models-");
  putHollowWeights(folder, "small");
  const verbatim = new Verbatim(["--model", "small", "--engine", FAKE_ENGINE, "--models-dir", folder]);
  try {
    await verbatim.start();
    const chat = new Chat(page);
    const line = page.getByText(/This is a very small model: its answers are rough\./);
    for (const [width, colorScheme] of [[1280, "light"], [360, "dark"], [360, "light"], [1280, "dark"]] as const) {
      await page.setViewportSize({ width, height: 740 });
      await page.emulateMedia({ colorScheme });
      await chat.open(`${verbatim.address}/`);
      await expect(line).toContainText(`You talk to ${catalogueModel("small").model}, inside Verbatim.`);
      await expect(line).toBeInViewport({ ratio: 1 });
      expect(await violations(page)).toEqual([]);
    }
    await chat.ask("echo hello");
    await expect(chat.replies.last()).toContainText("hello");
    problems.end();
    await verbatim.stop();
  } finally {
    await verbatim.remove();
    fs.rmSync(folder, { recursive: true, force: true });
  }
});

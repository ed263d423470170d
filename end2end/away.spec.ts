// A server that goes and comes back while nobody does anything.

import { Chat, FAILED_REQUEST, expect, gotoHydrated, test } from "./support/test.ts";

test.describe("while the server is away", () => {
  test("an idle page says so within ten seconds, in each tab, and takes it back", async ({ page, context, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    const other = new Chat(await context.newPage());
    await other.open(page.url());
    await verbatim.kill();
    for (const { page: tab, saveState } of [other, chat]) {
      await tab.bringToFront();
      // What is promised; the looks are seconds apart, however slow the machine is.
      await expect(saveState).toHaveText("saved · the server cannot be reached", { timeout: 10_000 });
      await expect(saveState).toHaveAttribute("aria-live", "polite");
    }
    await verbatim.start();
    for (const { page: tab, saveState } of [chat, other]) {
      await tab.bringToFront();
      await expect(saveState).toHaveText(/^saved \d+ \w+ ago$/);
    }
  });

  test("a server that hangs is noticed too", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await page.route("**/icon.svg", () => {});
    await expect(chat.saveState).toContainText("cannot be reached");
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await expect(chat.saveState).not.toContainText("cannot be reached");
  });

  test("nothing is asked for while the page is not seen, and little while it is", async ({ page, verbatim }) => {
    await page.clock.install();
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await page.clock.pauseAt(await page.evaluate(() => Date.now() + 10_000));
    const asked: string[] = [];
    page.on("request", (request) => asked.push(`${request.method()} ${new URL(request.url()).pathname}`));
    // Second by second: a look waits for the answer to the one before.
    const aMinute = async () => {
      asked.length = 0;
      for (let second = 0; second < 60; second++) {
        await page.clock.runFor(1_000);
        await page.evaluate(() => fetch("/health"));
      }
      return asked.filter((request) => request !== "GET /health");
    };
    const seen = await aMinute();
    expect(new Set(seen)).toEqual(new Set(["HEAD /icon.svg"]));
    expect(seen.length).toBeGreaterThanOrEqual(10);
    expect(seen.length).toBeLessThanOrEqual(30);
    await page.evaluate(() => Object.defineProperty(document, "hidden", { get: () => true }));
    expect((await aMinute()).length, "one look may have been under way").toBeLessThanOrEqual(1);
  });

  test("a conversation that could not be opened is opened when it is back", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    const address = page.url();
    await chat.newSession.click();
    await expect(chat.replies).toHaveCount(0);
    await page.route("**/api/sessions/load", (route) => route.abort());
    await page.route("**/icon.svg", (route) => route.abort());
    await page.goBack();
    await expect(page.getByRole("alert")).toContainText("tried again by itself");
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await expect(chat.replies).toHaveText([/one/]);
    await expect(page).toHaveURL(address);
    await gotoHydrated(page, address);
    await expect(chat.replies).toHaveText([/one/]);
  });
});

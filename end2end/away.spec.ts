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
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    const asked: string[] = [];
    page.on("request", (request) => asked.push(`${request.method()} ${new URL(request.url()).pathname}`));
    await expect.poll(() => asked.length).toBeGreaterThanOrEqual(2);
    expect(new Set(asked)).toEqual(new Set(["HEAD /icon.svg"]));
    await page.evaluate(() => Object.defineProperty(document, "hidden", { get: () => true }));
    asked.length = 0;
    // More than two looks long.
    await page.waitForTimeout(7_000);
    expect(asked.length).toBeLessThanOrEqual(1);
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
    await expect(chat.replies).toHaveText([/one/], { timeout: 15_000 });
    await expect(page).toHaveURL(address);
    await gotoHydrated(page, address);
    await expect(chat.replies).toHaveText([/one/]);
  });
});

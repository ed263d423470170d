// The Chat page: from the first message to the conversation of yesterday.

import type { Page } from "@playwright/test";
import { MODEL, words } from "./support/fake_openai.ts";
import { Chat, FAILED_REQUEST, expect, gotoHydrated, hydrated, test } from "./support/test.ts";
import type { Verbatim } from "./support/verbatim.ts";

/** The reply's text as far as it consists of numbered words: how many stand there, all in order. */
async function numberedWords(chat: Chat): Promise<number> {
  const shown = (await chat.replies.last().innerText()).match(/word\d+/g) ?? [];
  expect(shown.join(" ")).toBe(words(shown.length));
  return shown.length;
}

/** Waits until at least so many numbered words of the reply are shown. */
async function atLeast(chat: Chat, count: number): Promise<void> {
  await expect.poll(() => numberedWords(chat), { timeout: 60_000 }).toBeGreaterThanOrEqual(count);
}

/** The newest session's id, by the API. */
async function newestId(verbatim: Verbatim): Promise<string> {
  return (await verbatim.post("list", { limit: 1, offset: 0 })).sessions[0].session_id;
}

test.describe("the first visit", () => {
  test("is empty, says who answers, and keeps nothing", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await expect(page).toHaveTitle(/Verbatim/);
    await expect(page.getByRole("main")).toContainText(/scripted/i);
    await expect(page.getByRole("article")).toHaveCount(0);
    await expect(chat.message).toHaveValue("");
    expect(verbatim.sessionsOnDisk()).toEqual([]);
  });
});

test.describe("without an assistant", () => {
  // The port of the discard service, on which nothing listens.
  test.use({ assistant: ["--assistant", "openai", "--openai-url", "http://127.0.0.1:9/v1"] });

  test("the page says what to do, and keeps what is sent all the same", async ({ page, verbatim, problems }) => {
    // The server answers 503 to the reply that nobody can give.
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await expect(page.getByRole("main")).toContainText("127.0.0.1:9");
    await chat.say("Is anybody there?");
    const alert = page.getByRole("alert");
    await expect(alert).toContainText("127.0.0.1:9");
    await expect(alert.getByRole("button", { name: "Try again" })).toBeVisible();
    await expect(chat.yours).toHaveText([/Is anybody there\?/]);
    expect(verbatim.theSession().messages[0]?.content).toBe("Is anybody there?");
  });
});

test.describe("without an assistant at first", () => {
  test.use({ assistant: ["--assistant", "openai", "--openai-url", "http://127.0.0.1:9/v1"] });

  test("a reply that was stopped before it was refused is not stopped when it is asked for again", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    let answer = () => {};
    const stopped = new Promise<void>((resolve) => (answer = resolve));
    await page.route("**/api/replies/start", async (route) => {
      await stopped;
      await route.continue();
    });
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("slow 20 50");
    await chat.stop.click();
    await expect(page.getByText("Stopping…")).toBeVisible();
    answer();
    const again = page.getByRole("alert").getByRole("button", { name: "Try again" });
    await expect(again).toBeVisible();
    await verbatim.stop();
    verbatim.answeredBy(["--assistant", "scripted"]);
    await verbatim.start();
    await again.click();
    await expect(chat.replies).toHaveCount(1);
    await chat.complete();
    expect(await numberedWords(chat)).toBe(20);
  });
});

test.describe("a reply", () => {
  test("is rendered as Markdown, and its code can be copied", async ({ page, context, verbatim }) => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo **bold**, *leaning*, `code`\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```rust\nfn main() {}\n```");
    const reply = chat.replies.last();
    await expect(reply.locator("strong")).toHaveText("bold");
    await expect(reply.locator("em")).toHaveText("leaning");
    await expect(reply.locator("li")).toHaveText(["one", "two"]);
    await expect(reply.locator("td")).toHaveText(["1", "2"]);
    await expect(reply.locator("pre code")).toHaveText(/fn main\(\) \{\}/);
    await reply.locator("pre").hover();
    await reply.getByRole("button", { name: /copy code|^copy$/i }).first().click();
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toContain("fn main() {}");
  });

  test("cannot run script, whatever it holds", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const attack = [
      `<script>window.hacked = 1</script><img src="x" onerror="window.hacked = 1"><svg onload="window.hacked = 1">`,
      `<iframe srcdoc="<script>parent.hacked = 1</script>"></iframe><a href="javascript:window.hacked=1">raw</a>`,
      `[one](javascript:window.hacked=1) [two](JaVaScRiPt:window.hacked=1) [three](java&#10;script:window.hacked=1)`,
      `[four](data:text/html,<script>opener.hacked=1</script>) [five](vbscript:x) ![six](x" onerror="window.hacked=1)`,
      `[good](https://example.org/)`,
    ].join("\n\n");
    await chat.ask(`echo ${attack}`);
    for (const article of [chat.yours.last(), chat.replies.last()]) {
      await expect(article.locator("script, img, iframe, object, embed, style, [onerror], [onload]")).toHaveCount(0);
      expect(
        await article
          .locator("a[href]")
          .evaluateAll((links) => links.map((link) => (link as HTMLAnchorElement).protocol).filter((p) => !/^https?:$/.test(p))),
      ).toEqual([]);
    }
    const good = chat.replies.last().getByRole("link", { name: "good" });
    await expect(good).toHaveAttribute("href", "https://example.org/");
    await expect(good).toHaveAttribute("rel", /noopener/);
    for (const name of ["one", "two", "three", "four", "five"]) {
      const text = chat.replies.last().getByText(name, { exact: true });
      if ((await text.count()) > 0) await text.first().click();
    }
    expect(await page.evaluate(() => "hacked" in window)).toBe(false);
    // The same after a reload, when the server renders it.
    await page.reload();
    await hydrated(page);
    await expect(chat.replies).toHaveCount(1);
    expect(await page.evaluate(() => "hacked" in window)).toBe(false);
  });

  test("can be stopped and keeps what it has", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("slow 500 50");
    await atLeast(chat, 3);
    await chat.stop.click();
    await chat.complete();
    const shown = await numberedWords(chat);
    expect(shown).toBeLessThan(500);
    const kept = verbatim.theSession().messages[1];
    expect(kept?.metadata.stopped).toBe(true);
    expect(kept?.content).toBe(words(shown));
  });

  test("stays in view at its end when the window becomes another one", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("stream 1500");
    const conversation = page.getByRole("region", { name: "Conversation" });
    const fromEnd = () => conversation.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
    await expect.poll(fromEnd).toBeLessThan(5);
    const { width, height } = page.viewportSize()!;
    for (const size of [{ width: 360, height }, { width: 360, height: height / 2 }, { width, height }]) {
      await page.setViewportSize(size);
      await expect.poll(fromEnd, { message: `${size.width} × ${size.height}` }).toBeLessThan(5);
    }
  });

  test("that failed says so, keeps its text, and can be tried again", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("fail");
    const again = page.getByRole("button", { name: "Try again" });
    await expect(again).toBeVisible();
    await expect(page.getByRole("main")).toContainText("failed, as it was told to");
    await expect(chat.replies.last()).toContainText("This reply fails in the mid");
    await expect(chat.send).toBeVisible();
    await again.click();
    await expect.poll(() => verbatim.theSession().messages.length).toBe(3);
    await expect(again).toBeVisible();
    await expect(chat.replies).toHaveCount(1);
    const [question, first, second] = verbatim.theSession().messages;
    expect([first?.parent_id, second?.parent_id]).toEqual([question?.id, question?.id]);
    expect(first?.metadata.error).toBeTruthy();
  });

  test("shows its reasoning on demand", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("think first this, then that");
    const reply = chat.replies.last();
    const reasoning = reply.getByText("first this, then that");
    await expect(reasoning).toBeHidden();
    await reply.locator("summary", { hasText: /thought|reasoning/i }).click();
    await expect(reasoning).toBeVisible();
    expect(verbatim.theSession().messages[1]?.parts?.map((part) => part.type)).toEqual(["reasoning", "text"]);
  });

  test("keeps the modes that the person allowed", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const commander = page.getByRole("switch", { name: "Commander" });
    const webSearch = page.getByRole("switch", { name: "Web search" });
    await expect(commander).not.toBeChecked();
    await commander.click();
    await expect(commander).toBeChecked();
    await expect(webSearch).not.toBeChecked();
    await chat.ask("hello");
    for (const message of verbatim.theSession().messages) {
      expect(message.metadata.modes).toEqual({ commander: true, webSearch: false });
    }
    await expect(chat.replies.last()).toContainText("CMD");
    await expect(chat.replies.last()).not.toContainText("WEB");
  });
});

test.describe("sessions", () => {
  test("the header holds the id and the save state; a new session begins and the first is found again", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo the first conversation");
    const first = await newestId(verbatim);
    await expect(chat.sessionId).toContainText(first.slice(0, 8));
    await expect(page).toHaveURL(new RegExp(`/chat/${first}$`));

    await chat.newSession.click();
    await expect(page.getByRole("article")).toHaveCount(0);
    await chat.ask("echo the second conversation");
    const second = await newestId(verbatim);
    expect(second).not.toBe(first);
    await expect(chat.sessionId).toContainText(second.slice(0, 8));

    await chat.sessions.click();
    const browser = page.getByRole("dialog");
    await expect(browser).toContainText("the second conversation");
    await browser.getByText("the first conversation").first().click();
    await expect(page).toHaveURL(new RegExp(`/chat/${first}$`));
    await expect(browser).toBeHidden();
    await expect(chat.yours).toHaveText([/the first conversation/]);
    await expect(chat.replies).toHaveText([/the first conversation/]);
    // It goes on where it ended.
    await chat.ask("echo more of the first");
    await expect(chat.replies).toHaveCount(2);
    expect((await verbatim.post("load", { session_id: first })).messages).toHaveLength(4);
  });

  test("one that is deleted in the dialog comes back with the dialog's own Undo", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo to be deleted");
    await chat.sessions.click();
    const browser = page.getByRole("dialog", { name: "Sessions" });
    await browser.getByRole("button", { name: /^Delete/ }).click();
    await page.getByRole("button", { name: "Delete session" }).click();
    await expect.poll(() => verbatim.sessionsOnDisk()).toHaveLength(0);
    await browser.getByRole("button", { name: "Undo" }).click();
    await expect.poll(() => verbatim.sessionsOnDisk()).toHaveLength(1);
    await expect(browser).toContainText("to be deleted");
  });

  test("Enter sends, Shift and Enter begin a new line", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.message.pressSequentially("echo one");
    await chat.message.press("Shift+Enter");
    await chat.message.pressSequentially("two");
    await chat.message.press("Enter");
    await chat.complete();
    await expect.poll(() => verbatim.theSession().messages[0]?.content).toBe("echo one\ntwo");
    await expect(chat.message).toHaveValue("");
  });

  test("the navigation leads from an open conversation to all sessions and back", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo here I am");
    const address = page.url();
    const navigation = page.getByRole("navigation").first();
    await navigation.getByRole("link", { name: "Sessions" }).click();
    await expect(page.getByRole("button", { name: /^Delete/ })).toHaveCount(1);
    await expect(page).toHaveURL(/\/sessions$/);
    await navigation.getByRole("link", { name: "Chat" }).click();
    await expect(chat.replies).toHaveCount(1);
    await expect(page).toHaveURL(address);
  });

  test("an unknown id says so and shows the way back", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const response = await page.goto(`${verbatim.address}/chat/0123456789abcdef0123456789abcdef`);
    expect(response?.status()).toBe(404);
    await hydrated(page);
    await page.getByRole("main").getByRole("link", { name: /sessions/i }).click();
    await expect(page).toHaveURL(/\/sessions$/);
  });

  test("an address that is none says so and shows the way back", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const response = await page.goto(`${verbatim.address}/nowhere`);
    expect(response?.status()).toBe(404);
    await expect(page.getByRole("link", { name: /chat|sessions/i }).first()).toBeVisible();
  });
});

test.describe("a turn, without automatic saves", () => {
  test.use({ assistant: ["--assistant", "scripted", "--autosave-seconds", "3600"] });

  test("is rated, rated otherwise, and no longer rated", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    const reply = chat.replies.last();
    const good = reply.getByRole("button", { name: "Good reply" });
    const bad = reply.getByRole("button", { name: "Bad reply" });
    const rating = () => verbatim.theSession().messages[1]?.metadata.rating;
    await expect(chat.yours.last().getByRole("button", { name: /reply$/ })).toHaveCount(0);
    await good.click();
    await expect(good).toHaveAttribute("aria-pressed", "true");
    await expect.poll(rating).toBe(1);
    // One after the other, sooner than the server answers: the last word counts.
    let letGo = () => {};
    const bothAreClicked = new Promise<void>((resolve) => (letGo = resolve));
    await page.route("**/api/sessions/save", async (route) => {
      await bothAreClicked;
      await route.continue();
    });
    await good.click();
    await bad.click();
    await expect(good).toHaveAttribute("aria-pressed", "false");
    letGo();
    await expect.poll(rating).toBe(-1);
    await chat.complete();
    await page.reload();
    await hydrated(page);
    await expect(bad).toHaveAttribute("aria-pressed", "true");
    await bad.click();
    await expect.poll(rating).toBe(undefined);
    expect(verbatim.theSession().messages).toHaveLength(2);
    expect(verbatim.theSession().messages[1]?.content).toBe("one");
  });
});

test.describe("a turn", () => {
  test("is hidden, which can be undone, also from another conversation", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.ask("echo two");
    const hidden = () => verbatim.theSession().messages.filter((message) => message.metadata.hidden).map((message) => message.content);
    await chat.replies.first().getByRole("button", { name: "Hide" }).click();
    await expect(chat.replies).toHaveText([/two/]);
    await expect(chat.message).toBeFocused();
    await expect.poll(hidden).toEqual(["one"]);
    await page.getByRole("button", { name: "Undo" }).click();
    await expect(chat.replies).toHaveText([/one/, /two/]);
    await expect.poll(hidden).toEqual([]);

    await chat.replies.last().getByRole("button", { name: "Hide" }).click();
    await chat.yours.last().getByRole("button", { name: "Hide" }).click();
    await expect(page.getByRole("article")).toHaveText([/echo one/, /one/]);
    await page.reload();
    await hydrated(page);
    await expect(page.getByRole("article")).toHaveText([/echo one/, /one/]);
    // What is said next follows what is shown.
    await chat.ask("echo three");
    const kept = verbatim.theSession().messages;
    expect(kept.map((message) => message.content)).toEqual(["echo one", "one", "echo two", "two", "echo three", "three"]);
    expect(kept[4]?.parent_id).toBe(kept[1]?.id);

    await chat.yours.last().getByRole("button", { name: "Hide" }).click();
    await chat.newSession.click();
    await expect(page.getByRole("article")).toHaveCount(0);
    await page.getByRole("button", { name: "Undo" }).click();
    await expect.poll(hidden).toEqual(["echo two", "two"]);
  });

  test("that is hidden and has another version gives its place to that, and Undo brings it back", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.replies.last().getByRole("button", { name: "Reply anew" }).click();
    const versions = chat.replies.last().getByRole("group", { name: "Versions" });
    await expect(versions).toContainText("2/2");
    await chat.complete();
    const [first, second] = verbatim.theSession().messages.slice(1).map((message) => message.id);
    const shown = () => chat.replies.evaluateAll((replies) => replies.map((reply) => (reply as HTMLElement).dataset.messageId));
    expect(await shown()).toEqual([second]);
    await chat.replies.last().getByRole("button", { name: "Hide" }).click();
    await expect.poll(shown).toEqual([first]);
    await expect(versions).toHaveCount(0);
    await expect.poll(() => verbatim.theSession().metadata.active_leaf).toBe(first);
    await page.getByRole("button", { name: "Undo" }).click();
    await expect.poll(shown).toEqual([second]);
    await expect(versions).toContainText("2/2");
    await chat.complete();

    await chat.replies.last().getByRole("button", { name: "Hide" }).click();
    await expect.poll(shown).toEqual([first]);
    await chat.complete();
    await page.reload();
    await hydrated(page);
    expect(await shown()).toEqual([first]);
  });

  test("has buttons that the keyboard uses without losing its place", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    const reply = chat.replies.last();
    for (const count of ["2/2", "3/3"]) {
      await reply.getByRole("button", { name: "Reply anew" }).press("Enter");
      await expect(chat.message).toBeFocused();
      await expect(reply.getByRole("group", { name: "Versions" })).toContainText(count);
      await chat.complete();
    }
    const previous = reply.getByRole("button", { name: "Previous version" });
    await previous.focus();
    for (const count of ["2/3", "1/3", "1/3"]) {
      await page.keyboard.press("Enter");
      await expect(reply.getByRole("group", { name: "Versions" })).toContainText(count);
      await expect(previous).toBeFocused();
    }
    await expect(previous).toBeDisabled();
    await chat.complete();
  });

  test("that was rated while the server was away is rated when it is back", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await page.route("**/api/sessions/save", (route) => route.abort());
    await chat.replies.last().getByRole("button", { name: "Good reply" }).click();
    await expect(chat.saveState).toContainText(/not saved/i);
    await page.unroute("**/api/sessions/save");
    await expect.poll(() => verbatim.theSession().messages[1]?.metadata.rating).toBe(1);
    await chat.complete();
  });

  test("that was changed while the server was away is changed when it is back, also from another conversation", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.ask("echo two");
    const good = chat.replies.first().getByRole("button", { name: "Good reply" });
    await page.route("**/api/sessions/save", (route) => route.abort());
    await good.click();
    await chat.replies.last().getByRole("button", { name: "Hide" }).click();
    await chat.newSession.click();
    await expect(page.getByRole("article")).toHaveCount(0);
    // It is as it was left, also while it is not saved.
    await page.goBack();
    await expect(chat.replies).toHaveText([/one/]);
    await expect(good).toHaveAttribute("aria-pressed", "true");
    await chat.newSession.click();
    await expect(page.getByRole("article")).toHaveCount(0);
    await page.unroute("**/api/sessions/save");
    const changes = () => verbatim.theSession().messages.map(({ metadata }) => [metadata.rating, metadata.hidden]);
    await expect.poll(changes).toEqual([
      [undefined, undefined],
      [1, undefined],
      [undefined, undefined],
      [undefined, true],
    ]);
  });
});

test.describe("nothing is lost", () => {

  test("a draft survives a reload", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.message.fill("half a thou");
    await page.reload();
    await hydrated(page);
    await expect(chat.message).toHaveValue("half a thou");
    await chat.ask("hello");
    await chat.message.fill("another half");
    await page.reload();
    await hydrated(page);
    await expect(chat.message).toHaveValue("another half");
    await expect(chat.yours).toHaveText([/hello/]);
  });

  test("a draft is left alone by what another tab sends", async ({ page, context, verbatim }) => {
    const one = new Chat(page);
    const other = new Chat(await context.newPage());
    await one.open(`${verbatim.address}/chat?new`);
    await other.open(`${verbatim.address}/chat?new`);
    await one.message.fill("a long thought");
    await other.ask("echo x");
    await page.bringToFront();
    await page.getByRole("navigation").first().getByRole("link", { name: "Sessions" }).click();
    await expect(page).toHaveURL(/\/sessions$/);
    await page.goBack();
    await expect(one.message).toHaveValue("a long thought");
    await page.reload();
    await hydrated(page);
    await expect(one.message).toHaveValue("a long thought");
    // Nor does sending remove what another tab has typed since.
    await other.page.bringToFront();
    await other.newSession.click();
    await other.message.fill("echo y");
    await page.bringToFront();
    await one.message.fill("a longer thought");
    await other.page.bringToFront();
    await other.send.click();
    await other.complete();
    await page.bringToFront();
    await page.reload();
    await hydrated(page);
    await expect(one.message).toHaveValue("a longer thought");
  });

  test("a draft that was begun before its session is found in the session", async ({ page, verbatim, problems }) => {
    problems.expect(/Failed to load resource|ERR_|network/i);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/chat?new`);
    await verbatim.stop();
    await chat.say("echo one");
    await expect(chat.saveState).toContainText(/not saved/i);
    await chat.message.fill("the next words");
    await verbatim.start();
    await expect(page).toHaveURL(/\/chat\/\w+$/, { timeout: 60_000 });
    await chat.complete();
    await page.reload();
    await hydrated(page);
    await expect(chat.replies).toHaveCount(1);
    await expect(chat.message).toHaveValue("the next words");
    await chat.newSession.click();
    await expect(page.getByRole("article")).toHaveCount(0);
    await expect(chat.message).toHaveValue("");
  });

  test("what is typed before the page listens stays", async ({ page, verbatim }) => {
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    await page.route(/\.wasm$/, async (route) => {
      await held;
      await route.continue();
    });
    const chat = new Chat(page);
    await page.goto(`${verbatim.address}/`, { waitUntil: "commit" });
    await chat.message.pressSequentially("echo early words");
    release();
    await hydrated(page);
    await expect(chat.message).toHaveValue("echo early words");
    await chat.send.click();
    await chat.complete();
    await expect(chat.replies).toHaveText([/early words/]);
  });

  test("two tabs that cannot begin a session lose nothing, and a third takes nothing from them", async ({ page, context, verbatim, problems }) => {
    problems.expect(/Failed to load resource|ERR_|network/i);
    const one = new Chat(page);
    const other = new Chat(await context.newPage());
    const third = new Chat(await context.newPage());
    const address = `${verbatim.address}/chat?new`;
    await one.open(address);
    await other.open(address);
    await third.open(address);
    await verbatim.stop();
    await one.say("echo from one");
    await other.say("echo from the other");
    const kept = () =>
      page.evaluate(() => Object.entries(localStorage).filter(([key]) => key.startsWith("verbatim.unsaved.")).map(([, text]) => text));
    await expect.poll(async () => (await kept()).length).toBe(2);
    expect((await kept()).join()).toContain("echo from one");
    await third.page.bringToFront();
    await third.newSession.click();
    await expect(third.page.getByRole("article")).toHaveCount(0);
    await other.page.close();
    // The browser lets go of what a closed tab held a moment later.
    await expect(async () => {
      await third.newSession.click();
      await expect(third.yours).toHaveText([/from the other/], { timeout: 2_000 });
    }).toPass();
    await verbatim.start();
    await expect.poll(async () => (await kept()).length, { timeout: 60_000 }).toBe(0);
    await page.bringToFront();
    await one.complete();
    await third.page.bringToFront();
    await third.complete();
    const said = verbatim.sessionsOnDisk().map((session) => session.messages.map((message) => message.content).join(" / "));
    expect(said.sort()).toEqual(["echo from one / from one", "echo from the other / from the other"]);
  });

  test("a killed server has, after its restart, the text up to at most a second before", async ({ page, verbatim, problems }) => {
    problems.expect(/Failed to load resource|ERR_|network/i);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.say("slow 4000 50");
    await atLeast(chat, 10);
    const early = await numberedWords(chat);
    // Twenty-five words take at least 1.25 s.
    await atLeast(chat, early + 25);
    await verbatim.kill();
    await verbatim.start();
    const kept = verbatim.theSession().messages;
    expect(kept).toHaveLength(2);
    expect(kept[1]?.metadata.error).toBe("interrupted");
    expect(kept[1]?.content.startsWith(words(early))).toBe(true);
    await page.reload();
    await hydrated(page);
    await expect(chat.replies).toHaveCount(1);
    expect(await numberedWords(chat)).toBe(kept[1]?.content.split(" ").length);
    await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
    await chat.ask("echo and on it goes");
    await expect(chat.replies.last()).toContainText("and on it goes");
  });

  test("what is sent while the server is away is sent when it is back", async ({ page, verbatim, problems }) => {
    problems.expect(/Failed to load resource|ERR_|network/i);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo before");
    await verbatim.stop();
    await chat.say("echo while away");
    await expect(chat.saveState).toContainText(/not saved/i);
    await expect(chat.yours.last()).toContainText("echo while away");
    await verbatim.start();
    await expect(chat.saveState).toHaveText(/^\s*saved/i, { timeout: 60_000 });
    await expect(chat.replies).toHaveCount(2, { timeout: 60_000 });
    await chat.complete();
    expect(verbatim.theSession().messages.map((message) => message.content)).toEqual([
      "echo before",
      "before",
      "echo while away",
      "while away",
    ]);
  });

  test("what is sent while the server is away survives the end of the page", async ({ page, verbatim, problems }) => {
    problems.expect(/Failed to load resource|ERR_|network/i);
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await verbatim.stop();
    // There is not even a session yet.
    await chat.say("echo the very first words");
    await expect(chat.saveState).toContainText(/not saved/i);
    await page.goto("about:blank");
    await verbatim.start();
    await gotoHydrated(page, `${verbatim.address}/`);
    await expect(chat.yours).toHaveText([/the very first words/]);
    await expect(chat.replies).toHaveText([/the very first words/], { timeout: 60_000 });
    await chat.complete();
    expect(verbatim.theSession().messages.map((message) => message.content)).toEqual([
      "echo the very first words",
      "the very first words",
    ]);
  });

  for (const how of ["in one visit", "by a page that is closed"]) {
    test(`two messages in a row that could not be sent are sent when the server is back, ${how}`, async ({ page, context, verbatim, problems }) => {
      problems.expect(/Failed to load resource|ERR_|network/i);
      const chat = new Chat(page);
      await chat.open(`${verbatim.address}/chat?new`);
      if (how === "by a page that is closed") await chat.ask("echo zero");
      const address = page.url();
      await verbatim.stop();
      await chat.say("echo one");
      await expect(page.getByText("It is tried again")).toBeVisible();
      await chat.stop.click();
      await chat.say("echo two");
      await expect(page.getByText("It is tried again")).toBeVisible();
      let last = chat;
      if (how === "by a page that is closed") {
        await page.close();
        await verbatim.start();
        last = new Chat(await context.newPage());
        await last.open(address);
      } else {
        await verbatim.start();
      }
      await expect(last.replies.last()).toHaveText(/two/, { timeout: 60_000 });
      await last.complete();
      const kept = verbatim.theSession().messages.slice(-3);
      expect(kept.map((message) => message.content)).toEqual(["echo one", "echo two", "two"]);
      expect([kept[1]?.parent_id, kept[2]?.parent_id]).toEqual([kept[0]?.id, kept[1]?.id]);
    });
  }

  test("two tabs keep all turns, and each catches up", async ({ page, context, verbatim }) => {
    const here = new Chat(page);
    await here.open(`${verbatim.address}/`);
    await here.ask("echo from here");
    const other: Page = await context.newPage();
    const there = new Chat(other);
    await there.open(page.url());
    await expect(there.replies).toHaveCount(1);
    await there.ask("echo from there");
    await page.bringToFront();
    await expect(here.replies).toHaveCount(2);
    await expect(here.replies.last()).toContainText("from there");
    await here.ask("echo from here again");
    await other.bringToFront();
    await expect(there.replies).toHaveCount(3);
    expect(verbatim.theSession().messages.map((message) => message.content)).toEqual([
      "echo from here",
      "from here",
      "echo from there",
      "from there",
      "echo from here again",
      "from here again",
    ]);
  });
});

// These last as long as the test wants: what is looked at in mid-reply may take its time.
test.describe("a reply that is under way", () => {
  test.use({ assistant: "openai" });

  test("streams in, ends, and is kept", async ({ page, verbatim, openai }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const reply = openai.guide();
    await chat.say("Count!");
    await expect(chat.yours).toHaveText(/Count!/);
    await expect(chat.stop).toBeVisible();
    await expect(chat.send).toHaveCount(0);
    for (const count of [1, 2, 3]) {
      reply.upTo(count);
      await atLeast(chat, count);
    }
    await expect(chat.stop).toBeVisible();
    reply.end(30);
    await chat.complete();
    expect(await numberedWords(chat)).toBe(30);
    expect(verbatim.theSession().messages.map(({ role, content }) => ({ role, content }))).toEqual([
      { role: "user", content: "Count!" },
      { role: "assistant", content: words(30) },
    ]);
  });

  test("is joined again by a page that is loaded anew", async ({ page, verbatim, openai }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const reply = openai.guide();
    await chat.say("Count!");
    reply.upTo(5);
    await atLeast(chat, 5);
    await page.reload();
    await hydrated(page);
    await expect(chat.stop).toBeVisible();
    reply.upTo(6);
    await atLeast(chat, 6);
    reply.end(40);
    await chat.complete();
    await expect(chat.replies).toHaveCount(1);
    expect(await numberedWords(chat)).toBe(40);
    expect(verbatim.theSession().messages.map((message) => message.content)).toEqual(["Count!", words(40)]);
  });

  test("is seen by two tabs as it streams in", async ({ page, context, verbatim, openai }) => {
    const here = new Chat(page);
    await here.open(`${verbatim.address}/`);
    const reply = openai.guide();
    await here.say("Count!");
    reply.upTo(2);
    await atLeast(here, 2);
    const there = new Chat(await context.newPage());
    await there.open(page.url());
    reply.upTo(4);
    await atLeast(there, 4);
    await expect(there.stop).toBeVisible();
    reply.end(60);
    await there.complete();
    expect(await numberedWords(there)).toBe(60);
    await page.bringToFront();
    await here.complete();
    expect(await numberedWords(here)).toBe(60);
  });

  test("leaves a reader alone who scrolls up while it streams in", async ({ page, verbatim, openai }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const long = openai.guide();
    await chat.say("Count far!");
    long.end(1500);
    await atLeast(chat, 1500);
    await chat.complete();
    const reply = openai.guide();
    await chat.say("Count!");
    await expect(chat.replies).toHaveCount(2);
    let told = 0;
    // Words come in between, each of which would pull a reader back.
    const more = async (count: number) => {
      told += count;
      reply.upTo(told);
      await atLeast(chat, told);
    };
    await more(5);
    const conversation = page.getByRole("region", { name: "Conversation" });
    await conversation.hover();
    // Small steps, as a touchpad makes them: each alone stays near the end.
    for (let step = 0; step < 8; step++) {
      await page.mouse.wheel(0, -20);
      await more(2);
    }
    const top = () => conversation.evaluate((element) => element.scrollTop);
    const place = await top();
    for (let step = 0; step < 12; step++) await more(5);
    expect(Math.abs((await top()) - place)).toBeLessThan(30);
    await page.getByRole("button", { name: "Jump to latest" }).click();
    const fromEnd = () => conversation.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
    await expect.poll(fromEnd).toBeLessThan(30);
    await chat.stop.focus();
    await chat.stop.press("Enter");
    await chat.complete();
    await expect(chat.send).toBeFocused();
  });
});

test.describe("a page that does not save by the clock", () => {
  // A save that falls into the moment in which a reply begins cannot know what that wrote.
  test.use({ assistant: "openai", options: ["--autosave-seconds", "600"] });

  test("what another program wrote meanwhile is shown after a save and after a reply, and only then is anything loaded", async ({
    page,
    verbatim,
    openai,
  }) => {
    let loads = 0;
    page.on("request", (request) => {
      if (request.url().endsWith("/api/sessions/load")) loads += 1;
    });
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.ask("echo two");
    await chat.replies.last().getByRole("button", { name: "Good reply" }).click();
    await expect.poll(() => verbatim.theSession().messages[3]?.metadata.rating).toBe(1);
    await chat.complete();
    await page.reload();
    await hydrated(page);
    await chat.ask("echo three");
    await chat.replies.last().getByRole("button", { name: "Reply anew" }).click();
    const versions = chat.replies.last().getByRole("group", { name: "Versions" });
    await expect(versions).toContainText("2/2");
    await chat.complete();
    await versions.getByRole("button", { name: "Previous version" }).click();
    await expect.poll(() => verbatim.theSession().metadata.active_leaf).toBeTruthy();
    await chat.complete();
    await chat.ask("echo four");
    expect(loads, "the page knows all that was written").toBe(0);

    const { session_id } = verbatim.theSession();
    await verbatim.post("save", { session_id, messages: [{ role: "user", content: "from elsewhere" }] });
    await chat.replies.last().getByRole("button", { name: "Good reply" }).click();
    await expect(chat.yours.last()).toContainText("from elsewhere");

    const reply = openai.guide();
    await chat.say("Count!");
    reply.upTo(2);
    await atLeast(chat, 2);
    await verbatim.post("save", { session_id, messages: [{ role: "user", content: "from elsewhere again" }] });
    reply.end(20);
    await chat.complete();
    // It stands beside the reply, which was said to the same message.
    await expect(chat.replies.last().getByRole("group", { name: "Versions" })).toContainText("1/2");
    expect(await numberedWords(chat)).toBe(20);
  });
});

test.describe("with a model server", () => {
  test.use({ assistant: "openai" });

  test("the conversation opens by itself after a restart, and the next reply knows all of it", async ({ page, verbatim, openai }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await expect(page.getByRole("main")).toContainText(MODEL);
    await chat.ask("My name is Ada.");
    await chat.ask("I live in London.");
    await expect(chat.replies.last()).toContainText("first of all «My name is Ada.»");
    await page.goto("about:blank");
    await verbatim.stop();
    await verbatim.start();

    await chat.open(`${verbatim.address}/`);
    await expect(chat.yours).toHaveText([/My name is Ada\./, /I live in London\./]);
    await expect(chat.replies).toHaveCount(2);
    await chat.ask("What do you know of me?");
    await expect(chat.replies.last()).toContainText("I was sent 3 of your messages and 2 of mine.");

    const sent = openai.requests.at(-1);
    expect(sent?.stream).toBe(true);
    expect(sent?.messages[0]?.role).toBe("system");
    const kept = verbatim.theSession().messages.slice(0, -1);
    expect(sent?.messages.slice(1).map(({ role, content }) => ({ role, content }))).toEqual(
      kept.map(({ role, content }) => ({ role, content })),
    );
    expect(kept).toHaveLength(5);
  });
});

// The Sessions page: finding, reading, downloading and deleting what was kept, files of the older format among it.

import fs from "node:fs";
import type { Locator, Page } from "@playwright/test";
import type { Verbatim } from "./support/verbatim.ts";
import { Chat, FAILED_REQUEST, OLDER_CHAT as CHAT, OLDER_VOICE as VOICE, expect, gotoHydrated, hydrated, test } from "./support/test.ts";

function exportedFixture(): any {
  return JSON.parse(fs.readFileSync(new URL("../tests/fixtures/exported-chat.json", import.meta.url), "utf8"));
}

/** Every value of `expected` must stand in `actual` at the same place; `actual` may hold more fields. */
function expectToHold(actual: any, expected: any, where = "$"): void {
  if (Array.isArray(expected)) {
    expect(actual, `${where} has as many entries`).toHaveLength(expected.length);
    expected.forEach((value, index) => expectToHold(actual[index], value, `${where}[${index}]`));
  } else if (expected !== null && typeof expected === "object") {
    expect(Object.keys(actual), `${where} has the fields`).toEqual(expect.arrayContaining(Object.keys(expected)));
    for (const [key, value] of Object.entries(expected)) expectToHold(actual[key], value, `${where}.${key}`);
  } else {
    expect(sameMoment(actual, expected) ? expected : actual, where).toEqual(expected);
  }
}

/** Times may be written with or without milliseconds. */
function sameMoment(one: unknown, other: unknown): boolean {
  const time = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/;
  return [one, other].every((text) => typeof text === "string" && time.test(text)) && Date.parse(String(one)) === Date.parse(String(other));
}

/** The Sessions page as a person sees it. */
class Sessions {
  readonly page: Page;
  readonly search: Locator;
  readonly type: Locator;
  readonly order: Locator;
  readonly rows: Locator;
  /** The names of the rows, from the top. */
  readonly names: Locator;
  readonly details: Locator;

  constructor(page: Page) {
    this.page = page;
    this.search = page.getByRole("searchbox", { name: "Search sessions" });
    this.type = page.getByRole("combobox", { name: "Type" });
    this.order = page.getByRole("combobox", { name: "Order" });
    this.names = page.locator(".row__name");
    // A row is what has both buttons.
    this.rows = page
      .getByRole("main")
      .locator("li, tr")
      .filter({ has: page.getByRole("button", { name: /^Export/ }) })
      .filter({ has: page.getByRole("button", { name: /^Delete/ }) });
    this.details = page.getByRole("region", { name: "Session details" });
  }

  row(text: string): Locator {
    return this.rows.filter({ hasText: text });
  }

  /** A row in the trash. */
  trashed(text: string): Locator {
    return this.page
      .getByRole("main")
      .locator("li")
      .filter({ has: this.page.getByRole("button", { name: "Delete forever" }) })
      .filter({ hasText: text });
  }
}

/** Keeps a session with a title and some words, and returns its id. */
async function keep(verbatim: Verbatim, title: string, words: string, metadata: object = {}): Promise<string> {
  const { session_id } = await verbatim.post("start", { user_name: "User", metadata: { type: "chat", title, ...metadata } });
  await verbatim.post("save", { session_id, messages: [{ role: "user", content: words }] });
  return session_id;
}

/** The kept metadata of a session. */
async function metadata(verbatim: Verbatim, session_id: string): Promise<any> {
  return (await verbatim.post("load", { session_id })).metadata;
}

test("what is typed beside a session, and how much of it is shown, stays when the session goes on", async ({ page, context, verbatim }) => {
  const id = await keep(verbatim, "Before", "echo zero");
  const words = Array.from({ length: 150 }, (_, place) => ({ role: place % 2 ? "user" : "assistant", content: `Turn ${place}.` }));
  await verbatim.post("save", { session_id: id, messages: words });
  const { details } = new Sessions(page);
  await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
  const turns = details.getByRole("article");
  await expect(turns).toHaveCount(100);
  await details.getByRole("button", { name: "Show earlier messages (51)" }).click();
  await expect(turns).toHaveCount(151);
  const tag = details.getByRole("textbox", { name: "Add a tag" });
  await tag.fill("half a t");
  await details.getByRole("button", { name: "Rename" }).click();
  const title = details.getByRole("textbox", { name: "Title" });
  await title.fill("Half a ti");

  const chat = new Chat(await context.newPage());
  await chat.open(`${verbatim.address}/chat/${id}`);
  await chat.say("echo on it goes");
  await expect(chat.replies.last()).toContainText("on it goes");
  await chat.complete();
  await chat.replies.last().getByRole("button", { name: "Good reply" }).click();
  await page.bringToFront();
  await expect(turns).toHaveCount(153);
  await expect(turns.last()).toContainText("on it goes");
  await expect(turns.last()).toContainText("Good");
  await expect(details).toContainText("153 (77 you, 76 assistant)");
  await expect(title).toHaveValue("Half a ti");
  await expect(title).toBeFocused();
  await expect(tag).toHaveValue("half a t");
  await title.press("Enter");
  await expect.poll(async () => (await metadata(verbatim, id)).title).toBe("Half a ti");
  expect(verbatim.theSession().messages.at(-1)?.metadata.rating).toBe(1);
});

test.describe("with sessions of the older format", () => {
  test.use({ olderSessions: true });

  test("each is listed with type, date, counts and preview", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await expect(sessions.rows).toHaveCount(2);
    // The newest first.
    await expect(sessions.rows.first()).toContainText("What's the time?");
    const chat = sessions.row("What's the time?");
    await expect(chat).toContainText("💬");
    await expect(chat.locator("time")).toHaveAttribute("datetime", /^2026-02-09T/);
    await expect(chat).toContainText("2");
    await expect(chat).toContainText("datetime");
    await expect(sessions.row("What's the weather?")).toContainText("🎤");
    await expect(page.getByRole("main")).toContainText(/total\D*2/i);
    await expect(page.getByRole("main")).toContainText(/messages\D*4|4\D*messages/i);
  });

  test("one opens with its messages, tools and modes, and has its own address", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await sessions.row("What's the time?").getByText("What's the time?").click();
    await expect(page).toHaveURL(new RegExp(`/sessions/${CHAT}`));
    await expect(sessions.details).toContainText(CHAT);
    await expect(sessions.details.getByRole("article", { name: /^You/ })).toContainText("What's the time?");
    const reply = sessions.details.getByRole("article", { name: /^Assistant/ });
    await expect(reply).toContainText("Let me check...");
    await expect(reply).toContainText("datetime");
    await expect(reply).toContainText("CMD");
    await expect(reply).not.toContainText("WEB");

    await page.goto("about:blank");
    await gotoHydrated(page, `${verbatim.address}/sessions/${VOICE}`);
    await expect(sessions.details).toContainText(VOICE);
    await expect(sessions.details.getByRole("article", { name: /^Assistant/ })).toContainText("web_search");
    await expect(sessions.details.getByRole("article", { name: /^Assistant/ })).toContainText("WEB");
  });

  test("one is continued", async ({ page, verbatim }) => {
    await gotoHydrated(page, `${verbatim.address}/sessions/${CHAT}`);
    await new Sessions(page).details.getByRole("link", { name: /continue/i }).click();
    await expect(page).toHaveURL(new RegExp(`/chat/${CHAT}`));
    const chat = new Chat(page);
    await expect(chat.yours).toHaveText([/What's the time\?/]);
    await chat.ask("echo time for lunch");
    await expect(chat.replies).toHaveCount(2);
    const kept = verbatim.sessionsOnDisk().find((session) => session.session_id === CHAT);
    expect(kept?.messages.map((message) => message.content)).toEqual([
      "What's the time?",
      "🛠️ datetime() Let me check...",
      "echo time for lunch",
      "time for lunch",
    ]);
  });

  test("one is downloaded as JSON with one click", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    const waiting = page.waitForEvent("download");
    await sessions.row("What's the time?").getByRole("button", { name: /^Export/ }).click();
    const download = await waiting;
    expect(download.suggestedFilename()).toMatch(new RegExp(`${CHAT}.*\\.json$`));
    expectToHold(JSON.parse(fs.readFileSync(await download.path(), "utf8")), exportedFixture());
  });

  test("all are downloaded at once", async ({ page, verbatim }) => {
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    const waiting = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export all" }).click();
    const document = JSON.parse(fs.readFileSync(await (await waiting).path(), "utf8"));
    expect(document.total_sessions).toBe(2);
    expect(document.sessions.map((session: any) => session.session_id).sort()).toEqual([CHAT, VOICE]);
    expectToHold(document.sessions.find((session: any) => session.session_id === CHAT), exportedFixture());
  });

  test("search and type find some, and say when there are none", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await expect(sessions.rows).toHaveCount(2);
    await sessions.search.fill("rain");
    await expect(sessions.rows).toHaveCount(1);
    await expect(sessions.rows).toContainText("What's the weather?");
    await sessions.search.fill(CHAT);
    await expect(sessions.rows).toHaveCount(1);
    await expect(sessions.rows).toContainText("What's the time?");
    await sessions.search.fill("no such words anywhere");
    await expect(sessions.rows).toHaveCount(0);
    await expect(page.getByRole("main")).toContainText(/no session/i);
    await sessions.search.fill("");
    await expect(sessions.rows).toHaveCount(2);

    await sessions.type.selectOption({ label: "Voice" });
    await expect(sessions.rows).toHaveCount(1);
    await expect(sessions.rows).toContainText("What's the weather?");
    await sessions.type.selectOption({ label: "Chat" });
    await expect(sessions.rows).toContainText("What's the time?");
    await sessions.type.selectOption({ label: "All" });
    await expect(sessions.rows).toHaveCount(2);
  });

  test("a file that is put into the folder appears, without a restart", async ({ page, verbatim }) => {
    const folder = `${verbatim.dataDir}/sessions/2026-02-10`;
    fs.mkdirSync(folder);
    const session = JSON.parse(fs.readFileSync(`${verbatim.dataDir}/sessions/2026-02-09/${CHAT}.json`, "utf8"));
    session.session_id = "byhand";
    session.messages[0].content = "Put here by hand";
    fs.writeFileSync(`${folder}/byhand.json`, JSON.stringify(session));
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    // The folders are looked at once a second at most.
    await expect(async () => {
      await page.getByRole("button", { name: "Refresh" }).click();
      await expect(sessions.rows).toHaveCount(3, { timeout: 1_000 });
    }).toPass();
    await expect(sessions.row("Put here by hand")).toBeVisible();
  });

  test("Refresh shows what came since", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await expect(sessions.rows).toHaveCount(2);
    const { session_id } = await verbatim.post("start", { user_name: "User", metadata: { type: "chat" } });
    await verbatim.post("save", { session_id, messages: [{ role: "user", content: "Something new" }] });
    await page.getByRole("button", { name: "Refresh" }).click();
    await expect(sessions.rows).toHaveCount(3);
    await expect(sessions.rows.first()).toContainText("Something new");
  });

  test("one is deleted after a confirmation, and comes back when that is undone", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    const remove = sessions.row("What's the time?").getByRole("button", { name: /^Delete/ });

    // Thought better of it.
    await remove.click();
    const confirmation = page.locator("dialog[open], [role=dialog], [role=alertdialog]");
    await expect(confirmation).toBeVisible();
    await confirmation.getByRole("button", { name: /cancel|keep/i }).click();
    await expect(confirmation).toBeHidden();
    await expect(sessions.rows).toHaveCount(2);

    await remove.click();
    await confirmation.getByRole("button", { name: /delete/i }).click();
    await expect(sessions.rows).toHaveCount(1);
    expect(verbatim.sessionsOnDisk().map((session) => session.session_id)).toEqual([VOICE]);
    expect(fs.existsSync(`${verbatim.dataDir}/trash/2026-02-09/${CHAT}.json`), "it is in the trash").toBe(true);

    await page.getByRole("button", { name: "Undo" }).click();
    await expect(sessions.rows).toHaveCount(2);
    expect(verbatim.sessionsOnDisk()).toHaveLength(2);
  });

  test("a change elsewhere leaves the focus and what was opened alone", async ({ page, context, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions/${CHAT}`);
    const link = sessions.row("What's the weather?").getByRole("link");
    await link.focus();
    const other = new Chat(await context.newPage());
    await other.open(`${verbatim.address}/chat?new`);
    await other.ask("echo from elsewhere");
    await page.bringToFront();
    await expect(sessions.rows).toHaveCount(3);
    await expect(sessions.row("from elsewhere")).toContainText("2 messages");
    await expect(link).toBeFocused();
    // A row that goes gives the focus to its neighbour.
    await sessions.row("What's the time?").getByRole("button", { name: /^Delete/ }).click();
    await page.getByRole("button", { name: "Delete session" }).click();
    await expect(sessions.rows).toHaveCount(2);
    await expect(link).toBeFocused();
  });

  test("the keyboard reaches the search and a session", async ({ page, verbatim }) => {
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await page.keyboard.press("/");
    await expect(sessions.search).toBeFocused();
    await page.keyboard.type("weather");
    await expect(sessions.rows).toHaveCount(1);
    await page.keyboard.press("Tab");
    await expect
      .poll(async () => {
        const inRow = await sessions.rows.evaluate((row) => row.contains(document.activeElement));
        if (!inRow) await page.keyboard.press("Tab");
        return inRow;
      })
      .toBe(true);
    await page.keyboard.press("Enter");
    await expect(page).toHaveURL(new RegExp(`/sessions/${VOICE}`));
  });
});

test("with nothing kept the page says so and shows the way to a conversation", async ({ page, verbatim }) => {
  await gotoHydrated(page, `${verbatim.address}/sessions`);
  await expect(new Sessions(page).rows).toHaveCount(0);
  await expect(page.getByRole("main")).toContainText(/no (sessions|conversations)|nothing/i);
  await page.getByRole("main").getByRole("link", { name: "Begin one" }).click();
  await expect(page).toHaveURL(/\/(chat.*)?$/);
});

test("an unknown id says so and shows the way back", async ({ page, verbatim, problems }) => {
  problems.expect(FAILED_REQUEST);
  const response = await page.goto(`${verbatim.address}/sessions/0123456789abcdef0123456789abcdef`);
  expect(response?.status()).toBe(404);
  await hydrated(page);
  await expect(page.getByRole("main")).toContainText(/no session/i);
  await page.getByRole("main").getByRole("link", { name: /sessions/i }).first().click();
  await expect(page).toHaveURL(/\/sessions$/);
});

test("a session's title, names and tools are text, whatever they hold", async ({ page, verbatim }) => {
  const attack = `<img src="x" onerror="window.hacked=1"><script>window.hacked=1</script>`;
  const { session_id } = await verbatim.post("start", {
    user_name: attack,
    metadata: { type: "chat", title: `Title ${attack}`, tags: [attack] },
  });
  await verbatim.post("save", {
    session_id,
    messages: [
      { role: "user", content: `Question ${attack}` },
      { role: "assistant", content: `🛠️ tool("${attack}") done` },
    ],
  });
  await gotoHydrated(page, `${verbatim.address}/sessions/${session_id}`);
  const sessions = new Sessions(page);
  await expect(sessions.details.getByRole("article")).toHaveCount(2);
  await expect(page.getByRole("main").locator("img, script")).toHaveCount(0);
  expect(await page.evaluate(() => "hacked" in window)).toBe(false);
});

test.describe("the search", () => {
  test("has a help, which the keyboard opens and closes, and whose examples search", async ({ page, verbatim }) => {
    await keep(verbatim, "Openings", "chess opening");
    await keep(verbatim, "Other", "nothing of it");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    const button = page.getByRole("button", { name: "Search help" });
    const help = page.getByRole("group", { name: "What can be searched for" });
    await expect(help).toBeHidden();
    await sessions.search.focus();
    await page.keyboard.press("Tab");
    await expect(button).toBeFocused();
    await page.keyboard.press("Enter");
    await expect(help).toBeVisible();
    await expect(help).toContainText("tag:work");
    await page.keyboard.press("Tab");
    await expect(help.getByRole("button").first()).toBeFocused();
    await page.keyboard.press("Escape");
    await expect(help).toBeHidden();
    await expect(button).toBeFocused();

    await button.click();
    await page.mouse.click(1000, 700);
    await expect(help).toBeHidden();

    await button.click();
    await help.getByRole("button", { name: "chess opening" }).click();
    await expect(help).toBeHidden();
    await expect(sessions.search).toHaveValue("chess opening");
    await expect(sessions.search).toBeFocused();
    await expect(sessions.names).toHaveText(["Openings"]);
  });

  test("that cannot be understood is explained, and what was shown stays", async ({ page, verbatim }) => {
    await keep(verbatim, "One", "words");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    const advice = page.getByRole("main").getByRole("status");
    // At once: who types slowly sees the answers to "i" and "is" in between.
    await sessions.search.fill("is:nonsense");
    await expect(advice).toHaveText(/pinned, archived or trashed/);
    await expect(sessions.names).toHaveText(["One"]);
    await expect(page.getByRole("alert")).toHaveCount(0);
    await sessions.search.fill("is:archived");
    await expect(sessions.names).toHaveCount(0);
    await expect(advice).toHaveText("");
    // In an address, too.
    await gotoHydrated(page, `${verbatim.address}/sessions?q=is:nonsense`);
    await expect(advice).toHaveText(/pinned, archived or trashed/);
  });

  test("says nothing while one is still typing", async ({ page, verbatim }) => {
    await keep(verbatim, "One", "words", { pinned: true });
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await page.evaluate(() => {
      const status = document.querySelector("main [role=status]") as HTMLElement;
      const said: string[] = ((window as any).said = []);
      new MutationObserver(() => said.push(status.innerText)).observe(status, { childList: true, characterData: true, subtree: true });
    });
    await sessions.search.pressSequentially("is:pinned", { delay: 200 });
    await expect(page).toHaveURL(/q=is(:|%3A)pinned/);
    await expect(sessions.names).toHaveText(["One"]);
    expect((await page.evaluate(() => (window as any).said as string[])).filter((text) => text)).toEqual([]);
  });
});

test("the order is kept in the address and goes on over pages", async ({ page, verbatim }) => {
  const pad = (number: number) => String(number).padStart(3, "0");
  for (let number = 1; number <= 120; number += 1) await keep(verbatim, `Session ${pad(number)}`, number === 60 ? "apple apple apple" : "an apple");
  const sessions = new Sessions(page);
  const all = Array.from({ length: 120 }, (_, index) => `Session ${pad(index + 1)}`);
  await gotoHydrated(page, `${verbatim.address}/sessions`);
  await expect(sessions.names.first()).toHaveText("Session 120");
  await expect(sessions.order.getByRole("option", { name: "Best match" })).toBeDisabled();
  // The keyboard chooses, too.
  await sessions.order.focus();
  await page.keyboard.press("ArrowDown");
  await expect(sessions.order).toBeFocused();
  await expect(sessions.order).toHaveValue("oldest");
  await expect(page).toHaveURL(/\?sort=oldest$/);
  await expect(sessions.names).toHaveText(all.slice(0, 100));
  await page.getByRole("button", { name: "Load more" }).press("Enter");
  await expect(sessions.names).toHaveText(all);
  await expect(sessions.row("Session 101").getByRole("link"), "where the focus goes when the button has gone").toBeFocused();

  // While another list is on its way, more is asked for of the one that is shown.
  await page.reload();
  await hydrated(page);
  let answer = () => {};
  const held = new Promise<void>((resolve) => (answer = resolve));
  const asked: { query: string; cursor: string | null }[] = [];
  await page.route("**/api/sessions/list", async (route) => {
    const { query, cursor } = route.request().postDataJSON();
    asked.push({ query, cursor });
    if (query === "apple") await held;
    await route.continue();
  });
  await sessions.search.fill("apple");
  await expect(page).toHaveURL(/q=apple&sort=oldest/);
  await expect.poll(() => asked.map(({ query }) => query)).toEqual(["apple"]);
  await page.getByRole("button", { name: "Load more" }).click();
  await expect(sessions.names).toHaveText(all);
  expect(asked[1]?.query).toBe("");
  answer();
  await expect(sessions.names).toHaveCount(100);
  await page.unroute("**/api/sessions/list");
  await page.getByRole("button", { name: "Load more" }).click();
  await expect(sessions.names).toHaveText(all);

  await sessions.order.selectOption({ label: "Best match" });
  await expect(page).toHaveURL(/sort=best/);
  await expect(sessions.names.first()).toHaveText("Session 060");
  await page.getByRole("button", { name: "Load more" }).click();
  await expect(sessions.names).toHaveCount(120);
  expect(new Set(await sessions.names.allInnerTexts()).size).toBe(120);

  // The address alone says the same; without a search nothing fits best.
  await gotoHydrated(page, page.url());
  await expect(sessions.order).toHaveValue("best");
  await expect(sessions.names.first()).toHaveText("Session 060");
  await sessions.search.fill("");
  await expect(sessions.order).toHaveValue("newest");
  await expect(page).toHaveURL(/sessions$/);
  await expect(sessions.names.first()).toHaveText("Session 120");
});

test.describe("a session's details", () => {
  test("rename it, and take the title away", async ({ page, verbatim }) => {
    const id = await keep(verbatim, "Old name", "The first words");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    const heading = sessions.details.getByRole("heading", { level: 2 });
    const rename = page.getByRole("button", { name: "Rename" });
    const title = page.getByRole("textbox", { name: "Title" });
    await rename.click();
    await expect(title).toBeFocused();
    await expect(title).toHaveValue("Old name");
    await page.keyboard.type("Not this");
    await page.keyboard.press("Escape");
    await expect(heading).toContainText("Old name");
    await expect(rename).toBeFocused();
    expect((await metadata(verbatim, id)).title).toBe("Old name");

    await page.keyboard.press("Enter");
    await expect(title).toBeFocused();
    await page.keyboard.type("New name");
    await page.keyboard.press("Enter");
    await expect(heading).toContainText("New name");
    await expect(rename).toBeFocused();
    await expect(sessions.names).toHaveText(["New name"]);
    expect((await metadata(verbatim, id)).title).toBe("New name");

    await rename.click();
    await title.fill(" ");
    await page.keyboard.press("Enter");
    await expect(heading).toContainText("The first words");
    await expect(sessions.names).toHaveText(["The first words"]);
    expect(await metadata(verbatim, id)).not.toHaveProperty("title");
  });

  test("pin it to the top of the list", async ({ page, verbatim }) => {
    const id = await keep(verbatim, "First", "a");
    await keep(verbatim, "Second", "b");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    await page.getByRole("button", { name: "Pin", exact: true }).click();
    await expect(page.getByRole("button", { name: "Unpin", exact: true })).toBeFocused();
    await expect(sessions.row("First").getByRole("img", { name: "Pinned" })).toBeVisible();
    const third = await keep(verbatim, "Third", "c");
    await page.getByRole("button", { name: "Refresh" }).click();
    await expect(sessions.names).toHaveText(["First", "Third", "Second"]);
    // The conversation that was used last is still the one that opens.
    await gotoHydrated(page, `${verbatim.address}/`);
    await expect(page).toHaveURL(new RegExp(third));
    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    await page.getByRole("button", { name: "Unpin", exact: true }).click();
    await expect(page.getByRole("img", { name: "Pinned" })).toHaveCount(0);
    expect(await metadata(verbatim, id)).not.toHaveProperty("pinned");
  });

  test("archive it, which can be undone", async ({ page, verbatim }) => {
    const id = await keep(verbatim, "Done with", "some words");
    await keep(verbatim, "Other", "other words");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    await page.getByRole("button", { name: "Archive", exact: true }).click();
    await expect(sessions.names).toHaveText(["Other"]);
    await page.getByRole("button", { name: "Undo" }).click();
    await expect(sessions.names).toHaveText(["Other", "Done with"]);
    await expect(page.getByRole("button", { name: "Archive", exact: true })).toBeVisible();

    await page.getByRole("button", { name: "Archive", exact: true }).click();
    await expect(sessions.names).toHaveText(["Other"]);
    await sessions.search.fill("is:archived");
    await expect(sessions.row("Done with")).toContainText("archived");
    await expect(sessions.names).toHaveText(["Done with"]);
    await page.getByRole("button", { name: "Unarchive" }).click();
    await expect(sessions.names).toHaveCount(0);
    await sessions.search.fill("");
    await expect(sessions.names).toHaveText(["Other", "Done with"]);
  });

  test("tag it", async ({ page, verbatim }) => {
    const id = await keep(verbatim, "Tagged", "words");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    const field = page.getByRole("textbox", { name: "Add a tag" });
    const tags = sessions.details.getByRole("list", { name: "Tags" }).getByRole("listitem");
    await field.focus();
    await page.keyboard.type("work");
    await page.keyboard.press("Enter");
    await page.keyboard.type("home,WORK,");
    await expect(tags).toHaveText(["work", "home"]);
    await expect(field).toHaveValue("");
    await expect(field).toBeFocused();
    await page.keyboard.type("x".repeat(60));
    await page.keyboard.press("Enter");
    await expect(tags).toHaveText(["work", "home", "x".repeat(50)]);
    await expect(sessions.row("Tagged")).toContainText("home");
    await expect.poll(async () => (await metadata(verbatim, id)).tags).toEqual(["work", "home", "x".repeat(50)]);
    await page.getByRole("button", { name: "Remove tag home" }).click();
    await expect(tags).toHaveText(["work", "x".repeat(50)]);
    await expect(sessions.row("Tagged")).not.toContainText("home");
    await sessions.search.fill("tag:work");
    await expect(sessions.names).toHaveText(["Tagged"]);
  });

  test("take a change back that cannot be saved", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const id = await keep(verbatim, "Kept name", "words", { tags: ["kept"] });
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    await page.route("**/api/sessions/save", (route) => route.abort());
    await page.getByRole("button", { name: "Remove tag kept" }).click();
    await expect(page.getByText(/cannot be reached/)).toBeVisible();
    await expect(page.getByRole("button", { name: "Remove tag kept" })).toBeVisible();
    await page.unroute("**/api/sessions/save");
    await page.getByRole("button", { name: "Remove tag kept" }).click();
    await expect.poll(async () => await metadata(verbatim, id)).not.toHaveProperty("tags");
    await expect(sessions.details.getByRole("article")).toHaveCount(1);
  });

  test("leave the conversation in hand as it is, but for its title", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.message.fill("a draft");
    await page.getByRole("link", { name: "Sessions", exact: true }).click();
    const sessions = new Sessions(page);
    await sessions.rows.getByRole("link").click();
    await page.getByRole("button", { name: "Rename" }).click();
    await page.keyboard.type("Another name");
    await page.keyboard.press("Enter");
    await expect(sessions.names).toHaveText(["Another name"]);
    await page.getByRole("link", { name: "Chat", exact: true }).click();
    await expect(page.getByRole("heading", { level: 1 })).toHaveText("Another name");
    await expect(chat.message).toHaveValue("a draft");
    await chat.message.fill("echo two");
    await chat.send.click();
    await expect(chat.replies).toHaveCount(2);
    await chat.complete();
    const kept = verbatim.theSession();
    expect(kept.metadata.title).toBe("Another name");
    expect(kept.messages.map((message) => message.content)).toEqual(["echo one", "one", "echo two", "two"]);
  });
});

test.describe("the trash", () => {
  test("lists what was deleted, to be restored or removed for good", async ({ page, verbatim }) => {
    for (const title of ["One", "Two", "Three"]) {
      await verbatim.post("delete", { session_id: await keep(verbatim, title, "words") });
    }
    const last = await keep(verbatim, "Kept", "words");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await page.getByRole("link", { name: "Trash" }).click();
    await expect(sessions.search).toHaveValue("is:trashed");
    await expect(sessions.names).toHaveText(["Three", "Two", "One"]);
    await expect(page.getByRole("button", { name: /^Export/ })).toHaveCount(0);

    await sessions.trashed("Two").getByRole("button", { name: "Restore" }).click();
    await expect(sessions.names).toHaveText(["Three", "One"]);
    await expect(sessions.trashed("One").getByRole("link")).toBeFocused();

    const confirmation = page.locator("dialog[open]");
    await sessions.trashed("One").getByRole("button", { name: "Delete forever" }).click();
    await expect(confirmation).toContainText("One");
    await confirmation.getByRole("button", { name: "Cancel" }).click();
    await expect(sessions.names).toHaveText(["Three", "One"]);
    await sessions.trashed("One").getByRole("button", { name: "Delete forever" }).click();
    await confirmation.getByRole("button", { name: "Delete forever" }).click();
    await expect(sessions.names).toHaveText(["Three"]);

    await page.getByRole("button", { name: "Empty trash" }).click();
    await expect(confirmation).toContainText("1 session");
    await confirmation.getByRole("button", { name: "Empty trash" }).click();
    await expect(page.getByRole("main")).toContainText("The trash is empty");
    expect(fs.readdirSync(`${verbatim.dataDir}/trash`, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json"))).toEqual([]);

    await page.getByRole("link", { name: "Leave the trash" }).click();
    await expect(sessions.search).toHaveValue("");
    await expect(sessions.names).toHaveText(["Kept", "Two"]);
    expect(last).toBeTruthy();
  });

  test("shows of a session that it is there, and gives it back", async ({ page, verbatim, problems }) => {
    // The server answers 409 to the question for a deleted session.
    problems.expect(FAILED_REQUEST);
    const id = await keep(verbatim, "Deleted", "These words");
    await verbatim.post("delete", { session_id: id });
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions?q=is:trashed`);
    await sessions.trashed("Deleted").getByRole("link").click();
    await expect(sessions.details).toContainText("in the trash");
    await sessions.details.getByRole("button", { name: "Restore" }).click();
    await expect(sessions.details.getByRole("article")).toContainText("These words");
    await expect(sessions.names).toHaveCount(0);
    await verbatim.post("delete", { session_id: id });

    await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
    await expect(sessions.details).toContainText("in the trash");
    await sessions.details.getByRole("button", { name: "Delete forever" }).click();
    await page.locator("dialog[open]").getByRole("button", { name: "Delete forever" }).click();
    await expect(page).toHaveURL(/\/sessions$/);
    await expect(verbatim.post("restore", { session_id: id })).rejects.toThrow(/404/);
  });

  test("can be undone from another page", async ({ page, verbatim }) => {
    await keep(verbatim, "Deleted", "words");
    const sessions = new Sessions(page);
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await sessions.row("Deleted").getByRole("button", { name: "Delete" }).click();
    await page.getByRole("button", { name: "Delete session" }).click();
    await expect(sessions.names).toHaveCount(0);
    await page.getByRole("link", { name: "Chat", exact: true }).click();
    await page.getByRole("button", { name: "Undo" }).click();
    await expect(page.getByText("The session is back.").filter({ visible: true })).toBeVisible();
    expect(verbatim.sessionsOnDisk()).toHaveLength(1);
  });
});

test("a session shows how replies were rated, and gives hidden messages back", async ({ page, verbatim }) => {
  const session_id = await keep(verbatim, "Rated", "What is 2 + 2?");
  const [question] = (await verbatim.post("load", { session_id })).messages;
  const reply = { id: "reply", parent_id: question.id, role: "assistant", content: "Four.", metadata: { rating: 1 } };
  const aside = { id: "aside", parent_id: "reply", role: "user", content: "Never mind this", metadata: { hidden: true } };
  await verbatim.post("save", { session_id, messages: [reply, aside] });
  await gotoHydrated(page, `${verbatim.address}/sessions/${session_id}`);
  const details = page.locator(".transcript--details");
  await expect(details.getByRole("article")).toHaveCount(2);
  await expect(details.getByRole("article").nth(1).getByTitle("How you rated it")).toHaveText("Good");
  await expect(details.getByText("Never mind this")).toBeHidden();
  await details.getByText("1 hidden message").click();
  await expect(details.getByText("Never mind this")).toBeVisible();
  await details.getByRole("button", { name: "Show again" }).click();
  await expect(details.getByText("1 hidden message")).toHaveCount(0);
  await expect(details.getByRole("article")).toHaveText([/2 \+ 2/, /Four/, /Never mind this/]);
  expect((await verbatim.post("load", { session_id })).messages).toHaveLength(3);
});

test("while the index is being built, the list says how far it is", async ({ page, verbatim }) => {
  await page.clock.install();
  await keep(verbatim, "Read already", "words");
  let answers = 0;
  await page.route("**/api/sessions/list", async (route) => {
    const response = await route.fetch();
    const listed = await response.json();
    answers += 1;
    if (answers < 4) listed.indexing = { state: "rebuilding", done: answers * 12_000, total: 100_000 };
    await route.fulfill({ response, json: listed });
  });
  await gotoHydrated(page, `${verbatim.address}/sessions`);
  await page.getByRole("button", { name: "Refresh" }).click();
  const main = page.getByRole("main");
  await expect(main).toContainText(/Reading the session files: (12|24),000 of 100,000. What is not read yet is not in this list./);
  await expect(main).toContainText("36,000 of 100,000");
  await expect(main).not.toContainText("Reading the session files");
  const enough = answers;
  await page.clock.runFor(30_000);
  await page.getByRole("button", { name: "Refresh" }).click();
  await expect.poll(() => answers).toBeGreaterThan(enough);
  expect(answers, "once it is done, nothing is asked for by itself").toBe(enough + 1);
});

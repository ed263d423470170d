// The Sessions page: finding, reading, downloading and deleting what was kept, files of the older format among it.

import fs from "node:fs";
import type { Locator, Page } from "@playwright/test";
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
  readonly rows: Locator;
  readonly details: Locator;

  constructor(page: Page) {
    this.page = page;
    this.search = page.getByRole("searchbox", { name: "Search sessions" });
    this.type = page.getByRole("combobox", { name: "Type" });
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
}

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
      await expect(sessions.rows).toHaveCount(3, { timeout: 500 });
    }).toPass({ timeout: 10_000 });
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
  await page.getByRole("main").getByRole("link").first().click();
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

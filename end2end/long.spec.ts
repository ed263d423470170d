// Conversations that are longer than what the page holds at once.

import fs from "node:fs";
import path from "node:path";
import type { Locator, Page } from "@playwright/test";
import { Chat, FAILED_REQUEST, expect, hydrated, test } from "./support/test.ts";
import type { StoredSession, Verbatim } from "./support/verbatim.ts";

/** The id of the long session. */
const LONG = "long";

/** The longest that the wheel is turned, in milliseconds. */
const PATIENCE = 120_000;

/** More turns than this are never in the document. */
const MOST = 200;

const messageId = (place: number) => `m${String(place).padStart(4, "0")}`;

/** Puts a session with so many turns into the store, and whatever `change` does to it. */
function put(verbatim: Verbatim, count: number, change?: (session: StoredSession) => void): void {
  const words = "Some words that make a turn as long as turns are, so that one has to scroll. ";
  const begin = Date.parse("2026-02-09T08:00:00Z");
  const message = (place: number) => ({
    id: messageId(place),
    parent_id: place > 0 ? messageId(place - 1) : null,
    role: place % 2 === 0 ? ("user" as const) : ("assistant" as const),
    content: `Turn ${place}. ${words.repeat(1 + (place % 4))}`,
    timestamp: new Date(begin + place * 1000).toISOString(),
    metadata: {},
  });
  const session = {
    session_id: LONG,
    user_name: "User",
    started_at: new Date(begin).toISOString(),
    last_updated: new Date(begin + count * 1000).toISOString(),
    metadata: { type: "chat" },
    messages: Array.from({ length: count }, (_, place) => message(place)),
  };
  change?.(session);
  const folder = path.join(verbatim.dataDir, "sessions", "2026-02-09");
  fs.mkdirSync(folder, { recursive: true });
  // The server looks at once, so the file must be there whole.
  fs.writeFileSync(path.join(verbatim.folder, "new.json"), JSON.stringify(session));
  fs.renameSync(path.join(verbatim.folder, "new.json"), path.join(folder, `${LONG}.json`));
}

/** The long conversation as a person reads it. */
class Conversation {
  readonly chat: Chat;
  readonly region: Locator;
  readonly turns: Locator;

  constructor(readonly page: Page) {
    this.chat = new Chat(page);
    this.region = page.getByRole("region", { name: "Conversation" });
    this.turns = page.locator("article[data-message-id]");
  }

  async open(verbatim: Verbatim): Promise<void> {
    await this.chat.open(`${verbatim.address}/chat/${LONG}`);
  }

  turn(id: string): Locator {
    return this.page.locator(`article[data-message-id="${id}"]`);
  }

  /** The ids in the document, checked to be those of neighbours in the right order. */
  async ids(): Promise<string[]> {
    const ids = await this.turns.evaluateAll((turns) => turns.map((turn) => (turn as HTMLElement).dataset.messageId ?? ""));
    expect(ids.length).toBeLessThanOrEqual(MOST);
    const numbers = ids.filter((id) => /^m\d+$/.test(id)).map((id) => Number(id.slice(1)));
    expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
    return ids;
  }

  /** Turns the wheel until the turn is in the document, and brings it into view. */
  async scrollTo(id: string, delta: number, seen?: Set<string>): Promise<void> {
    await this.region.hover();
    await expect(async () => {
      const ids = await this.ids();
      for (const id of ids) seen?.add(id);
      if (!ids.includes(id)) await this.page.mouse.wheel(0, delta);
      expect(ids).toContain(id);
    }).toPass({ intervals: [16], timeout: PATIENCE });
    await this.turn(id).evaluate((turn) => turn.scrollIntoView({ block: "center" }));
    await expect(this.turn(id)).toBeInViewport();
  }

  fromEnd(): Promise<number> {
    return this.region.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
  }

  /** Waits until the newest turn is in view and stays followed. */
  async atEnd(): Promise<void> {
    await expect.poll(() => this.fromEnd()).toBeLessThan(30);
  }
}

/** Counts the requests for parts of a session. */
function loads(page: Page): { last?: number; before?: string }[] {
  const asked: { last?: number; before?: string }[] = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/api/sessions/load")) asked.push(request.postDataJSON());
  });
  return asked;
}

test("the newest turns are shown at once, without the rest", async ({ page, verbatim }) => {
  put(verbatim, 700);
  const conversation = new Conversation(page);
  const html = await (await page.request.get(`${verbatim.address}/chat/${LONG}`)).text();
  expect(html).toContain("Turn 699.");
  expect(html, "nowhere in the page, also not as data").not.toContain("Turn 300.");
  const asked = loads(page);
  await conversation.open(verbatim);
  await expect(conversation.turn(messageId(699))).toBeInViewport();
  await conversation.atEnd();
  expect((await conversation.ids()).at(-1)).toBe(messageId(699));
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(/^Turn 0\. /);
  await expect(page).toHaveTitle(/^Turn 0\. /);
  expect(asked).toEqual([]);
});

test("the end is in view before the page is alive", async ({ page, verbatim }) => {
  put(verbatim, 300);
  await page.route(/\.wasm$/, () => {});
  await page.goto(`${verbatim.address}/chat/${LONG}`, { waitUntil: "commit" });
  await expect(page.locator(`[data-message-id="${messageId(299)}"]`)).toBeInViewport();
});

test("scrolling up brings all earlier turns, down to the first and back, and never many at once", async ({ page, verbatim }) => {
  put(verbatim, 300);
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  const asked = loads(page);
  const seen = new Set<string>(await conversation.ids());
  await conversation.scrollTo(messageId(0), -3000, seen);
  await expect(page.getByRole("button", { name: /earlier messages/ })).toBeHidden();
  expect([...seen].sort()).toEqual(Array.from({ length: 300 }, (_, place) => messageId(place)));
  expect(asked.map(({ before }) => before)).toEqual([200, 100].map(messageId));
  await expect(conversation.turn(messageId(299)), "what is far away goes").toHaveCount(0);
  await conversation.scrollTo(messageId(299), 3000);
  await conversation.atEnd();
  await expect(conversation.turn(messageId(0))).toHaveCount(0);
  expect(asked).toHaveLength(2);
});

for (const anchoring of [true, false]) {
  test(`what is read stays in place when earlier turns come, ${anchoring ? "with" : "without"} the browser's help`, async ({ page, verbatim }) => {
    put(verbatim, 300);
    const conversation = new Conversation(page);
    await conversation.open(verbatim);
    await conversation.atEnd();
    // Safari has no scroll anchoring.
    if (!anchoring) await conversation.region.evaluate((element) => (element.style.overflowAnchor = "none"));
    // In each frame the turn that was first in view must stand where the scrolling alone has brought it.
    await page.evaluate(() => {
      const view = document.querySelector(".chat__scroll") as HTMLElement;
      const log: { id: string; top: number }[][] = [];
      (window as any).log = log;
      const frame = () => {
        const top = view.getBoundingClientRect().top;
        const turns = [...view.querySelectorAll<HTMLElement>("[data-message-id]")];
        const shown = turns.filter((turn) => turn.getBoundingClientRect().bottom > top && turn.getBoundingClientRect().top < top + view.clientHeight);
        log.push(shown.map((turn) => ({ id: turn.dataset.messageId ?? "", top: turn.getBoundingClientRect().top })));
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    await conversation.region.hover();
    await expect(async () => {
      await page.mouse.wheel(0, -200);
      await expect(conversation.turn(messageId(230))).toHaveCount(1, { timeout: 1 });
    }).toPass({ intervals: [16], timeout: PATIENCE });
    const jumps = await page.evaluate(() => {
      const log = (window as any).log as { id: string; top: number }[][];
      const moves: number[] = [];
      for (let frame = 1; frame < log.length; frame++) {
        const same = log[frame]?.find(({ id }) => log[frame - 1]?.some((before) => before.id === id));
        const before = log[frame - 1]?.find(({ id }) => id === same?.id);
        moves.push(same && before ? same.top - before.top : Number.NaN);
      }
      return { most: Math.max(...moves), least: Math.min(...moves), count: moves.length };
    });
    expect(jumps.count).toBeGreaterThan(50);
    // Scrolling up moves the text down, by as much as the wheel was turned since the frame before.
    expect(jumps.least, "nothing moves the other way").toBeGreaterThan(-3);
    expect(jumps.most, "nothing moves by more than the wheel").toBeLessThan(650);
  });
}

for (const top of [0, 1, 90]) {
  test(`what is read at the top, ${top} px below it, stays in place when what comes before it arrives`, async ({ page, verbatim }) => {
    put(verbatim, 400);
    const conversation = new Conversation(page);
    await conversation.open(verbatim);
    await conversation.atEnd();
    const before = (await conversation.ids())[0] ?? "";
    const place = await conversation.region.evaluate((element, top) => {
      element.scrollTop = top;
      return element.querySelector("[data-message-id]")?.getBoundingClientRect().top ?? 0;
    }, top);
    await expect.poll(async () => (await conversation.ids())[0]).not.toBe(before);
    await expect.poll(() => conversation.region.evaluate((element) => element.scrollTop)).toBeGreaterThan(1_000);
    const now = (await conversation.turn(before).boundingBox())?.y ?? 0;
    expect(Math.abs(now - place)).toBeLessThan(3);
  });
}

test("a tall window that short turns do not fill at first gets more of them by itself", async ({ page, verbatim }) => {
  put(verbatim, 300, (session) => session.messages.forEach((message, place) => (message.content = `Turn ${place}.`)));
  await page.setViewportSize({ width: 1280, height: 2160 });
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  await conversation.atEnd();
  const views = () => conversation.region.evaluate((element) => element.scrollHeight / element.clientHeight);
  await expect.poll(views).toBeGreaterThanOrEqual(2);
  await conversation.atEnd();
  await conversation.ids();
});

test("the button brings earlier turns too, and a failure is said and can be tried again", async ({ page, verbatim, problems }) => {
  problems.expect(/Failed to load resource|ERR_|network/i);
  put(verbatim, 300);
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  await conversation.atEnd();
  await page.route("**/api/sessions/load", (route) => route.abort());
  const button = page.locator(".transcript__edge").getByRole("button");
  await expect(button).toHaveText("Show earlier messages (270)");
  await button.focus();
  await expect(async () => {
    await button.press("Enter");
    await expect(page.getByRole("status").filter({ hasText: "Earlier messages could not be loaded" })).toBeVisible({ timeout: 500 });
  }).toPass();
  await expect(button).toHaveText("Try again");
  await expect(button, "the focus stays").toBeFocused();
  await conversation.region.hover();
  await expect(async () => {
    await page.mouse.wheel(0, -1500);
    expect((await conversation.ids())[0], "what was held is there").toBe(messageId(200));
  }).toPass({ intervals: [100] });
  await page.unroute("**/api/sessions/load");
  await button.press("Enter");
  await expect.poll(async () => Number((await conversation.ids())[0]?.slice(1))).toBeLessThan(200);
  await expect(page.getByRole("status").filter({ hasText: "could not be loaded" })).toHaveCount(0);
  await expect(button).toHaveText(/^Show earlier messages \(\d+\)$/);
});

test("versions deep in the history can be switched, and the reading goes on there", async ({ page, verbatim }) => {
  put(verbatim, 400, (session) => {
    const branch = (id: string, parent_id: string, place: number) =>
      session.messages.push({
        ...session.messages[place]!,
        id,
        parent_id,
        content: `Branch ${id}. ${"Other words. ".repeat(30)}`,
      });
    branch("v1", messageId(150), 151);
    for (let place = 2; place < 120; place++) branch(`v${place}`, `v${place - 1}`, 150 + place);
    branch("w1", messageId(150), 151);
    session.metadata.active_leaf = messageId(399);
  });
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  await expect(page.locator(".versions"), "there are none among the newest").toHaveCount(0);
  await conversation.scrollTo(messageId(151), -2400);
  const versions = conversation.turn(messageId(151)).getByRole("group", { name: "Versions" });
  await expect(versions).toContainText("1/3");
  await versions.getByRole("button", { name: "Next version" }).click();
  const second = conversation.turn("v1");
  await expect(second).toBeInViewport();
  await expect(second.getByRole("group", { name: "Versions" })).toContainText("2/3");
  await expect(conversation.turn("v2")).toHaveCount(1);
  await expect(conversation.turn(messageId(152))).toHaveCount(0);
  await expect(conversation.turn(messageId(150))).toHaveCount(1);
  await expect.poll(() => verbatim.theSession().metadata.active_leaf).toBe("v119");
  // To its end, and back to what is before the fork.
  await page.getByRole("button", { name: "Jump to latest" }).click();
  await expect(conversation.turn("v119")).toBeInViewport();
  await conversation.scrollTo("v1", -2400);
  await second.getByRole("button", { name: "Next version" }).click();
  await expect(conversation.turn("w1")).toBeInViewport();
  await expect(conversation.turn("v2")).toHaveCount(0);
  await conversation.scrollTo(messageId(60), -2400);
  await page.reload();
  await hydrated(page);
  await expect(conversation.turn("w1")).toBeInViewport();
  await expect(conversation.turns.last()).toHaveAttribute("data-message-id", "w1");
});

test("what is sent from far up is answered at the end, where the page goes", async ({ page, verbatim }) => {
  put(verbatim, 400);
  const conversation = new Conversation(page);
  const { chat } = conversation;
  await conversation.open(verbatim);
  await conversation.scrollTo(messageId(120), -3000);
  await expect(conversation.turn(messageId(399))).toHaveCount(0);
  await chat.say("slow 60 30");
  await expect(chat.yours.last()).toContainText("slow 60 30");
  await expect(chat.replies.last()).toContainText("word3");
  await expect(chat.replies.last()).toBeInViewport();
  await conversation.atEnd();
  await chat.complete();
  await expect(chat.replies.last()).toContainText("word60");
  await conversation.atEnd();
  const kept = verbatim.theSession().messages;
  expect(kept.slice(-2).map(({ parent_id }) => parent_id)).toEqual([messageId(399), kept.at(-2)?.id]);
  await conversation.ids();
  // Reading back while the next reply streams in moves nothing.
  await chat.say("slow 300 20");
  await expect(chat.replies.last()).toContainText("word3");
  await conversation.scrollTo(messageId(390), -300);
  const place = await conversation.turn(messageId(390)).boundingBox();
  await expect.poll(() => chat.replies.last().innerText(), { timeout: PATIENCE }).toContain("word200");
  expect((await conversation.turn(messageId(390)).boundingBox())?.y).toBeCloseTo(place?.y ?? 0, 0);
  await page.getByRole("button", { name: "Jump to latest" }).click();
  await conversation.atEnd();
  await chat.complete();
});

test("two tabs with a part loaded each catch up, wherever they are", async ({ page, context, verbatim }) => {
  put(verbatim, 300);
  const here = new Conversation(page);
  await here.open(verbatim);
  const there = new Conversation(await context.newPage());
  await there.open(verbatim);
  await there.scrollTo(messageId(60), -3000);
  const place = await there.turn(messageId(60)).boundingBox();
  const asked = loads(page);
  await here.page.bringToFront();
  await here.chat.say("echo from here");
  await here.chat.complete();
  await expect(here.chat.replies.last()).toContainText("from here");
  await there.page.bringToFront();
  // It is held there, though not on the page.
  await there.page.getByRole("button", { name: "Jump to latest" }).waitFor();
  expect((await there.turn(messageId(60)).boundingBox())?.y).toBe(place?.y);
  await there.page.getByRole("button", { name: "Jump to latest" }).click();
  await expect(there.chat.replies.last()).toContainText("from here");
  await there.chat.say("echo from there");
  await there.chat.complete();
  await expect(there.chat.replies.last()).toContainText("from there");
  await page.bringToFront();
  await expect(here.chat.replies.last()).toContainText("from there");
  await here.atEnd();
  expect(asked.filter(({ last }) => last === undefined), "nobody asks for the whole").toEqual([]);
  const kept = verbatim.theSession().messages.slice(300);
  expect(kept.map(({ content }) => content)).toEqual(["echo from here", "from here", "echo from there", "from there"]);
  // The history is whole in both.
  const seen = new Set<string>(await here.ids());
  await here.scrollTo(messageId(0), -3000, seen);
  expect([...seen].filter((id) => /^m\d/.test(id))).toHaveLength(300);
});

test("a turn that was hidden comes back by Undo when it is no longer held", async ({ page, verbatim }) => {
  put(verbatim, 400);
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  await conversation.scrollTo(messageId(220), -2400);
  await conversation.turn(messageId(221)).getByRole("button", { name: "Hide" }).click();
  await expect(conversation.turn(messageId(221))).toHaveCount(0);
  await expect.poll(() => verbatim.theSession().messages[221]?.metadata.hidden).toBe(true);
  await page.getByRole("button", { name: "Jump to latest" }).click();
  await conversation.atEnd();
  // Another tab says something; the part that is loaded anew does not reach back that far.
  await verbatim.post("save", { session_id: LONG, messages: [{ role: "user", content: "Turn by another program." }] });
  await page.evaluate(() => new BroadcastChannel("verbatim").postMessage(JSON.stringify({ session_id: "long" })));
  await expect(conversation.turns.last()).toContainText("Turn by another program.");
  await page.getByRole("button", { name: "Undo" }).click();
  await expect.poll(() => verbatim.theSession().messages[221]?.metadata.hidden).toBeFalsy();
  await conversation.scrollTo(messageId(221), -2400);
});

test("a turn that has the focus stays in the document for a while", async ({ page, verbatim }) => {
  put(verbatim, 700);
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  await conversation.atEnd();
  const copy = conversation.turn(messageId(698)).getByRole("button", { name: "Copy message" });
  await copy.focus();
  const goUpTo = async (place: number) => {
    await conversation.region.hover();
    await expect(async () => {
      await page.mouse.wheel(0, -1500);
      await expect(conversation.turn(messageId(place))).toHaveCount(1, { timeout: 1 });
    }).toPass({ intervals: [16], timeout: PATIENCE });
  };
  await goUpTo(450);
  await expect(copy).toBeFocused();
  await goUpTo(150);
  await expect(copy).toHaveCount(0);
  await expect(conversation.region, "the keys still scroll").toBeFocused();
});

test("what could not be sent before the page ended is sent when a part is loaded, and once only", async ({ page, verbatim, problems }) => {
  problems.expect(/Failed to load resource|ERR_|network/i);
  put(verbatim, 300);
  const conversation = new Conversation(page);
  const { chat } = conversation;
  await conversation.open(verbatim);
  await verbatim.stop();
  await chat.say("echo late words");
  await expect(chat.saveState).toContainText(/not saved/i);
  const unsaved = () => page.evaluate(() => Object.entries(localStorage).filter(([key]) => key.startsWith("verbatim.unsaved.")));
  const left = await unsaved();
  expect(left).toHaveLength(1);
  await page.goto("about:blank");
  await verbatim.start();
  await conversation.open(verbatim);
  await expect(chat.replies.last()).toContainText("late words", { timeout: PATIENCE });
  await chat.complete();
  const said = () => verbatim.theSession().messages.slice(300).map(({ content }) => content);
  expect(said()).toEqual(["echo late words", "late words"]);
  expect(verbatim.theSession().messages[300]?.parent_id).toBe(messageId(299));
  // Were the page to end before it noted that the words are saved, and many more followed them, it must find them all the same.
  const more = Array.from({ length: 120 }, (_, place) => ({ role: "user", content: `More ${place}`, id: `x${place}` }));
  await verbatim.post("save", { session_id: LONG, messages: more });
  await page.evaluate((left) => left.forEach(([key, text]) => localStorage.setItem(key, text)), left);
  await page.reload();
  await hydrated(page);
  await expect(conversation.turns.last()).toContainText("More 119");
  await expect.poll(unsaved).toEqual([]);
  expect(said()).toHaveLength(122);
  await expect(conversation.turns.last()).toContainText("More 119");
});

test("a session that another program wrote anew is read anew", async ({ page, verbatim, problems }) => {
  problems.expect(FAILED_REQUEST);
  put(verbatim, 400);
  const conversation = new Conversation(page);
  await conversation.open(verbatim);
  await conversation.atEnd();
  put(verbatim, 300, (session) => {
    for (const message of session.messages) {
      message.id = `n${message.id}`;
      message.parent_id &&= `n${message.parent_id}`;
    }
  });
  await conversation.region.hover();
  await expect(async () => {
    await page.mouse.wheel(0, -1500);
    const ids = await conversation.turns.evaluateAll((turns) => turns.map((turn) => (turn as HTMLElement).dataset.messageId ?? ""));
    expect(ids[0]).toMatch(/^nm/);
    expect(ids.every((id) => id.startsWith("nm"))).toBe(true);
  }).toPass({ intervals: [16], timeout: PATIENCE });
});

// The palette (Ctrl K): a session is found and opened without the mouse, and the dialogs close as people close them.

import type { Locator, Page } from "@playwright/test";
import type { Verbatim } from "./support/verbatim.ts";
import { Chat, expect, gotoHydrated, test } from "./support/test.ts";

async function keep(verbatim: Verbatim, title: string, words: string): Promise<string> {
  const { session_id } = await verbatim.post("start", { user_name: "User", metadata: { type: "chat", title } });
  await verbatim.post("save", { session_id, messages: [{ role: "user", content: words }] });
  return session_id;
}

function palette(page: Page): { dialog: Locator; field: Locator } {
  const dialog = page.getByRole("dialog", { name: "Sessions" });
  return { dialog, field: dialog.getByRole("searchbox", { name: "Search recent sessions" }) };
}

/** The name of the row that the field points to. */
async function chosen(page: Page, field: Locator): Promise<string> {
  const id = await field.getAttribute("aria-activedescendant");
  return id ? ((await page.locator(`[id="${id}"]`).textContent()) ?? "") : "";
}

test("Enter opens the first result, also when it was pressed before the answer came", async ({ page, verbatim }) => {
  const spice = await keep(verbatim, "Spices", "the boat to zanzibar");
  const egg = await keep(verbatim, "Eggs", "boil an egg");
  await gotoHydrated(page, `${verbatim.address}/chat?new`);
  const { dialog, field } = palette(page);
  await page.keyboard.press("Control+k");
  await expect(field).toBeFocused();
  await expect.poll(() => chosen(page, field)).toContain("Eggs");
  await page.keyboard.type("zanzibar");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(new RegExp(`/chat/${spice}$`));
  await expect(dialog).toBeHidden();

  // The old words are selected, so that new ones take their place.
  await page.keyboard.press("Control+k");
  await expect(field).toHaveValue("zanzibar");
  await page.keyboard.type("egg");
  await expect(field).toHaveValue("egg");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(new RegExp(`/chat/${egg}$`));
});

test("the arrow keys choose, and the focus stays in the field", async ({ page, verbatim }) => {
  const first = await keep(verbatim, "First", "one");
  await keep(verbatim, "Second", "two");
  await gotoHydrated(page, `${verbatim.address}/chat?new`);
  const { field } = palette(page);
  await page.keyboard.press("Control+k");
  await expect.poll(() => chosen(page, field)).toContain("Second");
  await page.keyboard.press("ArrowDown");
  await expect.poll(() => chosen(page, field)).toContain("First");
  await page.keyboard.press("ArrowDown");
  await expect.poll(() => chosen(page, field)).toContain("First");
  await expect(field).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(new RegExp(`/chat/${first}$`));
});

test("Ctrl K, Escape and a click beside close it, and the focus returns", async ({ page, verbatim }) => {
  await keep(verbatim, "Kept", "one");
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/chat?new`);
  const { dialog, field } = palette(page);
  const ways = [
    () => page.keyboard.press("Control+k"),
    () => page.keyboard.press("Escape"),
    () => page.mouse.click(20, 400),
  ];
  for (const close of ways) {
    await chat.message.focus();
    await page.keyboard.press("Control+k");
    await expect(field).toBeFocused();
    await close();
    await expect(dialog).toBeHidden();
    await expect(chat.message).toBeFocused();
  }
  // What is begun within, as a selection is, does not close it.
  await page.keyboard.press("Control+k");
  const place = (await field.boundingBox())!;
  await page.mouse.move(place.x + 50, place.y + 5);
  await page.mouse.down();
  await page.mouse.move(20, 400);
  await page.mouse.up();
  await expect(dialog).toBeVisible();
});

test("a click beside closes the list of keys and a question, which then does nothing", async ({ page, verbatim }) => {
  await keep(verbatim, "Kept", "one");
  await gotoHydrated(page, `${verbatim.address}/sessions`);
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.mouse.click(5, 400);
  await expect(page.getByRole("dialog")).toBeHidden();
  const bin = page.getByRole("button", { name: "Delete", exact: true });
  await bin.click();
  await expect(page.getByRole("dialog")).toBeVisible();
  await page.mouse.click(5, 400);
  await expect(page.getByRole("dialog")).toBeHidden();
  await expect(bin).toBeFocused();
  expect(verbatim.sessionsOnDisk()).toHaveLength(1);
});

test("on other pages Ctrl K leads to the search", async ({ page, verbatim, problems }) => {
  problems.expect(/^console: Failed to load resource/);
  await gotoHydrated(page, `${verbatim.address}/nowhere`);
  await page.keyboard.press("Control+k");
  await expect(page).toHaveURL(/\/sessions$/);
  const search = page.getByRole("searchbox", { name: "Search sessions" });
  await search.fill("old");
  await page.getByRole("link", { name: "Trash" }).focus();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("new");
  await expect(search).toHaveValue("new");
});

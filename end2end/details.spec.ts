// A session beside the list: its name in the window's title, its length, the way between row and text, and what stays in view.

import type { Locator, Page } from "@playwright/test";
import type { Verbatim } from "./support/verbatim.ts";
import { FAILED_REQUEST, expect, gotoHydrated, test } from "./support/test.ts";

async function keep(verbatim: Verbatim, title: string | null, words: string, count = 1): Promise<string> {
  const { session_id } = await verbatim.post("start", { user_name: "User", metadata: { type: "chat", title } });
  const messages = Array.from({ length: count }, (_, place) => ({
    role: place % 2 ? "assistant" : "user",
    content: count > 1 ? `${words} ${place}` : words,
  }));
  await verbatim.post("save", { session_id, messages });
  return session_id;
}

/** Whether something is inside the part of the list that is seen. */
async function isInView(page: Page, id: string): Promise<boolean> {
  const row = (await page.locator(`[id="row-${id}"]`).boundingBox())!;
  const pane = (await page.locator(".sessions__list").boundingBox())!;
  return row.y + row.height > pane.y && row.y < pane.y + pane.height;
}

test("the window is titled with the session's title, and follows it", async ({ page, verbatim }) => {
  const named = await keep(verbatim, "Tom & <Jerry>", "one");
  const unnamed = await keep(verbatim, null, "How do I boil an egg?");
  const answer = await fetch(`${verbatim.address}/sessions/${named}`, { headers: { accept: "text/html" } });
  expect(await answer.text()).toContain("<title>Tom &amp; &lt;Jerry&gt; · Verbatim</title>");
  await gotoHydrated(page, `${verbatim.address}/sessions/${named}`);
  await expect(page).toHaveTitle("Tom & <Jerry> · Verbatim");
  await page.locator(`[id="row-${unnamed}"]`).click();
  await expect(page).toHaveTitle("How do I boil an egg? · Verbatim");
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("textbox", { name: "Title" }).fill("Breakfast");
  await page.keyboard.press("Enter");
  await expect(page).toHaveTitle("Breakfast · Verbatim");
  await page.getByRole("link", { name: "Trash" }).click();
  await expect(page).toHaveTitle("Trash · Verbatim");
  await page.getByRole("link", { name: "Leave the trash" }).click();
  await expect(page).toHaveTitle("Sessions · Verbatim");
});

test("the keyboard goes from a row to its text and back", async ({ page, verbatim }) => {
  const id = await keep(verbatim, "Target", "some text");
  await keep(verbatim, "Other", "other text");
  await gotoHydrated(page, `${verbatim.address}/sessions`);
  const row = page.locator(`[id="row-${id}"]`);
  const text = page.locator("#session-text");
  await row.focus();
  await page.keyboard.press("ArrowRight");
  await expect(page).toHaveURL(new RegExp(`/sessions/${id}$`));
  await expect(text).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(row).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(text).toBeFocused();
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toContainText("From a session in the list to its text");
});

test("a session that is pinned stays in view, and one that was deleted comes back with the focus", async ({ page, verbatim }) => {
  const ids: string[] = [];
  for (let count = 0; count < 25; count++) ids.push(await keep(verbatim, `Session ${count}`, "words"));
  const oldest = ids[0]!;
  await gotoHydrated(page, `${verbatim.address}/sessions`);
  await page.locator(`[id="row-${oldest}"]`).click();
  expect(await isInView(page, oldest)).toBe(true);
  const pin = page.getByRole("button", { name: "Pin", exact: true });
  await pin.click();
  await expect(page.locator(".row").first()).toContainText("Session 0");
  await expect.poll(() => isInView(page, oldest)).toBe(true);
  await page.getByRole("button", { name: "Unpin" }).click();
  await expect(pin).toBeVisible();
  await expect.poll(() => isInView(page, oldest)).toBe(true);

  const row = page.locator("li.row").filter({ hasText: "Session 0" });
  await row.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete session" }).click();
  await expect(row).toHaveCount(0);
  await page.getByRole("button", { name: "Undo" }).click();
  await expect(page.locator(`[id="row-${oldest}"]`)).toBeFocused();
});

test("a long session is loaded and shown in parts, and none of it is left out", async ({ page, verbatim, problems }) => {
  problems.expect(FAILED_REQUEST);
  const id = await keep(verbatim, "Long", "Turn", 250);
  const html = await (await fetch(`${verbatim.address}/sessions/${id}`)).text();
  expect(html).toContain("Turn 249");
  expect(html).not.toContain("Turn 120");
  await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
  const turns = page.getByRole("region", { name: "Session details" }).getByRole("article");
  await expect(turns).toHaveCount(100);
  await page.getByRole("button", { name: "Show earlier messages (150)" }).click();
  await expect(turns).toHaveCount(200);
  await verbatim.stop();
  await page.getByRole("button", { name: "Show earlier messages (50)" }).click();
  await expect(page.getByText("Earlier messages could not be loaded.")).toBeVisible();
  await verbatim.start();
  await page.getByRole("button", { name: "Try again" }).click();
  await expect(turns).toHaveCount(250);
  await expect(turns.first()).toContainText("Turn 0");
  await expect(page.getByRole("button", { name: /Show earlier/ })).toBeHidden();
});

test.describe("when the server comes back", () => {
  test("what could not be shown is asked for again by itself", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const id = await keep(verbatim, "Kept", "zanzibar");
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await verbatim.stop();
    await page.getByRole("searchbox", { name: "Search sessions" }).fill("nothing like it");
    await page.locator(`[id="row-${id}"]`).click();
    const said = page.getByText("tried again by itself");
    await expect(said).toHaveCount(2);
    await verbatim.start();
    await expect(said).toHaveCount(0);
    await expect(page.getByRole("heading", { name: "Kept" })).toBeVisible();
    await expect(page.getByRole("heading", { name: "Nothing found" })).toBeVisible();
  });

  test("a chat and the palette are asked for again too", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    const id = await keep(verbatim, "Kept", "zanzibar");
    await gotoHydrated(page, `${verbatim.address}/chat?new`);
    await page.keyboard.press("Control+k");
    const dialog = page.getByRole("dialog", { name: "Sessions" });
    await expect(dialog).toContainText("Kept");
    await verbatim.stop();
    await page.keyboard.type("zanzi");
    await expect(dialog).toContainText("tried again by itself");
    await verbatim.start();
    await expect(dialog).toContainText("Kept");
    await verbatim.stop();
    await page.keyboard.press("Enter");
    await expect(page).toHaveURL(new RegExp(id));
    await expect(page.getByRole("heading", { name: "The conversation cannot be opened" })).toBeVisible();
    await verbatim.start();
    await expect(page.getByRole("article").first()).toContainText("zanzibar");
  });

  test("what is not tried again does not say so", async ({ page, verbatim, problems }) => {
    problems.expect(FAILED_REQUEST);
    await keep(verbatim, "Kept", "zanzibar");
    await gotoHydrated(page, `${verbatim.address}/sessions`);
    await verbatim.stop();
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await page.getByRole("button", { name: "Delete session" }).click();
    await expect(page.getByText("nothing was changed. Please try again.")).toBeVisible();
  });
});

for (const width of [360, 1280]) {
  test(`what a search found is seen in the list and in the palette at ${width} px`, async ({ page, verbatim }) => {
    await page.setViewportSize({ width, height: 800 });
    const cases = [
      "The ship that took us over the sea for many days and nights with spices went to zanzibar",
      `${"averyveryverylongword".repeat(6)}zanzibar`,
      "今天天气很好我们一起去公园散步然后去看电影吃饭喝茶聊天今天天气很好我们一起去 zanzibar 旅行",
      "ذهبنا في الصباح إلى السوق القديم في المدينة ثم رجعنا إلى البيت وتكلمنا عن السفر إلى zanzibar",
    ];
    for (const words of cases) await keep(verbatim, "A title", words);
    const check = async (marks: string, box: string) => {
      await expect(page.locator(marks)).toHaveCount(cases.length);
      const seen = await page.locator(marks).evaluateAll(
        (found, box) =>
          found.map((mark) => {
            const [place, view] = [mark.getBoundingClientRect(), mark.closest(box)!.getBoundingClientRect()];
            return place.left >= view.left - 1 && place.right <= view.right + 1 && place.bottom <= view.bottom + 1;
          }),
        box,
      );
      expect(seen).toEqual(cases.map(() => true));
    };
    await gotoHydrated(page, `${verbatim.address}/sessions?q=zanzibar`);
    await check(".row__match mark", ".row__match");
    await gotoHydrated(page, `${verbatim.address}/chat?new`);
    await page.keyboard.press("Control+k");
    await page.keyboard.type("zanzibar");
    await check(".browser__match mark", ".browser__match");
  });
}

test("the keys of an input method are its own while a word is composed", async ({ page, verbatim }) => {
  const id = await keep(verbatim, "Old", "words");
  await gotoHydrated(page, `${verbatim.address}/sessions/${id}`);
  const compose = (field: Locator, key: string) =>
    field.evaluate((field, key) => {
      // The second is what Safari says of the key that ends a composition. What the page has no use for is not prevented.
      return [{ isComposing: true }, { keyCode: 229 }].map((init) =>
        field.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...init })),
      );
    }, key);
  await page.getByRole("button", { name: "Rename" }).click();
  const title = page.getByRole("textbox", { name: "Title" });
  await title.fill("にほん");
  expect(await compose(title, "Enter")).toEqual([true, true]);
  expect(await compose(title, "Escape")).toEqual([true, true]);
  await expect(title).toHaveValue("にほん");
  await page.keyboard.press("Enter");
  await expect(page).toHaveTitle("にほん · Verbatim");

  const tag = page.getByRole("textbox", { name: "Add a tag" });
  await tag.fill("ごはん");
  expect(await compose(tag, "Enter")).toEqual([true, true]);
  await expect(tag).toHaveValue("ごはん");
  await tag.press("Enter");
  await expect(page.getByRole("list", { name: "Tags" })).toContainText("ごはん");

  const search = page.getByRole("searchbox", { name: "Search sessions" });
  await search.focus();
  expect(await compose(search, "ArrowDown")).toEqual([true, true]);
  await expect(search).toBeFocused();
});

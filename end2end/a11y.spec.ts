// Every page in its states, light and dark, narrow and wide: axe finds nothing, and nothing scrolls sideways.

import type { Locator, Page } from "@playwright/test";
import { violations } from "./support/axe.ts";
import { Chat, FAILED_REQUEST, OLDER_CHAT, expect, gotoHydrated, test } from "./support/test.ts";
import type { Verbatim } from "./support/verbatim.ts";

const LONG = "echo " + [
  "# A heading", "A paragraph with **bold** text, a [link](https://example.org/) and `code`.", "> A quotation", "1. one\n2. two",
  "| a wide | table | with | many | columns | that | hardly | fit |\n|---|---|---|---|---|---|---|---|\n| 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 |",
  "```rust\nfn a_function_whose_line_is_far_too_long_for_a_narrow_screen(argument: &str) -> Result<String, Box<dyn std::error::Error>> {}\n```",
  "averyveryveryveryveryveryveryveryveryveryveryveryveryveryverylongwordthatcannotbebrokenanywhereatall",
].join("\n\n");

/** Every page, and how to bring it into the state that is checked. */
const pages: { name: string; olderSessions?: true; open: (page: Page, verbatim: Verbatim) => Promise<void> }[] = [
  { name: "Chat, empty", open: (page, verbatim) => gotoHydrated(page, `${verbatim.address}/`) },
  {
    name: "Chat with a conversation",
    open: async (page, verbatim) => {
      const chat = new Chat(page);
      await chat.open(`${verbatim.address}/`);
      await chat.ask("think about it");
      await page.getByRole("switch", { name: "Commander" }).click();
      await chat.ask(LONG);
      await chat.replies.last().getByRole("button", { name: "Good reply" }).click();
    },
  },
  {
    name: "Chat while a reply runs",
    open: async (page, verbatim) => {
      const chat = new Chat(page);
      await chat.open(`${verbatim.address}/`);
      await chat.say("slow 1000 50");
      await expect(chat.replies).toContainText("word3");
    },
  },
  {
    name: "Chat with a failed reply",
    open: async (page, verbatim) => {
      const chat = new Chat(page);
      await chat.open(`${verbatim.address}/`);
      await chat.say("fail");
      await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
    },
  },
  {
    name: "Chat with the browser of sessions open",
    olderSessions: true,
    open: async (page, verbatim) => {
      const chat = new Chat(page);
      await chat.open(`${verbatim.address}/chat/${OLDER_CHAT}`);
      await chat.sessions.click();
      await expect(page.getByRole("dialog")).toContainText("What's the time?");
    },
  },
  { name: "Sessions, empty", open: (page, verbatim) => gotoHydrated(page, `${verbatim.address}/sessions`) },
  {
    name: "Sessions with a list",
    olderSessions: true,
    open: async (page, verbatim) => {
      await gotoHydrated(page, `${verbatim.address}/sessions`);
      await expect(page.getByRole("main")).toContainText("What's the time?");
    },
  },
  {
    name: "Sessions with details",
    olderSessions: true,
    open: async (page, verbatim) => {
      await gotoHydrated(page, `${verbatim.address}/sessions/${OLDER_CHAT}`);
      await expect(page.getByRole("region", { name: "Session details" })).toContainText("Let me check...");
    },
  },
  {
    name: "Sessions with tags, a pin and the search help open",
    open: async (page, verbatim) => {
      const metadata = { type: "chat", title: "Tagged", tags: ["work", "a tag of several words"], pinned: true, archived: true };
      const { session_id } = await verbatim.post("start", { user_name: "User", metadata });
      await verbatim.post("save", { session_id, messages: [{ role: "user", content: "Words" }] });
      await gotoHydrated(page, `${verbatim.address}/sessions?q=is:archived`);
      await expect(page.getByRole("main")).toContainText("a tag of several words");
      await page.getByRole("button", { name: "Search help" }).click();
      await expect(page.getByText("the person's name")).toBeVisible();
    },
  },
  {
    name: "Sessions with a title and tags that are changed",
    olderSessions: true,
    open: async (page, verbatim) => {
      await verbatim.post("save", { session_id: OLDER_CHAT, metadata: { tags: ["work", "a tag of several words"], pinned: true } });
      await gotoHydrated(page, `${verbatim.address}/sessions/${OLDER_CHAT}`);
      await page.getByRole("button", { name: "Rename" }).click();
      await expect(page.getByRole("textbox", { name: "Title" })).toBeFocused();
    },
  },
  {
    name: "Sessions with a search that cannot be understood",
    olderSessions: true,
    open: async (page, verbatim) => {
      await gotoHydrated(page, `${verbatim.address}/sessions`);
      await page.getByRole("searchbox", { name: "Search sessions" }).fill("before:yesterday");
      await expect(page.getByRole("main").getByRole("status")).not.toBeEmpty();
    },
  },
  {
    name: "Sessions in the trash",
    olderSessions: true,
    open: async (page, verbatim) => {
      await verbatim.post("delete", { session_id: OLDER_CHAT });
      await gotoHydrated(page, `${verbatim.address}/sessions?q=is:trashed`);
      await expect(page.getByRole("button", { name: "Restore" })).toBeVisible();
      await page.getByRole("button", { name: "Empty trash" }).click();
      await expect(page.getByRole("dialog")).toContainText("1 session");
    },
  },
  {
    name: "a deleted session",
    olderSessions: true,
    open: async (page, verbatim) => {
      await verbatim.post("delete", { session_id: OLDER_CHAT });
      await gotoHydrated(page, `${verbatim.address}/sessions/${OLDER_CHAT}`);
      await expect(page.getByRole("region", { name: "Session details" })).toContainText("in the trash");
    },
  },
  {
    name: "an unknown session",
    open: (page, verbatim) => gotoHydrated(page, `${verbatim.address}/sessions/0123456789abcdef0123456789abcdef`),
  },
  { name: "an unknown address", open: (page, verbatim) => gotoHydrated(page, `${verbatim.address}/nowhere`) },
];

for (const { name, olderSessions = false, open } of pages) {
  test.describe(() => {
    test.use({ olderSessions });
    test(name, async ({ page, verbatim, problems }) => {
      if (/^(an unknown|a deleted)/.test(name)) problems.expect(FAILED_REQUEST);
      await page.emulateMedia({ reducedMotion: "reduce" });
      await open(page, verbatim);
      for (const colorScheme of ["light", "dark"] as const) {
        for (const width of [320, 1280]) {
          await test.step(`${colorScheme}, ${width} px`, async () => {
            await page.emulateMedia({ colorScheme });
            await page.setViewportSize({ width, height: 800 });
            expect.soft(await violations(page), `${colorScheme}, ${width} px`).toEqual([]);
            const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
            expect.soft(overflow, `pixels that scroll sideways at ${width} px, ${colorScheme}`).toBeLessThanOrEqual(0);
          });
        }
      }
    });
  });
}

test("a chat works by the keyboard alone", async ({ page, verbatim }) => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/`);
  for (let presses = 0; presses < 20 && !(await isFocused(chat.message)); presses += 1) await page.keyboard.press("Tab");
  await expect(chat.message).toBeFocused();
  await page.keyboard.type("echo typed");
  await page.keyboard.press("Enter");
  await chat.complete();
  await expect(chat.message).toBeFocused();
  // Each thing that has the focus shows it and has a name.
  const seen = new Set<string>();
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const element = document.activeElement;
      if (!(element instanceof HTMLElement) || element === document.body) return null;
      // What shows the focus may be the element or something around it.
      const around: Element[] = [];
      for (let each: Element | null = element; each && each !== document.body; each = each.parentElement) around.push(each);
      const looks = () =>
        around
          .map((each) => getComputedStyle(each))
          .map((style) => [style.outline, style.boxShadow, style.borderColor, style.backgroundColor].join())
          .join("\n");
      const withFocus = looks();
      element.blur();
      const without = looks();
      element.focus();
      return {
        text: `${element.tagName} ${element.getAttribute("aria-label") ?? element.innerText ?? ""}`.trim(),
        visible: withFocus !== without,
      };
    });
    if (!focused) continue;
    expect(focused.visible, `the focus is seen on ${focused.text}`).toBe(true);
    seen.add(focused.text);
  }
  for (const name of ["New session", "Sessions"]) {
    expect([...seen].some((text) => text.includes(name)), `${name} is reached, of ${[...seen].join(", ")}`).toBe(true);
  }
});

function isFocused(locator: Locator): Promise<boolean> {
  return locator.evaluate((element) => element === document.activeElement);
}

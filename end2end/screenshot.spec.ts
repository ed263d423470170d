// Pictures, on demand: SHOTS=1 puts every page at several sizes into end2end/results/shots, UPDATE_SCREENSHOT=1 makes the one
// that README shows.

import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { Chat, FAILED_REQUEST, expect, gotoHydrated, test } from "./support/test.ts";
import type { Verbatim } from "./support/verbatim.ts";

const shots = fileURLToPath(new URL("results/shots/", import.meta.url));
const forReadme = fileURLToPath(new URL("../docs/screenshot.png", import.meta.url));

const ANSWER = [
  "A session file is one JSON document, so `jq` reads it as it is:",
  "```sh\njq -r '.messages[] | \"\\(.role): \\(.content)\"' memory/sessions/*/*.json\n```",
  "Three things to know:",
  "1. Each message stands on **one line**; saving appends, it never rewrites.\n2. The last line holds the counts and the revision.\n3. What you delete goes to `memory/trash` and can be brought back.",
].join("\n\n");

/** Some conversations that look like anybody's. */
async function fill(verbatim: Verbatim): Promise<string> {
  verbatim.putFixture("stored-chat.json", "2026-02-09", "abc123def456");
  verbatim.putFixture("stored-voice.json", "2026-02-09", "def67890");
  let last = "";
  for (const [title, question, answer] of [
    ["Bread without kneading", "How long does no-knead bread have to rise?", "Twelve to eighteen hours at room temperature."],
    ["Commas in lists", "Is the comma before «and» wrong?", "Neither is wrong; be *consistent*."],
    ["Reading session files", "How do I read my conversations from the shell?", ANSWER],
  ] as const) {
    const { session_id } = await verbatim.post("start", { user_name: "User", metadata: { type: "chat", title } });
    await verbatim.post("save", {
      session_id,
      messages: [
        { role: "user", content: question },
        { role: "assistant", content: answer, metadata: { modes: { commander: false, webSearch: true } } },
      ],
    });
    last = session_id;
  }
  return last;
}

if (process.env.UPDATE_SCREENSHOT) {
  test("the picture of README", async ({ page, verbatim }) => {
    const session = await fill(verbatim);
    await page.setViewportSize({ width: 1280, height: 800 });
    await gotoHydrated(page, `${verbatim.address}/chat/${session}`);
    await expect(new Chat(page).replies).toHaveCount(1);
    fs.mkdirSync(fileURLToPath(new URL("../docs/", import.meta.url)), { recursive: true });
    await page.screenshot({ path: forReadme });
  });
}

if (process.env.SHOTS) {
  for (const width of [360, 1280, 1920]) {
    for (const colorScheme of ["light", "dark"] as const) {
      test(`every page at ${width} px, ${colorScheme}`, async ({ page, verbatim, problems }) => {
        await page.setViewportSize({ width, height: width < 500 ? 740 : 900 });
        await page.emulateMedia({ colorScheme });
        const shoot = (name: string) => page.screenshot({ path: `${shots}${name}-${width}-${colorScheme}.png` });
        await gotoHydrated(page, `${verbatim.address}/`);
        await shoot("chat-empty");
        await gotoHydrated(page, `${verbatim.address}/sessions`);
        await shoot("sessions-empty");
        problems.expect(FAILED_REQUEST);
        const session = await fill(verbatim);
        const chat = new Chat(page);
        await chat.open(`${verbatim.address}/chat/${session}`);
        await chat.ask("think about the weather");
        await chat.say("fail");
        await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
        await shoot("chat");
        await chat.sessions.click();
        await expect(page.getByRole("dialog")).toContainText("Bread");
        await shoot("chat-sessions");
        await gotoHydrated(page, `${verbatim.address}/sessions`);
        await expect(page.getByRole("main")).toContainText("Bread");
        await shoot("sessions");
        await gotoHydrated(page, `${verbatim.address}/sessions/${session}`);
        await expect(page.getByRole("region", { name: "Session details" })).toContainText("jq");
        await shoot("sessions-details");
        const tags = ["shell", "how-to", "reading"];
        await verbatim.post("save", { session_id: session, metadata: { tags, pinned: true } });
        await verbatim.post("delete", { session_id: "abc123def456" });
        await gotoHydrated(page, `${verbatim.address}/sessions?q=json`);
        await page.getByRole("button", { name: "Search help" }).click();
        await shoot("sessions-help");
        await gotoHydrated(page, `${verbatim.address}/sessions/${session}`);
        await page.getByRole("button", { name: "Rename" }).click();
        await shoot("sessions-tags");
        await gotoHydrated(page, `${verbatim.address}/sessions`);
        await page.getByRole("searchbox", { name: "Search sessions" }).fill("is:nonsense");
        await expect(page.getByRole("main").getByRole("status")).not.toBeEmpty();
        await shoot("sessions-advice");
        await gotoHydrated(page, `${verbatim.address}/sessions?q=is:trashed`);
        await shoot("sessions-trash");
        await gotoHydrated(page, `${verbatim.address}/sessions/abc123def456?q=is:trashed`);
        await shoot("sessions-trashed");
      });
    }
  }
}

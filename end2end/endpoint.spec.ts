// What the page makes of odd answers of a model server.

import { Chat, expect, gotoHydrated, test } from "./support/test.ts";

/** A line of an event stream with this delta. */
function delta(delta: object, finish_reason: string | null = null): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
}

test.use({ assistant: "openai" });

test("an empty answer is said to be one and can be asked for again", async ({ page, verbatim, openai }) => {
  openai.bodies.push(delta({ role: "assistant", content: "" }) + delta({}, "stop") + "data: [DONE]\n\n");
  await gotoHydrated(page, `${verbatim.address}/`);
  const chat = new Chat(page);
  await chat.say("Hello?");
  const reply = chat.replies.last();
  await expect(reply).toContainText("The model answered nothing.");
  await page.reload();
  await expect(chat.replies.last()).toContainText("The model answered nothing.");
  await chat.replies.last().getByRole("button", { name: "Try again" }).click();
  await expect(chat.replies.last()).toContainText("You said «Hello?»");
  await expect(page.getByText("The model answered nothing.")).toBeHidden();
});

test("thoughts whose beginning was not marked are folded away when they end", async ({ page, verbatim, openai }) => {
  const pieces = ["Okay, the ", "user greets\n</thi", "nk>\n\nHello", " there!"];
  openai.bodies.push(pieces.map((content) => delta({ content })).join("") + delta({}, "stop"));
  await gotoHydrated(page, `${verbatim.address}/`);
  const chat = new Chat(page);
  await chat.say("Hi");
  const reply = chat.replies.last();
  await expect(reply.locator(".md")).toHaveText("Hello there!");
  await expect(reply.getByText("Okay, the user greets")).toBeHidden();
  await reply.getByText(/^Thought/).click();
  await expect(reply.getByText("Okay, the user greets")).toBeVisible();
});

test("a reason that is not known is no early end where the text is whole", async ({ page, verbatim, openai }) => {
  openai.bodies.push(delta({ content: "All is said." }) + delta({}, "odd_reason"));
  openai.bodies.push(delta({ content: "So:\n\n```sh\nls" }) + delta({}, "odd_reason"));
  await gotoHydrated(page, `${verbatim.address}/`);
  const chat = new Chat(page);
  await chat.say("One");
  await expect(chat.replies.last()).toContainText("All is said.");
  await expect(page.getByRole("button", { name: "Reply anew" })).toBeVisible();
  await expect(page.getByText("ended this reply early")).toBeHidden();
  await chat.say("Two");
  await expect(chat.replies.last()).toContainText("The model ended this reply early.");
});

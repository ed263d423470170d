// What stands in the turns: every script, formulas, addresses, and texts that are too much for a page.

import { Chat, expect, hydrated, test } from "./support/test.ts";

test.describe("a text", () => {
  test("stands in the direction of its words, in the field, in turns and in titles", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    const arabic = "مرحبا بالعالم.";
    await chat.message.fill(arabic);
    expect(await chat.message.evaluate((field) => getComputedStyle(field).direction)).toBe("rtl");
    await chat.ask(`echo ${arabic}\n\n- شيء.\n- thing.\n\n> اقتباس.\n\n## عنوان.\n\n| عمود | b |\n|---|---|\n| خلية. | c |\n\n\`\`\`\nكود.\n\`\`\`\n\nLatin.`);
    const directions = async () =>
      chat.replies.last().evaluate((reply) =>
        [...reply.querySelectorAll(".md p, .md li, .md ul, .md blockquote, .md h3, .md th, .md td, .md pre")].map(
          (element) => `${element.tagName.toLowerCase()} ${getComputedStyle(element).direction}`,
        ),
      );
    const expected = [
      "p rtl", "ul rtl", "li rtl", "li ltr", "blockquote rtl", "p rtl", "h3 rtl", "th rtl", "th ltr", "td rtl", "td ltr", "pre ltr", "p ltr",
    ];
    expect(await directions()).toEqual(expected);
    await page.reload();
    await hydrated(page);
    expect(await directions()).toEqual(expected);
    // A turn of the person's has one direction for each line.
    await chat.newSession.click();
    await chat.ask(`${arabic}\nLatin.`);
    const places = await chat.yours.last().evaluate((turn) => {
      const words = turn.querySelector(".turn__words")!;
      const text = words.firstChild!;
      const place = (from: number, to: number) => {
        const range = document.createRange();
        range.setStart(text, from);
        range.setEnd(text, to);
        return range.getBoundingClientRect();
      };
      const box = words.getBoundingClientRect();
      const first = place(0, 14);
      const stop = place(13, 14);
      const second = place(15, 21);
      return { right: box.right - first.right, stop: stop.left - first.left, left: second.left - box.left };
    });
    for (const distance of Object.values(places)) expect(Math.abs(distance)).toBeLessThan(20);
    await expect(page.getByRole("heading", { level: 1 })).toHaveAttribute("dir", "auto");
  });

  test("keeps its formulas, its emphasis and its addresses, also when the server renders it", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask(
      String.raw`echo \[ E=mc^2 \] and $a_1 * b_1 * c$` +
        "\n\n含**「重点」**内容\n\nSee https://example.org/a_b?x=1.\n\n`https://example.org/code`",
    );
    const reply = chat.replies.last();
    for (let round = 0; round < 2; round++) {
      await expect(reply.locator(".md")).toContainText(String.raw`\[ E=mc^2 \] and $a_1 * b_1 * c$`);
      await expect(reply.locator("strong")).toHaveText("「重点」");
      await expect(reply.getByRole("link")).toHaveCount(1);
      await expect(reply.getByRole("link")).toHaveAttribute("href", "https://example.org/a_b?x=1");
      await expect(reply.locator(".md")).toContainText("a_b?x=1.");
      await page.reload();
      await hydrated(page);
    }
  });
});

test.describe("a turn that is hidden", () => {
  test("leaves a line that brings it back, also after a reload", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.ask("echo two");
    await chat.replies.first().getByRole("button", { name: "Hide" }).click();
    const line = page.getByText("1 turn hidden");
    await expect(line).toBeVisible();
    await chat.complete();
    await page.reload();
    await hydrated(page);
    await expect(line).toBeVisible();
    await chat.yours.first().getByRole("button", { name: "Hide" }).click();
    await expect(page.getByText("2 turns hidden")).toBeVisible();
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await expect(page.getByRole("article")).toHaveText([/echo one/, /one/, /echo two/, /two/]);
    await expect(page.getByText(/turns? hidden/)).toHaveCount(0);
    await expect.poll(() => verbatim.theSession().messages.filter((message) => message.metadata.hidden).length).toBe(0);
    // The last one, behind which nothing stands.
    await chat.replies.last().getByRole("button", { name: "Hide" }).click();
    await expect(line).toBeVisible();
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await expect(chat.replies).toHaveCount(2);
  });

  test("that has another version is shown again in its place", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("echo one");
    await chat.replies.last().getByRole("button", { name: "Reply anew" }).click();
    await expect(chat.replies.last().getByRole("group", { name: "Versions" })).toContainText("2/2");
    await chat.complete();
    await chat.replies.last().getByRole("button", { name: "Hide" }).click();
    await expect(chat.replies.last().getByRole("group", { name: "Versions" })).toHaveCount(0);
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await expect(chat.replies.last().getByRole("group", { name: "Versions" })).toContainText("2/2");
  });

  test("is told of in a place that covers neither the conversation nor the field", async ({ page, verbatim }) => {
    const chat = new Chat(page);
    await chat.open(`${verbatim.address}/`);
    await chat.ask("stream 800");
    await chat.ask("echo the last sentence");
    for (const viewport of [{ width: 360, height: 640 }, { width: 1280, height: 800 }]) {
      await page.setViewportSize(viewport);
      await chat.replies.first().getByRole("button", { name: "Hide" }).click();
      const toast = page.locator(".toast").filter({ hasText: "Hidden from the conversation." }).filter({ visible: true });
      await expect(toast).toHaveCount(1);
      const box = async (selector: string) => (await page.locator(selector).filter({ visible: true }).first().boundingBox())!;
      await expect.poll(async () => {
        const [last, field] = [await chat.replies.last().boundingBox(), await box(".composer")];
        const notice = (await toast.boundingBox())!;
        return last!.y + last!.height <= notice.y + 1 && notice.y + notice.height <= field.y + 1;
      }).toBe(true);
      await toast.getByRole("button", { name: "Undo" }).click();
      await expect(chat.replies).toHaveCount(2);
    }
  });
});

test.describe("a reply that is too much for a page", () => {
  const table = `|${"a|".repeat(2_000)}\n|${"-|".repeat(2_000)}\n${`|${"b|".repeat(2_000)}\n`.repeat(200)}`;
  for (const [name, text] of [
    ["200 kB of quotation", ">".repeat(200_000)],
    ["a table of 400,000 cells", table],
    ["16,000 tools", "🛠️ datetime()\n".repeat(16_000)],
    ["10,000 headings", "# a\n".repeat(10_000)],
    ["20,000 links", "[a](https://example.org) ".repeat(20_000)],
    ["a word of a megabyte", "a".repeat(1_000_000)],
    ["a line of code of a megabyte", `\`\`\`\n${"x".repeat(1_000_000)}\n\`\`\``],
  ] as const) {
    test(`is shown, and the page listens meanwhile: ${name}`, async ({ page, verbatim }) => {
      const { session_id } = await verbatim.post("start", {});
      await verbatim.post("save", { session_id, messages: [{ role: "user", content: "much" }, { role: "assistant", content: text }] });
      const chat = new Chat(page);
      await chat.open(`${verbatim.address}/chat/${session_id}`);
      await expect(chat.replies).toHaveCount(1);
      await chat.message.fill("still here");
      await expect(chat.message).toHaveValue("still here");
      // What the browser has to lay out is what makes a page slow; a time would tell of the machine too.
      const [nodes, depth] = await chat.replies.last().evaluate((reply) => {
        const all = [...reply.querySelectorAll("*")];
        let deepest = 0;
        for (const element of all.filter((element) => element.childElementCount === 0)) {
          let depth = 0;
          for (let at: Element | null = element; at && at !== reply && depth < 1_000; at = at.parentElement) depth += 1;
          deepest = Math.max(deepest, depth);
        }
        return [all.length, deepest];
      });
      expect(nodes).toBeLessThan(20_000);
      expect(depth).toBeLessThan(100);
    });
  }
});

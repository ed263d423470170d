// What only a browser can show: the Content-Security-Policy holds, and other sites can neither read nor write.

import http from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Chat, expect, gotoHydrated, test } from "./support/test.ts";

test("a script that got into a page does not run", async ({ page, verbatim, problems }) => {
  problems.expect(/Content Security Policy/);
  await gotoHydrated(page, `${verbatim.address}/`);
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.hacked = 1";
    document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", `<img src="data:," onerror="window.hacked = 2">`);
    // A string that becomes code.
    document.body.setAttribute("onclick", "window.hacked = 3");
    document.body.click();
  });
  await expect(page.locator("body > img")).toBeAttached();
  expect(await page.evaluate(() => (window as any).hacked)).toBeUndefined();
});

test("a page cannot talk to other hosts", async ({ page, verbatim, problems }) => {
  problems.expect(/Content Security Policy|Failed to load resource|Refused to connect|Fetch API/);
  await gotoHydrated(page, `${verbatim.address}/`);
  const answer = await page.evaluate(() => fetch("https://example.org/").then(() => "answered", () => "refused"));
  expect(answer).toBe("refused");
});

test("another site can neither frame the pages nor post to the API", async ({ page, verbatim, problems }) => {
  problems.expect(/./);
  const chat = new Chat(page);
  await chat.open(`${verbatim.address}/`);
  await chat.ask("echo private words");
  const { session_id } = verbatim.theSession();

  const evil = http.createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><title>evil</title><iframe src="${verbatim.address}/"></iframe>`);
  });
  evil.listen(0, "127.0.0.1");
  await once(evil, "listening");
  try {
    // Another port is another origin, and `localhost` another site.
    await page.goto(`http://localhost:${(evil.address() as AddressInfo).port}/`);
    await expect(page.frameLocator("iframe").getByText("private words")).toHaveCount(0);
    const outcome = await page.evaluate(
      async ({ address, session_id }) => {
        const read = await fetch(`${address}/api/sessions/load`, {
          method: "POST",
          headers: { "content-type": "text/plain" },
          body: JSON.stringify({ session_id }),
        }).then((response) => response.text(), () => "refused");
        await fetch(`${address}/api/sessions/delete`, {
          method: "POST",
          mode: "no-cors",
          headers: { "content-type": "text/plain" },
          body: JSON.stringify({ session_id }),
        }).catch(() => undefined);
        return read;
      },
      { address: verbatim.address, session_id },
    );
    expect(outcome).toBe("refused");
    expect(verbatim.theSession().messages).toHaveLength(2);
  } finally {
    evil.close();
  }
});

// The pages where the program does not run: they say so, and what HTML alone can do works.

import { FAILED_REQUEST, expect, gotoHydrated, test } from "./support/test.ts";

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("the search, the type and the order stand in their fields and can be sent", async ({ page, verbatim }) => {
    for (const words of ["the boat to zanzibar", "boil an egg"]) {
      const { session_id } = await verbatim.post("start", { user_name: "User", metadata: { type: "voice" } });
      await verbatim.post("save", { session_id, messages: [{ role: "user", content: words }] });
    }
    await page.goto(`${verbatim.address}/sessions?q=zanzibar&type=voice&sort=best`);
    const search = page.getByRole("searchbox", { name: "Search sessions" });
    await expect(search).toHaveValue("zanzibar");
    await expect(page.getByRole("combobox", { name: "Type" })).toHaveValue("voice");
    await expect(page.getByRole("combobox", { name: "Order" })).toHaveValue("best");
    await expect(page.locator(".row")).toHaveCount(1);
    // The test's browser runs no script but reads `noscript` as one that does, so its words are looked for in the HTML.
    for (const path of ["/sessions", "/chat"]) {
      const html = await (await fetch(verbatim.address + path)).text();
      expect(html).toMatch(/<noscript>.*JavaScript is switched off/s);
    }
    await search.fill("egg");
    await search.press("Enter");
    await expect(page).toHaveURL(/q=egg&type=voice&sort=best$/);
    await expect(page.locator(".row__match")).toContainText("boil an egg");
  });
});

test("a page whose program does not arrive says so and what works", async ({ page, verbatim, problems }) => {
  problems.expect(FAILED_REQUEST);
  problems.expect(/^uncaught:/);
  await page.route("**/*.wasm", (route) => route.abort());
  await page.goto(`${verbatim.address}/chat`);
  const notice = page.getByRole("alert").filter({ hasText: "could not be loaded" });
  await expect(notice).toBeVisible();
  await page.unroute("**/*.wasm");
  await notice.getByRole("link", { name: "Reload" }).click();
  await expect(page.locator("html[data-hydrated]")).toBeAttached();
  await expect(page.getByText("could not be loaded")).toHaveCount(0);
});

test("a browser without WebAssembly is told so", async ({ page, verbatim, problems }) => {
  problems.expect(/^uncaught:/);
  await page.addInitScript("delete globalThis.WebAssembly");
  await page.goto(`${verbatim.address}/sessions?q=word`);
  await expect(page.getByRole("alert").filter({ hasText: "cannot run WebAssembly" })).toBeVisible();
  await expect(page.getByRole("searchbox", { name: "Search sessions" })).toHaveValue("word");
});

test("on a slow line the page says that it is loading, until it is there", async ({ page, verbatim }) => {
  let arrive = () => {};
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  await page.route("**/*.wasm", async (route) => {
    await arrived;
    await route.continue();
  });
  await page.goto(`${verbatim.address}/chat`);
  const notice = page.getByRole("alert").filter({ hasText: "still loading" });
  await expect(notice).toBeVisible();
  arrive();
  await expect(page.locator("html[data-hydrated]")).toBeAttached();
  await expect(notice).toHaveCount(0);
});

test("a page that is alive says nothing of it", async ({ page, verbatim }) => {
  await gotoHydrated(page, `${verbatim.address}/sessions?q=word`);
  await expect(page.locator(".dead")).toHaveCount(0);
  await expect(page.getByRole("searchbox", { name: "Search sessions" })).toHaveValue("word");
});

// axe-core in a page, without a wrapper: what it finds, as lines that say what is wrong and where.

import fs from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "@playwright/test";
import type axe from "axe-core";

const source = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Checks the page against WCAG 2.2 AA and axe's best practices. */
export async function violations(page: Page): Promise<string[]> {
  // Through the debugger, so that the page's Content-Security-Policy does not stand in the way.
  await page.evaluate(source);
  const results = await page.evaluate(async () => {
    const { axe: engine } = window as unknown as { axe: typeof axe };
    return engine.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      resultTypes: ["violations"],
      // What people and models write begins with whatever heading they like.
      rules: { "heading-order": { enabled: false } },
    });
  });
  return results.violations.flatMap((violation) =>
    violation.nodes.map((node) => `${violation.id}: ${violation.help}: ${node.html} (${node.failureSummary ?? ""})`),
  );
}

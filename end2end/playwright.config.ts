// The browser tests: Debian's Chromium against the built server. `make test` runs them; by hand, after scripts/build.sh:
//
//     npx playwright test --config end2end [chat.spec.ts] [--grep "part of a name"]
//
// CHROMIUM names another browser, VERBATIM_BIN another server.

import { execFileSync } from "node:child_process";
import { defineConfig } from "@playwright/test";

function browser(): string {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const name of ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch {
      // Not this one.
    }
  }
  throw new Error("No Chromium was found. Type make setup, or name one in the environment variable CHROMIUM.");
}

export default defineConfig({
  testDir: ".",
  outputDir: "results",
  forbidOnly: !!process.env.CI,
  // A test that passes only sometimes is wrong or shows a fault.
  retries: 0,
  // Most of a test is waiting.
  workers: 3,
  fullyParallel: true,
  // Limits are for machines several times slower than this needs; scripts/total.mjs names the slowest tests, so that none grows
  // into them unseen.
  timeout: 240_000,
  expect: { timeout: 30_000 },
  // scripts/test.sh names a file for the report that it counts from.
  reporter: process.env.PLAYWRIGHT_JSON_OUTPUT_FILE ? [["list"], ["json"]] : [["list"]],
  // Pictures are made on demand only.
  testIgnore: process.env.SHOTS || process.env.UPDATE_SCREENSHOT ? [] : ["screenshot.spec.ts"],
  use: {
    locale: "en-GB",
    timezoneId: "Europe/Berlin",
    viewport: { width: 1280, height: 800 },
    trace: "retain-on-failure",
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: browser(),
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});

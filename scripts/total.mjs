// Adds up what the test runners reported and prints it as one line: node scripts/total.mjs RUST_LOG PLAYWRIGHT_JSON
// Exits with 1 when a runner failed something, ran nothing or left no report.

import fs from "node:fs";

const [rustLog, playwrightJson] = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };
let complete = true;

function add(name, counts) {
  for (const key of Object.keys(total)) total[key] += counts[key];
  if (counts.passed + counts.failed === 0) {
    console.error(`${name}: no test ran`);
    complete = false;
  }
}

function rustCounts(log) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const [, passed, failed, ignored] of log.matchAll(
    /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;/gm,
  )) {
    counts.passed += Number(passed);
    counts.failed += Number(failed);
    counts.skipped += Number(ignored);
  }
  return counts;
}

function read(name, file, count) {
  try {
    add(name, count(fs.readFileSync(file, "utf8")));
  } catch (error) {
    console.error(`${name}: no report (${error.message})`);
    complete = false;
  }
}

read("Rust tests", rustLog, rustCounts);
read("Browser tests", playwrightJson, (text) => {
  const { stats } = JSON.parse(text);
  return { passed: stats.expected, failed: stats.unexpected + stats.flaky, skipped: stats.skipped };
});

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
process.exit(complete && total.failed === 0 ? 0 : 1);

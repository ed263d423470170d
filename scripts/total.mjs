// Adds up what the test runners reported and prints it as one line: node scripts/total.mjs FOLDER
// Exits with 1 when a runner failed something, ran nothing or left no report.

import fs from "node:fs";
import path from "node:path";

const [folder] = process.argv.slice(2);
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

/** What Python's unittest says at its end. */
function unittestCounts(log) {
  const last = (pattern) => Number([...log.matchAll(pattern)].at(-1)?.[1] ?? 0);
  const ran = last(/^Ran (\d+) tests? in /gm);
  const failed = last(/^FAILED \(.*?failures=(\d+)/gm) + last(/^FAILED \(.*?errors=(\d+)/gm);
  const skipped = last(/^(?:OK|FAILED) \(.*?skipped=(\d+)/gm);
  return { passed: ran - failed - skipped, failed, skipped };
}

/** What Node's test runner says at its end. */
function nodeCounts(log) {
  const count = (name) => Number(log.match(new RegExp(`^\\S* ?${name} (\\d+)$`, "m"))?.[1] ?? 0);
  return { passed: count("pass"), failed: count("fail") + count("cancelled"), skipped: count("skipped") };
}

function read(name, file, count) {
  try {
    add(name, count(fs.readFileSync(path.join(folder, file), "utf8")));
  } catch (error) {
    console.error(`${name}: no report (${error.message})`);
    complete = false;
  }
}

read("Rust tests", "rust.log", rustCounts);
read("Tests of the engine's parts", "engine-units.log", rustCounts);
read("Tests of the corpus", "corpus.log", rustCounts);
read("Tests of the weights' script", "weights.log", nodeCounts);
read("Tests of the engine", "engine.log", unittestCounts);
read("Browser tests", "browser.json", (text) => {
  const { stats } = JSON.parse(text);
  return { passed: stats.expected, failed: stats.unexpected + stats.flaky, skipped: stats.skipped };
});

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
process.exit(complete && total.failed === 0 ? 0 : 1);

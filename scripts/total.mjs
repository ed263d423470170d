// Adds up what the test runners reported: node scripts/total.mjs FOLDER
// Names what took longest of what says how long it took: browser tests, the engine's, the scripts', and Rust's programs of tests as a
// whole. The last line is the total.
// Exits with 1 when a runner failed something, ran nothing or left no report.

import fs from "node:fs";
import path from "node:path";

const [folder] = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };
let complete = true;

/** How many of the slowest tests are named. */
const SLOWEST = 10;
/** What took how long, in seconds. */
const durations = [];

function add(name, counts) {
  for (const key of Object.keys(total)) total[key] += counts[key];
  if (counts.passed + counts.failed === 0) {
    console.error(`${name}: no test ran`);
    complete = false;
  }
}

function rustCounts(log) {
  // The line about a program stands some lines before that about how it went.
  let program = "";
  for (const line of log.split("\n")) {
    program = /^ +(?:Running (?:unittests )?|Doc-tests )(\S+)/.exec(line)?.[1] ?? program;
    const seconds = /^test result: .* finished in ([\d.]+)s/.exec(line)?.[1];
    if (seconds) durations.push([`all Rust tests of ${program}`, Number(seconds)]);
  }
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

/** The engine's tests write theirs into a file of their own: unittest has no place for it in its report. */
function engineDurations() {
  const file = path.join(folder, "engine.durations");
  if (!fs.existsSync(file)) return;
  for (const [, seconds, name] of fs.readFileSync(file, "utf8").matchAll(/^([\d.]+) (.+)$/gm)) {
    durations.push([`engine: ${name}`, Number(seconds)]);
  }
}

/** What Node's test runner says at its end. */
function nodeCounts(log) {
  for (const [, name, milliseconds] of log.matchAll(/^ *✔ (.+) \(([\d.]+)ms\)$/gm)) durations.push([`scripts: ${name}`, milliseconds / 1000]);
  const count = (name) => Number(log.match(new RegExp(`^\\S* ?${name} (\\d+)$`, "m"))?.[1] ?? 0);
  return { passed: count("pass"), failed: count("fail") + count("cancelled"), skipped: count("skipped") };
}

/** What Playwright reports of the tests in suites and in theirs. */
function browserDurations(suites, above = "") {
  for (const { title, specs = [], suites: inner = [] } of suites ?? []) {
    const name = above ? `${above} ${title}` : title;
    for (const spec of specs) {
      const milliseconds = spec.tests.flatMap(({ results }) => results.map(({ duration }) => duration));
      durations.push([`${name} ${spec.title}`, Math.max(0, ...milliseconds) / 1000]);
    }
    browserDurations(inner, name);
  }
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
read("Tests of the scripts", "scripts.log", nodeCounts);
read("Tests of the engine", "engine.log", unittestCounts);
engineDurations();
read("Browser tests", "browser.json", (text) => {
  const { stats, suites } = JSON.parse(text);
  browserDurations(suites);
  return { passed: stats.expected, failed: stats.unexpected + stats.flaky, skipped: stats.skipped };
});

const slowest = durations.sort(([, one], [, other]) => other - one).slice(0, SLOWEST);
if (slowest.length > 0) console.log(`── The slowest ${slowest.length}, in seconds`);
for (const [name, seconds] of slowest) console.log(`   ${seconds.toFixed(1).padStart(6)}  ${name}`);

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`);
process.exit(complete && total.failed === 0 ? 0 : 1);

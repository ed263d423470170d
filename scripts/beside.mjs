// Runs a program for as long as another process lives, and ends it with all that it has started when that process is gone, however
// it went:
//
//     node scripts/beside.mjs PID PROGRAM [ARGUMENT…]
//
// The program has a session of its own: it can be ended as a whole, and a Ctrl-C in the terminal is for the other process alone.
// Exit status: the program's, or 143 where it was ended.

import { spawn } from "node:child_process";

/** How often is looked whether the other process lives, in milliseconds. */
const LOOK_EVERY = 500;

/** How long the program may take to end before it is killed, in milliseconds. */
const END_TIME = 5000;

const [owner, program, ...args] = process.argv.slice(2);
if (!/^[1-9]\d*$/.test(owner ?? "") || !program) {
  process.stderr.write("usage: node scripts/beside.mjs PID PROGRAM [ARGUMENT…]\n");
  process.exit(2);
}

const child = spawn(program, args, { detached: true, stdio: ["ignore", "inherit", "inherit"] });
let ending = false;

function lives(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it lives and belongs to somebody else.
    return error.code === "EPERM";
  }
}

/** Sends a signal to the program and all that it has started. */
function signal(name) {
  try {
    process.kill(-child.pid, name);
  } catch {
    // They are gone.
  }
}

function end() {
  if (ending) return;
  ending = true;
  signal("SIGTERM");
  // Also what outlived the program itself.
  setTimeout(() => {
    signal("SIGKILL");
    process.exit(143);
  }, END_TIME).unref();
}

child.on("error", (error) => {
  process.stderr.write(`${program}: ${error.message}\n`);
  process.exit(1);
});
child.on("exit", (code) => {
  if (ending) signal("SIGKILL");
  process.exit(ending ? 143 : (code ?? 143));
});
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, end);
setInterval(() => lives(Number(owner)) || end(), LOOK_EVERY);

// The model inside Verbatim: what the server needs to run it, and its process.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { binary } from "./verbatim.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));

/** A model of engine/models.json. */
interface CatalogueModel {
  name: string;
  model: string;
  file: string;
  bytes: number;
  sha256: string;
}

const catalogue = JSON.parse(
  fs.readFileSync(path.join(repository, "engine", "models.json"), "utf8"),
) as CatalogueModel[];

/** An engine that plays a model and has none. */
export const FAKE_ENGINE = path.join(repository, "tests", "server", "fake_engine.py");

export function catalogueModel(name: string): CatalogueModel {
  const model = catalogue.find((model) => model.name === name);
  if (!model) throw new Error(`engine/models.json has no model named ${name}.`);
  return model;
}

/** The options of a server with the real engine and the real weights. Fails where one of them is missing: nothing is skipped. */
export function realModel(): string[] {
  const cache = process.env.XDG_CACHE_HOME || path.join(os.homedir(), ".cache");
  const models = process.env.VERBATIM_MODELS_DIR || path.join(cache, "verbatim", "models");
  const engine = process.env.VERBATIM_ENGINE || path.join(path.dirname(binary), "verbatim-engine");
  const weights = path.join(models, catalogueModel("default").file);
  if (!fs.existsSync(engine)) {
    throw new Error(`THE EMBEDDED MODEL IS NOT TESTED: its engine is not at ${engine}. Build it with make build.`);
  }
  if (!fs.existsSync(weights)) {
    throw new Error(`THE EMBEDDED MODEL IS NOT TESTED: its weights are not at ${weights}. Fetch them with make weights.`);
  }
  return ["--assistant", "embedded", "--engine", engine, "--models-dir", models];
}

/** Puts a file into a folder that passes for the weights of a model until its content matters: it is as large and counts as checked. */
export function putHollowWeights(folder: string, name: string): void {
  const { file, bytes, sha256 } = catalogueModel(name);
  const weights = path.join(folder, file);
  fs.writeFileSync(weights, "");
  fs.truncateSync(weights, bytes);
  const changedAt = Math.floor(fs.statSync(weights).mtimeMs / 1000);
  fs.writeFileSync(`${weights}.verified`, `${bytes} ${changedAt} ${sha256}\n`);
}

/**
 * Says in a folder that the engine there is being built, as scripts/engine.sh does, and goes on saying so.
 * `install` puts the engine that plays a model there; `end` only stops saying so.
 */
export function buildEngine(folder: string, begunSecondsAgo: number, expectedSeconds: number) {
  const engine = path.join(folder, "verbatim-engine");
  const note = `${engine}.build`;
  const began_at = Math.floor(Date.now() / 1000) - begunSecondsAgo;
  fs.writeFileSync(note, JSON.stringify({ state: "building", began_at, expected_seconds: expectedSeconds }));
  const touching = setInterval(() => fs.utimesSync(note, new Date(), new Date()), 1000);
  const end = () => clearInterval(touching);
  const install = () => {
    end();
    fs.copyFileSync(FAKE_ENGINE, `${engine}.new`);
    fs.renameSync(`${engine}.new`, engine);
    fs.rmSync(note);
  };
  return { engine, install, end };
}

/** The process ids of the engines that a server has started. */
export function enginesOf(server: number): number[] {
  return fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        // Behind the name, which may hold anything: the state and the parent.
        const [, state, parent] = /\) (\S) (\d+) /.exec(fs.readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
        return Number(parent) === server && state !== "Z";
      } catch {
        // It has ended meanwhile.
        return false;
      }
    });
}

/** Whether a process runs. */
export function runs(pid: number): boolean {
  try {
    return !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

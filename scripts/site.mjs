// Makes the site directory out of bindgen's output, style/ and public/:
//
//     node scripts/site.mjs STAGE SITE HASH_FILE
//
// Names in pkg/ carry a hash of the content, so that browsers may keep the files for ever; HASH_FILE tells the server the
// hashes, in the form that Leptos reads (and `cargo leptos` with hash-files writes). Each file that gains by it gets a
// compressed copy (.br, .gz) beside it.

import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

const [stage, site, hashFile] = process.argv.slice(2);
if (!hashFile) {
  console.error("usage: node scripts/site.mjs STAGE SITE HASH_FILE");
  process.exit(2);
}

/** The style sheet with the files that its @import lines name in their places. */
function bundle(file) {
  const css = fs.readFileSync(file, "utf8");
  const folder = path.dirname(file);
  return css.replace(/^@import\s+(?:url\()?["']([^"']+)["']\)?([^;]*);[^\S\n]*$/gm, (line, name, condition) => {
    if (condition.trim() !== "" || /^[a-z]+:|^\//i.test(name)) {
      throw new Error(`${file}: only plain imports of files beside it are bundled, not: ${line}`);
    }
    return bundle(path.join(folder, name)).trimEnd();
  });
}

function hash(content) {
  return createHash("sha256").update(content).digest("base64url").slice(0, 22).replace(/^-/, "_");
}

function write(name, content) {
  const file = path.join(fresh, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content);
  if (!/\.(css|html|ico|js|json|map|svg|txt|wasm|webmanifest|xml)$/.test(name) || content.length < 512) return;
  const brotli = zlib.brotliCompressSync(content, {
    params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 11, [zlib.constants.BROTLI_PARAM_SIZE_HINT]: content.length },
  });
  const gzip = zlib.gzipSync(content, { level: 9 });
  if (brotli.length < content.length) fs.writeFileSync(`${file}.br`, brotli);
  if (gzip.length < content.length) fs.writeFileSync(`${file}.gz`, gzip);
  console.log(`   ${name}: ${content.length} bytes, ${brotli.length} as brotli, ${gzip.length} as gzip`);
}

/** Every file below a folder, as paths relative to it. */
function filesBelow(folder) {
  if (!fs.existsSync(folder)) return [];
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

// The new directory is made beside the old one and takes its place at the end, so that a failure leaves the old one whole.
const fresh = `${site}.new`;
fs.rmSync(fresh, { recursive: true, force: true });
fs.mkdirSync(fresh, { recursive: true });

for (const name of filesBelow("public")) write(name, fs.readFileSync(path.join("public", name)));

const wasm = fs.readFileSync(path.join(stage, "verbatim_bg.wasm"));
const wasmHash = hash(wasm);
write(`pkg/verbatim.${wasmHash}.wasm`, wasm);

// It names no file of its own: the page tells it where the WebAssembly is.
const js = fs.readFileSync(path.join(stage, "verbatim.js"));
const jsHash = hash(js);
write(`pkg/verbatim.${jsHash}.js`, js);

const css = Buffer.from(bundle("style/main.css"));
const cssHash = hash(css);
write(`pkg/verbatim.${cssHash}.css`, css);

// Pieces of JavaScript that crates bring along; the hash stands in their folder's name already.
for (const name of filesBelow(path.join(stage, "snippets"))) {
  write(path.join("pkg/snippets", name), fs.readFileSync(path.join(stage, "snippets", name)));
}

fs.rmSync(site, { recursive: true, force: true });
fs.renameSync(fresh, site);
fs.writeFileSync(hashFile, `js: ${jsHash}\nwasm: ${wasmHash}\ncss: ${cssHash}\n`);

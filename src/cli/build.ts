// `npm run build`: what wrangler serves. assembly/ → build/engine.wasm (asc), src/dashboard/ → build/dashboard (Vite).
// Each part is made only when a source is newer than its output, because wrangler calls this at every start and change.
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Latest change below `paths`, folders included (a removed file changes its folder); 0 where a path is missing. */
function changedMs(paths: string[]): number {
  let latestMs = 0;
  for (const path of paths) {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) continue;
    latestMs = Math.max(latestMs, stat.mtimeMs);
    if (stat.isDirectory()) latestMs = Math.max(latestMs, changedMs(readdirSync(path).map((name) => join(path, name))));
  }
  return latestMs;
}

function isStale(output: string, sources: string[]): boolean {
  const made = statSync(output, { throwIfNoEntry: false });
  return made === undefined || made.mtimeMs < changedMs(sources);
}

/** Compiles the engine; returns whether it had to. Errors: throws with the compiler's diagnostics. */
async function buildEngine(): Promise<boolean> {
  mkdirSync(join(ROOT, "build"), { recursive: true });
  const output = join(ROOT, "build/engine.wasm");
  if (!isStale(output, [join(ROOT, "assembly"), join(ROOT, "asconfig.json")])) return false;
  const startedMs = Date.now();
  // Written beside and renamed: a reader (wrangler, a test) never meets half a module.
  const partial = `build/engine.${process.pid}.wasm`;
  const asc = join(ROOT, "node_modules/assemblyscript/bin/asc.js");
  const options = ["--config", "asconfig.json", "--target", "release", "--outFile", partial];
  try {
    await promisify(execFile)(process.execPath, [asc, "assembly/index.ts", ...options], { cwd: ROOT });
  } catch (error) {
    throw new Error(`the engine does not compile\n${(error as { stderr?: string }).stderr ?? String(error)}`);
  }
  // A source that was saved during the compilation must count as newer.
  utimesSync(join(ROOT, partial), startedMs / 1000, startedMs / 1000);
  renameSync(join(ROOT, partial), output);
  return true;
}

// Node's types know the namespace only as types.
const { Module } = (globalThis as unknown as { WebAssembly: { Module: new (bytes: Uint8Array) => WebAssembly.Module } })
  .WebAssembly;

/** The compiled engine, as src/core/engine.ts takes it; built first where it is missing or old. */
export async function engineModule(): Promise<WebAssembly.Module> {
  await buildEngine();
  return new Module(readFileSync(join(ROOT, "build/engine.wasm")));
}

/** Bundles the dashboard; returns whether it had to. Errors: throws with Vite's message. */
async function buildDashboard(): Promise<boolean> {
  const root = join(ROOT, "src/dashboard");
  const outDir = join(ROOT, "build/dashboard");
  if (!isStale(join(outDir, "index.html"), [root])) return false;
  const startedMs = Date.now();
  const vite = await import("vite");
  const partial = `${outDir}.${process.pid}`;
  await vite.build({ root, configFile: false, logLevel: "warn", build: { outDir: partial, emptyOutDir: true } });
  utimesSync(join(partial, "index.html"), startedMs / 1000, startedMs / 1000);
  rmSync(outDir, { recursive: true, force: true });
  renameSync(partial, outDir);
  return true;
}

/** Brings build/ up to date; tells the names of the parts that were made. */
export async function build(): Promise<string[]> {
  const made: string[] = [];
  if (await buildEngine()) made.push("engine");
  if (await buildDashboard()) made.push("dashboard");
  return made;
}

if (import.meta.main) {
  try {
    const made = await build();
    if (made.length > 0) process.stderr.write(`built ${made.join(" and ")}\n`);
  } catch (error) {
    process.stderr.write(`build: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

// The compiled engine for tests. Out: the module of assembly/ as it is now, built where the build is missing or old.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buildEngine, ROOT } from "../../src/cli/build.ts";

// Node's types know the namespace only as types.
const { Module } = (globalThis as unknown as { WebAssembly: { Module: new (bytes: Uint8Array) => WebAssembly.Module } })
  .WebAssembly;

export async function wasmModule(): Promise<WebAssembly.Module> {
  await buildEngine();
  return new Module(readFileSync(join(ROOT, "build/engine.wasm")));
}

// `npm run bench -- <name> [options]`: runs bench/<name>.ts. In: the name. Out: what its `run` prints; with --json one JSON value.
import { readdirSync } from "node:fs";

const [name = "", ...args] = process.argv.slice(2);
/** Files beside this one that have a `run`; the others are parts of them. */
const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts" && !file.includes("-"))
  .map((file) => file.slice(0, -3));

if (names.includes(name)) {
  const { run } = (await import(`./${name}.ts`)) as { run: (args: string[]) => void | Promise<void> };
  await run(args);
} else {
  process.stderr.write(`bench: got "${name}", expected one of ${names.join(", ")}\n`);
  process.exitCode = 1;
}

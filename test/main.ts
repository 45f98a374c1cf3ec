// `npm test`: everything that must hold. In: nothing. Out: each step's own output, then `N passed, N failed[, N skipped]`.
// Lint, types and the engine's build count as one check each, beside the tests that vitest counts.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

/** One tsconfig per environment: code that reaches for another one's globals does not compile. */
const ENVIRONMENTS = ["core", "edge", "node", "dashboard"];

function run(command: string, ...args: string[]): boolean {
  console.log(`\n> ${[command, ...args].join(" ")}`);
  return spawnSync(command, args, { stdio: "inherit", env: { ...process.env, NO_COLOR: "1" } }).status === 0;
}

function vitest(only: string[]): Count {
  const folder = mkdtempSync(join(tmpdir(), "forechain-test-"));
  const report = join(folder, "report.json");
  try {
    const ok = run("vitest", "run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...only);
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numFailedTestSuites } = JSON.parse(
      readFileSync(report, "utf8"),
    );
    // A file that fails to load has no failed test of its own, and a crash of a worker none either: neither may pass.
    const failed = numFailedTests || numFailedTestSuites || (ok ? 0 : 1);
    return { passed: numPassedTests, failed, skipped: numPendingTests + numTodoTests };
  } catch (error) {
    console.error(`vitest left no report: ${error}`);
    return { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const only = process.argv.slice(2);
const checks = [
  run("node", "src/cli/build.ts"),
  run("biome", "ci", "--colors=off", "--error-on-warnings"),
  ...ENVIRONMENTS.map((environment) => run("tsc", "-p", `tsconfig.${environment}.json`)),
];
const tests = vitest(only);
const passed = checks.filter(Boolean).length + tests.passed;
const failed = checks.filter((ok) => !ok).length + tests.failed;
console.log(`\n${passed} passed, ${failed} failed${tests.skipped > 0 ? `, ${tests.skipped} skipped` : ""}`);
process.exit(failed > 0 || tests.passed === 0 ? 1 : 0);

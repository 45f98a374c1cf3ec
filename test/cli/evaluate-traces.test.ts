// `forechain evaluate --reach` on traces of two real applications (../shared/data/nezha): the accuracy that the engine is held to.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "../../src/cli/build.ts";

const SHARED = join(ROOT, "../shared");
const TO_OTLP = join(SHARED, "tools/nezha-to-otlp.mjs");
const isThere = existsSync(join(SHARED, "data/nezha")) && existsSync(TO_OTLP);

let folder: string;
// Not at once: where all tests are skipped, nothing would remove it.
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "forechain-traces-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function evaluateReach(application: string, ...flags: string[]) {
  const data = join(SHARED, "data/nezha", application);
  const logs = readdirSync(data).filter((name) => name.endsWith("_trace.csv.gz"));
  const file = join(folder, `${application}.ndjson`);
  if (!existsSync(file)) {
    const paths = logs.map((name) => join(data, name));
    execFileSync(process.execPath, [TO_OTLP, "otlp", ...paths], { stdio: ["ignore", openSync(file, "w"), "ignore"] });
  }
  const command = [join(ROOT, "src/cli/main.ts"), "evaluate", file, "--reach", "--json", ...flags];
  const told = execFileSync(process.execPath, command, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const { brier, baselines, ece, leadCoverage } = JSON.parse(told);
  const [counter, product] = baselines as [{ brier: number }, { brier: number }];
  return { ece, leadCoverage, againstCounter: brier / counter.brier, againstProduct: brier / product.brier };
}

describe.skipIf(!isThere)(`traces of ../shared/data/nezha${isThere ? "" : " (skipped: no data)"}`, () => {
  test.each(["online-boutique", "train-ticket"])(
    "%s: a tenth better than a counter, calibrated, lead times covered",
    (application) => {
      const { ece, leadCoverage, againstCounter, againstProduct } = evaluateReach(application);
      expect(againstCounter).toBeLessThan(0.9);
      expect(againstProduct).toBeLessThan(0.6);
      expect(ece).toBeLessThanOrEqual(0.02);
      expect(leadCoverage).toBeGreaterThan(0.75);
      expect(leadCoverage).toBeLessThan(0.85);
    },
  );

  test("known as late as in service: hardly worse than a counter that forgets nothing, and as calibrated", () => {
    const { ece, leadCoverage, againstCounter, againstProduct } = evaluateReach(
      "online-boutique",
      "--known-after",
      "20000",
    );
    expect(againstCounter).toBeLessThan(1.02);
    expect(againstProduct).toBeLessThan(0.6);
    expect(ece).toBeLessThanOrEqual(0.02);
    expect(leadCoverage).toBeGreaterThan(0.75);
  });
});

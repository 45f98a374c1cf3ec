// docs/ingest.md against what it describes: formats, bounds, and the example execution.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { RUN_EXECUTIONS_MAX } from "../../src/core/chain-engine.ts";
import { ALIASES_MAX, OPEN_RECORDS_MAX } from "../../src/core/ledger.ts";
import { RUN_RECORDS_MAX } from "../../src/core/open-run.ts";
import { TRIGGERS_MAX } from "../../src/core/profile/triggers.ts";
import { ROWS_MAX } from "../../src/core/rows.ts";
import { FORMATS } from "../../src/importers/read.ts";
import { EXECUTIONS_PER_BATCH_MAX, Execution } from "../../src/protocol.ts";

const page = readFileSync("docs/ingest.md", "utf8");
const told = (count: number) => count.toLocaleString("en");

test.each(FORMATS)("format %s has a row", (format) => {
  expect(page).toMatch(new RegExp(`^\\| [^|]*\`${format}\``, "m"));
});

test.each([
  ["executions of one call", EXECUTIONS_PER_BATCH_MAX],
  ["records of one run", RUN_RECORDS_MAX],
  ["records of open runs", OPEN_RECORDS_MAX],
  ["triggers of one execution", TRIGGERS_MAX],
  ["runs joined into one", ALIASES_MAX],
  ["executions of one run that the model learns", RUN_EXECUTIONS_MAX],
])("%s: %i", (what, count) => {
  expect(page).toContain(`| ${what} | ${told(count)} |`);
});

test("rows of the graph", () => {
  const { task, transition, object, service, template, chain } = ROWS_MAX;
  expect(page).toContain([task, transition, object, service, template, chain].map(told).join("; "));
});

test("the example is an execution", () => {
  const [, json] = /```json\n(.+?)```/s.exec(page) ?? [];
  expect(Execution.strict().parse(JSON.parse(json!))).toMatchObject({ task: "resize" });
});

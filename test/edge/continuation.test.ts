// Continuations: what comes back is what was sealed, within 4 KiB; whatever was touched, is old or is another's is refused.
import { describe, expect, test } from "vitest";
import {
  CONTINUATION_CHARACTERS_MAX,
  type Continuation,
  joinBranches,
  openContinuation,
  sealContinuation,
} from "../../src/edge/continuation.ts";
import { continuationKey, fromBase64Url, toBase64Url } from "../../src/edge/secrets.ts";
import { readOrigin, traceIdOf } from "../../src/edge/task-request.ts";

const SECRET = "a secret of at least thirty-two characters";
const NOW_MS = 1_800_000_000_000;
const DAY_MS = 24 * 3_600_000;
const key = await continuationKey(SECRET, "default");

const FULL: Continuation = {
  runId: "run",
  path: [
    { task: "a", startMs: NOW_MS - 500 },
    { task: 'b/ü"', startMs: null },
    { task: "c", startMs: NOW_MS },
  ],
  executionId: "execution",
  cluster: "paris",
  vms: { d: "vm-1" },
  branch: "third",
};

test("what comes back is what was sealed", async () => {
  const text = await sealContinuation(key, FULL, NOW_MS);
  expect(text).toMatch(/^[\w-]+\.[\w-]{43}$/);
  expect(await openContinuation(key, text, NOW_MS + 1_000)).toEqual({ ok: true, value: FULL });
});

describe("refused", () => {
  const sealed = sealContinuation(key, FULL, NOW_MS);
  const forge = (text: string) => {
    const [body, signature] = text.split(".");
    const wire = JSON.parse(new TextDecoder().decode(fromBase64Url(body!)!));
    return `${toBase64Url(new TextEncoder().encode(JSON.stringify({ ...wire, c: "rome" })))}.${signature}`;
  };
  test.each<[string, (text: string) => string, string]>([
    ["empty", () => "", "malformed"],
    ["no signature", (text) => text.split(".")[0]!, "malformed"],
    ["empty signature", (text) => `${text.split(".")[0]}.`, "forged"],
    ["not base64url", (text) => `!${text}`, "malformed"],
    ["too long", (text) => text + "a".repeat(CONTINUATION_CHARACTERS_MAX), "malformed"],
    ["another body under the signature", forge, "forged"],
    [
      "one character of the signature changed",
      (text) => text.slice(0, -2) + (text.at(-2) === "A" ? "B" : "A") + text.at(-1),
      "forged",
    ],
    ["two bodies", (text) => `${text.split(".")[0]}.${text}`, "malformed"],
  ])("%s", async (_, change, reason) => {
    expect(await openContinuation(key, change(await sealed), NOW_MS)).toEqual({ ok: false, reason });
  });

  test("of another workspace, and of another secret", async () => {
    for (const other of [await continuationKey(SECRET, "other"), await continuationKey(`${SECRET}!`, "default")]) {
      expect(await openContinuation(other, await sealed, NOW_MS)).toEqual({ ok: false, reason: "forged" });
    }
  });

  test("a day later", async () => {
    expect(await openContinuation(key, await sealed, NOW_MS + DAY_MS)).toMatchObject({ ok: true });
    expect(await openContinuation(key, await sealed, NOW_MS + DAY_MS + 1)).toEqual({ ok: false, reason: "expired" });
  });
});

test.each([
  ["many short names", Array.from({ length: 1_000 }, (_, i) => `t${i}`)],
  ["few long names", Array.from({ length: 20 }, (_, i) => `${i}`.padEnd(256, "x"))],
  ["names that grow when encoded", Array.from({ length: 256 }, () => "\u{1f600}".repeat(60))],
])("at most 4 KiB, the newest tasks kept: %s", async (_, tasks) => {
  const path = tasks.map((task, i) => ({ task, startMs: NOW_MS + i }));
  const vms = Object.fromEntries(tasks.slice(0, 100).map((task) => [task, "vm"]));
  const text = await sealContinuation(key, { ...FULL, path, vms }, NOW_MS);
  expect(text.length).toBeLessThanOrEqual(CONTINUATION_CHARACTERS_MAX);
  const opened = await openContinuation(key, text, NOW_MS);
  expect(opened.ok && opened.value.path.length).toBeGreaterThan(0);
  expect(opened.ok && opened.value.path).toEqual(path.slice(-(opened.ok ? opened.value.path.length : 0)));
});

describe("branches that join", () => {
  const branch = (task: string, runId = "run"): Continuation => ({
    ...FULL,
    runId,
    path: [
      { task: "a", startMs: NOW_MS },
      { task, startMs: NOW_MS },
    ],
    executionId: `execution of ${task}`,
    vms: { [task]: "vm" },
  });

  test("link all, and the path follows the smallest last task", () => {
    const joined = joinBranches([branch("c"), branch("b"), branch("c")]);
    expect(joined.main.path.at(-1)!.task).toBe("b");
    expect(joined.links).toEqual(["execution of c", "execution of b"]);
  });

  test("as a header, in any order, with spaces", async () => {
    const parts = await Promise.all(["c", "b"].map((task) => sealContinuation(key, branch(task), NOW_MS)));
    const read = await readOrigin(SECRET, "default", parts.join(" , "), NOW_MS);
    expect(read).toMatchObject({
      ok: true,
      origin: { path: ["a", "b"], runId: "run", heldCluster: "paris", heldVms: { b: "vm", c: "vm" } },
    });
  });

  test("of different runs are refused, and so are too many", async () => {
    const one = await sealContinuation(key, branch("b"), NOW_MS);
    const two = await sealContinuation(key, branch("c", "other"), NOW_MS);
    expect(await readOrigin(SECRET, "default", `${one},${two}`, NOW_MS)).toMatchObject({ ok: false });
    expect(await readOrigin(SECRET, "default", Array(33).fill(one).join(","), NOW_MS)).toMatchObject({ ok: false });
  });
});

test.each([
  ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"],
  ["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "4bf92f3577b34da6a3ce929d0e0e4736"],
  ["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", null],
  ["00-00000000000000000000000000000000-00f067aa0ba902b7-01", null],
  ["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", null],
  ["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", null],
  ["garbage", null],
  [undefined, null],
])("trace id of %s", (traceparent, traceId) => {
  expect(traceIdOf(traceparent)).toBe(traceId);
});

// What a run writes for itself: names that are new in each run are known by their shape, and by it who reads them.
import { describe, expect, it } from "vitest";
import { contributionOf } from "../../src/core/contribution.ts";
import type { TaskProfile } from "../../src/core/graph.ts";
import { outputShape, shapeOf } from "../../src/core/output-shapes.ts";
import { outputsToFetch, readersOfShape } from "../../src/core/outputs.ts";
import { profilesOf } from "../../src/core/profiles.ts";
import { GraphRows } from "../../src/core/rows.ts";
import { record, run } from "./run.ts";

const MB = 1_000_000;
const object = (name: string, bytes = 10 * MB) => ({ uri: `https://store.test/runs/${name}`, bytes });
/** 50 MB/s. */
const transferMs = (_uri: string, bytes: number) => bytes / 50_000;
const policy = { msPerGb: 2_000 };

/** `make` writes a part that `join` reads two steps later and a log that nobody reads; `check` comes between and reads neither. */
function steps(name: string) {
  return [
    record("make 0-10", { outputs: [object(`part-${name}.bin`), object(`log-${name}.txt`)] }, name),
    record("check < make 12-20", {}, name),
    record("join < make 22-30", { inputs: [object(`part-${name}.bin`)] }, name),
  ];
}

function learned(names: string[]): Map<string, TaskProfile> {
  const rows = new GraphRows();
  for (const name of names) rows.apply(contributionOf(run(...steps(name))), 1);
  return new Map(profilesOf(rows.rows).map((profile) => [profile.task, profile]));
}

describe("the shape of a name", () => {
  it.each([
    ["https://store/a/cycles_season-fc1a6b73d7246ddfa4fe28d8f31a8cd3.dat", "cycles_season-*.dat"],
    ["s3://bucket/2024/run-17/part-00042.parquet", "part-*.parquet"],
    ["https://store/0b5d1f0a-9f7e-4c57-8a34-d7a1f2c9b1aa/out.bin?version=3", "out.bin"],
    ["file:///x/0b5d1f0a-9f7e-4c57-8a34-d7a1f2c9b1aa.bin", "*-*f*e-*c*-*a*-*.bin"],
    ["https://store/facade.tar", "facade.tar"],
    ["https://store/folder/", "folder"],
  ])("%s", (uri, shape) => expect(shapeOf(uri)).toBe(shape));

  it("belongs to its task", () => {
    expect(outputShape("a", "x://s/part-1")).toBe(outputShape("a", "x://s/part-2"));
    const tasks = new Set(["a", "b", "c", "d"].map((task) => outputShape(task, "x://s/part-1")));
    expect(tasks.size).toBeGreaterThan(1);
  });
});

describe("outputs to fetch", () => {
  const names = ["1", "2", "3", "4", "5", "6", "7", "8"];
  const fetched = (profile: TaskProfile | undefined, ...outputs: { uri: string; bytes: number }[]) =>
    outputsToFetch("make", outputs, profile, transferMs, policy).map(({ uri }) => uri.split("/").at(-1));

  it("those whose shape is read on, not the others of the same task", () => {
    const make = learned(names).get("make");
    expect(make!.outputs!.readShare).toBe(0.5);
    expect(fetched(make, object("part-99.bin"), object("log-99.txt"))).toEqual(["part-99.bin"]);
  });

  it("a new shape is taken to be as the task's are on the whole", () => {
    expect(fetched(learned(names).get("make"), object("report.pdf"))).toEqual(["report.pdf"]);
  });

  it("nothing of what is empty, hardly known or of an unknown task", () => {
    expect(fetched(learned(names).get("make"), object("part-99.bin", 0))).toEqual([]);
    expect(fetched(learned(["1", "2"]).get("make"), object("part-99.bin"))).toEqual([]);
    expect(fetched(learned(names).get("check"), object("part-99.bin"))).toEqual([]);
    expect(fetched(undefined, object("part-99.bin"))).toEqual([]);
  });

  it("are brought to who reads them, which is not always who follows", () => {
    const profiles = learned(names);
    expect(profiles.get("make")!.successors.map(({ task }) => task)).not.toEqual(["join"]);
    const [part] = outputsToFetch("make", [object("part-99.bin")], profiles.get("make"), transferMs, policy);
    expect(readersOfShape(profiles.values(), part!.shape)).toEqual(["join"]);
    expect(readersOfShape(profiles.values(), outputShape("make", object("log-99.txt").uri))).toEqual([]);
  });

  it("are counted alike in any order, and taken back whole", () => {
    const rows = new GraphRows();
    const contributions = names.map((name) => contributionOf(run(...steps(name))));
    for (const contribution of contributions.toReversed()) rows.apply(contribution, 1);
    expect(new Map(profilesOf(rows.rows).map((profile) => [profile.task, profile]))).toEqual(learned(names));
    for (const contribution of contributions) rows.apply(contribution, -1);
    expect(rows.rows.size).toBe(0);
  });
});

// Profiles of all tasks. In: rows of counts (rows.ts). Out: a TaskProfile for each task (graph.ts), made anew where its rows have changed.
import { type RowFamily, rowParts } from "./contribution.ts";
import { profileOf, type TaskProfile, type TaskRows } from "./graph.ts";
import type { Rows } from "./rows.ts";
import type { Counts } from "./sketch.ts";

/** A profile of every task. */
export function profilesOf(rows: Rows): TaskProfile[] {
  const profiles = new Profiles(rows);
  profiles.update(rows.keys());
  return [...profiles.byTask.values()];
}

/** Profiles beside rows that only grow: no row of them is ever taken out. */
export class Profiles {
  /** In the order in which tasks came to be known. */
  readonly byTask = new Map<string, TaskProfile>();
  readonly #rows: Rows;
  readonly #tasks = new Map<string, TaskRows>();
  /** Rows that have found their task. */
  readonly #known = new Set<Counts>();

  constructor(rows: Rows) {
    this.#rows = rows;
  }

  /** `changed`: keys of all rows that are new or have changed since the last time. */
  update(changed: Iterable<string>): void {
    const stale = new Map<string, TaskRows>();
    for (const key of changed) {
      const { family, parts } = rowParts(key);
      if (family === "chain" || family === "runs") continue;
      const task = parts[0]!;
      const own = this.#tasks.get(task) ?? {
        versions: [],
        services: [],
        objects: [],
        templates: [],
        successors: new Map(),
      };
      this.#tasks.set(task, own);
      stale.set(task, own);
      const counts = this.#rows.get(key)!;
      if (this.#known.has(counts)) continue;
      this.#known.add(counts);
      addRow(own, family, parts, counts);
    }
    for (const [task, rows] of stale) if (rows.versions.length > 0) this.byTask.set(task, profileOf(task, rows));
  }
}

function addRow(rows: TaskRows, family: Exclude<RowFamily, "chain" | "runs">, parts: string[], counts: Counts): void {
  const [, second, third] = parts as [string, string, string];
  switch (family) {
    case "task":
      rows.versions.push({ version: second, counts });
      return;
    case "service":
      rows.services.push([second, counts]);
      return;
    case "object":
      rows.objects.push([second, counts]);
      return;
    case "template":
      rows.templates.push([second, counts]);
      return;
    case "transition": {
      // One task can follow in two ways (called and in sequence): shares of different executions add up.
      const known = rows.successors.get(second);
      if (known === undefined) rows.successors.set(second, [{ kind: third, counts }]);
      else known.push({ kind: third, counts });
    }
  }
}

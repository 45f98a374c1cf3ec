// What a process and its descendants use, from Linux's /proc. In: the id of the leader. Out: CPU, memory, peak; null elsewhere.
// CPU includes children that have ended (the kernel adds them to their parent when it waits for them).
// Read synchronously: /proc is memory, some 50 µs a process, and an answer's end must not wait for the event loop's turn.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { Usage } from "./driver.ts";

/** USER_HZ: fixed at 100 in Linux's interface on every architecture that Node runs on. */
const MS_PER_TICK = 10;
/** A fork bomb must not make the agent read for ever. */
const PROCESSES_MAX = 64;

export function treeUsage(leaderId: number): Usage | null {
  const known = descendants(leaderId)
    .map(processUsage)
    .filter((part) => part !== null);
  if (known.length === 0) return null;
  return known.reduce((sum, part) => ({
    cpuMs: sum.cpuMs + part.cpuMs,
    memoryBytes: sum.memoryBytes + part.memoryBytes,
    peakBytes: sum.peakBytes + part.peakBytes,
  }));
}

/** From here on the kernel's peak of each process is of what comes; where it may not be reset it stays that of its life. */
export function resetTreePeak(leaderId: number): void {
  for (const id of descendants(leaderId)) {
    try {
      writeFileSync(`/proc/${id}/clear_refs`, "5");
    } catch {
      // Ended, or another user's.
    }
  }
}

/** Whether a process group has a member that still runs. One that waits for its parent to take note of its end does not. */
export function groupLives(groupId: number): boolean {
  try {
    process.kill(-groupId, 0);
  } catch {
    return false;
  }
  // Where there is no /proc, the signal's answer has to do.
  if (!existsSync("/proc/self/stat")) return true;
  return membersOf(groupId).length > 0;
}

/** Processes of a group that run; none where there is no /proc. */
export function membersOf(groupId: number): number[] {
  if (!existsSync("/proc/self/stat")) return [];
  const ids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return ids.map(Number).filter((id) => {
    // State, parent, group.
    const [state, , group] = statFields(id) ?? [];
    return Number(group) === groupId && state !== "Z" && state !== "X";
  });
}

export function isRunning(id: number): boolean {
  const [state] = statFields(id) ?? ["X"];
  return state !== "Z" && state !== "X";
}

/** The leader and all below it, as far as they are looked at. */
export function descendants(leaderId: number): number[] {
  const found = [leaderId];
  for (let at = 0; at < found.length && found.length < PROCESSES_MAX; at++) {
    const id = found[at]!;
    const children = readText(`/proc/${id}/task/${id}/children`) ?? "";
    found.push(...children.split(" ").filter(Boolean).map(Number));
  }
  return found.slice(0, PROCESSES_MAX);
}

function processUsage(id: number): Usage | null {
  const fields = statFields(id);
  const status = readText(`/proc/${id}/status`);
  if (fields === null || status === null) return null;
  // utime, stime, cutime, cstime are fields 14–17 of the line, hence 11–14 here.
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
  return { cpuMs: ticks * MS_PER_TICK, memoryBytes: kib("VmRSS") * 1024, peakBytes: kib("VmHWM") * 1024 };
}

/** From the third on: the second is the program's name in parentheses and may hold anything. Null: there is no such process. */
function statFields(id: number): string[] | null {
  const line = readText(`/proc/${id}/stat`);
  return line === null ? null : line.slice(line.lastIndexOf(")") + 2).split(" ");
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

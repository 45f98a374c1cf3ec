// What a process and its descendants use, from Linux's /proc. In: the id of the leader. Out: CPU, memory, peak; null elsewhere.
// CPU includes children that have ended (the kernel adds them to their parent when it waits for them).
import { readFile, writeFile } from "node:fs/promises";
import type { Usage } from "./driver.ts";

/** USER_HZ: fixed at 100 in Linux's interface on every architecture that Node runs on. */
const MS_PER_TICK = 10;
/** A fork bomb must not make the agent read for ever. */
const PROCESSES_MAX = 256;

export async function groupUsage(leaderId: number): Promise<Usage | null> {
  const parts = await Promise.all((await descendants(leaderId)).map(processUsage));
  const known = parts.filter((part) => part !== null);
  if (known.length === 0) return null;
  return known.reduce((sum, part) => ({
    cpuMs: sum.cpuMs + part.cpuMs,
    memoryBytes: sum.memoryBytes + part.memoryBytes,
    peakBytes: sum.peakBytes + part.peakBytes,
  }));
}

/** From here on the kernel's peak of each process is of what comes; where it may not be reset it stays that of its life. */
export async function resetGroupPeak(leaderId: number): Promise<void> {
  const reset = (await descendants(leaderId)).map((id) => writeFile(`/proc/${id}/clear_refs`, "5").catch(() => {}));
  await Promise.all(reset);
}

async function descendants(leaderId: number): Promise<number[]> {
  const found = [leaderId];
  for (let at = 0; at < found.length && found.length < PROCESSES_MAX; at++) {
    const id = found[at]!;
    const children = await readFile(`/proc/${id}/task/${id}/children`, "utf8").catch(() => "");
    found.push(...children.split(" ").filter(Boolean).map(Number));
  }
  return found.slice(0, PROCESSES_MAX);
}

async function processUsage(id: number): Promise<Usage | null> {
  try {
    const [statLine, status] = await Promise.all([
      readFile(`/proc/${id}/stat`, "utf8"),
      readFile(`/proc/${id}/status`, "utf8"),
    ]);
    // The second field is the program's name in parentheses and may hold anything; fields count from after it.
    const fields = statLine.slice(statLine.lastIndexOf(")") + 2).split(" ");
    // utime, stime, cutime, cstime are fields 14–17 of the line, hence 11–14 here.
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
    return { cpuMs: ticks * MS_PER_TICK, memoryBytes: kib("VmRSS") * 1024, peakBytes: kib("VmHWM") * 1024 };
  } catch {
    return null;
  }
}

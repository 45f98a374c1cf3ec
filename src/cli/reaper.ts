// Ends process groups whose parent died without doing so. In, on standard input: lines `+pid` and `-pid`. When the input
// closes, the groups still listed get SIGTERM, and SIGKILL after a grace. Started by process-group.ts in its own session.
import { createInterface } from "node:readline";

/** Shorter than an orderly stop's: nobody waits for reports any more. */
const REAP_GRACE_MS = 2_000;

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(-pid, name);
  } catch {
    // Gone already.
  }
}

const groups = new Set<number>();
for await (const line of createInterface({ input: process.stdin })) {
  const pid = Number(line.slice(1));
  if (!Number.isInteger(pid) || pid <= 1) continue;
  if (line.startsWith("+")) groups.add(pid);
  else groups.delete(pid);
}
for (const pid of groups) signal(pid, "SIGTERM");
if (groups.size > 0) {
  await new Promise((resolve) => setTimeout(resolve, REAP_GRACE_MS));
  for (const pid of groups) signal(pid, "SIGKILL");
}

// Who goes first on this VM's cores. In: the leader of a program's process group. Out: its processes step back behind those that users wait
// for, or come forward again. What a command starts ahead of time would else slow down the very call that it was planned for.
// Linux weighs processes by their niceness; where it groups them by session first (sched_autogroup; each program has a session of its own),
// by the niceness of the group. Which of the two counts depends on the machine's cgroups, so both are set.
// Stepping back is always allowed and coming forward is not: done only where this agent may do both, hence as root or with CAP_SYS_NICE.
import { readdirSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { descendants } from "./proc.ts";

/**
 * A third of the weight of what users wait for. Beside four starts ahead a user's own start then took 1.06 of what it takes alone, without it
 * 1.5; ten steps would be no better for it, and start nothing ahead on a machine that is busy with other things.
 */
const STEPS_BACK = 5;
const NICENESS_MAX = 19;
const GROUP_TRIES_MAX = 20;
const GROUP_RETRY_MS = 110;

let isAllowed: boolean | null = null;

/** Whether this agent may let programs come forward again. */
export function canStepBack(): boolean {
  isAllowed ??= process.platform === "linux" && mayComeForward();
  return isAllowed;
}

export function stepBack(leaderId: number): void {
  setAll(leaderId, Math.min(NICENESS_MAX, getPriority() + STEPS_BACK), STEPS_BACK);
}

/** As any other program of this agent. */
export function comeForward(leaderId: number): void {
  setAll(leaderId, getPriority(), 0);
}

function setAll(leaderId: number, niceness: number, groupNiceness: number): void {
  setGroup(leaderId, groupNiceness, GROUP_TRIES_MAX);
  for (const id of descendants(leaderId)) {
    // To Linux a niceness is a thread's; new ones have that of the one that makes them.
    attempt(() => {
      for (const thread of readdirSync(`/proc/${id}/task`)) setPriority(Number(thread), niceness);
    });
  }
}

/** Without CAP_SYS_ADMIN the kernel takes ten of these a second, of all programs together. */
function setGroup(leaderId: number, niceness: number, triesLeft: number): void {
  try {
    writeFileSync(`/proc/${leaderId}/autogroup`, String(niceness));
  } catch (error) {
    const isBusy = (error as NodeJS.ErrnoException).code === "EAGAIN";
    // Stepping back can be done without; a program that cannot come forward would stay behind for good.
    if (!isBusy || triesLeft === 0 || niceness > 0) return;
    setTimeout(() => setGroup(leaderId, niceness, triesLeft - 1), GROUP_RETRY_MS).unref();
  }
}

function mayComeForward(): boolean {
  const own = getPriority();
  try {
    setPriority(own - 1);
    setPriority(own);
    return true;
  } catch {
    return false;
  }
}

/** The process may be gone, or the kernel have no such file: then there is nothing to set. */
function attempt(work: () => void): void {
  try {
    work();
  } catch {}
}

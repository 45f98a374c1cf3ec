// Progress of long work, on standard error: every two seconds at most, so that short work says nothing.

/** How often progress is told, ms. */
const PROGRESS_MS = 2_000;

/** Of one piece of work. What it returns is called as often as one likes; the text is only made when it is told. */
export function progressTeller(): (text: () => string) => void {
  let toldMs = performance.now();
  return (text) => {
    const nowMs = performance.now();
    if (nowMs - toldMs < PROGRESS_MS) return;
    toldMs = nowMs;
    process.stderr.write(`${text()}\n`);
  };
}

// When a hub tells Fleet of itself. After a change within a second, so that a busy hub makes one call a second; at once where it
// is waited for, but a cluster whose agents all join together tells of many with one summary.

/** Summaries to Fleet, ms. */
const SUMMARY_EVERY_MS = 1_000;
/** Agents that join within it are told of together, ms. */
const JOIN_GATHER_MS = 100;

export class FleetLink {
  readonly #summarise: () => Promise<void>;
  readonly #background: Pick<DurableObjectState, "waitUntil">;
  #summarisedMs = 0;
  #soon: Promise<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(background: Pick<DurableObjectState, "waitUntil">, summarise: () => Promise<void>) {
    this.#background = background;
    this.#summarise = summarise;
  }

  /** Something changed. */
  within(nowMs: number): void {
    this.#timer ??= setTimeout(
      () => {
        this.#timer = null;
        this.#background.waitUntil(this.#now());
      },
      Math.max(0, this.#summarisedMs + SUMMARY_EVERY_MS - nowMs),
    );
  }

  soon(): Promise<void> {
    const waitMs = this.#summarisedMs + JOIN_GATHER_MS - Date.now();
    if (waitMs <= 0) return this.#now();
    this.#soon ??= new Promise<void>((resolve) => setTimeout(resolve, waitMs)).then(() => {
      this.#soon = null;
      return this.#now();
    });
    return this.#soon;
  }

  /** Fleet being down costs freshness only; the next change tries again. */
  async #now(): Promise<void> {
    this.#summarisedMs = Date.now();
    try {
      await this.#summarise();
    } catch (error) {
      console.warn(`summary to Fleet failed: ${error}`);
    }
  }
}

// When runtimes became idle after a call, for the next heartbeat: the hub learns from it how long they are worth holding. What a
// heartbeat that got lost would have told is lost with it; the hub learns from the next.

/** Told with one heartbeat (protocol.ts Heartbeat). Of more the newest tell enough. */
const NOTES_MAX = 1_000;

export class IdleNotes {
  #notes: { task: string; atMs: number }[] = [];

  /** `atMs` on the hub's clock. */
  note(task: string, atMs: number): void {
    this.#notes.push({ task, atMs });
    if (this.#notes.length > 2 * NOTES_MAX) this.#notes = this.#notes.slice(-NOTES_MAX);
  }

  /** Those since the last call, oldest first. */
  take(): { task: string; atMs: number }[] {
    const notes = this.#notes.slice(-NOTES_MAX);
    this.#notes = [];
    return notes;
  }
}

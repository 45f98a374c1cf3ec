// The one alarm that a Durable Object has. In: instants at which something will be due. Out: an alarm for the earliest of them.
// An alarm that comes too early only looks and sets the next one; so it is moved only when it would be too late.

export class HubAlarm {
  readonly #storage: DurableObjectStorage;
  #atMs: number | null = null;

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage;
  }

  by(dueMs: number): void {
    if (dueMs === Number.POSITIVE_INFINITY || (this.#atMs !== null && this.#atMs <= dueMs)) return;
    this.#atMs = dueMs;
    // Not awaited: the output gate holds every answer until it is stored.
    void this.#storage.setAlarm(dueMs);
  }

  fired(): void {
    this.#atMs = null;
  }
}

// The cache of objects on this VM. In: URIs. Out: a pinned file with the whole, verified object, or a failure by reason.
//
// Content-addressed by `cacache` (equal bytes are stored once). A download goes to a file of its own under `incoming`, is
// hashed while it is written, checked for length and checksums, and only then renamed into the store and indexed: a reader
// sees a whole object or none. (cacache's own write stream leaves its temporary file and descriptor behind when a download
// breaks off, which downloads do.) At most one download per URI runs: whoever comes later joins it, and a task that joins a
// prefetch turns it into its own load. Bounded in bytes (space.ts): what cannot be kept is refused before a byte is asked for.
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { forget, isIntact, newEntry, publishContent, readIndex } from "./cache-index.ts";
import { type CacheEntry, type Newcomer, TASK_LOAD } from "./eviction.ts";
import { type Fetcher, fetchError, type Source } from "./fetchers/source.ts";
import { Flight, NOT_WANTED, type Settled } from "./flight.ts";
import { type LoadAnswer, type ObjectStore, Refused, type Want } from "./object-store.ts";
import { receive } from "./receive.ts";
import { diskFailure, type Room, Space, type SpaceOptions } from "./space.ts";
import type { Transfers } from "./transfer.ts";

export interface CacheOptions extends SpaceOptions {
  fetcher: Fetcher;
  transfers: Transfers;
  nowMs: () => number;
}

/** Reasons that say nothing of the object itself. */
const STORE_AWAY: ReadonlySet<string> = new Set(["unreachable", "stalled", "broken", "store_error"]);
/** Assumed until loads have been measured; only orders evictions. */
const RATE_BYTES_PER_MS_FIRST = 10_000;
const RATE_SMOOTHING = 0.2;

export class ObjectCache implements ObjectStore {
  readonly #options: CacheOptions;
  readonly #entries = new Map<string, CacheEntry>();
  readonly #flights = new Map<string, Flight>();
  /** Contents being put in place: an equal one that is evicted meanwhile must not take the file with it. */
  readonly #publishing = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #space: Space;
  #incoming = 0;
  #rateBytesPerMs = RATE_BYTES_PER_MS_FIRST;
  /** Told after an object has left the cache. */
  onEvict: (uri: string, bytes: number) => void = () => {};
  readonly totals = { loads: 0, loadedBytes: 0, failures: 0, evictions: 0, hits: 0 };

  private constructor(options: CacheOptions) {
    this.#options = options;
    this.#space = new Space(options, {
      entries: () => [...this.#entries.values()],
      remove: (entry) => this.#remove(entry),
      displace: (before) => this.#displace(before),
      nowMs: options.nowMs,
    });
  }

  /** Takes over what an earlier process has left; broken downloads are removed. */
  static async open(options: CacheOptions): Promise<ObjectCache> {
    const cache = new ObjectCache(options);
    await rm(join(options.folder, "incoming"), { recursive: true, force: true });
    await mkdir(join(options.folder, "incoming"), { recursive: true });
    for (const entry of await readIndex(options.folder, options.nowMs())) cache.#insert(entry);
    await cache.#space.makeRoom(TASK_LOAD);
    return cache;
  }

  bytes(): number {
    return this.#space.storedBytes;
  }

  maxBytes(): number {
    return this.#options.maxBytes;
  }

  /** Here, and its store lets it be used without being asked. */
  has(uri: string): boolean {
    const entry = this.#entries.get(uri);
    return entry !== undefined && entry.freshUntilMs > this.#options.nowMs();
  }

  /** Most recently used first, at most `max`. */
  uris(max: number): string[] {
    return [...this.#entries.keys()].slice(-max).reverse();
  }

  async load(uri: string, want: Want): Promise<LoadAnswer> {
    const beganMs = this.#options.nowMs();
    const cached = await this.#pinned(uri);
    if (cached !== null && cached.freshUntilMs > beganMs) {
      this.totals.hits++;
      // It was there: what looking at it took is no wait for the store.
      return this.#answer(cached, want, "cached", 0);
    }
    if (this.#stopping.signal.aborted) {
      if (cached !== null) this.#unpin(cached);
      return { ok: false, uri, reason: "stopped", detail: "the agent stops", waitedMs: 0 };
    }
    let flight = this.#flights.get(uri);
    const joined = flight !== undefined;
    flight ??= this.#begin(uri, want, cached);
    const settled = await this.#board(flight, want);
    const waitedMs = this.#options.nowMs() - beganMs;
    // Asked again and unchanged, or kept because its store cannot be asked.
    const same = settled.ok && settled.entry === cached;
    if (cached !== null) this.#unpin(cached);
    if (settled.ok) return this.#answer(settled.entry, want, same ? "cached" : joined ? "joined" : "loaded", waitedMs);
    // What a prefetch may not throw out, a task's own load may; and one that was given up need not be.
    const isPrefetchs = settled.reason === "cache_full" || settled.reason === "expired";
    if (joined && want.by === "task" && isPrefetchs) return this.load(uri, want);
    return { ...settled, uri, waitedMs };
  }

  /** `busy` where it is in use, `absent` where it is not here. */
  async evict(uri: string): Promise<"evicted" | "busy" | "absent"> {
    const entry = this.#entries.get(uri);
    if (entry === undefined) return "absent";
    if (entry.pins > 0) return "busy";
    await this.#remove(entry);
    return "evicted";
  }

  /** The command that wanted it no longer does: its worth is that of any other object again. */
  dropHold(uri: string): void {
    const entry = this.#entries.get(uri);
    if (entry !== undefined) entry.hold = null;
  }

  /** Ends downloads; resolves when their files are gone. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([...this.#flights.values()].map((flight) => flight.done));
  }

  /** The whole entry, pinned, if it is here. */
  async #pinned(uri: string): Promise<CacheEntry | null> {
    const entry = this.#entries.get(uri);
    if (entry === undefined) return null;
    entry.pins++;
    if (await isIntact(this.#options.folder, entry)) return entry;
    this.#unpin(entry);
    if (entry.pins === 0) await this.#remove(entry);
    return null;
  }

  #unpin(entry: CacheEntry): void {
    entry.pins--;
    if (entry.orphaned && entry.pins === 0) void this.#dropContent(entry);
  }

  /** Waits for a download; the entry that comes of it is pinned for the caller. */
  async #board(flight: Flight, want: Want): Promise<Settled> {
    const { transfers } = this.#options;
    flight.join(want);
    if (want.by === "task") transfers.taskLoadBegins();
    flight.waiting++;
    const settled = await flight.done;
    flight.waiting--;
    if (want.by === "task") transfers.taskLoadEnds();
    if (settled.ok) {
      settled.entry.pins++;
      if (flight.waiting === 0) settled.entry.pins--;
    }
    return settled;
  }

  #begin(uri: string, want: Want, stale: CacheEntry | null): Flight {
    const flight = new Flight(want, this.#stopping.signal, this.#options.nowMs);
    flight.done = this.#download(uri, want, flight, stale).finally(() => {
      flight.close();
      this.#flights.delete(uri);
    });
    this.#flights.set(uri, flight);
    return flight;
  }

  /** The caller has pinned the entry; the answer takes that pin over. */
  #answer(entry: CacheEntry, want: Want, how: "cached" | "joined" | "loaded", waitedMs: number): LoadAnswer {
    entry.lastUsedMs = this.#options.nowMs();
    if (this.#entries.get(entry.uri) === entry) {
      // The map's order is that of use: a heartbeat tells the newest without sorting them all.
      this.#entries.delete(entry.uri);
      this.#entries.set(entry.uri, entry);
    }
    if (want.by === "task") entry.uses++;
    // What a start needs is pinned by its runtime, and needs no hold.
    if (want.by === "prefetch" && (entry.hold === null || entry.hold.untilMs < want.holdUntilMs)) {
      entry.hold = { probability: want.probability, untilMs: want.holdUntilMs };
    }
    let released = false;
    const release = () => {
      if (released) throw new Error("an object was released twice");
      released = true;
      this.#unpin(entry);
    };
    const { uri, path, bytes, loadMs } = entry;
    return { ok: true, uri, path, bytes, how, waitedMs, loadMs, release };
  }

  async #download(uri: string, want: Want, flight: Flight, stale: CacheEntry | null): Promise<Settled> {
    const { transfers, fetcher } = this.#options;
    const limited = want.by === "prefetch";
    if (limited) await transfers.prefetchBegins(flight.free, want.neededMs);
    const told = limited && want.bytes !== null ? want.bytes : 0;
    const room = { bytes: 0, expectedBytes: Math.max(told, stale?.bytes ?? 0), before: stale };
    try {
      flight.mustGoOn();
      // Each time: whoever cleans a disk while the agent runs takes the folders along.
      await mkdir(join(this.#options.folder, "incoming"), { recursive: true }).catch((error: unknown) => {
        throw diskFailure(error);
      });
      // Looked at before the store is asked, and once it has answered; nothing is thrown out before its first byte has come.
      await this.#space.mustFit(room, told, this.#newcomer(want, told));
      const beganMs = this.#options.nowMs();
      const source = await fetcher.open(uri, flight.ending, stale?.etag);
      if (source === "unchanged") return { ok: true, entry: this.#refreshed(stale!) };
      if (source.bytes === 0) throw new Refused("empty", "the store sent an object of 0 bytes");
      if (source.bytes !== null) {
        room.expectedBytes = source.bytes;
        await this.#space.mustFit(room, source.bytes, this.#newcomer(want, source.bytes));
      }
      const entry = await this.#store(uri, source, want, flight, room, beganMs);
      this.totals.loads++;
      this.totals.loadedBytes += entry.bytes;
      return { ok: true, entry };
    } catch (error) {
      this.totals.failures++;
      if (this.#stopping.signal.aborted) return { ok: false, reason: "stopped", detail: "the agent stops" };
      if (flight.ending.aborted) return { ok: false, reason: "expired", detail: NOT_WANTED };
      const known = error instanceof Refused ? error : fetchError(error);
      // Old bytes serve better than none, unless the store says that there are none.
      if (stale !== null && STORE_AWAY.has(known.reason)) return { ok: true, entry: this.#refreshed(stale) };
      return { ok: false, reason: known.reason, detail: known.message };
    } finally {
      this.#space.release(room);
      if (limited) transfers.prefetchEnds();
    }
  }

  /** Good for as long again as its store had said. */
  #refreshed(entry: CacheEntry): CacheEntry {
    entry.freshUntilMs = this.#options.nowMs() + (entry.freshForMs ?? Number.POSITIVE_INFINITY);
    entry.pins++;
    return entry;
  }

  async #store(
    uri: string,
    source: Source,
    want: Want,
    flight: Flight,
    room: Room,
    beganMs: number,
  ): Promise<CacheEntry> {
    const { folder, transfers, maxBytes } = this.#options;
    const incoming = join(folder, "incoming", `${process.pid}-${this.#incoming++}`);
    let writtenBytes = 0;
    try {
      const { bytes, sha256, heldMs } = await receive(source, incoming, {
        hold: async (count) => {
          const heldMs = want.by === "prefetch" ? await transfers.hold(count, flight.free) : 0;
          // A file's bytes come whether they are wanted or not.
          flight.mustGoOn();
          return heldMs;
        },
        bytesMax: maxBytes,
        roomBytes: () => room.bytes,
        reserve: (roomBytes, knownBytes) => this.#space.reserve(room, roomBytes, this.#newcomer(want, knownBytes)),
        onWritten: (count) => {
          writtenBytes += count;
          this.#space.writtenBytes += count;
        },
      });
      const loadMs = Math.max(0, this.#options.nowMs() - beganMs - heldMs);
      return await this.#publish(uri, source, incoming, `sha256-${sha256}`, bytes, loadMs, room);
    } finally {
      this.#space.writtenBytes -= writtenBytes;
      await rm(incoming, { force: true });
    }
  }

  async #publish(
    uri: string,
    source: Source,
    incoming: string,
    integrity: string,
    bytes: number,
    loadMs: number,
    room: Room,
  ): Promise<CacheEntry> {
    const { folder, nowMs } = this.#options;
    const { etag, freshForMs } = source;
    const freshUntilMs = freshForMs === null ? null : nowMs() + freshForMs;
    const kept = { loadMs, etag, freshForMs, freshUntilMs };
    this.#publishing.add(integrity);
    const path = await publishContent(folder, uri, incoming, integrity, bytes, kept).catch((error: unknown) => {
      this.#publishing.delete(integrity);
      throw diskFailure(error);
    });
    this.#rateBytesPerMs += RATE_SMOOTHING * (bytes / Math.max(1, loadMs) - this.#rateBytesPerMs);
    const entry = {
      ...newEntry({ uri, integrity, path, bytes, ...kept, lastUsedMs: nowMs() }),
      pins: 1,
      verified: true,
    };
    this.#insert(entry);
    this.#publishing.delete(integrity);
    // Its bytes count as stored from here on.
    this.#space.release(room);
    return entry;
  }

  #displace(before: CacheEntry): boolean {
    if (this.#entries.get(before.uri) !== before) return false;
    this.#entries.delete(before.uri);
    this.#space.storedBytes -= before.bytes;
    before.orphaned = true;
    return true;
  }

  #newcomer(want: Want, bytes: number): Newcomer {
    if (want.by === "task") return TASK_LOAD;
    const { probability } = want;
    return { probability, worthMs: probability * (bytes / this.#rateBytesPerMs) };
  }

  #insert(entry: CacheEntry): void {
    const before = this.#entries.get(entry.uri);
    this.#entries.set(entry.uri, entry);
    this.#space.storedBytes += entry.bytes;
    if (before === undefined) return;
    this.#space.storedBytes -= before.bytes;
    entry.hold = before.hold;
    entry.uses = before.uses;
    // Whoever reads the old version keeps its file until done.
    before.orphaned = true;
    if (before.pins === 0) void this.#dropContent(before);
  }

  async #remove(entry: CacheEntry): Promise<void> {
    if (this.#entries.get(entry.uri) !== entry) return;
    this.#entries.delete(entry.uri);
    this.#space.storedBytes -= entry.bytes;
    this.totals.evictions++;
    // As content: what cannot be removed now is removed when the cache is opened again.
    await forget(this.#options.folder, entry.uri).catch(() => {});
    await this.#dropContent(entry);
    this.onEvict(entry.uri, entry.bytes);
  }

  /** Unless another name has the same bytes. */
  async #dropContent(entry: CacheEntry): Promise<void> {
    const shared =
      this.#publishing.has(entry.integrity) ||
      [...this.#entries.values()].some((other) => other.integrity === entry.integrity);
    // What cannot be removed now is found, and removed, when the cache is opened again.
    if (!shared) await rm(entry.path, { force: true }).catch(() => {});
  }
}

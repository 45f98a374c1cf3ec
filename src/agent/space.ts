// How many bytes the cache and its downloads take together. In: downloads that want room, as their bytes come. Out: room, made by
// removing what is worth less, or a refusal with its reason. Never more than the bound, never the disk's last bytes.
//
// A store that tells a length has to send as much: room is promised when it answers, and made when the first byte is here. A body
// whose length nobody tells may never end, and would throw out everything before it is too large: all of those together throw out
// no more than `unknownLengthBytesMax`. What is free they may take.
import { statfs } from "node:fs/promises";
import { type CacheEntry, chooseVictims, type Newcomer } from "./eviction.ts";
import { Refused } from "./object-store.ts";

export interface SpaceOptions {
  folder: string;
  maxBytes: number;
  /** Left free on the disk, whatever `maxBytes` says. */
  diskFreeBytesMin: number;
  /** Default: a quarter of the cache. */
  unknownLengthBytesMax?: number | undefined;
}

/** What may leave for it, as the cache knows. */
interface Tenants {
  entries(): CacheEntry[];
  remove(entry: CacheEntry): Promise<void>;
  /** Takes an object's older version out of the cache, though it may still be read; false where it has left already. */
  displace(before: CacheEntry): boolean;
  nowMs(): number;
}

const UNKNOWN_LENGTH_SHARE = 0.25;

/** Of one download, so far. */
export interface Room {
  bytes: number;
  /** Told by the store, by the command, or known of the object's older version; beyond it lengths are unknown. */
  expectedBytes: number;
  /** The object's older version that is here. */
  before: CacheEntry | null;
}

export class Space {
  readonly #options: SpaceOptions;
  readonly #tenants: Tenants;
  readonly #unknownLengthBytesMax: number;
  /** Of whole objects. */
  storedBytes = 0;
  /** Room of downloads that are not stored yet, the part of it that nobody has told a length for, and what is on the disk already. */
  #reservedBytes = 0;
  #unknownBytes = 0;
  writtenBytes = 0;

  constructor(options: SpaceOptions, tenants: Tenants) {
    this.#options = options;
    this.#tenants = tenants;
    this.#unknownLengthBytesMax = options.unknownLengthBytesMax ?? options.maxBytes * UNKNOWN_LENGTH_SHARE;
  }

  /** Throws where an object of `bytes` could not be kept. Changes nothing. */
  async mustFit(room: Room, bytes: number, newcomer: Newcomer): Promise<void> {
    const more = bytes - room.bytes;
    try {
      await this.#mustHold(bytes, more, newcomer);
    } catch (error) {
      if (!isFull(error) || room.before === null) throw error;
      await this.#mustHold(bytes, more - room.before.bytes, newcomer);
    }
  }

  /** Raises a download's room to `bytes`, removing what is worth less; throws where there is none. */
  async reserve(room: Room, bytes: number, newcomer: Newcomer): Promise<void> {
    const more = bytes - room.bytes;
    if (more <= 0) return;
    const unknownBytes = unknownOf(room, bytes) - unknownOf(room, room.bytes);
    if (unknownBytes > 0 && this.#overBytes(more) > 0) this.#mustBeFew(this.#unknownBytes + unknownBytes);
    try {
      await this.#mustHold(bytes, more, newcomer);
    } catch (error) {
      // No room for an object's old bytes and its new ones: the old ones go, when whoever reads them is done.
      if (!isFull(error) || room.before === null || !this.#tenants.displace(room.before)) throw error;
      await this.#mustHold(bytes, more, newcomer);
    }
    this.#reservedBytes += more;
    this.#unknownBytes += unknownBytes;
    room.bytes += more;
    // Another download may have taken room while this one looked: only now is it certain.
    await this.makeRoom(newcomer);
  }

  /** The download is stored, or has ended without. */
  release(room: Room): void {
    this.#reservedBytes -= room.bytes;
    this.#unknownBytes -= unknownOf(room, room.bytes);
    room.bytes = 0;
  }

  async makeRoom(newcomer: Newcomer): Promise<void> {
    await Promise.all(this.#victims(0, newcomer).map((entry) => this.#tenants.remove(entry)));
  }

  async #mustHold(bytes: number, more: number, newcomer: Newcomer): Promise<void> {
    const { maxBytes, diskFreeBytesMin, folder } = this.#options;
    if (bytes > maxBytes) throw new Refused("too_large", `${bytes} bytes, but the cache holds ${maxBytes}`);
    this.#victims(more, newcomer);
    const disk = await statfs(folder).catch((error: unknown) => {
      throw diskFailure(error);
    });
    const freeBytes = disk.bavail * disk.bsize;
    const pendingBytes = this.#reservedBytes + more - this.writtenBytes;
    if (freeBytes - pendingBytes >= diskFreeBytesMin) return;
    throw new Refused("disk_full", `${bytes} bytes, but the disk has too little left (${freeBytes} bytes)`);
  }

  #mustBeFew(unknownBytes: number): void {
    const maxBytes = this.#unknownLengthBytesMax;
    if (unknownBytes <= maxBytes) return;
    const detail = `more than ${maxBytes} bytes, and the store tells no length (cache.unknownLengthBytesMax)`;
    throw new Refused("too_large", detail);
  }

  #overBytes(more: number): number {
    return this.storedBytes + this.#reservedBytes + more - this.#options.maxBytes;
  }

  /** What has to leave for `more` bytes; throws where that cannot be. */
  #victims(more: number, newcomer: Newcomer): CacheEntry[] {
    const overBytes = this.#overBytes(more);
    if (overBytes <= 0) return [];
    const victims = chooseVictims(this.#tenants.entries(), overBytes, newcomer, this.#tenants.nowMs());
    if (victims === null) throw new Refused("cache_full", "no room: what fills the cache is in use or worth more");
    return victims;
  }
}

function unknownOf(room: Room, bytes: number): number {
  return Math.max(0, bytes - room.expectedBytes);
}

function isFull(error: unknown): boolean {
  return error instanceof Refused && error.reason === "cache_full";
}

/** No space, no quota, a process's limit of a file's size. */
const FULL_CODES: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

export function diskFailure(error: unknown): Refused {
  const { code, message } = error as NodeJS.ErrnoException;
  if (FULL_CODES.has(code)) return new Refused("disk_full", `no space left for the cache's folder: ${message}`);
  return new Refused("disk_failed", `the cache's folder cannot be written: ${message}`);
}

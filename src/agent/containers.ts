// The VM's container engine, through Docker's API (Docker, or podman's compatible socket): images as objects `oci://registry/repository:tag`,
// and what an earlier agent of this VM has left behind. In: URIs. Out: images that the engine holds. The engine stores and verifies
// them (they are content-addressed there as well); counted here are only loads, waits and uses.
import type Docker from "dockerode";
import type { ObjectsConfig } from "./config.ts";
import { FetchError } from "./fetchers/source.ts";
import { checkUri } from "./guard.ts";
import type { LoadAnswer, ObjectStore, Want } from "./object-store.ts";

/** On every container, so that the next agent of this VM finds those that a killed one has left. */
export const OWNER_LABEL = "dev.forechain.agent";

export interface Gateway {
  name: string;
  /** For the container's HostConfig. */
  extraHosts: string[];
}

function isImage(uri: string): boolean {
  return uri.startsWith("oci://");
}

export function imageUri(image: string): string {
  return isImage(image) ? image : `oci://${image}`;
}

export class Containers implements ObjectStore {
  readonly engine: Docker;
  readonly owner: string;
  readonly #objects: ObjectsConfig;
  readonly #nowMs: () => number;
  readonly #known = new Map<string, { bytes: number; loadMs: number }>();
  #gateway: Gateway | null = null;
  readonly #pulls = new Map<string, Promise<{ bytes: number; loadMs: number }>>();

  private constructor(engine: Docker, owner: string, objects: ObjectsConfig, nowMs: () => number) {
    this.engine = engine;
    this.owner = owner;
    this.#objects = objects;
    this.#nowMs = nowMs;
  }

  /** Connects to nothing yet. The client is large: loaded here, and not by agents without containers. */
  static async open(
    socketPath: string,
    owner: string,
    objects: ObjectsConfig,
    nowMs: () => number,
  ): Promise<Containers> {
    const { default: Client } = await import("dockerode");
    return new Containers(new Client({ socketPath }), owner, objects, nowMs);
  }

  /**
   * How a container with a network of its own finds this VM. Docker fills in a name that is asked for; podman has one of its own, and
   * before 4.7 writes the asked one wrongly.
   */
  async gateway(): Promise<Gateway> {
    if (this.#gateway === null) {
      const { Components } = await this.engine.version();
      const isPodman = Components?.some(({ Name }) => Name.startsWith("Podman")) ?? false;
      this.#gateway = isPodman
        ? { name: "host.containers.internal", extraHosts: [] }
        : { name: "host.docker.internal", extraHosts: ["host.docker.internal:host-gateway"] };
    }
    return this.#gateway;
  }

  has(uri: string): boolean {
    return this.#known.has(uri);
  }

  uris(): string[] {
    return [...this.#known.keys()];
  }

  dropHold(): void {
    // The engine keeps what it has; nothing here decides on it.
  }

  async load(uri: string, want: Want): Promise<LoadAnswer> {
    const beganMs = this.#nowMs();
    const checked = checkUri(uri, this.#objects);
    // The image of a task is the operator's own choice; what a command names has to be allowed.
    if (!checked.ok && !(want.by !== "prefetch" && want.configured)) return { ...checked, uri, waitedMs: 0 };
    try {
      const running = this.#pulls.get(uri);
      const found = running === undefined ? await this.#find(uri) : null;
      if (found !== null) return this.#answer(uri, "cached", found, 0);
      const pulled = await (running ?? this.#pull(uri));
      return this.#answer(uri, running === undefined ? "loaded" : "joined", pulled, this.#nowMs() - beganMs);
    } catch (error) {
      const failure = pullFailure(error);
      return { ok: false, uri, reason: failure.reason, detail: failure.message, waitedMs: this.#nowMs() - beganMs };
    }
  }

  async evict(uri: string): Promise<"evicted" | "busy" | "absent"> {
    try {
      await this.engine.getImage(referenceOf(uri)).remove();
      this.#known.delete(uri);
      return "evicted";
    } catch (error) {
      if (statusOf(error) === 404) return "absent";
      // In use by a container, also one that is not ours.
      if (statusOf(error) === 409) return "busy";
      throw error;
    }
  }

  /** Containers of an agent of this VM that was killed: nobody will end them. */
  async removeLeftovers(): Promise<{ ok: true; count: number } | { ok: false; detail: string }> {
    const filters = { label: [`${OWNER_LABEL}=${this.owner}`] };
    try {
      const left = await this.engine.listContainers({ all: true, filters });
      await Promise.all(left.map(({ Id }) => this.engine.getContainer(Id).remove({ force: true })));
      return { ok: true, count: left.length };
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      return { ok: false, detail: error.message };
    }
  }

  #answer(
    uri: string,
    how: "cached" | "joined" | "loaded",
    { bytes, loadMs }: { bytes: number; loadMs: number },
    waitedMs: number,
  ): LoadAnswer {
    // The engine refuses to remove an image that a container uses: no pin is needed.
    return { ok: true, uri, path: "", bytes, how, waitedMs, loadMs, release: () => {} };
  }

  async #find(uri: string): Promise<{ bytes: number; loadMs: number } | null> {
    try {
      const { Size } = await this.engine.getImage(referenceOf(uri)).inspect();
      const known = { bytes: Size, loadMs: this.#known.get(uri)?.loadMs ?? 0 };
      this.#known.set(uri, known);
      return known;
    } catch (error) {
      this.#known.delete(uri);
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }

  #pull(uri: string): Promise<{ bytes: number; loadMs: number }> {
    const pull = this.#pullNow(uri).finally(() => this.#pulls.delete(uri));
    this.#pulls.set(uri, pull);
    return pull;
  }

  async #pullNow(uri: string): Promise<{ bytes: number; loadMs: number }> {
    const beganMs = this.#nowMs();
    const progress = await this.engine.pull(referenceOf(uri));
    await new Promise<void>((resolve, reject) => {
      this.engine.modem.followProgress(progress, (error, lines: { error?: string }[]) => {
        // Docker ends the stream with an error, podman with a line that tells of one.
        const told = lines?.find((line) => line.error !== undefined)?.error;
        if (error ?? told) reject(error ?? new Error(told));
        else resolve();
      });
    });
    const found = await this.#find(uri);
    if (found === null || found.bytes === 0)
      throw new FetchError("store_error", "pulled, but the engine does not have it");
    const pulled = { bytes: found.bytes, loadMs: this.#nowMs() - beganMs };
    this.#known.set(uri, pulled);
    return pulled;
  }
}

/** Objects by scheme: images are the engine's, all others the cache's. Without an engine, images are refused. */
export function routedObjects(cache: ObjectStore, containers: Containers | null): ObjectStore {
  const storeOf = (uri: string) => (isImage(uri) && containers !== null ? containers : cache);
  return {
    has: (uri) => storeOf(uri).has(uri),
    load: (uri, want) => storeOf(uri).load(uri, want),
    evict: (uri) => storeOf(uri).evict(uri),
    dropHold: (uri) => storeOf(uri).dropHold(uri),
  };
}

function referenceOf(uri: string): string {
  const reference = uri.slice("oci://".length);
  // Docker's API pulls every tag of a name without one.
  return /[:@][^/]*$/.test(reference) ? reference : `${reference}:latest`;
}

function statusOf(error: unknown): number | undefined {
  return (error as { statusCode?: number }).statusCode;
}

/** Nothing, or nobody of that name, listens at its socket; or it went away while it was asked. */
function isEngineAway(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code !== undefined && ["ENOENT", "ECONNREFUSED", "EACCES", "ECONNRESET", "EPIPE"].includes(code);
}

function pullFailure(error: unknown): FetchError {
  if (error instanceof FetchError) return error;
  if (!(error instanceof Error)) throw error;
  const { code } = error as NodeJS.ErrnoException;
  if (isEngineAway(error)) {
    return new FetchError("unreachable", `the container engine cannot be reached (${code})`);
  }
  if (statusOf(error) === 404 || /not found|manifest unknown|no such/i.test(error.message)) {
    return new FetchError("not_found", error.message);
  }
  return new FetchError("store_error", error.message);
}

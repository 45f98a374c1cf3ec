// How near the auxiliary services are. In: the probe URLs that the hub tells. Out: smoothed latency and bandwidth by service, for
// the heartbeat. Latency = from the request to the first byte of the answer on a connection that exists; bandwidth = the
// rest of the body over its time, where it is large enough to tell.
import { Agent as HttpAgent, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { Heartbeat, HeartbeatAnswer } from "../protocol.ts";
import { guardedLookup, loopbackListed, refusedAddress } from "./guard.ts";

type Probe = NonNullable<Heartbeat["probes"]>[number];

interface ProbesOptions {
  everyMs: number;
  /** Loopback addresses that may be probed, as in `objects.hosts`. */
  hosts: readonly string[];
  services: () => HeartbeatAnswer["services"];
  nowMs: () => number;
  random?: () => number;
}

const PROBE_MS_MAX = 10_000;
/** Less says more of the machine than of the path. */
const BANDWIDTH_BYTES_MIN = 64 * 2 ** 10;
/** Enough to tell; a probe must not become the load. */
const BODY_BYTES_MAX = 2 * 2 ** 20;
/** Weight of the newest sample. */
const SMOOTHING = 0.3;
const SERVICES_MAX = 256;

export class Probes {
  readonly #options: ProbesOptions;
  readonly #known = new Map<string, Probe>();
  readonly #agents: { http: HttpAgent; https: HttpsAgent };
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(options: ProbesOptions) {
    this.#options = options;
    const lookup = guardedLookup({ schemes: [], hosts: options.hosts });
    this.#agents = {
      http: new HttpAgent({ keepAlive: true, lookup }),
      https: new HttpsAgent({ keepAlive: true, lookup }),
    };
  }

  /** Of services that are declared still. */
  list(): Probe[] {
    const declared = new Set(this.#options.services().map(({ service }) => service));
    return [...this.#known.values()].filter(({ service }) => declared.has(service)).slice(0, SERVICES_MAX);
  }

  start(): void {
    // Jittered: agents that start together must not ask together.
    const inMs = this.#options.everyMs * (0.5 + (this.#options.random ?? Math.random)());
    this.#timer = setTimeout(() => {
      void this.round().then(() => {
        if (!this.#stopped) this.start();
      });
    }, inMs);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#agents.http.destroy();
    this.#agents.https.destroy();
  }

  /** One after the other: probes must not measure each other. */
  async round(): Promise<void> {
    for (const { service, probeUrl } of this.#options.services().slice(0, SERVICES_MAX)) {
      const sample = await this.#probe(new URL(probeUrl));
      // Unreachable for now: the last measurement stands, since nothing better is known.
      if (sample !== null) this.#learn(service, sample);
    }
  }

  #learn(service: string, sample: Omit<Probe, "service">): void {
    const before = this.#known.get(service);
    const smooth = (old: number | undefined, now: number) => (old === undefined ? now : old + SMOOTHING * (now - old));
    const bandwidth =
      sample.bandwidthBytesPerSecond === undefined
        ? before?.bandwidthBytesPerSecond
        : smooth(before?.bandwidthBytesPerSecond, sample.bandwidthBytesPerSecond);
    this.#known.set(service, {
      service,
      latencyMs: smooth(before?.latencyMs, sample.latencyMs),
      ...(bandwidth === undefined ? {} : { bandwidthBytesPerSecond: bandwidth }),
    });
  }

  /** Null where it may not be, or could not be, asked. */
  #probe(url: URL): Promise<Omit<Probe, "service"> | null> {
    const literal = url.hostname.replace(/^\[|\]$/g, "");
    const loopback = loopbackListed(url.hostname, this.#options.hosts);
    if (isIP(literal) !== 0 && refusedAddress(literal, loopback) !== null) return Promise.resolve(null);
    const secure = url.protocol === "https:";
    const agent = secure ? this.#agents.https : this.#agents.http;
    const { nowMs } = this.#options;
    return new Promise((resolve) => {
      let askedMs = nowMs();
      const signal = AbortSignal.timeout(PROBE_MS_MAX);
      const request = (secure ? httpsRequest : httpRequest)(url, {
        agent,
        signal,
        headers: { "user-agent": "forechain-agent" },
      });
      request.once("socket", (socket) => {
        // The way there and back is meant, not the making of a connection that later calls share.
        socket.once(secure ? "secureConnect" : "connect", () => {
          askedMs = nowMs();
        });
      });
      request.once("error", () => resolve(null));
      request.once("response", (response) => {
        const firstMs = nowMs();
        let bytes = 0;
        const settle = () => {
          const restMs = Math.max(0.01, nowMs() - firstMs);
          resolve({
            latencyMs: firstMs - askedMs,
            ...(bytes >= BANDWIDTH_BYTES_MIN ? { bandwidthBytesPerSecond: (bytes / restMs) * 1000 } : {}),
          });
        };
        response.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes < BODY_BYTES_MAX) return;
          settle();
          response.destroy();
        });
        response.once("end", settle);
        response.once("close", () => resolve(null));
      });
      request.end();
    });
  }
}

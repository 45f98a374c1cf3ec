// Which URIs may be loaded. In: a URI, or a host name on its way to an address. Out: allowed, or a refusal with its reason.
// Checked three times, because each check sees what the others cannot: the text, the resolved address, every redirect.
import { type LookupAddress, lookup as systemLookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import ipaddr from "ipaddr.js";

interface GuardRules {
  schemes: readonly string[];
  /** `host`, `host:port` or `*.suffix`. */
  hosts: readonly string[];
  /** Of S3. */
  buckets?: readonly string[];
}

type UriAnswer = { ok: true; url: URL } | { ok: false; reason: "refused"; detail: string };

/** Cloud metadata that no range covers: Alibaba's and Azure's, and the IPv6 twins of AWS, GCP and Scaleway. */
const METADATA_ADDRESSES = new Set([
  "100.100.100.200",
  "168.63.129.16",
  "fd00:ec2::254",
  "fd20:ce::254",
  "fd00:42::42",
]);
/** Ranges (of ipaddr.js) that no object store has: link-local, nobody, everybody, tunnels that hide an address. */
const REFUSED_RANGES = new Set([
  "unspecified",
  "broadcast",
  "multicast",
  "linkLocal",
  "6to4",
  "teredo",
  "reserved",
  "amt",
  "discard",
]);
/** The last four bytes are an IPv4 address. */
const TRANSLATED_RANGES = new Set(["rfc6052", "rfc6145"]);
const LOOPBACK_NAME = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** The text of a URI against the rules; the address behind the name is checked later, by `guardedLookup`. */
export function checkUri(uri: string, rules: GuardRules): UriAnswer {
  let url: URL;
  try {
    url = new URL(uri);
  } catch {
    return refuse("not an absolute URI");
  }
  // The parser drops tabs and line ends, wherever they are: what was looked at would not be what is asked for.
  if (/\p{Cc}/u.test(uri)) return refuse("control characters in a URI");
  const scheme = url.protocol.slice(0, -1);
  if (!rules.schemes.includes(scheme)) return refuse(`scheme ${scheme} is not allowed here`);
  if (url.username !== "" || url.password !== "") return refuse("user information in a URI is not allowed");
  // The parser has resolved plain dot segments by now, so look at the text: nobody writes them in good faith.
  // A slash may be written as an escape, which some stores undo, and some cut what follows a semicolon.
  if (/(^|[/\\]|%2f|%5c)(\.|%2e){2}([/\\?#;]|%2f|%5c|$)/i.test(uri)) return refuse("`..` in a URI is not allowed");
  if (scheme === "http" || scheme === "https" || scheme === "oci") {
    if (!rules.hosts.some((pattern) => hostMatches(pattern, url)))
      return refuse(`host ${url.host} is not allowed here`);
    const literal = url.hostname.replace(/^\[|\]$/g, "");
    if (isIP(literal) !== 0) {
      const refusal = refusedAddress(literal, loopbackListed(url.hostname, rules.hosts));
      if (refusal !== null) return refuse(refusal);
    }
  }
  if (scheme === "s3") {
    if (!rules.buckets?.includes(url.hostname)) return refuse(`bucket ${url.hostname} is not allowed here`);
    if (url.pathname.length < 2) return refuse("an S3 URI without a key");
  }
  return { ok: true, url };
}

/**
 * A `lookup` for node:http that fails, before connecting, where a name leads to an address that is not allowed. What it hands out is what
 * is connected to: a name that leads elsewhere the next time it is asked for is judged again then.
 */
export function guardedLookup(rules: GuardRules, resolve: typeof systemLookup = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, "", 0);
      const loopback = loopbackListed(hostname, rules.hosts);
      for (const { address } of addresses) {
        const refusal = refusedAddress(address, loopback);
        if (refusal !== null) return callback(new AddressRefused(`${hostname} leads to ${refusal}`), "", 0);
      }
      if (options.all) return callback(null, addresses as LookupAddress[]);
      const first = addresses[0];
      if (first === undefined) return callback(new AddressRefused(`${hostname} has no address`), "", 0);
      callback(null, first.address, first.family);
    });
  };
}

export class AddressRefused extends Error {}

/** Why an address is not allowed, or null. IPv4 inside IPv6 (mapped, translated, NAT64) is judged as IPv4. */
export function refusedAddress(address: string, loopbackAllowed: boolean): string | null {
  let parsed = ipaddr.process(address);
  if (parsed.kind() === "ipv6" && TRANSLATED_RANGES.has(parsed.range())) {
    parsed = new ipaddr.IPv4(parsed.toByteArray().slice(12));
  }
  const range = parsed.range();
  if (METADATA_ADDRESSES.has(parsed.toString())) return `a metadata address (${address})`;
  if (REFUSED_RANGES.has(range)) return `a ${range} address (${address})`;
  if (range === "loopback" && !loopbackAllowed) return `a loopback address (${address}) that is not listed in hosts`;
  return null;
}

function hostMatches(pattern: string, url: URL): boolean {
  const wanted = pattern.toLowerCase();
  if (wanted.startsWith("*.")) return url.hostname.endsWith(wanted.slice(1));
  return wanted === url.hostname || wanted === url.host || wanted === `${url.hostname}:${defaultPort(url)}`;
}

function defaultPort(url: URL): string {
  return url.port !== "" ? url.port : url.protocol === "http:" ? "80" : "443";
}

/** Loopback is allowed by name only: `*.example.net` must not open it to whoever controls that zone. */
export function loopbackListed(hostname: string, hosts: readonly string[]): boolean {
  if (!LOOPBACK_NAME.test(hostname)) return false;
  return hosts.some((pattern) => pattern.replace(/:\d+$/, "").toLowerCase() === hostname);
}

function refuse(detail: string): UriAnswer {
  return { ok: false, reason: "refused", detail };
}

// One object's bytes from where it is stored. In: a URI. Out: a Source, or a FetchError by reason. The mirror is chosen, then the
// URI is checked, then its scheme decides. Nothing is written here.
import type { ObjectsConfig } from "../config.ts";
import { checkUri } from "../guard.ts";
import { openFile } from "./file.ts";
import { HttpFetcher } from "./http.ts";
import { createS3Fetcher } from "./s3.ts";
import { FetchError, type Fetcher } from "./source.ts";

export function createFetcher(config: ObjectsConfig): Fetcher {
  const http = new HttpFetcher(config);
  const s3 = createS3Fetcher(config);
  return {
    async open(uri, signal, etag = null) {
      const checked = checkUri(mirrored(uri, config.mirrors), { ...config, buckets: config.s3?.buckets ?? [] });
      if (!checked.ok) throw new FetchError("refused", checked.detail);
      const { url } = checked;
      switch (url.protocol) {
        case "file:":
          return openFile(url, config.fileRoots);
        case "s3:":
          return s3.open(url, signal, etag);
        default:
          return http.open(url, signal, etag);
      }
    },
  };
}

/** The longest start decides. What it leads to is checked like any URI. */
function mirrored(uri: string, mirrors: ObjectsConfig["mirrors"]): string {
  let longest = "";
  for (const start of Object.keys(mirrors)) if (uri.startsWith(start) && start.length > longest.length) longest = start;
  return longest === "" ? uri : mirrors[longest] + uri.slice(longest.length);
}

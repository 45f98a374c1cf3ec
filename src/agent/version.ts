// The version of this package: what agents tell their hubs, and `forechain --version`.
import { readFileSync } from "node:fs";

/** From src/ and from the package's dist/ alike. */
const PACKAGE = new URL("../../package.json", import.meta.url);

export const VERSION = (JSON.parse(readFileSync(PACKAGE, "utf8")) as { version: string }).version;

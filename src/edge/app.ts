// What every route knows of its request: the bindings, and the key that was presented.
import type { Scope } from "../protocol.ts";
import type { Env } from "./env.ts";

/** A key that was checked. `cluster` and `vm` are set on agents' keys: such a key sees its own VM only. */
export interface KeyGrant {
  keyId: string;
  workspace: string;
  scopes: Scope[];
  cluster: string | null;
  vm: string | null;
}

export interface AppEnv {
  Bindings: Env;
  Variables: { key: KeyGrant };
}

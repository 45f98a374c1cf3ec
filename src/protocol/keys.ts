// Keys and what they may do.
import { z } from "zod";
import { InstantMs, PlaceName } from "./names.ts";

/** `admin` implies all; `agent` is bound to one cluster and VM. */
export const Scope = z.enum(["admin", "operate", "ingest", "predict", "invoke", "read", "agent"]);
export type Scope = z.infer<typeof Scope>;

export const KeyRequest = z
  .strictObject({
    name: z.string().min(1).max(128),
    scopes: z.array(Scope).min(1).max(8),
    cluster: PlaceName.optional(),
    vm: PlaceName.optional(),
  })
  .refine((key) => !key.scopes.includes("agent") || (key.cluster !== undefined && key.vm !== undefined), {
    message: "an agent's key needs `cluster` and `vm`",
    path: ["vm"],
  });
export type KeyRequest = z.infer<typeof KeyRequest>;
export const KeyAnswer = z.object({ keyId: z.string(), key: z.string() });

/** GET /v1/keys: latest first, revoked ones too. */
export const KeysAnswer = z.object({
  keys: z.array(
    z.object({
      keyId: z.string(),
      name: z.string(),
      scopes: z.array(Scope),
      cluster: z.string().nullable(),
      vm: z.string().nullable(),
      createdMs: InstantMs,
      revokedMs: InstantMs.nullable(),
    }),
  ),
});
export type KeysAnswer = z.infer<typeof KeysAnswer>;

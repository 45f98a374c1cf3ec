// Errors.
import { z } from "zod";
import { ClusterRefusal } from "./allocations.ts";
import { DurationMs } from "./names.ts";

/** RFC 9457, `application/problem+json`. `errors` names each field by JSON pointer (RFC 6901). */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  errors: z.array(z.object({ pointer: z.string(), detail: z.string() })).optional(),
  refused: z.array(ClusterRefusal).optional(),
  retryAfterMs: DurationMs.optional(),
  allocationId: z.string().optional(),
});
export type Problem = z.infer<typeof Problem>;

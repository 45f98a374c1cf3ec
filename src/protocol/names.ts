// Names and scalars that all messages are made of.
import { z } from "zod";

/** Task names are somebody's text: any script, no control characters. */
export const TaskName = z
  .string()
  .min(1)
  .max(256)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: refusing control characters is the point
  .regex(/^[^\u0000-\u001f\u007f]+$/, "must not contain control characters");
/** Names that the operator chooses for clusters, VMs, services: they become path segments and Durable Object names. */
export const PlaceName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "must be 1–63 letters, digits, dots, dashes or underscores");
export const Id = z.string().min(1).max(128);
export const Uri = z.string().min(1).max(2048);
export const Version = z.string().min(1).max(128);
export const Probability = z.number().min(0).max(1);
export const DurationMs = z.number().nonnegative();
export const InstantMs = z.number().nonnegative();
export const Bytes = z.number().int().nonnegative();
export const Scalar = z.union([z.string().max(512), z.number(), z.boolean()], {
  error: "expected a text of 512 characters at most, a number, or true or false",
});
/** Request parameters by name: what parameterised object URIs are filled with. */
export const Params = z.record(z.string().max(64), Scalar).refine((params) => Object.keys(params).length <= 32, {
  message: "at most 32 parameters",
});

export const Quantiles = z.object({ p10: z.number(), p50: z.number(), p90: z.number() });
export type Quantiles = z.infer<typeof Quantiles>;

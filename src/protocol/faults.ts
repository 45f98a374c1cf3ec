// What a message's fault is called, wherever one is told: to callers of the API, of an agent's configuration, of a log's records.
// "missing: expected string", "expected number, received string", "expected one of …": the field's name stands before it.
import { z } from "zod";

const { localeError } = z.config();

z.config({
  customError(issue) {
    const told = localeError?.(issue);
    const text = typeof told === "string" ? told : told?.message;
    const fault = text?.replace(/^Invalid (?:input|option): /, "");
    const isMissing = issue.code === "invalid_type" && issue.input === undefined;
    return isMissing ? `missing: ${fault?.replace(/, received undefined$/, "")}` : fault;
  },
});

// Every message that crosses a machine, as zod schemas: validation, static types and OpenAPI come from here.
// This page is the contract's table of contents and the one address that it is imported by.
// Units are in the names: ...Ms are milliseconds (instants are since the epoch), ...Bytes are bytes, probabilities 0–1.
// Control calls are strict objects (an unknown field is refused); executions ignore unknown fields, which the caller counts.

export * from "./protocol/agents.ts"; // /v1/agents/:cluster/:vm/heartbeat, …/socket
export * from "./protocol/allocations.ts"; // POST /v1/allocations, GET /v1/allocations/:id
export * from "./protocol/answers.ts"; // GET /v1/clusters, …/commands, declarations with their names
export * from "./protocol/commands.ts"; // …/commands, …/results
export * from "./protocol/declarations.ts"; // /v1/tasks, /v1/clusters, /v1/services, /v1/proximity, /v1/policy
export * from "./protocol/executions.ts"; // POST /v1/executions, /v1/traces
export * from "./protocol/graph.ts"; // GET /v1/graph, /v1/chains, POST /v1/model/rebuild
export * from "./protocol/invoke.ts"; // ALL /v1/invoke/:task/*
export * from "./protocol/keys.ts"; // /v1/keys
export * from "./protocol/learning.ts"; // /v1/learning

import "./protocol/faults.ts"; // how a schema says what is wrong

export * from "./protocol/names.ts"; // task, place, id, probability, duration, …
export * from "./protocol/outcomes.ts"; // GET /v1/outcomes
export * from "./protocol/predictions.ts"; // POST /v1/predictions
export * from "./protocol/problem.ts"; // every error

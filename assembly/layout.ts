// Where everything lives in the one linear memory. In: nothing. Out: compile-time addresses and capacities.
// Two areas: fixed scratch (inputs, outputs, work tables), then the model, which is the image byte for byte.
// Each location is the last location plus its size; `memory.data` reserves zeroed bytes that cost nothing in the binary.
// Source of the habit: torch2424/wasmboy core/constants.ts (memory map) and mourner/flatbush (one buffer behind a header).

/** Longest path that is read, tasks. A continuation is at most 4 KiB; case logs rarely pass 1,000 events. */
export const PATH_TASKS_MAX: i32 = 4096;
/** Most executions of one sealed run that are learned. Longer runs are the caller's to cut. */
export const RUN_EXECUTIONS_MAX: i32 = 4096;
/** Most triggers of one run: joins are rare, four per execution is generous. */
export const RUN_TRIGGERS_MAX: i32 = 16384;
/** Tasks that one workspace may intern. Symbols are task + 2 and must stay far from u32 overflow. */
export const TASKS_MAX: u32 = 1 << 20;

/** Symbol 0 marks an empty place in a line. */
export const SYMBOL_END: u32 = 1;
export const SYMBOL_TASK_0: u32 = 2;

// ── scratch: inputs ──────────────────────────────────────────────────────────────────────────────────────────────
export const PATH_TASKS: usize = memory.data(4096 * 4, 64);
export const PATH_START_MS: usize = memory.data(4096 * 8, 64);
export const RUN_TASKS: usize = memory.data(4096 * 4, 64);
export const RUN_VERSIONS: usize = memory.data(4096 * 4, 64);
export const RUN_START_MS: usize = memory.data(4096 * 8, 64);
export const RUN_COLD_BEFORE_MS: usize = memory.data(4096 * 8, 64);
export const RUN_TRIGGER_OFFSETS: usize = memory.data(4097 * 4, 64);
export const RUN_TRIGGERS: usize = memory.data(16384 * 4, 64);
export const RUN_PATH_TRIGGERS: usize = memory.data(4096 * 4, 64);

// ── scratch: outputs ─────────────────────────────────────────────────────────────────────────────────────────────
/** The most candidates that are mixed, hence the most rows a prediction can return. */
export const CANDIDATES_MAX: i32 = 255;
export const OUT_TASKS: usize = memory.data(256 * 4, 64);
/** One more than rows: the last place is OUT_END. */
export const OUT_PROBABILITIES: usize = memory.data(256 * 8, 64);
/** Probability of the end. */
export const OUT_END: usize = OUT_PROBABILITIES + 255 * 8;
export const OUT_MULTIPLICITIES: usize = memory.data(256 * 8, 64);
/** p10, p50, p90 of each row. */
export const OUT_LEAD_MS: usize = memory.data(256 * 3 * 8, 64);

// ── model: header, weights, lines ────────────────────────────────────────────────────────────────────────────────
/** One context is one cache line. */
export const LINE_BYTES: usize = 64;
export const HEADER_BYTES: usize = 64;
export const MODEL: usize = (__heap_base + 127) & ~127;

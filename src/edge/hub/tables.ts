// The tables of one ClusterHub's SQLite. Instants are ms since the epoch.
// They hold what must survive an eviction; heartbeats and running sums are in memory and come back within seconds.

/** Brings a hub's tables up to date; each step runs once per hub. */
export function createTables(sql: SqlStorage): void {
  sql.exec(
    "CREATE TABLE IF NOT EXISTS meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
  );
  const done = readMeta<number>(sql, "schema") ?? 0;
  for (const step of STEPS.slice(done)) sql.exec(step);
  if (done < STEPS.length) writeMeta(sql, "schema", STEPS.length);
}

/** Forward only: a table is changed by a later step, never in place. */
const STEPS = [
  `
    -- queued → leased → done | failed | expired | cancelled
    CREATE TABLE IF NOT EXISTS commands (
      command_id TEXT NOT NULL PRIMARY KEY,
      vm TEXT NOT NULL,
      key TEXT NOT NULL, -- the distinct thing
      kind TEXT NOT NULL,
      task TEXT,
      version TEXT,
      uri TEXT,
      bytes INTEGER, -- expected; NULL is unknown
      probability REAL NOT NULL,
      not_before_ms INTEGER NOT NULL,
      deadline_ms INTEGER NOT NULL,
      expires_ms INTEGER NOT NULL,
      run_id TEXT, -- the run for which it was planned first
      beneficiaries INTEGER NOT NULL, -- runs that want it
      request TEXT, -- JSON, execute only
      state TEXT NOT NULL,
      attempt INTEGER NOT NULL, -- leases given so far
      lease_id TEXT,
      lease_expires_ms INTEGER,
      loaded_bytes INTEGER NOT NULL,
      ready_ms INTEGER,
      settled INTEGER NOT NULL, -- 1: its outcome is written
      live INTEGER NOT NULL, -- 1: queued, leased, or done and neither used nor ended: a second plan joins it
      reason TEXT,
      changed_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS commands_live ON commands (vm, key) WHERE live = 1;
    CREATE INDEX IF NOT EXISTS commands_queued ON commands (vm, not_before_ms) WHERE state = 'queued';
    CREATE INDEX IF NOT EXISTS commands_leased ON commands (lease_expires_ms) WHERE state = 'leased';
    CREATE INDEX IF NOT EXISTS commands_unsettled ON commands (expires_ms) WHERE settled = 0;

    CREATE TABLE IF NOT EXISTS vms (
      vm TEXT NOT NULL PRIMARY KEY,
      heartbeat TEXT NOT NULL, -- JSON, protocol.ts Heartbeat without the cache's URIs
      heartbeat_ms INTEGER NOT NULL,
      superseded TEXT NOT NULL -- JSON array of instance ids
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE IF NOT EXISTS reservations (
      run_id TEXT NOT NULL PRIMARY KEY,
      memory_bytes INTEGER NOT NULL,
      cpu_cores REAL NOT NULL,
      expires_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE IF NOT EXISTS outcomes (
      outcome_id TEXT NOT NULL PRIMARY KEY,
      at_ms INTEGER NOT NULL,
      outcome TEXT NOT NULL, -- JSON, protocol.ts Outcome
      flushed INTEGER NOT NULL -- 0: only here
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS outcomes_unflushed ON outcomes (at_ms) WHERE flushed = 0;

    CREATE TABLE IF NOT EXISTS outcome_totals (
      kind TEXT NOT NULL,
      outcome TEXT NOT NULL,
      count INTEGER NOT NULL,
      bytes INTEGER NOT NULL,
      gb_seconds REAL NOT NULL,
      saved_ms REAL NOT NULL,
      PRIMARY KEY (kind, outcome)
    ) STRICT, WITHOUT ROWID;
  `,
  // Reservations live for seconds: none is worth carrying over.
  `
    DROP TABLE reservations;
    CREATE TABLE reservations (
      run_id TEXT NOT NULL PRIMARY KEY,
      memory_bytes INTEGER NOT NULL,
      cpu_cores REAL NOT NULL,
      expires_ms INTEGER NOT NULL,
      calls INTEGER NOT NULL -- allocations of the run on this cluster
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS spending (
      hour INTEGER NOT NULL PRIMARY KEY, -- hours since the epoch
      bytes INTEGER NOT NULL,
      gb_seconds REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
  `,
  // Outcomes teach the GraphWriter too: it knows by the sequence which it has.
  `
    ALTER TABLE commands ADD COLUMN whole_start_ms REAL; -- what a warm-up's start took; NULL where none was started
    DROP INDEX outcomes_unflushed;
    ALTER TABLE outcomes ADD COLUMN seq INTEGER NOT NULL DEFAULT 0; -- rises with each outcome, about the time it was written
    UPDATE outcomes SET flushed = 2 WHERE flushed = 1; -- 1: D1 has it, 2: the GraphWriter too
    CREATE INDEX outcomes_unflushed ON outcomes (seq) WHERE flushed < 2;
  `,
  `
    -- How long runtimes are held after a call, learned.
    CREATE TABLE holds (
      task TEXT NOT NULL PRIMARY KEY,
      state TEXT NOT NULL -- JSON of one task of core/keepalive.ts KeepAliveState
    ) STRICT, WITHOUT ROWID;
  `,
  // What an outcome is compared with.
  `
    -- probability before the gate's beliefs; NULL: the probability is it
    ALTER TABLE commands ADD COLUMN foretold REAL;
    -- task that was asked for when it was planned
    ALTER TABLE commands ADD COLUMN context TEXT;
    -- JSON array: the chain expected of the run for which it was planned first
    ALTER TABLE commands ADD COLUMN chain TEXT;
  `,
  // Sums of what D1 has, by the hour in which it was settled: absolute there too, so a repeated flush changes nothing.
  `
    CREATE TABLE outcome_hours (
      hour INTEGER NOT NULL, -- since the epoch
      task TEXT NOT NULL, -- '' where none is named
      chain TEXT NOT NULL, -- JSON array; '' where it is not known
      kind TEXT NOT NULL,
      outcome TEXT NOT NULL,
      count INTEGER NOT NULL,
      bytes INTEGER NOT NULL,
      gb_seconds REAL NOT NULL,
      saved_ms REAL NOT NULL,
      PRIMARY KEY (hour, task, chain, kind, outcome)
    ) STRICT, WITHOUT ROWID;
  `,
  // What was needed where no plan was sent is no miss of preparation.
  `
    -- Of the count.
    ALTER TABLE outcome_totals ADD COLUMN unsent INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE outcome_hours ADD COLUMN unsent INTEGER NOT NULL DEFAULT 0;
  `,
  // What a run's allocations told, for a hub that is evicted in mid-run: in the row that each of them writes anyway.
  `
    -- JSON array, as expected at first; NULL: a row of before
    ALTER TABLE reservations ADD COLUMN chain TEXT;
    -- 1: some plan of the run was sent
    ALTER TABLE reservations ADD COLUMN sent INTEGER;
    -- JSON of core/quotas.ts StoredQuotas; NULL: no execution has asked
    ALTER TABLE reservations ADD COLUMN quotas TEXT;
  `,
];

export function readMeta<T>(sql: SqlStorage, name: string): T | null {
  const [row] = sql.exec<{ value: string }>("SELECT value FROM meta WHERE name = ?", name).toArray();
  return row ? (JSON.parse(row.value) as T) : null;
}

export function writeMeta(sql: SqlStorage, name: string, value: unknown): void {
  sql.exec(
    "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    name,
    JSON.stringify(value),
  );
}

-- The VMs that agents have told of, for the time in which Fleet cannot be asked: then a request still finds a VM that has its
-- task. One row per cluster, written when VMs come, go or change what they can run, never per heartbeat.

CREATE TABLE known_vms (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  vms TEXT NOT NULL, -- JSON, src/edge/fleet/known-vms.ts KnownVms
  known_ms INTEGER NOT NULL, -- since the epoch
  PRIMARY KEY (workspace, cluster)
) STRICT, WITHOUT ROWID;

-- Allocations whose callers execute themselves, until the execution's record tells how it went: found by their execution. Partial: calls
-- through /v1/invoke have their outcome from the start and cost no row here.
CREATE INDEX allocations_unsettled ON allocations (workspace, execution_id) WHERE outcome IS NULL AND state = 'allocated';

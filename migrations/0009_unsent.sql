-- Misses of runs that no plan was sent for (shadow, paused, outside the canary's share) are told apart: preparation was not tried.

ALTER TABLE outcomes ADD COLUMN unsent INTEGER NOT NULL DEFAULT 0; -- 1: such a miss
ALTER TABLE outcome_totals ADD COLUMN unsent INTEGER NOT NULL DEFAULT 0; -- of the count
ALTER TABLE outcome_hours ADD COLUMN unsent INTEGER NOT NULL DEFAULT 0; -- of the count

// Branches of a run. Where a task is executed several times at once, each execution opens a branch of its own; those after it stay on
// it until a join, which returns to the branch before. In: a branch, or null on the run's trunk. Out: the next one, as text: execution ids,
// outermost first. What is prepared for a branch is no other's.

const SEPARATOR = " > ";
/** Nested fan-outs that are told apart; deeper ones share the last branch: bounds the continuation. */
const DEPTH_MAX = 4;

/** The branch that this execution opens. */
export function opened(branch: string | null, executionId: string): string {
  if (branch === null) return executionId;
  return branch.split(SEPARATOR).length >= DEPTH_MAX ? branch : branch + SEPARATOR + executionId;
}

/** The branch after so many joins; null: the trunk. */
export function joined(branch: string | null, joins: number): string | null {
  if (branch === null || joins === 0) return branch;
  const left = branch.split(SEPARATOR).slice(0, -joins);
  return left.length === 0 ? null : left.join(SEPARATOR);
}

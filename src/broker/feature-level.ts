import { assert } from '../base/assert.ts';

/**
 * The feature level of a broker group is replicated state: what all its replicas can read. A release writes a newer entry,
 * command, field or state only once the level has been raised to the one that brought it, so replicas of two releases run in one
 * group, and going back is possible until the level is raised. Numbers are on disk and never reused.
 */
export const FEATURE_LEVELS = {
  /** Formats of the first release: one broker group with fixed replicas. */
  group: 1,
  /** Membership entries, cluster-wide topic records. */
  cluster: 2,
  /** Entries that deliver by reference, internal topics, and what rests on them: delay, transactions, retries, dead letters, pop. Groups' strategies. */
  messaging: 3,
  /** Batches carried to the log's head, and cuts that rest on it. */
  carrying: 4,
  /** Longer retention of single topics and of dead letters; topics that ended are remembered. */
  keeping: 5,
} as const;

/** What this release can read and write. New groups are raised to it by their first leader. */
export const NEWEST_FEATURE_LEVEL: number = FEATURE_LEVELS.keeping;
/** Of a state before its first entry, and of peers that announce nothing. */
export const FIRST_FEATURE_LEVEL: number = FEATURE_LEVELS.group;

/** @throws AssertionError for what a newer release wrote: applying half of it would split the replicas */
export function assertLevelKnown(level: number, newest: number, what: string): void {
  assert(
    Number.isSafeInteger(level) && level >= FIRST_FEATURE_LEVEL && level <= newest,
    `${what} needs feature level ${level}, this release knows ${newest}: the group was upgraded, start the newer release`,
  );
}

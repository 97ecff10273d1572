import { FEATURE_LEVELS } from './feature-level.ts';

interface Setting {
  readonly initial: number;
  readonly min: number;
  readonly max: number;
  /** Feature level that knows it; default the first. */
  readonly level?: number;
}

/** Settings of the broker group, in the log: every replica has the same. Names and ranges belong to the feature level. */
export const SETTINGS = {
  /** Messages older than this may go, ms of log time; RocketMQ's 72 h (semantics §10). 0 = never by time. */
  retentionMs: { initial: 72 * 3_600_000, min: 0, max: Number.MAX_SAFE_INTEGER },
  /** The log is cut above this many bytes, to whole segments. 0 = never by size. */
  retentionBytes: { initial: 0, min: 0, max: Number.MAX_SAFE_INTEGER },
  /** From a half message to the first check of its transaction, ms of log time (semantics §7). */
  transactionTimeoutMs: { initial: 6_000, min: 0, max: 72 * 3_600_000, level: FEATURE_LEVELS.messaging },
  /** Between checks, and from the last one to the rollback. RocketMQ 4's; 5 has 30 s. */
  transactionCheckIntervalMs: { initial: 60_000, min: 100, max: 72 * 3_600_000, level: FEATURE_LEVELS.messaging },
  /** Checks before the transaction is rolled back. */
  transactionCheckMax: { initial: 15, min: 0, max: 10_000, level: FEATURE_LEVELS.messaging },
  /** Place in GROUP_MARKS (protocol/group-mark.ts). */
  groupMark: { initial: 0, min: 0, max: 2, level: FEATURE_LEVELS.messaging },
} as const satisfies Record<string, Setting>;
export type SettingName = keyof typeof SETTINGS;

export function isSetting(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name);
}

/** The feature level that every replica must have before it may be set. */
export function settingLevel(name: SettingName): number {
  return (SETTINGS[name] as Setting).level ?? FEATURE_LEVELS.group;
}

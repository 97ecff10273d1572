/** Settings of the broker group, in the log: every replica has the same. Names and ranges belong to the feature level. */
export const SETTINGS = {
  /** Messages older than this may go, ms of log time; RocketMQ's 72 h (semantics §10). 0 = never by time. */
  retentionMs: { initial: 72 * 3_600_000, min: 0, max: Number.MAX_SAFE_INTEGER },
  /** The log is cut above this many bytes, to whole segments. 0 = never by size. */
  retentionBytes: { initial: 0, min: 0, max: Number.MAX_SAFE_INTEGER },
} as const satisfies Record<string, { readonly initial: number; readonly min: number; readonly max: number }>;
export type SettingName = keyof typeof SETTINGS;

export function isSetting(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name);
}

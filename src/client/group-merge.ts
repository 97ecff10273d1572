import type { GroupListResponse } from '../protocol/requests.ts';

export type GroupSummary = GroupListResponse['groups'][number];

/**
 * One line for each consumer group, from what every broker group says of it: lags add up, members are members of all the
 * broker groups that have queues of theirs, and each broker group counts epochs of its own, of which the highest is shown.
 */
export function mergeGroups(lists: readonly (readonly GroupSummary[])[]): GroupSummary[] {
  const merged = new Map<string, GroupSummary>();
  for (const each of lists.flat()) {
    const known = merged.get(each.group);
    if (known === undefined) merged.set(each.group, each);
    else {
      merged.set(each.group, {
        group: each.group,
        epoch: Math.max(known.epoch, each.epoch),
        members: Math.max(known.members, each.members),
        lag: known.lag + each.lag,
      });
    }
  }
  return [...merged.values()].sort((a, b) => (a.group < b.group ? -1 : 1));
}

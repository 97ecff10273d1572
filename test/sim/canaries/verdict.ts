import type { GroupMembership } from '../../../src/replica/membership.ts';
import type { LogBytes } from '../checkers/identical.ts';
import type { Acked } from '../checkers/lost.ts';
import { MembershipsChecker } from '../checkers/memberships.ts';
import { SyncedChecker } from '../checkers/synced.ts';
import type { FinalLog, Seen } from '../checkers/violation.ts';
import { Verdict } from '../verdict.ts';
import { type Canary, patch } from './canary.ts';

type Shown = (log: FinalLog, acked: Iterable<Acked>) => void;
type Queue = { readonly minOffset: number; readonly messages: readonly Seen[] };

/** The final log with one queue changed: the first that `change` makes something of. */
function withOneChanged(log: FinalLog, change: (queue: Queue) => readonly Seen[] | null): FinalLog {
  for (const [name, queue] of log.queues) {
    const messages = change(queue);
    if (messages !== null) return { queues: new Map([...log.queues, [name, { minOffset: queue.minOffset, messages }]]) };
  }
  return log;
}

const shownOtherwise = (change: (queue: Queue) => readonly Seen[] | null): (() => void) =>
  patch(
    Verdict.prototype,
    'shown',
    (original) =>
      function (this: Verdict, ...[log, acked]: Parameters<Shown>) {
        original.call(this, withOneChanged(log, change), acked);
      },
  );

/** The first message once more, at the end. */
function firstAgain({ messages }: Queue): readonly Seen[] | null {
  const [first, last] = [messages[0], messages.at(-1)];
  return first === undefined || last === undefined ? null : [...messages, { ...first, offset: last.offset + 1 }];
}

/** The first two of one producer and key have changed places. */
function swapped({ messages }: Queue): readonly Seen[] | null {
  for (const [at, { body }] of messages.entries()) {
    const later = messages.findIndex((other, i) => i > at && other.body.producer === body.producer && other.body.key === body.key);
    if (body.key === 0 || later < 0) continue;
    const [first, second] = [messages[at] as Seen, messages[later] as Seen];
    return messages.with(at, { ...second, offset: first.offset }).with(later, { ...first, offset: second.offset });
  }
  return null;
}

const oneMissing = ({ messages }: Queue): readonly Seen[] | null => (messages.length < 2 ? null : messages.slice(1));

/** What is judged at the end, and of memberships, seen wrongly: the checkers' own proof that they speak. */
export const VERDICT_CANARIES: readonly Canary[] = [
  {
    name: 'a verdict that is shown a message twice',
    breaks: 'the checker "duplicated" itself',
    caughtBy: ['duplicated'],
    firstSeed: 1,
    seeds: 5,
    plant: () => shownOtherwise(firstAgain),
  },
  {
    name: 'a verdict that is shown two messages in the other order',
    breaks: 'the checker "reordered" itself',
    caughtBy: ['reordered'],
    firstSeed: 1,
    seeds: 5,
    plant: () => shownOtherwise(swapped),
  },
  {
    name: 'a verdict that is not shown a message',
    breaks: 'the checker "offset gap" itself',
    caughtBy: ['offset gap'],
    firstSeed: 1,
    seeds: 5,
    plant: () => shownOtherwise(oneMissing),
  },
  {
    name: "a verdict that finds another byte on a replica's disk",
    breaks: 'the checker "not identical" itself',
    caughtBy: ['not identical'],
    firstSeed: 1,
    seeds: 5,
    plant: () =>
      patch(
        Verdict.prototype,
        'stored',
        (original) =>
          function (this: Verdict, logs: readonly LogBytes[]) {
            for (const { bytes } of logs.slice(1)) bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1;
            original.call(this, logs);
          },
      ),
  },
  {
    name: 'a checker that finds a batch that is shown on the disks of nobody',
    breaks: 'the checker "uncommitted shown" itself',
    caughtBy: ['uncommitted shown'],
    firstSeed: 1,
    seeds: 3,
    plant: () =>
      patch(
        SyncedChecker.prototype,
        'shown',
        (original) =>
          function (this: SyncedChecker, queue: string, baseOffset: number) {
            original.call(this, queue, baseOffset, -1);
          },
      ),
  },
  {
    name: 'a checker that takes every directory for a foreign one',
    breaks: 'the checker "wrong incarnation" itself',
    caughtBy: ['wrong incarnation'],
    firstSeed: 1,
    seeds: 3,
    plant: () =>
      patch(
        MembershipsChecker.prototype,
        'speaks',
        (original) =>
          function (this: MembershipsChecker, replicaId: number, _incarnation: string | null, what: string) {
            original.call(this, replicaId, 'somebody else', what);
          },
      ),
  },
  {
    name: 'a checker that is shown every change of voters as one of two',
    breaks: 'the checker "wrong membership" itself',
    caughtBy: ['wrong membership'],
    firstSeed: 1,
    seeds: 40,
    faults: ['members'],
    plant: () =>
      patch(
        MembershipsChecker.prototype,
        'durable',
        (original) =>
          function (this: MembershipsChecker, index: number, checksum: number, membership: GroupMembership, before: unknown) {
            original.call(this, index, checksum, { ...membership, voters: [...membership.voters, 98, 99] }, before);
          },
      ),
  },
];

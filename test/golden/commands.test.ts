import { describe, expect, test } from 'vitest';
import { type Command, decodeCommand, encodeCommand, levelOf } from '../../src/broker/commands.ts';
import { golden, PINNED_LEVELS } from './golden.ts';

/** Of the first level, in the order of their numbers. */
const LEVEL_1: readonly Command[] = [
  { type: 'topicCreate', name: 'orders', queues: 8, perm: 6, messageType: 'fifo', replication: 2 },
  { type: 'topicUpdate', name: 'orders', queues: 12, perm: -1, replication: -1 },
  { type: 'topicDelete', name: 'Bestellungen-2' },
  {
    type: 'offsetCommit',
    commits: [
      [
        'billing',
        'c@1',
        [
          [1, 0, 2 ** 40, 3],
          [1, 7, 0, 3],
        ],
      ],
      ['audit', '', [[2, 65_534, 9, 0]]],
    ],
  },
  {
    type: 'groupJoin',
    group: 'billing',
    member: 'c@1',
    address: '10.0.0.7:40000',
    topics: ['orders', 'refunds'],
    strategy: 'sticky',
    sessionTimeoutMs: 10_000,
  },
  { type: 'groupLeave', group: 'billing', member: 'c@1' },
  { type: 'groupExpire', group: 'billing', member: 'c@1', joinIndex: 77 },
  { type: 'groupRelease', group: 'billing', member: 'c@1', queues: [[1, 0, 5, 3]] },
  { type: 'groupRevokeTimeout', group: 'billing', topicId: 1, queueId: 2, epoch: 3 },
  { type: 'groupResetOffset', group: 'billing', topicId: 1, queueId: 2, offset: 2 ** 33 },
  { type: 'cut', position: 2 ** 30 },
  { type: 'setSetting', name: 'retentionMs', value: 3_600_000 },
];
const LEVEL_2: readonly Command[] = [
  {
    type: 'topicPut',
    name: 'orders',
    incarnation: 2 ** 52,
    version: 3,
    places: [
      ['a', 8, -1],
      ['b', 4, 4],
    ],
    perm: 6,
    messageType: 'normal',
    replication: 2,
    deleted: false,
  },
  { type: 'topicForget', name: 'orders', incarnation: 2 ** 52, version: 4 },
  { type: 'featureLevelRaise', level: 2 },
];
const SAMPLES: ReadonlyMap<number, readonly Command[]> = new Map([
  [1, LEVEL_1],
  [2, LEVEL_2],
]);

describe('golden files', () => {
  test.each(PINNED_LEVELS)('F38 commands of feature level %i are written and read as ever', (level) => {
    const samples = SAMPLES.get(level) as readonly Command[];
    const pinned = golden(`commands-${level}`, new Map(samples.map((command) => [command.type, encodeCommand(command)])));
    expect([...pinned.values()].map((body) => decodeCommand(body))).toEqual(samples);
    expect(samples.map(levelOf)).toEqual(samples.map(() => level));
  });
});

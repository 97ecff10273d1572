import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BrokerRecord, Member } from '../../src/routing/records.ts';
import { balanceView, LeaderBalance, type LedGroup, planMoves } from '../../src/server/leader-balance.ts';
import { FakeClock } from '../support/fake-clock.ts';

const HOSTS = ['h1', 'h2', 'h3', 'h4', 'h5'];

function countsOf(hosts: readonly string[], groups: readonly LedGroup[]): number[] {
  return hosts.map((host) => groups.filter((group) => group.host === host).length);
}

function apply(
  groups: readonly LedGroup[],
  move: { brokerName: string; from: number; to: number; fromHost: string; toHost: string },
): LedGroup[] {
  return groups.map((group) => {
    if (group.brokerName !== move.brokerName) return group;
    const targets = group.targets.filter(({ replicaId }) => replicaId !== move.to);
    return { ...group, leader: move.to, host: move.toHost, targets: [...targets, { replicaId: move.from, host: move.fromHost }] };
  });
}

/** Rounds of plans until nothing is to be moved. @returns how many moves were made */
function settle(hosts: readonly string[], groups: readonly LedGroup[]): { groups: readonly LedGroup[]; moves: number } {
  let at = groups;
  for (let moves = 0; ; ) {
    const plan = planMoves(hosts, at);
    if (plan.length === 0) return { groups: at, moves };
    for (const move of plan) at = apply(at, move);
    moves += plan.length;
    if (moves > groups.length * 10) throw new Error('the plan does not come to rest');
  }
}

/** Groups of three replicas on hosts named by index; the first one leads. */
const groupsOn = (...places: readonly number[][]): LedGroup[] =>
  places.map((hosts, i) => ({
    brokerName: `g${i}`,
    leader: 1,
    host: HOSTS[hosts[0] as number] as string,
    targets: hosts.slice(1).map((host, at) => ({ replicaId: at + 2, host: HOSTS[host] as string })),
  }));

describe('plan', () => {
  test('F49 leaders all on one host after healing: they differ by one', () => {
    const hosts = HOSTS.slice(0, 3);
    const done = settle(hosts, groupsOn(...Array.from({ length: 8 }, () => [0, 1, 2])));
    expect(countsOf(hosts, done.groups).toSorted((a, b) => a - b)).toEqual([2, 3, 3]);
    expect(done.moves).toBe(5);
    // What is balanced stays: the plan is idempotent.
    expect(planMoves(hosts, done.groups)).toEqual([]);
  });

  test('F49 a way over a third host is found when the fullest host leads nothing that the emptiest could', () => {
    const groups = groupsOn([0, 1], [0, 1], [1, 2]);
    const done = settle(HOSTS.slice(0, 3), groups);
    expect(countsOf(HOSTS.slice(0, 3), done.groups)).toEqual([1, 1, 1]);
  });

  test('F49 any layout of groups with replicas on all hosts ends within one, in at most one move a group too many', () => {
    const layout = fc.integer({ min: 2, max: 5 }).chain((hosts) =>
      fc.record({
        hosts: fc.constant(hosts),
        leaders: fc.array(fc.integer({ min: 0, max: hosts - 1 }), { minLength: 1, maxLength: 30 }),
      }),
    );
    fc.assert(
      fc.property(layout, ({ hosts, leaders }) => {
        const names = HOSTS.slice(0, hosts);
        const all = names.map((_, i) => i);
        const groups = groupsOn(...leaders.map((leader) => [leader, ...all.filter((host) => host !== leader)]));
        const before = countsOf(names, groups);
        const done = settle(names, groups);
        const after = countsOf(names, done.groups);
        expect(Math.max(...after) - Math.min(...after)).toBeLessThanOrEqual(1);
        // No more than the leaders that some host has too many.
        const share = Math.floor(groups.length / hosts);
        expect(done.moves).toBeLessThanOrEqual(before.reduce((sum, count) => sum + Math.max(0, count - share), 0));
      }),
    );
  });

  test('F49 the plan comes to rest for any placement of replicas, and never widens the spread', () => {
    const place = fc.uniqueArray(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(fc.array(place, { minLength: 1, maxLength: 20 }), (places) => {
        const groups = groupsOn(...places);
        const before = countsOf(HOSTS, groups);
        const after = countsOf(HOSTS, settle(HOSTS, groups).groups);
        expect(Math.max(...after)).toBeLessThanOrEqual(Math.max(...before));
        expect(Math.min(...after)).toBeGreaterThanOrEqual(Math.min(...before));
      }),
    );
  });
});

const broker = (brokerName: string, replicaId: number, change: Partial<BrokerRecord> = {}): BrokerRecord => ({
  brokerName,
  replicaId,
  version: 1,
  incarnation: `${brokerName}${replicaId}`,
  endpoint: `ws://h${replicaId}:1`,
  admin: '',
  address: { host: `h${replicaId}`, port: 2 },
  machine: `h${replicaId}`,
  perm: 6,
  role: 'follower',
  term: 1,
  featureLevel: 2,
  belowReserve: false,
  lagging: false,
  priority: 0,
  ...change,
});
const alive = (record: BrokerRecord): Member => ({ broker: record, state: 'alive', forMs: 0, self: false });

describe('view', () => {
  test('the leader is who says so in the highest term; targets are alive, in step, above their reserve, not of lower priority', () => {
    const members = [
      alive(broker('a', 1, { role: 'leader', term: 3 })),
      alive(broker('a', 2, { role: 'leader', term: 2 })),
      alive(broker('a', 3)),
      alive(broker('b', 1, { role: 'leader', priority: 1 })),
      alive(broker('b', 2)),
      alive(broker('b', 3, { priority: 2 })),
      alive(broker('c', 1, { role: 'leader' })),
      alive(broker('c', 2, { belowReserve: true })),
      alive(broker('c', 3, { lagging: true })),
      { ...alive(broker('d', 4, { role: 'leader' })), state: 'dead' as const },
    ];
    const { hosts, groups } = balanceView(members);
    expect(hosts).toEqual(['h1', 'h2', 'h3']);
    expect(groups.map(({ brokerName, leader, targets }) => [brokerName, leader, targets.map(({ replicaId }) => replicaId)])).toEqual([
      ['a', 1, [3]],
      ['b', 1, [3]],
      ['c', 1, []],
    ]);
  });
});

/** Groups of three replicas, one on each host, each with its balance; what they tell each other is known at once. */
function cluster(count: number, options: { automatic?: boolean; refuses?: (brokerName: string) => boolean } = {}) {
  const clock = new FakeClock();
  const leaders = new Map(Array.from({ length: count }, (_, i) => [`g${String(i).padStart(2, '0')}`, 1]));
  const moves: string[] = [];
  const members = (): Member[] =>
    [...leaders].flatMap(([name, leader]) =>
      [1, 2, 3].map((id) => alive(broker(name, id, { role: id === leader ? 'leader' : 'follower' }))),
    );
  for (const brokerName of leaders.keys()) {
    for (const replicaId of [1, 2, 3]) {
      new LeaderBalance({
        clock,
        random: () => 0.5,
        brokerName,
        replicaId,
        automatic: options.automatic ?? true,
        members,
        leads: () => leaders.get(brokerName) === replicaId,
        targets: () => [1, 2, 3].filter((id) => id !== replicaId),
        handOver: (to) => {
          if (options.refuses?.(brokerName)) return false;
          moves.push(brokerName);
          leaders.set(brokerName, to);
          return true;
        },
      }).start();
    }
  }
  const spread = (): number => {
    const counts = [1, 2, 3].map((id) => [...leaders.values()].filter((leader) => leader === id).length);
    return Math.max(...counts) - Math.min(...counts);
  };
  const run = (ms: number): void => {
    for (let at = 0; at < ms; at += 100) clock.advance(100);
  };
  return { run, spread, moves };
}

describe('by itself', () => {
  test.each([2, 3, 12, 60])('F49 %i groups led by one host differ by one within 60 s, and nothing moves after that', (count) => {
    const { run, spread, moves } = cluster(count);
    run(60_000);
    expect(spread()).toBeLessThanOrEqual(1);
    const made = moves.length;
    // No group was moved twice.
    expect(new Set(moves).size).toBe(made);
    run(60_000);
    expect(moves.length).toBe(made);
  });

  test('F49 a group whose leader does not make its move does not hold up the others', () => {
    const { run, spread, moves } = cluster(12, { refuses: (brokerName) => brokerName < 'g04' });
    run(60_000);
    expect(spread()).toBeLessThanOrEqual(1);
    expect(moves.every((brokerName) => brokerName >= 'g04')).toBe(true);
  });

  test('F49 leaderBalance off: nothing moves by itself', () => {
    const { run, moves } = cluster(6, { automatic: false });
    run(60_000);
    expect(moves).toEqual([]);
  });
});

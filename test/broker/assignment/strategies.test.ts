import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assign } from '../../../src/broker/assignment/assign.ts';
import type { AssignableMember, AssignableQueue, AssignmentPlan, ConfiguredQueue } from '../../../src/broker/assignment/types.ts';
import { ALLOCATE_STRATEGIES, type AllocateStrategy } from '../../../src/protocol/allocate-strategies.ts';

const TOPIC = 'T';
const ZONES = ['', 'east', 'west', 'south'];
const BROKERS = ['a', 'b', 'c', 'd'];

const slice = (brokerName: string, queues: number): AssignableQueue[] =>
  Array.from({ length: queues }, (_, queueId) => ({ brokerName, queueId }));
const plan = (strategy: AllocateStrategy, more: Partial<AssignmentPlan> = {}): AssignmentPlan => ({
  strategy,
  brokerZones: [],
  machineRooms: [],
  ...more,
});
const named = (names: readonly string[]): AssignableMember[] => [...names].sort().map((name) => ({ name, zone: '', queues: [] }));

const memberNames = fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,12}@[0-9]$/), { minLength: 1, maxLength: 12 });
const placement = fc
  .array(fc.nat({ max: 30 }), { minLength: 1, maxLength: BROKERS.length })
  .map((counts) => counts.flatMap((count, at) => slice(BROKERS[at] as string, count)));
/** Members and plan of any strategy, with every wish that it may have. */
const world = fc.record({
  queues: placement,
  members: memberNames.chain((names) =>
    fc.tuple(
      ...[...names].sort().map((name) =>
        fc.record({
          name: fc.constant(name),
          zone: fc.constantFrom(...ZONES),
          queues: fc.array(
            fc.tuple(fc.constantFrom(TOPIC, 'another'), fc.constantFrom(...BROKERS), fc.nat({ max: 30 })) as fc.Arbitrary<ConfiguredQueue>,
            { maxLength: 20 },
          ),
        }),
      ),
    ),
  ),
  brokerZones: fc
    .subarray(BROKERS)
    .chain((brokers) => fc.tuple(...brokers.map((broker) => fc.tuple(fc.constant(broker), fc.constantFrom(...ZONES))))),
  machineRooms: fc.subarray([...ZONES].sort()),
});

const loadsOf = (owners: readonly string[], members: readonly AssignableMember[]): number[] =>
  members.map(({ name }) => owners.filter((owner) => owner === name).length);
const spread = (loads: readonly number[]): number => Math.max(...loads) - Math.min(...loads);

describe('F07 rebalance strategies', () => {
  test.each(ALLOCATE_STRATEGIES)(
    '%s: every queue has a member or, where the strategy says so, nobody; the same again for the same',
    (strategy) => {
      fc.assert(
        fc.property(world, ({ queues, members, brokerZones, machineRooms }) => {
          const of = plan(strategy, { brokerZones, machineRooms });
          const owners = assign(TOPIC, queues, members, of);
          expect(owners).toHaveLength(queues.length);
          const names = new Set(members.map(({ name }) => name));
          const zoneOf = new Map<string, string>(brokerZones);
          queues.forEach(({ brokerName, queueId }, at) => {
            const nobody =
              strategy === 'broadcasting' ||
              (strategy === 'byMachineRoom' && !machineRooms.includes(zoneOf.get(brokerName) ?? '')) ||
              (strategy === 'byConfig' &&
                !members.some((member) => member.queues.some(([t, b, q]) => t === TOPIC && b === brokerName && q === queueId)));
            expect(owners[at] === '').toBe(nobody);
            if (!nobody) expect(names.has(owners[at] as string)).toBe(true);
          });
          const copies = structuredClone({ queues, members, of });
          expect(assign(TOPIC, copies.queues, copies.members, copies.of)).toEqual(owners);
        }),
      );
    },
  );

  test.each(['sticky', 'averagely', 'averagelyByCircle'] as const)(
    '%s: shares differ by one at most over all broker groups',
    (strategy) => {
      fc.assert(
        fc.property(placement, memberNames, (queues, names) => {
          const members = named(names);
          expect(spread(loadsOf(assign(TOPIC, queues, members, plan(strategy)), members))).toBeLessThanOrEqual(1);
        }),
      );
    },
  );

  test('averagely: contiguous ranges, the larger ones first; by circle: in turn', () => {
    const members = named(['x', 'y', 'z']);
    const queues = [...slice('a', 4), ...slice('b', 4)];
    expect(assign(TOPIC, queues, members, plan('averagely')).join('')).toBe('xxxyyyzz');
    expect(assign(TOPIC, queues, members, plan('averagelyByCircle')).join('')).toBe('xyzxyzxy');
    expect(assign(TOPIC, slice('a', 2), members, plan('averagely')).join('')).toBe('xy');
  });

  test('consistentHash: one that comes takes and moves nothing between others, one that goes gives only its own', () => {
    fc.assert(
      fc.property(placement, memberNames, fc.stringMatching(/^[a-z]{13}@1$/), (queues, names, newcomer) => {
        const before = assign(TOPIC, queues, named(names), plan('consistentHash'));
        const after = assign(TOPIC, queues, named([...names, newcomer]), plan('consistentHash'));
        after.forEach((owner, at) => {
          if (owner !== newcomer) expect(owner).toBe(before[at]);
        });
      }),
    );
  });

  test('consistentHash: with ten places each, nobody is left out of many queues', () => {
    const members = named(Array.from({ length: 8 }, (_, i) => `client-${i}@1`));
    const loads = loadsOf(assign(TOPIC, slice('a', 2_000), members, plan('consistentHash')), members);
    for (const load of loads) expect(load).toBeGreaterThan(250 / 8);
  });

  test('byConfig: who wants it has it; of several the first by name', () => {
    const members = [
      { name: 'x', zone: '', queues: [[TOPIC, 'a', 0] as const, [TOPIC, 'b', 1] as const] },
      { name: 'y', zone: '', queues: [[TOPIC, 'a', 0] as const, [TOPIC, 'a', 1] as const, ['another', 'b', 0] as const] },
    ];
    expect(assign(TOPIC, [...slice('a', 2), ...slice('b', 2)], members, plan('byConfig'))).toEqual(['x', 'y', '', 'x']);
  });

  test('byMachineRoom: the queues of the named rooms, evenly over all members', () => {
    fc.assert(
      fc.property(world, ({ queues, members, brokerZones, machineRooms }) => {
        const owners = assign(TOPIC, queues, members, plan('byMachineRoom', { brokerZones, machineRooms }));
        expect(spread(loadsOf(owners, members))).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('machineRoomNearby: a zone with members keeps its queues among them, evenly; one without gives them to all, evenly', () => {
    fc.assert(
      fc.property(world, ({ queues, members, brokerZones }) => {
        const owners = assign(TOPIC, queues, members, plan('machineRoomNearby', { brokerZones }));
        const zoneOf = new Map<string, string>(brokerZones);
        for (const zone of ZONES) {
          const ofZone = owners.filter((_, at) => (zoneOf.get(queues[at]?.brokerName as string) ?? '') === zone);
          const near = members.filter((member) => member.zone === zone);
          const takers = near.length === 0 ? members : near;
          const loads = loadsOf(ofZone, takers);
          expect(spread(loads)).toBeLessThanOrEqual(1);
          expect(loads.reduce((a, b) => a + b, 0)).toBe(ofZone.length);
        }
      }),
    );
  });

  test('machineRoomNearby: what happens in one zone moves nothing in another', () => {
    const brokerZones = [['a', 'east'] as const, ['b', 'west'] as const];
    const queues = [...slice('a', 16), ...slice('b', 16)];
    const at = (zone: string, count: number) => Array.from({ length: count }, (_, i) => ({ name: `${zone}-${i}`, zone, queues: [] }));
    const before = assign(TOPIC, queues, [...at('east', 3), ...at('west', 3)], plan('machineRoomNearby', { brokerZones }));
    const after = assign(TOPIC, queues, [...at('east', 3), ...at('west', 2)], plan('machineRoomNearby', { brokerZones }));
    expect(after.slice(0, 16)).toEqual(before.slice(0, 16));
    expect(after.slice(16)).not.toEqual(before.slice(16));
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assignSticky } from '../../../src/broker/assignment/sticky.ts';

const slice = (brokerName: string, queues: number) => Array.from({ length: queues }, (_, queueId) => ({ brokerName, queueId }));
const memberNames = fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,12}@[0-9]$/), { minLength: 1, maxLength: 12 });

function ownersByName(topic: string, queues: readonly { brokerName: string; queueId: number }[], members: readonly string[]): string[] {
  return Array.from(assignSticky(topic, queues, members), (at) => members[at] as string);
}

describe('sticky assignment', () => {
  test('F07 loads differ by at most one', () => {
    fc.assert(
      fc.property(memberNames, fc.integer({ min: 1, max: 200 }), (members, queues) => {
        const loads = new Map(members.map((member) => [member, 0]));
        for (const owner of ownersByName('T', slice('a', queues), members)) loads.set(owner, (loads.get(owner) as number) + 1);
        const sorted = [...loads.values()].sort((a, b) => a - b);
        expect((sorted.at(-1) as number) - (sorted[0] as number)).toBeLessThanOrEqual(1);
        expect(sorted.reduce((a, b) => a + b, 0)).toBe(queues);
      }),
    );
  });

  test('F07 a pure function: the order of members and of queues does not matter', () => {
    fc.assert(
      fc.property(memberNames, fc.integer({ min: 1, max: 60 }), fc.infiniteStream(fc.nat()), (members, count, noise) => {
        const shuffle = <T>(list: readonly T[]): T[] =>
          list
            .map((value) => ({ value, at: noise.next().value as number }))
            .sort((a, b) => a.at - b.at)
            .map(({ value }) => value);
        const queues = [...slice('a', count), ...slice('b', count)];
        const expected = new Map(ownersByName('T', queues, members).map((owner, i) => [JSON.stringify(queues[i]), owner]));
        const shuffled = shuffle(queues);
        const owners = ownersByName('T', shuffled, shuffle(members));
        for (let i = 0; i < shuffled.length; i++) expect(owners[i]).toBe(expected.get(JSON.stringify(shuffled[i])));
      }),
    );
  });

  test('F07 a member that comes or goes moves little more than its own share', () => {
    let moved = 0;
    let least = 0;
    for (let round = 0; round < 40; round++) {
      const members = Array.from({ length: 2 + (round % 9) }, (_, i) => `round${round}-client${i}@1`);
      const queues = slice('a', 64);
      const before = ownersByName(`topic${round}`, queues, members);
      const after = ownersByName(`topic${round}`, queues, [...members, 'one more@1']);
      moved += before.filter((owner, i) => owner !== after[i]).length;
      least += Math.floor(queues.length / (members.length + 1));
    }
    // A naive split (averagely) moves about half of all queues: 3.5 times the least.
    expect(moved / least).toBeLessThan(2);
  });

  test('F07 no skew over several topics: the larger shares are drawn topic by topic', () => {
    const members = ['a@1', 'b@1', 'c@1', 'd@1', 'e@1'];
    const loads = new Map(members.map((member) => [member, 0]));
    for (let topic = 0; topic < 400; topic++) {
      const [owner] = ownersByName(`topic-${topic}`, slice('a', 1), members);
      loads.set(owner as string, (loads.get(owner as string) as number) + 1);
    }
    for (const load of loads.values()) expect(load).toBeGreaterThan(50);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GroupIndex } from '../../src/raft/group-index.ts';
import type { GroupMeta } from '../../src/raft/types.ts';

const BLOCK = 4096;

/** The same questions answered from a plain array of all groups. */
class Model {
  groups: GroupMeta[] = [];
  startIndex = 0;
  startTerm = 0;
  startPosition = 0;

  get lastIndex(): number {
    return this.groups.at(-1)?.lastIndex ?? this.startIndex;
  }
  get lastTerm(): number {
    return this.groups.at(-1)?.term ?? this.startTerm;
  }
  termAt(index: number): number | null {
    if (index === this.startIndex) return this.startTerm;
    return this.groups.find((group) => group.firstIndex <= index && index <= group.lastIndex)?.term ?? null;
  }
  lastIndexWithTermAtMost(index: number, term: number): number {
    for (let at = Math.min(index, this.lastIndex); at >= this.startIndex; at -= 1) {
      if ((this.termAt(at) as number) <= term) return at;
    }
    return Math.min(this.startIndex - 1, index);
  }
}

const command = fc.oneof(
  {
    weight: 48,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      entries: fc.integer({ min: 1, max: 5 }),
      blocks: fc.integer({ min: 1, max: 6 }),
      gap: fc.integer({ min: 0, max: 8 }),
      newTerm: fc.boolean(),
    }),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('truncate' as const), back: fc.nat(6) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('cut' as const), at: fc.nat(1000) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('outline' as const),
      groups: fc.array(
        fc.record({ entries: fc.integer({ min: 1, max: 5 }), blocks: fc.integer({ min: 1, max: 6 }), newTerm: fc.boolean() }),
        {
          minLength: 1,
          maxLength: 12,
        },
      ),
      gap: fc.nat(3),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), ahead: fc.integer({ min: 1, max: 50 }) }) },
);

function check(index: GroupIndex, model: Model): void {
  expect(index.firstIndex).toBe(model.startIndex + 1);
  expect(index.lastIndex).toBe(model.lastIndex);
  expect(index.lastTerm).toBe(model.lastTerm);
  const starts = new Map(model.groups.map((group) => [group.firstIndex, group]));
  const ends = new Set(model.groups.map((group) => group.lastIndex));
  for (let at = Math.max(0, model.startIndex - 1); at <= model.lastIndex + 1; at += 1) {
    expect(index.termAt(at)).toBe(model.termAt(at));
    const known = index.groupContaining(at);
    if (known !== null) expect(known).toEqual(model.groups.find((group) => group.firstIndex <= at && at <= group.lastIndex));
    else if (at > model.startIndex && at <= model.lastIndex) expect(at).toBeLessThan(index.exactFirstIndex);

    if (at <= model.startIndex || at > model.lastIndex) continue;
    const boundary = index.groupStartAtOrBelow(at);
    expect(boundary.index).toBeLessThanOrEqual(at);
    const group = starts.get(boundary.index);
    expect(group).toBeDefined();
    expect(boundary.position).toBe(group?.position);
    expect(index.boundaryAtOrBelow(boundary.index)).toBe(boundary.index);

    for (const maxBytes of [0, 3 * BLOCK, 40 * BLOCK, 1e9]) {
      const end = index.rangeEnd(boundary.index, maxBytes);
      expect(ends.has(end)).toBe(true);
      expect(end).toBeGreaterThanOrEqual(boundary.index);
      const endGroup = model.groups.find((candidate) => candidate.lastIndex === end) as GroupMeta;
      const sizeBytes = endGroup.position + endGroup.sizeBytes - boundary.position;
      // Over the limit only when there is no nearer boundary.
      if (sizeBytes > maxBytes) expect(index.boundaryAtOrBelow(end)).toBe(boundary.index);
      expect(index.rangeBytes(boundary.index, end)).toBeGreaterThanOrEqual(sizeBytes);
    }
  }
  for (const term of [0, 1, model.lastTerm - 1, model.lastTerm]) {
    for (let at = model.startIndex; at <= model.lastIndex + 2; at += 1) {
      expect(index.lastIndexWithTermAtMost(at, term)).toBe(model.lastIndexWithTermAtMost(at, term));
    }
  }
}

describe('group index', () => {
  test('answers like an array of all groups, within its bounds', () => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 60 }), fc.constantFrom(4, 8, 64), (commands, exactGroups) => {
        const limits = { exactGroups, markStrideBytes: 6 * BLOCK, maxMarks: 4 };
        const index = new GroupIndex({ startIndex: 0, startTerm: 0, startPosition: 0 }, limits);
        const model = new Model();
        for (const step of commands) {
          if (step.kind === 'append') {
            const group: GroupMeta = {
              firstIndex: index.lastIndex + 1,
              lastIndex: index.lastIndex + step.entries,
              term: Math.max(1, index.lastTerm + (step.newTerm ? 1 : 0)),
              position: index.endPosition + (step.gap > 6 ? step.gap * BLOCK : 0),
              sizeBytes: step.blocks * BLOCK,
            };
            index.append(group);
            model.groups.push(group);
          } else if (step.kind === 'truncate') {
            const at = model.groups.length - step.back;
            const first = model.groups[at]?.firstIndex;
            if (first === undefined || (first < index.exactFirstIndex && index.boundaryAtOrBelow(first) !== first)) continue;
            index.truncateFrom(first);
            model.groups.length = at;
          } else if (step.kind === 'outline') {
            // As an earlier life knew them.
            const start = { startIndex: index.lastIndex, startTerm: index.lastTerm, startPosition: index.endPosition };
            const earlier = new GroupIndex(start, limits);
            for (const { entries, blocks, newTerm } of step.groups) {
              const group: GroupMeta = {
                firstIndex: earlier.lastIndex + 1,
                lastIndex: earlier.lastIndex + entries,
                term: Math.max(1, earlier.lastTerm + (newTerm ? 1 : 0)),
                position: earlier.endPosition,
                sizeBytes: blocks * BLOCK,
              };
              earlier.append(group);
              model.groups.push(group);
            }
            const outline = earlier.outline(start.startIndex + 1, earlier.lastIndex);
            if (outline === null) throw new Error('the first group of a log is known');
            index.appendOutline(outline, earlier.endPosition + step.gap * BLOCK);
          } else if (step.kind === 'cut') {
            const group = model.groups[step.at % Math.max(1, model.groups.length)];
            if (group === undefined) continue;
            model.groups.splice(0, model.groups.indexOf(group) + 1);
            model.startIndex = group.lastIndex;
            model.startTerm = group.term;
            model.startPosition = model.groups[0]?.position ?? index.endPosition;
            index.cutTo(group.lastIndex, group.term, model.startPosition);
          } else {
            const at = index.lastIndex + step.ahead;
            index.reset(at, index.lastTerm + 1, index.endPosition + step.ahead * BLOCK);
            Object.assign(model, { groups: [], startIndex: at, startTerm: index.startTerm, startPosition: index.startPosition });
          }
        }
        check(index, model);
      }),
      { numRuns: 500 },
    );
  });

  test('memory is bounded: a long log keeps the newest groups exactly and thins its marks', () => {
    const index = new GroupIndex(
      { startIndex: 0, startTerm: 0, startPosition: 0 },
      { exactGroups: 16, markStrideBytes: BLOCK, maxMarks: 8 },
    );
    for (let at = 0; at < 10_000; at += 1) {
      index.append({ firstIndex: at * 2 + 1, lastIndex: at * 2 + 2, term: 1, position: at * BLOCK, sizeBytes: BLOCK });
    }
    const boundaries = new Set<number>();
    for (let at = 1; at < index.exactFirstIndex; at += 1) boundaries.add(index.boundaryAtOrBelow(at));
    expect(boundaries.size).toBeLessThanOrEqual(8);
    expect(boundaries.size).toBeGreaterThanOrEqual(4);
    expect(index.exactFirstIndex).toBe(20_000 - 31);
    expect(index.exactGroupsAfter(20_000 - 4)).toBe(2);
    expect(index.exactGroupsAfter(0)).toBe(16);
    expect(index.groupContaining(1)).toBeNull();
  });

  test('refuses what does not follow, goes back, or splits a group', () => {
    const index = new GroupIndex({ startIndex: 10, startTerm: 3, startPosition: 2 * BLOCK });
    const group = { firstIndex: 11, lastIndex: 13, term: 4, position: 2 * BLOCK, sizeBytes: BLOCK };
    expect(() => index.append({ ...group, firstIndex: 12 })).toThrow('does not follow');
    expect(() => index.append({ ...group, position: 0 })).toThrow('before the end');
    expect(() => index.append({ ...group, term: 2 })).toThrow('goes back');
    index.append(group);
    expect(() => index.truncateFrom(12)).toThrow('inside a group');
    expect(() => index.cutTo(12, 4, 2 * BLOCK)).toThrow();
    expect(index.termAt(10)).toBe(3);
    expect(index.termAt(9)).toBeNull();
    expect(index.termAt(14)).toBeNull();
  });
});

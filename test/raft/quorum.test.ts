import { describe, expect, test } from 'vitest';
import { Quorum } from '../../src/raft/quorum.ts';

function values(...byId: number[]): Float64Array {
  const filled = new Float64Array(8);
  filled.set(byId, 1);
  return filled;
}

describe('quorum', () => {
  test('what a majority of one set has reached', () => {
    const of = (voters: number[], ...byId: number[]): number =>
      new Quorum({ voters, learners: [], outgoing: null }).reached(values(...byId));
    expect(of([1], 7)).toBe(7);
    expect(of([1, 2], 7, 3)).toBe(3);
    expect(of([1, 2, 3], 7, 3, 5)).toBe(5);
    expect(of([1, 2, 3, 4], 9, 7, 5, 1)).toBe(5);
    expect(of([1, 2, 3, 4, 5], 1, 9, 2, 8, 3)).toBe(3);
    expect(of([2, 4], 99, 1, 99, 2)).toBe(1);
  });

  test('joint consensus: a majority of each set', () => {
    const joint = new Quorum({ voters: [1, 2, 3], learners: [], outgoing: [3, 4, 5] });
    expect(joint.voters).toEqual([1, 2, 3, 4, 5]);
    expect(joint.reached(values(9, 9, 9, 1, 1))).toBe(1);
    expect(joint.reached(values(9, 9, 0, 4, 4))).toBe(4);
    expect(joint.tally(values(1, 1, 0, 0, 1))).toBe('open');
    expect(joint.tally(values(1, 1, 0, 1, 1))).toBe('won');
    expect(joint.tally(values(1, 1, 1, -1, -1))).toBe('lost');
  });

  test('an election is lost as soon as no majority is possible, not before', () => {
    const three = new Quorum({ voters: [1, 2, 3], learners: [], outgoing: null });
    expect(three.tally(values(1, -1, 0))).toBe('open');
    expect(three.tally(values(1, -1, -1))).toBe('lost');
    expect(three.tally(values(1, 0, 1))).toBe('won');
  });

  test('ids outside 1…7 and voting learners are refused; without voters nothing is decided', () => {
    expect(() => new Quorum({ voters: [8], learners: [], outgoing: null })).toThrow('replica id 8');
    const nobody = new Quorum({ voters: [], learners: [], outgoing: null });
    expect(nobody.tally(values(1, 1, 1))).not.toBe('won');
    expect(nobody.reached(values(5, 5, 5))).toBe(Number.NEGATIVE_INFINITY);
    expect(() => new Quorum({ voters: [1], learners: [1], outgoing: null })).toThrow('learner');
  });
});

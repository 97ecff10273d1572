import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { linearizable, type TimedOperation } from './linearizable.ts';
import { TOPIC_MODEL, type TopicOperation, type TopicState } from './topic-metadata.ts';

/** Tries every order of every choice of the operations that may not have happened. */
function bruteForce(operations: readonly TimedOperation<TopicOperation>[]): boolean {
  const search = (left: readonly number[], state: TopicState | null): boolean => {
    if (left.every((at) => operations[at]?.maybe)) return true;
    return left.some((at) => {
      const { operation, invokedAt } = operations[at] as TimedOperation<TopicOperation>;
      // Something else ended before this one began: that one comes first.
      if (left.some((other) => other !== at && (operations[other] as TimedOperation<TopicOperation>).completedAt < invokedAt)) return false;
      const next = TOPIC_MODEL.step(state, operation);
      return (
        next !== undefined &&
        search(
          left.filter((other) => other !== at),
          next,
        )
      );
    });
  };
  return search([...operations.keys()], null);
}

const operation: fc.Arbitrary<TopicOperation> = fc.oneof(
  fc.record({ f: fc.constantFrom('create' as const, 'update' as const), queues: fc.integer({ min: 1, max: 2 }), perm: fc.constant(6) }),
  fc.record({ f: fc.constant('delete' as const) }),
  fc.record({ f: fc.constant('describe' as const), found: fc.constantFrom(null, { queues: 1, perm: 6 }, { queues: 2, perm: 6 }) }),
);
const timed: fc.Arbitrary<TimedOperation<TopicOperation>> = fc
  .record({ operation, start: fc.integer({ min: 0, max: 12 }), length: fc.integer({ min: 0, max: 6 }), maybe: fc.boolean() })
  .map(({ operation: of, start, length, maybe }) => {
    const isMaybe = maybe && of.f !== 'describe';
    return { operation: of, invokedAt: start, completedAt: isMaybe ? Number.POSITIVE_INFINITY : start + length, maybe: isMaybe };
  });

describe('F43 linearizability of topic metadata', () => {
  test('says what trying every order says', () => {
    const verdicts = { true: 0, false: 0 };
    fc.assert(
      fc.property(fc.array(timed, { minLength: 1, maxLength: 6 }), (operations) => {
        const expected = bruteForce(operations);
        verdicts[`${expected}`]++;
        expect(linearizable(TOPIC_MODEL, operations).verdict).toBe(expected ? 'linearizable' : 'not linearizable');
      }),
      { numRuns: 3_000, seed: 1 },
    );
    // A comparison with histories of one kind only would say little.
    expect(Math.min(verdicts.true, verdicts.false)).toBeGreaterThan(300);
  });

  test('beyond its bound it says that it does not know', () => {
    const create = (queues: number): TimedOperation<TopicOperation> => ({
      operation: { f: 'create', queues, perm: 6 },
      invokedAt: 0,
      completedAt: 10,
      maybe: false,
    });
    const impossible = [create(1), create(2), create(1)];
    expect(linearizable(TOPIC_MODEL, impossible).verdict).toBe('not linearizable');
    expect(linearizable(TOPIC_MODEL, impossible, 2).verdict).toBe('unknown');
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BufferPool } from '../../src/client/buffer-pool.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('memory of batches and frames', () => {
  test('what was given back is taken again, for every size that it holds', () => {
    const pool = new BufferPool();
    const first = pool.take(33 * KIB);
    expect(first.length).toBe(64 * KIB);
    pool.give(first);
    expect(pool.idleBytes).toBe(64 * KIB);
    expect(pool.take(32 * KIB)).not.toBe(first);
    expect(pool.take(64 * KIB)).toBe(first);
    expect(pool.idleBytes).toBe(0);
  });

  test('what lies idle is bounded, and large memory is never kept', () => {
    const pool = new BufferPool();
    const buffers = Array.from({ length: 40 }, () => pool.take(MIB));
    for (const buffer of buffers) pool.give(buffer);
    expect(pool.idleBytes).toBe(16 * MIB);
    const large = pool.take(MIB + 1);
    expect(large.length).toBe(MIB + 1);
    pool.give(large);
    expect(pool.idleBytes).toBe(16 * MIB);
  });

  test('nobody gets memory that another one holds, or less than was asked for', () => {
    const step = fc.record({ take: fc.boolean(), sizeBytes: fc.integer({ min: 1, max: 2 * MIB }), at: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const pool = new BufferPool();
        const held: Buffer[] = [];
        for (const { take, sizeBytes, at } of steps) {
          if (take || held.length === 0) {
            const buffer = pool.take(sizeBytes);
            expect(buffer.length).toBeGreaterThanOrEqual(sizeBytes);
            expect(held).not.toContain(buffer);
            held.push(buffer);
          } else {
            pool.give(held.splice(at % held.length, 1)[0] as Buffer);
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});

import { describe, expect, test } from 'vitest';
import type { PeerStatus } from '../../src/raft/types.ts';
import { InSyncWaiters } from '../../src/replica/in-sync.ts';

const peer = (id: number, matchIndex: number, lastContactMs: number, learner = false): PeerStatus => ({
  id,
  learner,
  state: 'replicate',
  matchIndex,
  nextIndex: matchIndex + 1,
  inflightMessages: 0,
  inflightBytes: 0,
  lastContactMs,
});

describe('replication mode all', () => {
  test('a send is answered when every in-sync follower has it on disk, in order', () => {
    const waiters = new InSyncWaiters(1000);
    const answers: string[] = [];
    for (const index of [5, 6, 7]) waiters.add(index, (ok) => answers.push(`${index} ${ok}`));
    waiters.progressed([peer(2, 7, 0), peer(3, 5, 0)], 0);
    expect(answers).toEqual(['5 true']);
    waiters.progressed([peer(2, 7, 0), peer(3, 6, 0)], 0);
    expect(answers).toEqual(['5 true', '6 true']);
    expect(waiters.size).toBe(1);
  });

  test('a follower that was silent for too long drops out, a learner never counts', () => {
    const waiters = new InSyncWaiters(1000);
    const answers: boolean[] = [];
    waiters.add(5, (ok) => answers.push(ok));
    waiters.progressed([peer(2, 5, 1500), peer(3, 1, 600), peer(4, 0, 1500, true)], 1500);
    expect(answers).toEqual([]);
    waiters.progressed([peer(2, 5, 1500), peer(3, 1, 600), peer(4, 0, 1500, true)], 1601);
    expect(answers).toEqual([true]);
  });

  test('the end of leadership answers false; a callback may add again', () => {
    const waiters = new InSyncWaiters(1000);
    const answers: boolean[] = [];
    waiters.add(5, (ok) => {
      answers.push(ok);
      waiters.add(6, (again) => answers.push(again));
    });
    waiters.failAll();
    expect(answers).toEqual([false]);
    waiters.failAll();
    expect(answers).toEqual([false, false]);
  });

  test('its bound refuses', () => {
    const waiters = new InSyncWaiters(1000);
    for (let i = 0; i < 65_536; i++) expect(waiters.add(i, () => undefined)).toBe(true);
    expect(waiters.add(1, () => undefined)).toBe(false);
  });
});

import { describe, expect, test } from 'vitest';
import type { EntryView, Log } from '../../src/log/types.ts';
import { Applier } from '../../src/replica/applier.ts';
import type { StateMachine } from '../../src/replica/types.ts';
import { ManualClock } from '../support/manual-clock.ts';

function rig(options: { durableIndex?: number; hotFrom?: number } = {}) {
  const clock = new ManualClock();
  const state = { durableIndex: options.durableIndex ?? 100, hotFrom: options.hotFrom ?? 1 };
  const coldReads: [number, number][] = [];
  const visitRange = (from: number, to: number, visit: (entry: EntryView) => void): void => {
    for (let index = from; index <= to; index++) {
      visit({ index, position: 4096 + index * 100, logTimeMs: index, body: new Uint8Array(36) } as EntryView);
    }
  };
  const log = {
    get durableIndex() {
      return state.durableIndex;
    },
    visitHot: (from: number, to: number, visit: (entry: EntryView) => void) => {
      if (from < state.hotFrom) return from - 1;
      visitRange(from, to, visit);
      return to;
    },
    visitCold: async (from: number, to: number, visit: (entry: EntryView) => void) => {
      coldReads.push([from, to]);
      await new Promise<void>((resolve) => void clock.setTimer(5, resolve));
      visitRange(from, to, visit);
      return to;
    },
  } as unknown as Log;
  const applied: number[] = [];
  const announced: number[] = [];
  const failures: unknown[] = [];
  let onApplied = (_index: number): void => undefined;
  const applier = new Applier(
    {
      clock,
      log,
      stateMachine: {
        apply: (entry: { index: number }) => applied.push(entry.index),
        applied: (index: number) => {
          announced.push(index);
          onApplied(index);
        },
      } as unknown as StateMachine,
      segmentBytes: 1024 * 1024,
      segmentStarts: () => undefined,
      advanced: () => undefined,
      failed: (error) => failures.push(error),
    },
    0,
    4096,
  );
  const listen = (callback: (index: number) => void): void => {
    onApplied = callback;
  };
  return { clock, state, applier, applied, announced, failures, coldReads, listen };
}

const upTo = (last: number, first = 1): number[] => Array.from({ length: last - first + 1 }, (_, at) => first + at);

describe('applier', () => {
  test('applies each entry once and in order, also when a commit arrives from inside a callback', async () => {
    const { clock, applier, applied, announced, listen } = rig();
    listen((index) => applier.commit(index === 3 ? 5 : index));
    applier.commit(3);
    await clock.run(10);
    expect(applied).toEqual(upTo(5));
    expect(announced).toEqual([3, 5]);
  });

  test('what is committed ahead of the own disk is never read from the file', async () => {
    const { clock, state, applier, applied, coldReads } = rig({ durableIndex: 4, hotFrom: 5 });
    applier.commit(8);
    await clock.run(20);
    expect(coldReads).toEqual([[1, 4]]);
    expect(applied).toEqual(upTo(8));
    expect(state.durableIndex).toBe(4);
  });

  test('a state from the leader takes over in the middle of a read: nothing of the old log is applied behind it', async () => {
    const { clock, state, applier, applied, failures } = rig({ hotFrom: 1000 });
    applier.commit(8);
    const paused = applier.pause();
    applier.commit(9);
    await clock.run(20);
    await paused;
    const before = applied.length;
    state.hotFrom = 1;
    applier.restart(50, 8192);
    await clock.run(20);
    expect(applied.length).toBe(before);
    applier.commit(52);
    await clock.run(20);
    expect(applied.slice(before)).toEqual([51, 52]);
    expect(failures).toEqual([]);
  });

  test('a long run gives way to others', async () => {
    const { clock, applier, applied } = rig();
    let now = 0;
    clock.monotonicMs = () => (now += 5);
    applier.commit(3000);
    expect(applied.length).toBeLessThan(3000);
    await clock.run(0);
    expect(applied).toEqual(upTo(3000));
  });
});

import { describe, expect, test } from 'vitest';
import type { GroupRun, Log } from '../../src/log/types.ts';
import type { AppendRequest, Message } from '../../src/raft/types.ts';
import { AppendStreams } from '../../src/replica/append-streams.ts';
import { ManualClock } from '../support/manual-clock.ts';

const appendOf = (firstIndex: number, lastIndex: number, term = 1): AppendRequest => ({
  type: 'appendRequest',
  from: 1,
  to: 2,
  term,
  prevIndex: firstIndex - 1,
  prevTerm: 1,
  firstIndex,
  lastIndex,
  commitIndex: 0,
  groups: [],
});

/** A log of groups of one entry; `hot` are in memory, the others in files that take a while. */
function rig(hot: readonly number[], lastIndex = 20) {
  const clock = new ManualClock();
  const state = { socketTakes: true, term: 1, hot: new Set(hot), lastIndex, firstIndex: 1, held: 0, damaged: false };
  const runOf = (firstIndex: number, last: number): GroupRun => {
    state.held++;
    const bytes = new Uint8Array((last - firstIndex + 1) * 10);
    return { firstIndex, lastIndex: last, bytes, hold: { release: () => void state.held-- } };
  };
  const log = {
    get lastIndex() {
      return state.lastIndex;
    },
    get firstIndex() {
      return state.firstIndex;
    },
    termAt: () => 1,
    hotGroups: (first: number, last: number) => {
      if (!state.hot.has(first)) return null;
      let end = first;
      while (end < last && state.hot.has(end + 1)) end++;
      return [runOf(first, end)];
    },
    coldGroups: async (first: number, last: number) => {
      await new Promise<void>((resolve) => void clock.setTimer(5, resolve));
      if (state.damaged) throw new Error('damaged');
      return runOf(first, Math.min(last, first + 1));
    },
  } as unknown as Log;
  const sent: (Message | string)[] = [];
  const failures: unknown[] = [];
  const waiting: GroupRun[] = [];
  const streams = new AppendStreams({
    clock,
    log,
    term: () => state.term,
    catchUpBytesPerSecond: 1_000_000,
    send: (message) => sent.push(message.type),
    sendAppend: (message, runs) => {
      sent.push(`${message.firstIndex}-${message.lastIndex}`);
      expect(runs.at(-1)?.lastIndex).toBe(message.lastIndex);
      if (state.socketTakes) for (const run of runs) run.hold.release();
      else waiting.push(...runs);
    },
    failed: (error) => failures.push(error),
  });
  return { clock, state, streams, sent, failures, waiting };
}

const heartbeat: Message = { type: 'heartbeatRequest', from: 1, to: 2, term: 1, commitIndex: 0, readContext: 0 };

describe('append streams', () => {
  test('messages behind one that waits for the disk keep their order', async () => {
    const { clock, state, streams, sent } = rig([5, 6]);
    streams.deliver(appendOf(1, 4));
    streams.deliver(heartbeat);
    streams.deliver(appendOf(5, 6));
    expect(sent).toEqual([]);
    await clock.run(100);
    expect(sent).toEqual(['1-2', '3-4', 'heartbeatRequest', '5-6']);
    expect(state.held).toBe(0);
  });

  test('a range that is hot only at its head is not sent as if it were whole', async () => {
    const { clock, state, streams, sent } = rig([1, 2, 5, 6]);
    streams.deliver(appendOf(1, 6));
    await clock.run(100);
    expect(sent.every((one) => typeof one === 'string')).toBe(true);
    expect(sent.at(-1)).toBe('5-6');
    expect(state.held).toBe(0);
  });

  test('an append of an older term is dropped: its bytes may be those of another leader by now', async () => {
    const { clock, state, streams, sent } = rig([5, 6]);
    streams.deliver(appendOf(1, 4));
    streams.deliver(appendOf(5, 6));
    state.term = 2;
    await clock.run(100);
    expect(sent).toEqual([]);
    expect(state.held).toBe(0);
  });

  test('what another leader cut away while it was read is no damage of this disk', async () => {
    const { clock, state, streams, failures } = rig([]);
    streams.deliver(appendOf(1, 4));
    state.damaged = true;
    await clock.run(2);
    state.term = 2;
    await clock.run(100);
    expect(failures).toEqual([]);
  });

  test('a follower that takes its bytes slowly has one buffer of the files, not all of them', async () => {
    const { clock, state, streams, sent, waiting } = rig([]);
    state.socketTakes = false;
    streams.deliver(appendOf(1, 8));
    await clock.run(100);
    expect(sent).toEqual(['1-2']);
    expect(state.held).toBe(1);
    for (let i = 0; i < 4; i++) {
      waiting.shift()?.hold.release();
      await clock.run(20);
    }
    expect(sent).toEqual(['1-2', '3-4', '5-6', '7-8']);
    expect(state.held).toBe(0);
  });

  test('damage of committed bytes ends the replica', async () => {
    const { clock, state, streams, failures } = rig([]);
    state.damaged = true;
    streams.deliver(appendOf(1, 4));
    await clock.run(100);
    expect(failures.length).toBe(1);
  });

  test('a link that ends forgets what waits for it', async () => {
    const { clock, state, streams, sent } = rig([]);
    streams.deliver(appendOf(1, 4));
    streams.deliver(heartbeat);
    streams.lost(2);
    await clock.run(100);
    expect(sent).toEqual([]);
    expect(state.held).toBe(0);
  });
});

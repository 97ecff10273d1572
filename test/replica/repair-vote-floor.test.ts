import { describe, expect, test } from 'vitest';
import { RepairStatus } from '../../src/replica/repair-frames.ts';
import { VoteFloorQuestion } from '../../src/replica/vote-floor.ts';
import { LeapingClock } from '../log/support.ts';

/** Answers by replica id; undefined = not linked. */
function world(answers: Record<number, RepairStatus | null | undefined>, others: readonly number[]) {
  const clock = new LeapingClock();
  const events: string[] = [];
  let floor = 7;
  const question = new VoteFloorQuestion({
    clock,
    peers: {
      get reachable() {
        return others.filter((id) => answers[id] !== undefined);
      },
      ask: async (peer) => {
        const status = answers[peer];
        return status === null || status === undefined ? null : { id: 1, status, a: 0, b: 0, bytes: new Uint8Array(0) };
      },
    },
    others: () => others,
    onEvent: (name) => events.push(name),
  });
  const done = question.ask(
    () => floor,
    () => {
      floor = 0;
    },
  );
  const seconds = async (count: number): Promise<void> => {
    for (let i = 0; i < count * 2; i++) await new Promise<void>((resolve) => void clock.setTimer(500, resolve));
  };
  return {
    events,
    done,
    seconds,
    question,
    floor: () => floor,
    overwritten: () => {
      floor = 0;
    },
  };
}

describe('vote floor (I4)', () => {
  test('a group of one asks nobody: what is damaged on its only disk cannot come back', async () => {
    const { done, floor, events } = world({}, []);
    await done;
    expect(floor()).toBe(0);
    expect(events).toEqual(['vote floor lifted']);
  });

  test('lifted once every other voter was heard and none has the log whole up to it, not before', async () => {
    const answers: Record<number, RepairStatus | undefined> = { 2: RepairStatus.missing };
    const { done, floor, events, seconds } = world(answers, [2, 3]);
    await seconds(10);
    expect(floor()).toBe(7);
    expect(events).toEqual(['vote floor waits']);
    answers[3] = RepairStatus.busy;
    await seconds(10);
    expect(floor()).toBe(7);
    answers[3] = RepairStatus.missing;
    await seconds(2);
    await done;
    expect(floor()).toBe(0);
  });

  test('one that has it keeps it up, until a leader has overwritten it here', async () => {
    const { done, floor, seconds, overwritten, events } = world({ 2: RepairStatus.missing, 3: RepairStatus.ok }, [2, 3]);
    await seconds(30);
    expect(floor()).toBe(7);
    overwritten();
    await seconds(2);
    await done;
    expect(events).toEqual(['vote floor waits']);
  });

  test('no answer is no answer, and a stop ends the asking', async () => {
    const { done, floor, seconds, question } = world({ 2: RepairStatus.missing, 3: null }, [2, 3]);
    await seconds(10);
    expect(floor()).toBe(7);
    question.stop();
    await seconds(2);
    await done;
  });
});

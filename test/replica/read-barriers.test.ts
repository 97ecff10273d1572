import { describe, expect, test } from 'vitest';
import { ReadBarriers } from '../../src/replica/read-barriers.ts';
import { ManualClock } from '../support/manual-clock.ts';

function rig() {
  const clock = new ManualClock();
  const asked: number[] = [];
  const barriers = new ReadBarriers(clock, (context) => asked.push(context));
  const answers: boolean[] = [];
  const add = (): void => barriers.add((ok) => answers.push(ok));
  return { clock, asked, barriers, answers, add };
}

describe('read barriers (ReadIndex)', () => {
  test('one round serves all reads of a turn; it is answered when applied that far', async () => {
    const { clock, asked, barriers, answers, add } = rig();
    add();
    add();
    await clock.run(0);
    expect(asked).toEqual([1]);
    barriers.confirmed(1, 10, 9);
    expect(answers).toEqual([]);
    barriers.applied(10);
    expect(answers).toEqual([true, true]);
  });

  test('a read that comes after the round has begun waits for the next one', async () => {
    const { clock, asked, barriers, answers, add } = rig();
    add();
    await clock.run(0);
    add();
    barriers.confirmed(1, 5, 5);
    expect(answers).toEqual([true]);
    await clock.run(0);
    expect(asked).toEqual([1, 2]);
  });

  test('a refusal and the end of leadership are answered with false, once', async () => {
    const { clock, barriers, answers, add } = rig();
    add();
    await clock.run(0);
    barriers.confirmed(1, null, 5);
    add();
    await clock.run(0);
    add();
    barriers.failAll();
    barriers.confirmed(2, 5, 5);
    await clock.run(0);
    expect(answers).toEqual([false, false, false]);
  });

  test('beyond its bound a read is told "not now", and room is made by answers', async () => {
    const { clock, barriers, answers, add } = rig();
    for (let i = 0; i < 16_385; i++) add();
    expect(answers).toEqual([false]);
    await clock.run(0);
    barriers.confirmed(1, 1, 1);
    add();
    expect(answers.length).toBe(16_385);
  });
});

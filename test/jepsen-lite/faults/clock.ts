import { setTimeout as sleep } from 'node:timers/promises';
import { first, type StartFault } from './fault.ts';

const SHIFT_S = 3_600;
/** The header has whole seconds, and its owner may be slow. */
const TOLERANCE_MS = 120_000;
const POLL_MS = 200;
const SEEN_TIMEOUT_MS = 20_000;

const clock: StartFault = async ({ cluster, order, prng }) => {
  const replica = first(order);
  const shiftS = prng.chance(0.5) ? SHIFT_S : -SHIFT_S;
  replica.shiftClock(shiftS);
  let seenMs: number | null = null;
  // It may be paused, killed or starting meanwhile: asked again until it answers.
  const seen = async (): Promise<void> => {
    const deadlineMs = performance.now() + SEEN_TIMEOUT_MS;
    while (seenMs === null && performance.now() < deadlineMs) {
      const aheadMs = await cluster.clockAheadMs(replica);
      if (aheadMs !== null && Math.abs(aheadMs - shiftS * 1000) < TOLERANCE_MS) seenMs = aheadMs;
      else await sleep(POLL_MS);
    }
  };
  const watching = seen();
  return {
    targets: [replica.name],
    end: async () => {
      await watching;
      replica.shiftClock(0);
      const text = seenMs === null ? 'no answer with the shifted time' : `${replica.name} said a time ${Math.round(seenMs / 1000)} s off`;
      return { fired: seenMs !== null, text };
    },
  };
};

export const CLOCK_FAULTS: Readonly<Record<string, StartFault>> = { clock };

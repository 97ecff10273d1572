import { Retries } from '../../../src/broker/retries.ts';
import { Timers } from '../../../src/broker/timers.ts';
import { type Canary, patch } from './canary.ts';

export const RETRY_CANARIES: readonly Canary[] = [
  {
    name: 'what was sent back above the committed offset is forgotten',
    breaks: 'F22: a failed attempt makes one place in the retry queue, however often its send-back is asked for',
    caughtBy: ['retried twice'],
    firstSeed: 1,
    seeds: 20,
    workloads: ['retries'],
    faults: ['clientCrash', 'reset'],
    plant: () => patch(Retries.prototype, 'isSentBack', () => () => false),
  },
  {
    name: 'a retry is delivered at once',
    breaks: 'F22: no retry before its delay',
    caughtBy: ['retried early'],
    firstSeed: 1,
    seeds: 5,
    workloads: ['retries'],
    plant: () =>
      patch(
        Timers.prototype,
        'deferRow',
        (original) =>
          function (this: Timers, ...args: never[]) {
            const [row, position, , entry] = args as unknown as [unknown, unknown, number, { logTimeMs: number }];
            return original.call(this, row, position, entry.logTimeMs, entry);
          },
      ),
  },
  {
    name: 'a send-back is confirmed and not done',
    breaks: 'F22: a message that failed is safe elsewhere before its offset counts as done',
    caughtBy: ['not live', 'lost'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['retries'],
    plant: () =>
      patch(
        Retries.prototype,
        'handle',
        (original) =>
          function (this: Retries, ...args: never[]) {
            const [command] = args as unknown as [{ type: string; messages: readonly unknown[] }];
            // Answered as if it were done.
            if (command.type === 'sendBack') return { error: 0, results: command.messages.map(() => 0) };
            return original.apply(this, args);
          },
      ),
  },
];

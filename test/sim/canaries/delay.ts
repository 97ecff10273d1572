import type { Command } from '../../../src/broker/commands.ts';
import { PendingCommands } from '../../../src/broker/pending-commands.ts';
import { TimerWheel } from '../../../src/broker/timer-wheel.ts';
import { Timers } from '../../../src/broker/timers.ts';
import { type Canary, patch } from './canary.ts';

export const DELAY_CANARIES: readonly Canary[] = [
  {
    name: 'a delivery that begins elsewhere than the state stands is applied all the same',
    breaks: 'F13: what two leaders propose is delivered once',
    caughtBy: ['delivered twice', 'not live', 'AssertionError'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['delay'],
    plant: () => {
      const unguarded = patch(
        Timers.prototype,
        'handle',
        (original) =>
          function (this: Timers, ...args: never[]) {
            const [command] = args as unknown as [Command];
            if (command.type === 'delayLevelDue') Object.assign(command, { from: this.levels.delivered(command.level) });
            const { cursor } = this.wheel;
            if (command.type === 'timersDue') Object.assign(command, { fromDueMs: cursor.dueMs, fromPosition: cursor.position });
            return original.apply(this, args);
          },
      );
      // Harmless with the check; by itself it comes to that once in hundreds of seeds.
      const again = patch(
        PendingCommands.prototype,
        'propose',
        (original) =>
          function (this: PendingCommands, ...args: never[]) {
            const [command, , rows] = args as unknown as Parameters<PendingCommands['propose']>;
            original.apply(this, args);
            if (command.type === 'delayLevelDue' || command.type === 'timersDue') original.call(this, command, () => {}, rows);
          },
      );
      return () => {
        again();
        unguarded();
      };
    },
  },
  {
    name: 'timers are delivered two seconds before they are due',
    breaks: 'F13: never early by log time',
    caughtBy: ['early'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['delay'],
    plant: () =>
      patch(
        TimerWheel.prototype,
        'add',
        (original) =>
          function (this: TimerWheel, ...args: never[]) {
            const [dueMs, ...rest] = args as unknown as [number, ...never[]];
            return original.call(this, Math.max(this.cursor.dueMs + 1, dueMs - 2_000), ...rest);
          },
      ),
  },
  {
    name: 'a new leader does not read the timers of its predecessors',
    breaks: 'F13: none lost over a leader change',
    caughtBy: ['not live', 'lost'],
    firstSeed: 1,
    seeds: 10,
    workloads: ['delay'],
    faults: ['transfer'],
    plant: () =>
      patch(
        TimerWheel.prototype,
        'buckets',
        () =>
          function (this: TimerWheel) {
            return [];
          },
      ),
  },
];

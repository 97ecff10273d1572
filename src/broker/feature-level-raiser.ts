import type { ErrorCode } from '../protocol/errors.ts';
import type { BrokerContext } from './context.ts';
import type { Deadline } from './deadlines.ts';
import type { PendingCommands } from './pending-commands.ts';

/**
 * A member that comes back is seen when its link opens. Looking again finds what no link tells: the last member of the older
 * release was removed. The wait doubles, so that a group which stays at its level arms next to no timers.
 */
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 16_000;

export interface FeatureLevelPorts {
  /** Highest level that every member of the group has announced; 0 while one of them was not heard. */
  readonly announcedLevel: () => number;
  /** Raise by itself; else only when asked (raise()). */
  readonly autoRaise: boolean;
}

/** `level`: the group's afterwards. */
export type RaiseDone = (error: ErrorCode | null, level: number) => void;

/** The leader raises the group's feature level once all members know a higher one. It is never lowered. */
export class FeatureLevelRaiser implements Deadline {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #ports: FeatureLevelPorts;
  #proposed = false;
  #waitMs = FIRST_WAIT_MS;
  dueMs = 0;
  slot = -1;

  constructor(context: BrokerContext, commands: PendingCommands, ports: FeatureLevelPorts) {
    this.#context = context;
    this.#commands = commands;
    this.#ports = ports;
  }

  /** Before anything else of the new leader: what it proposes may already need the level. */
  becameReady(): void {
    this.check();
  }

  leadershipLost(): void {
    this.#context.deadlines.remove(this);
  }

  due(): void {
    this.#waitMs = Math.min(this.#waitMs * 2, LONGEST_WAIT_MS);
    this.#look();
  }

  /** A member was heard, or may have been. */
  check(): void {
    this.#waitMs = FIRST_WAIT_MS;
    this.#look();
  }

  #look(): void {
    const { state, leadership, deadlines } = this.#context;
    if (!leadership.ready || !this.#ports.autoRaise || state.featureLevel >= state.newestFeatureLevel) return;
    deadlines.set(this, this.#waitMs);
    const level = this.#ports.announcedLevel();
    if (level > state.featureLevel) this.#raise(level, 'all members announce it', () => undefined);
  }

  /** @param by who asked; goes into the log */
  raise(level: number, by: string, done: RaiseDone): void {
    const { state, leadership } = this.#context;
    const announced = this.#ports.announcedLevel();
    const wanted = level === 0 ? Math.max(announced, state.featureLevel) : level;
    const refusal = leadership.refusal();
    if (refusal !== null) done(refusal, state.featureLevel);
    else if (wanted <= state.featureLevel) done(null, state.featureLevel);
    else if (wanted > announced) done('FEATURE_LEVEL', state.featureLevel);
    else this.#raise(wanted, by, done);
  }

  #raise(level: number, by: string, done: RaiseDone): void {
    const { state, metrics } = this.#context;
    if (this.#proposed) {
      done('BUSY', state.featureLevel);
      return;
    }
    this.#proposed = true;
    const from = state.featureLevel;
    this.#commands.propose({ type: 'featureLevelRaise', level }, (error) => {
      this.#proposed = false;
      metrics.event('feature level raised', { from, to: level, by, error: error ?? '' });
      done(error, state.featureLevel);
    });
  }
}

import type { BrokerContext } from './context.ts';
import { FEATURE_LEVELS } from './feature-level.ts';
import { LevelDelivery } from './level-delivery.ts';
import type { PendingCommands } from './pending-commands.ts';
import type { Reader } from './reader.ts';
import type { TimersListener } from './timers.ts';
import { WaitingRows } from './waiting-rows.ts';
import { WheelDelivery } from './wheel-delivery.ts';

/** The leader's part of delayed delivery (F13): sees what is due and proposes it. Whatever it forgets or says twice, the state stands. */
export class TimerDelivery implements TimersListener {
  readonly #context: BrokerContext;
  readonly #commands: PendingCommands;
  readonly #rows: WaitingRows;
  /** Level n is at n − 1. */
  readonly #levels: LevelDelivery[] = [];
  readonly #wheel: WheelDelivery;
  /** Levels that something came to since the last run. */
  readonly #grown = new Set<number>();
  /** What the configuration says, ms; null: as the log has it. */
  readonly #delaysMs: readonly number[] | null;
  #tableSeen = false;

  constructor(context: BrokerContext, commands: PendingCommands, reader: Reader, delaysMs: readonly number[] | null) {
    this.#context = context;
    this.#commands = commands;
    this.#delaysMs = delaysMs;
    this.#rows = new WaitingRows(context, reader);
    this.#wheel = new WheelDelivery(context, commands, this.#rows);
    context.state.timers.listen(this);
  }

  get near(): WheelDelivery['near'] {
    return this.#wheel.near;
  }

  /** Log time; −1: nothing is known to wait. */
  get nextDueMs(): number {
    const dues = [this.#wheel.near.nextDueMs, ...this.#levels.map((level) => level.nextDueMs)].filter((dueMs) => dueMs >= 0);
    return dues.length === 0 ? -1 : Math.min(...dues);
  }

  onWaits(topicId: number, messages: number): void {
    const topic = this.#context.state.topics.withId(topicId);
    if (topic !== undefined && this.#context.leadership.ready) this.#context.metrics.timersEnqueued(topic.name, messages);
  }

  onPlaced(topicId: number, messages: number): void {
    const topic = this.#context.state.topics.withId(topicId);
    if (topic !== undefined && this.#context.leadership.ready) this.#context.metrics.timersDequeued(topic.name, messages);
  }

  onLevel(level: number): void {
    this.#grown.add(level);
  }

  onTimer(dueMs: number, position: number, sizeBytes: number, count: number, bloom: number): void {
    this.#wheel.onTimer(dueMs, position, sizeBytes, count, bloom);
  }

  /** The delays of the levels changed: whoever sleeps may have to wake earlier. */
  onLevelsChanged(): void {
    for (let level = 1; level <= this.#context.state.timers.levels.count; level++) this.#grown.add(level);
  }

  becameReady(): void {
    this.#tableSeen = false;
    this.onLevelsChanged();
    this.#wheel.becameReady();
  }

  leadershipLost(): void {
    for (const level of this.#levels) level.loop.stop();
    this.#wheel.leadershipLost();
    this.#grown.clear();
  }

  /** End of a run of entries. */
  applied(): void {
    if (!this.#context.leadership.ready) {
      this.#grown.clear();
      return;
    }
    if (!this.#tableSeen) this.#proposeTable();
    for (const level of this.#levels) if (level.loop.awaitsApply) level.loop.run();
    this.#wheel.applied();
    if (this.#grown.size === 0) return;
    for (const level of this.#grown) this.#level(level).loop.run();
    this.#grown.clear();
  }

  /** Once a leadership, as soon as every replica can read it. */
  #proposeTable(): void {
    const { state, metrics } = this.#context;
    if (state.featureLevel < FEATURE_LEVELS.messaging) return;
    this.#tableSeen = true;
    const delaysMs = this.#delaysMs;
    if (delaysMs === null || String(delaysMs) === String(state.timers.levels.delaysMs)) return;
    this.#commands.propose({ type: 'delayLevelsSet', delaysMs }, (error) => {
      metrics.event('delay levels changed', { levels: delaysMs.length, error: error ?? '' });
    });
  }

  #level(level: number): LevelDelivery {
    while (this.#levels.length < level) {
      this.#levels.push(new LevelDelivery(this.#levels.length + 1, this.#context, this.#commands, this.#rows));
    }
    return this.#levels[level - 1] as LevelDelivery;
  }
}

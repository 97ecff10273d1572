import type { Timer } from '../io/clock.ts';
import { errorCodeOf } from '../protocol/errors.ts';
import { type OffsetCommitResponse, Op } from '../protocol/requests.ts';
import type { ClientCore } from './client-core.ts';
import type { ProcessQueue } from './process-queue.ts';

export interface OffsetCommitterOptions {
  readonly group: string;
  readonly member: string;
  readonly intervalMs: number;
}

export interface OffsetCommitterEvents {
  ownershipRefused(queue: ProcessQueue): void;
}

/** Keeps the done offsets of a consumer somewhere. */
export interface OffsetKeeper {
  start(): void;
  /** Keeps once more what is done. */
  close(timeoutMs: number): Promise<void>;
}

interface Round {
  readonly brokerName: string;
  readonly epoch: number;
  readonly queues: ProcessQueue[];
  readonly offsets: number[];
}

/** Commits the done offsets that changed, every interval, in one request for each leader and epoch; one round in flight. */
export class OffsetCommitter implements OffsetKeeper {
  readonly #core: ClientCore;
  readonly #options: OffsetCommitterOptions;
  readonly #queues: ReadonlyMap<string, ProcessQueue>;
  readonly #events: OffsetCommitterEvents;
  #timer: Timer | null = null;
  #busy: Promise<void> | null = null;
  #closed = false;

  constructor(core: ClientCore, options: OffsetCommitterOptions, queues: ReadonlyMap<string, ProcessQueue>, events: OffsetCommitterEvents) {
    this.#core = core;
    this.#options = options;
    this.#queues = queues;
    this.#events = events;
  }

  start(): void {
    if (this.#closed) return;
    this.#timer = this.#core.io.clock.setTimer(this.#options.intervalMs, () => {
      this.#busy ??= this.#commit(this.#core.requestTimeoutMs).finally(() => {
        this.#busy = null;
      });
      this.start();
    });
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) this.#core.io.clock.clearTimer(this.#timer);
    const deadlineAt = this.#core.io.clock.monotonicMs() + timeoutMs;
    if (this.#busy !== null) await this.#core.within(this.#busy, timeoutMs);
    await this.#commit(Math.max(1, deadlineAt - this.#core.io.clock.monotonicMs()));
  }

  async #commit(timeoutMs: number): Promise<void> {
    await Promise.all(this.#rounds().map((round) => this.#send(round, timeoutMs)));
  }

  #rounds(): Round[] {
    const rounds = new Map<string, Round>();
    for (const queue of this.#queues.values()) {
      const offset = queue.doneOffset;
      // A released queue's last offset went with its release.
      if (offset < 0 || offset === queue.committedOffset || queue.state === 'lost' || queue.released) continue;
      const { brokerName } = queue.queue;
      const key = `${queue.epoch}/${brokerName}`;
      const round = rounds.get(key) ?? { brokerName, epoch: queue.epoch, queues: [], offsets: [] };
      rounds.set(key, round);
      round.queues.push(queue);
      round.offsets.push(offset);
    }
    return [...rounds.values()];
  }

  async #send({ brokerName, epoch, queues, offsets }: Round, timeoutMs: number): Promise<void> {
    const { group, member } = this.#options;
    const request = {
      group,
      member,
      epoch,
      offsets: queues.map(({ queue: { topic, queueId } }, i) => ({ topic, queueId, offset: offsets[i] as number })),
    };
    let body: OffsetCommitResponse;
    try {
      ({ body } = await this.#core.askLeader(brokerName, Op.offsetCommit, request, timeoutMs));
    } catch {
      // No leader, or the whole group is refused: the offsets stay changed and go with the next round; heartbeats rejoin.
      return;
    }
    queues.forEach((queue, i) => {
      const error = body.errors[i] ?? 0;
      if (error === 0) queue.committedOffset = Math.max(queue.committedOffset, offsets[i] as number);
      else if (REFUSED.has(errorCodeOf(error)) && !this.#closed) this.#events.ownershipRefused(queue);
    });
  }
}

const REFUSED: ReadonlySet<string> = new Set(['NOT_OWNER', 'FENCED', 'UNKNOWN_MEMBER']);

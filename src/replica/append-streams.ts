import type { Clock } from '../io/clock.ts';
import type { GroupRun, Log } from '../log/types.ts';
import type { AppendRequest, Message, ReplicaId } from '../raft/types.ts';

export interface AppendStreamPorts {
  readonly clock: Clock;
  readonly log: Log;
  /** Term of the core: an append of an older one speaks of a log that may be another by now. */
  term(): number;
  /** Bytes per second read from the files for followers that are behind, all followers together. */
  readonly catchUpBytesPerSecond: number;
  send(message: Message): void;
  /** Takes over the runs' holds, sent or not. */
  sendAppend(message: AppendRequest, runs: readonly GroupRun[]): void;
  /** Committed bytes could not be read back. */
  failed(error: unknown): void;
}

/** Messages waiting behind a cold read for one follower; Raft's own window is far below. */
const MAX_QUEUED_MESSAGES = 4096;

/**
 * Puts the bytes to Raft's append messages: the hot tail's memory as it is, or the files' for a follower that is behind.
 * Messages to one follower keep their order, also when one of them has to wait for the disk: a pipelined append that
 * overtakes its predecessor would be rejected.
 */
export class AppendStreams {
  readonly #ports: AppendStreamPorts;
  readonly #queues = new Map<ReplicaId, Message[]>();
  /** Cold bytes that the follower's socket has not taken yet. */
  readonly #onTheWay = new Map<ReplicaId, Promise<void>>();
  #paidUntilMs = 0;
  #stopped = false;

  constructor(ports: AppendStreamPorts) {
    this.#ports = ports;
  }

  deliver(message: Message): void {
    const queue = this.#queues.get(message.to);
    if (queue !== undefined) {
      if (queue.length < MAX_QUEUED_MESSAGES) queue.push(message);
      return;
    }
    if (this.#sendNow(message)) return;
    this.#queues.set(message.to, [message]);
    void this.#drainCold(message.to);
  }

  /** The link to a follower ended: what waits for it is for a stream that is gone. */
  lost(peer: ReplicaId): void {
    const queue = this.#queues.get(peer);
    if (queue !== undefined) queue.length = 0;
  }

  stop(): void {
    this.#stopped = true;
    for (const queue of this.#queues.values()) queue.length = 0;
  }

  /** @returns false when the bytes are not in memory any more */
  #sendNow(message: Message): boolean {
    if (message.type !== 'appendRequest' || message.lastIndex < message.firstIndex) {
      this.#ports.send(message);
      return true;
    }
    const { log } = this.#ports;
    // Truncated since the core asked (a new leader's first word came in between): the message speaks of a log that is no more.
    if (log.lastIndex < message.lastIndex || message.term !== this.#ports.term()) return true;
    const runs = log.hotGroups(message.firstIndex, message.lastIndex, Number.MAX_SAFE_INTEGER);
    if (runs === null) return false;
    // A chunk that is held outlives newer ones: what follows may be in the files only. The whole range goes by way of them.
    if (runs.at(-1)?.lastIndex !== message.lastIndex) {
      for (const run of runs) run.hold.release();
      return false;
    }
    this.#ports.sendAppend(message, runs);
    return true;
  }

  async #drainCold(peer: ReplicaId): Promise<void> {
    const queue = this.#queues.get(peer) as Message[];
    try {
      for (;;) {
        const message = queue[0];
        if (message === undefined || this.#stopped) break;
        if (!this.#sendNow(message)) await this.#sendCold(message as AppendRequest, queue);
        if (queue[0] === message) queue.shift();
      }
    } catch (error) {
      if (!this.#stopped) this.#ports.failed(error);
    } finally {
      this.#queues.delete(peer);
    }
  }

  async #sendCold(message: AppendRequest, queue: readonly Message[]): Promise<void> {
    const { log } = this.#ports;
    let rest = message;
    while (rest.firstIndex <= message.lastIndex) {
      await this.#pace();
      // One buffer a follower: one that takes its bytes slowly must not have those of the others, or of apply.
      await this.#onTheWay.get(message.to);
      // Cut away meanwhile (retention), or the link ended: Raft notices by itself and tries again from where it must.
      if (queue[0] !== message || rest.firstIndex < log.firstIndex || !this.#isCurrent(message)) return;
      // What is left may be newer than the own disk, and then it is in memory only; so may all of it be, when the log was cut meanwhile.
      if (this.#sendNow(rest)) return;
      const run = await this.#readCold(message, rest.firstIndex);
      if (run === null) return;
      this.#charge(run.bytes.length);
      if (queue[0] !== message || this.#stopped || !this.#isCurrent(message)) {
        run.hold.release();
        return;
      }
      this.#ports.sendAppend({ ...rest, lastIndex: run.lastIndex }, [this.#watched(message.to, run)]);
      rest = { ...rest, prevIndex: run.lastIndex, prevTerm: log.termAt(run.lastIndex), firstIndex: run.lastIndex + 1 };
    }
  }

  #watched(peer: ReplicaId, run: GroupRun): GroupRun {
    let taken = (): void => undefined;
    const onTheWay = new Promise<void>((resolve) => {
      taken = resolve;
    });
    this.#onTheWay.set(peer, onTheWay);
    const release = (): void => {
      run.hold.release();
      if (this.#onTheWay.get(peer) === onTheWay) this.#onTheWay.delete(peer);
      taken();
    };
    return { ...run, hold: { release } };
  }

  #isCurrent(message: AppendRequest): boolean {
    return message.term === this.#ports.term() && message.lastIndex <= this.#ports.log.lastIndex;
  }

  /** @returns null when retention, or another leader, cut the range away while it was read */
  async #readCold(message: AppendRequest, firstIndex: number): Promise<GroupRun | null> {
    const { log } = this.#ports;
    try {
      return await log.coldGroups(firstIndex, message.lastIndex, Number.MAX_SAFE_INTEGER);
    } catch (error) {
      if (firstIndex < log.firstIndex || !this.#isCurrent(message)) return null;
      throw error;
    }
  }

  #charge(sizeBytes: number): void {
    const nowMs = this.#ports.clock.monotonicMs();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, nowMs) + (sizeBytes * 1000) / this.#ports.catchUpBytesPerSecond;
  }

  #pace(): Promise<void> {
    const waitMs = this.#paidUntilMs - this.#ports.clock.monotonicMs();
    if (waitMs <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#ports.clock.setTimer(waitMs, resolve);
    });
  }
}

import type { Random } from '../io/random.ts';
import type { MessageQueue } from './message-queue.ts';
import type { KnownTopic } from './router.ts';
import type { SendQueue } from './send-queue.ts';

const PERM_WRITE = 2;

/**
 * Round robin for unkeyed messages, starting anywhere. It stays on a queue until the queue's batch closes (full, or sent at the
 * end of the turn), so that few queues get large batches; groups that fail or are slow are left out while others are there.
 */
export class QueueRotation {
  readonly #random: Random;
  readonly #admits: (brokerName: string) => boolean;
  #queues: readonly SendQueue[] = [];
  #next = 0;
  #current: SendQueue | null = null;

  constructor(random: Random, admits: (brokerName: string) => boolean) {
    this.#random = random;
    this.#admits = admits;
  }

  update(known: KnownTopic, queueOf: (queue: MessageQueue) => SendQueue): void {
    const queues = known.queues.map(queueOf);
    if (this.#queues.length === 0) this.#next = Math.floor(this.#random.unit() * queues.length);
    this.#queues = (known.route.perm & PERM_WRITE) === 0 ? [] : queues;
    this.#current = null;
  }

  /** Where the next unkeyed message goes; null when no queue may be written. */
  current(): SendQueue | null {
    this.#current ??= this.#choose(null) ?? this.#advance();
    return this.#current;
  }

  /** The batch of a queue is full. */
  closed(queue: SendQueue): void {
    if (this.#current === queue) this.#current = null;
  }

  /**
   * What was gathered leaves now. A queue whose window is full, or whose batch lingers, goes on gathering: it keeps its turn.
   * @param now monotonic, ms
   */
  turnEnded(lingerMs: number, now: number): void {
    const current = this.#current;
    if (current?.hasNext(lingerMs, now)) this.#current = null;
  }

  /** A queue of another group, for a batch that this group refused; null when there is none that answers. */
  elsewhere(brokerName: string): SendQueue | null {
    return this.#choose(brokerName);
  }

  #choose(except: string | null): SendQueue | null {
    for (let i = 0; i < this.#queues.length; i++) {
      const queue = this.#advance() as SendQueue;
      const { brokerName } = queue.queue;
      if (brokerName !== except && this.#admits(brokerName)) return queue;
    }
    return null;
  }

  #advance(): SendQueue | null {
    if (this.#queues.length === 0) return null;
    const queue = this.#queues[this.#next % this.#queues.length] as SendQueue;
    this.#next = (this.#next + 1) % this.#queues.length;
    return queue;
  }
}

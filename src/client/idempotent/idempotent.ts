import type { Timer } from '../../io/clock.ts';
import type { Io } from '../../io/io.ts';
import { nodeIo } from '../../io/node/io.ts';
import { LedgerError } from '../../protocol/errors.ts';
import { backoffMs } from '../backoff.ts';
import type { ReceivedMessage } from '../message.ts';
import type { ConsumeContext, MessageHandler } from '../types.ts';
import { byMessageId, checkedKey, type IdempotenceKey, isRefused, type MarkStore } from './marks.ts';

export interface IdempotentOptions {
  readonly store: MarkStore;
  /** Default: the message id. A business key (an order number) also recognises what its producer sent twice. */
  readonly key?: IdempotenceKey;
  /**
   * How long a claim outlives the process that made it, ms, from 100. It is renewed while the handler runs, so it need not be longer than
   * the work; a process that stands still for longer than this may be overtaken, and the work is done twice.
   */
  readonly leaseMs?: number;
  /** How long a mark is kept, ms. Longer than a duplicate can be late: the topic's retention (72 h by default) and all retries. */
  readonly retainMs?: number;
  /** How long a duplicate waits for the outcome of an attempt that runs, ms; then it is a failed attempt (IN_PROGRESS). Default: the lease. */
  readonly waitMs?: number;
  /** Told of each message that was not handled because its mark was there. */
  readonly onDuplicate?: (message: ReceivedMessage) => void;
  /** Told of marks that could not be set, renewed or taken back: the message is acknowledged all the same when its work is done. */
  readonly onError?: (error: unknown) => void;
  readonly io?: Pick<Io, 'clock' | 'random'>;
}

export const IDEMPOTENT_DEFAULTS = { leaseMs: 30_000, retainMs: 7 * 24 * 3_600_000 } as const;

/** Renewals that may fail in a row before the lease is over. */
const RENEWALS_PER_LEASE = 3;
/** How often a waiting duplicate looks: from the first to the last of these. */
const POLL_MIN_MS = 50;
const POLL_MAX_MS = 1_000;

/**
 * Handles each key once, as far as the store remembers. What is not promised: after a crash between the work and its mark, and after
 * a mark expired or got lost, the work is done again. Where that must not be, put the mark into the work's own transaction
 * (idempotentInTransaction).
 *
 *     const handler = idempotent({ store: new RedisMarks(redis) }, async (message) => { … });
 */
export function idempotent(options: IdempotentOptions, handler: MessageHandler): MessageHandler {
  const once = new Once(options);
  return (message, context) => once.handle(message, context, handler);
}

class Once {
  readonly #options: Required<Omit<IdempotentOptions, 'key'>>;
  readonly #key: IdempotenceKey;

  constructor(options: IdempotentOptions) {
    const { key = byMessageId, ...rest } = options;
    const leaseMs = rest.leaseMs ?? IDEMPOTENT_DEFAULTS.leaseMs;
    this.#key = key;
    this.#options = {
      retainMs: IDEMPOTENT_DEFAULTS.retainMs,
      waitMs: leaseMs,
      onDuplicate: () => undefined,
      onError: () => undefined,
      io: rest.io ?? nodeIo(),
      ...rest,
      leaseMs,
    };
    const { retainMs, waitMs } = this.#options;
    if (!(leaseMs >= 100 && retainMs > leaseMs && waitMs >= 0))
      throw new LedgerError(
        'BAD_REQUEST',
        `leaseMs is at least 100, retainMs longer: ${leaseMs}, ${retainMs}; waitMs at least 0: ${waitMs}`,
      );
  }

  async handle(message: ReceivedMessage, context: ConsumeContext, handler: MessageHandler): Promise<void> {
    const { store, retainMs, onDuplicate, onError, io } = this.#options;
    const mark = `${context.group}/${checkedKey(this.#key(message))}`;
    const owner = newOwner(io);
    if (!(await this.#claim(mark, owner, context))) {
      onDuplicate(message);
      return;
    }
    const stopRenewing = this.#renewing(mark, owner);
    try {
      await handler(message, context);
    } catch (error) {
      stopRenewing();
      await store.release(mark, owner).catch(onError);
      throw error;
    }
    stopRenewing();
    // The work is done: a mark that cannot be set must not bring the message again for certain.
    await (isRefused(context) ? store.release(mark, owner) : store.complete(mark, retainMs)).catch(onError);
  }

  /** @returns false when the work has been done. @throws LedgerError IN_PROGRESS; what the store throws: unasked, nothing is handled */
  async #claim(mark: string, owner: string, context: ConsumeContext): Promise<boolean> {
    const { store, leaseMs, waitMs, io } = this.#options;
    const untilMs = io.clock.monotonicMs() + waitMs;
    for (let polls = 0; ; polls++) {
      const claim = await store.claim(mark, owner, leaseMs);
      if (claim !== 'busy') return claim === 'claimed';
      const leftMs = untilMs - io.clock.monotonicMs();
      if (leftMs <= 0 || context.signal.aborted) throw new LedgerError('IN_PROGRESS', `another attempt holds ${JSON.stringify(mark)}`);
      const pollMs = backoffMs({ baseMs: POLL_MIN_MS, factor: 2, capMs: POLL_MAX_MS, jitter: false }, polls, io.random);
      await this.#pause(Math.min(pollMs, leftMs), context.signal);
    }
  }

  #renewing(mark: string, owner: string): () => void {
    const { store, leaseMs, onError, io } = this.#options;
    let timer: Timer | null = null;
    let stopped = false;
    const arm = (): void => {
      if (stopped) return;
      timer = io.clock.setTimer(leaseMs / RENEWALS_PER_LEASE, () => {
        store
          .renew(mark, owner, leaseMs)
          .then(
            (ours) => {
              if (!ours && !stopped)
                onError(new LedgerError('IN_PROGRESS', `the claim on ${JSON.stringify(mark)} was lost while its work runs`));
            },
            (error: unknown) => onError(error),
          )
          .finally(arm);
      });
    };
    arm();
    return () => {
      stopped = true;
      if (timer !== null) io.clock.clearTimer(timer);
    };
  }

  #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options.io;
    return new Promise((resolve) => {
      const end = (): void => {
        clock.clearTimer(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = clock.setTimer(delayMs, end);
      signal.addEventListener('abort', end);
    });
  }
}

function newOwner({ random }: Pick<Io, 'random'>): string {
  const bytes = new Uint8Array(16);
  random.fill(bytes);
  return Buffer.from(bytes.buffer).toString('hex');
}

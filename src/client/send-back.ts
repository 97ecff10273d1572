import { errorCodeOf, LedgerError } from '../protocol/errors.ts';
import { Op } from '../protocol/requests.ts';
import { MAX_SENT_BACK } from '../protocol/retry-bodies.ts';
import { backoffMs } from './backoff.ts';
import type { ClientCore } from './client-core.ts';
import type { ConsumerSettings } from './consumer-settings.ts';
import type { FailedMessages, TakeFailed } from './failed-messages.ts';
import type { ReceivedMessage } from './message.ts';
import type { MessageQueue } from './message-queue.ts';

/** As a request carries them: more is no bound. */
const MAX_ATTEMPTS = 0xffff;
const DEAD = -1;
/** The queue is another member's, or the session ended. */
const OWNERSHIP: ReadonlySet<string> = new Set(['NOT_OWNER', 'FENCED', 'UNKNOWN_MEMBER']);
/** The broker group cannot keep retries yet. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['FEATURE_LEVEL', 'UNKNOWN_OPERATION']);

export interface SendBackEvents {
  /** @returns the epoch at which this member became the queue's owner; −1: it is not its owner */
  epochOf(queue: MessageQueue): number;
  ownershipRefused(queue: MessageQueue): void;
}

/**
 * Gives messages that failed back to the leader of their broker group, which delivers them again later or makes them dead
 * letters (F22, F23). Asked for again after a lost answer it does nothing twice. What could not be given back stays here.
 */
export class SendBack {
  readonly #core: ClientCore;
  readonly #settings: ConsumerSettings;
  readonly #member: string;
  readonly #events: SendBackEvents;

  constructor(core: ClientCore, settings: ConsumerSettings, member: string, events: SendBackEvents) {
    this.#core = core;
    this.#settings = settings;
    this.#member = member;
    this.#events = events;
  }

  /** Retries by the settings of the consumer. */
  readonly retry: TakeFailed = (failed) => this.#give(failed, failed.delayLevel);

  /** No further attempt. */
  readonly bury: TakeFailed = (failed) => this.#give(failed, DEAD);

  async #give({ queue, messages }: FailedMessages, delayLevel: number): Promise<readonly ReceivedMessage[]> {
    const taken: ReceivedMessage[] = [];
    for (let from = 0; from < messages.length; from += MAX_SENT_BACK) {
      const part = messages.slice(from, from + MAX_SENT_BACK);
      const errors = await this.#ask(queue, part, delayLevel);
      part.forEach((message, i) => {
        const error = errors[i];
        if (error === 0) taken.push(message);
        else if (error !== undefined) this.#refused(message, error, taken);
      });
    }
    return taken;
  }

  /** @returns one error number for each message, 0 = taken; none when nothing was done */
  async #ask(queue: MessageQueue, messages: readonly ReceivedMessage[], delayLevel: number): Promise<readonly number[]> {
    const epoch = this.#events.epochOf(queue);
    if (epoch < 0) return [];
    const { group, maxReconsumeTimes, sessionTimeoutMs } = this.#settings;
    const request = {
      group,
      member: this.#member,
      topic: queue.topic,
      queueId: queue.queueId,
      epoch,
      maxReconsumeTimes: Math.min(maxReconsumeTimes, MAX_ATTEMPTS),
      messages: messages.map(({ offset, reconsumeTimes }) => ({
        offset,
        delayLevel,
        delayMs: delayLevel === 0 ? this.#delayMs(reconsumeTimes) : 0,
        attempts: Math.min(reconsumeTimes, MAX_ATTEMPTS),
      })),
    };
    try {
      return (await this.#core.askLeader(queue.brokerName, Op.sendBack, request, sessionTimeoutMs)).body.errors;
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      if (OWNERSHIP.has(error.code)) this.#events.ownershipRefused(queue);
      else if (!UNSUPPORTED.has(error.code)) this.#settings.onError(error);
      return [];
    }
  }

  /** 0: by level. Never 0 otherwise: full jitter may draw nothing at all. */
  #delayMs(attempts: number): number {
    const {
      reconsumeBackoff,
      reconsumeBackoffBaseMs: baseMs,
      reconsumeBackoffCapMs: capMs,
      reconsumeBackoffJitter: jitter,
    } = this.#settings;
    if (reconsumeBackoff === 'levels') return 0;
    return Math.max(1, Math.round(backoffMs({ baseMs, factor: 2, capMs, jitter }, attempts - 1, this.#core.io.random)));
  }

  #refused(message: ReceivedMessage, error: number, taken: ReceivedMessage[]): void {
    const code = errorCodeOf(error);
    this.#settings.onError(new LedgerError(code, `send-back of ${message.msgId}`));
    // Retention took it while it was handled: nobody can deliver it again.
    if (code === 'MESSAGE_NOT_FOUND') taken.push(message);
  }
}

import { crc32 } from '../base/crc.ts';
import { StateLimits } from './limits.ts';

/** How a transaction ended. Numbers are on disk. `gone`: its topic was deleted before anybody said. */
export const Ended = { committed: 1, rolledBack: 2, gone: 3 } as const;
export type Ended = (typeof Ended)[keyof typeof Ended];

export interface EndedTransaction {
  readonly how: Ended;
  /** Log time, ms. */
  readonly endedMs: number;
  /** In its queue, once committed; else −1. */
  readonly offset: number;
  /** Checksum of what names the transaction besides its position. */
  readonly proof: number;
}

const COLUMNS = 5;
const encoder = new TextEncoder();

/** What an answer must know of a transaction, so that nobody ends another one's by a number. */
export function proofOf(messageId: string, producerGroup: string): number {
  return crc32(encoder.encode(`${messageId} ${producerGroup}`));
}

/**
 * Outcomes that are remembered, so that an answer that comes twice gets the first one's result and a contradiction is told: a day of
 * log time, or the newest ones at the bound. Oldest first: the order of the log, which is the order of their times.
 */
export class EndedTransactions {
  readonly #byTransaction = new Map<number, EndedTransaction>();

  get size(): number {
    return this.#byTransaction.size;
  }

  /** Log time of the newest; 0 = none. */
  newestMs = 0;

  get(transaction: number): EndedTransaction | undefined {
    return this.#byTransaction.get(transaction);
  }

  add(transaction: number, ended: EndedTransaction): void {
    this.#byTransaction.set(transaction, ended);
    this.newestMs = ended.endedMs;
    if (this.#byTransaction.size > StateLimits.maxEndedTransactions) this.#forgetOldest();
  }

  /** Amortised: each is forgotten once. */
  expire(logTimeMs: number): void {
    for (const { endedMs } of this.#byTransaction.values()) {
      if (endedMs + StateLimits.endedTransactionMs >= logTimeMs) return;
      this.#forgetOldest();
    }
  }

  #forgetOldest(): void {
    const [oldest] = this.#byTransaction.keys();
    if (oldest !== undefined) this.#byTransaction.delete(oldest);
  }

  clear(): void {
    this.#byTransaction.clear();
    this.newestMs = 0;
  }

  /** 8 bytes a number: as a list, many of them would hold up the event loop. */
  pack(): Uint8Array {
    const numbers = new Float64Array(this.#byTransaction.size * COLUMNS);
    let at = 0;
    for (const [transaction, { how, endedMs, offset, proof }] of this.#byTransaction) {
      numbers[at] = transaction;
      numbers[at + 1] = how;
      numbers[at + 2] = endedMs;
      numbers[at + 3] = offset;
      numbers[at + 4] = proof;
      at += COLUMNS;
    }
    return new Uint8Array(numbers.buffer);
  }

  unpack(bytes: Uint8Array): void {
    // A copy: the packed bytes lie at any address, numbers at multiples of 8.
    const numbers = new Float64Array(Uint8Array.from(bytes).buffer);
    for (let at = 0; at < numbers.length; at += COLUMNS) {
      const endedMs = numbers[at + 2] as number;
      this.#byTransaction.set(numbers[at] as number, {
        how: numbers[at + 1] as Ended,
        endedMs,
        offset: numbers[at + 3] as number,
        proof: numbers[at + 4] as number,
      });
      this.newestMs = endedMs;
    }
  }
}

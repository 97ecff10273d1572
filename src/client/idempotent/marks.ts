import { LedgerError } from '../../protocol/errors.ts';
import type { ReceivedMessage } from '../message.ts';
import type { ConsumeContext } from '../types.ts';

/** Longest key, in UTF-16 units: with a group's name it still fits a row of a database's index. */
export const MAX_IDEMPOTENCE_KEY_LENGTH = 512;

/** What stands for one piece of work: whoever carries the same key in the same group is a duplicate of it. */
export type IdempotenceKey = (message: ReceivedMessage) => string;

/** `claimed`: ours to do · `done`: has been done · `busy`: another attempt is at it, or was when its process died. */
export type Claim = 'claimed' | 'done' | 'busy';

/**
 * Marks outside of the work's own transaction, in two phases: a claim that ends by itself before the work, and a mark that stays after it.
 * With a single mark set before the work, a crash in between would lose the message: it comes again and is taken for done.
 * `owner` is new for each attempt, and nobody else's claim is ever renewed or released.
 */
export interface MarkStore {
  /** Takes the claim for `leaseMs`, unless there is a mark. The owner's own claim is `claimed` again: its first answer may have got lost. */
  claim(mark: string, owner: string, leaseMs: number): Promise<Claim>;
  /** @returns false when the claim is no longer the owner's */
  renew(mark: string, owner: string, leaseMs: number): Promise<boolean>;
  /** The work is done, whoever holds the claim by now: the mark says so for `retainMs`. */
  complete(mark: string, retainMs: number): Promise<void>;
  /** The work was not done: the next attempt need not wait for the lease. */
  release(mark: string, owner: string): Promise<void>;
}

/**
 * Marks inside of the work's own transaction: both are there, or neither.
 * @typeParam Tx what the work is done with
 * @typeParam Done what the work returns: a promise, or undefined where a transaction must end within one turn
 */
export interface TransactionalMarkStore<Tx, Done> {
  /** @returns false when the mark was there: the work was not run. @throws what the work throws, rolled back */
  once(group: string, key: string, work: (tx: Tx) => Done): Promise<boolean>;
}

export const byMessageId: IdempotenceKey = (message) => message.msgId;

/** @throws LedgerError BAD_REQUEST: a message without a key would be taken for a duplicate of every other one without */
export function checkedKey(key: unknown): string {
  if (typeof key === 'string' && key.length > 0 && key.length <= MAX_IDEMPOTENCE_KEY_LENGTH) return key;
  const found = typeof key === 'string' ? `${key.length} characters` : typeof key;
  throw new LedgerError('BAD_REQUEST', `an idempotence key has 1…${MAX_IDEMPOTENCE_KEY_LENGTH} characters; this one: ${found}`);
}

/** A handler may also say without a throw that its message is not done. */
export function isRefused(context: ConsumeContext): boolean {
  return context.ackIndex !== null && context.ackIndex < 0;
}

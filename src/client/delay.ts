import { MAX_DELAY_MS } from '../base/delay-table.ts';
import { LedgerError } from '../protocol/errors.ts';
import { BatchFlag } from '../protocol/record-batch.ts';
import type { Message } from './types.ts';

/** When a batch is delivered: a BatchFlag and its delay. */
export interface Deferral {
  readonly flag: number;
  readonly delay: number;
}

/** @returns null: at once @throws LedgerError BAD_DELAY */
export function deferralOf({ delayTimeLevel, delayMs, deliverAt }: Message): Deferral | null {
  if (delayTimeLevel === undefined && delayMs === undefined && deliverAt === undefined) return null;
  if (Number(delayTimeLevel !== undefined) + Number(delayMs !== undefined) + Number(deliverAt !== undefined) > 1)
    throw new LedgerError('BAD_DELAY', 'delayTimeLevel, delayMs and deliverAt: one of them');
  if (delayTimeLevel !== undefined) return deferral(BatchFlag.delayLevel, delayTimeLevel, 'delayTimeLevel', 0xffff_ffff);
  if (delayMs !== undefined) return deferral(BatchFlag.delayMs, delayMs, 'delayMs', MAX_DELAY_MS);
  return deferral(BatchFlag.deliverAt, Number(deliverAt), 'deliverAt', Number.MAX_SAFE_INTEGER);
}

function deferral(flag: number, delay: number, name: string, max: number): Deferral | null {
  const whole = Math.ceil(delay);
  if (!(whole >= 0 && whole <= max)) throw new LedgerError('BAD_DELAY', `${name}: ${String(delay)}`);
  return whole === 0 ? null : { flag, delay: whole };
}

export function sameDeferral(a: Deferral | null, b: Deferral | null): boolean {
  return a === b || (a !== null && b !== null && a.flag === b.flag && a.delay === b.delay);
}

/** Of a half message: delivered when its transaction is committed, never delayed besides. */
export const HALF: Deferral = { flag: BatchFlag.half, delay: 0 };

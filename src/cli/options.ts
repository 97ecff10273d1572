import { type Command, InvalidArgumentError } from 'commander';
import { messageFilter } from '../client/message-filter.ts';
import type { LedgerError } from '../protocol/errors.ts';
import { DEFAULT_ENDPOINT } from './admin-session.ts';

export interface ClientFlags {
  readonly endpoint?: string;
  readonly json?: boolean;
}

/** What every command that talks to brokers has. */
export function withClientFlags(command: Command, json = 'one JSON document'): Command {
  return command
    .option('--endpoint <urls>', `addresses of brokers, comma-separated (or LEDGERMQ_ENDPOINT; default ${DEFAULT_ENDPOINT})`)
    .option('--json', json);
}

/** A parser of whole numbers for commander. */
export function integer(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`a whole number, ${min} … ${max}`);
    return value;
  };
}

export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('a number above 0');
  return value;
}

export function notNegative(text: string): number {
  const value = Number(text);
  if (!(value >= 0 && Number.isFinite(value)) || text.trim() === '') throw new InvalidArgumentError('a number, 0 or more');
  return value;
}

/** ms since 1970, or a date as ISO 8601. */
export function parseTimeMs(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Date.parse(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('a time: ms since 1970, or like 2026-01-31T12:00:00Z');
  return value;
}

/** What --filter says to a subscription. */
export interface Filter {
  /** Tags. */
  readonly filter?: string;
  readonly sql?: string;
}

/** What stands between || when tags are meant: no spaces inside, quotes, parentheses or signs of comparison. */
const TAG = /^\s*[^\s'"()=<>]*\s*$/;

/** Tags where it is words with || between them, else SQL92. A tag of two words is asked for by `TAGS = 'two words'`. */
export function parseFilter(text: string): Filter {
  const filter = text.split('||').every((word) => TAG.test(word)) ? { filter: text } : { sql: text };
  try {
    messageFilter(filter.filter, filter.sql);
  } catch (error) {
    throw new InvalidArgumentError((error as LedgerError).detail);
  }
  return filter;
}

export type From = 'first' | 'last' | { readonly timeMs: number };

export function parseFrom(text: string): From {
  return text === 'first' || text === 'last' ? text : { timeMs: parseTimeMs(text) };
}

const PERMS: Readonly<Record<string, number>> = { r: 4, w: 2, rw: 6, '-': 0 };

/** RocketMQ's perm bits: read 4, write 2. */
export function parsePerm(text: string): number {
  const perm = PERMS[text];
  if (perm === undefined) throw new InvalidArgumentError('r, w, rw or - for none');
  return perm;
}

export function showPerm(perm: number): string {
  return Object.keys(PERMS).find((name) => PERMS[name] === perm) ?? String(perm);
}

export function parseReplication(text: string): number {
  const at = ['', 'leader', 'quorum', 'all'].indexOf(text);
  if (at < 1) throw new InvalidArgumentError('leader, quorum or all');
  return at;
}

export function showReplication(replication: number): string {
  return ['default', 'leader', 'quorum', 'all'][replication] ?? String(replication);
}

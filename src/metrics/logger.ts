import { type DestinationStream, type Logger, pino } from 'pino';
import type { Clock } from '../io/clock.ts';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** trace … fatal, or silent. */
  readonly level: string;
  /** On every line: broker, replica. */
  readonly fields: Readonly<Record<string, string | number>>;
  readonly clock: Pick<Clock, 'wallMs'>;
  /** Default: standard output, where containers' logs are collected. */
  readonly destination?: DestinationStream;
}

/**
 * One JSON line an event: `{"level":"info","time":…,"event":"…", …}` with the fields of the event beside it.
 * A line never holds bytes of a message: binary fields are replaced by their length wherever they stand.
 */
export function createLogger(options: LoggerOptions): Logger {
  const settings = {
    level: options.level,
    base: options.fields,
    messageKey: 'event',
    timestamp: () => `,"time":${options.clock.wallMs()}`,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Record<string, unknown>) => withoutBytes(fields, 0) as Record<string, unknown>,
    },
  };
  return options.destination === undefined ? pino(settings) : pino(settings, options.destination);
}

/** Depth and width that a log line keeps; more is cut, so that no event writes an endless line. */
const MAX_DEPTH = 4;
const MAX_ITEMS = 50;

function withoutBytes(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Error) return value;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `${value.byteLength} bytes`;
  if (depth === MAX_DEPTH) return '…';
  if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => withoutBytes(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, MAX_ITEMS)
      .map(([key, item]) => [key, withoutBytes(item, depth + 1)]),
  );
}

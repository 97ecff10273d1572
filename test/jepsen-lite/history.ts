import { closeSync, existsSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/**
 * A history in Jepsen's form: one JSON object a line. What the values mean is written in history.md.
 * invoke: the operation began · ok: it happened · fail: it certainly did not · info: nobody knows (a time-out is this, never `fail`).
 */
export type LineType = 'invoke' | 'ok' | 'fail' | 'info';

export interface HistoryLine {
  /** Place in the merged history, from 0; −1 in a worker's own file. */
  readonly index: number;
  /** ns of CLOCK_MONOTONIC since the run began. */
  readonly time: number;
  readonly type: LineType;
  readonly process: number | 'nemesis';
  readonly f: string;
  readonly value: unknown;
  readonly error?: string;
}

/** Of a line of the nemesis. */
export interface NemesisValue {
  readonly phase: 'begin' | 'end' | 'note';
  readonly id: number | string;
  readonly targets?: unknown;
}

/** Messages `n … n + count − 1` of a stream (`producer/key`; key `-` is none). */
export type SentRun = readonly [stream: string, n: number, count: number];
/** The same with their place: the first one's offset, the others behind it. Offset null: acknowledged without one. */
export type StoredRun = readonly [stream: string, n: number, count: number, queue: string, offset: number | null];
/** What was read: offsets `offset … offset + count − 1` hold messages `n …` of the stream. Stream `?`: no body of ours, n its hex. */
export type ReadRun = readonly [offset: number, count: number, stream: string, n: number | string, logMs?: number];

export const UNREADABLE = '?';

const WRITE_BYTES = 256 * 1024;
const READ_BYTES = 1024 * 1024;

/** Appends lines to a worker's own file. Each line is stamped when it is written, so that a file is in the order of time. */
export class HistoryWriter {
  readonly #file: number;
  readonly #originNs: bigint;
  readonly #eachLine: boolean;
  #waiting = '';

  /** @param eachLine write every line at once: for a process that may be killed */
  constructor(path: string, originNs: bigint, eachLine = false) {
    this.#file = openSync(path, 'a');
    this.#originNs = originNs;
    this.#eachLine = eachLine;
  }

  nowNs(): number {
    return Number(process.hrtime.bigint() - this.#originNs);
  }

  line(type: LineType, of: number | 'nemesis', f: string, value: unknown, error?: string): void {
    const line = { index: -1, time: this.nowNs(), type, process: of, f, value, ...(error === undefined ? {} : { error }) };
    this.#waiting += `${JSON.stringify(line)}\n`;
    if (this.#eachLine || this.#waiting.length > WRITE_BYTES) this.flush();
  }

  flush(): void {
    if (this.#waiting === '') return;
    const bytes = Buffer.from(this.#waiting);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at);
    this.#waiting = '';
  }

  close(): void {
    this.flush();
    closeSync(this.#file);
  }
}

/**
 * Reads a history, line by line. A last line without its end is left out: its writer was killed in the middle of it, before what it
 * would have said took effect.
 * @throws Error for a line in the middle that is no JSON
 */
export function* readHistory(path: string): Generator<HistoryLine> {
  const file = openSync(path, 'r');
  try {
    const chunk = Buffer.allocUnsafe(READ_BYTES);
    let rest: Buffer = Buffer.alloc(0);
    for (let read = readSync(file, chunk); read > 0; read = readSync(file, chunk)) {
      const bytes = Buffer.concat([rest, chunk.subarray(0, read)]);
      const end = bytes.lastIndexOf(0x0a);
      for (const text of bytes.toString('utf8', 0, end + 1).split('\n')) if (text !== '') yield JSON.parse(text) as HistoryLine;
      rest = bytes.subarray(end + 1);
    }
  } finally {
    closeSync(file);
  }
}

/** A worker's file and those of the members that it started (`FILE.member-N`). */
function withMembers(path: string): string[] {
  if (!existsSync(path)) return [];
  const prefix = `${basename(path)}.member-`;
  const members = readdirSync(dirname(path)).filter((name) => name.startsWith(prefix));
  return [path, ...members.map((name) => join(dirname(path), name))];
}

/** The histories of several processes as one, by time, numbered from 0. Holds one line of each file at a time. */
export function* mergeHistories(paths: readonly string[]): Generator<HistoryLine> {
  const heads = paths.flatMap(withMembers).flatMap((path) => {
    const lines = readHistory(path);
    const { value, done } = lines.next();
    return done === true ? [] : [{ lines, line: value }];
  });
  for (let index = 0; heads.length > 0; index++) {
    let first = 0;
    for (let at = 1; at < heads.length; at++) {
      if ((heads[at] as Head).line.time < (heads[first] as Head).line.time) first = at;
    }
    const head = heads[first] as Head;
    yield { ...head.line, index };
    const { value, done } = head.lines.next();
    if (done === true) heads.splice(first, 1);
    else head.line = value;
  }
}

interface Head {
  readonly lines: Generator<HistoryLine>;
  line: HistoryLine;
}

/** @returns lines written */
export function writeHistory(path: string, lines: Iterable<HistoryLine>): number {
  const file = openSync(path, 'w');
  let written = 0;
  let waiting = '';
  const flush = (): void => {
    const bytes = Buffer.from(waiting);
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    waiting = '';
  };
  try {
    for (const line of lines) {
      waiting += `${JSON.stringify(line)}\n`;
      written++;
      if (waiting.length > WRITE_BYTES) flush();
    }
    flush();
  } finally {
    closeSync(file);
  }
  return written;
}

import { createReadStream, readFileSync } from 'node:fs';
import { findPackageJSON } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { zstdDecompressSync } from 'node:zlib';

/** What the demo sends: a body, and the key whose order is checked. */
export interface DemoMessage {
  readonly key: string;
  readonly body: string;
}

export const FLIGHTS = 200_000;
/** Lines of a file have no key of their own; they are dealt to this many. */
export const FILE_KEYS = 100;
const MAX_FILE_LINES = 5_000_000;

interface FlightRow {
  readonly origin: string;
}

/** The first 200,000 rows of the flights data set of vega-datasets, keyed by origin airport. */
export async function flights(rows = FLIGHTS): Promise<DemoMessage[]> {
  const { parquetReadObjects } = await import('hyparquet');
  const manifest = findPackageJSON('vega-datasets', import.meta.url);
  if (manifest === undefined) throw new Error('the package vega-datasets is not installed; use --input FILE');
  const bytes = readFileSync(join(dirname(manifest), 'data', 'flights-3m.parquet'));
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const compressors = { ZSTD: (input: Uint8Array) => zstdDecompressSync(input) };
  const read = (await parquetReadObjects({ file, compressors, rowStart: 0, rowEnd: rows })) as unknown as FlightRow[];
  return read.map((row) => ({ key: row.origin, body: JSON.stringify(row, jsonValue) }));
}

/** JSON has no integer above 2^53; the data set's 64-bit columns are far below. */
function jsonValue(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

/** A message a line. @throws Error when the file is empty or has more than five million lines */
export async function linesOf(path: string): Promise<DemoMessage[]> {
  const messages: DemoMessage[] = [];
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
    if (messages.length === MAX_FILE_LINES) throw new Error(`${path} has more than ${MAX_FILE_LINES} lines`);
    messages.push({ key: `key-${messages.length % FILE_KEYS}`, body: line });
  }
  if (messages.length === 0) throw new Error(`${path} has no line`);
  return messages;
}

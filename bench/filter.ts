import { crc32 } from '../src/base/crc.ts';
import { batchMatches } from '../src/broker/batch-filter.ts';
import { encodeBatch } from '../src/protocol/record-batch-encoder.ts';
import { SqlFilter } from '../src/protocol/sql-filter/sql-filter.ts';
import { tagHash } from '../src/protocol/tag-hash.ts';

/** What a filter costs the broker: `node bench/filter.ts`. Batches of 256 messages of which none matches, so all are tested. */
const MESSAGES = 256;
const BODY_BYTES = 1_024;
const RUN_MS = 300;
const ROUNDS = 5;

const HEADER = { producerId: 1, producerEpoch: 0, firstSequence: 0, idHigh: new Uint8Array(8), idLow: 0 };
const messages = Array.from({ length: MESSAGES }, (_, i) => ({
  body: new Uint8Array(BODY_BYTES),
  bornTimeMs: 1,
  tag: `tag-${i % 7}`,
  keys: [`order-${i}`],
  properties: [
    ['region', ['eu', 'us', 'asia'][i % 3] as string],
    ['amount', String(i)],
    ['customer', `customer-${i}`],
  ] as const,
}));
const batch = encodeBatch(messages, HEADER).bytes;
const sql = (text: string) => ({ tagHashes: [], sql: new SqlFilter(text) });

const CASES: readonly (readonly [string, () => unknown])[] = [
  ['one checksum over the batch, for comparison', () => crc32(batch)],
  ['tags: one hash a message', () => batchMatches(batch, 0, { tagHashes: [tagHash('none')], sql: null })],
  ["region = 'none'", () => batchMatches(batch, 0, sqlOf("region = 'none'"))],
  ['amount > 1000', () => batchMatches(batch, 0, sqlOf('amount > 1000'))],
  ['missing IS NOT NULL', () => batchMatches(batch, 0, sqlOf('missing IS NOT NULL'))],
  ["customer CONTAINS 'none'", () => batchMatches(batch, 0, sqlOf("customer CONTAINS 'none'"))],
  [
    "amount BETWEEN 500 AND 900 AND region IN ('eu', 'us') OR TAGS = 'none'",
    () => batchMatches(batch, 0, sqlOf("amount BETWEEN 500 AND 900 AND region IN ('eu', 'us') OR TAGS = 'none'")),
  ],
  ['parsing and compiling that', () => new SqlFilter("amount BETWEEN 500 AND 900 AND region IN ('eu', 'us') OR TAGS = 'none'")],
];

const compiled = new Map<string, ReturnType<typeof sql>>();
function sqlOf(text: string): ReturnType<typeof sql> {
  const known = compiled.get(text) ?? sql(text);
  compiled.set(text, known);
  return known;
}

function meanUs(run: () => unknown): number {
  let runs = 0;
  const startMs = performance.now();
  let nowMs = startMs;
  while (nowMs - startMs < RUN_MS) {
    for (let i = 0; i < 20; i++) run();
    runs += 20;
    nowMs = performance.now();
  }
  return ((nowMs - startMs) * 1_000) / runs;
}

console.log(`a batch of ${MESSAGES} messages, ${batch.length} bytes`);
for (const [name, run] of CASES) {
  meanUs(run);
  const best = Math.min(...Array.from({ length: ROUNDS }, () => meanUs(run)));
  console.log(`${best.toFixed(1).padStart(8)} µs  ${((best * 1_000) / MESSAGES).toFixed(0).padStart(5)} ns a message  ${name}`);
}
